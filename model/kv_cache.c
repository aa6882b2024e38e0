/* kv_cache.c - memory of the KV cache, and which tokens it holds. Per layer and token, in values:
 *
 *                rotated key   unrotated key   value
 *     FULL       G*dh          -               G*dh
 *     PARTIAL    K*dr          G*dc            G*dh
 *     MLA, by its method (none: as PARTIAL):
 *     joint      K*dr          r, for both     -
 *     split      K*dr          r               r
 *     only_key   K*dr          r               G*dh
 *     only_value K*dr          G*dc            r */
#include "base/mem.h"
#include "model/evict.h"
#include "model/forward.h"
#include "model/forward_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct row_form *form_of(const struct kv_cache *c, int row)
{
    return c->how ? c->how->kind.form[row] : row_form_at(0);
}

int64_t kv_cache_at(const struct kv_cache *c, int64_t l, int row)
{
    return c->sequences * (c->capacity * c->before[l][row] + c->more[l][row]);
}

/* What a token and a sequence take of each layer. */
static bool measure(struct kv_cache *c, const struct model *m, struct err *e)
{
    const size_t n = (size_t)c->layers + 1;

    c->width = mem_new(n, sizeof *c->width, "the KV cache", e);
    c->before = mem_new(n, sizeof *c->before, "the KV cache", e);
    c->more = mem_new(n, sizeof *c->more, "the KV cache", e);
    if (!c->width || !c->before || !c->more) return false;
    for (int64_t l = 0; l < c->layers; l++) {
        model_cache_widths(m, l, c->width[l]);
        for (int i = 0; i < CACHE_ROWS; i++) {
            const int64_t width = c->width[l][i];
            c->before[l + 1][i] = c->before[l][i] + row_form_bytes(form_of(c, i), width);
            c->more[l + 1][i] = c->more[l][i] + row_form_window(form_of(c, i), width);
        }
    }
    return true;
}

bool kv_cache_new(struct kv_cache *c, const struct model *m, const struct cache_how *how,
                  int64_t sequences, int64_t capacity, struct err *e)
{
    const struct text_config *t = &m->cfg.text;

    *c = (struct kv_cache){
        .how = how, .sequences = sequences, .capacity = capacity, .layers = t->num_hidden_layers};
    if (!measure(c, m, e)) goto fail;
    for (int i = 0; i < CACHE_ROWS; i++) {
        c->data[i] = mem_new((size_t)kv_cache_at(c, c->layers, i), 1, "the KV cache", e);
        if (!c->data[i]) goto fail;
    }
    c->length = mem_new((size_t)sequences, sizeof *c->length, "the KV cache", e);
    c->dropped = mem_new((size_t)sequences, sizeof *c->dropped, "the KV cache", e);
    c->next = mem_new((size_t)sequences, sizeof *c->next, "the KV cache", e);
    c->spans = mem_new((size_t)sequences, sizeof *c->spans, "the KV cache", e);
    c->n_spans = mem_new((size_t)sequences, sizeof *c->n_spans, "the KV cache", e);
    c->cap_spans = mem_new((size_t)sequences, sizeof *c->cap_spans, "the KV cache", e);
    if (c->length && c->dropped && c->next && c->spans && c->n_spans && c->cap_spans &&
        (!how || !how->kind.evict.rule || evict_open(c, &how->kind.evict, m, e)))
        return true;
fail:
    kv_cache_free(c);
    return false;
}

void kv_cache_free(struct kv_cache *c)
{
    evict_close(c);
    free(c->width);
    free(c->before);
    free(c->more);
    for (int i = 0; i < CACHE_ROWS; i++)
        free(c->data[i]);
    for (int64_t s = 0; c->spans && s < c->sequences; s++)
        free(c->spans[s]);
    free(c->length);
    free(c->dropped);
    free(c->next);
    free(c->spans);
    free(c->n_spans);
    free(c->cap_spans);
    memset(c, 0, sizeof *c);
}

size_t kv_cache_sequence_bytes(const struct kv_cache *c, int64_t s)
{
    int64_t bytes = 0;

    for (int64_t l = 0; l < c->layers; l++)
        for (int i = 0; i < CACHE_ROWS; i++) {
            const struct row_form *f = form_of(c, i);
            bytes += f->run ? row_form_held(f, c->width[l][i], c->length[s])
                            : c->length[s] * row_form_bytes(f, c->width[l][i]);
        }
    return (size_t)bytes;
}

size_t kv_cache_bytes(const struct kv_cache *c)
{
    size_t bytes = 0;

    for (int64_t s = 0; s < c->sequences; s++)
        bytes += kv_cache_sequence_bytes(c, s);
    return bytes;
}

