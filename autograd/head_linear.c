/* head_linear.c - one small matrix per kv head, applied to the columns of each of its query heads:
 * how up_k is absorbed into the query (q_h up_k_g: not transposed) and up_v into the output (o_h
 * up_v_g^T). The heads of a group are adjacent in a row, so a row and a group give a matrix [heads
 * per group, a]; rows or heads, whichever are more, become the M of a product. */
#include "autograd/narrow_bf16.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"
#include "base/bf16.h"

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

/* ---- few rows in bf16, each by itself ---- */

static bool is_few(const struct node *n)
{
    return gemm_few() != FEW_F32 && n->out->rows <= NARROW_ROWS && !n->out->needs_grad;
}

/* What a thread works with: rows of a head's x, reals or bf16; a group's weight in bf16, and its
 * pairs or reals. */
struct few {
    void *x, *w;
    uint32_t *pairs;
};

static size_t few_bytes(const struct head_args *h, struct few *f, char *memory)
{
    const size_t x = NARROW_ROWS * bf16_words_count(1, h->a) * sizeof(real);
    const size_t w = (size_t)(h->a * h->b + BF16_STEP) * sizeof(real) / 64 * 64 + 64;
    const size_t pairs = (size_t)((h->a + 1) * bf16_columns(h->b) + BF16_STEP) * sizeof(real);

    if (f) *f = (struct few){memory, memory + x, (void *)(memory + x + w)};
    return x + w + pairs;
}

/* A group's weight as bf16, in place or in `room`. */
static const uint16_t *few_weight(const struct head_args *h, const struct tensor *w, int64_t g,
                                  void *room)
{
    const int64_t count = h->a * h->b;

    return mat_bf16(&(struct mat){w->data, w->dtype, count, false}, g * count, count, room);
}

/* y = x w of bf16, w [a, b]. One row walks w as it lies; several share its pairs. */
static void few_sums(const struct narrow_dots *p, const uint16_t *w, const struct few *f)
{
    const int64_t ld = bf16_columns(p->K);

    for (int64_t i = 0; i < p->M; i++) {
        uint16_t *row = (uint16_t *)f->x + i * ld;
        memset(row, 0, (size_t)ld * sizeof *row);
        bf16_row(p->a + i * p->lda, p->K, row);
    }
    if (p->M == 1) {
        bf16_values(&(struct narrow_heads){.heads = 1,
                                           .per = 1,
                                           .width = p->N,
                                           .keys = p->K,
                                           .ld = p->N,
                                           .rows = w,
                                           .sums = p->c},
                    f->x);
        return;
    }
    bf16_pairs(w, p->N, p->K, p->N, f->pairs);
    bf16_sums(&(struct bf16_sums){.M = p->M,
                                  .N = p->N,
                                  .K = p->K,
                                  .a = f->x,
                                  .row = 2 * ld,
                                  .step = 4,
                                  .b = f->pairs,
                                  .ldb = bf16_columns(p->N),
                                  .alpha = 1,
                                  .c = p->c,
                                  .ldc = p->ldc});
}

/* The same in reals that are rounded first. */
static void few_rounded(const struct narrow_dots *p, const uint16_t *w, const struct few *f)
{
    real *x = f->x, *wide = (void *)f->pairs;

    for (int64_t i = 0; i < p->M * p->K; i++)
        x[i] = bf16_round((float)p->a[i / p->K * p->lda + i % p->K]);
    for (int64_t i = 0; i < p->K * p->N; i++)
        wide[i] = bf16_to_f32(w[i]);
    narrow_sums(p->M, p->N, p->K, 1, mat_of(x, p->K, false), mat_of(wide, p->N, false), false, p->c,
                p->ldc);
}

static void few_product(const struct head_args *h, struct narrow_dots *p, const uint16_t *w,
                        const struct few *f)
{
    const bool bf16 = gemm_few() == FEW_BF16;

    p->b = (struct mat){w, DT_BF16, h->a, true};
    if (h->trans && bf16) {
        bf16_words(p, f->x);
        bf16_dots_part(p, f->x, 0, p->N);
    } else if (h->trans)
        narrow_dots(p);
    else if (bf16)
        few_sums(p, w, f);
    else
        few_rounded(p, w, f);
}

static void few_forward(struct node *n)
{
    const struct head_args *h = n->args;
    const struct tensor *x = n->in[X];
    const int64_t per = h->heads / h->groups;
    const size_t bytes = few_bytes(h, NULL, NULL);

#pragma omp parallel for schedule(static) num_threads(h->threads)
    for (int64_t g = 0; g < h->groups; g++) {
        struct few f;
        few_bytes(h, &f, (char *)n->scratch + (size_t)omp_get_thread_num() * bytes);
        const uint16_t *w = few_weight(h, n->in[W], g, f.w);
        for (int64_t i = g * per; i < (g + 1) * per; i++)
            few_product(h,
                        &(struct narrow_dots){.M = x->rows,
                                              .N = h->b,
                                              .K = h->a,
                                              .a = tensor_real(x) + h->x_col + i * h->a,
                                              .lda = x->cols,
                                              .rounded = true,
                                              .c = tensor_real(n->out) + i * h->b,
                                              .ldc = n->out->cols},
                        w, &f);
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

    if (is_few(n))
        few_forward(n);
    else
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
    if (is_few(n)) n->scratch_bytes = (size_t)h->threads * few_bytes(h, NULL, NULL);
    return n->out;
}
