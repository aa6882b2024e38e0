/* schema.c - walks the keys of a config file and of the overrides, finds their rows, and reports
 * unknown and missing keys. What a value may be is schema_value.c's business. */
#include "base/schema/schema.h"
#include "base/schema/schema_parts.h"
#include "base/mem.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

/* Current position of the walk: in a table's struct, within a group of its keys. */
struct place {
    const struct schema *s;
    void *config;
    bool *seen;              /* per row of s: whether it was given; NULL if not tracked */
    char shown[SCHEMA_PATH]; /* prefix for the table's keys in messages: "data.train[1]." */
    char group[SCHEMA_PATH]; /* the group within the table: "" or "svd." */
};

enum found { FOUND_NOTHING, FOUND_ROW, FOUND_GROUP };

/* The full path of a key in the group `at`; a hostile key is cut and made printable. */
static void key_path(const struct place *at, const char *key, size_t len, char path[SCHEMA_PATH])
{
    char clean[80];

    text_plain(clean, sizeof clean, key, len);
    schema_path(path, "%s%s%s", at->shown, at->group, clean);
}

/* The part of a row's key within at->group, NULL if the row is elsewhere. */
static const char *below(const struct place *at, const struct schema_row *row)
{
    size_t n = strlen(at->group);

    return strncmp(row->key, at->group, n) == 0 ? row->key + n : NULL;
}

/* Linear search: tables have tens of rows and are read once per run. */
static enum found look_up(const struct place *at, const char *key, size_t len,
                          const struct schema_row **row)
{
    *row = NULL;
    for (size_t i = 0; i < at->s->nrows; i++) {
        const char *rest = below(at, &at->s->rows[i]);
        if (!rest || strcspn(rest, ".") != len || memcmp(rest, key, len) != 0) continue;
        if (rest[len] == '.') return FOUND_GROUP;
        *row = &at->s->rows[i];
        return FOUND_ROW;
    }
    return FOUND_NOTHING;
}

static void enter_group(struct place *at, const char *key, size_t len)
{
    size_t n = strlen(at->group);

    snprintf(at->group + n, sizeof at->group - n, "%.*s.", (int)len, key); /* fits: our own key */
}

/* Lists the names known in the group `at`, each once, as far as `out` has room. */
static void list_known(const struct place *at, char *out, size_t size)
{
    size_t n = 0;

    out[0] = '\0';
    for (size_t i = 0; i < at->s->nrows && n + 80 < size; i++) {
        const char *name = below(at, &at->s->rows[i]);
        size_t len = name ? strcspn(name, ".") : 0, k = 0;
        if (!name) continue;
        while (k < i && strncmp(at->s->rows[k].key, at->s->rows[i].key,
                                (size_t)(name - at->s->rows[i].key) + len + 1) != 0)
            k++;
        if (k < i) continue; /* another row of a group already listed */
        n += (size_t)snprintf(out + n, size - n, "%s%.*s", n ? ", " : "",
                              (int)(len < 60 ? len : 60), name);
    }
}

/* Suggests the nearest key of the same group, else a similar one elsewhere, else lists all keys
 * known here. */
static bool unknown_key(const struct schema_source *src, const struct place *at, const char *key,
                        size_t len, const cJSON *item)
{
    struct schema_nearest here = {.want = key, .want_len = len}, there = here;
    char path[SCHEMA_PATH], known[600];

    key_path(at, key, len, path);
    if (memchr(key, '.', len))
        return schema_fail(src, item, path, "a key with a dot; groups are objects in each other");
    for (size_t i = 0; i < at->s->nrows; i++) {
        const char *full = at->s->rows[i].key, *rest = below(at, &at->s->rows[i]);
        const char *dot = strrchr(full, '.'), *name = dot ? dot + 1 : full;
        const char *before = there.best;
        if (rest) schema_nearest_try(&here, rest, strcspn(rest, "."));
        schema_nearest_try(&there, name, strlen(name));
        if (there.best != before) { /* the last part was compared, the full key is shown */
            there.best = full;
            there.best_len = strlen(full);
        }
    }
    if (!here.best) here = there;
    if (here.best)
        return schema_fail(src, item, path, "unknown key; did you mean \"%.*s\"?",
                           (int)here.best_len, here.best);
    list_known(at, known, sizeof known);
    return schema_fail(src, item, path, "unknown key; known here: %s", known);
}

