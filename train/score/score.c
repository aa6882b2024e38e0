/* score.c - sums of scores, in memory, in metrics.jsonl and in scores.json. */
#include "train/score/score.h"
#include "base/file.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "train/score/scorer.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double score_share(const struct score *s)
{
    return s->n ? s->right / (double)s->n : NAN;
}

double score_by_length(const struct score *s)
{
    return s->n ? s->by_length / (double)s->n : NAN;
}

double score_perplexity(const struct score *s)
{
    return s->n ? exp(s->loss / (double)s->n) : NAN;
}

/* The last of SCORE_KINDS, for all further ones. */
static const char score_others[] = "(others)";

static struct score *kind_of(struct scores *s, const char *name, struct err *e)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->kinds[i].name, name) == 0) return &s->kinds[i];
    if (s->n == SCORE_KINDS - 1) name = score_others;
    if (s->n == SCORE_KINDS) return &s->kinds[SCORE_KINDS - 1];
    if (!mem_grow(&s->kinds, &s->cap, s->n + 1, sizeof *s->kinds, e)) return NULL;
    struct score *k = &s->kinds[s->n++];
    memset(k, 0, sizeof *k);
    snprintf(k->name, sizeof k->name, "%s", name);
    return k;
}

static void add_to(struct score *to, const struct score *from)
{
    to->n += from->n;
    to->right += from->right;
    to->loss += from->loss;
    to->by_length += from->by_length;
}

bool scores_add_kind(struct scores *s, const char *kind, const struct score *one, struct err *e)
{
    struct score *k = kind_of(s, kind, e);

    if (k) add_to(k, one);
    return k;
}

bool scores_add(struct scores *s, const char *kind, bool curve, const struct score *one,
                struct err *e)
{
    add_to(&s->all, one);
    if (curve) add_to(&s->curve, one);
    return !kind[0] || scores_add_kind(s, kind, one, e);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct score *)a)->name, ((const struct score *)b)->name);
}

void scores_sort(struct scores *s)
{
    if (s->n) qsort(s->kinds, s->n, sizeof *s->kinds, by_name);
}

void scores_free(struct scores *s)
{
    free(s->kinds);
    free(s->sets);
    memset(s, 0, sizeof *s);
}

int64_t scores_lines(const struct scores *s)
{
    int64_t n = 0;

    for (size_t i = 0; i < s->n_sets; i++)
        n += s->sets[i].n;
    return s->n_sets && strcmp(s->sets[0].metric, "tokens") == 0 ? n : s->all.n;
}

double scores_main(const struct scores *s, const struct run *r)
{
    return s->all.n ? scorer_of(&r->c)->cell[0].value(&s->all) : 0;
}

/* The figures of all samples, the first as "score", and that first one of each kind. */
bool scores_write(const struct scores *s, struct run *r, const struct score_time *when,
                  struct err *e)
{
    const struct score_cell *cell = scorer_of(&r->c)->cell;
    size_t n = 9 + SCORE_CELLS, used = 0;
    struct metrics_value *line = mem_new(n + s->n, sizeof *line, "a line of metrics", e);
    char(*keys)[160] = mem_new(s->n, sizeof *keys, "a line of metrics", e);
    bool ok = line && keys;

    if (ok) {
        line[used++] = metric_tag("point", when->point);
        line[used++] = metric_tag("phase", when->phase);
        line[used++] = metric_tag("event", when->event);
        line[used++] = metric_num("step", (double)when->step);
        line[used++] = metric_num("tokens", when->tokens);
        line[used++] = metric_num("score", scores_main(s, r));
        line[used++] = metric_num("samples", (double)s->all.n);
        if (s->all.has_error) line[used++] = metric_num("score_stderr", s->all.se);
        if (s->stats.cached_tokens)
            line[used++] = metric_num("bytes_per_token", (double)s->stats.cache_bytes /
                                                             (double)s->stats.cached_tokens);
        for (const struct score_cell *c = cell + 1; c->name; c++)
            if (s->all.n) line[used++] = metric_num(c->name, c->value(&s->all));
        for (size_t i = 0; i < s->n; i++) {
            snprintf(keys[i], sizeof keys[i], "score_%s", s->kinds[i].name);
            line[used++] = metric_num(keys[i], cell->value(&s->kinds[i]));
        }
        ok = metrics_write(&r->metrics, line, used, e);
    }
    free(line);
    free(keys);
    return ok;
}

static bool add_score(cJSON *to, const struct score *k, const char *name)
{
    cJSON *o = cJSON_AddObjectToObject(to, name);

    return o && cJSON_AddNumberToObject(o, "right", k->right) &&
           cJSON_AddNumberToObject(o, "of", (double)k->n) &&
           (!(k->loss > 0) || cJSON_AddNumberToObject(o, "loss", k->loss)) &&
           (!(k->by_length > 0) || cJSON_AddNumberToObject(o, "by_length", k->by_length)) &&
           (!k->has_error || cJSON_AddNumberToObject(o, "stderr", k->se));
}

