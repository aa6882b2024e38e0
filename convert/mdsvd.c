/* mdsvd.c - factors from an eigenproblem on the smaller side of W, in double: the spectrum is
 * squared here, and fp32 would lose its tail. Nothing is inverted except singular values with
 * energy. The formulas, for W [n,d] and moments S [d,d]:
 *
 * n <= d: M = W S W^T, [n,n]; P = its top r eigenvectors, [n,r].
 * n >  d: S = C C^T by pivoted Cholesky, which stops by itself where S runs out of rank; A = W C,
 *         so that A A^T = W S W^T; P = A V / |A V| with V the top eigenvectors of A^T A. Where a
 *         component has energy e and the first one E, it is orthogonal to stronger ones to about
 *         1e-16 E / e. None below about 1e-12 E is kept (count_live), so that what this adds to the
 *         error is far below the rounding of E.
 * Then up down = P P^T W: a projection of the outputs, optimal whatever the conditioning of S.
 *
 * BLAS and LAPACK run on one thread here: with more, the order of their sums changes, and with it
 * the last bits of the factors. Threads work on whole problems instead.
 *
 * LAPACK is column-major: a lower triangle stored by rows is its upper triangle stored by columns,
 * and eigenvectors come out as rows. */
#include "convert/mdsvd.h"

#include "base/mem.h"
#include "base/signals.h"
#include "convert/eigen.h"

#include <cblas.h>
#include <float.h>
#include <inttypes.h>
#include <lapacke.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* The components of one problem, by decreasing energy. */
struct spectrum {
    int64_t k;      /* number computed: min(r, sizes) */
    double *lambda; /* [k] energies, without the scale */
    double *p;      /* [k,n]: row i is column i of P */
    double trace;
};

static double trace_of(const double *a, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += a[i * n + i];
    return sum;
}

/* c[m,n] = a[m,k] op(b); all contiguous except for the row lengths given. */
static void multiply(double *c, const double *a, int64_t lda, const double *b, int64_t ldb,
                     CBLAS_TRANSPOSE tb, int64_t m, int64_t n, int64_t k)
{
    cblas_dgemm(CblasRowMajor, CblasNoTrans, tb, (int)m, (int)n, (int)k, 1.0, a, (int)lda, b,
                (int)ldb, 0.0, c, (int)n);
}

/* ---- n <= d, or W S W^T given ---- */

/* M = W S W^T [n,n], at least its lower triangle. w: W in double. */
static bool outer_moments(double *m, const struct mdsvd_in *in, const double *w, struct err *e)
{
    const int64_t n = in->n, d = in->d;

    if (in->method == MDSVD_WEIGHT) {
        multiply(m, w, d, w, d, CblasTrans, n, n, d);
    } else if (!in->s) {
        for (int64_t i = 0; i < n; i++)
            memcpy(m + i * n, in->m + i * in->ldm, (size_t)(i + 1) * sizeof *m);
    } else {
        double *ws = doubles_new(n, d, e);
        if (!ws) return false;
        cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, (int)n, (int)d, 1.0, in->s, (int)d, w,
                    (int)d, 0.0, ws, (int)d);
        multiply(m, ws, d, w, d, CblasTrans, n, n, d);
        free(ws);
    }
    return true;
}

static bool solve_rows(struct spectrum *sp, const struct mdsvd_in *in, const double *w,
                       struct err *e)
{
    double *m = doubles_new(in->n, in->n, e);
    bool ok = m && outer_moments(m, in, w, e);

    ok = ok && signals_go_on(e);
    if (ok) {
        sp->trace = trace_of(m, in->n);
        ok = eigen_top(m, in->n, sp->k, sp->lambda, sp->p, e);
    }
    free(m);
    return ok;
}

/* ---- n > d ---- */

