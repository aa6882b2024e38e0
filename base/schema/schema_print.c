/* schema_print.c - output from a table: the resolved config, the differences between two configs,
 * the reference, and descriptions of allowed values. */
#include "base/schema/schema.h"
#include "base/schema/schema_parts.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void print_double(FILE *fp, double v)
{
    char text[JSONC_NUMBER];

    jsonc_number(text, v);
    fputs(text, fp);
}

/* Valid UTF-8 is written unchanged: the config came in that way. */
void schema_print_string(FILE *fp, const char *s)
{
    fputc('"', fp);
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            fprintf(fp, "\\%c", *s);
        else if ((unsigned char)*s < 0x20)
            fprintf(fp, "\\u%04x", (unsigned)(unsigned char)*s);
        else
            fputc(*s, fp);
    }
    fputc('"', fp);
}

/* "1..4096" if both bounds are inclusive, else in words: "above 0 and at most 1". */
void schema_print_range(FILE *fp, const struct schema_row *row)
{
    static const char *const low[] = {"", "at least ", "above "}; /* by enum of the bound */
    static const char *const high[] = {"", "at most ", "below "};
    const struct schema_bound lo = row->min, hi = row->max;
    bool both = lo.kind != SCHEMA_NO_BOUND && hi.kind != SCHEMA_NO_BOUND;
    bool dots = lo.kind == SCHEMA_INCLUSIVE && hi.kind == SCHEMA_INCLUSIVE;

    if (lo.kind != SCHEMA_NO_BOUND) {
        if (!dots) fputs(low[lo.kind], fp);
        print_double(fp, lo.v);
    }
    if (both) fputs(dots ? ".." : " and ", fp);
    if (hi.kind != SCHEMA_NO_BOUND) {
        if (!dots) fputs(high[hi.kind], fp);
        print_double(fp, hi.v);
    }
}

void schema_print_length(FILE *fp, const struct schema_row *row)
{
    const char *unit = schema_is_list(row->type) ? "element" : "character";
    int64_t lo = row->min_len, hi = row->max_len, last = hi ? hi : lo;

    if (lo == hi)
        fprintf(fp, "%" PRId64, lo);
    else if (lo && hi)
        fprintf(fp, "%" PRId64 "..%" PRId64, lo, hi);
    else
        fprintf(fp, "at %s %" PRId64, lo ? "least" : "most", last);
    fprintf(fp, " %s%s", unit, last == 1 ? "" : "s");
}

void schema_print_names(FILE *fp, const struct schema_row *row)
{
    fputs("one of ", fp);
    for (size_t i = 0; row->names[i]; i++)
        fprintf(fp, "%s%s", i ? ", " : "", row->names[i]);
}

static bool is_null(const struct schema_row *row, const void *config)
{
    const char *base = config;

    if (row->has) return !*(const bool *)(const void *)(base + row->has - 1);
    return row->type == SCHEMA_TYPE_STRING &&
           !*(const char *const *)(const void *)(base + row->offset);
}

static void print_bool(FILE *fp, const struct schema_row *row, const void *v)
{
    (void)row;
    fputs(*(const bool *)v ? "true" : "false", fp);
}

static void print_int(FILE *fp, const struct schema_row *row, const void *v)
{
    (void)row;
    fprintf(fp, "%" PRId64, *(const int64_t *)v);
}

static void print_number(FILE *fp, const struct schema_row *row, const void *v)
{
    (void)row;
    print_double(fp, *(const double *)v);
}

static void print_text(FILE *fp, const struct schema_row *row, const void *v)
{
    (void)row;
    schema_print_string(fp, *(const char *const *)v);
}

static void print_name(FILE *fp, const struct schema_row *row, const void *v)
{
    schema_print_string(fp, row->names[*(const int *)v]);
}

struct look {
    const char *name; /* in the reference */
    size_t size;      /* of the field or of a list element */
    void (*print)(FILE *fp, const struct schema_row *row, const void *v);
};

static const struct look looks[] = {
    [SCHEMA_TYPE_BOOL] = {"true or false", sizeof(bool), print_bool},
    [SCHEMA_TYPE_INT] = {"whole number", sizeof(int64_t), print_int},
    [SCHEMA_TYPE_DOUBLE] = {"number", sizeof(double), print_number},
    [SCHEMA_TYPE_STRING] = {"string", sizeof(char *), print_text},
    [SCHEMA_TYPE_ENUM] = {"name", sizeof(int), print_name},
    [SCHEMA_TYPE_INTS] = {"list of whole numbers", sizeof(int64_t), print_int},
    [SCHEMA_TYPE_DOUBLES] = {"list of numbers", sizeof(double), print_number},
    [SCHEMA_TYPE_STRINGS] = {"list of strings", sizeof(char *), print_text},
    [SCHEMA_TYPE_ENUMS] = {"list of names", sizeof(int), print_name},
    [SCHEMA_TYPE_OBJECTS] = {"list of objects", 0, NULL},
};

