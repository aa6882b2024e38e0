/* adamw.c - one pass over memory per step, in the blocks in which moments are stored. */
#include "optim/adamw.h"
#include "base/mem.h"
#include "base/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Elements per task, and partial sums of the norm: fixed, so that the number of
 * threads does not matter. */
enum { CHUNK = 1 << 14, PARTS = 64 };

static bool open_slot(struct adamw_slot *s, enum moment_type state, const struct moment_code *codes,
                      struct err *e)
{
    const enum moment_type type = moment_type_of(state, s->param);

    CHECK(s->param->needs_grad && s->param->grad && s->param->dtype == DT_F32);
    CHECK(s->part.first % MOMENT_BLOCK == 0 && s->part.first + s->part.n <= tensor_count(s->param));
    if (!moment_init(&s->m, type, s->part.n, &codes[1], e) ||
        !moment_init(&s->v, type, s->part.n, &codes[0], e))
        return false;
    s->m.first = s->v.first = s->part.first;
    return true;
}

bool adamw_init(struct adamw *o, struct tensor *const params[], const struct adamw_part *parts,
                int64_t n, enum moment_type state, struct err *e)
{
    memset(o, 0, sizeof *o);
    o->beta1 = 0.9;
    o->beta2 = 0.999;
    o->eps = 1e-8;
    o->n = n;
    o->slots = mem_new((size_t)n, sizeof *o->slots, "the optimiser", e);
    o->codes = mem_new(2, sizeof *o->codes, "the optimiser", e);
    if (!o->slots || !o->codes) goto fail;
    for (int i = 0; i < 2; i++)
        moment_code_make(&o->codes[i], i == 1);
    for (int64_t i = 0; i < n; i++) {
        struct adamw_slot *s = &o->slots[i];
        s->param = params[i];
        s->part = parts ? parts[i] : (struct adamw_part){0, tensor_count(params[i])};
        if (!open_slot(s, state, o->codes, e)) goto fail;
    }
    return true;
fail:
    adamw_free(o);
    return false;
}

void adamw_free(struct adamw *o)
{
    for (int64_t i = 0; o->slots && i < o->n; i++) {
        moment_free(&o->slots[i].m);
        moment_free(&o->slots[i].v);
    }
    free(o->slots);
    free(o->codes);
    memset(o, 0, sizeof *o);
}

/* The chunks part, part + PARTS, ... of g[n]. */
static double sum_of_squares(const float *g, int64_t n, int64_t part)
{
    double total = 0;

    for (int64_t first = part * CHUNK; first < n; first += PARTS * CHUNK) {
        int64_t end = n - first < CHUNK ? n - first : CHUNK;
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t j = 0; j < end; j++)
            sum += (double)g[first + j] * (double)g[first + j];
        total += sum;
    }
    return total;
}

double adamw_state_bytes(const struct adamw *o)
{
    double bytes = 0;

    for (int64_t i = 0; i < o->n; i++)
        bytes += moment_bytes(o->slots[i].m.type, o->slots[i].m.n) +
                 moment_bytes(o->slots[i].v.type, o->slots[i].v.n);
    return bytes;
}

double adamw_grad_squares(const struct adamw *o)
{
    double total = 0;

    for (int64_t i = 0; i < o->n; i++) {
        const struct adamw_slot *s = &o->slots[i];
        const float *g = (const float *)(const void *)s->param->grad + s->part.first;
        const int64_t n = s->part.n;
        double sum[PARTS];
#pragma omp parallel for schedule(static) if (n > CHUNK)
        for (int64_t k = 0; k < PARTS; k++)
            sum[k] = sum_of_squares(g, n, k);
        for (int k = 0; k < PARTS; k++)
            total += sum[k];
    }
    return total;
}

/* What is the same for all elements of a step. */
struct rates {
    float b1, b2, a1, a2, eps, keep, rate, root, scale;
};

static void step_block(struct adamw_slot *s, const struct rates *r, int64_t block, uint64_t key)
{
    float room[2][MOMENT_BLOCK], *m = moment_load(&s->m, block, room[0]),
                                 *v = moment_load(&s->v, block, room[1]);
    int64_t n = moment_values(&s->m, block), first = s->part.first + block * MOMENT_BLOCK;
    float *p = (float *)s->param->data + first, *g = (float *)(void *)s->param->grad + first;
    const struct rates k = *r;

#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
        float grad = g[j] * k.scale;
        m[j] = k.b1 * m[j] + k.a1 * grad;
        v[j] = k.b2 * v[j] + k.a2 * grad * grad;
        p[j] = p[j] * k.keep - k.rate * m[j] / (sqrtf(v[j]) * k.root + k.eps);
        g[j] = 0;
    }
    moment_store(&s->m, block, m, rng_at(key, 0));
    moment_store(&s->v, block, v, rng_at(key, 1));
}

void adamw_step(struct adamw *o, double lr, double grad_scale)
{
    double t = (double)++o->step;
    struct rates r = {.b1 = (float)o->beta1,
                      .b2 = (float)o->beta2,
                      .a1 = (float)(1 - o->beta1),
                      .a2 = (float)(1 - o->beta2),
                      .eps = (float)o->eps,
                      .keep = (float)(1 - lr * o->weight_decay),
                      .rate = (float)(lr / (1 - pow(o->beta1, t))),
                      .root = (float)(1 / sqrt(1 - pow(o->beta2, t))),
                      .scale = (float)grad_scale};
    uint64_t noise = rng_at(o->seed, (uint64_t)o->step);

    for (int64_t i = 0; i < o->n; i++) {
        struct adamw_slot *s = &o->slots[i];
        const int64_t n = s->part.n, blocks = moment_blocks(n);
        uint64_t key = rng_at(noise, (uint64_t)i);
#pragma omp parallel for schedule(static) if (n > CHUNK)
        for (int64_t b = 0; b < blocks; b++)
            step_block(s, &r, b, key);
    }
}
