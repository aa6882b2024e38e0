/* tsv.h - tables of tab-separated cells whose first row has the names, quoted like CSV: a cell that
 * begins with a quote ends with one, may hold tabs and line breaks, and has its own quotes doubled.
 * The file may be of many GB: it is mapped, and a row at a time is taken apart.
 *
 *     struct tsv t;
 *     bool found, ok = tsv_open(&t, map.data, map.size, path, e);
 *     while (ok && (ok = tsv_next(&t, &found, e)) && found)
 *         use(tsv_cell(&t, "question"));
 *     tsv_close(&t); */
#ifndef DATA_TSV_H
#define DATA_TSV_H

#include "base/err.h"
#include "base/text.h"

#include <stdint.h>

enum { TSV_COLUMNS = 256 };
#define TSV_ROW ((size_t)256 << 20) /* bytes of the largest row that is read */

struct tsv {
    const char *data; /* borrowed, like `name` */
    size_t size, at;
    const char *name;
    int64_t line, row_line; /* of `at`; where the row begins; from 1 */
    char *names, *cells;    /* bytes of the header and of the row, each cell followed by a zero */
    size_t cap_names, cap_cells;
    struct text column[TSV_COLUMNS], cell[TSV_COLUMNS]; /* [columns] */
    size_t columns;
};

/* Reads the header. Errors are "NAME:LINE: ...". */
bool tsv_open(struct tsv *t, const void *data, size_t size, const char *name, struct err *e);

/* The next row, which must have as many cells as the header; blank lines are skipped. Its cells are
 * valid until the next call. *found is false after the last one. */
bool tsv_next(struct tsv *t, bool *found, struct err *e);

/* A row's cell; s NULL: there is no such column. */
struct text tsv_cell(const struct tsv *t, const char *column);

void tsv_close(struct tsv *t); /* fine on a zeroed struct */

#endif
