/* kv_blocks.c - see kv_blocks.h. BLAS runs on one thread, so that its sums have one order. */
#include "convert/kv_blocks.h"

#include "base/mem.h"
#include "convert/eigen.h"

#include <cblas.h>
#include <stdlib.h>
#include <string.h>

/* The weight of keys against values. */
static const double BETA = 0.5;

/* Wo_h^T Wo_h [dh, dh]; wo: scratch [d, dh]. */
static void output_gram(const struct kv_stats *s, int64_t h, double *wo, double *gram)
{
    const int64_t d = s->d, dh = s->dh;

    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < dh; j++)
            wo[i * dh + j] = (double)s->wo[i * s->H * dh + h * dh + j];
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (int)dh, (int)dh, (int)d, 1, wo, (int)dh,
                wo, (int)dh, 0, gram, (int)dh);
}

/* (S_k^g)_vv [dh, dh], at least its lower triangle. */
static bool values_of(const struct kv_stats *s, int set, int64_t g, double *out, struct err *e)
{
    const int64_t row0 = s->G * s->dc + g * s->dh, n = s->dh, d = s->inputs;
    const double *key = s->sums.moments[g].s[set];
    double *w, *ws;
    bool ok;

    if (s->outputs) {
        for (int64_t i = 0; i < n; i++)
            memcpy(out + i * n, key + (row0 + i) * s->width + row0, (size_t)(i + 1) * sizeof *out);
        return true;
    }
    w = doubles_new(n, d, e);
    ws = doubles_new(n, d, e);
    ok = w && ws;
    for (int64_t i = 0; ok && i < n * d; i++)
        w[i] = (double)kv_stats_weights(s, set)[row0 * d + i];
    if (ok) {
        cblas_dsymm(CblasRowMajor, CblasRight, CblasLower, (int)n, (int)d, 1, key, (int)d, w,
                    (int)d, 0, ws, (int)d);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)n, (int)n, (int)d, 1, ws, (int)d,
                    w, (int)d, 0, out, (int)n);
    }
    free(w);
    free(ws);
    return ok;
}

/* tr(a b) of symmetric a and b [n, n], of b the lower triangle. */
static double trace_of_product(const double *a, const double *b, int64_t n)
{
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++)
            sum += (i == j ? 1 : 2) * a[i * n + j] * b[i * n + j];
    return sum;
}

/* c [dc, dc] += factor E[q_h q_h^T]. */
static void add_queries(const struct kv_stats *s, int64_t h, double factor, double *c)
{
    const int64_t n = s->dc;
    const double *q = s->sums.queries + h * n * n;
    const double T = s->sums.count[KV_TEXT_TOKENS] + s->sums.count[KV_IMAGE_TOKENS];

    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j <= i; j++) {
            c[i * n + j] += factor * q[i * n + j] / T;
            c[j * n + i] = c[i * n + j];
        }
}

/* The weights of a group: key [dc, dc], value [dh, dh]. room [d * dh + 2 * dh * dh]. */
static bool weigh(const struct kv_stats *s, int set, int64_t g, double *key, double *value,
                  double *room, struct err *e)
{
    const int64_t n = s->dh, R = s->H / s->G;
    double *gram = room + s->d * n, *vv = gram + n * n;

    if (!values_of(s, set, g, vv, e)) return false;
    for (int64_t h = g * R; h < (g + 1) * R; h++) {
        output_gram(s, h, room, gram);
        for (int64_t i = 0; i < n * n; i++)
            value[i] += gram[i];
        add_queries(s, h, BETA * BETA * trace_of_product(gram, vv, n) / (double)n, key);
    }
    return true;
}

static bool fill(struct kv_blocks *b, const struct kv_stats *s, int set, int64_t row0, int64_t rows,
                 struct err *e)
{
    const int64_t G = s->G, dc = s->dc, dh = s->dh;
    double *key = b->weights, *value = key + G * dc * dc;
    double *room = doubles_new(s->d + 2 * dh, dh, e);
    bool ok = room;

    for (int64_t g = 0; ok && g < G; g++)
        ok = weigh(s, set, g, key + g * dc * dc, value + g * dh * dh, room, e);
    for (int64_t i = 0; ok && i < 2 * G; i++) {
        const int64_t g = i % G, at = i < G ? g * dc : G * dc + g * dh;
        struct block k = {at - row0, i < G ? dc : dh, s->sums.moments[i].s[set],
                          i < G ? key + g * dc * dc : value + g * dh * dh};
        if (k.rows > 0 && at >= row0 && at < row0 + rows) b->block[b->n++] = k;
    }
    free(room);
    return ok;
}

bool kv_blocks_of(struct kv_blocks *b, const struct kv_stats *s, int set, int64_t row0,
                  int64_t rows, struct err *e)
{
    const int blas_threads = openblas_get_num_threads();
    bool ok;

    *b = (struct kv_blocks){0};
    b->block = mem_new((size_t)(2 * s->G), sizeof *b->block, "MD-SVD", e);
    b->weights = doubles_new(s->G, s->dc * s->dc + s->dh * s->dh, e);
    openblas_set_num_threads(1);
    ok = b->block && b->weights && fill(b, s, set, row0, rows, e);
    openblas_set_num_threads(blas_threads);
    for (int64_t i = 0; ok && s->outputs && i < b->n; i++)
        b->block[i].s += row0 * (s->width + 1);
    if (!ok) kv_blocks_free(b);
    return ok;
}

void kv_blocks_free(struct kv_blocks *b)
{
    free(b->block);
    free(b->weights);
    memset(b, 0, sizeof *b);
}
