/* deepseek_tensors.c - the weights of deepseek.h. They are made row by row and
 * never held as a whole. */
#include "base/mem.h"
#include "model/deepseek_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* eps of kv_a_layernorm, which is transformers' default and not the config's rms_norm_eps, and the
 * weight w. The latent gets the factor sqrt(eps) / w, so that what c^2 adds to eps is mean(c^2) /
 * w^2 of it: 4e-9 for c of 1000, below fp32's rounding. A power of two is exact in every dtype. */
#define NORM_EPS 1e-6f
#define NORM_WEIGHT 0x1p24f

enum made { Q, KV_A, NORM, KV_B, MADE };
static const char *const made_names[MADE] = {"q_proj", "kv_a_proj_with_mqa", "kv_a_layernorm",
                                             "kv_b_proj"};

/* Rows of width d or r into tensor `to` of the file. */
struct rows {
    struct st_writer *w;
    size_t to;
    float *buf; /* as wide as any row */
};

static bool put_zeros(struct rows *r, int64_t width, struct err *e)
{
    memset(r->buf, 0, (size_t)width * sizeof *r->buf);
    return st_write_f32(r->w, r->to, r->buf, (size_t)width, e);
}

/* Rows [row, row + n) of p, times s. */
static bool put(struct rows *r, const struct param *p, int64_t row, int64_t n, double s,
                struct err *e)
{
    const int64_t width = p->t.cols;
    bool ok = true;

    for (int64_t i = row; ok && i < row + n; i++) {
        tensor_to_real(&p->t, i * width, width, r->buf);
        for (int64_t k = 0; s != 1 && k < width; k++)
            r->buf[k] = (float)(s * (double)r->buf[k]);
        ok = st_write_f32(r->w, r->to, r->buf, (size_t)width, e);
    }
    return ok;
}

/* The rotated rows [R] of layer l, from those of p from `row` on: all real parts, then
 * all imaginary ones. */
static bool put_rotated(struct rows *r, const struct deepseek_layout *y, int64_t l,
                        const struct param *p, int64_t row, double s, struct err *e)
{
    const int64_t n = model_rope_dim(y->m, l) / 2;
    bool ok = true;

    for (int64_t i = 0; ok && i < y->places; i++) {
        const int64_t c = y->from[l * y->places + i];
        ok = c < 0 ? put_zeros(r, p->t.cols, e) && put_zeros(r, p->t.cols, e)
                   : put(r, p, row + c, 1, s, e) && put(r, p, row + n + c, 1, s, e);
    }
    return ok;
}

static bool put_q(struct rows *r, const struct deepseek_layout *y, int64_t l, struct err *e)
{
    const struct text_config *c = &y->m->cfg.text;
    const struct attn *a = &y->m->layers[l].attn;
    const int64_t dr = model_rope_dim(y->m, l), dh = c->head_dim;
    const double s = sqrt((double)(dh + 2 * y->places) / (double)dh);
    const double f = model_rope_scale(c); /* of rotated queries, and of rotated keys */
    bool ok = true;

    for (int64_t h = 0; ok && h < c->num_attention_heads; h++)
        ok = put(r, a->q[1], h * dh, dh, s, e) &&
             put_rotated(r, y, l, a->q[0], h * dr, s * f * f, e);
    return ok;
}

static bool put_kv_a(struct rows *r, const struct deepseek_layout *y, int64_t l, struct err *e)
{
    const struct attn *a = &y->m->layers[l].attn;
    const double s = sqrt((double)NORM_EPS) / (double)NORM_WEIGHT;

    return put(r, a->set[TEXT].down[0], 0, y->m->latent, s, e) &&
           put_rotated(r, y, l, a->k, 0, 1, e);
}

static bool put_norm(struct rows *r, const struct deepseek_layout *y, int64_t l, struct err *e)
{
    (void)l;
    for (int64_t k = 0; k < y->m->latent; k++)
        r->buf[k] = NORM_WEIGHT;
    return st_write_f32(r->w, r->to, r->buf, (size_t)y->m->latent, e);
}

static bool put_kv_b(struct rows *r, const struct deepseek_layout *y, int64_t l, struct err *e)
{
    const struct text_config *c = &y->m->cfg.text;
    const struct kv_set *set = &y->m->layers[l].attn.set[TEXT];
    const int64_t dh = c->head_dim, N = c->num_attention_heads / c->num_key_value_heads;
    bool ok = true;

    for (int64_t h = 0; ok && h < c->num_attention_heads; h++)
        ok = put(r, set->up_k, h / N * dh, dh, 1, e) && put(r, set->up_v, h / N * dh, dh, 1, e);
    return ok;
}

static bool (*const puts_of[MADE])(struct rows *, const struct deepseek_layout *, int64_t,
                                   struct err *) = {put_q, put_kv_a, put_norm, put_kv_b};

