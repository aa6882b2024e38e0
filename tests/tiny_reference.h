/* tiny_reference.h - an independent decoder in double precision and plain loops, from the weights
 * of the FULL model: every step of the conversion is compared with it. The caller may choose which
 * pairs are rotated, and which matrices make keys and values. */
#ifndef TESTS_TINY_REFERENCE_H
#define TESTS_TINY_REFERENCE_H

#include "model/family/llava.h"
#include "tests/tiny_model.h"

#include <math.h>

/* How it differs from the model; NULL members: not at all. */
struct reference {
    const int32_t *pairs; /* [L, G, kept] rotated pairs, or -1; the others are not */
    int64_t kept;
    double *k[TINY_LAYERS][MODALITIES], *v[TINY_LAYERS][MODALITIES]; /* [G*dh, d] in HF's order */
};

static inline double *reference_values(const struct param *p)
{
    struct err e;
    int64_t n = p ? tensor_count(&p->t) : 0;
    float *row = mem_new((size_t)n, sizeof *row, "values", &e);
    double *out = mem_new((size_t)n, sizeof *out, "values", &e);

    assert_true(row && out);
    if (p) tensor_to_real(&p->t, 0, n, row);
    for (int64_t i = 0; i < n; i++)
        out[i] = (double)row[i];
    free(row);
    return out;
}

/* y[O] = w[O,I] x[I] + b[O]; b may be NULL. */
static inline void reference_product(double *y, const double *w, const double *b, const double *x,
                                     int64_t O, int64_t I)
{
    for (int64_t i = 0; i < O; i++) {
        y[i] = b ? b[i] : 0;
        for (int64_t j = 0; j < I; j++)
            y[i] += w[i * I + j] * x[j];
    }
}

/* The same for n rows. */
static inline void reference_linear(double *y, const struct param *w, const struct param *b,
                                    const double *x, int64_t n)
{
    double *m = reference_values(w), *v = reference_values(b);

    for (int64_t i = 0; i < n; i++)
        reference_product(y + i * w->t.rows, m, b ? v : NULL, x + i * w->t.cols, w->t.rows,
                          w->t.cols);
    free(m);
    free(v);
}

static inline void reference_norm(double *y, const struct param *w, const double *x, int64_t n,
                                  double eps)
{
    double *m = reference_values(w);

    for (int64_t i = 0; i < n; i++) {
        double square = 0;
        for (int64_t j = 0; j < TINY_D; j++)
            square += x[i * TINY_D + j] * x[i * TINY_D + j] / TINY_D;
        for (int64_t j = 0; j < TINY_D; j++)
            y[i * TINY_D + j] = x[i * TINY_D + j] / sqrt(square + eps) * m[j];
    }
    free(m);
}

/* Turns the kept pairs (i, i + half) of a head by position * theta^(-2i/dh). */
static inline void reference_rotate(double *head, int64_t dh, double theta, int64_t position,
                                    const int32_t *pairs, int64_t kept)
{
    for (int64_t j = 0; j < kept; j++) {
        int64_t i = pairs ? pairs[j] : j;
        if (i < 0) continue;
        double angle = (double)position * pow(theta, -2 * (double)i / (double)dh);
        double a = head[i], b = head[i + dh / 2];
        head[i] = a * cos(angle) - b * sin(angle);
        head[i + dh / 2] = b * cos(angle) + a * sin(angle);
    }
}

/* Embeddings with the pictures in their places: [T, d]. */
static inline double *reference_embeddings(const struct model *m, const struct tiny_batch *t)
{
    const struct batch *b = &t->b.batch;
    double *x = calloc((size_t)(b->tokens * TINY_D), sizeof *x),
           *embed = reference_values(m->embed);
    const struct llava *l = m->tower;
    int64_t image = 0;

    assert_non_null(x);
    for (int64_t s = 0; s < b->n_spans; s++)
        for (int64_t i = b->spans[s].begin; i < b->spans[s].end; i++) {
            double in[TINY_TOWER], mid[TINY_D], *row = x + i * TINY_D;
            if (b->spans[s].modality == TEXT) {
                memcpy(row, embed + b->ids[i] * TINY_D, TINY_D * sizeof *row);
                continue;
            }
            for (int k = 0; k < TINY_TOWER; k++)
                in[k] = (double)t->features[image * TINY_TOWER + k];
            image++;
            reference_linear(mid, l->proj1, l->proj1_b, in, 1);
            for (int k = 0; k < TINY_D; k++)
                mid[k] *= 0.5 * (1 + erf(mid[k] / sqrt(2)));
            reference_linear(row, l->proj2, l->proj2_b, mid, 1);
        }
    free(embed);
    return x;
}

