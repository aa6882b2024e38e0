/* answers.c - see answers.h. */
#include "data/answers_parts.h"
#include "base/hash.h"
#include "base/mem.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a line ---- */

/* The texts of a line; owned. */
struct line {
    struct text answer, id, set, image, expected, prompt;
    int64_t row; /* its number in the file's lines */
};

static void line_free(struct line *l)
{
    free(l->answer.s);
    free(l->id.s);
    free(l->set.s);
    free(l->image.s);
    free(l->expected.s);
    free(l->prompt.s);
}

/* A second answer could be the reference: which one is scored must not hang on a key's name. */
static bool one_answer(const struct jsonc *doc, const char *const *keys, struct err *e)
{
    const char *first = NULL;

    for (; *keys; keys++) {
        if (!cJSON_GetObjectItemCaseSensitive(doc->root, *keys)) continue;
        if (first)
            return jsonc_fail(doc, doc->root, e,
                              "has \"%s\" and \"%s\": which is the answer? "
                              "Leave the other out, or name it \"expected\"",
                              first, *keys);
        first = *keys;
    }
    return true;
}

/* The first of the keys that is there, a string (or a number, as it is spelled). s NULL: none. */
static bool member(const struct jsonc *doc, const char *const *keys, struct text *out,
                   struct err *e)
{
    const cJSON *item = NULL;

    for (; *keys && !item; keys++)
        item = cJSON_GetObjectItemCaseSensitive(doc->root, *keys);
    if (!item) return true;
    if (cJSON_IsNumber(item)) {
        out->s = jsonc_spelling(doc, item, e);
        out->n = out->s ? strlen(out->s) : 0;
    } else if (cJSON_IsString(item)) {
        out->s = jsonc_string(doc, item, &out->n, e);
    } else {
        return jsonc_fail(doc, item, e, "\"%s\" must be a string", item->string);
    }
    return out->s;
}

static bool read_line(const struct jsonc *doc, bool keyed, struct line *l, struct err *e)
{
    static const char *const
        answer[] = {"answer", "text", "prediction", "response", NULL},
        *const id[] = {"id", "question_id", NULL}, *const question[] = {"question_id", "id", NULL},
        *const set[] = {"set", NULL}, *const image[] = {"image", NULL},
        *const expected[] = {"expected", NULL}, *const prompt[] = {"tokens", "prompt", NULL};

    if (!cJSON_IsObject(doc->root)) return jsonc_fail(doc, doc->root, e, "is not an object");
    if (!one_answer(doc, answer, e) || !member(doc, answer, &l->answer, e) ||
        !member(doc, keyed ? question : id, &l->id, e) || !member(doc, set, &l->set, e) ||
        !member(doc, image, &l->image, e) || !member(doc, expected, &l->expected, e) ||
        !member(doc, prompt, &l->prompt, e))
        return false;
    return true;
}

struct reading {
    struct answers *a;
    const struct answers_keys *keys;
    const char *metric;
    bool *answered; /* [keys->n] */
};

/* Puts the line's place before a message about its content; returns false. */
static bool at_line(const struct jsonc *doc, struct err *e)
{
    char msg[sizeof e->msg];

    if (e->machine) return false;
    memcpy(msg, e->msg, sizeof msg);
    return jsonc_fail(doc, doc->root, e, "%s", msg);
}

/* What a line is scored by; borrowed. */
struct scoring_by {
    const struct benchmark *by;        /* metric NULL: plain */
    struct text expected, picture, id; /* expected: where it is plain */
};

/* Scores a line. */
static bool judge(const struct jsonc *doc, const struct line *l, const struct scoring_by *how,
                  struct metric_result *r, struct err *e)
{
    if (!how->by->metric && !how->expected.s)
        return jsonc_fail(doc, doc->root, e,
                          "has neither \"metric\" nor \"expected\": --data names the file with the "
                          "questions, or --metric a metric, which needs \"answers\"");
    return benchmark_score(how->by, how->expected, l->answer, r, e) || at_line(doc, e);
}

static uint64_t hash_text(uint64_t so_far, struct text t)
{
    /* a text that is missing is not an empty one */
    return so_far * 31 + (t.s ? hash_fnv(t.s, t.n) : 1);
}

