/* sketch.h - the gradient of a parameter as golden files of the published code hold it: a vector
 * whole, a matrix g [o, i] as o sums over its rows and i over its columns, weighted: g cos(1..i),
 * then cos(1..o) g. Include cmocka's headers first. */
#ifndef TESTS_SKETCH_H
#define TESTS_SKETCH_H

#include "tests/tiny_model.h"

/* Of g [o, i]; rows and columns are counted from `row0` and 1. */
static inline void sketch_rows(const float *g, int64_t o, int64_t i, int64_t row0, float *rows,
                               double *columns)
{
    for (int64_t r = 0; r < o; r++) {
        double sum = 0;
        for (int64_t c = 0; c < i; c++) {
            sum += (double)g[r * i + c] * cos((double)(c + 1));
            columns[c] += (double)g[r * i + c] * cos((double)(row0 + r + 1));
        }
        rows[r] = (float)sum;
    }
}

/* Of parameter i of a trained model, together with those that are parts of the same tensor in the
 * file, as q_proj's are: *parts in all. Returns the number of values in out, at most `room`. */
static inline int64_t sketch_gradient(const struct model *m, int64_t i, int64_t *parts, float *out,
                                      int64_t room)
{
    const struct param *p = &m->params[i];
    int64_t o = p->dim[0], width = 1, used = 0;
    double columns[512] = {0};

    for (int k = 1; k < p->ndim; k++)
        width *= p->dim[k];
    assert_true(width <= 512 && o + (p->ndim > 1 ? width : 0) <= room);
    for (*parts = 0; used < o; ++*parts) {
        const struct param *q = p + *parts;
        int64_t n = tensor_count(&q->t) / width;
        assert_true(q->row0 == used && strcmp(q->name, p->name) == 0);
        if (p->ndim > 1)
            sketch_rows(q->t.grad, n, width, used, out + used, columns);
        else
            memcpy(out + used, q->t.grad, (size_t)n * sizeof *out);
        used += n;
    }
    for (int64_t c = 0; p->ndim > 1 && c < width; c++)
        out[used++] = (float)columns[c];
    return used;
}

#endif
