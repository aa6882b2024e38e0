/* tsv.c - see tsv.h. */
#include "data/tsv.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A row being taken apart: cells' bytes go to *to, their begins to begin[]. */
struct row {
    char **to;
    size_t *cap, n;
    size_t begin[TSV_COLUMNS + 1];
    size_t cells;
};

static bool put(struct row *r, char c, struct err *e)
{
    if (!mem_grow(r->to, r->cap, r->n + 1, 1, e)) return false;
    (*r->to)[r->n++] = c;
    return true;
}

static bool fail(const struct tsv *t, struct err *e, const char *what)
{
    return err_set(e, "%s:%" PRId64 ": %s", t->name, t->row_line, what);
}

/* Up to the closing quote, which is passed. */
static bool take_quoted(struct tsv *t, struct row *r, struct err *e)
{
    for (t->at++; t->at < t->size; t->at++) {
        const char c = t->data[t->at];
        if (c == '"') {
            if (t->at + 1 >= t->size || t->data[t->at + 1] != '"') {
                t->at++;
                return true;
            }
            t->at++;
        }
        t->line += c == '\n';
        if (!put(r, c, e)) return false;
    }
    return fail(t, e, "the row has a quote that is not closed before the file ends");
}

static bool ends_cell(const struct tsv *t)
{
    return t->at >= t->size || t->data[t->at] == '\t' || t->data[t->at] == '\n' ||
           (t->data[t->at] == '\r' && (t->at + 1 == t->size || t->data[t->at + 1] == '\n'));
}

static bool take_cell(struct tsv *t, struct row *r, struct err *e)
{
    const size_t begin = t->at;

    if (r->cells == TSV_COLUMNS) return fail(t, e, "the row has more than 256 cells");
    r->begin[r->cells++] = r->n;
    if (t->at < t->size && t->data[t->at] == '"' && !take_quoted(t, r, e)) return false;
    for (; !ends_cell(t); t->at++)
        if (!put(r, t->data[t->at], e)) return false;
    if (t->at - begin > TSV_ROW) return fail(t, e, "a cell of more than 256 MiB");
    return put(r, '\0', e);
}

/* Takes the row at t->at apart, and passes its line break. */
static bool take_row(struct tsv *t, struct row *r, struct text *cell, struct err *e)
{
    t->row_line = t->line;
    for (;;) {
        if (!take_cell(t, r, e)) return false;
        if (t->at >= t->size || t->data[t->at] != '\t') break;
        t->at++;
    }
    if (t->at < t->size && t->data[t->at] == '\r') t->at++;
    if (t->at < t->size) {
        t->at++;
        t->line++;
    }
    r->begin[r->cells] = r->n;
    for (size_t i = 0; i < r->cells; i++) {
        cell[i] = (struct text){*r->to + r->begin[i], r->begin[i + 1] - r->begin[i] - 1};
        if (memchr(cell[i].s, '\0', cell[i].n)) return fail(t, e, "the row has a zero byte");
    }
    return true;
}

bool tsv_open(struct tsv *t, const void *data, size_t size, const char *name, struct err *e)
{
    struct row r = {.to = &t->names, .cap = &t->cap_names};

    memset(t, 0, sizeof *t);
    t->data = data;
    t->size = size;
    t->name = name;
    t->line = 1;
    if (size >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) t->at = 3;
    if (t->at == size) return err_set(e, "%s: is empty", name);
    if (take_row(t, &r, t->column, e)) {
        t->columns = r.cells;
        return true;
    }
    tsv_close(t);
    return false;
}

bool tsv_next(struct tsv *t, bool *found, struct err *e)
{
    struct row r = {.to = &t->cells, .cap = &t->cap_cells};

    while (t->at < t->size && (t->data[t->at] == '\n' || t->data[t->at] == '\r'))
        t->line += t->data[t->at++] == '\n';
    *found = t->at < t->size;
    if (!*found) return true;
    if (!take_row(t, &r, t->cell, e)) return false;
    return r.cells == t->columns ||
           err_set(e, "%s:%" PRId64 ": the row has %zu cells, the first row %zu", t->name,
                   t->row_line, r.cells, t->columns);
}

struct text tsv_cell(const struct tsv *t, const char *column)
{
    for (size_t i = 0; i < t->columns; i++)
        if (strcmp(t->column[i].s, column) == 0) return t->cell[i];
    return (struct text){0};
}

void tsv_close(struct tsv *t)
{
    free(t->names);
    free(t->cells);
    memset(t, 0, sizeof *t);
}
