/* factors_layer.c - the statistics of a layer and its factors. Per layer and modality, with
 * W = [W_kc; W_v] [rows, d], rows = G*dc + G*dh:
 *
 *     S = weighted sum over tokens of x x^T  [d, d], x the input of k and v   if rows >= d,
 *     M = the same of (W x) (W x)^T          [rows, rows]                     otherwise
 *     W ~ up down, up [rows, r], down [r, d]                (convert/mdsvd.h, convert/blocks.h)
 *
 * A group of layers is gathered by all processes, one layer for each, which
 * then factors its own. */
#include "base/log.h"
#include "autograd/gemm.h"
#include "base/mem.h"
#include "base/rng.h"
#include "cluster/cluster.h"
#include "convert/kv_blocks.h"
#include "convert/kv_stats.h"
#include "train/factors_parts.h"
#include "train/layerwise.h"

#include <cblas.h>
#include <stdlib.h>

/* What goes through the layers. */
struct making {
    struct made_factors *f;
    struct run *r;
    struct model *m;
    struct layerwise w;
    struct kv_stats stats, first; /* first: what a layer is narrowed by */
};

static bool by_activation(const struct run *r)
{
    return r->c.svd.input == MDSVD_ACTIVATION;
}

static bool svd_look(void *arg, const struct layer_look *look, struct err *e)
{
    const struct kv_batch b = {look->x, look->modality, look->batch->tokens, look->batch->samples,
                               look->attention};

    return kv_stats_add(arg, &b, e);
}

static bool check_tokens(const struct kv_stats *s, struct err *e)
{
    for (int set = 0; set < s->sets; set++)
        if (!(s->sums.count[KV_TEXT_TOKENS + set] > 0))
            return err_set(e,
                           "the calibration samples have no %s tokens: more samples, or "
                           "svd.decoupled false",
                           set == TEXT ? "text" : "image");
    return true;
}

/* ---- one error for all rows ---- */

/* What is factored of a layer, at the same time: the plan's parts in each set. */
struct problems {
    int n;
    struct mdsvd_in in[2 * MODALITIES];
    struct mdsvd_out out[2 * MODALITIES], *place[2 * MODALITIES];
};

static struct mdsvd_in problem_of(const struct making *k, const struct mdsvd_part *part, int set)
{
    const struct kv_stats *s = &k->stats;
    struct mdsvd_in in = {.w = s->w + part->row0 * s->d,
                          .n = part->rows,
                          .d = s->d,
                          .r = part->r,
                          .method = (enum mdsvd_method)k->r->c.svd.input};

    if (!by_activation(k->r)) return in;
    in.scale = kv_stats_scale(s, set);
    if (s->outputs) {
        in.m = s->sums.moments->s[set] + part->row0 * s->rows + part->row0;
        in.ldm = s->rows;
    } else {
        in.s = s->sums.moments->s[set];
    }
    return in;
}

/* By run.seed, layer, set and part, whichever process makes them. */
static bool start_at_random(struct making *k, int64_t l, struct err *e)
{
    const struct mdsvd_plan *plan = &k->f->width[0].plan;
    const uint64_t layer = rng_at((uint64_t)k->r->c.run.seed, (uint64_t)l);
    bool ok = true;

    for (int i = 0; ok && i < k->f->sets * plan->parts; i++) {
        const struct mdsvd_part *part = &plan->part[i % plan->parts];
        const struct mdsvd_random in = {part->rows, k->stats.d, part->r,
                                        k->m->cfg.text.initializer_range,
                                        rng_at(layer, (uint64_t)i)};
        ok = !part->r ||
             mdsvd_random(&factors_of_layer(k->f, l, 0)->out[i / plan->parts][i % plan->parts], &in,
                          e);
    }
    return ok;
}

static bool factor_whole(struct making *k, int64_t l, struct err *e)
{
    const struct mdsvd_plan *plan = &k->f->width[0].plan;
    struct problems now = {0};

    if (k->r->c.svd.input == MDSVD_RANDOM) return start_at_random(k, l, e);
    for (int set = 0; set < k->f->sets; set++)
        for (int p = 0; p < plan->parts; p++) {
            if (!plan->part[p].r) continue;
            now.in[now.n] = problem_of(k, &plan->part[p], set);
            now.place[now.n++] = &factors_of_layer(k->f, l, 0)->out[set][p];
        }
    if (!mdsvd_factor(now.out, now.in, now.n, now.n, e)) return false;
    for (int i = 0; i < now.n; i++)
        *now.place[i] = now.out[i];
    return true;
}

/* ---- an error for each block of rows ---- */

/* The same parts, for all widths. */
struct block_problem {
    int set, part;
    struct kv_blocks rows;
    struct blocks blocks;
};

