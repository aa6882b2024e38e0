/* blocks.c - see blocks.h. Matrices are in double and stored by rows. R is block diagonal, of the
 * roots of C_b, where u is y; where it is x, R^T R = W^T C W is factored by Cholesky, and any root
 * will do: another one turns Z. */
#include "convert/blocks.h"

#include "base/mem.h"
#include "base/signals.h"
#include "convert/blocks_parts.h"
#include "convert/eigen.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* FLOOR: least eigenvalue of C_b over their mean, so that no direction is free. LIVE: least energy
 * of a component over the first one's; the fp32 sums behind S know no less. */
static const double FLOOR = 1e-4, LIVE = 1e-10;

static int64_t size_c(const struct blocks_in *in)
{
    int64_t size = 0;

    for (int64_t i = 0; i < in->blocks; i++)
        size += in->block[i].rows * in->block[i].rows;
    return size;
}

/* The mean over all rows of C's diagonal. */
static double mean_weight(const struct blocks_in *in)
{
    double sum = 0;

    for (int64_t i = 0; i < in->blocks; i++)
        for (int64_t j = 0; j < in->block[i].rows; j++)
            sum += in->block[i].c[j * (in->block[i].rows + 1)];
    return sum > 0 ? sum / (double)in->n : 1;
}

/* v^T diag(x) v [n,n], v and scratch vx [n,n]. */
static void compose(double *out, const double *v, const double *x, double *vx, int64_t n)
{
    for (int64_t i = 0; i < n * n; i++)
        vx[i] = v[i] * x[i / n];
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)n, (int)n, (int)n, 1, v, (int)n, vx,
                (int)n, 0, out, (int)n);
}

/* c and half of one block, with eigenvalues of at least FLOOR times their mean (of all blocks' if a
 * block has no weight at all). */
static bool floor_weight(const struct block *k, double mean, double *c, double *half, struct err *e)
{
    const int64_t n = k->rows;
    double *a = doubles_new(n, n, e), *v = doubles_new(n, n, e), *x = doubles_new(n, 1, e);
    bool ok = a && v && x;
    double sum = 0;

    if (ok) memcpy(a, k->c, (size_t)(n * n) * sizeof *a);
    ok = ok && eigen_top(a, n, n, x, v, e);
    for (int64_t i = 0; ok && i < n; i++)
        sum += x[i];
    for (int64_t i = 0; ok && i < n; i++)
        x[i] = fmax(x[i], FLOOR * (sum > 0 ? sum / (double)n : mean));
    if (ok) compose(c, v, x, a, n);
    for (int64_t i = 0; ok && i < n; i++)
        x[i] = sqrt(x[i]);
    if (ok) compose(half, v, x, a, n);
    free(a);
    free(v);
    free(x);
    return ok;
}

static bool floor_weights(struct blocks *b, struct err *e)
{
    const double mean = mean_weight(&b->in);
    int64_t at = 0;

    for (int64_t i = 0; i < b->in.blocks; i++) {
        const struct block *k = &b->in.block[i];
        if (!floor_weight(k, mean, b->c + at, b->half + at, e)) return false;
        at += k->rows * k->rows;
    }
    return true;
}

/* M_b S_b [rows, m]; w: W in double, unless u is y. */
static void fill_ms(const struct blocks *b, const struct block *k, const double *w)
{
    const int64_t m = b->m, ld = b->in.ld;
    double *ms = b->ms + k->row0 * m;

    if (w) {
        cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, (int)k->rows, (int)m, 1, k->s, (int)ld,
                    w + k->row0 * m, (int)m, 0, ms, (int)m);
        return;
    }
    for (int64_t i = 0; i < k->rows; i++)
        for (int64_t j = 0; j < m; j++) {
            const int64_t row = k->row0 + i;
            ms[i * m + j] = row >= j ? k->s[row * ld + j] : k->s[j * ld + row];
        }
}

/* tr C_b M_b S_b M_b^T, mm [rows, rows] being scratch. */
static double block_trace(const struct blocks *b, const struct block *k, const double *c,
                          const double *w, double *mm)
{
    const int64_t n = k->rows, m = b->m;
    const double *ms = b->ms + k->row0 * m;
    double sum = 0;

    if (w)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)n, (int)m, 1, ms, (int)m,
                    w + k->row0 * m, (int)m, 0, mm, (int)n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++)
            sum += c[i * n + j] * (w ? mm[i * n + j] : ms[i * m + k->row0 + j]);
    return sum;
}

static bool fill_blocks(struct blocks *b, const double *w, struct err *e)
{
    const double *c = b->c;

    for (int64_t i = 0; i < b->in.blocks; i++) {
        const struct block *k = &b->in.block[i];
        double *mm = doubles_new(k->rows, k->rows, e);
        if (!mm) return false;
        fill_ms(b, k, w);
        b->trace[i] = block_trace(b, k, c, w, mm);
        c += k->rows * k->rows;
        free(mm);
    }
    return signals_go_on(e);
}

