/* blocks_factor.c - f, its gradient, and the factors at its end. With U = up_b, of block b:
 *
 *     f_b = tr C M S M^T - <X, C U>
 *     df_b/dD = -2 U^T C E,  E = M S - U D S,   df/dZ = df/dD R^T
 *
 * Blocks run at the same time, WAVE of them whatever the number of threads, and are added up in
 * order; BLAS and LAPACK run on one thread. */
#include "convert/blocks.h"

#include "base/mem.h"
#include "convert/blocks_parts.h"
#include "convert/eigen.h"
#include "convert/lbfgs.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { WAVE = 8, PANEL = 256 };

/* A block's part of the value, and of the gradient in D. */
struct one {
    double *ds, *gradient; /* D S_b [r, m]; [r, m] */
    double *g;             /* [r, r]: the lower triangle of G_b, then its Cholesky factor */
    double *x, *u, *cu;    /* [rows, r] */
    double *lacks;         /* [rows, m]: E */
    double value;
};

struct blocks_eval {
    const struct blocks *b;
    int64_t r, most;        /* rows of the largest block */
    double *d, *sum, *room; /* [r, m] */
    double *own;            /* of all ones */
    struct one one[WAVE];
};

static int64_t most_rows(const struct blocks *b)
{
    int64_t most = 0;

    for (int64_t i = 0; i < b->in.blocks; i++)
        most = b->in.block[i].rows > most ? b->in.block[i].rows : most;
    return most;
}

static int64_t one_size(int64_t r, int64_t m, int64_t rows)
{
    return 2 * r * m + r * r + rows * (3 * r + m);
}

struct blocks_eval *blocks_eval_new(const struct blocks *b, int64_t r, struct err *e)
{
    struct blocks_eval *v = mem_new(1, sizeof *v, "MD-SVD", e);
    const int64_t m = b->m, rows = most_rows(b), size = one_size(r, m, rows);

    if (!v) return NULL;
    *v = (struct blocks_eval){.b = b, .r = r, .most = rows};
    v->d = doubles_new(3 * r, m, e);
    v->own = doubles_new(WAVE, size, e);
    if (!v->d || !v->own) {
        blocks_eval_free(v);
        return NULL;
    }
    v->sum = v->d + r * m;
    v->room = v->sum + r * m;
    for (int i = 0; i < WAVE; i++) {
        struct one *o = &v->one[i];
        o->ds = v->own + i * size;
        o->gradient = o->ds + r * m;
        o->g = o->gradient + r * m;
        o->x = o->g + r * r;
        o->u = o->x + rows * r;
        o->cu = o->u + rows * r;
        o->lacks = o->cu + rows * r;
    }
    return v;
}

void blocks_eval_free(struct blocks_eval *v)
{
    if (!v) return;
    free(v->d);
    free(v->own);
    free(v);
}

/* c[m,n] = alpha a[m,k] op(b) + beta c, op(a) if ta. */
static void multiply(double *c, double alpha, const double *a, CBLAS_TRANSPOSE ta, const double *b,
                     CBLAS_TRANSPOSE tb, const int64_t size[3], double beta)
{
    const int m = (int)size[0], n = (int)size[1], k = (int)size[2];

    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, alpha, a, ta == CblasTrans ? m : k, b,
                tb == CblasTrans ? k : n, beta, c, n);
}

/* The lower triangle of D S_b D^T, by panels of rows. */
static void fill_g(const struct blocks_eval *v, struct one *o)
{
    const int64_t r = v->r, m = v->b->m;

    for (int64_t at = 0; at < r; at += PANEL) {
        const int64_t rows = r - at < PANEL ? r - at : PANEL;
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)(at + rows), (int)m, 1,
                    o->ds + at * m, (int)m, v->d, (int)m, 0, o->g + at * r, (int)r);
    }
}

/* X, G and U of block k at v->d; false: G is singular. */
static bool solve_up(const struct blocks_eval *v, const struct block *k, struct one *o)
{
    const struct blocks *b = v->b;
    const int64_t r = v->r, m = b->m;
    const lapack_int R = (lapack_int)r;

    cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, (int)r, (int)m, 1, k->s, (int)b->in.ld, v->d,
                (int)m, 0, o->ds, (int)m);
    fill_g(v, o);
    multiply(o->x, 1, b->ms + k->row0 * m, CblasNoTrans, v->d, CblasTrans,
             (int64_t[]){k->rows, r, m}, 0);
    memcpy(o->u, o->x, (size_t)(k->rows * r) * sizeof *o->u);
    return LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', R, o->g, R) == 0 &&
           LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'U', R, (lapack_int)k->rows, o->g, R, o->u, R) ==
               0;
}

