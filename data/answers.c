/* answers.c - see answers.h. */
#include "data/answers.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/conversation.h"
#include "data/json_scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the objects of a file ---- */

struct place {
    const char *path, *json;
    size_t len;
    int64_t line, col;
};
typedef bool each_object(void *arg, const struct place *at, struct err *e);

static bool each(const char *path, each_object *visit, void *arg, struct err *e)
{
    struct json_scan scan;
    struct file_map map;
    size_t begin, end;
    bool found = true, ok;

    if (!file_map_open(&map, path, e)) return false;
    ok = json_scan_open(&scan, map.data, map.size, path, e);
    while (ok && (ok = json_scan_next(&scan, &begin, &end, &found, e)) && found) {
        const struct place at = {path, (const char *)map.data + begin, end - begin, scan.place.line,
                                 scan.place.col};
        ok = visit(arg, &at, e);
        if (!ok) break;
    }
    if (ok && scan.count == 0) ok = err_set(e, "%s: is an empty list", path);
    file_map_close(&map);
    return ok;
}

static char *copy(struct text t, struct err *e)
{
    return mem_strndup(t.s ? t.s : "", t.n, e);
}

/* ---- the keys of a data set ---- */

/* The key with an id, -1 if there is none. */
static int64_t find_key(const struct answers_keys *k, struct text id)
{
    const uint64_t hash = hash_fnv(id.s, id.n);
    uint64_t step = 0;
    int64_t i;

    while ((i = slots_next(&k->slots, hash, &step)) >= 0) {
        const struct answers_key *key = &k->v[i];
        const struct text *q = &key->by.question_id;
        if ((strlen(key->id) == id.n && memcmp(key->id, id.s, id.n) == 0) ||
            (q->n == id.n && memcmp(q->s, id.s, id.n) == 0))
            return i;
    }
    return -1;
}

static bool put_key(struct answers_keys *k, struct text id, struct err *e)
{
    if (!slots_reserve(&k->slots, 2 * (int64_t)k->n + 2, e)) return false;
    slots_put(&k->slots, hash_fnv(id.s, id.n), (int64_t)k->n - 1);
    return true;
}

static bool add_key(struct answers_keys *k, struct conversation *c, const struct place *at,
                    struct err *e)
{
    const struct text picture = {c->n_images ? (char *)(uintptr_t)c->images[0] : NULL,
                                 c->n_images ? strlen(c->images[0]) : 0};
    char number[32];
    struct answers_key *key;
    struct text id = c->id, question = c->by.question_id;

    snprintf(number, sizeof number, "line %" PRId64, at->line);
    if (!id.s) id = (struct text){number, strlen(number)};
    if (!mem_grow(&k->v, &k->cap, k->n + 1, sizeof *k->v, e)) return false;
    key = &k->v[k->n++];
    *key = (struct answers_key){.id = copy(id, e), .picture = copy(picture, e), .by = c->by};
    c->by = (struct benchmark){0};
    return key->id && key->picture && put_key(k, id, e) && (!question.s || put_key(k, question, e));
}

struct keys_reading {
    struct answers_keys *k;
    const char *metric;
};

static bool read_key(void *arg, const struct place *at, struct err *e)
{
    const struct keys_reading *r = arg;
    const struct conversation_source from = {.path = at->path,
                                             .json = at->json,
                                             .len = at->len,
                                             .line = at->line,
                                             .col = at->col,
                                             .scored = true,
                                             .metric = r->metric};
    struct conversation c;
    enum drop_reason reason;
    bool ok = conversation_read(&c, &from, NULL, &reason, e);

    if (ok && !c.by.metric)
        ok = err_set(e, "%s:%" PRId64 ":%" PRId64 ": has no \"metric\": --metric names one",
                     at->path, at->line, at->col);
    ok = ok && add_key(r->k, &c, at, e);
    conversation_free(&c);
    return ok;
}

bool answers_keys_open(struct answers_keys *k, const char *path, const char *metric, struct err *e)
{
    struct keys_reading r = {k, metric};

    memset(k, 0, sizeof *k);
    if (each(path, read_key, &r, e)) return true;
    answers_keys_close(k);
    return false;
}

void answers_keys_close(struct answers_keys *k)
{
    for (size_t i = 0; i < k->n; i++) {
        free(k->v[i].id);
        free(k->v[i].picture);
        benchmark_free(&k->v[i].by);
    }
    free(k->v);
    slots_free(&k->slots);
    memset(k, 0, sizeof *k);
}

