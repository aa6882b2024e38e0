/* kv_stats.c - see kv_stats.h. Rows times the root of their weight go into the sums of moments.h: a
 * group's 2R T rows are products of fp32 in blocks, summed in double. */
#include "convert/kv_stats.h"

#include "autograd/gemm.h"
#include "base/mem.h"
#include "convert/attended.h"
#include "convert/eigen.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* S_b + RIDGE (S + m I), m the mean of S's diagonal, and S + RIDGE m I, are what is used: S_b is a
 * difference of fp32 sums, whose noise in directions of little energy is about 1e-7 sqrt(width) of
 * m, and must be positive definite. */
static const double RIDGE = 1e-5;

static void shape_of(struct kv_stats *s, const struct model *m, const struct kv_how *how)
{
    const struct text_config *c = &m->cfg.text;

    CHECK(how->narrow == 0 || how->kind == KV_BLOCKS);
    *s = (struct kv_stats){.kind = how->kind,
                           .sets = how->sets,
                           .narrow = how->narrow,
                           .H = c->num_attention_heads,
                           .G = c->num_key_value_heads,
                           .dc = model_nope_dim(m),
                           .dh = c->head_dim,
                           .d = c->hidden_size};
    s->rows = s->G * (s->dc + s->dh);
    s->inputs = s->narrow ? s->narrow : s->d;
    s->outputs = s->rows < s->inputs;
    s->width = s->outputs ? s->rows : s->inputs;
}

bool kv_stats_open(struct kv_stats *s, const struct model *m, const struct kv_how *how,
                   struct err *e)
{
    const enum kv_statistics kind = how->kind;
    bool ok;

    shape_of(s, m, how);
    s->w = mem_new((size_t)s->rows, (size_t)s->d * sizeof *s->w, "weights", e);
    ok = s->w;
    if (ok && kind == KV_BLOCKS) {
        const struct attn *a = &m->layers[0].attn;
        s->wq = mem_new((size_t)(s->H * s->dc), (size_t)s->d * sizeof *s->wq, "weights", e);
        s->bq = a->q_b[1] ? mem_new((size_t)(s->H * s->dc), sizeof *s->bq, "weights", e) : NULL;
        s->wo = mem_new((size_t)(s->H * s->dh), (size_t)s->d * sizeof *s->wo, "weights", e);
        ok = s->wq && (s->bq || !a->q_b[1]) && s->wo;
    }
    if (!ok) kv_stats_close(s);
    return ok;
}

void kv_stats_close(struct kv_stats *s)
{
    kv_sums_free(&s->sums);
    free(s->w);
    free(s->wq);
    free(s->bq);
    free(s->wo);
    free(s->y);
    free(s->q);
    free(s->counted);
    free(s->mean[0]);
    free(s->mean[1]);
    free(s->received);
    free(s->ones);
    memset(s, 0, sizeof *s);
}

static void take(const struct param *p, float *to)
{
    tensor_to_real(&p->t, 0, tensor_count(&p->t), to);
}

void kv_stats_layer(struct kv_stats *s, const struct model *m, int64_t l)
{
    const struct attn *a = &m->layers[l].attn;
    const struct kv_set *set = &a->set[TEXT];

    take(set->up_k, s->w);
    take(set->up_v, s->w + tensor_count(&set->up_k->t));
    if (s->kind != KV_BLOCKS) return;
    if (a->q[1]) take(a->q[1], s->wq);
    if (s->bq) take(a->q_b[1], s->bq);
    take(a->o, s->wo);
}

bool kv_sums_new(struct kv_stats *s, struct err *e)
{
    const int64_t n = s->kind == KV_BLOCKS ? 2 * s->G : 1;
    struct kv_sums *m = &s->sums;
    bool ok;

    *m = (struct kv_sums){.narrow = m->narrow}; /* which are given first */
    m->moments = mem_new((size_t)n, sizeof *m->moments, "second moments", e);
    ok = m->moments && moments_init(&m->moments[0], s->width, e);
    for (m->n = ok; ok && m->n < n; m->n += ok)
        ok = moments_init_like(&m->moments[m->n], &m->moments[0], e);
    if (ok && s->kind == KV_BLOCKS) {
        m->queries = doubles_new(s->H * s->dc, s->dc, e);
        ok = m->queries;
    }
    for (int k = 0; ok && s->kind == KV_BLOCKS && k < s->sets; k++)
        ok = (m->total[k] = doubles_new(s->width, s->width, e)) != NULL;
    if (!ok) kv_sums_free(m);
    return ok;
}

