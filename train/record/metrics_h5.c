/* metrics_h5.c - metrics.jsonl as columns in an HDF5 file. All columns are built in memory first:
 * the keys of a group are only known at the end of the file. */
#include "train/record/metrics.h"

#include "base/hdf5/h5out.h"
#include "base/mem.h"

#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A column has one kind; rows that lack its key are NaN or NULL. */
struct column {
    char *key;
    bool is_text;
    double *values;
    char **texts;
    size_t n, cap;
};

struct group {
    char *names[3];
    size_t rows;
    struct column *columns;
    size_t n, cap;
};

struct table {
    struct group *groups;
    size_t n, cap;
    const char *path;
};

static const char *const levels[3] = {"point", "phase", "event"};

static bool is_level(const char *key)
{
    return strcmp(key, levels[0]) == 0 || strcmp(key, levels[1]) == 0 ||
           strcmp(key, levels[2]) == 0;
}

static void table_free(struct table *t)
{
    for (size_t g = 0; g < t->n; g++) {
        struct group *group = &t->groups[g];

        for (size_t c = 0; c < group->n; c++) {
            struct column *col = &group->columns[c];
            for (size_t i = 0; col->is_text && i < col->n; i++)
                free(col->texts[i]);
            free(col->texts);
            free(col->values);
            free(col->key);
        }
        free(group->columns);
        for (int i = 0; i < 3; i++)
            free(group->names[i]);
    }
    free(t->groups);
}

/* ---- gather ---- */

/* A tag's value or a key as an HDF5 link name, in new memory: a score's key may be
 * "score_SET/KIND", and a slash would make a group. */
static char *link_name(const char *text, struct err *e)
{
    char *name = mem_strdup(text && text[0] ? text : "none", e);

    for (char *p = name; p && *p; p++)
        if (*p == '/') *p = '_';
    if (name && strcmp(name, ".") == 0) name[0] = '_';
    return name;
}

static struct group *group_of(struct table *t, const struct metrics_line *l, struct err *e)
{
    struct group new = {0};
    size_t g = 0;
    bool ok = true;

    for (int i = 0; i < 3; i++) {
        new.names[i] = link_name(metrics_text(l, levels[i]), e);
        ok = ok && new.names[i];
    }
    for (; ok && g < t->n; g++) {
        char **names = t->groups[g].names;
        if (strcmp(names[0], new.names[0]) == 0 && strcmp(names[1], new.names[1]) == 0 &&
            strcmp(names[2], new.names[2]) == 0)
            break;
    }
    ok = ok && (g < t->n || mem_grow(&t->groups, &t->cap, t->n + 1, sizeof new, e));
    if (ok && g == t->n) {
        t->groups[t->n++] = new;
        return &t->groups[g];
    }
    for (int i = 0; i < 3; i++)
        free(new.names[i]);
    return ok ? &t->groups[g] : NULL;
}

/* Pads the column to `rows` rows. */
static bool column_pad(struct column *c, size_t rows, struct err *e)
{
    if (c->is_text ? !mem_grow(&c->texts, &c->cap, rows, sizeof *c->texts, e)
                   : !mem_grow(&c->values, &c->cap, rows, sizeof *c->values, e))
        return false;
    for (; c->n < rows; c->n++) {
        if (c->is_text)
            c->texts[c->n] = NULL;
        else
            c->values[c->n] = (double)NAN;
    }
    return true;
}

static struct column *column_of(struct group *g, const struct metrics_value *m, struct err *e)
{
    struct column new = {.key = link_name(m->key, e), .is_text = m->text != NULL};

    if (!new.key) return NULL;
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->columns[i].key, new.key) == 0) {
            free(new.key);
            return &g->columns[i];
        }
    if (!mem_grow(&g->columns, &g->cap, g->n + 1, sizeof new, e)) {
        free(new.key);
        return NULL;
    }
    g->columns[g->n++] = new;
    return &g->columns[g->n - 1];
}

