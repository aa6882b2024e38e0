/* factors.c - see factors.h: which factors are made, the memory that they take, and the MLA model
 * built from them. */
#include "base/log.h"
#include "base/mem.h"
#include "convert/blocks.h"
#include "convert/kv_stats.h"
#include "convert/transform.h"
#include "train/factors_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool point_plan(const struct run *r, const struct model *m, const struct point *p, int64_t *latent,
                struct mdsvd_plan *plan, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    const struct kv_shape shape = {(enum kv_method)r->c.svd.method,
                                   c->num_key_value_heads,
                                   c->head_dim,
                                   p->rope_dim,
                                   c->hidden_size,
                                   config_shares_key(&r->c)};

    *latent = 1; /* "none": any width will do */
    return ((shape.method == KV_NONE || mdsvd_latent(latent, p->low_rank, shape.G, e)) &&
            mdsvd_plan(plan, &shape, *latent, e)) ||
           err_context(e, "%s", point_size_key(&r->c, "svd.low_rank"));
}

/* Whether they have the same pairs, and settings, so that they share their factors. */
static bool share_pairs(const struct point *p, const struct point *q)
{
    return p->recipe == q->recipe && strcmp(p->stage1, q->stage1) == 0;
}

struct point factors_widest(const struct run *r, const struct point *p)
{
    struct point widest = *p;

    for (int64_t i = 0; i < config_points(&r->c); i++) {
        struct point q = config_point(&r->c, i);
        if (share_pairs(&q, p) && q.low_rank > widest.low_rank) widest = q;
    }
    return widest;
}

static int sets_of(const struct run *r, const struct model *m)
{
    return r->c.svd.decoupled && hf_has_vision(&m->cfg) ? MODALITIES : 1;
}

static bool has_own_factors(const struct run *r)
{
    return r->c.svd.statistics == KV_BLOCKS;
}

bool factors_points(const struct run *r, const struct point *p, bool alone,
                    struct factors_for *what, struct err *e)
{
    const int64_t points = config_points(&r->c);

    what->n = 0;
    what->uneven = r->c.svd.ranks != RANKS_EVEN;
    what->point = mem_new((size_t)points, sizeof *what->point, "factors", e);
    if (!what->point) return false;
    for (int64_t i = 0; i < points; i++) {
        const struct point q = config_point(&r->c, i);
        if (share_pairs(&q, p) && (!alone || !has_own_factors(r) || strcmp(q.name, p->name) == 0))
            what->point[what->n++] = q;
    }
    return true;
}

static struct point widest_of(const struct factors_for *what)
{
    struct point widest = what->point[0];

    for (int64_t i = 1; i < what->n; i++)
        if (what->point[i].low_rank > widest.low_rank) widest = what->point[i];
    return widest;
}

int64_t factors_rank(const struct made_factors *f, int64_t width, int part, int64_t l)
{
    const struct factor_width *w = &f->width[width];

    return w->latents && w->plan.part[part].r ? w->latents[l] : w->plan.part[part].r;
}

int64_t factors_widest_part(const struct made_factors *f, int part)
{
    int64_t widest = 0;

    for (int64_t i = 0; i < f->widths; i++)
        for (int64_t l = 0; l < (f->width[i].latents ? f->layers : 1); l++)
            if (factors_rank(f, i, part, l) > widest) widest = factors_rank(f, i, part, l);
    return widest;
}

/* How a layer is narrowed, with all the latents' values left. */
static struct factors_narrow narrow_of(const struct made_factors *f, const struct run *r,
                                       const struct model *m, const struct factors_for *what)
{
    struct factors_narrow n = {.inputs = m->cfg.text.hidden_size};

    for (int p = 0; p < f->width[0].plan.parts; p++)
        n.latents += factors_widest_part(f, p);
    if (f->by_point && r->c.svd.method != KV_NONE)
        n.kept = kv_stats_narrow(m, what->room > 0 ? what->room : FACTORS_ROOM, n.latents);
    return n;
}