static bool open_problem(struct block_problem *b, const struct making *k, struct err *e)
{
    const struct mdsvd_part *part = &k->f->width[0].plan.part[b->part];
    const struct kv_stats *s = &k->stats;
    const struct blocks_in in = {.w = kv_stats_weights(s, b->set) + part->row0 * s->inputs,
                                 .n = part->rows,
                                 .d = s->inputs,
                                 .outputs = s->outputs,
                                 .ld = s->width,
                                 .block = b->rows.block,
                                 .blocks = b->rows.n,
                                 .s = s->sums.total[b->set] +
                                      (s->outputs ? part->row0 * (s->width + 1) : 0),
                                 .scale = kv_stats_scale(s, b->set)};

    return blocks_open(&b->blocks, &in, factors_widest_part(k->f, b->part), e);
}

/* All at the same time, each on a thread of its own; *e is the first one's error. */
static bool open_problems(struct block_problem *b, int n, const struct making *k, struct err *e)
{
    const int blas_threads = openblas_get_num_threads();
    struct err each[2 * MODALITIES];
    bool ok[2 * MODALITIES];

    openblas_set_num_threads(1);
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < n; i++)
        ok[i] = open_problem(&b[i], k, &each[i]);
    openblas_set_num_threads(blas_threads);
    for (int i = 0; i < n; i++)
        if (!ok[i]) {
            *e = each[i];
            return false;
        }
    return true;
}

/* down [r, narrow] to the layer's own inputs: [r, d]. */
static bool widen(struct mdsvd_out *out, const struct kv_stats *s, int set, struct err *e)
{
    float *down = mem_new((size_t)out->r, (size_t)s->d * sizeof *down, "factors", e);

    if (!down) return false;
    gemm_real(out->r, s->d, s->narrow, mat_of(out->down, s->narrow, false),
              mat_of(s->sums.narrow.down[set], s->d, false), false, down, s->d);
    free(out->down);
    out->down = down;
    return true;
}

static bool factor_problem(const struct block_problem *b, struct making *k, int64_t l,
                           struct err *e)
{
    for (int64_t i = 0; i < k->f->widths; i++) {
        struct mdsvd_out *out = &factors_of_layer(k->f, l, i)->out[b->set][b->part];
        if (!blocks_factor(out, &b->blocks, factors_rank(k->f, i, b->part, l), k->r->c.svd.steps,
                           e) ||
            (k->f->narrow.kept && !widen(out, &k->stats, b->set, e)))
            return false;
    }
    return true;
}

static bool factor_blocks(struct making *k, int64_t l, struct err *e)
{
    const struct mdsvd_plan *plan = &k->f->width[0].plan;
    struct block_problem b[2 * MODALITIES] = {0};
    bool ok = true;
    int n = 0;

    for (int set = 0; ok && set < k->f->sets; set++)
        for (int p = 0; ok && p < plan->parts; p++) {
            if (!plan->part[p].r) continue;
            b[n].set = set;
            b[n].part = p;
            ok = kv_blocks_of(&b[n++].rows, &k->stats, set, plan->part[p].row0, plan->part[p].rows,
                              e);
        }
    ok = ok && open_problems(b, n, k, e);
    for (int i = 0; ok && i < n; i++)
        ok = factor_problem(&b[i], k, l, e);
    for (int i = 0; i < n; i++) {
        blocks_close(&b[i].blocks);
        kv_blocks_free(&b[i].rows);
    }
    return ok;
}

/* ---- layer by layer ---- */

/* `last`: the samples then go on to the next layer. */
static bool gather_layer(struct making *k, struct kv_stats *s, int64_t l, bool last, struct err *e)
{
    const struct layer_walk one = {&k->w, last && l < k->f->layers - 1, svd_look};
    bool ok =
        kv_sums_new(s, e) && layerwise_layer("svd", l, &one, 1, s, e) && kv_stats_gathered(s, e);

    ok = cluster_agree(ok, e) && kv_stats_sum(s, cluster_sum, e);
    if (ok) kv_stats_finish(s);
    return ok;
}

/* By the first process, for all. */
static bool make_narrow(struct making *k, struct kv_narrow *n, struct err *e)
{
    const struct kv_stats *s = &k->first;
    const size_t up = (size_t)(s->rows * k->f->narrow.kept),
                 down = (size_t)(k->f->narrow.kept * s->d);
    bool ok = !cluster_first() || kv_narrow_make(n, s, k->f->narrow.kept, e);

    for (int set = 0; set < s->sets && !cluster_first(); set++) {
        n->up[set] = mem_new(up, sizeof(float), "narrowed inputs", e);
        n->down[set] = mem_new(down, sizeof(float), "narrowed inputs", e);
        ok = ok && n->up[set] && n->down[set];
    }
    ok = cluster_agree(ok, e);
    for (int set = 0; ok && set < s->sets; set++)
        ok = cluster_broadcast(n->up[set], up * sizeof(float), 0, e) &&
             cluster_broadcast(n->down[set], down * sizeof(float), 0, e);
    return ok;
}

/* Narrows layer l's inputs, for the sums that follow. */
static bool narrow_layer(struct making *k, int64_t l, struct kv_narrow *n, struct err *e)
{
    bool ok;

    kv_stats_layer(&k->first, k->m, l);
    ok = gather_layer(k, &k->first, l, false, e) && check_tokens(&k->first, e) &&
         make_narrow(k, n, e);
    kv_sums_free(&k->first.sums);
    return ok;
}

