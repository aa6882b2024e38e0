/* jsonc.c - the tree, and which note of the scan belongs to which item: the scan and cJSON meet the
 * values in the same order (a parent before its children), so the k-th note is the k-th item's. */
#include "base/jsonc.h"
#include "base/file.h"
#include "base/jsonc_scan.h"
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Gives each item below `first` (and its siblings) its note; k is the next note. */
static size_t bind_items(struct jsonc *doc, const cJSON *first, size_t k)
{
    for (const cJSON *item = first; item; item = item->next) {
        CHECK(k < doc->npos);
        doc->pos[k++].item = item;
        k = bind_items(doc, item->child, k);
    }
    return k;
}

static int by_item(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const struct jsonc_pos *)a)->item;
    uintptr_t y = (uintptr_t)((const struct jsonc_pos *)b)->item;

    return (x > y) - (x < y);
}

/* The notes are sorted by item, so that a list of many numbers costs n log n, not n squared. */
static const struct jsonc_pos *find_pos(const struct jsonc *doc, const cJSON *item)
{
    struct jsonc_pos want = {item, 0, 0};

    if (doc->npos == 0) return NULL;
    return bsearch(&want, doc->pos, doc->npos, sizeof want, by_item);
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

/* One object: the members are sorted by key, so that a large one costs n log n. */
static bool check_members(const struct jsonc *doc, const cJSON *object, struct err *e)
{
    const cJSON **member;
    char key[64];
    size_t n = 0;
    bool ok = true;

    for (const cJSON *m = object->child; m; m = m->next)
        n++;
    if (n < 2) return true;
    member = mem_new(n, sizeof *member, "an object's keys", e);
    if (!member) return false;
    n = 0;
    for (const cJSON *m = object->child; m; m = m->next)
        member[n++] = m;
    qsort(member, n, sizeof *member, by_key);
    for (size_t i = 1; i < n && ok; i++) {
        if (by_key(&member[i - 1], &member[i]) == 0) {
            int a = jsonc_item_line(doc, member[i - 1]), b = jsonc_item_line(doc, member[i]);
            jsonc_snippet(key, sizeof key, member[i]->string, strlen(member[i]->string));
            ok = err_set(e, "%s:%d: the key \"%s\" is there twice in one object, first in line %d",
                         doc->path, a > b ? a : b, key, a < b ? a : b);
        }
    }
    free(member);
    return ok;
}

/* All objects from `first` on; depth is the file's, at most JSONC_DEPTH. */
static bool check_duplicates(const struct jsonc *doc, const cJSON *first, struct err *e)
{
    for (const cJSON *item = first; item; item = item->next) {
        if (cJSON_IsObject(item) && !check_members(doc, item, e)) return false;
        if (!check_duplicates(doc, item->child, e)) return false;
    }
    return true;
}

/* Takes over `text`, NUL-terminated at `len`. */
static bool parse_owned(struct jsonc *doc, const char *name, char *text, size_t len, struct err *e)
{
    *doc = (struct jsonc){.text = text};
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* the byte order mark */
        len -= 3;
        memmove(text, text + 3, len + 1);
    }
    doc->path = mem_strdup(name, e);
    if (!doc->path || !jsonc_scan(name, text, len, &doc->pos, &doc->npos, e)) goto fail;
    doc->root = cJSON_ParseWithLength(text, len + 1);
    if (!doc->root) { /* the scan accepts nothing that cJSON refuses */
        err_set(e, "%s: out of memory for its %zu values", name, doc->npos);
        goto fail;
    }
    CHECK(bind_items(doc, doc->root, 0) == doc->npos);
    qsort(doc->pos, doc->npos, sizeof *doc->pos, by_item);
    if (check_duplicates(doc, doc->root, e)) return true;
fail:
    jsonc_close(doc);
    return false;
}

bool jsonc_parse(struct jsonc *doc, const char *name, const char *text, size_t len, struct err *e)
{
    char *copy = mem_strndup(text, len, e);

    *doc = (struct jsonc){0};
    return copy && parse_owned(doc, name, copy, len, e);
}

bool jsonc_read(struct jsonc *doc, const char *path, size_t limit, struct err *e)
{
    char *text;
    size_t len;

    *doc = (struct jsonc){0};
    return file_read(path, limit, &text, &len, e) && parse_owned(doc, path, text, len, e);
}

void jsonc_close(struct jsonc *doc)
{
    cJSON_Delete(doc->root);
    free(doc->text);
    free(doc->path);
    free(doc->pos);
    *doc = (struct jsonc){0};
}

/* One step of a path: "[3]" into a list or "key" into an object; *path moves behind it. */
static const cJSON *find_step(const cJSON *in, const char **path)
{
    const cJSON *item = in->child;
    size_t n;

    if (**path == '[') {
        char *end;
        unsigned long index = strtoul(*path + 1, &end, 10);
        if (!cJSON_IsArray(in) || (*path)[1] < '0' || (*path)[1] > '9' || *end != ']') return NULL;
        for (*path = end + 1; item && index > 0; index--)
            item = item->next;
        return item;
    }
    if (!cJSON_IsObject(in)) return NULL;
    n = strcspn(*path, ".[");
    while (item && (strlen(item->string) != n || memcmp(item->string, *path, n) != 0))
        item = item->next;
    *path += n;
    return item;
}

const cJSON *jsonc_find(const struct jsonc *doc, const char *path)
{
    const cJSON *item = doc->root;

    while (item && *path) {
        item = find_step(item, &path);
        if (*path == '.') path++;
    }
    return item;
}

int jsonc_item_line(const struct jsonc *doc, const cJSON *item)
{
    const struct jsonc_pos *pos = find_pos(doc, item);

    return pos ? jsonc_line_at(doc->text, pos->key) : 0;
}

int jsonc_line(const struct jsonc *doc, const char *path)
{
    const cJSON *item = jsonc_find(doc, path);

    return item ? jsonc_item_line(doc, item) : 0;
}

const char *jsonc_item_text(const struct jsonc *doc, const cJSON *item)
{
    const struct jsonc_pos *pos = find_pos(doc, item);

    return pos ? doc->text + pos->value : NULL;
}