void kv_sums_free(struct kv_sums *m)
{
    for (int64_t i = m->n - 1; i >= 0; i--) /* the first one has what they work in */
        moments_free(&m->moments[i]);
    free(m->moments);
    free(m->queries);
    free(m->total[0]);
    free(m->total[1]);
    kv_narrow_free(&m->narrow);
    memset(m, 0, sizeof *m);
}

/* counted = the root of the weight, times u. */
static void count(struct kv_stats *s, const struct kv_batch *b, const float *u, double over)
{
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < b->T; t++) {
        const double root = sqrt(s->received[t] / over);
        for (int64_t j = t * s->width; j < (t + 1) * s->width; j++)
            s->counted[j] = (float)(root * (double)u[j]);
    }
}

/* Adds the weight of the tokens, received / H, by modality. */
static void weigh(struct kv_stats *s, const struct kv_batch *b)
{
    for (int64_t t = 0; t < b->T; t++) {
        const int k = s->sets > 1 ? b->modality[t] : 0;
        s->sums.count[KV_TEXT_WEIGHT + k] += s->received[t] / (double)s->H;
    }
}

/* q [T, dc] of head h in double: Wq x + bq. */
static void queries_of(const struct kv_stats *s, int64_t h, int64_t T, double *q)
{
    for (int64_t t = 0; t < T; t++)
        for (int64_t i = h * s->dc; i < (h + 1) * s->dc; i++)
            *q++ = (double)s->q[t * s->H * s->dc + i] + (s->bq ? (double)s->bq[i] : 0);
}

/* Sums of q q^T of each head, the lower triangle. */
static bool add_queries(struct kv_stats *s, const struct kv_batch *b, struct err *e)
{
    const int64_t T = b->T, dc = s->dc, n = s->H * dc;
    const int blas_threads = openblas_get_num_threads();
    double *room;

    if (dc == 0) return true;
    if (!mem_grow(&s->q, &s->cap_q, (size_t)(T * n), sizeof *s->q, e)) return false;
    room = doubles_new(n, T, e);
    if (!room) return false;
    gemm_real(T, n, s->d, mat_of(b->x, s->d, false), mat_of(s->wq, s->d, true), false, s->q, n);
    openblas_set_num_threads(1);
#pragma omp parallel for schedule(dynamic)
    for (int64_t h = 0; h < s->H; h++) {
        queries_of(s, h, T, room + h * dc * T);
        cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)dc, (int)T, 1, room + h * dc * T,
                    (int)dc, 1, s->sums.queries + h * dc * dc, (int)dc);
    }
    openblas_set_num_threads(blas_threads);
    free(room);
    return true;
}

/* A group's tokens by what they receive, and what its heads make of them. */
static void add_group(struct kv_stats *s, const struct kv_batch *b, struct attended *a,
                      const float *u, int64_t g)
{
    const uint8_t *modality = s->sets > 1 ? b->modality : NULL;
    const int64_t R = s->H / s->G;
    const struct attended_means means = {u, modality, s->width, s->sets, {s->mean[0], s->mean[1]}};

    memset(s->received, 0, (size_t)b->T * sizeof *s->received);
    for (int64_t h = g * R; h < (g + 1) * R; h++) {
        attended_head(a, h, s->received, &means);
        for (int k = 0; k < s->sets; k++)
            moments_add(&s->sums.moments[s->G + g], s->mean[k], k ? s->ones : NULL, b->T, 0);
    }
    weigh(s, b);
    count(s, b, u, 1);
    moments_add(&s->sums.moments[g], s->counted, modality, b->T, 0);
}

