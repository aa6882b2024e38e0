/* adamw.c - state in fp32, one pass over memory a step. */
#include "optim/adamw.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1 << 14 }; /* elements a task: fixed, so that sums do not depend on threads */

bool adamw_init(struct adamw *o, struct tensor *const params[], int64_t n, struct err *e)
{
    memset(o, 0, sizeof *o);
    o->beta1 = 0.9;
    o->beta2 = 0.999;
    o->eps = 1e-8;
    o->n = n;
    o->slots = mem_new((size_t)n, sizeof *o->slots, "the optimiser", e);
    if (!o->slots) goto fail;
    for (int64_t i = 0; i < n; i++) {
        struct adamw_slot *s = &o->slots[i];
        CHECK(params[i]->needs_grad && params[i]->grad && params[i]->dtype == DT_F32);
        s->param = params[i];
        s->m = mem_new((size_t)tensor_count(params[i]), sizeof *s->m, "the optimiser's state", e);
        s->v = mem_new((size_t)tensor_count(params[i]), sizeof *s->v, "the optimiser's state", e);
        if (!s->m || !s->v) goto fail;
    }
    return true;
fail:
    adamw_free(o);
    return false;
}

void adamw_free(struct adamw *o)
{
    for (int64_t i = 0; o->slots && i < o->n; i++) {
        free(o->slots[i].m);
        free(o->slots[i].v);
    }
    free(o->slots);
    memset(o, 0, sizeof *o);
}

double adamw_grad_norm(const struct adamw *o)
{
    double total = 0;

    for (int64_t i = 0; i < o->n; i++) {
        const struct tensor *p = o->slots[i].param;
        int64_t n = tensor_count(p), chunks = (n + CHUNK - 1) / CHUNK;
        for (int64_t c = 0; c < chunks; c++) {
            const float *g = (const float *)(const void *)p->grad + c * CHUNK;
            int64_t end = n - c * CHUNK < CHUNK ? n - c * CHUNK : CHUNK;
            double sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int64_t j = 0; j < end; j++)
                sum += (double)g[j] * (double)g[j];
            total += sum;
        }
    }
    return sqrt(total);
}

void adamw_step(struct adamw *o, double lr, double grad_scale)
{
    double t = (double)++o->step;
    float rate = (float)(lr / (1 - pow(o->beta1, t)));
    float root = (float)(1 / sqrt(1 - pow(o->beta2, t)));
    float b1 = (float)o->beta1, b2 = (float)o->beta2, eps = (float)o->eps;
    float keep = (float)(1 - lr * o->weight_decay), scale = (float)grad_scale;
    float a1 = (float)(1 - o->beta1), a2 = (float)(1 - o->beta2);

    for (int64_t i = 0; i < o->n; i++) {
        struct adamw_slot *s = &o->slots[i];
        float *p = s->param->data, *g = (float *)(void *)s->param->grad, *m = s->m, *v = s->v;
        int64_t n = tensor_count(s->param);
#pragma omp parallel for simd schedule(static) if (parallel : n > CHUNK)
        for (int64_t j = 0; j < n; j++) {
            float grad = g[j] * scale;
            m[j] = b1 * m[j] + a1 * grad;
            v[j] = b2 * v[j] + a2 * grad * grad;
            p[j] = p[j] * keep - rate * m[j] / (sqrtf(v[j]) * root + eps);
            g[j] = 0;
        }
    }
}
