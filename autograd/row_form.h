/* row_form.h - how the rows of a KV cache are held: as reals, or packed into blocks of a few bits a
 * value. A row is packed by itself, so what is held of a token does not depend on the others; but
 * for the forms of KIVI, whose newest rows wait in bf16, and some of which pack
 * several rows at a time. */
#ifndef AUTOGRAD_ROW_FORM_H
#define AUTOGRAD_ROW_FORM_H

#include "autograd/tensor.h"

/* The last block of a row is filled up with the row's last value. */
struct row_form {
    const char *name;
    int64_t values, bytes; /* of a block */
    float most;            /* the largest |value| that it can hold; 0: no limit */
    /* n blocks; NULL: the row is `real` as it is */
    void (*pack)(const struct row_form *f, uint8_t *to, const float *x, int64_t n);
    void (*unpack)(const struct row_form *f, float *x, const uint8_t *from, int64_t n);
    int bits;      /* of affine codes */
    int64_t run;   /* how many of the newest rows wait as bf16; 0: none, rows are packed at once */
    bool channels; /* a block is `run` rows of one column, instead of columns of a row */
    /* The scale and the least value of a block's codes 0..most; NULL: by its extremes. */
    void (*fit)(const float *x, int64_t n, float most, float *scale, float *least);
};
const struct row_form *row_form_at(int i); /* the first is reals; NULL: there are no more */
#define ROW_FORM_NAMES "f32", "bf16", "q8", "q4", "q2" /* of the settings: the first rows */

/* NULL: there is none of that name, of n bytes. */
const struct row_form *row_form_find(const char *name, size_t n);

/* Bytes of a packed row of `width` values. */
int64_t row_form_bytes(const struct row_form *f, int64_t width);

/* A sequence of up to `capacity` rows is held in capacity * row_form_bytes, and behind these rows,
 * of forms with a run, in so many bytes more. */
int64_t row_form_window(const struct row_form *f, int64_t width);
/* Of these, in use by n rows. */
int64_t row_form_held(const struct row_form *f, int64_t width, int64_t n);

/* Where a sequence's rows are, of a form with functions. */
struct row_sequence {
    const struct row_form *form;
    uint8_t *rows, *window;
    int64_t width;
};
struct row_sequence row_sequence_at(const struct row_form *f, void *all, int64_t sequence,
                                    int64_t capacity, int64_t width);
/* Writes row `at`, the next one. False: it holds a value that the form cannot hold (row_bad). */
bool row_write(const struct row_sequence *s, int64_t at, const real *x);
/* Columns [c0, c1) of the rows [from, end) of a sequence of n rows: to[end - from, c1 - c0], its
 * rows ld apart. */
struct row_part {
    int64_t from, end, c0, c1, ld;
};
void row_read(const struct row_sequence *s, int64_t n, const struct row_part *part, real *to);

/* The rows from `at` on, where they are held as plain bf16, without gaps; NULL: they are not. */
const uint16_t *row_plain(const struct row_sequence *s, int64_t at);

/* Row `at`, rounded to bf16, all columns: what row_read gives, rounded. False: not in this form or
 * width, or not by this CPU. */
bool row_bf16(const struct row_sequence *s, int64_t at, uint16_t *to);
/* Where it is held; its bytes are row_form_bytes. Of forms without a run. */
const void *row_held(const struct row_sequence *s, int64_t at);

/* The first value of a row that the form cannot hold, as it is not finite or
 * too large; -1: none. */
int64_t row_bad(const struct row_form *f, const real *x, int64_t width);

/* Packs a row; of forms with functions only, as all that follows. False: it holds a value that it
 * cannot hold; it is packed as zeros then. */
bool row_pack(const struct row_form *f, void *to, const real *x, int64_t width);

/* Columns [c0, c1) of a packed row; of forms without a run, like row_pack. */
void row_unpack(const struct row_form *f, real *to, const void *row, int64_t c0, int64_t c1);

#endif