/* Sets the row's field; of several sources the last wins. */
static bool set_row(const struct schema_source *src, const struct place *at,
                    const struct schema_row *row, const cJSON *item)
{
    char path[SCHEMA_PATH];

    schema_path(path, "%s%s", at->shown, row->key);
    if (at->seen) at->seen[row - at->s->rows] = true;
    return schema_set(src, row, at->config, path, item);
}

/* Applies the members of `object` to the rows of the group `at`. The recursion is as deep as the
 * table's groups, not as the file: an unknown key ends it. */
static bool apply_object(const struct schema_source *src, const struct place *at,
                         const cJSON *object)
{
    const struct schema_row *row;
    char path[SCHEMA_PATH], found[128];

    for (const cJSON *item = object->child; item; item = item->next) {
        size_t len = strlen(item->string);
        enum found what = look_up(at, item->string, len, &row);
        struct place inner = *at;
        if (what == FOUND_NOTHING) return unknown_key(src, at, item->string, len, item);
        if (what == FOUND_ROW) {
            if (!set_row(src, at, row, item)) return false;
            continue;
        }
        key_path(at, item->string, len, path);
        if (!cJSON_IsObject(item))
            return schema_fail(src, item, path, "an object is needed, found %s",
                               schema_found(src, item, found, sizeof found));
        enter_group(&inner, item->string, len);
        if (!apply_object(src, &inner, item)) return false;
    }
    return true;
}

static bool apply_defaults(const struct schema *s, void *config, struct err *e)
{
    for (size_t i = 0; i < s->nrows; i++) {
        const struct schema_row *row = &s->rows[i];
        struct jsonc doc;
        struct schema_source src = {&doc, "default", e};
        bool ok;
        if (!row->def) continue;
        if (!jsonc_parse(&doc, row->key, row->def, strlen(row->def), e))
            return err_context(e, "default");
        ok = schema_set(&src, row, config, row->key, doc.root);
        jsonc_close(&doc);
        if (!ok) return false;
    }
    return true;
}

/* Every row without a default must have been given. */
static bool check_given(const struct schema_source *src, const struct place *at, const cJSON *item)
{
    for (size_t i = 0; i < at->s->nrows; i++) {
        const struct schema_row *row = &at->s->rows[i];
        char path[SCHEMA_PATH];
        if (row->def || at->seen[i]) continue;
        schema_path(path, "%s%s", at->shown, row->key);
        return schema_fail(src, item, path, "must be given (%s)", row->help);
    }
    return true;
}

bool schema_fill(const struct schema_source *src, const struct schema *s, void *config,
                 const char *shown, const cJSON *object)
{
    struct place at = {.s = s, .config = config};
    bool ok;

    at.seen = mem_new(s->nrows, sizeof *at.seen, "an object's keys", src->e);
    if (!at.seen) return false;
    schema_path(at.shown, "%s.", shown);
    ok = apply_defaults(s, config, src->e) && apply_object(src, &at, object) &&
         check_given(src, &at, object);
    free(at.seen);
    return ok;
}

/* Turns a string to be taken literally into a JSON document. */
static bool parse_plain(struct jsonc *doc, const char *text, struct err *e)
{
    char *json = NULL;
    size_t len = 0;
    FILE *fp = open_memstream(&json, &len);
    bool ok = false;

    if (fp) {
        schema_print_string(fp, text);
        if (fclose(fp) != 0 || !json)
            err_set(e, "out of memory: %zu bytes", strlen(text));
        else
            ok = jsonc_parse(doc, "value", json, len, e);
    } else {
        err_set(e, "out of memory: %zu bytes", strlen(text));
    }
    free(json);
    return ok;
}

/* The VALUE of an override; row is NULL if an object is needed. For a row that is not text,
 * anything starting like a list or an object is meant as one: report its syntax error. */
static bool parse_value(struct jsonc *doc, const struct schema_row *row, const char *text,
                        struct err *e)
{
    bool plain = row && (row->type == SCHEMA_TYPE_STRING || row->type == SCHEMA_TYPE_ENUM);

    if (jsonc_parse(doc, "value", text, strlen(text), e)) {
        if (!plain || cJSON_IsString(doc->root) || (cJSON_IsNull(doc->root) && row->nullable))
            return true;
        jsonc_close(doc);
    } else if (!plain && (*text == '[' || *text == '{')) {
        return false;
    }
    return parse_plain(doc, text, e);
}