const char *factors_say_narrow(const struct factors_narrow *n, char out[FACTORS_NARROW_TEXT])
{
    snprintf(out, FACTORS_NARROW_TEXT,
             "svd.statistics \"blocks\" has room for %lld of a layer's %lld inputs%s",
             (long long)n->kept, (long long)n->inputs,
             n->kept == n->latents
                 ? ", as many as the latent: it chooses what \"received\" does in less time"
                 : "");
    return out;
}

/* One and a half times the plan's latents, as far as all its parts have them. */
static void widen(struct mdsvd_plan *plan, int64_t d)
{
    int64_t most = d;

    for (int p = 0; p < plan->parts; p++)
        if (plan->part[p].r && plan->part[p].rows < most) most = plan->part[p].rows;
    for (int p = 0; p < plan->parts; p++) {
        const int64_t wide = 3 * plan->part[p].r / 2;
        plan->part[p].r = wide < most ? wide : most;
    }
}

/* One point's width; `layers` latents of its own are copied. */
static bool add_width(struct made_factors *f, const struct run *r, const struct model *m,
                      const struct point *p, const int64_t *latents, struct err *e)
{
    struct factor_width *w = &f->width[f->widths++];
    const size_t bytes = (size_t)f->layers * sizeof *latents;
    int64_t latent;

    w->low_rank = p->low_rank;
    if (latents) {
        w->latents = mem_new(1, bytes, "the latents' widths", e);
        if (!w->latents) return false;
        memcpy(w->latents, latents, bytes);
    }
    return point_plan(r, m, p, &latent, &w->plan, e);
}

/* The widths of factors that the points need: each its own, or the largest. Where they are to be
 * divided among layers, these are widened, beside or instead of them. */
static bool make_widths(struct made_factors *f, const struct run *r, const struct model *m,
                        const struct factors_for *what, struct err *e)
{
    CHECK(what->n > 0);
    f->by_point = has_own_factors(r);
    f->points = f->by_point ? what->n : 1;
    f->width = mem_new((size_t)(2 * f->points), sizeof *f->width, "factors", e);
    if (!f->width) return false;
    for (int64_t i = 0; i < f->points * (f->by_point && what->uneven ? 2 : 1); i++) {
        const struct point q = f->by_point ? what->point[i % what->n] : widest_of(what);
        if (!add_width(f, r, m, &q, what->latents ? what->latents[i] : NULL, e)) return false;
        if (what->uneven && (i >= f->points || !f->by_point))
            widen(&f->width[i].plan, m->cfg.text.hidden_size);
    }
    f->narrow = narrow_of(f, r, m, what);
    return true;
}

/* Bytes of a layer's factors of one width, and what making them takes besides the statistics. */
struct width_bytes {
    double factors, scratch;
};

static struct width_bytes bytes_of(const struct run *r, const struct model *m,
                                   const struct made_factors *f, int64_t width)
{
    const struct mdsvd_plan *plan = &f->width[width].plan;
    const enum mdsvd_method method = (enum mdsvd_method)r->c.svd.input;
    const struct text_config *c = &m->cfg.text;
    const int64_t d = c->hidden_size, G = c->num_key_value_heads, dh = c->head_dim;
    const int64_t inputs = f->narrow.kept ? f->narrow.kept : d;
    const bool outputs = G * (dh + model_nope_dim(m)) < inputs;
    const double sets = sets_of(r, m);
    struct width_bytes sum = {0, 0};

    for (int i = 0; i < plan->parts; i++) {
        const struct mdsvd_part *part = &plan->part[i];
        double one = method == MDSVD_RANDOM
                         ? 0
                         : (double)mdsvd_scratch(part->rows, d, part->r, method, outputs);
        sum.factors += sets * (double)sizeof(float) * (double)(part->r * (part->rows + d));
        if (!part->r) continue;
        if (f->by_point)
            one = (double)blocks_bytes(part->rows, inputs, plan->parts > 1 ? G : 2 * G, outputs) +
                  (double)blocks_scratch(part->rows, inputs, part->r, dh, outputs, r->c.svd.steps);
        sum.scratch += sets * one; /* all at once, if there are enough threads */
    }
    return sum;
}