bool kv_cache_check(const struct kv_cache *c, struct err *e)
{
    const struct cache_fault *f = &c->fault;
    const int row = (int)(f->place % CACHE_ROWS);

    if (!f->found) return true;
    return err_set(e,
                   "the cache: the %s of layer %lld, token %lld has a value of %g: %s holds finite "
                   "ones up to %g; f32 and bf16 hold all",
                   cache_row_names[row], (long long)(f->place / CACHE_ROWS),
                   (long long)(f->row % c->capacity), isnan(f->value) ? NAN : f->value,
                   form_of(c, row)->name, (double)form_of(c, row)->most);
}

/* The rows of one kind, of all layers and sequences, in new memory for more tokens each. */
static char *moved(const struct kv_cache *c, int kind, int64_t capacity, struct err *e)
{
    const int64_t n = c->sequences, bytes = n * c->before[c->layers][kind];
    char *to = mem_new((size_t)(bytes * capacity), 1, "the KV cache", e);

    for (int64_t i = 0; to && i < c->layers * n; i++) {
        const int64_t *at = c->before[i / n], w = c->before[i / n + 1][kind] - at[kind];
        const int64_t first = n * at[kind] + i % n * w; /* of the layers and sequences before */
        if (w > 0)
            memcpy(to + first * capacity, c->data[kind] + first * c->capacity,
                   (size_t)(c->length[i % n] * w));
    }
    return to;
}

bool kv_cache_reserve(struct kv_cache *c, int64_t capacity, struct err *e)
{
    char *to[CACHE_ROWS] = {NULL};
    bool ok = true;

    if (capacity <= c->capacity) return true;
    CHECK(!c->evict && (!c->how || !cache_kind_waits(&c->how->kind)));
    for (int i = 0; ok && i < 3; i++)
        ok = (to[i] = moved(c, i, capacity, e)) != NULL;
    for (int i = 0; i < CACHE_ROWS; i++) {
        free(ok ? c->data[i] : to[i]);
        if (ok) c->data[i] = to[i];
    }
    if (ok) c->capacity = capacity;
    return ok;
}

/* Appends n tokens of one modality to what sequence s holds. */
static bool add_span(struct kv_cache *c, int64_t s, int64_t n, enum modality modality,
                     struct err *e)
{
    int64_t count = c->n_spans[s], begin = c->length[s];
    struct span *last = count ? &c->spans[s][count - 1] : NULL;

    c->length[s] += n;
    if (last && last->modality == modality) {
        last->end += n;
        return true;
    }
    size_t cap = (size_t)c->cap_spans[s];
    if (!mem_grow(&c->spans[s], &cap, (size_t)count + 1, sizeof **c->spans, e)) return false;
    c->cap_spans[s] = (int64_t)cap;
    c->spans[s][count] = (struct span){begin, begin + n, modality};
    c->n_spans[s]++;
    return true;
}

bool kv_cache_add(struct kv_cache *c, const struct batch *b, const int64_t *seq, struct err *e)
{
    int64_t s = 0;

    for (int64_t i = 0; i < b->n_spans; i++) {
        const struct span *span = &b->spans[i];
        while (span->begin >= b->begin[s + 1])
            s++;
        CHECK(span->end <= b->begin[s + 1] &&
              c->length[seq[s]] + span->end - span->begin <= c->capacity);
        if (!add_span(c, seq[s], span->end - span->begin, span->modality, e)) return false;
    }
    for (int64_t i = 0; i < b->samples; i++)
        c->next[seq[i]] = b->next ? b->next[i] : (int32_t)c->length[seq[i]];
    return true;
}

void kv_cache_rewind(struct kv_cache *c, int64_t s, int64_t length, int32_t next)
{
    struct span *spans = c->spans[s];

    CHECK(length <= c->length[s]);
    CHECK(length == c->length[s] || !c->how || !cache_kind_waits(&c->how->kind));
    while (c->n_spans[s] && spans[c->n_spans[s] - 1].begin >= length)
        c->n_spans[s]--;
    if (c->n_spans[s] && spans[c->n_spans[s] - 1].end > length)
        spans[c->n_spans[s] - 1].end = length;
    c->length[s] = length;
    c->next[s] = next;
    c->fault.found = false; /* rows that could not be held are cut off */
}

bool kv_cache_fork(struct kv_cache *c, int64_t from, int64_t to, struct err *e)
{
    CHECK(from != to && c->length[to] == 0);
    CHECK(!c->evict && (!c->how || !cache_kind_waits(&c->how->kind)));
    for (int64_t i = 0; i < c->n_spans[from]; i++) {
        const struct span *s = &c->spans[from][i];
        if (!add_span(c, to, s->end - s->begin, s->modality, e)) return false;
    }
    c->next[to] = c->next[from];
    for (int64_t l = 0; l < c->layers; l++)
        for (int i = 0; i < CACHE_ROWS; i++) {
            const int64_t w = c->before[l + 1][i] - c->before[l][i];
            char *all = c->data[i] + c->sequences * c->capacity * c->before[l][i];
            if (w > 0)
                memcpy(all + to * c->capacity * w, all + from * c->capacity * w,
                       (size_t)(c->length[from] * w));
        }
    return true;
}