static void dump_group(FILE *fp, const struct schema *s, const void *config, const char *group,
                       int indent);

static void print_objects(FILE *fp, const struct schema_row *row, struct schema_list list,
                          int indent)
{
    const char *v = list.v;

    fputc('[', fp);
    for (int64_t i = 0; i < list.n; i++) {
        fprintf(fp, "%s\n%*s", i ? "," : "", indent + 2, "");
        dump_group(fp, row->sub, v + (size_t)i * row->sub->size, "", indent + 2);
    }
    if (list.n) fprintf(fp, "\n%*s", indent, "");
    fputc(']', fp);
}

/* A row's value as JSON; `indent` only matters for lists of objects. */
static void print_value(FILE *fp, const struct schema_row *row, const void *config, int indent)
{
    const struct look *look = &looks[row->type];
    const char *field = (const char *)config + row->offset;
    struct schema_list list;

    if (is_null(row, config)) {
        fputs("null", fp);
        return;
    }
    if (!schema_is_list(row->type)) {
        look->print(fp, row, field);
        return;
    }
    list = schema_get_list(row, config);
    if (row->sub) {
        print_objects(fp, row, list, indent);
        return;
    }
    fputc('[', fp);
    for (int64_t i = 0; i < list.n; i++) {
        if (i) fputs(", ", fp);
        look->print(fp, row, (const char *)list.v + (size_t)i * look->size);
    }
    fputc(']', fp);
}

/* Whether a row before `i` begins with the same n bytes, i.e. its group has been written. */
static bool written(const struct schema *s, size_t i, size_t n)
{
    for (size_t k = 0; k < i; k++)
        if (strncmp(s->rows[k].key, s->rows[i].key, n) == 0) return true;
    return false;
}

/* The rows whose keys begin with `group` ("" or "svd."), as one object. */
static void dump_group(FILE *fp, const struct schema *s, const void *config, const char *group,
                       int indent)
{
    size_t n = strlen(group), len;
    bool first = true;

    fputc('{', fp);
    for (size_t i = 0; i < s->nrows; i++) {
        const struct schema_row *row = &s->rows[i];
        const char *name = row->key + n;
        char inner[SCHEMA_PATH];
        if (strncmp(row->key, group, n) != 0) continue;
        len = strcspn(name, ".");
        if (name[len] == '.' && written(s, i, n + len + 1)) continue;
        fprintf(fp, "%s\n%*s\"%.*s\": ", first ? "" : ",", indent + 2, "", (int)len, name);
        first = false;
        if (name[len] == '.') {
            schema_path(inner, "%.*s", (int)(n + len + 1), row->key);
            dump_group(fp, s, config, inner, indent + 2);
        } else {
            print_value(fp, row, config, indent + 2);
        }
    }
    if (!first) fprintf(fp, "\n%*s", indent, "");
    fputc('}', fp);
}

/* Closes a memory stream (NULL if it could not be opened): returns its text, or
 * NULL with *e set. */
static char *finish(FILE *fp, char **text, struct err *e)
{
    bool ok = fp && !ferror(fp);

    if (fp && fclose(fp) != 0) ok = false;
    if (!ok || !*text) { /* glibc: NULL if the text could not be grown to its size */
        free(*text);
        *text = NULL;
        err_set(e, "out of memory: the text of a config");
    }
    return *text;
}

char *schema_dump(const struct schema *s, const void *config, struct err *e)
{
    char *text = NULL;
    size_t len = 0;
    FILE *fp = open_memstream(&text, &len);

    if (fp) {
        dump_group(fp, s, config, "", 0);
        fputc('\n', fp);
    }
    return finish(fp, &text, e);
}

static char *value_text(const struct schema_row *row, const void *config, struct err *e)
{
    char *text = NULL;
    size_t len = 0;
    FILE *fp = open_memstream(&text, &len);

    if (fp) print_value(fp, row, config, 0);
    return finish(fp, &text, e);
}

bool schema_same(const struct schema *s, const void *a, const void *b, const char *group,
                 const char *except, bool *same, struct err *e)
{
    *same = true;
    for (size_t i = 0; *same && i < s->nrows; i++) {
        const struct schema_row *row = &s->rows[i];
        char *x, *y;
        if (strncmp(row->key, group, strlen(group)) != 0) continue;
        if (except && strcmp(row->key, except) == 0) continue;
        x = value_text(row, a, e);
        y = x ? value_text(row, b, e) : NULL;
        *same = y && strcmp(x, y) == 0;
        free(x);
        free(y);
        if (!y) return false;
    }
    return true;
}

struct diff {
    FILE *fp;
    bool locked_only, any;
    struct err *e;
};

