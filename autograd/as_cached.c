/* as_cached.c - training on what a packed KV cache will hold: each row in place becomes its packed
 * self, unpacked again, so that attention reads the very values that it reads when it generates. A
 * rounding has no slope, so the gradient goes straight through: that of the row is that of what
 * became of it (Bengio, Leonard and Courville, arXiv 1308.3432).
 *
 * A row with a value that its form cannot hold becomes NaN, and so does the loss;
 * how.fault says which. */
#include "autograd/ops.h"
#include "autograd/oplist.h"
#include "autograd/row_form.h"

#include <math.h>
#include <omp.h>

enum { PIECE = 64, PIECE_BYTES = 2 * PIECE, FEW = 8 }; /* FEW: rows on one thread */

struct as_cached_args {
    struct as_cached how;
    const uint8_t *modality; /* [rows]; NULL: all TEXT */
    real *turned;            /* [threads, cols], of a turned row */
};

/* Blocks fill pieces, so a row packed by pieces is the row packed at once. The value that cannot be
 * held; NULL: there is none. */
static const real *round_row(const struct row_form *f, real *x, int64_t width)
{
    uint8_t packed[PIECE_BYTES];

    for (int64_t c = 0; c < width; c += PIECE) {
        const int64_t n = width - c < PIECE ? width - c : PIECE;
        if (!row_pack(f, packed, x + c, n)) return x + c + row_bad(f, x + c, n);
        row_unpack(f, x + c, packed, 0, n);
    }
    return NULL;
}

static const real *round_turned(const struct as_cached *how, enum modality m, real *x, real *turned,
                                int64_t width)
{
    struct hadamard h = {.heads = 1, .width = width, .block = how->block};

    hadamard_row(&h, how->by[m], x, turned);
    const real *bad = round_row(how->form, turned, width);
    h.back = true;
    if (!bad) hadamard_row(&h, how->back[m], turned, x);
    return bad;
}

/* The first row of a place counts, whichever thread comes first. */
static void note_fault(const struct as_cached *how, int64_t row, real value)
{
    struct cache_fault *f = how->fault;

    if (!f) return;
#pragma omp critical(as_cached_fault)
    if (!f->found || (f->place == how->place && row < f->row))
        *f = (struct cache_fault){true, how->place, row, (double)value};
}

static void forward(struct node *n)
{
    const struct as_cached_args *a = n->args;
    const int64_t width = n->out->cols;

#pragma omp parallel for schedule(static) if (n->out->rows > FEW)
    for (int64_t i = 0; i < n->out->rows; i++) {
        const enum modality m = a->modality ? (enum modality)a->modality[i] : TEXT;
        real *x = tensor_real(n->out) + i * width;
        const real *bad =
            a->how.block
                ? round_turned(&a->how, m, x, a->turned + omp_get_thread_num() * width, width)
                : round_row(a->how.form, x, width);
        if (bad) note_fault(&a->how, i, *bad);
        for (int64_t c = 0; c < width && bad; c++)
            x[c] = NAN;
    }
}

static void backward(struct node *n)
{
    CHECK(!tape_grad_adds(n->in[0]) && n->in[0]->grad == n->out->grad);
}

const struct op as_cached_op = {"as_cached", forward, backward};

struct tensor *op_as_cached(struct tape *t, struct tensor *x, const struct as_cached *how)
{
    const struct row_form *f = how->form;
    struct as_cached_args *a = tape_new_array(t, struct as_cached_args, 1);

    CHECK(f->pack && !f->run && PIECE % f->values == 0);
    CHECK(PIECE / f->values * f->bytes <= PIECE_BYTES);
    CHECK(!how->block || x->cols % how->block == 0);
    *a = (struct as_cached_args){*how, NULL, NULL};
    if (how->block) {
        a->modality = modality_of_rows(t, how->spans, how->n_spans, x->rows);
        a->turned = tape_new_array(t, real, omp_get_max_threads() * x->cols);
    }
    struct node *n = tape_node(t, &as_cached_op, &x, 1, x->rows, x->cols);
    n->args = a;
    tape_in_place(n);
    return n->out;
}