/* What gathering a layer's statistics takes; narrowed, first those that it is narrowed by. */
static double stats_bytes(const struct run *r, const struct model *m, const struct made_factors *f,
                          int64_t tokens)
{
    const int64_t G = m->cfg.text.num_key_value_heads, d = m->cfg.text.hidden_size;
    const int64_t rows = G * (m->cfg.text.head_dim + model_nope_dim(m));
    const struct kv_how how = {(enum kv_statistics)r->c.svd.statistics, sets_of(r, m),
                               f->narrow.kept};
    const struct kv_how first = {KV_RECEIVED, how.sets, 0};
    const bool activation = r->c.svd.input == MDSVD_ACTIVATION;
    const struct kv_bytes own = kv_stats_bytes(m, &how, activation ? tokens : 0);
    const struct kv_bytes before = kv_stats_bytes(m, &first, tokens);
    /* of a group's layers, each process keeps its own */
    double bytes = own.scratch + (activation ? own.sums * (r->processes > 1 ? 2 : 1) : 0);

    if (!f->narrow.kept) return bytes;
    bytes += before.scratch; /* kept for the next layer */
    return fmax(
        bytes,
        before.scratch + before.sums +
            how.sets * ((double)mdsvd_scratch(rows, d, f->narrow.kept, MDSVD_ACTIVATION, rows < d) +
                        (double)sizeof(float) * (double)(f->narrow.kept * (rows + d))));
}

bool factors_size(struct factors_size *s, const struct run *r, const struct model *m,
                  const struct factors_for *what, int64_t tokens, struct err *e)
{
    const double layers = (double)m->cfg.text.num_hidden_layers;
    double all = 0, largest = 0, scratch = 0;
    struct made_factors f = {.layers = m->cfg.text.num_hidden_layers};
    bool ok = make_widths(&f, r, m, what, e);

    for (int64_t i = 0; ok && i < f.widths; i++) {
        const struct width_bytes w = bytes_of(r, m, &f, i);
        all += w.factors;
        largest = w.factors > largest ? w.factors : largest;
        scratch = w.scratch > scratch ? w.scratch : scratch;
    }
    if (ok) s->made = layers * all + scratch + stats_bytes(r, m, &f, tokens);
    s->narrow = f.narrow;
    s->copied = layers * (all + (what->n > 1 || what->uneven ? largest : 0)) + largest;
    factors_free(&f);
    return ok;
}

bool factors_make(struct made_factors *f, struct run *r, struct model *m, struct model *base,
                  const struct factors_for *what, struct err *e)
{
    char text[FACTORS_NARROW_TEXT];

    *f = (struct made_factors){.layers = m->cfg.text.num_hidden_layers,
                               .method = (enum kv_method)r->c.svd.method,
                               .groups = m->cfg.text.num_key_value_heads,
                               .sets = sets_of(r, m)};
    if (!make_widths(f, r, m, what, e)) return false;
    if (f->narrow.kept) log_line("%s", factors_say_narrow(&f->narrow, text));
    f->layer = mem_new((size_t)(f->layers * f->widths), sizeof *f->layer, "factors", e);
    return f->layer &&
           (f->method == KV_NONE || factors_make_layers(f, r, m, base, what->samples, e));
}

static void free_width(struct made_factors *f, int64_t l, int64_t width)
{
    for (int s = 0; s < MODALITIES; s++)
        for (int p = 0; p < 2; p++)
            mdsvd_free(&factors_of_layer(f, l, width)->out[s][p]);
}

void factors_free(struct made_factors *f)
{
    for (int64_t i = 0; f->layer && i < f->layers * f->widths; i++)
        free_width(f, i / f->widths, i % f->widths);
    for (int64_t i = 0; i < f->widths; i++)
        free(f->width[i].latents);
    free(f->layer);
    free(f->width);
    free(f->latents);
    memset(f, 0, sizeof *f);
}

/* What a point takes of the factors. */
struct applied {
    struct made_factors *f;
    int64_t width; /* where they are */
    struct mdsvd_plan plan;
};

static void free_used(void *applied, int64_t l)
{
    const struct applied *a = applied;

    free_width(a->f, l, a->width);
}

/* Of nothing, all is kept. */
static double percent(double kept, double all)
{
    return all > 0 ? 100 * kept / all : 100;
}