static bool room_for(struct kv_stats *s, int64_t T, struct err *e)
{
    const size_t n = (size_t)(T * s->width);
    bool ok = mem_grow(&s->counted, &s->cap_counted, n, sizeof *s->counted, e) &&
              mem_grow(&s->received, &s->cap_received, (size_t)T, sizeof *s->received, e) &&
              mem_grow(&s->ones, &s->cap_ones, (size_t)T, 1, e);

    for (int k = 0; ok && s->kind == KV_BLOCKS && k < s->sets; k++)
        ok = mem_grow(&s->mean[k], &s->cap_mean[k], n, sizeof(float), e);
    if (ok) memset(s->ones, 1, (size_t)T);
    return ok;
}

static bool add_attended(struct kv_stats *s, const struct kv_batch *b, const float *u,
                         struct err *e)
{
    struct attended a = {0};
    bool ok = room_for(s, b->T, e) && attended_open(&a, b->attention, e) &&
              (s->kind != KV_BLOCKS || add_queries(s, b, e));

    if (ok && s->kind == KV_BLOCKS) {
        for (int64_t g = 0; g < s->G; g++)
            add_group(s, b, &a, u, g);
    } else if (ok) {
        memset(s->received, 0, (size_t)b->T * sizeof *s->received);
        for (int64_t h = 0; h < s->H; h++)
            attended_head(&a, h, s->received, NULL);
        weigh(s, b);
        count(s, b, u, (double)s->H);
        moments_add(s->sums.moments, s->counted, s->sets > 1 ? b->modality : NULL, b->T, 0);
    }
    attended_close(&a);
    return ok;
}

/* Of a token that is narrowed by its set. */
static int set_of(const struct kv_stats *s, const struct kv_batch *b, int64_t t)
{
    return s->narrow && s->sets > 1 ? b->modality[t] : 0;
}

/* u [T, width] of a batch; NULL: no memory. Narrowed, it is a product for each run of tokens of one
 * modality. */
static const float *rows_of(struct kv_stats *s, const struct kv_batch *b, struct err *e)
{
    const int64_t n = s->width, d = s->d;

    if (!s->outputs && !s->narrow) return b->x;
    if (!mem_grow(&s->y, &s->cap_y, (size_t)(b->T * n), sizeof *s->y, e)) return NULL;
    for (int64_t end, t = 0; t < b->T; t = end) {
        const int set = set_of(s, b, t);
        const float *by = s->narrow ? s->sums.narrow.down[set] : s->w;
        end = t + 1;
        while (end < b->T && set_of(s, b, end) == set)
            end++;
        gemm_real(end - t, n, d, mat_of(b->x + t * d, d, false), mat_of(by, d, true), false,
                  s->y + t * n, n);
    }
    return s->y;
}

bool kv_stats_add(struct kv_stats *s, const struct kv_batch *b, struct err *e)
{
    const float *u = rows_of(s, b, e);
    double *count_of = s->sums.count;

    if (!u) return false;
    for (int64_t t = 0; t < b->T; t++)
        count_of[KV_TEXT_TOKENS + (s->sets > 1 ? b->modality[t] : 0)] += 1;
    count_of[KV_SAMPLES] += (double)b->samples;
    if (s->kind != KV_TOKENS) return add_attended(s, b, u, e);
    moments_add(s->sums.moments, u, b->modality, b->T, 0);
    return true;
}

bool kv_stats_gathered(struct kv_stats *s, struct err *e)
{
    for (int64_t i = 0; i < s->sums.n; i++)
        if (!moments_finish(&s->sums.moments[i], e)) return false;
    return true;
}

bool kv_stats_sum(struct kv_stats *s, bool (*sum)(double *values, int64_t n, struct err *e),
                  struct err *e)
{
    struct kv_sums *m = &s->sums;

    for (int64_t i = 0; i < m->n; i++)
        for (int k = 0; k < 2; k++)
            if (!sum(m->moments[i].s[k], s->width * s->width, e)) return false;
    return (!m->queries || sum(m->queries, s->H * s->dc * s->dc, e)) && sum(m->count, 5, e);
}

