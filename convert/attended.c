/* attended.c - see attended.h. A task is a block of queries; the tasks, not the threads, own the
 * partial sums of what is received, [keys that it sees] each. */
#include "convert/attended.h"

#include "autograd/gemm.h"
#include "base/mem.h"

#include <cblas.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { QUERIES = 64 };

static int64_t seen(const struct attended_task *t) /* keys, by its last query */
{
    return t->q0 + t->n - t->begin;
}

static void cut(struct attended *s)
{
    struct attended_task *t = s->task;

    for (int64_t i = 0; i < s->a->n_samples; i++) {
        const struct attention_sample *x = &s->a->samples[i];
        for (int64_t q = x->q_begin; q < x->q_end; q += QUERIES)
            *t++ = (struct attended_task){x->q_begin, q,
                                          x->q_end - q < QUERIES ? x->q_end - q : QUERIES};
    }
    s->tasks = t - s->task;
}

bool attended_open(struct attended *s, const struct attention *a, struct err *e)
{
    const size_t threads = (size_t)omp_get_max_threads();
    int64_t tasks = 0, places = 0;

    CHECK(a->causal && !a->q_index);
    *s = (struct attended){.a = a, .T = a->part[0].q->rows, .group = -1};
    for (int p = 0; p < a->parts; p++)
        s->width += a->part[p].width;
    for (int64_t i = 0; i < a->n_samples; i++) {
        const int64_t n = a->samples[i].q_end - a->samples[i].q_begin;
        CHECK(a->samples[i].k_begin == a->samples[i].q_begin &&
              a->samples[i].k_end == a->samples[i].q_end);
        tasks += (n + QUERIES - 1) / QUERIES;
        if (n > s->longest) s->longest = n;
    }
    s->task = mem_new((size_t)tasks, sizeof *s->task, "attention", e);
    if (!s->task) return false;
    cut(s);
    for (int64_t i = 0; i < s->tasks; i++)
        places += seen(&s->task[i]);
    s->keys = mem_new((size_t)s->T, (size_t)s->width * sizeof(double), "attention", e);
    s->scratch = mem_new(threads, (size_t)(QUERIES * (s->width + s->longest)) * sizeof(double),
                         "attention", e);
    s->p = mem_new(threads, (size_t)(QUERIES * s->longest) * sizeof(float), "attention", e);
    s->place = mem_new((size_t)places, sizeof(double), "attention", e);
    if (s->keys && s->scratch && s->p && s->place) return true;
    attended_close(s);
    return false;
}

void attended_close(struct attended *s)
{
    free(s->task);
    free(s->keys);
    free(s->scratch);
    free(s->p);
    free(s->place);
    memset(s, 0, sizeof *s);
}

/* Rows [first, first + n) of head h, all parts side by side: to[n, width]. */
static void gather(const struct attended *s, bool query, int64_t h, int64_t first, int64_t n,
                   double *to)
{
    for (int64_t i = 0; i < n; i++)
        for (int p = 0; p < s->a->parts; p++) {
            const struct attention_part *part = &s->a->part[p];
            const struct tensor *x = query ? part->q : part->k;
            const real *from = tensor_real(x) + (first + i) * x->cols +
                               (query ? part->q_col : part->k_col) + h * part->width;
            for (int64_t j = 0; j < part->width; j++)
                *to++ = (double)from[j];
        }
}

/* p[n, seen] of a task's queries; 0 where a query does not see a key. q: scratch [n, width]. */
static void softmax(const struct attended *s, int64_t h, const struct attended_task *t, double *q,
                    double *p)
{
    const int64_t keys = seen(t);

    gather(s, true, h, t->q0, t->n, q);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)t->n, (int)keys, (int)s->width,
                s->a->scale, q, (int)s->width, s->keys + t->begin * s->width, (int)s->width, 0, p,
                (int)keys);
    for (int64_t i = 0; i < t->n; i++) {
        const int64_t n = t->q0 + i - t->begin + 1;
        double *row = p + i * keys, top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < n; j++)
            top = fmax(top, row[j]);
        for (int64_t j = 0; j < n; j++)
            sum += row[j] = exp(row[j] - top);
        for (int64_t j = 0; j < n; j++)
            row[j] /= sum;
        memset(row + n, 0, (size_t)(keys - n) * sizeof *row);
    }
}

/* The rows of y->mean[k] that belong to a task: a product for each run of keys of that modality. */
static void average(const struct attended_means *y, int k, const struct attended_task *t,
                    const float *p)
{
    const int64_t keys = seen(t), width = y->width;
    float *mean = y->mean[k] + t->q0 * width;
    bool any = false;

    for (int64_t end, at = 0; at < keys; at = end) {
        const int kind = y->modality ? y->modality[t->begin + at] : k;
        for (end = at + 1; end < keys && y->modality && y->modality[t->begin + end] == kind;)
            end++;
        if (!y->modality) end = keys;
        if (kind != k) continue;
        gemm_serial(t->n, width, end - at, 1, mat_of(p + at, keys, false),
                    mat_of(y->y + (t->begin + at) * width, width, false), any, mean, width);
        any = true;
    }
    if (!any) memset(mean, 0, (size_t)(t->n * width) * sizeof *mean);
}

static void run_task(const struct attended *s, int64_t h, const struct attended_task *t,
                     double *place, const struct attended_means *y)
{
    const int64_t keys = seen(t), thread = omp_get_thread_num();
    double *q = s->scratch + thread * QUERIES * (s->width + s->longest);
    double *p = q + QUERIES * s->width;
    float *rounded = s->p + thread * QUERIES * s->longest;

    softmax(s, h, t, q, p);
    memset(place, 0, (size_t)keys * sizeof *place);
    for (int64_t i = 0; i < t->n; i++)
        for (int64_t j = 0; j < keys; j++)
            place[j] += p[i * keys + j];
    if (!y) return;
    for (int64_t i = 0; i < t->n * keys; i++)
        rounded[i] = (float)p[i];
    for (int k = 0; k < y->sets; k++)
        average(y, k, t, rounded);
}

/* Where a task's part of what is received begins. */
static int64_t place_of(const struct attended *s, int64_t task)
{
    int64_t at = 0;

    for (int64_t i = 0; i < task; i++)
        at += seen(&s->task[i]);
    return at;
}

void attended_head(struct attended *s, int64_t h, double *received, const struct attended_means *y)
{
    const int blas_threads = openblas_get_num_threads();
    const int64_t group = h / (s->a->heads / s->a->groups);
    const double *place = s->place;

    openblas_set_num_threads(1);
    if (group != s->group) gather(s, false, group, 0, s->T, s->keys);
    s->group = group;
#pragma omp parallel for schedule(dynamic)
    for (int64_t i = 0; i < s->tasks; i++)
        run_task(s, h, &s->task[i], s->place + place_of(s, i), y);
    openblas_set_num_threads(blas_threads);
    for (int64_t i = 0; i < s->tasks; i++)
        for (int64_t j = 0; j < seen(&s->task[i]); j++)
            received[s->task[i].begin + j] += *place++;
}

size_t attended_bytes(int64_t tokens, int64_t width)
{
    const int64_t threads = omp_get_max_threads(), blocks = (tokens + QUERIES - 1) / QUERIES;

    return (size_t)(tokens * width + threads * QUERIES * (width + tokens) + blocks * tokens) *
               sizeof(double) +
           (size_t)(threads * QUERIES * tokens) * sizeof(float);
}