/* The first *rank columns of a[n,d] become W C, where S = C C^T (*rank is 0 for S = 0). */
static bool times_root(double *a, int64_t *rank, const struct mdsvd_in *in, struct err *e)
{
    const int64_t n = in->n, d = in->d;
    double *l = doubles_new(d, d, e);
    lapack_int *pivot = mem_new((size_t)d, sizeof *pivot, "MD-SVD", e), found = 0, info;
    bool ok = l && pivot;

    if (ok) {
        for (int64_t i = 0; i < d; i++)
            memcpy(l + i * d, in->s + i * d, (size_t)(i + 1) * sizeof *l);
        /* tol -1: stops at d * eps * the largest diagonal element. info 1 just means "singular". */
        info = LAPACKE_dpstrf(LAPACK_COL_MAJOR, 'U', (lapack_int)d, l, (lapack_int)d, pivot, &found,
                              -1.0);
        if (eigen_no_memory(info))
            ok = err_set(e, "out of memory for MD-SVD");
        else if (info < 0)
            ok = err_set(e, "MD-SVD: LAPACK dpstrf refuses argument %d", (int)-info);
    }
    if (ok && found > 0) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < d; j++)
                a[i * d + j] = in->w[i * d + pivot[j] - 1];
        cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, (int)n,
                    (int)found, 1.0, l, (int)d, a, (int)d);
        if (found < d) /* the rows of C below its triangle */
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)found,
                        (int)(d - found), 1.0, a + found, (int)d, l + found * d, (int)d, 1.0, a,
                        (int)d);
    }
    *rank = found;
    free(l);
    free(pivot);
    return ok;
}

/* a[n,rank], with row length d, to P: the top left singular vectors, through the Gram
 * matrix of its columns. */
static bool solve_gram(struct spectrum *sp, const double *a, int64_t n, int64_t d, int64_t rank,
                       struct err *e)
{
    double *gram = doubles_new(rank, rank, e), *v = doubles_new(sp->k, rank, e);
    bool ok = gram && v;

    if (ok) {
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)rank, (int)n, 1.0, a, (int)d, 0.0,
                    gram, (int)rank);
        sp->trace = trace_of(gram, rank);
        ok = eigen_top(gram, rank, sp->k, sp->lambda, v, e);
    }
    free(gram);
    if (ok) multiply(sp->p, v, rank, a, d, CblasTrans, sp->k, n, rank);
    for (int64_t i = 0; i < sp->k && ok; i++) {
        const double length = cblas_dnrm2((int)n, sp->p + i * n, 1);
        if (length > 0) cblas_dscal((int)n, 1 / length, sp->p + i * n, 1);
    }
    free(v);
    return ok;
}

static bool solve_columns(struct spectrum *sp, const struct mdsvd_in *in, const double *w,
                          struct err *e)
{
    double *a = NULL;
    int64_t rank = in->d;
    bool ok = true;

    if (in->method == MDSVD_ACTIVATION) {
        a = doubles_new(in->n, in->d, e);
        ok = a && times_root(a, &rank, in, e);
        sp->k = sp->k < rank ? sp->k : rank;
    }
    ok = ok && signals_go_on(e);
    if (ok && sp->k > 0) ok = solve_gram(sp, a ? a : w, in->n, in->d, rank, e);
    free(a);
    return ok;
}

/* ---- the factors ---- */

/* A computed eigenvalue is uncertain by about size * eps * the largest one: anything smaller is no
 * evidence of energy, and its component stays zero. */
static int64_t count_live(const struct spectrum *sp, const struct mdsvd_in *in, double scale)
{
    const double size = (double)(in->n > in->d ? in->n : in->d);
    int64_t live = 0;

    while (live < sp->k && scale * sp->lambda[live] > 0 &&
           sp->lambda[live] > size * DBL_EPSILON * sp->lambda[0])
        live++;
    return live;
}

/* The factors in fp32, and what they keep: per component, up = c P and down = P^T W / c with c =
 * sqrt(sigma), or sigma for the weight method. down is computed from up as rounded, also in fp32:
 * its own rounding is as large as the product's. */
