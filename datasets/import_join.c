/* import_join.c - VQAv2 has its answers in a file of their own, of hundreds of MB: it is mapped,
 * and of each object the id and the place are kept. */
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/slots.h"
#include "data/json_scan.h"
#include "datasets/import.h"

#include <stdlib.h>
#include <string.h>

struct side {
    const char *path; /* borrowed */
    struct file_map map;
};
struct joined_object {
    char *id;
    size_t side, begin, end;
    int64_t line, col;
    bool used;
};
struct import_joined {
    struct side *side; /* [n_sides] */
    size_t n_sides;
    struct joined_object *v; /* [n] */
    size_t n, cap;
    struct slots slots;
};

static int64_t find(const struct import_joined *j, const char *id)
{
    const uint64_t hash = hash_fnv(id, strlen(id));
    uint64_t step = 0;
    int64_t i;

    while ((i = slots_next(&j->slots, hash, &step)) >= 0)
        if (strcmp(j->v[i].id, id) == 0) return i;
    return -1;
}

static bool parse(struct import *im, const struct joined_object *o, struct jsonc *doc)
{
    const struct jsonc_rules rules = {.line = o->line, .col = o->col, .plain = true};
    const struct side *s = &im->joined->side[o->side];

    return jsonc_parse_as(doc, s->path, (const char *)s->map.data + o->begin, o->end - o->begin,
                          &rules, im->e);
}

/* Notes an object by its question's id. */
static bool note(struct import *im, const struct joined_object *at)
{
    struct import_joined *j = im->joined;
    struct jsonc doc;
    const char *id;
    bool ok = parse(im, at, &doc);

    if (!ok) return false;
    const struct record r = {&doc, doc.root, NULL, j->side[at->side].path, at->line};
    id = import_member(im, &r, "question_id");
    ok = !im->e->msg[0] && (id || import_fail(im, &r, "an annotation has no \"question_id\"")) &&
         (find(j, id) < 0 || import_fail(im, &r, "question \"%s\" is annotated twice", id)) &&
         mem_grow(&j->v, &j->cap, j->n + 1, sizeof *j->v, im->e) &&
         slots_reserve(&j->slots, (int64_t)j->n + 1, im->e);
    if (ok) {
        j->v[j->n] = *at;
        j->v[j->n].id = mem_strdup(id, im->e);
        ok = j->v[j->n].id;
        if (ok) slots_put(&j->slots, hash_fnv(id, strlen(id)), (int64_t)j->n++);
    }
    import_texts_free(im);
    jsonc_close(&doc);
    return ok;
}

/* Reads a file if it has the list; *found false: it has questions. */
static bool look(struct import *im, struct side *s, size_t number, bool *found)
{
    struct json_scan scan;
    size_t begin, end;
    bool more = true, ok;

    if (!file_map_open(&s->map, s->path, im->e)) return false;
    ok = json_scan_open_member(&scan, s->map.data, s->map.size, s->path, im->task->join, found,
                               im->e);
    while (ok && *found && (ok = json_scan_next(&scan, &begin, &end, &more, im->e)) && more)
        ok = note(im, &(struct joined_object){.side = number,
                                              .begin = begin,
                                              .end = end,
                                              .line = scan.place.line,
                                              .col = scan.place.col});
    return ok;
}

bool import_join_open(struct import *im, char *const *files, int n)
{
    struct import_joined *j;
    bool ok = true, found;

    if (!im->task->join) return true;
    im->joined = j = mem_new(1, sizeof *j, "answers", im->e);
    if (j) j->side = mem_new((size_t)n, sizeof *j->side, "files of answers", im->e);
    if (!j || !j->side) return false;
    for (int i = 0; ok && i < n; i++) {
        struct side *s = &j->side[j->n_sides];
        const size_t length = strlen(files[i]);
        if (length >= 6 && strcmp(files[i] + length - 6, ".jsonl") == 0) continue; /* rows */
        s->path = files[i];
        ok = look(im, s, j->n_sides, &found);
        if (ok && found)
            j->n_sides++;
        else
            file_map_close(&s->map);
    }
    if (ok && !j->n_sides) import_join_close(im);
    return ok;
}

bool import_join_has(const struct import *im, const char *path)
{
    for (size_t i = 0; im->joined && i < im->joined->n_sides; i++)
        if (im->joined->side[i].path == path) return true;
    return false;
}

bool import_join_find(struct import *im, const char *id, struct jsonc *doc, bool *found)
{
    const int64_t i = find(im->joined, id);

    *found = i >= 0;
    if (i < 0) return true;
    im->joined->v[i].used = true;
    return parse(im, &im->joined->v[i], doc);
}

int64_t import_join_unused(const struct import *im)
{
    int64_t n = 0;

    for (size_t i = 0; im->joined && i < im->joined->n; i++)
        n += !im->joined->v[i].used;
    return n;
}

void import_join_close(struct import *im)
{
    struct import_joined *j = im->joined;

    if (!j) return;
    for (size_t i = 0; i < j->n; i++)
        free(j->v[i].id);
    for (size_t i = 0; j->side && i < j->n_sides; i++)
        file_map_close(&j->side[i].map);
    free(j->v);
    free(j->side);
    slots_free(&j->slots);
    free(j);
    im->joined = NULL;
}
