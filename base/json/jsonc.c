/* jsonc.c - the tree, and which position from the scan belongs to which item. The scan and cJSON
 * visit the values in the same order (a parent before its children), so the k-th position belongs
 * to the k-th item. */
#include "base/json/jsonc.h"
#include "base/file.h"
#include "base/filekind.h"
#include "base/json/jsonc_scan.h"
#include "base/mem.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FEW_MEMBERS = 16 };

/* Gives each item from `first` on (with its children) its position; k is the next one. Marks whole
 * numbers that are spelled with a fraction or an exponent. */
static size_t bind_items(struct jsonc *doc, cJSON *first, size_t k)
{
    for (cJSON *item = first; item; item = item->next) {
        CHECK(k < doc->npos);
        const char *s = doc->text + doc->pos[k].value;
        doc->pos[k++].item = item;
        if (cJSON_IsNumber(item) && memchr(".eE", s[strspn(s, "-0123456789")], 3))
            item->type |= JSONC_FRACTION;
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

/* Positions are sorted by item, so that a list of many numbers costs n log n, not n squared; and
 * only when first asked for: for most samples nobody asks. The extra entry at the end marks that
 * this has been done. */
static const struct jsonc_pos *find_pos(const struct jsonc *doc, const cJSON *item)
{
    struct jsonc_pos want = {item, 0, 0};

    if (doc->npos == 0) return NULL;
    if (!doc->pos[doc->npos].key) qsort(doc->pos, doc->npos, sizeof *doc->pos, by_item);
    doc->pos[doc->npos].key = 1;
    return bsearch(&want, doc->pos, doc->npos, sizeof want, by_item);
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const cJSON *const *)a)->string, (*(const cJSON *const *)b)->string);
}

static void sort_members(const cJSON **member, size_t n)
{
    if (n > FEW_MEMBERS) {
        qsort(member, n, sizeof *member, by_key);
        return;
    }
    for (size_t i = 1, k; i < n; i++) {
        const cJSON *m = member[i];
        for (k = i; k > 0 && by_key(&member[k - 1], &m) > 0; k--)
            member[k] = member[k - 1];
        member[k] = m;
    }
}

/* a, b: offsets of the two keys. */
static bool twice(const struct jsonc *doc, size_t a, size_t b, const char *key, struct err *e)
{
    struct jsonc_place first = jsonc_place_at(doc, a < b ? a : b);
    struct jsonc_place second = jsonc_place_at(doc, a < b ? b : a);
    char name[64];

    return err_set(e,
                   "%s:%" PRId64 ":%" PRId64
                   ": the key \"%s\" is there twice in one object, first in line %" PRId64,
                   doc->path, second.line, second.col,
                   text_plain(name, sizeof name, key, strlen(key)), first.line);
}

/* Checks one object for duplicate keys. Sorting the members makes a large one cost n log n; a small
 * one, of which a data set has millions, needs no allocation. */
static bool check_members(const struct jsonc *doc, const cJSON *object, struct err *e)
{
    const cJSON *few[FEW_MEMBERS], **member = few;
    size_t n = 0;
    bool ok = true;

    for (const cJSON *m = object->child; m; m = m->next)
        n++;
    if (n > FEW_MEMBERS) member = mem_new(n, sizeof *member, "an object's keys", e);
    if (!member) return false;
    n = 0;
    for (const cJSON *m = object->child; m; m = m->next)
        member[n++] = m;
    sort_members(member, n);
    for (size_t i = 1; i < n && ok; i++) {
        if (by_key(&member[i - 1], &member[i]) == 0)
            ok = twice(doc, find_pos(doc, member[i - 1])->key, find_pos(doc, member[i])->key,
                       member[i]->string, e);
    }
    if (member != few) free(member);
    return ok;
}

/* Checks all objects from `first` on; the recursion is as deep as the file, at most JSONC_DEPTH. */
static bool check_duplicates(const struct jsonc *doc, const cJSON *first, struct err *e)
{
    for (const cJSON *item = first; item; item = item->next) {
        if (cJSON_IsObject(item) && !check_members(doc, item, e)) return false;
        if (!check_duplicates(doc, item->child, e)) return false;
    }
    return true;
}

/* Text of another form fails at its first character, or behind the bracket of a TOML table. */
static bool scan(struct jsonc *doc, size_t len, const struct jsonc_rules *rules, struct err *e)
{
    const char *first;

    if (jsonc_scan(doc, len, rules, e)) return true;
    first = doc->text + strspn(doc->text, " \t\r\n");
    if (rules->settings && !e->machine && !strchr("{/", *first))
        err_set(e, "%s; settings are JSON, an object in {}, with // comments as you like", e->msg);
    return false;
}