static bool fill_factors(struct mdsvd_out *out, const struct spectrum *sp,
                         const struct mdsvd_in *in, struct err *e)
{
    const bool weight = in->method == MDSVD_WEIGHT;
    const double scale = weight ? 1.0 : in->scale;
    const int64_t n = in->n, d = in->d, live = count_live(sp, in, scale);

    out->component = doubles_new(live, 1, e);
    if (!out->component) return false;
    for (int64_t i = 0; i < live; i++) {
        const double sigma = sqrt(scale * sp->lambda[i]), c = weight ? sigma : sqrt(sigma);

        eigen_fix_sign(sp->p + i * n, n);
        for (int64_t j = 0; j < n; j++)
            out->up[j * in->r + i] = (float)(sp->p[i * n + j] * c);
        out->component[i] = scale * sp->lambda[i];
        out->kept += out->component[i];
    }
    if (live > 0)
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)live, (int)d, (int)n, 1, out->up,
                    (int)in->r, in->w, (int)d, 0, out->down, (int)d);
    for (int64_t i = 0; i < live; i++) {
        const double sigma = sqrt(out->component[i]), c2 = weight ? sigma * sigma : sigma;

        for (int64_t j = 0; j < d; j++)
            out->down[i * d + j] = (float)(out->down[i * d + j] / c2);
    }
    out->live = live;
    out->energy = scale * sp->trace;
    out->kept = fmin(out->kept, out->energy);
    out->error = out->energy - out->kept;
    return true;
}

static bool check_finite(const struct mdsvd_in *in, struct err *e)
{
    const double *a = in->s ? in->s : in->m;
    const int64_t size = in->s ? in->d : in->n, ld = in->s ? in->d : in->ldm;

    for (int64_t j = 0; j < in->n * in->d; j++)
        if (!isfinite(in->w[j]))
            return err_set(
                e, "MD-SVD: the weight at row %" PRId64 ", column %" PRId64 " is not finite",
                j / in->d, j % in->d);
    for (int64_t i = 0; i < size && in->method == MDSVD_ACTIVATION; i++)
        for (int64_t j = 0; j <= i; j++)
            if (!isfinite(a[i * ld + j]))
                return err_set(e,
                               "MD-SVD: the second moment at row %" PRId64 ", column %" PRId64
                               " is not finite",
                               i, j);
    return true;
}

/* Whether the eigenproblem is the one on the rows of W; and whether it uses W in double: not if M
 * is given, nor for W C, which is made from W in fp32. */
static bool by_rows(int64_t n, int64_t d, enum mdsvd_method method, bool outputs)
{
    return n <= d || (method == MDSVD_ACTIVATION && outputs);
}

static bool takes_w(bool rows, enum mdsvd_method method, bool outputs)
{
    return method == MDSVD_WEIGHT || (rows && !outputs);
}

static bool factor_one(struct mdsvd_out *out, const struct mdsvd_in *in, struct err *e)
{
    const bool rows = by_rows(in->n, in->d, in->method, !in->s);
    const int64_t size = rows ? in->n : in->d, count = in->n * in->d;
    struct spectrum sp = {.k = in->r < size ? in->r : size};
    double *w = NULL;
    bool ok = false;

    CHECK(in->n > 0 && in->d > 0 && in->r > 0 && in->n <= INT32_MAX && in->d <= INT32_MAX);
    CHECK(in->method < MDSVD_RANDOM);
    CHECK(in->method == MDSVD_WEIGHT || ((in->s || in->m) && in->scale >= 0));
    memset(out, 0, sizeof *out);
    if (!check_finite(in, e)) return false;
    sp.lambda = doubles_new(sp.k, 1, e);
    sp.p = doubles_new(sp.k, in->n, e);
    out->up = mem_new((size_t)in->n, (size_t)in->r * sizeof(float), "MD-SVD", e);
    out->down = mem_new((size_t)in->r, (size_t)in->d * sizeof(float), "MD-SVD", e);
    out->r = in->r;
    if (!sp.lambda || !sp.p || !out->up || !out->down) goto end;
    if (takes_w(rows, in->method, !in->s)) {
        w = doubles_new(in->n, in->d, e);
        if (!w) goto end;
        for (int64_t j = 0; j < count; j++)
            w[j] = in->w[j];
    }
    ok = (rows ? solve_rows(&sp, in, w, e) : solve_columns(&sp, in, w, e)) &&
         fill_factors(out, &sp, in, e);
end:
    if (!ok) mdsvd_free(out);
    free(w);
    free(sp.lambda);
    free(sp.p);
    return ok;
}

