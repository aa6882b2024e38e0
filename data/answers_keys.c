/* answers_keys.c - what the answers to a data set's samples are scored by, found by id. */
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/answers_parts.h"
#include "data/conversation.h"
#include "data/json_scan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the objects of a file ---- */

bool answers_each(const char *path, answers_visit *visit, void *arg, struct err *e)
{
    struct json_scan scan;
    struct file_map map;
    size_t begin, end;
    bool found = true, ok;

    if (!file_map_open(&map, path, e)) return false;
    ok = json_scan_open(&scan, map.data, map.size, path, e);
    while (ok && (ok = json_scan_next(&scan, &begin, &end, &found, e)) && found) {
        const struct answers_place at = {path, (const char *)map.data + begin, end - begin,
                                         scan.place.line, scan.place.col};
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

int64_t answers_key_find(const struct answers_keys *k, struct text id, const char **fault)
{
    const uint64_t hash = hash_fnv(id.s, id.n);
    uint64_t step = 0;
    int64_t i, found = -1;

    *fault = "no question of the data set";
    while ((i = slots_next(&k->slots, hash, &step)) >= 0) {
        const struct answers_key *key = &k->v[i];
        const struct text *q = &key->by.question_id;
        if (i == found || ((strlen(key->id) != id.n || memcmp(key->id, id.s, id.n) != 0) &&
                           (q->n != id.n || memcmp(q->s, id.s, id.n) != 0)))
            continue;
        if (found >= 0) {
            *fault = "the id of several questions of the data set: whose answer it is cannot be "
                     "told";
            return -1;
        }
        found = i;
    }
    return found;
}

static bool put_key(struct answers_keys *k, struct text id, struct err *e)
{
    if (!slots_reserve(&k->slots, 2 * (int64_t)k->n + 2, e)) return false;
    slots_put(&k->slots, hash_fnv(id.s, id.n), (int64_t)k->n - 1);
    return true;
}

static bool add_key(struct answers_keys *k, struct conversation *c, const struct answers_place *at,
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
    *key = (struct answers_key){.id = copy(id, e),
                                .picture = copy(picture, e),
                                .expected = {copy(c->answer, e), c->answer.n},
                                .by = c->by};
    c->by = (struct benchmark){0};
    return key->id && key->picture && key->expected.s && put_key(k, id, e) &&
           (!question.s || put_key(k, question, e));
}

struct keys_reading {
    struct answers_keys *k;
    const char *metric;
};

static bool read_key(void *arg, const struct answers_place *at, struct err *e)
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

    if (ok && !c.by.metric && !c.answer.s)
        ok = err_set(e, "%s:%" PRId64 ":%" PRId64 ": has no answer to compare with", at->path,
                     at->line, at->col);
    ok = ok && add_key(r->k, &c, at, e);
    conversation_free(&c);
    return ok;
}

bool answers_keys_open(struct answers_keys *k, const char *path, const char *metric, struct err *e)
{
    struct keys_reading r = {k, metric};

    memset(k, 0, sizeof *k);
    if (answers_each(path, read_key, &r, e)) return true;
    answers_keys_close(k);
    return false;
}

void answers_keys_close(struct answers_keys *k)
{
    for (size_t i = 0; i < k->n; i++) {
        free(k->v[i].id);
        free(k->v[i].picture);
        free(k->v[i].expected.s);
        benchmark_free(&k->v[i].by);
    }
    free(k->v);
    slots_free(&k->slots);
    memset(k, 0, sizeof *k);
}
