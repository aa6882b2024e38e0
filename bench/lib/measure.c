/* measure.c - see measure.h. */
#include "bench/lib/measure.h"
#include "autograd/gemm.h"
#include "autograd/onednn.h"
#include "base/bf16.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <sys/resource.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double median(double *v, int n)
{
    CHECK(n > 0);
    qsort(v, (size_t)n, sizeof *v, by_value);
    return (v[(n - 1) / 2] + v[n / 2]) / 2;
}

struct square {
    int64_t side;
    const void *a, *b; /* b is read transposed, like weights */
    real *c;
};

static void multiply_real(const struct square *s)
{
    gemm_real(s->side, s->side, s->side, mat_of(s->a, s->side, false), mat_of(s->b, s->side, true),
              false, s->c, s->side);
}

static void multiply_bf16(const struct square *s)
{
    onednn_bf16_gemm(s->side, s->side, s->side, s->a, s->side, false, s->b, s->side, true, false,
                     s->c, s->side);
}

static double best_rate(const struct square *s, void (*multiply)(const struct square *),
                        int repeats)
{
    double best = 0, flop = 2 * (double)s->side * (double)s->side * (double)s->side;

    for (int i = 0; i <= repeats; i++) {
        double begin = clock_seconds();
        multiply(s);
        double rate = 1e-9 * flop / (clock_seconds() - begin);
        if (i && rate > best) best = rate;
    }
    return best;
}

double gemm_rate(int64_t side, int repeats, struct err *e)
{
    size_t n = (size_t)(side * side);
    real *m = mem_new(3 * n, sizeof *m, "a product's matrices", e);
    double rate = -1;

    if (!m) return rate;
    for (size_t i = 0; i < n; i++) {
        m[i] = (real)(i % 7) - 3;
        m[n + i] = (real)(i % 5) - 2;
    }
    rate = best_rate(&(struct square){side, m, m + n, m + 2 * n}, multiply_real, repeats);
    free(m);
    return rate;
}

double gemm_rate_bf16(int64_t side, int repeats, struct err *e)
{
    size_t n = (size_t)(side * side);
    uint16_t *m = mem_new(2 * n, sizeof *m, "a product's matrices", e);
    real *c = m ? mem_new(n, sizeof *c, "a product's matrices", e) : NULL;
    double rate = -1;

    for (size_t i = 0; c && i < n; i++) {
        m[i] = bf16_from_f32((float)(i % 7) - 3);
        m[n + i] = bf16_from_f32((float)(i % 5) - 2);
    }
    if (c) rate = best_rate(&(struct square){side, m, m + n, c}, multiply_bf16, repeats);
    free(c);
    free(m);
    return rate;
}

/* Sums of whole words: an addition of these takes a cycle, so that it is memory
 * that is waited for. */
double memory_rate(int repeats, struct err *e)
{
    const int64_t n = ((int64_t)1 << 30) / (int64_t)sizeof(uint64_t);
    uint64_t *x = mem_new((size_t)n, sizeof *x, "memory to read", e);
    double best = -1;
    volatile uint64_t used;

    if (!x) return best;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        x[i] = (uint64_t)i;
    for (int r = 0; r < repeats; r++) {
        double begin = clock_seconds();
        uint64_t sum = 0;
#pragma omp parallel for simd schedule(static) reduction(+ : sum)
        for (int64_t i = 0; i < n; i++)
            sum += x[i];
        used = sum;
        double rate = 1e-9 * (double)n * (double)sizeof *x / (clock_seconds() - begin);
        if (rate > best) best = rate;
    }
    (void)used;
    free(x);
    return best;
}

double peak_mib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}
