/* gnuplot.h - pictures of a report: NAME.tsv has the numbers, NAME.gnuplot draws them, and NAME.png
 * is made by running gnuplot. Ticks and ranges are computed here, so that they read well at any
 * scale; the script contains them. */
#ifndef TRAIN_REPORT_GNUPLOT_H
#define TRAIN_REPORT_GNUPLOT_H

#include "base/err.h"

#include <stddef.h>
#include <stdio.h>

struct gnuplot_picture {
    const char *name; /* "recovery": at most 30 bytes, no quotes */
    void (*data)(FILE *fp, const void *of), (*script)(FILE *fp, const void *of);
    const void *of;
};

/* Writes the three files to dir, which must exist. If gnuplot is missing or fails, there is no PNG
 * (an old one is removed: it would show other numbers), note->msg says why, and the result is true;
 * note->msg is "" otherwise. */
bool gnuplot_make(const char *dir, const struct gnuplot_picture *p, struct err *note,
                  struct err *e);

/* Deletes the three files, if they are there. */
bool gnuplot_remove(const char *dir, const char *name, struct err *e);

/* The beginning of a script: the terminal, so wide in pixels and as high as a legend of so many
 * lines needs, and the style of all pictures. */
void gnuplot_head(FILE *fp, const char *name, int width, size_t legend);

void gnuplot_quoted(FILE *fp, const char *text);
int gnuplot_width(const char *s); /* code points */

/* The smallest step of 1, 2, 2.5 or 5 times a power of ten with at most `ticks` steps in `span`. */
double gnuplot_step(double span, int ticks);

/* Of a curve by its number; and whether its colour is that of an earlier one. */
const char *gnuplot_colour(size_t curve);
int gnuplot_mark(size_t curve);
bool gnuplot_again(size_t curve);

/* The part of a plot command that draws error bars: of NAME.tsv's rows of a curve, its number in
 * column 1, x in 2. Bars come before all curves, whose markers gnuplot would clear the middle
 * of. */
void gnuplot_bars(FILE *fp, const char *name, size_t curve, int column, int error);

#endif