/* `*p` is at the '[' after a list of objects: moves `at` into that element and *p past the
 * bracket. */
static bool enter_element(const struct schema_source *src, struct place *at,
                          const struct schema_row *row, const char **p)
{
    struct schema_list list = schema_get_list(row, at->config);
    size_t digits = strspn(*p + 1, "0123456789");
    unsigned long i = strtoul(*p + 1, NULL, 10);
    char shown[SCHEMA_PATH], path[SCHEMA_PATH];

    schema_path(path, "%s%s", at->shown, row->key);
    if (!row->sub) return schema_fail(src, NULL, path, "cannot be indexed, give the whole value");
    if (digits == 0 || (*p)[digits + 1] != ']' || i >= (unsigned long)list.n)
        return schema_fail(src, NULL, path, "an index [N] below %lld is needed (so many there are)",
                           (long long)list.n);
    *p += digits + 2;
    schema_path(shown, "%s%s[%lu].", at->shown, row->key, i);
    *at = (struct place){.s = row->sub, .config = (char *)list.v + i * row->sub->size};
    memcpy(at->shown, shown, sizeof shown);
    return true;
}

/* Follows KEY from *p to the '='; *row stays NULL if it ends in a group or an element. */
static bool follow_key(const struct schema_source *src, struct place *at, const char **p,
                       const struct schema_row **row)
{
    for (;;) {
        size_t len = strcspn(*p, ".[=");
        const char *key = *p;
        enum found what = look_up(at, key, len, row);
        char path[SCHEMA_PATH], rest[48];
        if (what == FOUND_NOTHING) return unknown_key(src, at, key, len, NULL);
        *p += len;
        key_path(at, key, len, path);
        if (what == FOUND_GROUP) enter_group(at, key, len);
        if (what == FOUND_ROW && **p == '[') {
            if (!enter_element(src, at, *row, p)) return false;
            *row = NULL;
        }
        if (**p == '=') return true;
        if (**p != '.' || *row)
            return schema_fail(src, NULL, path, "\"=\" is needed after it, found \"%s\"",
                               text_plain(rest, sizeof rest, *p, strlen(*p)));
        (*p)++;
    }
}

static bool apply_set(const struct place *top, const char *set, const char *label, struct err *e)
{
    const struct schema_row *row;
    struct place at = *top;
    struct jsonc doc;
    char text[80];
    struct schema_source src = {&doc, label, e};
    const char *p = set;
    bool ok;

    if (!strchr(set, '=')) {
        text_plain(text, sizeof text, set, strlen(set));
        return err_set(e, "%s: KEY=VALUE is needed, found \"%s\"", label, text);
    }
    if (!follow_key(&src, &at, &p, &row)) return false;
    text_plain(text, sizeof text, set, (size_t)(p - set));
    if (!parse_value(&doc, row, p + 1, e)) return err_context(e, "%s: %s", label, text);
    if (row)
        ok = set_row(&src, &at, row, doc.root);
    else if (cJSON_IsObject(doc.root))
        ok = apply_object(&src, &at, doc.root);
    else {
        char found[128];
        ok = schema_fail(&src, NULL, text, "an object is needed, found %s",
                         schema_found(&src, doc.root, found, sizeof found));
    }
    jsonc_close(&doc);
    return ok;
}

static bool **given_of(const struct schema *s, void *config)
{
    return s->given ? (bool **)((char *)config + s->given - 1) : NULL;
}

bool schema_load_doc(const struct schema *s, void *config, const struct jsonc *doc,
                     const char *const *sets, size_t nsets, struct err *e)
{
    struct place at = {.s = s, .config = config};
    struct schema_source src = {doc, doc ? NULL : "config", e};
    char found[128];
    bool ok;

    memset(config, 0, s->size);
    at.seen = mem_new(s->nrows, sizeof *at.seen, "the config's keys", e);
    ok = at.seen && apply_defaults(s, config, e);
    if (ok && doc)
        ok = cJSON_IsObject(doc->root)
                 ? apply_object(&src, &at, doc->root)
                 : err_set(e, "%s:%d: an object is needed, found %s", doc->path,
                           jsonc_line(doc, ""), schema_found(&src, doc->root, found, sizeof found));
    for (size_t i = 0; ok && i < nsets; i++) {
        char label[32];
        snprintf(label, sizeof label, "--set %zu", i + 1);
        ok = apply_set(&at, sets[i], label, e);
    }
    ok = ok && check_given(&src, &at, NULL);
    if (ok && s->given)
        *given_of(s, config) = at.seen;
    else
        free(at.seen);
    if (!ok) schema_free(s, config);
    return ok;
}