static enum st_dtype dtype_of(const struct param *a, const struct param *b)
{
    const enum dtype d = a->t.dtype == b->t.dtype ? a->t.dtype : DT_F32;

    return d == DT_BF16 ? ST_BF16 : ST_F32;
}

/* The shape and dtype of a tensor of layer l. */
static struct st_spec spec_of(const struct deepseek_layout *y, int64_t l, enum made k,
                              const char *name)
{
    const struct text_config *c = &y->m->cfg.text;
    const struct layer *w = &y->m->layers[l];
    const struct attn *a = &w->attn;
    const int64_t H = c->num_attention_heads, dh = c->head_dim, R = 2 * y->places;
    const int64_t d = c->hidden_size, r = y->m->latent;
    const struct kv_set *set = &a->set[TEXT];
    const struct st_spec specs[MADE] = {
        [Q] = {name, dtype_of(a->q[0], a->q[1]), 2, {H * (dh + R), d}},
        [KV_A] = {name, dtype_of(set->down[0], a->k), 2, {r + R, d}},
        [NORM] = {name, dtype_of(w->norm1, w->norm1), 1, {r}},
        [KV_B] = {name, dtype_of(set->up_k, set->up_v), 2, {H * 2 * dh, r}},
    };

    return specs[k];
}

/* What is written as it is. */
static bool stays(const struct param *p)
{
    static const bool replaced[PARAM_KINDS] = {
        [PARAM_Q] = true,    [PARAM_Q_ROPE] = true, [PARAM_K_ROPE] = true,
        [PARAM_DOWN] = true, [PARAM_UP_K] = true,   [PARAM_UP_V] = true};

    return !replaced[p->kind];
}

static const enum st_dtype file_dtypes[] = {
    [DT_F32] = ST_F32, [DT_F64] = ST_F64, [DT_BF16] = ST_BF16, [DT_F16] = ST_F16};

/* The file: all that stays, then what is made, layer by layer. */
struct file {
    int64_t made; /* L * MADE tensors */
    int64_t n, cap;
    struct st_spec *specs;      /* [n] */
    const struct param **param; /* [n - made] */
    char **names;               /* [made] */
};

static bool list(struct file *f, const struct deepseek_layout *y, struct err *e)
{
    const struct model *m = y->m;

    f->made = MADE * m->cfg.text.num_hidden_layers;
    f->cap = m->n_params + f->made;
    f->specs = mem_new((size_t)f->cap, sizeof *f->specs, "tensor list", e);
    f->param = mem_new((size_t)f->cap, sizeof *f->param, "tensor list", e);
    f->names = mem_new((size_t)f->made, sizeof *f->names, "tensor list", e);
    if (!f->specs || !f->param || !f->names) return false;
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        if (!stays(p)) continue;
        struct st_spec *s = &f->specs[f->n];
        *s = (struct st_spec){p->name, file_dtypes[p->t.dtype], p->ndim, {0}};
        memcpy(s->dim, p->dim, sizeof p->dim);
        f->param[f->n++] = p;
    }
    for (int64_t i = 0; i < f->made; i++) {
        f->names[i] = mem_printf(e, "model.layers.%lld.self_attn.%s.weight", (long long)(i / MADE),
                                 made_names[i % MADE]);
        if (!f->names[i]) return false;
        f->specs[f->n++] = spec_of(y, i / MADE, (enum made)(i % MADE), f->names[i]);
    }
    return true;
}

static bool fill(const struct file *f, const struct deepseek_layout *y, struct st_writer *w,
                 float *buf, struct err *e)
{
    const int64_t stay = f->n - f->made;
    bool ok = true;

    for (int64_t i = 0; ok && i < stay; i++) {
        const struct tensor *t = &f->param[i]->t;
        ok = st_write_raw(w, (size_t)i, t->data, (size_t)tensor_count(t) * dtype_size(t->dtype), e);
    }
    for (int64_t i = 0; ok && i < f->made; i++)
        ok = puts_of[i % MADE](&(struct rows){w, (size_t)(stay + i), buf}, y, i / MADE, e);
    return ok;
}

bool deepseek_write_tensors(const struct deepseek_layout *y, const char *dir, struct err *e)
{
    const int64_t d = y->m->cfg.text.hidden_size, width = d > y->m->latent ? d : y->m->latent;
    float *buf = mem_new((size_t)width, sizeof *buf, "a row", e);
    struct file f = {0};
    struct st_writer w = {0};
    bool ok = buf && list(&f, y, e) &&
              st_write_model_begin(&w, dir, f.specs, (size_t)f.n, NULL, 0, e) &&
              fill(&f, y, &w, buf, e);

    if (ok)
        ok = st_write_end(&w, e);
    else
        st_write_abort(&w);
    for (int64_t i = 0; f.names && i < f.made; i++)
        free(f.names[i]);
    free(f.names);
    free(f.param);
    free(f.specs);
    free(buf);
    return ok;
}
