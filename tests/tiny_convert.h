/* tiny_convert.h - takes a tiny model (tiny_model.h, or one of tests/data/vlm) through the steps of
 * the conversion. */
#ifndef TESTS_TINY_CONVERT_H
#define TESTS_TINY_CONVERT_H

#include "convert/mdsvd.h"
#include "convert/transform.h"
#include "tests/tiny_model.h"

/* FULL -> PARTIAL with random pairs. */
static inline void tiny_partial(struct model *m, int64_t rope_dim)
{
    int32_t pairs[TINY_LAYERS * TINY_HEADS * 4];
    struct err e = {0};

    assert_true(m->cfg.text.num_key_value_heads * rope_dim / 2 <= TINY_HEADS * 4);
    tiny_pairs(m, rope_dim, pairs, 11);
    must(model_to_partial(m, pairs, rope_dim, &e), &e);
}

/* FULL -> PARTIAL with one key of all heads' own pairs: all of them, or more in the first layer
 * than in the second, and in some heads than in others. */
static inline void tiny_shared(struct model *m, bool all)
{
    const int64_t G = m->cfg.text.num_key_value_heads, C = G * m->cfg.text.head_dim / 2;
    const int64_t n[TINY_LAYERS] = {all ? C : C / 2 + 1, all ? C : C / 2 - 1};
    int32_t *pair = calloc((size_t)(4 * C), sizeof *pair), *head = pair + 2 * C;
    struct err e = {0};

    assert_true(pair && C >= 4);
    for (int64_t l = 0, at = 0; l < TINY_LAYERS; l++)
        for (int64_t i = 0; i < n[l]; i++, at++) {
            const int64_t c = l ? C - n[l] + i : i;
            pair[at] = (int32_t)(c / G);
            head[at] = (int32_t)(c % G);
        }
    must(model_to_shared(m, &(struct shared_key){n, pair, head}, &e), &e);
    free(pair);
}

/* A random positive definite matrix [d, d], as second moments are. */
static inline double *tiny_moments(struct rng *r, int64_t d)
{
    struct err e;
    double *s = mem_new((size_t)(d * d), sizeof *s, "moments", &e);
    float *x = tiny_values(r, 2 * d * d, 1);

    assert_non_null(s);
    for (int64_t i = 0; i < d; i++)
        for (int64_t j = 0; j < d; j++)
            for (int64_t k = 0; k < 2 * d; k++)
                s[i * d + j] += (double)x[k * d + i] * (double)x[k * d + j];
    free(x);
    return s;
}

/* Rows [row0, row0 + n) of a layer's [W_kc; W_v], factored at width `r` for a
 * modality's moments. */
static inline struct mdsvd_out tiny_factor(const struct model *m, int64_t l, bool key, bool value,
                                           int64_t r, struct rng *rng)
{
    const struct kv_set *s = &m->layers[l].attn.set[TEXT];
    int64_t nk = key ? s->up_k->t.rows : 0, nv = value ? s->up_v->t.rows : 0;
    const int64_t d = m->cfg.text.hidden_size;
    float *w = tiny_values(rng, (nk + nv) * d, 0);
    double *moments = tiny_moments(rng, d);
    struct mdsvd_in in = {.w = w, .n = nk + nv, .d = d, .s = moments, .scale = 1, .r = r};
    struct mdsvd_out out = {0};
    struct err e = {0};

    if (key) tensor_to_real(&s->up_k->t, 0, nk * d, w);
    if (value) tensor_to_real(&s->up_v->t, 0, nv * d, w + nk * d);
    must(mdsvd_factor(&out, &in, 1, 1, &e), &e);
    free(w);
    free(moments);
    return out;
}

/* PARTIAL -> MLA with the conversion's own numerics; every latent has width r, or in layer l
 * latents[l], at most r. */
static inline void tiny_mla_of(struct model *m, enum kv_method method, bool decoupled, int64_t r,
                               const int64_t *latents)
{
    const struct kv_method_info *how = &kv_methods[method];
    struct mdsvd_out out[TINY_LAYERS][MODALITIES][2] = {0};
    struct factors factors[TINY_LAYERS][MODALITIES] = {0};
    int64_t k_rows = m->layers[0].attn.set[TEXT].up_k->t.rows;
    struct err e = {0};
    struct rng rng;

    rng_seed(&rng, 21, 0);
    for (int l = 0; l < TINY_LAYERS; l++) {
        for (int s = 0; s < (decoupled ? MODALITIES : 1); s++) {
            struct mdsvd_out *o = out[l][s];
            struct factors *f = &factors[l][s];
            if (how->joint) {
                o[0] = tiny_factor(m, l, true, true, r, &rng);
                *f = (struct factors){{o[0].down, NULL}, o[0].up, o[0].up + k_rows * r, r};
                continue;
            }
            if (how->key) o[0] = tiny_factor(m, l, true, false, r, &rng);
            if (how->value) o[1] = tiny_factor(m, l, false, true, r, &rng);
            *f = (struct factors){{o[0].down, o[1].down}, o[0].up, o[1].up, r};
        }
    }
    must(model_to_mla(m,
                      &(struct to_mla){method, decoupled, r,
                                       (const struct factors(*)[MODALITIES])factors, NULL, NULL,
                                       latents},
                      &e),
         &e);
    for (int l = 0; l < TINY_LAYERS; l++)
        for (int s = 0; s < MODALITIES; s++)
            for (int k = 0; k < 2; k++)
                mdsvd_free(&out[l][s][k]);
}

static inline void tiny_mla(struct model *m, enum kv_method method, bool decoupled, int64_t r)
{
    tiny_mla_of(m, method, decoupled, r, NULL);
}

/* Moves every weight whose name contains `only` (NULL: every weight) a little,
 * as training would. */
static inline void tiny_shake(struct model *m, const char *only)
{
    struct err e = {0};
    struct rng r;

    rng_seed(&r, 9, 1);
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = &m->params[i];
        if (only && !strstr(p->name, only)) continue;
        must(param_own(p, &e), &e);
        for (int64_t k = 0; k < tensor_count(&p->t); k++)
            ((float *)p->own)[k] += (float)(0.02 * rng_normal(&r));
    }
}

#endif
