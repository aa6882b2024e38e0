/* refit.c - see refit.h. S_aa + lambda I = U^T U once, on one thread, so that its sums have one
 * order; then rows of S_ea, some at a time on all threads, give rows of X. LAPACK is column-major:
 * a lower triangle stored by rows is its upper triangle stored by columns, and rows are columns. */
#include "convert/refit.h"
#include "base/mem.h"
#include "convert/moments.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

enum { ROWS = 64 }; /* solved at a time */

double refit_weight(const float *want, const float *have, int64_t d)
{
    double wanted = 0, had = 0;

    for (int64_t i = 0; i < d; i++) {
        wanted += (double)want[i] * (double)want[i];
        had += (double)have[i] * (double)have[i];
    }
    if (wanted < had) wanted = had;
    return wanted > 0 ? 1 / wanted : 0;
}

/* S_aa's diagonal becomes that of S_aa + lambda I: lambda. */
static double add_ridge(struct moments *m, double ridge)
{
    double *aa = m->s[0], lambda = 0;

    for (int64_t i = 0; i < m->d; i++)
        lambda += aa[i * m->d + i];
    lambda *= ridge / (double)m->d;
    for (int64_t i = 0; i < m->d; i++)
        aa[i * m->d + i] += lambda;
    return lambda;
}

/* Rows [first, first + rows) of X, in the place of S_ea's; won[i]: by how much row i lessens
 * sum w |e|^2, which is <X, S_ea> + lambda |X|^2, as X S_aa = S_ea - lambda X. */
static bool solve_rows(const struct moments *m, int64_t first, int64_t rows, double lambda,
                       double *before, double *won)
{
    const int64_t n = m->d;
    double *x = m->s[0] + (n + first) * n;

    for (int64_t i = 0; i < rows * n; i++)
        before[i] = x[i];
    if (LAPACKE_dpotrs_work(LAPACK_COL_MAJOR, 'U', (lapack_int)n, (lapack_int)rows, m->s[0],
                            (lapack_int)n, x, (lapack_int)n) != 0)
        return false;
    for (int64_t i = 0; i < rows; i++) {
        won[first + i] = 0;
        for (int64_t j = i * n; j < (i + 1) * n; j++)
            won[first + i] += x[j] * (before[j] + lambda * x[j]);
    }
    return true;
}

/* Where the heads give nothing at all, S_ea is 0, and is X. */
static bool solve(struct moments *m, double ridge, double *room, double *won, struct err *e)
{
    const lapack_int n = (lapack_int)m->d;
    const double lambda = add_ridge(m, ridge);
    bool ok = true;

    if (lambda == 0) return true;
    ok = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'U', n, m->s[0], n) == 0;
    if (!ok)
        return err_set(e, "the attention's outputs depend on each other beyond double's digits");
#pragma omp parallel for schedule(dynamic) num_threads(m->threads) reduction(&& : ok)
    for (int64_t i = 0; i < m->extra; i += ROWS)
        ok = solve_rows(m, i, m->extra - i < ROWS ? m->extra - i : ROWS, lambda,
                        room + omp_get_thread_num() * ROWS * m->d, won) &&
             ok;
    CHECK(ok); /* of dpotrs' arguments alone */
    return true;
}

bool refit_solve(struct moments *m, double ridge, float *o, struct refit_out *out, struct err *e)
{
    const int blas_threads = openblas_get_num_threads();
    double *won = mem_new((size_t)m->extra, sizeof *won, "refit", e), *x = m->s[0] + m->d * m->d;
    double *room = mem_new((size_t)(ROWS * m->threads), (size_t)m->d * sizeof *room, "refit", e);
    bool ok = won && room;

    openblas_set_num_threads(1);
    ok = ok && solve(m, ridge, room, won, e);
    openblas_set_num_threads(blas_threads);
    out->after = out->before;
    for (int64_t i = 0; ok && i < m->extra; i++)
        out->after -= won[i];
    for (int64_t i = 0; ok && i < m->extra * m->d; i++)
        o[i] = (float)((double)o[i] + x[i]);
    free(won);
    free(room);
    return ok;
}

size_t refit_scratch(int64_t n, int64_t d)
{
    return (size_t)(ROWS * omp_get_max_threads() * n + d) * sizeof(double);
}
