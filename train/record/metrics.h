/* metrics.h - metrics.jsonl, the run's measurements and the source of truth for its report: one
 * JSON object per line, of tags (strings) and numbers:
 *     {"point":"rope8-rank4","phase":"stage2","event":"train","step":120,"loss":2.25}
 * Doubles are printed with as many digits as needed to read back the same bits. JSON has no NaN
 * or infinity: such a number is null, and the tag KEY_note says "nan", "inf" or "-inf". */
#ifndef TRAIN_RECORD_METRICS_H
#define TRAIN_RECORD_METRICS_H

#include "base/err.h"

#include <stddef.h>
#include <stdio.h>

/* One member of a line: a tag if text is set, otherwise a number. */
struct metrics_value {
    const char *key;
    const char *text;
    double value;
};
static inline struct metrics_value metric_tag(const char *key, const char *text)
{
    return (struct metrics_value){.key = key, .text = text};
}
static inline struct metrics_value metric_num(const char *key, double value)
{
    return (struct metrics_value){.key = key, .value = value};
}

struct metrics {
    FILE *fp;
    char *path;
};

/* Opens for appending, and drops a last line only half written by a killed run. On
 * failure *m is zeroed. */
bool metrics_open(struct metrics *m, const char *path, struct err *e);

/* Appends one line, which has been handed to the system on return: kill -9 does not lose it. Keys
 * must be unique within a line.
 *     metrics_write(&m,
 *                   (struct metrics_value[]){metric_tag("event", "eval"), metric_num("step", 7)},
 *                   2, e); */
bool metrics_write(struct metrics *m, const struct metrics_value *line, size_t n, struct err *e);
void metrics_close(struct metrics *m); /* fine on a zeroed struct */

/* A line as read. A number that was null is NaN, or the infinity given by its note. */
struct metrics_line {
    const struct metrics_value *m;
    size_t n;
    const char *json; /* as in the file, without the newline */
    long number;      /* in the file, from 1 */
};
double metrics_number(const struct metrics_line *l, const char *key);    /* NaN if missing */
const char *metrics_text(const struct metrics_line *l, const char *key); /* NULL if missing */

/* Calls fn with every line in order; the line is only valid during the call. fn returns false, with
 * *e set, to stop. A half-written last line is ignored; anything else that is not a flat object of
 * strings and numbers is an error with file and line. */
typedef bool metrics_fn(void *arg, const struct metrics_line *l, struct err *e);
bool metrics_each(const char *path, metrics_fn *fn, void *arg, struct err *e);

/* For resuming, before metrics_open: drops the lines that have all these tags and a step
 * beyond last_step, and a half-written last line. The others keep their bytes. Atomic; a
 * missing file is fine. */
bool metrics_rewind(const char *path, const struct metrics_value *tags, size_t n, double last_step,
                    struct err *e);

/* Converts to HDF5: a group POINT/PHASE/EVENT ("none" for a missing tag, "_" for a slash) with one
 * row per line in each of its datasets: one per numeric key (f64, NaN where a line lacks it) and
 * one per other tag (UTF-8, "" where a line lacks it). */
bool metrics_write_h5(const char *jsonl, const char *h5path, struct err *e);

#endif
