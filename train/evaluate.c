/* evaluate.c - runs batches of prompts through model_generate and counts right answers, or whole
 * samples through model_score and counts right tokens:
 *     exact match = answers equal to the expected one / answers
 *     perplexity  = exp(sum over tokens of -log p(token | true tokens before it) / tokens)
 * There are totals over all sets, and scores per set and kind of question. */
#include "train/evaluate.h"
#include "base/json/jsonc.h"
#include "base/log.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"
#include "base/text.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Text without the white space at its ends. */
static struct text trimmed(struct text t)
{
    while (t.n && isspace((unsigned char)*t.s)) {
        t.s++;
        t.n--;
    }
    while (t.n && isspace((unsigned char)t.s[t.n - 1]))
        t.n--;
    return t;
}

/* The last of SCORE_KINDS, for all further ones. */
static const char score_others[] = "(others)";

static struct score *score_of(struct scores *s, const char *name, struct err *e)
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

/* "set/kind", "kind", "set" or "": the name under which a sample is scored apart from the total. */
static void kind_name(const struct run *r, const struct eval_set *set, const struct text *id,
                      char name[128])
{
    const char *kind = id->n ? memrchr(id->s, '#', id->n) : NULL;
    const char *where = r->n_eval > 1 ? set->name : "";
    char plain[100] = "";

    if (kind) text_plain(plain, sizeof plain, kind + 1, (size_t)(id->s + id->n - kind - 1));
    snprintf(name, 128, "%s%s%s", where, kind && *where ? "/" : "", plain);
}

static bool add_text(cJSON *line, const char *key, const char *s, size_t n)
{
    return cJSON_AddItemToObject(line, key, jsonc_new_string(s, n));
}

static bool write_answer(FILE *fp, const struct eval_set *set, const struct sample *s,
                         const struct text *got, bool right, struct err *e)
{
    const struct rendered *all = &s->rendered;
    const char *image = s->images ? set->data.images[s->image[0]].path : NULL;
    cJSON *line = cJSON_CreateObject();
    bool ok = line && add_text(line, "set", set->name, strlen(set->name)) &&
              add_text(line, "id", s->id.s, s->id.n) &&
              (!image || add_text(line, "image", image, strlen(image))) &&
              add_text(line, "prompt", all->text, all->trained[all->n_trained - 1].begin) &&
              add_text(line, "expected", s->answer.s, s->answer.n) &&
              add_text(line, "answer", got->s, got->n) &&
              cJSON_AddBoolToObject(line, "right", right);
    char *text = NULL;

    if (ok)
        text = jsonc_print(line, false, e);
    else
        err_set(e, "out of memory for an answer");
    cJSON_Delete(line);
    if (!text) return false;
    fprintf(fp, "%s\n", text);
    free(text);
    return true;
}

static void add_to(struct score *to, const struct score *from)
{
    to->n += from->n;
    to->right += from->right;
    to->loss += from->loss;
}

/* Adds one sample's score to every total that includes it. */
static bool count(const struct run *r, const struct eval_set *set, const struct sample *s,
                  bool curve, const struct score *one, struct scores *out, struct err *e)
{
    struct score *kind;
    char name[128];

    add_to(&out->all, one);
    if (curve) add_to(&out->curve, one);
    kind_name(r, set, &s->id, name);
    if (!name[0]) return true;
    kind = score_of(out, name, e);
    if (kind) add_to(kind, one);
    return kind;
}

static bool score_answer(struct run *r, const struct eval_set *set, const struct sample *s,
                         bool curve, const struct generation *g, FILE *answers, struct scores *out,
                         struct err *e)
{
    struct text got = {0}, want = trimmed(s->answer), answer;
    struct score one = {.n = 1};
    bool ok;

    got.s = tokenizer_decode(r->tokenizer, g->ids, (size_t)g->n, true, &got.n, e);
    if (!got.s) return false;
    answer = trimmed(got);
    one.right = answer.n == want.n && memcmp(answer.s, want.s, want.n) == 0;
    ok = count(r, set, s, curve, &one, out, e) &&
         (!answers || write_answer(answers, set, s, &answer, one.right, e));
    free(got.s);
    return ok;
}