/* Takes over `text`, NUL-terminated at `len`. */
static bool parse_owned(struct jsonc *doc, const char *name, char *text, size_t len,
                        const struct jsonc_rules *rules, struct err *e)
{
    *doc = (struct jsonc){
        .text = text, .line = rules->line ? rules->line : 1, .col = rules->col ? rules->col : 1};
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* byte order mark */
        len -= 3;
        memmove(text, text + 3, len + 1);
    }
    doc->path = mem_strdup(name, e);
    if (!doc->path || !scan(doc, len, rules, e)) goto fail;
    doc->root = cJSON_ParseWithLength(text, len + 1);
    if (!doc->root) { /* not a syntax error: the scan accepts nothing that cJSON refuses */
        err_set(e, "out of memory: %s has %zu values", name, doc->npos);
        goto fail;
    }
    CHECK(bind_items(doc, doc->root, 0) == doc->npos);
    if (check_duplicates(doc, doc->root, e)) return true;
fail:
    jsonc_close(doc);
    return false;
}

static const struct jsonc_rules settings_rules = {.pipe = true};

bool jsonc_parse_as(struct jsonc *doc, const char *name, const char *text, size_t len,
                    const struct jsonc_rules *rules, struct err *e)
{
    char *copy = mem_strndup(text, len, e);

    *doc = (struct jsonc){0};
    return copy && parse_owned(doc, name, copy, len, rules, e);
}

bool jsonc_parse(struct jsonc *doc, const char *name, const char *text, size_t len, struct err *e)
{
    return jsonc_parse_as(doc, name, text, len, &settings_rules, e);
}

bool jsonc_read_as(struct jsonc *doc, const char *path, size_t limit,
                   const struct jsonc_rules *rules, struct err *e)
{
    char *text = NULL;
    size_t len = 0;

    *doc = (struct jsonc){0};
    if (rules->pipe ? !file_read_stream(path, limit, &text, &len, e)
                    : !file_read(path, limit, &text, &len, e))
        return false;
    if (!file_kind_check(path, text, len, e)) {
        free(text);
        return false;
    }
    return parse_owned(doc, path, text, len, rules, e);
}

bool jsonc_read(struct jsonc *doc, const char *path, size_t limit, struct err *e)
{
    return jsonc_read_as(doc, path, limit, &settings_rules, e);
}

void jsonc_close(struct jsonc *doc)
{
    cJSON_Delete(doc->root);
    free(doc->text);
    free(doc->path);
    free(doc->pos);
    *doc = (struct jsonc){0};
}

/* One step of a path: "[3]" into a list or "key" into an object; *path moves past it. */
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

struct jsonc_place jsonc_item_place(const struct jsonc *doc, const cJSON *item)
{
    const struct jsonc_pos *pos = find_pos(doc, item);

    return pos ? jsonc_place_at(doc, pos->key) : (struct jsonc_place){0, 0};
}

int jsonc_item_line(const struct jsonc *doc, const cJSON *item)
{
    return (int)jsonc_item_place(doc, item).line; /* files are under 2^31 lines */
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

bool jsonc_fail(const struct jsonc *doc, const cJSON *item, struct err *e, const char *fmt, ...)
{
    const struct jsonc_pos *pos = find_pos(doc, item);
    char msg[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (pos) {
        struct jsonc_place at = jsonc_place_at(doc, pos->value);
        return err_set(e, "%s:%" PRId64 ":%" PRId64 ": %s", doc->path, at.line, at.col, msg);
    }
    return err_set(e, "%s: %s", doc->path, msg);
}

char *jsonc_spelling(const struct jsonc *doc, const cJSON *item, struct err *e)
{
    const char *number = cJSON_IsNumber(item) ? jsonc_item_text(doc, item) : NULL;

    return number ? mem_strndup(number, strspn(number, "+-.0123456789eE"), e)
                  : jsonc_print(item, false, e);
}

bool jsonc_refuse(const struct jsonc *doc, const cJSON *item, struct err *e, const char *name,
                  const char *allowed, ...)
{
    char what[512], *found = jsonc_spelling(doc, item, e);
    va_list ap;

    va_start(ap, allowed);
    vsnprintf(what, sizeof what, allowed, ap);
    va_end(ap);
    jsonc_fail(doc, item, e, "%.100s is %.100s%s; allowed: %s", name, found ? found : "?",
               found && strlen(found) > 100 ? "..." : "", what);
    free(found);
    return false;
}