void blocks_by_root(const struct blocks *b, double *a, int64_t rows, bool transposed, double *room)
{
    const int64_t m = b->m;
    const double *half = b->half;

    if (b->root) {
        cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, transposed ? CblasNoTrans : CblasTrans,
                    CblasNonUnit, (int)rows, (int)m, 1, b->root, (int)m, a, (int)m);
        return;
    }
    memcpy(room, a, (size_t)(rows * m) * sizeof *a);
    for (int64_t i = 0; i < b->in.blocks; i++) {
        const struct block *k = &b->in.block[i];
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)k->rows,
                    (int)k->rows, 1, room + k->row0, (int)m, half, (int)k->rows, 0, a + k->row0,
                    (int)m);
        half += k->rows * k->rows;
    }
}

/* root: R^T, with R^T R = W^T C W, of which the diagonal gets 1e-12 of its mean in case that W
 * lacks rank. room [n, m]. */
static bool make_root(struct blocks *b, const double *w, double *room, struct err *e)
{
    const int64_t m = b->m, n = b->in.n;
    const double *half = b->half;
    double trace = 0;

    for (int64_t i = 0; i < b->in.blocks; i++) {
        const struct block *k = &b->in.block[i];
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)k->rows, (int)m, (int)k->rows,
                    1, half, (int)k->rows, w + k->row0 * m, (int)m, 0, room + k->row0 * m, (int)m);
        half += k->rows * k->rows;
    }
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)m, (int)n, 1, room, (int)m, 0, b->root,
                (int)m);
    for (int64_t i = 0; i < m; i++)
        trace += b->root[i * (m + 1)];
    for (int64_t i = 0; i < m; i++)
        b->root[i * (m + 1)] += 1e-12 * trace / (double)m;
    return LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', (lapack_int)m, b->root, (lapack_int)m) == 0 ||
           err_set(e, "MD-SVD: the weighted projection is not finite");
}

static void transpose(double *a, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++) {
            const double keep = a[i * n + j];
            a[i * n + j] = a[j * n + i];
            a[j * n + i] = keep;
        }
}

/* Z: the top eigenvectors of R S R^T that have energy. */
static bool make_start(struct blocks *b, int64_t widest, struct err *e)
{
    const int64_t m = b->m, most = widest < m ? widest : m;
    double *a = doubles_new(m, m, e), *room = b->root ? NULL : doubles_new(m, m, e);
    double *lambda = doubles_new(most, 1, e);
    bool ok = a && (room || b->root) && lambda;

    b->start = doubles_new(most, m, e);
    ok = ok && b->start;
    for (int64_t i = 0; ok && i < m; i++)
        for (int64_t j = 0; j <= i; j++)
            a[i * m + j] = a[j * m + i] = b->in.s[i * b->in.ld + j];
    if (ok) {
        blocks_by_root(b, a, m, true, room);
        transpose(a, m);
        blocks_by_root(b, a, m, true, room);
        ok = eigen_top(a, m, most, lambda, b->start, e);
    }
    while (ok && b->live < most && lambda[b->live] > 0 && lambda[b->live] > LIVE * lambda[0])
        b->live++;
    free(a);
    free(room);
    free(lambda);
    return ok;
}

static bool is_zero(const float *w, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (fpclassify(w[i]) != FP_ZERO) return false;
    return true;
}

bool blocks_open(struct blocks *b, const struct blocks_in *in, int64_t widest, struct err *e)
{
    const int64_t n = in->n, m = in->outputs ? n : in->d, size = size_c(in);
    double *w = NULL, *room = NULL;
    bool ok;

    *b = (struct blocks){.in = *in, .m = m};
    if (is_zero(in->w, n * in->d)) return true;
    b->c = doubles_new(size, 1, e);
    b->half = doubles_new(size, 1, e);
    b->ms = doubles_new(n, m, e);
    b->trace = doubles_new(in->blocks, 1, e);
    ok = b->c && b->half && b->ms && b->trace;
    if (ok && !in->outputs) {
        w = doubles_new(n, m, e);
        room = doubles_new(n, m, e);
        b->root = doubles_new(m, m, e);
        ok = w && room && b->root;
        for (int64_t i = 0; ok && i < n * m; i++)
            w[i] = in->w[i];
    }
    ok = ok && floor_weights(b, e) && fill_blocks(b, w, e) && (!w || make_root(b, w, room, e));
    free(w);
    free(room);
    ok = ok && make_start(b, widest, e);
    if (!ok) blocks_close(b);
    return ok;
}

void blocks_close(struct blocks *b)
{
    free(b->c);
    free(b->half);
    free(b->root);
    free(b->ms);
    free(b->trace);
    free(b->start);
    memset(b, 0, sizeof *b);
}

size_t blocks_bytes(int64_t n, int64_t d, int64_t blocks, bool outputs)
{
    const int64_t m = outputs ? n : d, rows = n / blocks + 1;

    /* C and its root, M S, the start, W and its product or what the eigenproblem takes */
    return (size_t)(2 * blocks * rows * rows + n * m + 4 * m * m + (outputs ? m * m : 2 * n * m)) *
           sizeof(double);
}
