/* head_linear.c - one small matrix per kv head, applied to the columns of each of its query heads:
 * how up_k is absorbed into the query (q_h up_k_g: not transposed) and up_v into the output (o_h
 * up_v_g^T). The heads of a group are adjacent in a row, so a row and a group give a matrix [heads
 * per group, a]; rows or heads, whichever are more, become the M of a product. */
#include "autograd/gemm.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <omp.h>
#include <string.h>

enum { X, W };
enum { BLOCK = 128 }; /* rows per piece of work: a weight is converted once per piece */

struct head_args {
    int64_t x_col, heads, groups, a, b; /* a, b: columns of a head in x and in y */
    bool trans;
    int threads;
};

/* The matrix of group g as the product reads it: [a, b], or [b, a]^T. */
static struct mat weight_of(const struct node *n, int64_t g, real *converted)
{
    const struct head_args *h = n->args;
    const struct tensor *w = n->in[W];
    int64_t count = h->a * h->b;
    struct mat m = {NULL, DT_REAL, h->trans ? h->a : h->b, h->trans};

    if (w->dtype == DT_REAL) {
        m.data = tensor_real(w) + g * count;
    } else {
        tensor_to_real(w, g * count, count, converted);
        m.data = converted;
    }
    return m;
}

/* out = in w for rows [r0, r1) of all heads of group g. `in` and `out` point to head 0 of row 0;
 * heads are `ic` and `oc` columns apart, rows `ild` and `old`. */
struct side {
    const real *in;
    real *out;
    int64_t ic, ild, oc, old;
};
static void group_product(const struct side *s, int64_t per, int64_t g, int64_t r0, int64_t r1,
                          struct mat w, bool add)
{
    if (per > r1 - r0 || gemm_is_apart(r1 - r0)) {
        for (int64_t i = r0; i < r1; i++)
            gemm_serial(per, s->oc, s->ic, 1,
                        mat_of(s->in + i * s->ild + g * per * s->ic, s->ic, false), w, add,
                        s->out + i * s->old + g * per * s->oc, s->oc);
        return;
    }
    for (int64_t h = g * per; h < (g + 1) * per; h++)
        gemm_serial(r1 - r0, s->oc, s->ic, 1,
                    mat_of(s->in + r0 * s->ild + h * s->ic, s->ild, false), w, add,
                    s->out + r0 * s->old + h * s->oc, s->old);
}

static void all_products(struct node *n, const struct side *s, bool flip, bool add)
{
    const struct head_args *h = n->args;
    int64_t T = n->out->rows, blocks = (T + BLOCK - 1) / BLOCK, per = h->heads / h->groups;
    real *scratch = n->scratch;

#pragma omp parallel for schedule(static) num_threads(h->threads)
    for (int64_t k = 0; k < h->groups * blocks; k++) {
        int64_t g = k / blocks, r0 = k % blocks * BLOCK, r1 = r0 + BLOCK < T ? r0 + BLOCK : T;
        real *mine = scratch ? scratch + omp_get_thread_num() * h->a * h->b : NULL;
        struct mat w = weight_of(n, g, mine);
        w.trans ^= flip;
        group_product(s, per, g, r0, r1, w, add);
    }
}

static void forward(struct node *n)
{
    const struct head_args *h = n->args;
    struct side s = {tensor_real(n->in[X]) + h->x_col,
                     tensor_real(n->out),
                     h->a,
                     n->in[X]->cols,
                     h->b,
                     n->out->cols};

    all_products(n, &s, false, false);
}

/* dw_g = sum over its heads, in order, of x_h^T dy_h, or of dy_h^T x_h if transposed. */
static void weight_backward(struct node *n)
{
    const struct head_args *h = n->args;
    struct tensor *x = n->in[X], *w = n->in[W];
    bool adds = tape_grad_adds(w);
    int64_t per = h->heads / h->groups, T = x->rows;

    for (int64_t i = 0; i < h->heads; i++) {
        struct mat xh = mat_of(tensor_real(x) + h->x_col + i * h->a, x->cols, !h->trans);
        struct mat dyh = mat_of(n->out->grad + i * h->b, n->out->cols, h->trans);
        real *dw = w->grad + i / per * h->a * h->b;
        if (h->trans)
            gemm_real(h->b, h->a, T, dyh, xh, adds || i % per, dw, h->a);
        else
            gemm_real(h->a, h->b, T, xh, dyh, adds || i % per, dw, h->b);
    }
}

static void backward(struct node *n)
{
    const struct head_args *h = n->args;
    struct tensor *x = n->in[X];

    if (x->needs_grad) {
        struct side s = {n->out->grad, x->grad + h->x_col, h->b, n->out->cols, h->a, x->cols};
        bool adds = tape_grad_adds(x);
        if (!adds && h->heads * h->a < x->cols) /* the columns outside the range */
            memset(x->grad, 0, (size_t)tensor_count(x) * sizeof(real));
        all_products(n, &s, true, adds);
    }
    if (n->in[W]->needs_grad) weight_backward(n);
}

const struct op head_linear_op = {"head_linear", forward, backward};

struct tensor *op_head_linear(struct tape *t, struct tensor *x, int64_t x_col, struct tensor *w,
                              int64_t heads, int64_t groups, bool trans)
{
    struct head_args *h = tape_new_array(t, struct head_args, 1);

    CHECK(groups > 0 && heads % groups == 0 && w->rows % groups == 0);
    *h = (struct head_args){
        x_col, heads, groups, w->rows / groups, w->cols, trans, omp_get_max_threads()};
    if (trans) {
        h->a = w->cols;
        h->b = w->rows / groups;
    }
    CHECK(x_col >= 0 && x_col + heads * h->a <= x->cols);
    struct node *n =
        tape_node(t, &head_linear_op, (struct tensor *[]){x, w}, 2, x->rows, heads * h->b);
    n->args = h;
    n->reads = (w->needs_grad ? 1u << X : 0) | (x->needs_grad ? 1u << W : 0);
    if (w->dtype != DT_REAL) n->scratch_bytes = (size_t)(h->threads * h->a * h->b) * sizeof(real);
    return n->out;
}