/* Of what makes the score of an answer, beside the metric. */
static uint64_t hash_references(const struct scoring_by *how)
{
    const struct benchmark *by = how->by;
    uint64_t hash = hash_text(0, by->metric ? by->question : text_trimmed(how->expected));

    for (size_t i = 0; i < by->n_answers; i++)
        hash = hash_text(hash, by->answers[i]);
    for (size_t i = 0; i < by->n_choices; i++)
        hash = hash_text(hash, by->choices[i]);
    return hash * 31 + (uint64_t)by->label;
}

static char *copy(struct text t, struct err *e)
{
    return mem_strndup(t.s ? t.s : "", t.n, e);
}

static bool add_answer(struct reading *r, const struct line *l, const struct scoring_by *how,
                       const struct metric_result *result, struct err *e)
{
    struct answers *a = r->a;
    struct answer *to;

    if (!mem_grow(&a->v, &a->cap, a->n + 1, sizeof *a->v, e)) return false;
    to = &a->v[a->n++];
    *to = (struct answer){.set = copy(l->set, e),
                          .id = copy(how->id, e),
                          .metric = how->by->metric,
                          .prompt = l->prompt.s ? hash_fnv(l->prompt.s, l->prompt.n) : 0,
                          .reference = hash_references(how)};
    to->item = benchmark_item(how->by, result, how->picture, how->id);
    to->item.row = l->row;
    if (to->item.kind) to->item.kind = mem_strdup(to->item.kind, e);
    return to->set && to->id && (!how->by->n_categories || to->item.kind);
}

/* The key of a line's id. */
static bool key_of(struct reading *r, const struct jsonc *doc, const struct line *l,
                   struct scoring_by *how, struct err *e)
{
    const char *fault;
    const int64_t i = answers_key_find(r->keys, l->id, &fault);
    const struct answers_key *key;
    char id[96];

    if (i < 0)
        return jsonc_fail(doc, doc->root, e, "\"%s\" is %s",
                          text_plain(id, sizeof id, l->id.s, l->id.n), fault);
    r->answered[i] = true;
    key = &r->keys->v[i];
    *how = (struct scoring_by){.by = &key->by,
                               .expected = key->expected,
                               .picture = {key->picture, strlen(key->picture)},
                               .id = {key->id, strlen(key->id)}};
    return true;
}

/* ---- lines of likelihoods ---- */

/* The metric of a line that has likelihoods instead of an answer; NULL: it has an answer. */
static const struct metric *measured_by(const struct jsonc *doc)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(doc->root, "metric");
    const struct metric *m = cJSON_IsString(name) ? metric_find(name->valuestring) : NULL;

    return m && m->measured ? m : NULL;
}

/* A number of a line, from `least` to `most`, which `allowed` says in words. */
struct number {
    const char *key, *allowed;
    double *to, least, most;
    bool whole;
};

static bool read_number(const struct jsonc *doc, const struct number *n, struct err *e)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(doc->root, n->key);
    const double v = cJSON_IsNumber(item) ? item->valuedouble : NAN;

    *n->to = v;
    if (v >= n->least && v <= n->most && !(n->whole && v != floor(v))) return true;
    if (!item) return jsonc_fail(doc, doc->root, e, "\"%s\" is missing: %s", n->key, n->allowed);
    return jsonc_refuse(doc, item, e, n->key, "%s", n->allowed);
}

/* What was counted of a text. */
static bool read_tokens(const struct jsonc *doc, struct metric_item *item, double *right,
                        struct err *e)
{
    const struct number n = {"n", "a whole number of tokens, from 1", &item->tokens, 1, 1e15, true};
    struct number right_tokens = {
        "right_tokens", "a whole number of tokens, up to \"n\"", right, 0, 0, true};
    const struct number loss = {"loss", "the sum of -log p, from 0", &item->loss, 0, DBL_MAX,
                                false};

    if (!read_number(doc, &n, e)) return false;
    right_tokens.most = item->tokens;
    return read_number(doc, &right_tokens, e) && read_number(doc, &loss, e);
}

