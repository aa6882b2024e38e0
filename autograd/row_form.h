/* row_form.h - how the rows of a KV cache are held: as reals, or packed into blocks of a few bits a
 * value. A row is packed by itself, so what is held of a token does not depend on the others. */
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
    int bits; /* of affine codes */
    /* The scale and the least value of a block's codes 0..most; NULL: by its extremes. */
    void (*fit)(const float *x, int64_t n, float most, float *scale, float *least);
};
const struct row_form *row_form_at(int i); /* the first is reals; NULL: there are no more */
#define ROW_FORM_NAMES "f32", "bf16", "q8", "q4", "q2" /* of the settings: the first rows */

/* NULL: there is none of that name, of n bytes. */
const struct row_form *row_form_find(const char *name, size_t n);

/* Bytes of a row of `width` values. */
int64_t row_form_bytes(const struct row_form *f, int64_t width);

/* The first value of a row that the form cannot hold, as it is not finite or too large; -1: none. */
int64_t row_bad(const struct row_form *f, const real *x, int64_t width);

/* Packs a row; of forms with functions only, as all that follows. False: it holds a value that it
 * cannot hold; it is packed as zeros then. */
bool row_pack(const struct row_form *f, void *to, const real *x, int64_t width);

/* Columns [c0, c1) of a packed row. */
void row_unpack(const struct row_form *f, real *to, const void *row, int64_t c0, int64_t c1);

#endif