static bool add_sets(cJSON *root, const struct scores *s)
{
    cJSON *sets = s->n_sets ? cJSON_AddObjectToObject(root, "sets") : NULL;

    for (size_t i = 0; sets && i < s->n_sets; i++)
        if (!set_figures_write(&s->sets[i], sets)) return false;
    return sets || !s->n_sets;
}

bool scores_save(const struct scores *s, const char *path, struct err *e)
{
    cJSON *root = cJSON_CreateObject(), *kinds = NULL;
    char *text = NULL, kind[CACHE_KIND_TEXT];
    bool ok = add_score(root, &s->all, "all") && add_score(root, &s->curve, "curve") &&
              (kinds = cJSON_AddObjectToObject(root, "kinds"));

    for (size_t i = 0; ok && i < s->n; i++)
        ok = add_score(kinds, &s->kinds[i], s->kinds[i].name);
    ok = ok && add_sets(root, s) &&
         cJSON_AddStringToObject(root, "cache", cache_kind_text(kind, &s->cache)) &&
         cJSON_AddNumberToObject(root, "cached_tokens", (double)s->stats.cached_tokens) &&
         cJSON_AddNumberToObject(root, "cache_bytes", (double)s->stats.cache_bytes);
    if (ok)
        text = jsonc_print(root, true, e);
    else
        err_set(e, "out of memory for scores");
    cJSON_Delete(root);
    if (!text) return err_context(e, "%s", path);
    ok = file_write(path, text, strlen(text), e);
    free(text);
    return ok;
}

static bool read_score(const cJSON *o, const char *name, struct score *k)
{
    const cJSON *right = cJSON_GetObjectItem(o, "right"), *of = cJSON_GetObjectItem(o, "of");
    const cJSON *loss = cJSON_GetObjectItem(o, "loss"), *se = cJSON_GetObjectItem(o, "stderr");

    const cJSON *length = cJSON_GetObjectItem(o, "by_length");

    if (!cJSON_IsNumber(right) || !cJSON_IsNumber(of)) return false;
    snprintf(k->name, sizeof k->name, "%s", name);
    k->right = right->valuedouble;
    k->n = (int64_t)of->valuedouble;
    k->loss = cJSON_IsNumber(loss) ? loss->valuedouble : 0;
    k->by_length = cJSON_IsNumber(length) ? length->valuedouble : 0;
    k->has_error = cJSON_IsNumber(se);
    k->se = k->has_error ? se->valuedouble : 0;
    return true;
}

static bool read_sets(const cJSON *sets, struct scores *s, bool *room, struct err *e)
{
    const cJSON *o;

    cJSON_ArrayForEach(o, sets)
    {
        struct set_figures one;
        if (!set_figures_read(&one, o)) return false;
        *room = mem_grow(&s->sets, &s->cap_sets, s->n_sets + 1, sizeof *s->sets, e);
        if (!*room) return false;
        s->sets[s->n_sets++] = one;
    }
    return true;
}

bool scores_load(struct scores *s, const char *path, struct err *e)
{
    struct jsonc doc;
    const cJSON *tokens, *bytes, *cache, *k;
    struct err unknown;
    bool ok, room = true;

    memset(s, 0, sizeof *s);
    if (!jsonc_read(&doc, path, (size_t)16 << 20, e)) return false;
    tokens = cJSON_GetObjectItem(doc.root, "cached_tokens");
    bytes = cJSON_GetObjectItem(doc.root, "cache_bytes");
    cache = cJSON_GetObjectItem(doc.root, "cache"); /* an older version's have none */
    ok = cache_kind_read(&s->cache, cJSON_IsString(cache) ? cache->valuestring : "f32", &unknown) &&
         read_score(cJSON_GetObjectItem(doc.root, "all"), "all", &s->all) &&
         read_score(cJSON_GetObjectItem(doc.root, "curve"), "curve", &s->curve) &&
         cJSON_IsNumber(tokens) && cJSON_IsNumber(bytes);
    if (ok) {
        s->stats.cached_tokens = (int64_t)tokens->valuedouble;
        s->stats.cache_bytes = (size_t)bytes->valuedouble;
    }
    cJSON_ArrayForEach(k, cJSON_GetObjectItem(doc.root, "kinds"))
    {
        struct score one;
        ok = ok && read_score(k, k->string, &one) &&
             (room = mem_grow(&s->kinds, &s->cap, s->n + 1, sizeof *s->kinds, e));
        if (ok) s->kinds[s->n++] = one;
    }
    ok = ok && read_sets(cJSON_GetObjectItem(doc.root, "sets"), s, &room, e);
    jsonc_close(&doc);
    if (ok) return true;
    scores_free(s);
    return room && err_set(e, "%s: is not a file of scores", path);
}
