/* evict.c - see evict.h. The rows that a head keeps move together, in their order, within its own
 * columns of the cache: attention then reads a shorter sequence, and does not care that row i of
 * one head is another token than row i of the next. */
#include "model/evict.h"
#include "base/mem.h"
#include "model/forward_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct evict_rule {
    const char *name;
    bool by_head; /* each kv head has tokens of its own; else all of a layer have the same */
    bool by_last; /* by the last query's attention; else by that of all queries */
    bool recent;  /* half of the budget is the newest tokens */
};

static const struct evict_rule rules[EVICT_RULES] = {
    {.name = "h2o", .by_head = true, .recent = true},
    {.name = "tova", .by_last = true},
};
/* A row that may go. */
struct candidate {
    double sum;
    int64_t row;
};

struct eviction {
    struct evict how;
    int64_t heads, groups;
    real *received;              /* [layers, heads, sequences * capacity] */
    struct candidate *candidate; /* [capacity] */
    int64_t *kept;               /* [capacity] */
};

const char *evict_text(char text[EVICT_TEXT], const struct evict *v)
{
    snprintf(text, EVICT_TEXT, "%s:%.9g", v->rule->name, v->share);
    return text;
}

const struct evict_rule *evict_rule_at(int i)
{
    return i < EVICT_RULES ? &rules[i] : NULL;
}

const char *evict_rule_name(const struct evict_rule *rule)
{
    return rule->name;
}

bool evict_read(struct evict *v, const char *text, bool *is, struct err *e)
{
    const char *colon = strchr(text, ':');
    char *end;

    *is = false;
    for (int i = 0; colon && i < EVICT_RULES; i++) {
        if (strlen(rules[i].name) != (size_t)(colon - text) ||
            memcmp(rules[i].name, text, (size_t)(colon - text)) != 0)
            continue;
        *is = true;
        *v = (struct evict){&rules[i], strtod(colon + 1, &end)};
        if (end > colon + 1 && *end)
            return err_set(e,
                           "\"%.40s\": nothing can follow the share of the tokens, and a share has "
                           "a point: as in %s:0.25",
                           text, rules[i].name);
        return (end > colon + 1 && v->share > 0 && v->share <= 1) ||
               err_set(e,
                       "\"%.40s\": the share of the tokens that stay must be above 0 and at most 1",
                       text);
    }
    return true;
}

void evict_close(struct kv_cache *c)
{
    if (!c->evict) return;
    free(c->evict->received);
    free(c->evict->candidate);
    free(c->evict->kept);
    free(c->evict);
    c->evict = NULL;
}

bool evict_open(struct kv_cache *c, const struct evict *v, const struct model *m, struct err *e)
{
    const int64_t H = m->cfg.text.num_attention_heads;
    struct eviction *s;

    CHECK(v->rule && v->share > 0 && v->share <= 1 && m->state == ATTN_FULL);
    for (int i = 0; i < CACHE_ROWS; i++)
        CHECK(!c->how || !c->how->kind.form[i]->pack);
    s = c->evict = mem_new(1, sizeof *s, "the KV cache", e);
    if (!s) return false;
    *s = (struct eviction){.how = *v, .heads = H, .groups = m->cfg.text.num_key_value_heads};
    s->received =
        mem_new((size_t)(c->layers * H), (size_t)(c->sequences * c->capacity) * sizeof(real),
                "the attention that tokens receive", e);
    s->candidate = mem_new((size_t)c->capacity, sizeof *s->candidate, "the KV cache", e);
    s->kept = mem_new((size_t)c->capacity, sizeof *s->kept, "the KV cache", e);
    if (s->received && s->candidate && s->kept) return true;
    evict_close(c);
    return false;
}

static real *received_of(const struct kv_cache *c, int64_t l, int64_t h)
{
    return c->evict->received + (l * c->evict->heads + h) * c->sequences * c->capacity;
}

void evict_watch(const struct kv_cache *c, int64_t l, struct cached_attention *a)
{
    if (!c->evict) return;
    a->received = received_of(c, l, 0);
    a->received_by_last = c->evict->how.rule->by_last;
}

