/* attend.c - see attend.h. */
#include "convert/attend.h"

#include "base/mem.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Queries of a task. */
enum { CHUNK = 32 };

static int64_t pairs_of(const struct attend *a)
{
    return a->n.dh / 2;
}

int64_t attend_position(const struct attend *a, int64_t j)
{
    return (j + 1) * a->x->T / a->queries - 1;
}

static void spread_keys(const struct attend *a)
{
    const int64_t T = a->x->T, P = pairs_of(a), G = a->n.G;
    const float still = (float)(a->x->scale * a->x->scale);

#pragma omp parallel for schedule(static)
    for (int64_t g = 0; g < G; g++)
        for (int64_t i = 0; i < P; i++) {
            float *out = a->keys + (g * P + i) * 4 * T;
            for (int64_t t = 0; t < T; t++) {
                const float *k = a->x->k + (t * G + g) * 2 * P;
                const float x = k[i], y = k[P + i];
                const float c = a->x->cos[t * P + i], s = a->x->sin[t * P + i];
                out[t] = x * still;
                out[T + t] = y * still;
                out[2 * T + t] = x * c - y * s;
                out[3 * T + t] = y * c + x * s;
            }
        }
}

bool attend_open(struct attend *a, const struct rank_dims *n, const struct rank_sample *x,
                 int64_t max_queries, int64_t room, struct err *e)
{
    const int64_t T = x->T, queries = max_queries > 0 && max_queries < T ? max_queries : T;
    const size_t threads = (size_t)omp_get_max_threads();

    *a = (struct attend){.x = x,
                         .n = *n,
                         .queries = queries,
                         .chunk = CHUNK,
                         .chunks = (queries + CHUNK - 1) / CHUNK,
                         .room = room};
    a->keys =
        mem_new((size_t)(n->G * 2 * n->dh), (size_t)T * sizeof(float), "RoPE ranking keys", e);
    a->scratch = mem_new(threads, (size_t)(2 * T + 2 * n->dh + room) * sizeof(float),
                         "RoPE ranking rows", e);
    if (!a->keys || !a->scratch) {
        attend_close(a);
        return false;
    }
    spread_keys(a);
    return true;
}

void attend_by_head(struct attend *a)
{
    a->chunk = a->queries;
    a->chunks = 1;
}

void attend_close(struct attend *a)
{
    free(a->keys);
    free(a->scratch);
    memset(a, 0, sizeof *a);
}

/* q [4, P]: the head's query as (a, b) before and (a, b) after rotation, over sqrt(dh). */
static void load_query(const struct attend *a, float *q, int64_t h, int64_t t)
{
    const int64_t P = pairs_of(a);
    const float scale = 1.0f / sqrtf((float)a->n.dh);
    const float *src = a->x->q + (t * a->n.H + h) * 2 * P;

    for (int64_t i = 0; i < P; i++) {
        const float x = src[i] * scale, y = src[P + i] * scale;
        const float c = a->x->cos[t * P + i], s = a->x->sin[t * P + i];
        q[i] = x;
        q[P + i] = y;
        q[2 * P + i] = x * c - y * s;
        q[3 * P + i] = y * c + x * s;
    }
}

/* The logits and p of one query, over its n keys. */
static void softmax(const struct attend *a, const float *keys, const float *q, float *logit,
                    float *p, int64_t n)
{
    const int64_t P = pairs_of(a), T = a->x->T;
    float top = -INFINITY;
    double z = 0;

    memset(logit, 0, (size_t)n * sizeof *logit);
    for (int64_t i = 0; i < P; i++) {
        const float x = q[2 * P + i], y = q[3 * P + i];
        const float *kx = keys + (i * 4 + 2) * T, *ky = kx + T;
#pragma omp simd
        for (int64_t j = 0; j < n; j++)
            logit[j] += x * kx[j] + y * ky[j];
    }
    for (int64_t j = 0; j < n; j++)
        top = logit[j] > top ? logit[j] : top;
    for (int64_t j = 0; j < n; j++)
        z += p[j] = expf(logit[j] - top);
    for (int64_t j = 0; j < n; j++)
        p[j] = (float)(p[j] / z);
}

static void run_task(const struct attend *a, int64_t task, float *scratch, attend_visitor *visit,
                     void *arg)
{
    const int64_t P = pairs_of(a), T = a->x->T, h = task / a->chunks, chunk = task % a->chunks;
    float *logit = scratch, *p = logit + T, *q = p + T;
    struct attend_query now = {.h = h, .task = task, .q = q, .logit = logit, .p = p};

    now.keys = a->keys + h / (a->n.H / a->n.G) * P * 4 * T;
    now.room = q + 4 * P;
    for (int64_t r = chunk * a->chunk; r < (chunk + 1) * a->chunk && r < a->queries; r++) {
        now.t = attend_position(a, r);
        load_query(a, q, h, now.t);
        softmax(a, now.keys, q, logit, p, now.t + 1);
        visit(arg, &now);
    }
}

void attend_each(const struct attend *a, attend_visitor *visit, void *arg)
{
    const int64_t width = 2 * a->x->T + 2 * a->n.dh + a->room;
    const int threads = omp_get_max_threads();

#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t i = 0; i < a->n.H * a->chunks; i++)
        run_task(a, i, a->scratch + omp_get_thread_num() * width, visit, arg);
}
