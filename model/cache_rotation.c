/* cache_rotation.c - see cache_rotation.h. */
#include "model/cache_rotation.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEAST_BLOCK = 8, MOST_BLOCK = 64 };

int64_t latent_block(int64_t r)
{
    int64_t n = MOST_BLOCK;

    while (r % n)
        n /= 2;
    return n < LEAST_BLOCK ? 0 : n;
}

/* Adds the squares of w's columns to sum [w->cols]. */
static void add_squares(const struct tensor *w, real *row, double *sum)
{
    for (int64_t i = 0; i < w->rows; i++) {
        tensor_to_real(w, i * w->cols, w->cols, row);
        for (int64_t k = 0; k < w->cols; k++)
            sum[k] += (double)row[k] * (double)row[k];
    }
}

/* The factors that read a latent of set s: of a joint one both, else those of keys or of values. */
static bool measure(const struct model *m, int64_t l, int which, int64_t s, struct latent_turn *to,
                    struct err *e)
{
    const struct kv_method_info *how = &kv_methods[m->method];
    const struct kv_set *set = &m->layers[l].attn.set[s];
    const int64_t r = model_latent(m, l);
    double *sum = mem_new((size_t)r, sizeof *sum, "the rotation of latents", e);
    real *row = mem_new((size_t)r, sizeof *row, "the rotation of latents", e);
    const bool ok = sum && row;

    if (ok && which == 0 && set->up_k) add_squares(&set->up_k->t, row, sum);
    if (ok && (which == 1 || how->joint)) add_squares(&set->up_v->t, row, sum);
    for (int64_t i = 0; ok && i < r; i++) {
        const real t = (real)sqrt(sum[i]), back = 1 / t;
        const bool used = t > 0 && isfinite(t) && isfinite(back);
        to->by[s][i] = used ? t : 1;
        to->back[s][i] = used ? back : 1;
    }
    free(sum);
    free(row);
    return ok;
}

/* The latents that layer l caches: [0] of keys or of both, [1] of values. */
static bool has_latent(const struct model *m, int which)
{
    const struct kv_method_info *how = &kv_methods[m->method];

    return which == 0 ? how->key : how->value && !how->joint;
}

bool cache_rotates(const struct model *m)
{
    for (int64_t l = 0; m->state == ATTN_MLA && l < m->cfg.text.num_hidden_layers; l++)
        for (int which = 0; which < 2; which++)
            if (has_latent(m, which) && latent_block(model_latent(m, l))) return true;
    return false;
}

static bool measure_all(struct cache_how *h, const struct model *m, struct err *e)
{
    const int64_t sets = model_sets(m);
    real *at = h->memory;

    for (int64_t l = 0; l < h->layers; l++)
        for (int which = 0; which < 2; which++) {
            struct latent_turn *to = &h->turn[l][which];
            const int64_t r = model_latent(m, l);
            if (!has_latent(m, which)) continue;
            to->block = latent_block(r);
            for (int64_t s = 0; to->block && s < sets; s++, at += 2 * r) {
                to->by[s] = at;
                to->back[s] = at + r;
                if (!measure(m, l, which, s, to, e)) return false;
            }
        }
    return true;
}

bool cache_how_new(struct cache_how *h, const struct model *m, const struct cache_kind *kind,
                   struct err *e)
{
    int64_t values = 0;
    bool ok;

    *h = (struct cache_how){.kind = *kind, .layers = m->cfg.text.num_hidden_layers};
    if (!cache_kind_suits(kind, m, e)) return false;
    if (!kind->rotate) return true;
    for (int64_t l = 0; l < h->layers; l++)
        values += 2 * 2 * model_sets(m) * model_latent(m, l);
    h->turn = mem_new((size_t)h->layers, sizeof *h->turn, "the rotation of latents", e);
    h->memory = mem_new((size_t)values, sizeof *h->memory, "the rotation of latents", e);
    ok = h->turn && h->memory && measure_all(h, m, e);
    if (!ok) cache_how_free(h);
    return ok;
}

bool cache_how_renew(struct cache_how *h, const struct model *m, struct err *e)
{
    return !h->turn || measure_all(h, m, e);
}

void cache_how_free(struct cache_how *h)
{
    free(h->turn);
    free(h->memory);
    memset(h, 0, sizeof *h);
}