static bool score_measured(struct reading *r, const struct jsonc *doc, const struct metric *m,
                           const struct line *l, struct err *e)
{
    struct metric_result result = {.extracted = l->id};
    struct metric_item item = {0};
    struct benchmark by = {.metric = m};
    const struct scoring_by how = {.by = &by, .picture = l->image, .id = l->id};
    bool ok = true;

    if (r->keys || r->metric)
        return jsonc_fail(doc, doc->root, e,
                          "is scored by likelihood: no other metric and no data set apply");
    if (m == metric_find("choice")) {
        ok = benchmark_read_choices(&by, doc, doc->root, true, e);
        if (ok) result = benchmark_choose(&by, &item);
    } else {
        ok = read_tokens(doc, &item, &result.score, e);
    }
    ok = ok && add_answer(r, l, &how, &result, e);
    if (ok) {
        struct metric_item *last = &r->a->v[r->a->n - 1].item;
        last->by_length = item.by_length;
        last->by_bytes = item.by_bytes;
        last->tokens = item.tokens;
        last->loss = item.loss;
    }
    benchmark_free(&by);
    return ok;
}

/* ---- lines of answers ---- */

/* By the line's own keys, or those of the data set. */
static bool score_line(struct reading *r, const struct jsonc *doc, struct line *l, struct err *e)
{
    const struct benchmark_turns turns = {.answer = l->expected, .id = l->id};
    struct benchmark own = {0};
    struct scoring_by how = {.by = &own, .expected = l->expected, .picture = l->image, .id = l->id};
    struct metric_result result = {0};
    bool ok;

    if (measured_by(doc)) return score_measured(r, doc, measured_by(doc), l, e);
    if (!l->answer.s)
        return jsonc_fail(doc, doc->root, e,
                          "has no answer: \"answer\", \"text\", \"prediction\" or \"response\"");
    if (r->keys)
        ok = key_of(r, doc, l, &how, e);
    else
        ok = benchmark_read(&own, doc, doc->root, r->metric, e) &&
             (benchmark_complete(&own, &turns, e) || at_line(doc, e));
    ok = ok && judge(doc, l, &how, &result, e) && add_answer(r, l, &how, &result, e);
    metric_result_free(&result);
    benchmark_free(&own);
    return ok;
}

static bool read_answer(void *arg, const struct answers_place *at, struct err *e)
{
    const struct jsonc_rules rules = {
        .line = at->line, .col = at->col, .plain = true, .zeros = true};
    struct reading *r = arg;
    struct jsonc doc;
    struct line l = {.row = at->line};
    bool ok;

    if (!jsonc_parse_as(&doc, at->path, at->json, at->len, &rules, e)) return false;
    ok = read_line(&doc, r->keys, &l, e);
    if (ok && !l.id.s) {
        l.id.s = mem_printf(e, "line %" PRId64, at->line);
        l.id.n = l.id.s ? strlen(l.id.s) : 0;
        ok = l.id.s;
    }
    ok = ok && score_line(r, &doc, &l, e);
    line_free(&l);
    jsonc_close(&doc);
    return ok;
}

static void count_unanswered(const struct reading *r)
{
    for (size_t i = 0; r->keys && i < r->keys->n; i++)
        if (!r->answered[i] && r->a->unanswered++ == 0) r->a->first_unanswered = i;
}

bool answers_open(struct answers *a, const char *path, const struct answers_keys *keys,
                  const char *metric, struct err *e)
{
    struct reading r = {a, keys, metric, NULL};
    bool ok;

    memset(a, 0, sizeof *a);
    r.answered = mem_new(keys ? keys->n : 0, sizeof *r.answered, "questions", e);
    ok = r.answered && answers_each(path, read_answer, &r, e) && answers_number(a, e);
    if (ok) count_unanswered(&r);
    free(r.answered);
    if (!ok) answers_close(a);
    return ok;
}

bool answers_first_of_set(const struct answers *a, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (strcmp(a->v[k].set, a->v[i].set) == 0) return false;
    return true;
}

void answers_close(struct answers *a)
{
    for (size_t i = 0; i < a->n; i++) {
        free(a->v[i].set);
        free(a->v[i].id);
        free((char *)(uintptr_t)a->v[i].item.kind);
    }
    free(a->v);
    memset(a, 0, sizeof *a);
}
