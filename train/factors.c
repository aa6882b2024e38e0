/* factors.c - the second moments of a layer, its factors, and the MLA model built from them. Per
 * layer and modality, with W = [W_kc; W_v] [rows, d], rows = G*dc + G*dh:
 *
 *     S = sum over tokens of x x^T  [d, d], x the input of k and v    if rows >= d,
 *     M = sum of (W x) (W x)^T      [rows, rows]                      otherwise
 *     W ~ up down, up [rows, r], down [r, d]                          (convert/mdsvd.h)
 *
 * The components of a smaller latent are the first ones of a larger latent. So the factors are made
 * once for all points of a sweep that keep the same pairs rotated, for the largest latent, and each
 * point uses as many components as it has. */
#include "autograd/gemm.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "convert/moments.h"
#include "convert/transform.h"
#include "train/factors.h"
#include "train/layerwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t kv_rows(const struct model *m)
{
    const struct text_config *c = &m->cfg.text;

    return c->num_key_value_heads * (2 * c->head_dim - m->rope_dim);
}

/* W = [W_kc; W_v] of a layer, [rows, d]. */
static void kv_weight(const struct model *m, int64_t l, float *w)
{
    const struct kv_set *s = &m->layers[l].attn.set[TEXT];

    tensor_to_real(&s->up_k->t, 0, tensor_count(&s->up_k->t), w);
    tensor_to_real(&s->up_v->t, 0, tensor_count(&s->up_v->t), w + tensor_count(&s->up_k->t));
}

/* What the factors of a layer are computed from: second moments of the inputs of k and v, or of the
 * outputs if the projection has fewer rows than columns. */
struct statistics {
    bool outputs;
    int64_t rows, d;
    float *w; /* [rows, d]: the layer's W */
    struct moments moments;
    float *y; /* [T, rows]: W x of the current batch */
    size_t cap;
};

static bool svd_look(void *arg, const struct layer_look *look, struct err *e)
{
    struct statistics *s = arg;
    int64_t T = look->batch->tokens;
    const float *x = look->x;

    if (s->outputs) {
        if (!mem_grow(&s->y, &s->cap, (size_t)(T * s->rows), sizeof *s->y, e)) return false;
        gemm_real(T, s->rows, s->d, mat_of(x, s->d, false), mat_of(s->w, s->d, true), false, s->y,
                  s->rows);
        x = s->y;
    }
    moments_add(&s->moments, x, look->modality, T, look->batch->samples);
    return true;
}

/* What is factored of a layer, at the same time: the plan's parts in each set. */
struct problems {
    int n;
    struct mdsvd_in in[2 * MODALITIES];
    struct mdsvd_out out[2 * MODALITIES], *place[2 * MODALITIES];
};

static struct mdsvd_in problem_of(const struct run *r, const struct mdsvd_part *part, int set,
                                  const float *w, const struct statistics *s)
{
    const struct moments *m = r->c.svd.input == MDSVD_ACTIVATION ? &s->moments : NULL;
    struct mdsvd_in in = {.w = w + part->row0 * s->d,
                          .n = part->rows,
                          .d = s->d,
                          .r = part->r,
                          .method = (enum mdsvd_method)r->c.svd.input};

    if (!m) return in;
    in.scale = moments_scale(m, set);
    if (s->outputs) {
        in.m = m->s[set] + part->row0 * s->rows + part->row0;
        in.ldm = s->rows;
    } else {
        in.s = m->s[set];
    }
    return in;
}

static bool factor_layer(struct made_factors *f, const struct run *r, int64_t l, const float *w,
                         const struct statistics *s, struct err *e)
{
    bool activation = r->c.svd.input == MDSVD_ACTIVATION;
    struct problems now = {0};

    for (int set = 0; set < f->sets; set++) {
        if (activation && s->moments.tokens[set] == 0)
            return err_set(e,
                           "svd: the calibration samples have no %s tokens: more samples, or "
                           "svd.decoupled false",
                           set == TEXT ? "text" : "image");
        for (int p = 0; p < f->plan.parts; p++) {
            if (!f->plan.part[p].r) continue;
            now.in[now.n] = problem_of(r, &f->plan.part[p], set, w, s);
            now.place[now.n++] = &f->layer[l].out[set][p];
        }
    }
    if (!mdsvd_factor(now.out, now.in, now.n, now.n, e)) return false;
    for (int i = 0; i < now.n; i++)
        *now.place[i] = now.out[i];
    return true;
}

