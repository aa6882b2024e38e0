/* hadamard.c - inference: the Walsh-Hadamard transform of blocks of columns, for packed latents: it
 * spreads strong and weak channels evenly, so that a block of few bits holds them equally well
 * (docs/method.md). Neighbours are strong together, so the columns are dealt out to the blocks in
 * turn. */
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <math.h>

enum { MOST = 64, FEW = 8 }; /* MOST: columns of a block; FEW: rows on one thread */

struct hadamard_args {
    struct hadamard h;
    const uint8_t *modality; /* [rows]; NULL: all TEXT */
};

/* x = H_n x, not scaled; n is a power of two. */
static void transform(real *x, int64_t n)
{
    for (int64_t half = 1; half < n; half *= 2)
        for (int64_t i = 0; i < n; i += 2 * half)
            for (int64_t k = i; k < i + half; k++) {
                const real a = x[k], b = x[k + half];
                x[k] = a + b;
                x[k + half] = a - b;
            }
}

void hadamard_row(const struct hadamard *h, const real *by, const real *x, real *y)
{
    const int64_t n = h->block, k = h->width / n;
    const real scale = (real)(1 / sqrt((double)n));
    real part[MOST];

    for (int64_t b = 0; b < k; b++) {
        for (int64_t i = 0; i < n; i++)
            part[i] = h->back ? x[b * n + i] : x[i * k + b] * by[i * k + b];
        transform(part, n);
        for (int64_t i = 0; i < n; i++)
            if (h->back)
                y[i * k + b] = part[i] * scale * by[i * k + b];
            else
                y[b * n + i] = part[i] * scale;
    }
}

static void forward(struct node *n)
{
    const struct hadamard_args *a = n->args;
    const struct tensor *x = n->in[0], *y = n->out;

#pragma omp parallel for schedule(static) if (y->rows > FEW)
    for (int64_t i = 0; i < y->rows; i++)
        for (int64_t h = 0; h < a->h.heads; h++)
            hadamard_row(&a->h, a->h.by[a->modality ? a->modality[i] : TEXT],
                         tensor_real(x) + i * x->cols + a->h.x_col + h * a->h.width,
                         tensor_real(y) + i * y->cols + h * a->h.width);
}

const uint8_t *modality_of_rows(struct tape *t, const struct span *spans, int64_t n, int64_t rows)
{
    uint8_t *modality = spans ? tape_new_array(t, uint8_t, rows) : NULL;
    int64_t row = 0;

    for (int64_t s = 0; spans && s < n; s++)
        for (; row < spans[s].end; row++)
            modality[row] = (uint8_t)spans[s].modality;
    CHECK(!spans || row == rows);
    return modality;
}

const struct op hadamard_op = {"hadamard", forward, NULL};

struct tensor *op_hadamard(struct tape *t, struct tensor *x, const struct hadamard *h)
{
    struct hadamard_args *a = tape_new_array(t, struct hadamard_args, 1);

    CHECK(x->dtype == DT_REAL && h->block <= MOST && h->width % h->block == 0);
    CHECK((h->block & (h->block - 1)) == 0 && h->x_col + h->heads * h->width <= x->cols);
    *a = (struct hadamard_args){*h, modality_of_rows(t, h->spans, h->n_spans, x->rows)};
    struct node *n = tape_node(t, &hadamard_op, &x, 1, x->rows, h->heads * h->width);
    n->args = a;
    return n->out;
}