/* Which samples of a set are scored: of its `all`, `full` for the table, and of these `curve` for a
 * point of the curve. */
struct choice {
    int64_t all, full, curve;
};

static struct choice choose(const struct run *r, const struct eval_set *set)
{
    int64_t samples = r->c.evaluate.samples, curve = r->c.evaluate.curve_samples;
    struct choice c = {.all = set->data.n};

    c.full = samples && samples < c.all ? samples : c.all;
    c.curve = curve && curve < c.full ? curve : c.full;
    return c;
}

/* The sample at index i of `full`. */
static int64_t chosen(const struct choice *c, int64_t i)
{
    return i * c->all / c->full;
}

/* The index in `full` of the curve's index i; and whether an index in `full` is one of these. */
static int64_t curve_place(const struct choice *c, int64_t i)
{
    return i * c->full / c->curve;
}
static bool in_curve(const struct choice *c, int64_t place)
{
    int64_t i = (place * c->curve + c->full - 1) / c->full;

    return i < c->curve && curve_place(c, i) == place;
}

void evaluate_each(const struct run *r, int64_t set, bool curve, entry_visitor *visit, void *arg)
{
    const struct choice c = choose(r, &r->eval[set]);
    const int64_t n = curve ? c.curve : c.full;

    for (int64_t i = 0; i < n; i++)
        visit(arg, chosen(&c, curve ? curve_place(&c, i) : i));
}

struct group {
    struct sample *samples;
    int64_t *place; /* [size]: index of each in the set's `full` */
    struct generation *answers;
    struct batch_buffer batch;
    int64_t size;
};

/* Puts the batch's features in a leaf with memory of its own, because model_generate restarts the
 * tape. A tower being trained runs here. *copy stays NULL if there are no pictures. Shape: [image
 * tokens of the batch, feature width]. */
static bool own_features(struct run *r, struct model *m, const struct eval_set *set,
                         const struct batch_buffer *b, struct tensor *leaf, float **copy,
                         struct err *e)
{
    struct tensor *features;

    if (!run_pictures(r, m, &set->data, b, &features, e)) return false;
    if (!features) return true;
    if (features->maker) {
        tape_keep(features);
        if (!tape_plan(r->tape, r->memory_limit, e)) return false;
        if (!tape_forward(r->tape)) return signals_go_on(e);
    }
    *copy = mem_new((size_t)tensor_count(features), sizeof **copy, "vision features", e);
    if (!*copy) return false;
    memcpy(*copy, features->data, (size_t)tensor_count(features) * sizeof **copy);
    *leaf = tensor_leaf(DT_F32, features->rows, features->cols, *copy);
    return true;
}

static bool score_answers(struct run *r, struct model *m, const struct eval_set *set,
                          const struct choice *c, const struct forward *f, struct group *g,
                          FILE *answers, struct scores *out, struct err *e)
{
    int64_t n = f->batch->samples;
    const struct generator how = {m,       r->tape,   r->memory_limit, r->c.evaluate.max_new_tokens,
                                  r->stop, r->n_stop, &out->stats};
    bool ok = model_generate(&how, f, g->answers, e);

    for (int64_t i = 0; ok && i < n; i++)
        ok = score_answer(r, set, &g->samples[i], in_curve(c, g->place[i]), &g->answers[i], answers,
                          out, e);
    generation_free(g->answers, g->size);
    return ok;
}

static bool score_tokens(struct run *r, struct model *m, const struct eval_set *set,
                         const struct choice *c, const struct forward *f, struct group *g,
                         struct scores *out, struct err *e)
{
    const struct batch *b = f->batch;
    struct token_score *each = mem_new((size_t)b->labels, sizeof *each, "scores of tokens", e);
    const struct generator how = {
        .m = m, .t = r->tape, .memory_limit = r->memory_limit, .stats = &out->stats};
    bool ok = each && model_score(&how, f, each, e);

    for (int64_t s = 0, k = 0; ok && s < b->samples; s++) {
        struct score one = {0};
        for (; k < b->labels && b->label_rows[k] < b->begin[s + 1]; k++) {
            one.n++;
            one.right += each[k].right;
            one.loss += each[k].loss;
        }
        ok = count(r, set, &g->samples[s], in_curve(c, g->place[s]), &one, out, e);
    }
    free(each);
    return ok;
}