/* Adds up the moments of all processes' samples. */
static bool sum_moments(struct moments *m, struct err *e)
{
    double counts[] = {(double)m->tokens[0], (double)m->tokens[1], (double)m->samples};

    for (int k = 0; k < 2; k++)
        if (!cluster_sum(m->s[k], m->d * m->d, e)) return false;
    if (!cluster_sum(counts, 3, e)) return false;
    m->tokens[0] = (int64_t)counts[0];
    m->tokens[1] = (int64_t)counts[1];
    m->samples = (int64_t)counts[2];
    return true;
}

static bool gather_layer(struct made_factors *f, struct layerwise *w, struct statistics *s,
                         struct err *e)
{
    bool ok = moments_init(&s->moments, s->outputs ? s->rows : s->d, e) &&
              layerwise_next(w, "svd", svd_look, s, e) && moments_finish(&s->moments, e);

    ok = cluster_agree(ok, e) && sum_moments(&s->moments, e);
    if (ok && f->sets == 1) moments_merge(&s->moments);
    return ok;
}

/* Gathers the statistics of a group of layers, from `first` on one for each process, which keeps
 * those of its own in s. */
static bool gather_group(struct made_factors *f, struct layerwise *w, struct statistics *s,
                         int64_t first, struct err *e)
{
    struct moments own = {0};
    bool ok = true;

    for (int64_t l = first; ok && l < f->layers && l < first + cluster_size(); l++) {
        kv_weight(w->m, l, s->w);
        ok = gather_layer(f, w, s, e);
        if (ok && l == first + cluster_rank()) {
            own = s->moments;
            s->moments = (struct moments){0};
        }
        moments_free(&s->moments);
    }
    s->moments = own;
    return ok;
}

/* Makes the factors that process `from` has those of all. */
static bool share_out(struct mdsvd_out *out, int64_t n, int64_t d, int from, struct err *e)
{
    const bool mine = cluster_rank() == from;
    size_t up, down, component;

    if (!cluster_broadcast(&out->r, sizeof out->r, from, e) ||
        !cluster_broadcast(&out->live, sizeof out->live, from, e) ||
        !cluster_broadcast(&out->energy, sizeof out->energy, from, e) ||
        !cluster_broadcast(&out->kept, sizeof out->kept, from, e) ||
        !cluster_broadcast(&out->error, sizeof out->error, from, e))
        return false;
    up = (size_t)(n * out->r);
    down = (size_t)(out->r * d);
    component = (size_t)out->live;
    if (!mine) {
        out->up = mem_new(up, sizeof *out->up, "factors", e);
        out->down = mem_new(down, sizeof *out->down, "factors", e);
        out->component = mem_new(component, sizeof *out->component, "factors", e);
    }
    return cluster_agree(out->up && out->down && out->component, e) &&
           cluster_broadcast(out->up, up * sizeof *out->up, from, e) &&
           cluster_broadcast(out->down, down * sizeof *out->down, from, e) &&
           cluster_broadcast(out->component, component * sizeof *out->component, from, e);
}

static bool share_layer(struct made_factors *f, int64_t l, int64_t d, int from, struct err *e)
{
    for (int set = 0; set < f->sets; set++)
        for (int p = 0; p < f->plan.parts; p++) {
            const struct mdsvd_part *part = &f->plan.part[p];
            struct mdsvd_out *out = &f->layer[l].out[set][p];
            if (!part->r) continue;
            if (cluster_size() > 1 && !share_out(out, part->rows, d, from, e)) return false;
            if (out->live < part->r)
                log_line("svd: layer %lld: components with energy: only %lld of %lld: too few "
                         "calibration tokens?",
                         (long long)l, (long long)out->live, (long long)part->r);
        }
    return true;
}

/* The layers of a group at the same time, each in its own process. */
static bool factor_group(struct made_factors *f, struct run *r, struct model *m,
                         struct statistics *s, int64_t first, struct err *e)
{
    const int64_t own = first + cluster_rank();
    bool ok = true;

