/* ranks.c - see ranks.h. The converted model is taken through its layers once; from each layer on,
 * the samples also go through the rest once more, with less of that layer. */
#include "train/ranks.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "train/factors_parts.h"
#include "train/layerwise.h"
#include "train/models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- components ---- */

/* The width whose components are compared: the only one, or the widened one of f->dividing. */
static int64_t compared(const struct made_factors *f)
{
    return f->by_point ? f->points + f->dividing : 0;
}

/* Of "blocks", where energy and error are weighted, all that the components have. */
static double energy_of(const struct made_factors *f, const struct mdsvd_out *out)
{
    double sum = 0;

    if (!f->by_point) return out->energy;
    for (int64_t i = 0; i < out->live; i++)
        sum += out->component[i];
    return sum;
}

/* c_li; 0 beyond those with energy. */
static double cost_of(const struct made_factors *f, int64_t l, int64_t i)
{
    const int64_t width = compared(f);
    const struct mdsvd_plan *plan = &f->width[width].plan;
    double sum = 0;

    for (int s = 0; s < f->sets; s++)
        for (int p = 0; p < plan->parts; p++) {
            const struct mdsvd_out *out = &factors_of_layer(f, l, width)->out[s][p];
            const double energy = energy_of(f, out);
            if (plan->part[p].r && i < out->live && energy > 0) sum += out->component[i] / energy;
        }
    return sum;
}

/* The narrowest that a layer gets, the widest, and how much is left where it is measured. */
static int64_t least_of(int64_t mean)
{
    return (3 * mean + 3) / 4;
}

static int64_t most_of(const struct made_factors *f, int64_t mean)
{
    const struct mdsvd_plan *plan = &f->width[compared(f)].plan;
    const int64_t key = plan->part[0].r, made = key ? key : plan->part[1].r;

    return 3 * mean / 2 < made ? 3 * mean / 2 : made;
}

static int64_t less_of(int64_t mean)
{
    return mean - (mean + 7) / 8;
}

/* The layer to which the next component goes; the narrowest of equal ones. */
static int64_t neediest(const struct made_factors *f, const double *weight, const int64_t *latents,
                        int64_t most)
{
    int64_t top = -1;
    double cost = 0;

    for (int64_t l = 0; l < f->layers; l++) {
        const double own = latents[l] < most ? weight[l] * cost_of(f, l, latents[l]) : -1;
        if (own < 0 || (top >= 0 && own < cost)) continue;
        if (top >= 0 && own <= cost && latents[l] >= latents[top]) continue;
        top = l;
        cost = own;
    }
    return top;
}

bool ranks_divide(const struct made_factors *f, int64_t mean, const double *weight,
                  int64_t **latents, struct err *e)
{
    const int64_t most = most_of(f, mean);
    int64_t *own = mem_new((size_t)f->layers, sizeof *own, "the latents' widths", e);

    *latents = own;
    if (!own) return false;
    for (int64_t l = 0; l < f->layers; l++)
        own[l] = least_of(mean);
    for (int64_t left = f->layers * (mean - least_of(mean)); left > 0; left--) {
        const int64_t l = neediest(f, weight, own, most);
        CHECK(l >= 0); /* most >= mean: there is room for all */
        own[l]++;
    }
    return true;
}

/* ---- sensitivity ---- */

/* Rows of the layer's down projections. */
struct taken {
    struct param *p[2 * MODALITIES];
    float *kept[2 * MODALITIES]; /* [rows from r on, d] */
    int n;
};

/* Takes the layer's components from `r` on away: their rows of down are 0. */
static bool take_away(struct model *m, int64_t l, int64_t r, struct taken *h, struct err *e)
{
    *h = (struct taken){.n = 0};
    for (int s = 0; s < model_sets(m); s++)
        for (int p = 0; p < 2; p++) {
            struct kv_set *set = &m->layers[l].attn.set[s];
            struct param *down = set->down[p];
            if (!down || (p && down == set->down[0])) continue;
            const int64_t at = r * down->t.cols, n = tensor_count(&down->t) - at;
            float *rows = (float *)down->own + at;
            float *kept = mem_new((size_t)n, sizeof *kept, "factors", e);
            if (!kept) return false;
            memcpy(kept, rows, (size_t)n * sizeof *rows);
            memset(rows, 0, (size_t)n * sizeof *rows);
            h->p[h->n] = down;
            h->kept[h->n++] = kept;
        }
    return true;
}

static void give_back(struct taken *h, int64_t r)
{
    for (int i = 0; i < h->n; i++) {
        const struct tensor *t = &h->p[i]->t;
        const int64_t at = r * t->cols;
        memcpy((float *)h->p[i]->own + at, h->kept[i],
               (size_t)(tensor_count(t) - at) * sizeof(float));
        free(h->kept[i]);
    }
    h->n = 0;
}

/* The samples, at layer `from`, through all layers to `to`. */
static bool pass(struct layerwise *w, int64_t from, int64_t to, struct err *e)
{
    const struct layer_walk one = {w, true, NULL};
    bool ok = true;

    for (int64_t l = from; ok && l < to; l++)
        ok = layerwise_done(layerwise_layer("ranks", l, &one, 1, NULL, e), "ranks", l, e);
    return cluster_agree(ok, e);
}

struct probe {
    struct model *m;
    struct layerwise whole, less;
    int64_t less_r;
    double *loss; /* [L]: with less of each layer */
};