static bool score_group(struct run *r, struct model *m, const struct eval_set *set,
                        const struct choice *c, int64_t n, struct group *g, FILE *answers,
                        struct scores *out, struct err *e)
{
    struct forward f = {.batch = &g->batch.batch};
    struct tensor leaf = {0};
    float *copy = NULL;
    bool ok = true, tokens = r->c.evaluate.score == SCORE_TOKENS;

    memset(g->samples, 0, (size_t)g->size * sizeof *g->samples);
    for (int64_t i = 0; ok && i < n; i++)
        ok = dataset_sample(&set->data, chosen(c, g->place[i]), &g->samples[i], e);
    tape_begin(r->tape, false);
    ok = ok && batch_fill(&g->batch, g->samples, n, !tokens, e) &&
         own_features(r, m, set, &g->batch, &leaf, &copy, e);
    if (ok && copy) f.features = &leaf;
    ok = ok && (tokens ? score_tokens(r, m, set, c, &f, g, out, e)
                       : score_answers(r, m, set, c, &f, g, answers, out, e));
    for (int64_t i = 0; i < n; i++)
        sample_free(&g->samples[i]);
    free(copy);
    return ok;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct score *)a)->name, ((const struct score *)b)->name);
}

static bool evaluate_set(struct run *r, struct model *m, const struct eval_set *set, bool curve,
                         const char *context, struct group *g, FILE *answers, struct scores *s,
                         struct err *e)
{
    struct choice c = choose(r, set);
    int64_t n = curve ? c.curve : c.full;

    for (int64_t i = 0; i < n; i += g->size) {
        int64_t size = n - i < g->size ? n - i : g->size;
        log_progress("%s: scoring %s, %lld of %lld", context, set->name, (long long)i,
                     (long long)n);
        if (!signals_go_on(e)) return false;
        for (int64_t k = 0; k < size; k++)
            g->place[k] = curve ? curve_place(&c, i + k) : i + k;
        if (!score_group(r, m, set, &c, size, g, answers, s, e)) return false;
    }
    return true;
}

static void say_scores(const struct run *r, const char *context, const struct scores *s)
{
    const struct generate_stats *g = &s->stats;
    double bytes = g->cached_tokens ? (double)g->cache_bytes / (double)g->cached_tokens : 0.0;

    if (r->c.evaluate.score == SCORE_TOKENS)
        log_line("%s: perplexity %.4f, %.2f %% of %lld token%s right, %.0f bytes of cache a token, "
                 "%.1f s",
                 context, score_perplexity(&s->all), 100 * scores_total(s), (long long)s->all.n,
                 plural(s->all.n), bytes, s->seconds);
    else
        log_line("%s: exact match %.2f %% (%lld of %lld), %.0f bytes of cache a token, %.1f s",
                 context, 100 * scores_total(s), (long long)s->all.right, (long long)s->all.n,
                 bytes, s->seconds);
}

bool evaluate(struct run *r, struct model *m, bool curve, const char *answers_path,
              const char *context, struct scores *s, struct err *e)
{
    struct group g = {.size = r->c.evaluate.batch};
    struct file_out out = {0};
    double begin = clock_seconds();
    bool ok = false;

    memset(s, 0, sizeof *s);
    g.samples = mem_new((size_t)g.size, sizeof *g.samples, "prompts", e);
    g.place = mem_new((size_t)g.size, sizeof *g.place, "prompts", e);
    g.answers = mem_new((size_t)g.size, sizeof *g.answers, "answers", e);
    if (!g.samples || !g.place || !g.answers) goto out;
    if (r->c.evaluate.score == SCORE_TOKENS) answers_path = NULL;
    if (answers_path && !file_out_open(&out, answers_path, e)) goto out;
    for (int64_t k = 0; k < r->n_eval; k++)
        if (!evaluate_set(r, m, &r->eval[k], curve, context, &g, out.fp, s, e)) goto out;
    ok = watch_check(e) && (!out.fp || file_out_commit(&out, e));
    if (s->n) qsort(s->kinds, s->n, sizeof *s->kinds, by_name);
    s->seconds = clock_seconds() - begin;
    if (ok) say_scores(r, context, s);
out:
    file_out_abort(&out);
    batch_free(&g.batch);
    free(g.samples);
    free(g.place);
    free(g.answers);
    if (!ok) scores_free(s);
    return ok;
}