    if (own < f->layers) {
        kv_weight(m, own, s->w);
        ok = factor_layer(f, r, own, s->w, s, e);
    }
    moments_free(&s->moments);
    ok = cluster_agree(ok, e);
    for (int64_t l = first; ok && l < f->layers && l < first + cluster_size(); l++)
        ok = share_layer(f, l, s->d, (int)(l - first), e);
    return ok;
}

static bool factor_layers(struct made_factors *f, struct run *r, struct model *m, int64_t samples,
                          struct err *e)
{
    int64_t rows = kv_rows(m), d = m->cfg.text.hidden_size;
    struct statistics s = {.outputs = rows < d, .rows = rows, .d = d};
    bool activation = r->c.svd.input == MDSVD_ACTIVATION;
    struct layerwise w = {0};
    bool ok;

    s.w = mem_new((size_t)rows, (size_t)d * sizeof *s.w, "weights", e);
    ok = s.w && (!activation || layerwise_open(&w, r, m, samples, LOOK_X, e));
    ok = cluster_agree(ok, e);
    for (int64_t l = 0; ok && l < f->layers; l += cluster_size())
        ok = (!activation || gather_group(f, &w, &s, l, e)) && factor_group(f, r, m, &s, l, e);
    layerwise_close(&w);
    moments_free(&s.moments);
    free(s.y);
    free(s.w);
    return ok;
}

bool point_plan(const struct run *r, const struct model *m, const struct point *p, int64_t *latent,
                struct mdsvd_plan *plan, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const struct kv_shape shape = {(enum kv_method)r->c.svd.method, c->num_key_value_heads,
                                   c->head_dim, p->rope_dim, c->hidden_size};

    *latent = 1; /* "none": any width will do */
    return (shape.method == KV_NONE || mdsvd_latent(latent, p->low_rank, shape.G, e)) &&
           mdsvd_plan(plan, &shape, *latent, e);
}

struct point factors_widest(const struct run *r, const struct point *p, int64_t *n)
{
    struct point widest = *p;

    if (n) *n = 0;
    for (int64_t i = 0; i < config_points(&r->c); i++) {
        struct point q = config_point(&r->c, i);
        if (strcmp(q.stage1, p->stage1) != 0) continue;
        if (n) ++*n;
        if (q.low_rank > widest.low_rank) widest = q;
    }
    return widest;
}

bool factors_size(struct factors_size *s, const struct run *r, const struct model *m,
                  const struct point *p, int64_t tokens, struct err *e)
{
    enum mdsvd_method method = (enum mdsvd_method)r->c.svd.input;
    int64_t rows = kv_rows(m), d = m->cfg.text.hidden_size, latent, points;
    struct point widest = factors_widest(r, p, &points);
    bool outputs = rows < d, activation = method == MDSVD_ACTIVATION;
    double sets = r->c.svd.decoupled && hf_has_vision(&m->cfg) ? MODALITIES : 1, layer = 0,
           scratch = 0;
    double n = (double)(outputs ? rows : d);
    struct mdsvd_plan plan;

    if (!point_plan(r, m, &widest, &latent, &plan, e)) return false;
    for (int i = 0; i < plan.parts; i++) {
        const struct mdsvd_part *part = &plan.part[i];
        double bytes = sets * (double)mdsvd_scratch(part->rows, d, part->r, method, outputs);
        layer += sets * (double)sizeof(float) * (double)(part->r * (part->rows + d));
        if (part->r) scratch += bytes; /* all at once, if there are enough threads */
    }
    s->made = (double)m->cfg.text.num_hidden_layers * layer + scratch +
              (double)(rows * d) * sizeof(float);
    if (activation)
        s->made += 16 * n * n + 2560 * n + (outputs ? (double)(tokens * rows) * sizeof(float) : 0);
    s->copied = (double)m->cfg.text.num_hidden_layers * layer * (points > 1 ? 2 : 1) + layer;
    return true;
}