/* ---- a line ---- */

/* The texts of a line; owned. */
struct line {
    struct text answer, id, set, image, expected, prompt;
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
    if (!member(doc, answer, &l->answer, e) || !member(doc, keyed ? question : id, &l->id, e) ||
        !member(doc, set, &l->set, e) || !member(doc, image, &l->image, e) ||
        !member(doc, expected, &l->expected, e) || !member(doc, prompt, &l->prompt, e))
        return false;
    return l->answer.s ||
           jsonc_fail(doc, doc->root, e,
                      "has no answer: \"answer\", \"text\", \"prediction\" or \"response\"");
}

struct reading {
    struct answers *a;
    const struct answers_keys *keys;
    const char *metric;
};

/* Puts the line's place before a message about its content; returns false. */
static bool at_line(const struct jsonc *doc, struct err *e)
{
    char msg[sizeof e->msg];

    if (e->machine) return false;
    memcpy(msg, e->msg, sizeof msg);
    return jsonc_fail(doc, doc->root, e, "%s", msg);
}

/* Scores a line by what it is to be scored by; by->metric NULL: plain. */
static bool judge(const struct jsonc *doc, const struct line *l, const struct benchmark *by,
                  struct metric_result *r, struct err *e)
{
    if (!by->metric && !l->expected.s)
        return jsonc_fail(doc, doc->root, e,
                          "has neither \"metric\" nor \"expected\": --data names the file with the "
                          "questions, or --metric a metric, which needs \"answers\"");
    return benchmark_score(by, l->expected, l->answer, r, e) || at_line(doc, e);
}

static bool add_answer(struct reading *r, const struct line *l, const struct benchmark *by,
                       const struct metric_result *result, struct text picture, struct err *e)
{
    struct answers *a = r->a;
    struct answer *to;

    if (!mem_grow(&a->v, &a->cap, a->n + 1, sizeof *a->v, e)) return false;
    to = &a->v[a->n++];
    *to = (struct answer){.set = copy(l->set, e),
                          .id = copy(l->id, e),
                          .metric = by->metric,
                          .prompt = l->prompt.s ? hash_fnv(l->prompt.s, l->prompt.n) : 0};
    to->item = benchmark_item(by, result, picture, l->id);
    if (to->item.kind) to->item.kind = mem_strdup(to->item.kind, e);
    return to->set && to->id && (!by->n_categories || to->item.kind);
}

/* By the line's own keys, or those of the data set. */
static bool score_line(struct reading *r, const struct jsonc *doc, struct line *l, struct err *e)
{
    const struct benchmark_turns turns = {.answer = l->expected, .id = l->id};
    const int64_t key = r->keys ? find_key(r->keys, l->id) : -1;
    struct benchmark own = {0};
    const struct benchmark *by = key < 0 ? &own : &r->keys->v[key].by;
    struct text picture = l->image;
    struct metric_result result = {0};
    bool ok = true;

    if (r->keys && key < 0) {
        char id[96];
        return jsonc_fail(doc, doc->root, e, "\"%s\" is no question of the data set",
                          text_plain(id, sizeof id, l->id.s, l->id.n));
    }
    if (key >= 0) {
        char *path = r->keys->v[key].picture;
        picture = (struct text){path, strlen(path)};
    } else {
        ok = benchmark_read(&own, doc, doc->root, r->metric, e) &&
             (benchmark_complete(&own, &turns, e) || at_line(doc, e));
    }
    ok = ok && judge(doc, l, by, &result, e) && add_answer(r, l, by, &result, picture, e);
    metric_result_free(&result);
    benchmark_free(&own);
    return ok;
}

static bool read_answer(void *arg, const struct place *at, struct err *e)
{
    const struct jsonc_rules rules = {
        .line = at->line, .col = at->col, .plain = true, .zeros = true};
    struct reading *r = arg;
    struct jsonc doc;
    struct line l = {0};
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

bool answers_open(struct answers *a, const char *path, const struct answers_keys *keys,
                  const char *metric, struct err *e)
{
    struct reading r = {a, keys, metric};

    memset(a, 0, sizeof *a);
    if (each(path, read_answer, &r, e)) return true;
    answers_close(a);
    return false;
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