/* q [T, H*dh], k and v [T, G*dh] of a layer. */
static inline void reference_qkv(const struct model *m, const struct tiny_batch *t,
                                 const struct reference *r, int64_t l, const double *x, double *q,
                                 double *k, double *v)
{
    const struct text_config *c = &m->cfg.text;
    const struct attn *a = &m->layers[l].attn;
    const struct batch *b = &t->b.batch;
    int64_t H = TINY_HEADS, G = c->num_key_value_heads, dh = c->head_dim,
            kept = r ? r->kept : dh / 2;
    double *kb = reference_values(a->k_b), *vb = reference_values(a->v_b);

    reference_linear(q, a->q[0], a->q_b[0], x, b->tokens);
    reference_linear(k, a->k, a->k_b, x, b->tokens);
    reference_linear(v, a->v, a->v_b, x, b->tokens);
    for (int64_t s = 0; s < b->n_spans; s++)
        for (int64_t i = b->spans[s].begin; i < b->spans[s].end; i++) {
            enum modality mod = b->spans[s].modality;
            const double *row = x + i * TINY_D;
            if (r && r->k[l][mod])
                reference_product(k + i * G * dh, r->k[l][mod], a->k_b ? kb : NULL, row, G * dh,
                                  TINY_D);
            if (r && r->v[l][mod])
                reference_product(v + i * G * dh, r->v[l][mod], a->v_b ? vb : NULL, row, G * dh,
                                  TINY_D);
            for (int64_t h = 0; h < H + G; h++) {
                int64_t g = h < H ? h / (H / G) : h - H;
                reference_rotate(h < H ? q + (i * H + h) * dh : k + (i * G + g) * dh, dh,
                                 c->rope_theta, b->positions[i],
                                 r && r->pairs ? r->pairs + (l * G + g) * kept : NULL, kept);
            }
        }
    free(kb);
    free(vb);
}

/* One head of row i over the rows from `first` to i: softmax(q k / sqrt(dh)) v. */
static inline void reference_attend(const struct model *m, const double *q, const double *k,
                                    const double *v, int64_t first, int64_t i, int64_t h, double *o)
{
    int64_t H = TINY_HEADS, G = m->cfg.text.num_key_value_heads, dh = m->cfg.text.head_dim;
    int64_t g = h / (H / G);
    double p[64], top = -INFINITY, sum = 0;

    for (int64_t j = first; j <= i; j++) {
        p[j - first] = 0;
        for (int64_t c = 0; c < dh; c++)
            p[j - first] += q[(i * H + h) * dh + c] * k[(j * G + g) * dh + c] / sqrt((double)dh);
        top = fmax(top, p[j - first]);
    }
    for (int64_t j = first; j <= i; j++)
        sum += p[j - first] = exp(p[j - first] - top);
    for (int64_t c = 0; c < dh; c++) {
        o[h * dh + c] = 0;
        for (int64_t j = first; j <= i; j++)
            o[h * dh + c] += p[j - first] / sum * v[(j * G + g) * dh + c];
    }
}

static inline double *reference_new(int64_t rows, int64_t cols)
{
    double *x = calloc((size_t)(rows * cols), sizeof *x);

    assert_non_null(x);
    return x;
}

static inline void reference_layer(const struct model *m, const struct tiny_batch *t,
                                   const struct reference *r, int64_t l, double *x)
{
    const struct text_config *c = &m->cfg.text;
    const struct layer *w = &m->layers[l];
    const struct batch *b = &t->b.batch;
    int64_t T = b->tokens, f = c->intermediate_size;
    double *q = reference_new(T, TINY_D), *k = reference_new(T, TINY_D);
    double *v = reference_new(T, TINY_D), *h = reference_new(T, TINY_D);
    double *gate = reference_new(T, f), *up = reference_new(T, f);

    reference_norm(h, w->norm1, x, T, c->rms_norm_eps);
    reference_qkv(m, t, r, l, h, q, k, v);
    for (int64_t s = 0; s < b->samples; s++)
        for (int64_t i = b->begin[s]; i < b->begin[s + 1]; i++)
            for (int64_t head = 0; head < TINY_HEADS; head++)
                reference_attend(m, q, k, v, b->begin[s], i, head, h + i * TINY_D);
    reference_linear(q, w->attn.o, w->attn.o_b, h, T);
    for (int64_t i = 0; i < T * TINY_D; i++)
        x[i] += q[i];
    reference_norm(h, w->norm2, x, T, c->rms_norm_eps);
    reference_linear(gate, w->gate, NULL, h, T);
    reference_linear(up, w->up, NULL, h, T);
    for (int64_t i = 0; i < T * f; i++)
        gate[i] *= up[i] / (1 + exp(-gate[i]));
    reference_linear(q, w->down, NULL, gate, T);
    for (int64_t i = 0; i < T * TINY_D; i++)
        x[i] += q[i];
    for (int i = 0; i < 6; i++)
        free((double *[]){q, k, v, h, gate, up}[i]);
}

/* Logits of every row [T, V] of a FULL model, in new memory. */
static inline float *reference_logits(const struct model *m, const struct tiny_batch *t,
                                      const struct reference *r)
{
    int64_t T = t->b.batch.tokens;
    double *x = reference_embeddings(m, t), *y = reference_new(T, TINY_D);
    double *logits = reference_new(T, TINY_VOCAB);
    float *out = calloc((size_t)(T * TINY_VOCAB), sizeof *out);

    assert_true(out && m->state == ATTN_FULL && m->cfg.text.vocab_size == TINY_VOCAB);
    for (int64_t l = 0; l < TINY_LAYERS; l++)
        reference_layer(m, t, r, l, x);
    reference_norm(y, m->norm, x, T, m->cfg.text.rms_norm_eps);
    reference_linear(logits, m->head, NULL, y, T);
    for (int64_t i = 0; i < T * TINY_VOCAB; i++)
        out[i] = (float)logits[i];
    free(x);
    free(y);
    free(logits);
    return out;
}

#endif
