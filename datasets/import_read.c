/* import_read.c - the files of a benchmark as records, one after the other; of large ones no more
 * than a record is in memory, but for maps and lists inside of an object. */
#include "base/mem.h"
#include "data/json_scan.h"
#include "datasets/import.h"
#include "data/tsv.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT_BYTES ((size_t)1 << 30) /* of a file that is read whole */

/* ---- for the tasks ---- */

bool import_fail(struct import *im, const struct record *r, const char *fmt, ...)
{
    char msg[800];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (r->doc) return jsonc_fail(r->doc, r->o, im->e, "%s", msg);
    return err_set(im->e, "%s:%" PRId64 ": %s", r->file, r->line, msg);
}

static const char *keep(struct import *im, char *s)
{
    if (!s) return NULL;
    if (!mem_grow(&im->texts, &im->cap_texts, im->n_texts + 1, sizeof *im->texts, im->e)) {
        free(s);
        return NULL;
    }
    im->texts[im->n_texts++] = s;
    return s;
}

const char *import_text(struct import *im, const char *fmt, ...)
{
    va_list ap;
    char *s = NULL;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&s, fmt, ap);
    va_end(ap);
    if (n < 0) {
        err_set(im->e, "out of memory for a question");
        im->e->machine = true;
        return NULL;
    }
    return keep(im, s);
}

void import_texts_free(struct import *im)
{
    for (size_t i = 0; i < im->n_texts; i++)
        free(im->texts[i]);
    im->n_texts = 0;
}

/* The member by the first of the names that is there. */
static const cJSON *find(const struct record *r, const char *names)
{
    char name[64];

    for (size_t n; *names; names += n + (names[n] == '|')) {
        n = strcspn(names, "|");
        CHECK(n < sizeof name);
        memcpy(name, names, n);
        name[n] = '\0';
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(r->o, name);
        if (item && !cJSON_IsNull(item)) return item;
    }
    return NULL;
}

const char *import_member(struct import *im, const struct record *r, const char *names)
{
    const cJSON *item = find(r, names);

    if (!item) return NULL;
    if (cJSON_IsString(item)) return item->valuestring;
    if (cJSON_IsNumber(item) && r->doc) return keep(im, jsonc_spelling(r->doc, item, im->e));
    import_fail(im, r, "\"%s\" must be a string or a number", item->string);
    return NULL;
}

/* ---- forms of files ---- */

/* Whether a record is of the part that is taken; one that names none is. */
static bool of_split(struct import *im, const struct record *r)
{
    const char *split = im->split ? import_member(im, r, "split") : NULL;

    im->parts = im->parts || split;
    return !split || strcmp(split, im->split) == 0 || !import_skip(im, SKIP_SPLIT, split);
}

static bool take(struct import *im, const struct record *r)
{
    bool ok;

    im->records++;
    im->e->msg[0] = '\0'; /* what a task's function fails by, where it does not see it */
    ok = (cJSON_IsObject(r->o) || import_fail(im, r, "a question is an object")) &&
         (!of_split(im, r) || im->task->take(im, r)) && !im->e->msg[0];
    import_texts_free(im);
    return ok;
}

static bool read_lines(struct import *im, const char *path)
{
    struct json_scan scan;
    struct file_map map;
    size_t begin, end;
    bool found = true, ok;

    if (!file_map_open(&map, path, im->e)) return false;
    ok = json_scan_open(&scan, map.data, map.size, path, im->e);
    while (ok && (ok = json_scan_next(&scan, &begin, &end, &found, im->e)) && found) {
        const struct jsonc_rules rules = {
            .line = scan.place.line, .col = scan.place.col, .plain = true};
        struct jsonc doc;
        ok = jsonc_parse_as(&doc, path, (const char *)map.data + begin, end - begin, &rules, im->e);
        if (!ok) break;
        ok = take(im, &(struct record){&doc, doc.root, NULL, path, scan.place.line});
        jsonc_close(&doc);
        if (!ok) break;
    }
    file_map_close(&map);
    return ok;
}

