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

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Query rows per task. The tasks, not the threads, own the partial sums. */
enum { CHUNK = 32 };

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

/* Shared by the tasks of one rank_mkl_add. A task is one query head and CHUNK query positions. */
struct mkl_job {
    const struct rank_sample *x;
    struct rank_dims n;
    int64_t P, queries, chunks;
    bool mask;
    float *keys;     /* [G, P, 4, T]: the pair (a, b) before, then after rotation */
    float *scratch;  /* [threads, 3*T + 4*P] */
    double *partial; /* [H, chunks, 2, P] */
};

/* Position of the j-th of `queries` evenly spaced queries; the last one is T-1. */
static int64_t query_position(const struct mkl_job *job, int64_t j)
{
    return (j + 1) * job->x->T / job->queries - 1;
}

static void spread_keys(const struct mkl_job *job)
{
    const int64_t T = job->x->T, P = job->P, G = job->n.G;
    const float still = (float)(job->x->scale * job->x->scale);

#pragma omp parallel for schedule(static)
    for (int64_t g = 0; g < G; g++)
        for (int64_t i = 0; i < P; i++) {
            float *out = job->keys + (g * P + i) * 4 * T;
            for (int64_t t = 0; t < T; t++) {
                const float *k = job->x->k + (t * G + g) * 2 * P;
                const float a = k[i], b = k[P + i];
                const float c = job->x->cos[t * P + i], s = job->x->sin[t * P + i];
                out[t] = a * still;
                out[T + t] = b * still;
                out[2 * T + t] = a * c - b * s;
                out[3 * T + t] = b * c + a * s;
            }
        }
}

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

/* q: [4,P], the head's query as (a, b) before and (a, b) after rotation, times 1/sqrt(dh). For
 * mkl-mask the unrotated part is 0: the pair is then removed from the logits. */
static void load_query(const struct mkl_job *job, float *q, int64_t h, int64_t t)
{
    const int64_t P = job->P;
    const float scale = 1.0f / sqrtf((float)job->n.dh);
    const float *src = job->x->q + (t * job->n.H + h) * 2 * P;

    for (int64_t i = 0; i < P; i++) {
        const float a = src[i] * scale, b = src[P + i] * scale;
        const float c = job->x->cos[t * P + i], s = job->x->sin[t * P + i];
        q[i] = job->mask ? 0 : a;
        q[P + i] = job->mask ? 0 : b;
        q[2 * P + i] = a * c - b * s;
        q[3 * P + i] = b * c + a * s;
    }
}

/* The logits and p of one query, over its n keys. */
static void base_softmax(const struct mkl_job *job, const float *keys, const float *q, float *logit,
                         float *p, int64_t n)
{
    const int64_t P = job->P, T = job->x->T;
    float top = -INFINITY;
    double z = 0;

    memset(logit, 0, (size_t)n * sizeof *logit);
    for (int64_t i = 0; i < P; i++) {
        const float a = q[2 * P + i], b = q[3 * P + i];
        const float *ka = keys + (i * 4 + 2) * T, *kb = ka + T;
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            logit[j] += a * ka[j] + b * kb[j];
    }
    for (int64_t j = 0; j < n; j++)
        top = logit[j] > top ? logit[j] : top;
    for (int64_t j = 0; j < n; j++)
        z += p[j] = expf(logit[j] - top);
    for (int64_t j = 0; j < n; j++)
        p[j] = (float)(p[j] / z);
}

static void mkl_task(const struct mkl_job *job, int64_t h, int64_t chunk, float *scratch)
{
    const int64_t P = job->P, T = job->x->T;
    const float *keys = job->keys + h / (job->n.H / job->n.G) * P * 4 * T;
    double *sums = job->partial + (h * job->chunks + chunk) * 2 * P;
    float *logit = scratch, *p = logit + T, *delta = p + T, *q = delta + T;

    for (int64_t r = chunk * CHUNK; r < (chunk + 1) * CHUNK && r < job->queries; r++) {
        const int64_t t = query_position(job, r), n = t + 1;
        double *sum = sums + job->x->modality[t] * P;

        load_query(job, q, h, t);
        base_softmax(job, keys, q, logit, p, n);
        for (int64_t i = 0; i < P; i++) {
            const float *k = keys + i * 4 * T;
            const float a = q[i], b = q[P + i], ra = q[2 * P + i], rb = q[3 * P + i];
#pragma omp simd
            for (int64_t j = 0; j < n; j++)
                delta[j] = a * k[j] + b * k[T + j] - ra * k[2 * T + j] - rb * k[3 * T + j];
            sum[i] += kl_shift(logit, p, delta, n);
        }
    }
}

/* Adds up the tasks' sums in a fixed order and counts the queries. */
static void mkl_gather(const struct mkl_job *job, double *sums)
{
    const int64_t P = job->P, G = job->n.G, group = job->n.H / G;

    for (int64_t j = 0; j < rank_mkl_len(&job->n); j++)
        sums[j] = 0;
    for (int64_t r = 0; r < job->queries; r++)
        sums[job->x->modality[query_position(job, r)]] += 1;
    for (int64_t h = 0; h < job->n.H; h++)
        for (int64_t c = 0; c < job->chunks; c++)
            for (int64_t m = 0; m < 2; m++)
                for (int64_t i = 0; i < P; i++)
                    sums[2 + (m * G + h / group) * P + i] +=
                        job->partial[((h * job->chunks + c) * 2 + m) * P + i];
}

bool rank_mkl_add(const struct rank_dims *n, bool mask, int64_t max_queries, double *sums,
                  const struct rank_sample *x, struct err *e)
{
    const int64_t T = x->T, P = n->dh / 2, width = 3 * T + 4 * P;
    const int64_t queries = max_queries > 0 && max_queries < T ? max_queries : T;
    const int threads = omp_get_max_threads();
    struct mkl_job job = {.x = x,
                          .n = *n,
                          .P = P,
                          .queries = queries,
                          .chunks = (queries + CHUNK - 1) / CHUNK,
                          .mask = mask};
    const int64_t tasks = n->H * job.chunks;
    bool ok = false;

    job.keys = mem_new((size_t)(n->G * P * 4), (size_t)T * sizeof(float), "RoPE ranking keys", e);
    job.scratch = mem_new((size_t)threads, (size_t)width * sizeof(float), "RoPE ranking rows", e);
    job.partial = mem_new((size_t)(tasks * 2 * P), sizeof(double), "RoPE ranking sums", e);
    if (!job.keys || !job.scratch || !job.partial) goto out;

    spread_keys(&job);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t j = 0; j < tasks; j++)
        mkl_task(&job, j / job.chunks, j % job.chunks, job.scratch + omp_get_thread_num() * width);
    mkl_gather(&job, sums);
    ok = true;
out:
    free(job.keys);
    free(job.scratch);
    free(job.partial);
    return ok;
}