size_t mdsvd_scratch(int64_t n, int64_t d, int64_t r, enum mdsvd_method method, bool outputs)
{
    const bool rows = by_rows(n, d, method, outputs), activation = method == MDSVD_ACTIVATION;
    const int64_t size = rows ? n : d, k = r < size ? r : size;
    const int64_t held = k * n + (takes_w(rows, method, outputs) ? n * d : 0);
    const int64_t a = !rows && activation ? n * d : 0, v = rows ? 0 : k * d;
    const int64_t product = rows ? (activation && !outputs ? n * n + n * d : 0) : a + d * d;
    const int64_t solve = a + v + 3 * size * size; /* eigenvectors, LAPACK's work space */

    return (size_t)(held + (product > solve ? product : solve)) * sizeof(double);
}

bool mdsvd_factor(struct mdsvd_out *out, const struct mdsvd_in *in, int count, int jobs,
                  struct err *e)
{
    const int blas_threads = openblas_get_num_threads(), most = omp_get_max_threads();
    int failed = count; /* the first problem that failed, in order, not in time */

    CHECK(count > 0 && jobs > 0);
    memset(out, 0, (size_t)count * sizeof *out);
    openblas_set_num_threads(1);
#pragma omp parallel for schedule(dynamic) num_threads(jobs < most ? jobs : most)
    for (int i = 0; i < count; i++) {
        struct err mine;
        if (!factor_one(&out[i], &in[i], &mine)) {
#pragma omp critical(mdsvd_failure)
            if (i < failed) {
                failed = i;
                *e = mine;
            }
        }
    }
    openblas_set_num_threads(blas_threads);
    for (int i = 0; i < count && failed < count; i++)
        mdsvd_free(&out[i]);
    return failed == count;
}

void mdsvd_free(struct mdsvd_out *out)
{
    free(out->up);
    free(out->down);
    free(out->component);
    memset(out, 0, sizeof *out);
}

bool mdsvd_error(double *error, const struct mdsvd_in *in, const float *up, const float *down,
                 struct err *e)
{
    const int64_t n = in->n, d = in->d, r = in->r;
    double *diff = doubles_new(n, d, e), *ds = in->s ? doubles_new(n, d, e) : NULL;
    bool ok = diff && (ds || !in->s);

#pragma omp parallel for if (ok)
    for (int64_t i = 0; i < (ok ? n : 0); i++) {
        double *row = diff + i * d;
        for (int64_t j = 0; j < d; j++)
            row[j] = in->w[i * d + j];
        for (int64_t c = 0; c < r; c++)
            for (int64_t j = 0; j < d; j++)
                row[j] -= (double)up[i * r + c] * down[c * d + j];
    }
    if (ok) {
        if (ds)
            cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, (int)n, (int)d, 1.0, in->s, (int)d,
                        diff, (int)d, 0.0, ds, (int)d);
        *error = 0;
        for (int64_t j = 0; j < n * d; j++)
            *error += diff[j] * (ds ? ds : diff)[j];
        if (ds) *error *= in->scale;
    }
    free(diff);
    free(ds);
    return ok;
}
