/* schema_value.c - sets one field from one value: types, ranges, and descriptions of bad values. */
#include "base/schema/schema_parts.h"
#include "base/mem.h"
#include "base/path.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NEAREST_CHARS 48   /* longer names are nobody's typing error */
#define EXACT_LIMIT 0x1p53 /* above, doubles skip integers */

struct kind {
    const char *list; /* describes a list of it, NULL if the type is not a list */
    size_t size;      /* of the field, or of one list element */
    bool (*set)(const struct schema_source *src, const struct schema_row *row, const char *path,
                const cJSON *item, void *out);
};

void schema_path(char path[SCHEMA_PATH], const char *fmt, ...)
{
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(path, SCHEMA_PATH, fmt, ap);
    va_end(ap);
    if (n >= SCHEMA_PATH) memcpy(path + SCHEMA_PATH - 4, "...", 4);
}

bool schema_fail(const struct schema_source *src, const cJSON *item, const char *path,
                 const char *fmt, ...)
{
    char msg[1400];
    int line = src->label || !item ? 0 : jsonc_item_line(src->doc, item);
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (src->label) return err_set(src->e, "%s: %s: %s", src->label, path, msg);
    if (line > 0) return err_set(src->e, "%s:%d: %s: %s", src->doc->path, line, path, msg);
    return err_set(src->e, "%s: %s: %s", src->doc->path, path, msg);
}

/* The number as spelled, at most size - 1 bytes of it (the scan allows 63). */
static char *spelling(const struct schema_source *src, const cJSON *item, char *out, size_t size)
{
    const char *text = jsonc_item_text(src->doc, item);
    size_t n = text ? strspn(text, "+-.0123456789eE") : 0;

    return text_plain(out, size, text ? text : "", n);
}