static int64_t budget(const struct eviction *s, int64_t given)
{
    /* a product such as 0.1 * 30 may be a rounding above the whole number */
    const int64_t rows = (int64_t)ceil(s->how.share * (double)given - 1e-9);

    return rows > 1 ? rows : 1;
}

/* The weakest first; of equal ones the older. */
static int by_sum(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->sum < y->sum || x->sum > y->sum) return x->sum < y->sum ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static int by_row(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* Fills s->kept with the `keep` of the sequence's rows that stay, ascending. sums: of the unit's
 * first head, at the sequence's first row; the next head's are `heads_apart` further. */
static void choose(struct eviction *s, const real *sums, int64_t heads, int64_t heads_apart,
                   int64_t rows, int64_t keep)
{
    const int64_t recent = s->how.rule->recent ? keep / 2 : 0, old = rows - recent;

    for (int64_t i = 0; i < old; i++) {
        s->candidate[i] = (struct candidate){0, i};
        for (int64_t h = 0; h < heads; h++)
            s->candidate[i].sum += (double)sums[h * heads_apart + i];
    }
    qsort(s->candidate, (size_t)old, sizeof *s->candidate, by_sum);
    for (int64_t i = 0; i < keep - recent; i++)
        s->kept[i] = s->candidate[rows - keep + i].row;
    qsort(s->kept, (size_t)(keep - recent), sizeof *s->kept, by_row);
    for (int64_t i = 0; i < recent; i++)
        s->kept[keep - recent + i] = old + i;
}

/* Moves the kept rows of `width` bytes at x, one every `apart` bytes, to the front. */
static void move_rows(void *x, const int64_t *kept, int64_t n, int64_t width, int64_t apart)
{
    char *to = x;

    for (int64_t i = 0; i < n; i++)
        if (kept[i] != i) memcpy(to + i * apart, to + kept[i] * apart, (size_t)width);
}

/* One layer of sequence q, from `rows` to `keep` tokens. */
static void drop(struct kv_cache *c, int64_t l, int64_t q, int64_t rows, int64_t keep)
{
    struct eviction *s = c->evict;
    const int64_t all = c->sequences * c->capacity, first = q * c->capacity;
    const int64_t units = s->how.rule->by_head ? s->groups : 1, per = s->heads / units;

    for (int64_t u = 0; u < units; u++) {
        real *sums = received_of(c, l, u * per) + first;
        choose(s, sums, per, all, rows, keep);
        for (int k = 0; k < CACHE_ROWS; k++) {
            const int64_t width = c->before[l + 1][k] - c->before[l][k];
            move_rows(c->data[k] + kv_cache_at(c, l, k) + first * width + u * (width / units),
                      s->kept, keep, width / units, width);
        }
        for (int64_t h = 0; h < per; h++)
            move_rows(sums + h * all, s->kept, keep, sizeof *sums, sizeof *sums);
    }
}

/* Sums of rows that are to be written, and of what only the last query counts, start at 0. */
static void clear(struct kv_cache *c, int64_t l, int64_t q, int64_t rows, int64_t keep)
{
    const int64_t from = c->evict->how.rule->by_last ? 0 : keep;

    for (int64_t h = 0; h < c->evict->heads; h++)
        memset(received_of(c, l, h) + q * c->capacity + from, 0,
               (size_t)(rows - from) * sizeof(real));
}

void evict_step(struct kv_cache *c, const int64_t *seq, int64_t n)
{
    if (!c->evict) return;
    for (int64_t i = 0; i < n; i++) {
        const int64_t q = seq[i], rows = c->length[q];
        const int64_t most = budget(c->evict, kv_cache_given(c, q));
        const int64_t keep = most < rows ? most : rows;
        for (int64_t l = 0; l < c->layers; l++) {
            if (keep < rows) drop(c, l, q, rows, keep);
            clear(c, l, q, rows, keep);
        }
        kv_cache_rewind(c, q, keep, c->next[q]);
        c->dropped[q] += rows - keep;
    }
}