static bool gather(void *arg, const struct metrics_line *l, struct err *e)
{
    struct table *t = arg;
    struct group *g = group_of(t, l, e);

    if (!g) return false;
    for (size_t i = 0; i < l->n; i++) {
        const struct metrics_value *m = &l->m[i];
        struct column *c;

        if (m->text && is_level(m->key)) continue;
        c = column_of(g, m, e);
        if (!c || !column_pad(c, g->rows, e)) return false;
        if (c->is_text != (m->text != NULL))
            return err_set(e, "%s:%ld: '%s' is %s here and %s above", t->path, l->number, m->key,
                           m->text ? "a string" : "a number", m->text ? "a number" : "a string");
        if (c->n > g->rows)
            return err_set(e, "%s:%ld: '%s' is there twice", t->path, l->number, m->key);
        if (!column_pad(c, g->rows + 1, e)) return false;
        if (!m->text)
            c->values[g->rows] = m->value;
        else if (!(c->texts[g->rows] = mem_strdup(m->text, e)))
            return false;
    }
    g->rows++;
    return true;
}

/* ---- write ---- */

static bool write_texts(struct h5_out *o, hid_t where, const struct column *c, struct err *e)
{
    size_t width = 1;
    hid_t type = H5Tcopy(H5T_C_S1);
    char *flat = NULL;
    bool ok;

    for (size_t i = 0; i < c->n; i++)
        if (c->texts[i] && strlen(c->texts[i]) > width) width = strlen(c->texts[i]);
    ok = type > 0 && H5Tset_size(type, width) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0 &&
         H5Tset_strpad(type, H5T_STR_NULLPAD) >= 0;
    if (!ok)
        h5_out_failed(o, "make a string type", e);
    else
        flat = mem_new(c->n, width, "a column of tags", e);
    for (size_t i = 0; flat && i < c->n; i++)
        if (c->texts[i]) memcpy(flat + i * width, c->texts[i], strlen(c->texts[i]));
    if (flat) {
        struct h5_array a = {c->key, type, type, 1, {c->n, 0}, flat};
        ok = h5_out_write(o, where, &a, e);
    }
    ok = ok && flat;
    free(flat);
    if (type > 0) H5Tclose(type);
    return ok;
}

static bool write_column(struct h5_out *o, hid_t where, const struct column *c, struct err *e)
{
    struct h5_array a = {c->key, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, 1, {c->n, 0}, c->values};

    return c->is_text ? write_texts(o, where, c, e) : h5_out_write(o, where, &a, e);
}

static bool write_group(struct h5_out *o, struct group *g, struct err *e)
{
    hid_t lcpl = H5Pcreate(H5P_LINK_CREATE), where = -1;
    char *name = mem_printf(e, "/%s/%s/%s", g->names[0], g->names[1], g->names[2]);
    bool ok = name != NULL;

    if (ok && lcpl > 0 && H5Pset_create_intermediate_group(lcpl, 1) >= 0)
        where = H5Gcreate2(o->file, name, lcpl, H5P_DEFAULT, H5P_DEFAULT);
    if (ok && where < 0) {
        h5_out_failed(o, "make a group", e);
        ok = o->error ? false : err_context(e, "group '%s'", name);
    }
    for (size_t i = 0; ok && i < g->n; i++)
        ok = column_pad(&g->columns[i], g->rows, e) && write_column(o, where, &g->columns[i], e);
    if (where > 0) H5Gclose(where);
    if (lcpl > 0) H5Pclose(lcpl);
    free(name);
    return ok;
}

bool metrics_write_h5(const char *jsonl, const char *h5path, struct err *e)
{
    struct table t = {.path = jsonl};
    struct h5_out out = {0};
    bool ok = metrics_each(jsonl, gather, &t, e) && h5_out_open(&out, h5path, 0, e);

    for (size_t g = 0; ok && g < t.n; g++)
        ok = write_group(&out, &t.groups[g], e);
    ok = ok && h5_out_finish(&out, e) && h5_out_commit(&out, e);
    if (!ok) h5_out_abort(&out);
    table_free(&t);
    return ok;
}