/* f of block i, and its gradient in D. c: its C. */
static void value_of(const struct blocks_eval *v, int64_t i, const double *c, struct one *o)
{
    const struct block *k = &v->b->in.block[i];
    const int64_t r = v->r, m = v->b->m;

    o->value = INFINITY;
    if (!solve_up(v, k, o)) return;
    multiply(o->cu, 1, c, CblasNoTrans, o->u, CblasNoTrans, (int64_t[]){k->rows, r, k->rows}, 0);
    o->value = v->b->trace[i] - cblas_ddot((int)(k->rows * r), o->x, 1, o->cu, 1);
    memcpy(o->lacks, v->b->ms + k->row0 * m, (size_t)(k->rows * m) * sizeof *o->lacks);
    multiply(o->lacks, -1, o->u, CblasNoTrans, o->ds, CblasNoTrans, (int64_t[]){k->rows, m, r}, 1);
    multiply(o->gradient, -2, o->cu, CblasTrans, o->lacks, CblasNoTrans, (int64_t[]){r, m, k->rows},
             0);
}

double blocks_value(void *eval, const double *z, double *gradient)
{
    struct blocks_eval *v = eval;
    const struct blocks *b = v->b;
    const int64_t size = v->r * b->m;
    const double *c[WAVE], *next = b->c;
    double value = 0;

    memcpy(v->d, z, (size_t)size * sizeof *z);
    blocks_by_root(b, v->d, v->r, false, v->room);
    memset(v->sum, 0, (size_t)size * sizeof *v->sum);
    for (int64_t first = 0; first < b->in.blocks; first += WAVE) {
        const int64_t n = b->in.blocks - first < WAVE ? b->in.blocks - first : WAVE;
        for (int64_t i = 0; i < n; i++) {
            c[i] = next;
            next += b->in.block[first + i].rows * b->in.block[first + i].rows;
        }
#pragma omp parallel for schedule(dynamic)
        for (int64_t i = 0; i < n; i++)
            value_of(v, first + i, c[i], &v->one[i]);
        for (int64_t i = 0; i < n; i++) {
            value += v->one[i].value;
            if (isfinite(value)) cblas_daxpy((int)size, 1, v->one[i].gradient, 1, v->sum, 1);
        }
    }
    blocks_by_root(b, v->sum, v->r, true, v->room);
    memcpy(gradient, v->sum, (size_t)size * sizeof *gradient);
    return value;
}

/* ---- the factors ---- */

/* up [n, r] for v->d. */
static bool fill_up(struct blocks_eval *v, double *up, struct err *e)
{
    for (int64_t i = 0; i < v->b->in.blocks; i++) {
        const struct block *k = &v->b->in.block[i];
        if (!solve_up(v, k, &v->one[0]))
            return err_set(e, "MD-SVD: the latent's moments are singular or not finite");
        memcpy(up + k->row0 * v->r, v->one[0].u, (size_t)(k->rows * v->r) * sizeof *up);
    }
    return true;
}

/* For L = E c c^T = C C^T and C^T up^T up C = V Sigma^2 V^T: the change of the latent
 * T = Sigma^1/2 V^T C^-1 makes both moments Sigma. l [r,r] becomes C by rows (lower). v [r,r]: V^T,
 * and sigma2 [r]. */
static bool balance(struct blocks_eval *w, const double *up, double *l, double *v, double *sigma2,
                    struct err *e)
{
    const struct blocks *b = w->b;
    const int64_t r = w->r, m = b->m;
    const lapack_int R = (lapack_int)r;
    double *k = w->one[0].g;

    cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, (int)r, (int)m, b->in.scale, b->in.s,
                (int)b->in.ld, w->d, (int)m, 0, w->room, (int)m);
    multiply(l, 1, w->room, CblasNoTrans, w->d, CblasTrans, (int64_t[]){r, r, m}, 0);
    if (LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', R, l, R) != 0)
        return err_set(e, "MD-SVD: the latent's moments are singular or not finite");
    multiply(k, 1, up, CblasTrans, up, CblasNoTrans, (int64_t[]){r, r, b->in.n}, 0);
    cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, (int)r, (int)r,
                1, l, (int)r, k, (int)r);
    cblas_dtrmm(CblasRowMajor, CblasLeft, CblasLower, CblasTrans, CblasNonUnit, (int)r, (int)r, 1,
                l, (int)r, k, (int)r);
    return eigen_top(k, r, r, sigma2, v, e);
}

/* The rows of `up` [r,n] and `down` [r,d], transposed and in fp32, into out's first components. */
static void store(struct mdsvd_out *out, double *up, double *down, const struct blocks_in *in)
{
    for (int64_t i = 0; i < out->live; i++) {
        const double sign = eigen_fix_sign(up + i * in->n, in->n);
        for (int64_t j = 0; j < in->n; j++)
            out->up[j * out->r + i] = (float)up[i * in->n + j];
        for (int64_t j = 0; j < in->d; j++)
            out->down[i * in->d + j] = (float)(sign * down[i * in->d + j]);
    }
}

/* v [r,r], V^T, becomes T = Sigma^1/2 V^T C^-1, and u Sigma^-1/2 V^T C^T, by which up^T goes along;
 * of both the first `live` rows count. */
static void turn(const double *l, double *v, const double *sigma2, double *u, int64_t live,
                 int64_t r)
{
    memcpy(u, v, (size_t)(r * r) * sizeof *v);
    cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, (int)r, (int)r, 1,
                l, (int)r, u, (int)r);
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, (int)r, (int)r,
                1, l, (int)r, v, (int)r);
    for (int64_t i = 0; i < live * r; i++) {
        const double root = sqrt(sqrt(sigma2[i / r]));
        u[i] /= root;
        v[i] *= root;
    }
}