static bool probe_layer(struct probe *k, int64_t l, struct err *e)
{
    const int64_t L = k->m->cfg.text.num_hidden_layers;
    struct taken h;
    bool ok = cluster_agree(take_away(k->m, l, k->less_r, &h, e), e);

    layerwise_copy(&k->less, &k->whole);
    ok = ok && pass(&k->less, l, L, e) && layerwise_loss(&k->less, &k->loss[l], e);
    give_back(&h, k->less_r);
    return ok && pass(&k->whole, l, l + 1, e);
}

/* What each layer's energy is worth; where that is not seen, a thousandth of the most. */
static void weigh(const struct made_factors *f, const struct probe *k, double loss, int64_t mean,
                  double *weight)
{
    double most = 0;

    for (int64_t l = 0; l < f->layers; l++)
        if (k->loss[l] - loss > most) most = k->loss[l] - loss;
    for (int64_t l = 0; l < f->layers; l++) {
        const double grows = k->loss[l] - loss, worth = grows > 1e-3 * most ? grows : 1e-3 * most;
        double lost = 0;
        for (int64_t i = k->less_r; i < mean; i++)
            lost += cost_of(f, l, i);
        weight[l] = !(lost > 0) ? 0 : most > 0 ? worth / lost : 1;
        log_line("ranks: layer %lld at %lld of %lld: cross entropy %.5g, %+.3g", (long long)l,
                 (long long)k->less_r, (long long)mean, k->loss[l], grows);
    }
}

/* The converted model m with its layers alike. */
static bool measure(struct run *r, const struct made_factors *f, struct model *m, double *weight,
                    struct err *e)
{
    struct probe k = {.m = m, .less_r = less_of(m->latent)};
    const int64_t samples = r->c.svd.split_samples;
    double loss = 0;
    bool ok = layerwise_open(&k.whole, r, m, samples, 0, e) &&
              layerwise_open(&k.less, r, m, samples, 0, e);

    k.loss = mem_new((size_t)f->layers, sizeof *k.loss, "the layers' ranks", e);
    ok = cluster_agree(ok && k.loss, e);
    for (int64_t l = 0; ok && l < f->layers; l++)
        ok = probe_layer(&k, l, e);
    ok = ok && layerwise_loss(&k.whole, &loss, e);
    if (ok) weigh(f, &k, loss, m->latent, weight);
    layerwise_close(&k.whole);
    layerwise_close(&k.less);
    free(k.loss);
    return ok;
}

static bool measure_point(struct run *r, struct made_factors *f, const struct point *p,
                          double *weight, struct err *e)
{
    struct model m = {0};
    bool ok = open_partial_model(r, p, &m, e) && factors_apply(f, r, p, false, &m, e);

    ok = cluster_agree(ok, e) && measure(r, f, &m, weight, e);
    model_close(&m);
    return ok;
}

/* ---- */

static void say(const struct point *p, const struct made_factors *f)
{
    char line[600];
    size_t at = 0;

    for (int64_t l = 0; l < f->layers && at < sizeof line; l++)
        at += (size_t)snprintf(line + at, sizeof line - at, " %lld", (long long)f->latents[l]);
    log_line("%s: latent values by layer:%s", p->name, line);
}

/* Factors were made for what had been chosen. */
static bool take_divided(struct made_factors *f, const struct point *p, struct err *e)
{
    const struct factor_width *w = &f->width[factors_width(f, p)];
    const size_t bytes = (size_t)f->layers * sizeof *w->latents;

    if (!w->latents) return true;
    f->latents = mem_new(1, bytes, "the latents' widths", e);
    if (f->latents) memcpy(f->latents, w->latents, bytes);
    return f->latents;
}

bool ranks_choose_all(struct run *r, struct made_factors *f, struct factors_for *what,
                      struct err *e)
{
    bool ok = true;

    what->latents = mem_new((size_t)what->n, sizeof *what->latents, "the latents' widths", e);
    for (int64_t i = 0; what->latents && ok && i < what->n; i++) {
        ok = ranks_choose(r, f, &what->point[i], e);
        what->latents[i] = f->latents;
        f->latents = NULL;
    }
    what->uneven = false;
    return what->latents && ok;
}

void ranks_free_all(struct factors_for *what)
{
    for (int64_t i = 0; what->latents && i < what->n; i++)
        free(what->latents[i]);
    free(what->latents);
    what->latents = NULL;
}

bool ranks_choose(struct run *r, struct made_factors *f, const struct point *p, struct err *e)
{
    double *weight;
    int64_t mean;
    bool ok;

    free(f->latents);
    f->latents = NULL;
    if (r->c.svd.ranks == RANKS_EVEN || f->method == KV_NONE) return true;
    if (f->by_point && f->widths == f->points) return take_divided(f, p, e);
    f->dividing = factors_width(f, p);
    if (!mdsvd_latent(&mean, p->low_rank, f->groups, e)) return false;
    if (least_of(mean) == mean || most_of(f, mean) <= mean) {
        log_line("%s: %lld latent values in all layers: too few to divide, or all that there are",
                 p->name, (long long)mean);
        return true;
    }
    weight = mem_new((size_t)f->layers, sizeof *weight, "the layers' ranks", e);
    ok = weight;
    for (int64_t l = 0; ok && l < f->layers; l++)
        weight[l] = 1;
    ok = cluster_agree(ok, e) &&
         (r->c.svd.ranks != RANKS_SENSITIVITY || measure_point(r, f, p, weight, e));
    ok = cluster_agree(ok && ranks_divide(f, mean, weight, &f->latents, e), e);
    if (ok) say(p, f);
    free(weight);
    return ok;
}