/* What few tokens leave open is decided by the weights alone. */
static void say_few(const struct making *k, int64_t l)
{
    const struct mdsvd_plan *plan = &k->f->width[0].plan;

    for (int set = 0; set < k->f->sets; set++)
        for (int p = 0; p < plan->parts; p++)
            if (k->stats.sums.count[KV_TEXT_TOKENS + set] < (double)factors_widest_part(k->f, p))
                log_line("svd: layer %lld: %.0f calibration tokens for %lld components: too few?",
                         (long long)l, k->stats.sums.count[KV_TEXT_TOKENS + set],
                         (long long)factors_widest_part(k->f, p));
}

/* Gathers the statistics of a group of layers, from `first` on one for each process, which keeps
 * those of its own. */
static bool gather_group(struct making *k, int64_t first, struct err *e)
{
    struct kv_sums own = {0};
    bool ok = true;

    for (int64_t l = first; ok && l < k->f->layers && l < first + cluster_size(); l++) {
        struct kv_narrow narrow = {0};
        kv_stats_layer(&k->stats, k->m, l);
        ok = !k->f->narrow.kept || narrow_layer(k, l, &narrow, e);
        k->stats.sums.narrow = narrow;
        ok = layerwise_done(ok && gather_layer(k, &k->stats, l, true, e), "svd", l, e);
        if (ok && k->f->by_point) say_few(k, l);
        if (ok && l == first + cluster_rank()) {
            own = k->stats.sums;
            k->stats.sums = (struct kv_sums){0};
        }
        kv_sums_free(&k->stats.sums);
    }
    k->stats.sums = own;
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
    static const char *const of[MODALITIES] = {[TEXT] = " of text", [IMAGE] = " of images"};

    for (int64_t i = 0; i < f->widths * f->sets * f->width[0].plan.parts; i++) {
        const int64_t width = i / f->width[0].plan.parts / f->sets;
        const int p = (int)(i % f->width[0].plan.parts);
        const int set = (int)(i / f->width[0].plan.parts % f->sets);
        const struct mdsvd_part *part = &f->width[width].plan.part[p];
        struct mdsvd_out *out = &factors_of_layer(f, l, width)->out[set][p];
        if (!part->r) continue;
        if (cluster_size() > 1 && !share_out(out, part->rows, d, from, e)) return false;
        if (out->live == 0)
            log_line("svd: layer %lld: no component has energy%s: the projection, or what it "
                     "reads, is all zeros",
                     (long long)l, f->sets > 1 ? of[set] : "");
        else if (out->live < factors_rank(f, width, p, l))
            log_line("svd: layer %lld: components with energy%s: only %lld of %lld: too few "
                     "calibration tokens?",
                     (long long)l, f->sets > 1 ? of[set] : "", (long long)out->live,
                     (long long)factors_rank(f, width, p, l));
    }
    return true;
}

/* The layers of a group at the same time, each in its own process. */
static bool factor_group(struct making *k, int64_t first, struct err *e)
{
    const int64_t own = first + cluster_rank();
    bool ok = true;

    if (own < k->f->layers) {
        kv_stats_layer(&k->stats, k->m, own);
        ok = (!by_activation(k->r) || check_tokens(&k->stats, e)) &&
             (k->f->by_point ? factor_blocks(k, own, e) : factor_whole(k, own, e));
        ok = layerwise_done(ok, "svd", own, e);
    }
    kv_sums_free(&k->stats.sums);
    ok = cluster_agree(ok, e);
    for (int64_t l = first; ok && l < k->f->layers && l < first + cluster_size(); l++)
        ok = share_layer(k->f, l, k->stats.d, (int)(l - first), e);
    return ok;
}

bool factors_make_layers(struct made_factors *f, struct run *r, struct model *m, struct model *base,
                         int64_t samples, struct err *e)
{
    const enum kv_statistics kind = (enum kv_statistics)r->c.svd.statistics;
    const bool activation = by_activation(r), attention = kind != KV_TOKENS;
    const struct kv_how how = {kind, f->sets, f->narrow.kept}, first = {KV_RECEIVED, f->sets, 0};
    struct making k = {.f = f, .r = r, .m = m};
    bool ok = kv_stats_open(&k.stats, m, &how, e) &&
              (!f->narrow.kept || kv_stats_open(&k.first, m, &first, e)) &&
              (!activation || layerwise_open(&k.w, r, attention && base ? base : m, samples,
                                             LOOK_X | (attention ? LOOK_ATTENTION : 0), e));

    ok = cluster_agree(ok, e);
    for (int64_t l = 0; ok && l < f->layers; l += cluster_size())
        ok = (!activation || gather_group(&k, l, e)) && factor_group(&k, l, e);
    layerwise_close(&k.w);
    kv_stats_close(&k.stats);
    kv_stats_close(&k.first);
    return ok;
}