/* Sums of a set and group to S_k and S_v, and their part of the total; all in lower triangles. */
static void finish_group(struct kv_stats *s, int k, int64_t g)
{
    double *key = s->sums.moments[g].s[k], *value = s->sums.moments[s->G + g].s[k];
    const double T = s->sums.count[KV_TEXT_TOKENS] + s->sums.count[KV_IMAGE_TOKENS];
    const double scale = 1 / (T * (double)(s->H / s->G)), G = (double)s->G;

    for (int64_t i = 0; i < s->width; i++)
        for (int64_t j = i * s->width; j <= i * (s->width + 1); j++) {
            s->sums.total[k][j] += scale * key[j] / G;
            value[j] *= scale;
            key[j] = scale * key[j] - value[j];
        }
}

static void add_ridge(struct kv_stats *s, int k)
{
    const int64_t n = s->width;
    double *total = s->sums.total[k], mean = 0;

    for (int64_t i = 0; i < n; i++)
        mean += total[i * (n + 1)] / (double)n;
    for (int64_t b = 0; b < s->sums.n; b++)
        for (int64_t i = 0; i < n; i++) {
            for (int64_t j = i * n; j <= i * (n + 1); j++)
                s->sums.moments[b].s[k][j] += RIDGE * total[j];
            s->sums.moments[b].s[k][i * (n + 1)] += RIDGE * mean;
        }
    for (int64_t i = 0; i < n; i++)
        total[i * (n + 1)] += RIDGE * mean;
}

void kv_stats_finish(struct kv_stats *s)
{
    struct kv_sums *m = &s->sums;

    if (s->kind == KV_TOKENS) {
        if (s->sets == 1) moments_merge(m->moments);
        m->count[KV_TEXT_WEIGHT] = m->count[KV_TEXT_TOKENS];
        m->count[KV_IMAGE_WEIGHT] = m->count[KV_IMAGE_TOKENS];
    }
    for (int k = 0; s->kind == KV_BLOCKS && k < s->sets; k++) {
        for (int64_t g = 0; g < s->G; g++)
            finish_group(s, k, g);
        add_ridge(s, k);
    }
}

double kv_stats_scale(const struct kv_stats *s, int set)
{
    const double *c = s->sums.count, weight = c[KV_TEXT_WEIGHT + set];
    const double T = c[KV_TEXT_TOKENS] + c[KV_IMAGE_TOKENS];

    if (!(weight > 0)) return 0;
    return (s->kind == KV_BLOCKS ? T : 1) / (weight * c[KV_SAMPLES]);
}

/* 2G moments, and the totals of two sets. */
static double block_sums(double G, double n)
{
    return 2 * G * (16 * n * n + 2048 * n) + 512 * n + 16 * n * n;
}

int64_t kv_stats_narrow(const struct model *m, double room, int64_t least)
{
    int64_t n;
    struct kv_stats s;

    shape_of(&s, m, &(struct kv_how){KV_BLOCKS, 2, 0});
    if (s.width <= least || block_sums((double)s.G, (double)s.width) <= room) return 0;
    for (n = s.width - 1; n > least && block_sums((double)s.G, (double)n) > room;)
        n--;
    return n;
}

struct kv_bytes kv_stats_bytes(const struct model *m, const struct kv_how *how, int64_t tokens)
{
    const bool blocks = how->kind == KV_BLOCKS;
    struct kv_bytes bytes = {0, 0};
    struct kv_stats s;

    shape_of(&s, m, how);
    const double n = (double)s.width, T = (double)tokens, H = (double)s.H, dc = (double)s.dc;
    const double of_rows = (double)sizeof(float) * T;
    bytes.sums = 16 * n * n + 2560 * n;
    bytes.scratch = (double)sizeof(float) * (double)(s.rows * s.d);
    if (blocks) {
        bytes.sums = block_sums((double)s.G, n) + 8 * H * dc * dc;
        if (s.narrow) bytes.sums += (double)sizeof(float) * s.sets * n * (double)(s.rows + s.d);
        bytes.scratch += (double)sizeof(float) * (H * (dc + (double)s.dh)) * (double)s.d +
                         3 * of_rows * H * dc + of_rows * n * s.sets;
    }
    if (s.outputs || s.narrow) bytes.scratch += of_rows * n;
    if (how->kind != KV_TOKENS)
        bytes.scratch += of_rows * n + 9 * T + (double)attended_bytes(tokens, s.dh);
    return bytes;
}