void scores_free(struct scores *s)
{
    free(s->kinds);
    memset(s, 0, sizeof *s);
}

double scores_total(const struct scores *s)
{
    return s->all.n ? (double)s->all.right / (double)s->all.n : 0;
}

double score_perplexity(const struct score *s)
{
    return s->n ? exp(s->loss / (double)s->n) : NAN;
}

bool scores_write(const struct scores *s, struct metrics *m, const char *point, const char *phase,
                  int64_t step, double tokens, struct err *e)
{
    size_t n = 8, used = 0;
    struct metric *line = mem_new(n + s->n, sizeof *line, "a line of metrics", e);
    char(*keys)[160] = mem_new(s->n, sizeof *keys, "a line of metrics", e);
    bool ok = line && keys;

    if (ok) {
        line[used++] = metric_tag("point", point);
        line[used++] = metric_tag("phase", phase);
        line[used++] = metric_tag("event", "eval");
        line[used++] = metric_num("step", (double)step);
        line[used++] = metric_num("tokens", tokens);
        line[used++] = metric_num("score", scores_total(s));
        line[used++] = metric_num("samples", (double)s->all.n);
        if (s->all.loss > 0) line[used++] = metric_num("perplexity", score_perplexity(&s->all));
        for (size_t i = 0; i < s->n; i++) {
            const struct score *k = &s->kinds[i];
            snprintf(keys[i], sizeof keys[i], "score_%s", k->name);
            line[used++] = metric_num(keys[i], (double)k->right / (double)k->n);
        }
        ok = metrics_write(m, line, used, e);
    }
    free(line);
    free(keys);
    return ok;
}

static bool add_score(cJSON *to, const struct score *k, const char *name)
{
    cJSON *o = cJSON_AddObjectToObject(to, name);

    return o && cJSON_AddNumberToObject(o, "right", (double)k->right) &&
           cJSON_AddNumberToObject(o, "of", (double)k->n) &&
           (!(k->loss > 0) || cJSON_AddNumberToObject(o, "loss", k->loss));
}

bool scores_save(const struct scores *s, const char *path, struct err *e)
{
    cJSON *root = cJSON_CreateObject(), *kinds = NULL;
    char *text = NULL;
    bool ok = add_score(root, &s->all, "all") && add_score(root, &s->curve, "curve") &&
              (kinds = cJSON_AddObjectToObject(root, "kinds"));

    for (size_t i = 0; ok && i < s->n; i++)
        ok = add_score(kinds, &s->kinds[i], s->kinds[i].name);
    ok = ok && cJSON_AddNumberToObject(root, "cached_tokens", (double)s->stats.cached_tokens) &&
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
    const cJSON *loss = cJSON_GetObjectItem(o, "loss");

    if (!cJSON_IsNumber(right) || !cJSON_IsNumber(of)) return false;
    snprintf(k->name, sizeof k->name, "%s", name);
    k->right = (int64_t)right->valuedouble;
    k->n = (int64_t)of->valuedouble;
    k->loss = cJSON_IsNumber(loss) ? loss->valuedouble : 0;
    return true;
}

bool scores_load(struct scores *s, const char *path, struct err *e)
{
    struct jsonc doc;
    const cJSON *tokens, *bytes, *k;
    bool ok, room = true;

    memset(s, 0, sizeof *s);
    if (!jsonc_read(&doc, path, (size_t)16 << 20, e)) return false;
    tokens = cJSON_GetObjectItem(doc.root, "cached_tokens");
    bytes = cJSON_GetObjectItem(doc.root, "cache_bytes");
    ok = read_score(cJSON_GetObjectItem(doc.root, "all"), "all", &s->all) &&
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
    jsonc_close(&doc);
    if (ok) return true;
    scores_free(s);
    return room && err_set(e, "%s: is not a file of scores", path);
}