/* up^T = Sigma^-1/2 V^T C^T up^T, down = T D [W], and what they keep. */
static bool finish(struct mdsvd_out *out, struct blocks_eval *w, const double *up, struct err *e)
{
    const struct blocks_in *in = &w->b->in;
    const int64_t r = w->r, m = w->b->m, n = in->n, d = in->d;
    double *l = doubles_new(r, r, e), *v = doubles_new(r, r, e), *sigma2 = doubles_new(r, 1, e);
    double *tall = doubles_new(r, n, e), *wide = doubles_new(r, d, e), *wd = NULL;
    double *u = w->one[0].ds; /* [r, r] of it, which is not needed any more */
    bool ok = l && v && sigma2 && tall && wide && balance(w, up, l, v, sigma2, e);

    if (ok && in->outputs) ok = (wd = doubles_new(n, d, e)) != NULL;
    for (int64_t i = 0; wd && i < n * d; i++)
        wd[i] = in->w[i];
    while (ok && out->live < r && sigma2[out->live] > (double)r * 2.3e-16 * sigma2[0])
        out->live++;
    out->component = ok ? doubles_new(out->live, 1, e) : NULL;
    ok = ok && out->component;
    if (ok) {
        memcpy(out->component, sigma2, (size_t)out->live * sizeof *sigma2);
        turn(l, v, sigma2, u, out->live, r);
        multiply(tall, 1, u, CblasNoTrans, up, CblasTrans, (int64_t[]){r, n, r}, 0);
        multiply(wd ? w->room : wide, 1, v, CblasNoTrans, w->d, CblasNoTrans, (int64_t[]){r, m, r},
                 0);
        if (wd) multiply(wide, 1, w->room, CblasNoTrans, wd, CblasNoTrans, (int64_t[]){r, d, n}, 0);
        store(out, tall, wide, in);
    }
    free(l);
    free(v);
    free(sigma2);
    free(tall);
    free(wide);
    free(wd);
    return ok;
}

/* Z, which L-BFGS improves, and f there. */
static bool descend(struct mdsvd_out *out, struct blocks_eval *v, double *z, int64_t steps,
                    struct err *e)
{
    struct lbfgs_function f = {v->r * v->b->m, blocks_value, v, 0};
    bool ok;

    for (int64_t i = 0; i < v->b->in.blocks; i++)
        out->energy += v->b->trace[i];
    f.least = 1e-12 * out->energy;
    memcpy(z, v->b->start, (size_t)f.n * sizeof *z);
    ok = lbfgs_minimise(&f, z, steps, &out->error, e) &&
         (isfinite(out->error) ||
          err_set(e, "MD-SVD: the latent's moments are singular or not finite"));
    out->error = fmax(out->error, 0);
    out->kept = out->energy - out->error;
    if (ok) memcpy(v->d, z, (size_t)f.n * sizeof *z);
    if (ok) blocks_by_root(v->b, v->d, v->r, false, v->room);
    return ok;
}

static bool factor(struct mdsvd_out *out, const struct blocks *b, int64_t steps, struct err *e)
{
    const int64_t live = b->live < out->r ? b->live : out->r;
    struct blocks_eval *v = blocks_eval_new(b, live, e);
    double *z = doubles_new(live, b->m, e), *up = doubles_new(b->in.n, live, e);
    bool ok =
        v && z && up && descend(out, v, z, steps, e) && fill_up(v, up, e) && finish(out, v, up, e);

    blocks_eval_free(v);
    free(z);
    free(up);
    return ok;
}

bool blocks_factor(struct mdsvd_out *out, const struct blocks *b, int64_t r, int64_t steps,
                   struct err *e)
{
    const int blas_threads = openblas_get_num_threads();
    bool ok;

    CHECK(r > 0);
    *out = (struct mdsvd_out){.r = r};
    out->up = mem_new((size_t)b->in.n, (size_t)r * sizeof(float), "MD-SVD", e);
    out->down = mem_new((size_t)r, (size_t)b->in.d * sizeof(float), "MD-SVD", e);
    ok = out->up && out->down;
    openblas_set_num_threads(1);
    if (ok && b->live == 0)
        ok = (out->component = doubles_new(0, 1, e)) != NULL;
    else if (ok)
        ok = factor(out, b, steps, e);
    openblas_set_num_threads(blas_threads);
    if (!ok) mdsvd_free(out);
    return ok;
}

size_t blocks_scratch(int64_t n, int64_t d, int64_t r, int64_t rows, bool outputs, int64_t steps)
{
    const int64_t m = outputs ? n : d;
    const int64_t eval = 3 * r * m + WAVE * one_size(r, m, rows);
    const int64_t last = 2 * r * r + r * (n + d) + (outputs ? n * d : 0) + 3 * r * r;

    return (size_t)(eval + r * (m + n) + last) * sizeof(double) +
           (steps ? lbfgs_scratch(r * m) : 0);
}
