/* refit.c - see refit.h. For each layer, with h the original's and h' the converted model's
 * residual stream before it, a the converted heads' output on h' and Wo their o_proj:
 *
 *     e = (h + original's attention) - (h' + Wo a)                        [T, d]
 *     w = u / max(|h + original's attention|^2, |h' + Wo a|^2),
 *         u = 0.1 + [the next token is trained on]
 *     Wo = Wo + argmin_X sum over tokens of w |e - X a|^2 + ridge         (convert/refit.h)
 *
 * and h' goes on with the new Wo. The weight makes a token count by the error relative to its own
 * size, as the next norm sees it (refit_weight), and answers more than what is only read. */
#include "train/refit.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "convert/moments.h"
#include "convert/refit.h"
#include "train/layerwise.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double RIDGE = 0.01, UNLABELLED = 0.1;

struct refit {
    const struct refit_how *how;
    struct refit_loss *loss; /* or NULL */
    struct layerwise original, converted;
    int64_t n, d; /* widths of a and e */
    struct moments moments;
    struct refit_out out;
    double all;        /* sum of u */
    float *mid, *rows; /* [T, d] of the original; [T, n + d]: sqrt(w) [a, e] */
    double *weight;    /* [T]: u */
    size_t cap_mid, cap_rows, cap_weight;
};

/* Keeps the original's residual stream of a batch, and u of its tokens. */
static bool see_original(void *arg, const struct layer_look *look, struct err *e)
{
    struct refit *s = arg;
    const struct batch *b = look->batch;
    const int64_t T = b->tokens, d = s->d;

    if (!mem_grow(&s->mid, &s->cap_mid, (size_t)(T * d), sizeof *s->mid, e) ||
        !mem_grow(&s->weight, &s->cap_weight, (size_t)T, sizeof *s->weight, e))
        return false;
    memcpy(s->mid, look->mid, (size_t)(T * d) * sizeof *s->mid);
    for (int64_t t = 0; t < T; t++)
        s->weight[t] = UNLABELLED;
    for (int64_t i = 0; i < b->labels; i++)
        s->weight[b->label_rows[i]] += 1;
    s->all += UNLABELLED * (double)T + (double)b->labels;
    return true;
}

/* sqrt(w) [a, e] of a token; returns w |e|^2. */
static double fill_row(const struct refit *s, const struct layer_look *look, int64_t t)
{
    const float *a = look->a + t * s->n, *mid = look->mid + t * s->d, *want = s->mid + t * s->d;
    const double root = sqrt(s->weight[t] * refit_weight(want, mid, s->d));
    float *row = s->rows + t * (s->n + s->d);
    double squares = 0;

    for (int64_t j = 0; j < s->n; j++)
        row[j] = (float)(root * (double)a[j]);
    for (int64_t j = 0; j < s->d; j++) {
        const double lacks = root * ((double)want[j] - (double)mid[j]);
        row[s->n + j] = (float)lacks;
        squares += lacks * lacks;
    }
    return squares;
}

static bool see_converted(void *arg, const struct layer_look *look, struct err *e)
{
    struct refit *s = arg;
    const int64_t T = look->batch->tokens;

    if (!mem_grow(&s->rows, &s->cap_rows, (size_t)(T * (s->n + s->d)), sizeof *s->rows, e))
        return false;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < T; t++)
        s->weight[t] = fill_row(s, look, t); /* which is not needed any more */
    for (int64_t t = 0; t < T; t++)
        s->out.before += s->weight[t];
    if (s->how->fits) moments_add(&s->moments, s->rows, NULL, T, look->batch->samples);
    return true;
}

/* Both models' attention in layer l; the original goes on to the next, or to the head. */
static bool gather(struct refit *s, int64_t l, bool pass, struct err *e)
{
    const struct layer_walk both[2] = {{&s->original, pass, see_original},
                                       {&s->converted, false, see_converted}};

    s->out = (struct refit_out){0};
    s->all = 0;
    if (s->how->fits && !moments_init_cross(&s->moments, s->n, s->d, e)) return false;
    return layerwise_layer(s->how->what, l, both, 2, s, e) &&
           (!s->how->fits || moments_finish(&s->moments, e));
}

/* All processes' sums, of which the first one makes the new weights for all. */
static bool solve(struct refit *s, struct param *o, struct err *e)
{
    const int64_t values = (s->n + s->d) * s->n;
    bool ok = cluster_sum(s->moments.s[0], values, e);

    if (ok && cluster_first()) ok = refit_solve(&s->moments, RIDGE, o->t.data, &s->out, e);
    return cluster_agree(ok, e) &&
           cluster_broadcast(o->t.data, (size_t)(s->n * s->d) * sizeof(float), 0, e) &&
           cluster_broadcast(&s->out, sizeof s->out, 0, e);
}

/* The converted model goes on to the next layer. */
static bool pass_on(struct refit *s, int64_t l, struct err *e)
{
    const struct layer_walk one = {&s->converted, true, NULL};

    return cluster_agree(layerwise_layer(s->how->what, l, &one, 1, NULL, e), e);
}

static bool refit_layer(struct refit *s, int64_t l, struct err *e)
{
    const bool last = l == s->converted.m->cfg.text.num_hidden_layers - 1, fits = s->how->fits;
    const bool pass = !last || s->loss; /* to the next layer, or to the head */
    struct param *o = s->converted.m->layers[l].attn.o;
    bool ok = cluster_agree((!fits || param_own(o, e)) && gather(s, l, pass, e), e) &&
              cluster_sum(&s->out.before, 1, e) && cluster_sum(&s->all, 1, e);

    s->out.after = s->out.before;
    ok = ok && (!fits || solve(s, o, e)) && (!pass || pass_on(s, l, e));
    moments_free(&s->moments);
    if (ok && fits)
        log_line("%s: layer %lld: of the residual stream %.3g %% was lost, %.3g %% is",
                 s->how->what, (long long)l, 100 * s->out.before / s->all,
                 100 * s->out.after / s->all);
    return layerwise_done(ok, s->how->what, l, e);
}

bool refit_model(struct run *r, struct model *base, struct model *m, const struct refit_how *how,
                 struct refit_loss *loss, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    struct mha2mla_config section = m->cfg.mha2mla;
    struct refit s = {
        .how = how, .loss = loss, .n = c->num_attention_heads * c->head_dim, .d = c->hidden_size};
    bool ok = layerwise_open(&s.original, r, base, how->samples, LOOK_A, e) &&
              layerwise_open(&s.converted, r, m, how->samples, LOOK_A, e);

    ok = cluster_agree(ok, e);
    for (int64_t l = 0; ok && l < c->num_hidden_layers; l++)
        ok = refit_layer(&s, l, e);
    ok = ok && (!loss || (layerwise_loss(&s.original, &loss->original, e) &&
                          layerwise_loss(&s.converted, &loss->converted, e)));
    section.refit = how->fits;
    ok = ok && hf_config_set_mha2mla(&m->cfg, &section, e);
    layerwise_close(&s.original);
    layerwise_close(&s.converted);
    moments_free(&s.moments);
    free(s.mid);
    free(s.rows);
    free(s.weight);
    return ok;
}

double refit_size(const struct model *m, int64_t tokens)
{
    const struct text_config *c = &m->cfg.text;
    const int64_t n = c->num_attention_heads * c->head_dim, d = c->hidden_size;

    return (double)moments_cross_bytes(n, d) + (double)refit_scratch(n, d) +
           (double)(tokens * (n + 2 * d)) * sizeof(float) + (double)tokens * sizeof(double) +
           (double)(c->num_hidden_layers * n * d) * sizeof(float);
}