const char *schema_found(const struct schema_source *src, const cJSON *item, char *out, size_t size)
{
    char text[72];

    if (cJSON_IsString(item)) {
        text_plain(text, 48, item->valuestring, strlen(item->valuestring));
        snprintf(out, size, "the string \"%s\"", text);
    } else if (cJSON_IsNumber(item)) {
        snprintf(out, size, "the number %s", spelling(src, item, text, sizeof text));
    } else {
        snprintf(out, size, "%s",
                 cJSON_IsTrue(item)    ? "true"
                 : cJSON_IsFalse(item) ? "false"
                 : cJSON_IsNull(item)  ? "null"
                 : cJSON_IsArray(item) ? "a list"
                                       : "an object");
    }
    return out;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Edit distance with transposition of neighbours as one edit (optimal string alignment), ignoring
 * case. Both lengths are at most NEAREST_CHARS. */
static size_t edit_distance(const char *a, size_t na, const char *b, size_t nb)
{
    size_t d[NEAREST_CHARS + 1][NEAREST_CHARS + 1];

    for (size_t i = 0; i <= na; i++) {
        for (size_t j = 0; j <= nb; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            d[i][j] = min_size(d[i - 1][j], d[i][j - 1]) + 1;
            d[i][j] =
                min_size(d[i][j], d[i - 1][j - 1] + (strncasecmp(a + i - 1, b + j - 1, 1) != 0));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                d[i][j] = min_size(d[i][j], d[i - 2][j - 2] + 1);
        }
    }
    return d[na][nb];
}

/* Near means that at most half of the longer name has to change. */
void schema_nearest_try(struct schema_nearest *n, const char *name, size_t len)
{
    size_t d, longer = len > n->want_len ? len : n->want_len;

    if (longer > NEAREST_CHARS) return;
    d = edit_distance(n->want, n->want_len, name, len);
    if (2 * d > longer || (n->best && d >= n->distance)) return;
    n->best = name;
    n->best_len = len;
    n->distance = d;
}

/* Captures the output of one of the print functions in `out`. */
static const char *phrase(void (*print)(FILE *, const struct schema_row *),
                          const struct schema_row *row, char *out, size_t size)
{
    FILE *fp = fmemopen(out, size, "w");

    out[0] = '\0';
    if (!fp) return out; /* out of memory: the message just lacks its list */
    print(fp, row);
    fclose(fp);
    out[size - 1] = '\0';
    return out;
}

/* Sets "a number is needed, found the string \"4\""; returns false. */
static bool wrong_type(const struct schema_source *src, const struct schema_row *row,
                       const char *needs, const char *path, const cJSON *item)
{
    char found[128];

    return schema_fail(src, item, path, "%s%s is needed, found %s", needs,
                       row->nullable ? " or null" : "",
                       schema_found(src, item, found, sizeof found));
}

static bool check_range(const struct schema_source *src, const struct schema_row *row,
                        const char *path, const cJSON *item, double v)
{
    const struct schema_bound lo = row->min, hi = row->max;
    char range[128], found[72];

    if ((lo.kind == SCHEMA_INCLUSIVE && v < lo.v) || (lo.kind == SCHEMA_EXCLUSIVE && v <= lo.v) ||
        (hi.kind == SCHEMA_INCLUSIVE && v > hi.v) || (hi.kind == SCHEMA_EXCLUSIVE && v >= hi.v))
        return schema_fail(src, item, path, "must be %s, found %s",
                           phrase(schema_print_range, row, range, sizeof range),
                           spelling(src, item, found, sizeof found));
    return true;
}

static bool set_bool(const struct schema_source *src, const struct schema_row *row,
                     const char *path, const cJSON *item, void *out)
{
    bool *v = out;

    if (!cJSON_IsBool(item)) return wrong_type(src, row, "true or false", path, item);
    *v = cJSON_IsTrue(item);
    return true;
}

/* Plain digits are parsed from the text: cJSON's double would lose bits above 2^53. */
static bool set_int(const struct schema_source *src, const struct schema_row *row, const char *path,
                    const cJSON *item, void *out)
{
    double d = item->valuedouble;
    int64_t *v = out;
    char text[72];

    if (!cJSON_IsNumber(item)) return wrong_type(src, row, "a number", path, item);
    spelling(src, item, text, sizeof text);
    if (!strpbrk(text, ".eE")) {
        errno = 0;
        *v = strtoll(text, NULL, 10);
        if (errno == ERANGE)
            return schema_fail(src, item, path, "too big for a whole number of 64 bits, found %s",
                               text);
    } else if (isfinite(d) && d != floor(d)) {
        return schema_fail(src, item, path, "a whole number is needed, found %s", text);
    } else if (!(fabs(d) <= EXACT_LIMIT)) {
        return schema_fail(src, item, path,
                           "too big for a point or an exponent, write its digits, found %s", text);
    } else {
        *v = (int64_t)d; /* integral and at most 2^53 */
    }
    return check_range(src, row, path, item, (double)*v);
}

static bool set_double(const struct schema_source *src, const struct schema_row *row,
                       const char *path, const cJSON *item, void *out)
{
    double *v = out;
    char text[72];

    if (!cJSON_IsNumber(item)) return wrong_type(src, row, "a number", path, item);
    *v = item->valuedouble;
    if (!isfinite(*v))
        return schema_fail(src, item, path, "too big for a number of 64 bits, found %s",
                           spelling(src, item, text, sizeof text));
    return check_range(src, row, path, item, *v);
}

/* Elements of a list, or characters of a string. A list has a limit even if its row sets none. */
static bool check_length(const struct schema_source *src, const struct schema_row *row,
                         const char *path, const cJSON *item, int64_t n)
{
    int64_t most = row->max_len;
    char length[64];

    if (most == 0) most = schema_is_list(row->type) ? SCHEMA_LIST_LIMIT : INT64_MAX;
    if (n >= row->min_len && n <= most) return true;
    if (n > most && row->max_len == 0)
        return schema_fail(src, item, path, "at most %d elements are allowed, found %" PRId64,
                           SCHEMA_LIST_LIMIT, n);
    return schema_fail(src, item, path, "needs %s, found %" PRId64,
                       phrase(schema_print_length, row, length, sizeof length), n);
}

static bool set_string(const struct schema_source *src, const struct schema_row *row,
                       const char *path, const cJSON *item, void *out)
{
    const char **v = out;
    int64_t chars = 0;
    struct err why;

    if (!cJSON_IsString(item)) return wrong_type(src, row, "a string", path, item);
    for (const char *p = item->valuestring; *p; p++)
        chars += ((unsigned char)*p & 0xc0) != 0x80; /* not a UTF-8 continuation byte */
    if (row->type == SCHEMA_TYPE_STRING && !check_length(src, row, path, item, chars)) return false;
    if (row->path && !path_check(item->valuestring, &why))
        return schema_fail(src, item, path, "\"%s\" %s", item->valuestring, why.msg);
    *v = mem_strdup(item->valuestring, src->e);
    return *v != NULL;
}

/* Every error lists all names, since they are what is allowed. */
static bool set_enum(const struct schema_source *src, const struct schema_row *row,
                     const char *path, const cJSON *item, void *out)
{
    const char *text = cJSON_IsString(item) ? item->valuestring : NULL;
    struct schema_nearest near = {.want = text, .want_len = text ? strlen(text) : 0};
    char names[512], found[128];
    int *v = out;

    for (int i = 0; text && row->names[i]; i++) {
        if (strcmp(text, row->names[i]) == 0) {
            *v = i;
            return true;
        }
        schema_nearest_try(&near, row->names[i], strlen(row->names[i]));
    }
    phrase(schema_print_names, row, names, sizeof names);
    schema_found(src, item, found, sizeof found);
    if (!text) return schema_fail(src, item, path, "%s; found %s", names, found);
    return schema_fail(src, item, path, "%s; found %s%s%s%s", names, strchr(found, '"'),
                       near.best ? "; did you mean \"" : "", near.best ? near.best : "",
                       near.best ? "\"?" : "");
}

static bool set_object(const struct schema_source *src, const struct schema_row *row,
                       const char *path, const cJSON *item, void *out)
{
    if (!cJSON_IsObject(item)) return wrong_type(src, row, "an object", path, item);
    return schema_fill(src, row->sub, out, path, item);
}

/* Objects have no fixed size: their table gives it. */
static const struct kind kinds[] = {
    [SCHEMA_TYPE_BOOL] = {NULL, sizeof(bool), set_bool},
    [SCHEMA_TYPE_INT] = {NULL, sizeof(int64_t), set_int},
    [SCHEMA_TYPE_DOUBLE] = {NULL, sizeof(double), set_double},
    [SCHEMA_TYPE_STRING] = {NULL, sizeof(char *), set_string},
    [SCHEMA_TYPE_ENUM] = {NULL, sizeof(int), set_enum},
    [SCHEMA_TYPE_INTS] = {"a list of numbers", sizeof(int64_t), set_int},
    [SCHEMA_TYPE_DOUBLES] = {"a list of numbers", sizeof(double), set_double},
    [SCHEMA_TYPE_STRINGS] = {"a list of strings", sizeof(char *), set_string},
    [SCHEMA_TYPE_ENUMS] = {"a list of strings", sizeof(int), set_enum},
    [SCHEMA_TYPE_OBJECTS] = {"a list of objects", 0, set_object},
};

/* Elements are set in place, after the list has been stored in *config, so that schema_clear can
 * release a list that failed half-way. */
static bool set_list(const struct schema_source *src, const struct schema_row *row, void *field,
                     const char *path, const cJSON *item)
{
    const struct kind *kind = &kinds[row->type];
    size_t size = row->sub ? row->sub->size : kind->size, k = 0;
    char element[SCHEMA_PATH];
    struct schema_list list;

    if (!cJSON_IsArray(item)) return wrong_type(src, row, kind->list, path, item);
    list.n = cJSON_GetArraySize(item);
    if (!check_length(src, row, path, item, list.n)) return false;
    list.v = mem_new((size_t)list.n, size, path, src->e);
    if (!list.v) return false;
    memcpy(field, &list, sizeof list);
    for (const cJSON *child = item->child; child; child = child->next, k++) {
        schema_path(element, "%s[%zu]", path, k);
        if (!kind->set(src, row, element, child, (char *)list.v + k * size)) return false;
    }
    return true;
}

/* Null leaves what schema_clear leaves: zero, and the flag false. */
bool schema_set(const struct schema_source *src, const struct schema_row *row, void *config,
                const char *path, const cJSON *item)
{
    const struct kind *kind = &kinds[row->type];
    void *field = (char *)config + row->offset;
    bool *has = row->has ? (void *)((char *)config + row->has - 1) : NULL;

    schema_clear(row, config);
    if (row->nullable && cJSON_IsNull(item)) return true;
    if (has) *has = true;
    return kind->list ? set_list(src, row, field, path, item)
                      : kind->set(src, row, path, item, field);
}

void schema_clear(const struct schema_row *row, void *config)
{
    const struct kind *kind = &kinds[row->type];
    void *field = (char *)config + row->offset;

    if (kind->list) {
        struct schema_list list = schema_get_list(row, config);
        for (int64_t i = 0; i < list.n; i++) {
            if (row->type == SCHEMA_TYPE_STRINGS) free((char *)((const char **)list.v)[i]);
            if (row->sub) schema_free(row->sub, (char *)list.v + (size_t)i * row->sub->size);
        }
        free(list.v);
        memset(field, 0, sizeof list);
    } else {
        if (row->type == SCHEMA_TYPE_STRING) free((char *)*(const char **)field);
        memset(field, 0, kind->size);
    }
    if (row->has) memset((char *)config + row->has - 1, 0, sizeof(bool));
}

bool schema_is_list(enum schema_type type)
{
    return kinds[type].list != NULL;
}

struct schema_list schema_get_list(const struct schema_row *row, const void *config)
{
    struct schema_list list;

    memcpy(&list, (const char *)config + row->offset, sizeof list);
    return list;
}

bool schema_given(const struct schema *s, const void *config, const struct schema_row *row)
{
    const bool *const *given = (const bool *const *)((const char *)config + s->given - 1);

    CHECK(s->given);
    return *given && (*given)[row - s->rows];
}