bool factors_make(struct made_factors *f, struct run *r, struct model *m,
                  const struct point *widest, int64_t samples, struct err *e)
{
    int64_t latent;

    *f = (struct made_factors){.layers = m->cfg.text.num_hidden_layers,
                               .method = (enum kv_method)r->c.svd.method,
                               .sets =
                                   r->c.svd.decoupled && hf_has_vision(&m->cfg) ? MODALITIES : 1};
    if (!point_plan(r, m, widest, &latent, &f->plan, e)) return false;
    f->layer = mem_new((size_t)f->layers, sizeof *f->layer, "factors", e);
    return f->layer && (f->method == KV_NONE || factor_layers(f, r, m, samples, e));
}

static void free_layer(void *factors, int64_t l)
{
    struct made_factors *f = factors;

    for (int s = 0; s < MODALITIES; s++)
        for (int p = 0; p < 2; p++)
            mdsvd_free(&f->layer[l].out[s][p]);
}

void factors_free(struct made_factors *f)
{
    for (int64_t l = 0; f->layer && l < f->layers; l++)
        free_layer(f, l);
    free(f->layer);
    memset(f, 0, sizeof *f);
}

/* Logs how much of the energy the point's components keep. */
static void log_kept(const struct made_factors *f, const struct mdsvd_plan *plan, int64_t l)
{
    double kept[MODALITIES] = {0, 0}, all[MODALITIES] = {0, 0};

    for (int s = 0; s < f->sets; s++)
        for (int p = 0; p < plan->parts; p++) {
            const struct mdsvd_out *out = &f->layer[l].out[s][p];
            for (int64_t i = 0; i < plan->part[p].r && i < out->live; i++)
                kept[s] += out->component[i];
            all[s] += out->energy;
        }
    if (f->sets > 1)
        log_line("svd: layer %lld keeps %.2f %% of the text tokens' energy, %.2f %% of the image "
                 "tokens'",
                 (long long)l, 100 * kept[TEXT] / all[TEXT], 100 * kept[IMAGE] / all[IMAGE]);
    else
        log_line("svd: layer %lld keeps %.2f %% of the energy", (long long)l,
                 100 * kept[TEXT] / all[TEXT]);
}

/* The factors of one layer and set, arranged as model_to_mla needs them. */
static struct factors factors_of(const struct made_factors *f, const struct model *m, int64_t l,
                                 int set)
{
    const struct mdsvd_out *key = &f->layer[l].out[set][0];
    const struct mdsvd_out *value = &f->layer[l].out[set][f->plan.parts - 1];
    int64_t k_rows = m->cfg.text.num_key_value_heads * (m->cfg.text.head_dim - m->rope_dim);
    struct factors out = {{key->down, value->down}, key->up, value->up, 0};

    for (int p = 0; p < f->plan.parts; p++)
        if (f->plan.part[p].r) out.ld = f->plan.part[p].r;
    if (kv_methods[f->method].joint) out.up_v = key->up + k_rows * key->r;
    return out;
}

bool factors_apply(struct made_factors *f, const struct run *r, const struct point *p, bool last,
                   struct model *m, struct err *e)
{
    static const char *const inputs[] = {MDSVD_NAMES};
    struct factors(*each)[MODALITIES] = mem_new((size_t)f->layers, sizeof *each, "factors", e);
    struct mha2mla_config section = m->cfg.mha2mla;
    struct mdsvd_plan plan;
    int64_t latent;
    bool ok = each && point_plan(r, m, p, &latent, &plan, e);

    for (int64_t l = 0; ok && l < f->layers && f->method != KV_NONE; l++) {
        for (int s = 0; s < f->sets; s++)
            each[l][s] = factors_of(f, m, l, s);
        log_kept(f, &plan, l);
    }
    ok = ok && model_to_mla(m,
                            &(struct to_mla){.method = f->method,
                                             .decoupled = f->sets > 1,
                                             .latent = latent,
                                             .factors = (const struct factors(*)[MODALITIES])each,
                                             .used = last ? free_layer : NULL,
                                             .arg = f},
                            e);
    if (ok) {
        section.svd_init_method = kv_method_names[f->method];
        section.low_rank = (int64_t)ceil(p->low_rank); /* informative only: tensors decide */
        section.decoupled = f->sets > 1;
        section.calibration = inputs[r->c.svd.input];
        ok = hf_config_set_mha2mla(&m->cfg, &section, e);
    }
    free(each);
    return ok;
}
