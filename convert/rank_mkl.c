/* rank_mkl.c - nearly all the time of a ranking is spent here, on H * P * queries * keys changed
 * logits.
 *
 * For query t and pair i the logits s change by delta_j, j <= t: the pair's contribution without
 * rotation (mkl-mask: 0) minus the one with it. The KL between softmax(s) and softmax(s + delta)
 * needs no second softmax:
 *     KL = log E_p[exp(delta)] - E_p[delta],  p = softmax(s),
 * and with x = delta - E_p[delta] it is log1p(E_p[phi(x)]), phi(x) = exp(x) - 1 - x >= 0: a sum of
 * positive terms, so that fp32 keeps its relative precision however small the KL is. */
#include "convert/rank_mkl.h"

#include "base/mem.h"
#include "convert/attend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t rank_mkl_len(const struct rank_dims *n)
{
    return 2 + 2 * n->G * (n->dh / 2);
}

bool rank_mkl_score(const struct rank_dims *n, const double *sums, double *score)
{
    const int64_t GP = n->G * (n->dh / 2);
    const int occur = (sums[0] > 0) + (sums[1] > 0);

    if (occur == 0) return false;
    for (int64_t j = 0; j < GP; j++) {
        score[j] = 0;
        for (int m = 0; m < 2; m++)
            if (sums[m] > 0) score[j] += sums[2 + m * GP + j] / sums[m] / occur;
    }
    return true;
}

/* Shared by the queries of one rank_mkl_add. */
struct mkl_job {
    const struct attend *a;
    bool mask;
    double *partial; /* [H * chunks, 2, P]: the tasks' sums */
};

/* exp(x) - 1 - x with full relative precision near 0, for x up to about 80
 * (meaningless beyond). With x = k ln2 + f and exp(f) = 1 + f + f2, phi = 2^k f2 + (2^k - 1) +
 * (2^k f - x), whose last parts vanish for k = 0. It has no branches or calls, so that the loop
 * over the keys can be vectorised. */
static inline float phi(float x)
{
    const float low = x < -80.0f ? -80.0f : x;
    union {
        float f;
        uint32_t u;
    } shift = {low * 1.44269504f + 12582912.0f}, pow2; /* 1.5 * 2^23: rounds to an integer */
    const float k = shift.f - 12582912.0f;
    const float f = low - k * 0.693359375f + k * 2.12194440e-4f; /* ln2 in two parts */
    const float tail =
        0.5f + f * (1.f / 6 + f * (1.f / 24 + f * (1.f / 120 + f * (1.f / 720 + f / 5040))));

    pow2.u = (shift.u - 0x4b400000u + 127u) << 23;
    return pow2.f * (f * f * tail) + ((pow2.f - 1.0f) + (pow2.f * f - x));
}

/* The same KL by log-sum-exp in double, for exponents too large for phi. */
static double kl_wide(const float *logit, const float *delta, int64_t n)
{
    double top = -INFINITY, top2 = -INFINITY, z = 0, z2 = 0, mean = 0;

    for (int64_t j = 0; j < n; j++) {
        top = fmax(top, logit[j]);
        top2 = fmax(top2, (double)logit[j] + delta[j]);
    }
    for (int64_t j = 0; j < n; j++) {
        const double w = exp(logit[j] - top);
        z += w;
        z2 += exp((double)logit[j] + delta[j] - top2);
        mean += w * delta[j];
    }
    return log(z2 / z) + top2 - top - mean / z; /* z, z2 >= 1: each includes its largest term */
}

/* KL(p || softmax(logit + delta)) over n keys, p = softmax(logit). */
static double kl_shift(const float *logit, const float *p, const float *delta, int64_t n)
{
    float mean = 0, sum = 0;
    int32_t wide = 0; /* keys beyond phi's range */

#pragma omp simd reduction(+ : mean)
    for (int64_t j = 0; j < n; j++)
        mean += p[j] * delta[j];
#pragma omp simd reduction(+ : sum, wide)
    for (int64_t j = 0; j < n; j++) {
        const float x = delta[j] - mean;
        sum += p[j] * phi(x);
        wide += x > 40.0f;
    }
    if (wide > 0) return kl_wide(logit, delta, n);
    return log1p((double)sum);
}

/* For mkl-mask the unrotated part is 0: the pair is then removed from the logits. */
static void add_query(void *arg, const struct attend_query *now)
{
    const struct mkl_job *job = arg;
    const struct rank_sample *x = job->a->x;
    const int64_t P = job->a->n.dh / 2, T = x->T, n = now->t + 1;
    double *sum = job->partial + (now->task * 2 + x->modality[now->t]) * P;
    float *delta = now->room;

    for (int64_t i = 0; i < P; i++) {
        const float *k = now->keys + i * 4 * T, *q = now->q + i;
        const float a = job->mask ? 0 : q[0], b = job->mask ? 0 : q[P];
        const float ra = q[2 * P], rb = q[3 * P];
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            delta[j] = a * k[j] + b * k[T + j] - ra * k[2 * T + j] - rb * k[3 * T + j];
        sum[i] += kl_shift(now->logit, now->p, delta, n);
    }
}

/* Adds up the tasks' sums in a fixed order and counts the queries. */
static void mkl_gather(const struct mkl_job *job, double *sums)
{
    const struct attend *a = job->a;
    const int64_t P = a->n.dh / 2, G = a->n.G, group = a->n.H / G;

    for (int64_t j = 0; j < rank_mkl_len(&a->n); j++)
        sums[j] = 0;
    for (int64_t r = 0; r < a->queries; r++)
        sums[a->x->modality[attend_position(a, r)]] += 1;
    for (int64_t task = 0; task < a->n.H * a->chunks; task++)
        for (int64_t m = 0; m < 2; m++)
            for (int64_t i = 0; i < P; i++)
                sums[2 + (m * G + task / a->chunks / group) * P + i] +=
                    job->partial[(task * 2 + m) * P + i];
}

bool rank_mkl_add(const struct rank_dims *n, bool mask, int64_t max_queries, double *sums,
                  const struct rank_sample *x, struct err *e)
{
    struct attend a = {0};
    struct mkl_job job = {.a = &a, .mask = mask};
    bool ok = attend_open(&a, n, x, max_queries, x->T, e);

    if (ok)
        job.partial = mem_new((size_t)(n->H * a.chunks), (size_t)n->dh * sizeof(double),
                              "RoPE ranking sums", e);
    ok = ok && job.partial;
    if (ok) attend_each(&a, add_query, &job);
    if (ok) mkl_gather(&job, sums);
    free(job.partial);
    attend_close(&a);
    return ok;
}