static bool diff_table(struct diff *d, const struct schema *s, const void *was, const void *now,
                       const char *shown);

static void diff_begin(struct diff *d, const char *shown, const struct schema_row *row)
{
    fprintf(d->fp, "%s%s%s", d->any ? ", " : "", shown, row->key);
    d->any = true;
}

/* Lists of objects: element by element, or their lengths if those differ. */
static bool diff_objects(struct diff *d, const struct schema_row *row, const void *was,
                         const void *now, const char *shown)
{
    struct schema_list a = schema_get_list(row, was), b = schema_get_list(row, now);
    size_t size = row->sub->size;
    char element[SCHEMA_PATH];

    if (a.n != b.n) {
        diff_begin(d, shown, row);
        fprintf(d->fp, " (was %" PRId64 " element%s, now %" PRId64 ")", a.n, plural(a.n), b.n);
        return true;
    }
    for (size_t i = 0; i < (size_t)a.n; i++) {
        schema_path(element, "%s%s[%zu].", shown, row->key, i);
        if (!diff_table(d, row->sub, (char *)a.v + i * size, (char *)b.v + i * size, element))
            return false;
    }
    return true;
}

/* Values are compared as the dump writes them: equal text means equal bits. */
static bool diff_row(struct diff *d, const struct schema_row *row, const void *was, const void *now,
                     const char *shown)
{
    char *a = NULL, *b = NULL, from[60], to[60];
    bool ok = false;

    if (row->sub && !is_null(row, was) && !is_null(row, now))
        return diff_objects(d, row, was, now, shown);
    a = value_text(row, was, d->e);
    b = a ? value_text(row, now, d->e) : NULL;
    if (!b) goto out;
    ok = true;
    if (strcmp(a, b) == 0) goto out;
    diff_begin(d, shown, row);
    fprintf(d->fp, " (was %s, now %s)", text_plain(from, sizeof from, a, strlen(a)),
            text_plain(to, sizeof to, b, strlen(b)));
out:
    free(a);
    free(b);
    return ok;
}

/* Whether a resumed run may have both. */
static bool is_free(const struct schema_row *row, const void *was, const void *now)
{
    return row->may_change || (row->may_move && is_null(row, was) == is_null(row, now));
}

static bool diff_table(struct diff *d, const struct schema *s, const void *was, const void *now,
                       const char *shown)
{
    for (size_t i = 0; i < s->nrows; i++) {
        const struct schema_row *row = &s->rows[i];
        if (d->locked_only && is_free(row, was, now)) continue;
        if (!diff_row(d, row, was, now, shown)) return false;
    }
    return true;
}

char *schema_dump_diff(const struct schema *s, const void *was, const void *now, bool locked_only,
                       struct err *e)
{
    char *text = NULL;
    size_t len = 0;
    struct diff d = {.fp = open_memstream(&text, &len), .locked_only = locked_only, .e = e};
    bool ok = d.fp && diff_table(&d, s, was, now, "");
    char *done = finish(d.fp, &text, e);

    if (ok || !done) return done;
    free(done);
    return NULL;
}

/* Text for a table cell: a bar would end it. */
static void print_cell(FILE *fp, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') fputc('\\', fp);
        fputc(*text, fp);
    }
}

static void print_allowed(FILE *fp, const struct schema_row *row)
{
    bool range = row->min.kind != SCHEMA_NO_BOUND || row->max.kind != SCHEMA_NO_BOUND;
    bool length = row->min_len || row->max_len;

    if (length) schema_print_length(fp, row);
    if (length && (range || row->names)) fputs(", each ", fp);
    if (range) schema_print_range(fp, row);
    if (row->names) schema_print_names(fp, row);
}

/* `shown` precedes the table's keys: "" or "sources[].". */
static void markdown_rows(const struct schema *s, FILE *fp, const char *shown)
{
    for (size_t i = 0; i < s->nrows; i++) {
        const struct schema_row *row = &s->rows[i];
        char inner[SCHEMA_PATH];
        fprintf(fp, "| `%s%s` | %s%s | ", shown, row->key, looks[row->type].name,
                row->nullable ? " or null" : "");
        if (row->def) {
            fputc('`', fp);
            print_cell(fp, row->def);
            fputc('`', fp);
        } else {
            fputs("must be given", fp);
        }
        fputs(" | ", fp);
        print_allowed(fp, row);
        fputs(" | ", fp);
        print_cell(fp, row->help);
        fputs(" |\n", fp);
        schema_path(inner, "%s%s[].", shown, row->key);
        if (row->sub) markdown_rows(row->sub, fp, inner);
    }
}

void schema_markdown(const struct schema *s, FILE *fp)
{
    fputs("| Key | Type | Default | Allowed | What it is |\n", fp);
    fputs("| --- | --- | --- | --- | --- |\n", fp);
    markdown_rows(s, fp, "");
}