/* An object that is read whole: a record, a map of records, or one with a list of them. */
static bool read_whole(struct import *im, const char *path)
{
    const struct import_task *t = im->task;
    const struct jsonc_rules rules = {.plain = true};
    const cJSON *list, *item;
    struct jsonc doc;
    bool ok;

    if (!jsonc_read_as(&doc, path, IMPORT_BYTES, &rules, im->e)) return false;
    list = t->list ? cJSON_GetObjectItemCaseSensitive(doc.root, t->list) : doc.root;
    ok = list || jsonc_fail(&doc, doc.root, im->e, "has no \"%s\": is this a file of %s?", t->list,
                            t->name);
    if (ok && t->form == IMPORT_WHOLE) {
        ok = take(im, &(struct record){&doc, doc.root, NULL, path, 0});
    } else if (ok) {
        cJSON_ArrayForEach(item, list)
        {
            ok = ok && take(im, &(struct record){&doc, item, item->string, path, 0});
        }
    }
    jsonc_close(&doc);
    return ok;
}

/* A row as an object; empty cells are left out. */
static bool row_object(const struct tsv *t, cJSON *o)
{
    for (size_t i = 0; i < t->columns; i++)
        if (t->cell[i].n && !cJSON_AddStringToObject(o, t->column[i].s, t->cell[i].s)) return false;
    return true;
}

static bool read_table(struct import *im, const char *path)
{
    struct file_map map;
    struct tsv t;
    bool found = true, ok;

    if (!file_map_open(&map, path, im->e)) return false;
    ok = tsv_open(&t, map.data, map.size, path, im->e);
    while (ok && (ok = tsv_next(&t, &found, im->e)) && found) {
        cJSON *o = cJSON_CreateObject();
        ok = (o && row_object(&t, o)) || err_set(im->e, "%s: out of memory for a row", path);
        ok = ok && take(im, &(struct record){NULL, o, NULL, path, t.row_line});
        cJSON_Delete(o);
        if (!ok) break;
    }
    tsv_close(&t);
    file_map_close(&map);
    return ok;
}

/* A line "picture, question, answer" with tabs between. */
static bool take_plain(struct import *im, const char *path, int64_t line, char *text)
{
    static const char *const names[] = {"image", "question", "answer"};
    cJSON *o = cJSON_CreateObject();
    const struct record r = {NULL, o, NULL, path, line};
    bool ok = o;

    for (int i = 0; ok && i < 3; i++) {
        const char *cell = strsep(&text, "\t");
        if (!cell) break;
        ok = cJSON_AddStringToObject(o, names[i], cell);
    }
    ok = ok || err_set(im->e, "%s: out of memory for a line", path);
    if (ok && (text || cJSON_GetArraySize(o) < 3))
        ok =
            import_fail(im, &r, "a picture, a question and an answer with tabs between are needed");
    ok = ok && take(im, &r);
    cJSON_Delete(o);
    return ok;
}

static bool read_plain(struct import *im, const char *path)
{
    char *text, *next;
    size_t len;
    int64_t line = 1;
    bool ok = file_read(path, IMPORT_BYTES, &text, &len, im->e);

    if (!ok) return false;
    for (char *at = text; ok && *at; at = next, line++) {
        next = at + strcspn(at, "\n");
        if (*next) *next++ = '\0';
        at[strcspn(at, "\r")] = '\0';
        if (*at) ok = take_plain(im, path, line, at);
    }
    free(text);
    return ok;
}

static bool ends_in(const char *s, const char *end)
{
    const size_t n = strlen(s), k = strlen(end);

    return n >= k && strcmp(s + n - k, end) == 0;
}

bool import_read(struct import *im, const char *path)
{
    static bool (*const forms[])(struct import *, const char *) = {[IMPORT_JSON] = read_lines,
                                                                   [IMPORT_MAP] = read_whole,
                                                                   [IMPORT_WHOLE] = read_whole,
                                                                   [IMPORT_TABLE] = read_table,
                                                                   [IMPORT_PLAIN] = read_plain};

    if (ends_in(path, ".jsonl")) return read_lines(im, path);
    return im->task->list ? read_whole(im, path) : forms[im->task->form](im, path);
}