bool schema_load(const struct schema *s, void *config, const char *path, const char *const *sets,
                 size_t nsets, struct err *e)
{
    static const struct jsonc_rules rules = {.pipe = true, .settings = true};
    struct jsonc doc = {0};
    bool ok;

    memset(config, 0, s->size);
    if (path && !jsonc_read_as(&doc, path, JSONC_CONFIG_BYTES, &rules, e)) return false;
    ok = schema_load_doc(s, config, path ? &doc : NULL, sets, nsets, e);
    jsonc_close(&doc);
    return ok;
}

bool schema_apply(const struct schema *s, void *config, const char *const *sets, size_t nsets,
                  const char *label, struct err *e)
{
    struct place at = {.s = s, .config = config, .seen = s->given ? *given_of(s, config) : NULL};
    bool ok = true;

    for (size_t i = 0; ok && i < nsets; i++) {
        char which[SCHEMA_PATH];
        schema_path(which, "%s[%zu]", label, i);
        ok = apply_set(&at, sets[i], which, e);
    }
    return ok;
}

bool schema_copy(const struct schema *s, void *copy, const void *config, struct err *e)
{
    char *text = schema_dump(s, config, e);
    struct jsonc doc = {0};
    bool ok = text && jsonc_parse(&doc, "settings", text, strlen(text), e);

    memset(copy, 0, s->size);
    ok = ok && schema_load_doc(s, copy, &doc, NULL, 0, e);
    for (size_t i = 0; ok && s->given && i < s->nrows; i++)
        (*given_of(s, copy))[i] = schema_given(s, config, &s->rows[i]);
    jsonc_close(&doc);
    free(text);
    return ok;
}

void schema_free(const struct schema *s, void *config)
{
    for (size_t i = 0; i < s->nrows; i++)
        schema_clear(&s->rows[i], config);
    if (s->given) free(*given_of(s, config));
    memset(config, 0, s->size);
}

/* What is wrong with a row by itself, NULL if nothing. */
static const char *row_fault(const struct schema_row *row)
{
    bool names = row->type == SCHEMA_TYPE_ENUM || row->type == SCHEMA_TYPE_ENUMS;

    if (!row->help || !row->help[0] || strchr(row->help, '\n')) return "help of one line is needed";
    if (names != (row->names != NULL)) return "names are for enum rows, and needed there";
    if ((row->type == SCHEMA_TYPE_OBJECTS) != (row->sub != NULL))
        return "a sub-table is for lists of objects, and needed there";
    if (row->has && !row->nullable) return "a flag for null, but null is not allowed";
    if (row->nullable && !row->has && row->type != SCHEMA_TYPE_STRING)
        return "null is allowed, but no flag takes it";
    if (strlen(row->key) > 100) return "a key of at most 100 characters is needed";
    return NULL;
}

/* Two rows may share a group, but must not have the same key, nor may one row's key
 * be the other's group. */
static bool check_pair(const struct schema_row *a, const struct schema_row *b, struct err *e)
{
    size_t n = strlen(a->key), m = strlen(b->key), least = n < m ? n : m;

    if (strncmp(a->key, b->key, least) != 0) return true;
    if (n == m) return err_set(e, "table: %s: is there twice", a->key);
    if ((n < m ? b : a)->key[least] != '.') return true;
    return err_set(e, "table: %s: is an option and a group", (n < m ? a : b)->key);
}

bool schema_check(const struct schema *s, struct err *e)
{
    void *config;
    bool ok;

    for (size_t i = 0; i < s->nrows; i++) {
        const struct schema_row *row = &s->rows[i];
        const char *fault = row_fault(row);
        if (fault) return err_set(e, "table: %s: %s", row->key, fault);
        if (row->sub && !schema_check(row->sub, e)) return err_context(e, "%s", row->key);
        for (size_t k = 0; k < i; k++)
            if (!check_pair(&s->rows[k], row, e)) return false;
    }
    config = mem_new(1, s->size, "a config", e);
    if (!config) return false;
    ok = apply_defaults(s, config, e);
    schema_free(s, config);
    free(config);
    return ok;
}