/* Logs how much of the energy the point's components keep. */
static void log_kept(const struct applied *a, const struct run *r, int64_t l)
{
    const struct made_factors *f = a->f;
    const char *what = f->by_point ? "weighted energy" : "energy";
    double kept[MODALITIES] = {0, 0}, all[MODALITIES] = {0, 0};

    for (int s = 0; s < f->sets; s++)
        for (int p = 0; p < a->plan.parts; p++) {
            const struct mdsvd_out *out = &factors_of_layer(f, l, a->width)->out[s][p];
            const int64_t n = f->latents ? f->latents[l] : a->plan.part[p].r;
            if (f->by_point) kept[s] += out->kept; /* which is not the sum of components */
            for (int64_t i = 0; !f->by_point && i < n && i < out->live; i++)
                kept[s] += out->component[i];
            all[s] += out->energy;
        }
    if (r->c.svd.input == MDSVD_RANDOM)
        log_line("svd: layer %lld starts at random", (long long)l);
    else if (f->sets > 1)
        log_line(
            "svd: layer %lld keeps %.2f %% of the text tokens' %s, %.2f %% of the image tokens'",
            (long long)l, percent(kept[TEXT], all[TEXT]), what, percent(kept[IMAGE], all[IMAGE]));
    else
        log_line("svd: layer %lld keeps %.2f %% of the %s", (long long)l,
                 percent(kept[TEXT], all[TEXT]), what);
}

/* The factors of one layer and set, arranged as model_to_mla needs them. */
static struct factors factors_of(const struct applied *a, const struct model *m, int64_t l, int set)
{
    const struct made_factors *f = a->f;
    const struct mdsvd_plan *plan = &f->width[a->width].plan;
    const struct mdsvd_out *key = factors_of_layer(f, l, a->width)->out[set];
    const struct mdsvd_out *value = key + plan->parts - 1;
    int64_t k_rows = m->cfg.text.num_key_value_heads * model_nope_dim(m);
    struct factors out = {{key->down, value->down}, key->up, value->up, 0};

    for (int p = 0; p < plan->parts; p++)
        if (plan->part[p].r) out.ld = factors_rank(f, a->width, p, l);
    if (kv_methods[f->method].joint) out.up_v = key->up + k_rows * key->r;
    return out;
}

int64_t factors_width(const struct made_factors *f, const struct point *p)
{
    for (int64_t i = 0; f->by_point && i < f->points; i++)
        if (f->width[i].low_rank >= p->low_rank && f->width[i].low_rank <= p->low_rank) return i;
    CHECK(!f->by_point);
    return 0;
}

bool factors_apply(struct made_factors *f, const struct run *r, const struct point *p, bool last,
                   struct model *m, struct err *e)
{
    static const char *const inputs[] = {MDSVD_NAMES}, *const statistics[] = {KV_STATISTICS_NAMES};
    struct factors(*each)[MODALITIES] = mem_new((size_t)f->layers, sizeof *each, "factors", e);
    struct mha2mla_config section = m->cfg.mha2mla;
    struct applied a = {.f = f, .width = factors_width(f, p)};
    int64_t latent;
    bool ok = each && point_plan(r, m, p, &latent, &a.plan, e);

    for (int64_t l = 0; ok && l < f->layers && f->method != KV_NONE; l++) {
        for (int s = 0; s < f->sets; s++)
            each[l][s] = factors_of(&a, m, l, s);
        log_kept(&a, r, l);
    }
    ok = ok && model_to_mla(m,
                            &(struct to_mla){.method = f->method,
                                             .decoupled = f->sets > 1,
                                             .latent = latent,
                                             .factors = (const struct factors(*)[MODALITIES])each,
                                             .used = last || f->by_point ? free_used : NULL,
                                             .arg = &a,
                                             .latents = f->latents},
                            e);
    if (ok) {
        section.svd_init_method = kv_method_names[f->method];
        section.low_rank = (int64_t)ceil(p->low_rank); /* informative only: tensors decide */
        section.decoupled = f->sets > 1;
        section.calibration = inputs[r->c.svd.input];
        section.statistics =
            r->c.svd.statistics == KV_TOKENS ? NULL : statistics[r->c.svd.statistics];
        ok = hf_config_set_mha2mla(&m->cfg, &section, e);
    }
    free(each);
    return ok;
}
