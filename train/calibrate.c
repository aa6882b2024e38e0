/* calibrate.c - the steps that look at activations: ranking the RoPE pairs, and MD-SVD. */
#include "autograd/gemm.h"
#include "base/log.h"
#include "base/mem.h"
#include "convert/mdsvd.h"
#include "convert/mdsvd_plan.h"
#include "convert/moments.h"
#include "convert/rank.h"
#include "model/rankfile.h"
#include "convert/transform.h"
#include "train/peft.h"
#include "train/steps.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Calibration samples, one after the other, as graphs with taps. */
struct calibration {
    struct run *r;
    struct model *m;
    struct order order;
    struct batch_buffer batch;
    struct taps taps;
    uint8_t *modality; /* [T] of the current sample */
    size_t cap;
};

static struct rank_dims dims_of(const struct model *m)
{
    const struct text_config *c = &m->cfg.text;

    return (struct rank_dims){c->num_hidden_layers, c->num_attention_heads, c->num_key_value_heads,
                              c->head_dim};
}

static void calibration_close(struct calibration *k)
{
    order_free(&k->order);
    batch_free(&k->batch);
    free(k->taps.x);
    free(k->taps.q);
    free(k->taps.k);
    free(k->modality);
}

static bool calibration_open(struct calibration *k, struct run *r, struct model *m, bool qk, bool x,
                             struct err *e)
{
    size_t L = (size_t)m->cfg.text.num_hidden_layers;

    *k = (struct calibration){.r = r, .m = m};
    if (r->train.n == 0) return err_set(e, "no usable sample is left to calibrate on");
    if (qk) {
        k->taps.q = mem_new(L, sizeof *k->taps.q, "taps", e);
        k->taps.k = k->taps.q ? mem_new(L, sizeof *k->taps.k, "taps", e) : NULL;
        if (!k->taps.k) return false;
    }
    if (x && !(k->taps.x = mem_new(L, sizeof *k->taps.x, "taps", e))) return false;
    return order_init(&k->order, (uint64_t)r->c.run.seed * 1000003u + 77, r->train.n, e);
}

/* Runs sample number i; afterwards the taps can be read. */
static bool calibration_run(struct calibration *k, int64_t i, struct err *e)
{
    struct run *r = k->r;
    struct forward f = {.batch = &k->batch.batch, .taps = &k->taps};
    const struct batch *b = &k->batch.batch;
    struct sample s;
    int32_t *last;
    bool ok;

    if (run_signal()) return err_set(e, "stopped by signal %d; go on with --resume", run_signal());
    if (!dataset_sample(&r->train, order_at(&k->order, i), &s, e)) return false;
    tape_begin(r->tape, false);
    ok = batch_fill(&k->batch, &s, 1, false, e) &&
         run_pictures(r, k->m, &r->train, &k->batch, &f.features, e) &&
         mem_grow(&k->modality, &k->cap, (size_t)b->tokens, 1, e);
    if (ok) {
        last = tape_new_array(r->tape, int32_t, 1);
        last[0] = (int32_t)b->tokens - 1;
        model_logits(k->m, r->tape, &f, last, 1);
        ok = tape_plan(r->tape, r->memory_limit, e);
    }
    if (ok) {
        tape_forward(r->tape);
        for (int64_t j = 0; j < b->n_spans; j++)
            memset(k->modality + b->spans[j].begin, (int)b->spans[j].modality,
                   (size_t)(b->spans[j].end - b->spans[j].begin));
    }
    sample_free(&s);
    return ok;
}

static int64_t calibration_samples(const struct run *r, int64_t wanted)
{
    return wanted < r->train.n ? wanted : r->train.n;
}

/* The table is [T, dh]: cos, then sin; the ranking wants them apart. */
static bool split_table(const struct tensor *table, float **cs, size_t *cap, struct err *e)
{
    int64_t T = table->rows, P = table->cols / 2;

    if (!mem_grow(cs, cap, (size_t)(2 * T * P), sizeof **cs, e)) return false;
    for (int64_t t = 0; t < T; t++) {
        memcpy(*cs + t * P, tensor_real(table) + 2 * t * P, (size_t)P * sizeof **cs);
        memcpy(*cs + (T + t) * P, tensor_real(table) + (2 * t + 1) * P, (size_t)P * sizeof **cs);
    }
    return true;
}

static bool accumulate(struct calibration *k, struct rank_acc *acc, int64_t samples,
                       int64_t *tokens, struct err *e)
{
    float *cs = NULL;
    size_t cap = 0;
    bool ok = true;

    for (int64_t i = 0; ok && i < samples; i++) {
        ok = calibration_run(k, i, e) && split_table(k->taps.table, &cs, &cap, e);
        int64_t T = ok ? k->batch.batch.tokens : 0, P = k->m->cfg.text.head_dim / 2;
        for (int64_t l = 0; ok && l < k->m->cfg.text.num_hidden_layers; l++)
            ok = rank_acc_add(acc, l,
                              &(struct rank_sample){tensor_real(k->taps.q[l]),
                                                    tensor_real(k->taps.k[l]), cs, cs + T * P,
                                                    k->modality, T},
                              e);
        *tokens += T;
        log_progress("rank: sample %lld of %lld", (long long)i + 1, (long long)samples);
    }
    free(cs);
    return ok;
}

static bool measure_rank(struct run *r, struct model *m, const char *path, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct rank_dims n = dims_of(m);
    int64_t samples = calibration_samples(r, r->c.rank.samples), tokens = 0,
            count = n.L * n.G * n.dh / 2;
    struct rank_acc *acc = rank_acc_new(strategy, &n, r->c.rank.max_queries, e);
    int32_t *rank = mem_new((size_t)count, sizeof *rank, "ranks", e);
    double *scores = mem_new((size_t)count, sizeof *scores, "ranks", e);
    struct calibration k = {0};
    bool ok = acc && rank && scores && calibration_open(&k, r, m, true, false, e) &&
              accumulate(&k, acc, samples, &tokens, e) && rank_acc_finish(acc, rank, scores, e);

    if (ok) {
        struct rankfile_info info = {.samples = samples, .tokens = tokens};
        strncpy(info.strategy, rank_strategy_name(strategy), sizeof info.strategy - 1);
        ok = rankfile_write(path, &n, rank, scores, &info, e);
    }
    if (ok)
        log_line("rank: %s over %lld samples, %lld tokens: %s", rank_strategy_name(strategy),
                 (long long)samples, (long long)tokens, path);
    calibration_close(&k);
    rank_acc_free(acc);
    free(rank);
    free(scores);
    return ok;
}

bool step_rank(struct run *r, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    char *dir = run_path(r, e, "rank"), *path = dir ? run_path(r, e, "rank/rank.h5") : NULL;
    struct model m = {0};
    bool ok = path && file_mkdirs(dir, e);

    if (ok && rank_strategy_kind(strategy) == RANK_KIND_MEASURED) {
        if (file_exists(path))
            log_line("rank: is done already");
        else
            ok = open_base_model(r, &m, e) && measure_rank(r, &m, path, e);
    }
    model_close(&m);
    free(dir);
    free(path);
    return ok;
}

/* The kept pairs of a point, from the ranking or from the strategy itself. */
static bool pairs_of(const struct run *r, const struct point *p, const struct model *m,
                     int32_t *pairs, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct rank_dims n = dims_of(m);
    int32_t *rank = mem_new((size_t)(n.L * n.G * n.dh / 2), sizeof *rank, "ranks", e);
    char *path = run_path(r, e, "rank/rank.h5");
    bool ok = rank && path && rank_check(&n, p->rope_dim, e);

    if (ok && rank_strategy_kind(strategy) == RANK_KIND_FIXED)
        ok = rank_fixed(rank, strategy, &n, p->rope_dim, r->c.rank.uniform_start, e);
    else if (ok && rank_strategy_kind(strategy) == RANK_KIND_GIVEN)
        ok = r->c.rank.file ? rankfile_read(r->c.rank.file, &n, rank, NULL, e)
                            : err_set(e, "rank.file: must be given for rank.strategy \"file\"");
    else if (ok)
        ok = file_exists(path) ? rankfile_read(path, &n, rank, NULL, e)
                               : err_set(e, "%s: missing: add \"rank\" to run.steps", path);
    if (ok) rank_select(pairs, rank, &n, p->rope_dim);
    free(rank);
    free(path);
    return ok;
}

bool point_check(const struct run *r, const struct model *m, const struct point *p, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct rank_dims n = dims_of(m);
    int32_t *pairs;
    bool ok;

    if (!rank_check(&n, p->rope_dim, e)) return false;
    if (rank_strategy_kind(strategy) == RANK_KIND_MEASURED) return true;
    pairs = mem_new((size_t)(n.L * n.G * p->rope_dim / 2), sizeof *pairs, "kept pairs", e);
    ok = pairs && pairs_of(r, p, m, pairs, e);
    free(pairs);
    return ok;
}

/* The published codes' word for a strategy. What ranked the pairs is not theirs to know: to them
 * "mkl" (with pictures) and "2-norm" (text alone) say that a rank file does. */
static const char *version_name(const struct run *r, const struct model *m)
{
    enum rank_strategy s = (enum rank_strategy)r->c.rank.strategy;

    if (rank_strategy_kind(s) == RANK_KIND_FIXED) return rank_strategy_name(s);
    return m->has_vision ? "mkl" : "2-norm";
}

static bool to_partial(struct run *r, const struct point *p, struct model *m, struct err *e)
{
    struct rank_dims n = dims_of(m);
    struct mha2mla_config c = {.partial_rope_version = version_name(r, m),
                               .rope_dim_for_mla = p->rope_dim,
                               .uniform_start_point = r->c.rank.uniform_start,
                               .svd_init_method = "none"};
    int32_t *pairs = mem_new((size_t)(n.L * n.G * p->rope_dim / 2), sizeof *pairs, "kept pairs", e);
    bool ok = pairs && pairs_of(r, p, m, pairs, e) && model_to_partial(m, pairs, p->rope_dim, e) &&
              hf_config_set_mha2mla(&m->cfg, &c, e);

    free(pairs);
    return ok;
}

bool open_untrained_partial(struct run *r, const struct point *p, struct model *m, struct err *e)
{
    return open_base_model(r, m, e) && to_partial(r, p, m, e);
}

bool open_partial_model(struct run *r, const struct point *p, struct model *m, struct err *e)
{
    char *dir = run_path(r, e, "%s/stage1/model", p->stage1);
    char *config = dir ? file_join(dir, "config.json", e) : NULL;
    bool ok = config;

    if (ok && file_exists(config)) {
        ok = model_open(m, dir, e);
    } else if (ok && run_has_step(r, STEP_STAGE1)) {
        ok = err_set(e, "%s: stage 1 of %s is not finished", dir, p->stage1);
    } else {
        ok = ok && open_untrained_partial(r, p, m, e);
    }
    free(dir);
    free(config);
    return ok;
}

/* What the factors of the layers are made from: second moments of the inputs of k and v, or, where
 * the projection has fewer rows than columns, of its outputs. */
struct statistics {
    int64_t first, n; /* layers */
    bool outputs;
    struct moments *moments; /* [n] */
    float *y;
    size_t cap;
};

static int64_t kv_rows(const struct model *m)
{
    const struct text_config *c = &m->cfg.text;

    return c->num_key_value_heads * (2 * c->head_dim - m->rope_dim);
}

/* W = [W_kc; W_v] of a layer, [rows, d]. */
static bool kv_weight(const struct model *m, int64_t l, float *w)
{
    const struct kv_set *s = &m->layers[l].attn.set[TEXT];

    tensor_to_real(&s->up_k->t, 0, tensor_count(&s->up_k->t), w);
    tensor_to_real(&s->up_v->t, 0, tensor_count(&s->up_v->t), w + tensor_count(&s->up_k->t));
    return true;
}

static bool add_sample(struct calibration *k, struct statistics *s, const float *const *w,
                       struct err *e)
{
    int64_t T = k->batch.batch.tokens, d = k->m->cfg.text.hidden_size, rows = kv_rows(k->m);

    if (s->outputs && !mem_grow(&s->y, &s->cap, (size_t)(T * rows), sizeof *s->y, e)) return false;
    for (int64_t i = 0; i < s->n; i++) {
        const float *x = tensor_real(k->taps.x[s->first + i]);
        if (s->outputs) {
            gemm(T, rows, d, mat_of(x, d, false), mat_of(w[i], d, true), false, s->y, rows, NULL);
            x = s->y;
        }
        moments_add(&s->moments[i], x, k->modality, T, 1);
    }
    return true;
}

static bool gather(struct calibration *k, struct statistics *s, float *const *w, struct err *e)
{
    int64_t samples = calibration_samples(k->r, k->r->c.svd.samples);
    int64_t width = s->outputs ? kv_rows(k->m) : k->m->cfg.text.hidden_size;
    bool ok = true;

    for (int64_t i = 0; ok && i < s->n; i++)
        ok = moments_init(&s->moments[i], width, e);
    for (int64_t i = 0; ok && i < samples; i++) {
        ok = calibration_run(k, i, e) && add_sample(k, s, (const float *const *)w, e);
        log_progress("svd: layers %lld-%lld, sample %lld of %lld", (long long)s->first,
                     (long long)(s->first + s->n - 1), (long long)i + 1, (long long)samples);
    }
    for (int64_t i = 0; ok && i < s->n; i++)
        ok = moments_finish(&s->moments[i], e);
    return ok;
}

/* The parts' factors of one layer and one set, put where model_to_mla wants them. */
struct layer_factors {
    struct mdsvd_out out[MODALITIES][2];
};

static bool factor_layer(const struct run *r, const struct model *m, const struct mdsvd_plan *plan,
                         const struct kv_method_info *v, const float *w, struct moments *moments,
                         bool outputs, bool decoupled, struct layer_factors *f,
                         struct factors out[MODALITIES], struct err *e)
{
    int64_t rows = kv_rows(m), d = m->cfg.text.hidden_size;

    if (moments && !decoupled) moments_merge(moments);
    for (int s = 0; s < (decoupled ? MODALITIES : 1); s++) {
        for (int p = 0; p < plan->parts; p++) {
            const struct mdsvd_part *part = &plan->part[p];
            struct mdsvd_in in = {.w = w + part->row0 * d,
                                  .n = part->rows,
                                  .d = d,
                                  .r = part->r,
                                  .method = (enum mdsvd_method)r->c.svd.input};
            if (!part->r) continue;
            if (moments && moments->tokens[s] == 0)
                return err_set(e,
                               "svd: the calibration samples have no %s tokens: more samples, or "
                               "svd.decoupled false",
                               s == TEXT ? "text" : "image");
            if (moments) in.scale = moments_scale(moments, s);
            if (moments && outputs) {
                in.m = moments->s[s] + part->row0 * rows + part->row0;
                in.ldm = rows;
            } else if (moments) {
                in.s = moments->s[s];
            }
            if (!mdsvd_factor(&f->out[s][p], &in, e)) return false;
            if (f->out[s][p].live < part->r)
                log_line(
                    "svd: only %lld of %lld components have energy: too few calibration tokens?",
                    (long long)f->out[s][p].live, (long long)part->r);
        }
        const struct mdsvd_out *key = &f->out[s][0], *value = &f->out[s][plan->parts - 1];
        int64_t k_rows = m->cfg.text.num_key_value_heads * (m->cfg.text.head_dim - m->rope_dim);
        out[s] = (struct factors){{key->down, value->down}, key->up, value->up};
        if (v->joint) out[s].up_v = key->up + k_rows * key->r;
    }
    return true;
}

static void log_kept(const struct layer_factors *f, int64_t l, bool decoupled)
{
    double kept[MODALITIES] = {0, 0}, all[MODALITIES] = {0, 0};

    for (int s = 0; s < MODALITIES; s++)
        for (int p = 0; p < 2; p++) {
            kept[s] += f->out[s][p].kept;
            all[s] += f->out[s][p].energy;
        }
    if (decoupled)
        log_line("svd: layer %lld keeps %.2f %% of the text tokens' energy, %.2f %% of the image "
                 "tokens'",
                 (long long)l, 100 * kept[TEXT] / all[TEXT], 100 * kept[IMAGE] / all[IMAGE]);
    else
        log_line("svd: layer %lld keeps %.2f %% of the energy", (long long)l,
                 100 * kept[TEXT] / all[TEXT]);
}

static bool factor_all(struct run *r, struct model *m, const struct mdsvd_plan *plan,
                       const struct kv_method_info *v, bool decoupled, struct layer_factors *made,
                       struct factors (*factors)[MODALITIES], struct err *e)
{
    int64_t L = m->cfg.text.num_hidden_layers, d = m->cfg.text.hidden_size, rows = kv_rows(m);
    bool activation = r->c.svd.input == MDSVD_ACTIVATION;
    struct statistics s = {.outputs = rows < d};
    int64_t width = s.outputs ? rows : d, group = L;
    struct calibration k = {0};
    float **w = mem_new((size_t)L, sizeof *w, "weights", e);
    bool ok = w;

    /* Moments of as many layers at a time as fit a quarter of the memory. */
    size_t each = (size_t)(16 * width * width + 3072 * width + 4 * rows * d);
    while (group > 1 && each * (size_t)group > r->memory_limit / 4)
        group = (group + 1) / 2;
    s.moments = mem_new((size_t)group, sizeof *s.moments, "moments", e);
    ok = ok && s.moments && calibration_open(&k, r, m, false, true, e);
    for (s.first = 0; ok && s.first < L; s.first += s.n) {
        s.n = L - s.first < group ? L - s.first : group;
        for (int64_t i = 0; ok && i < s.n; i++) {
            w[i] = mem_new((size_t)(rows * d), sizeof *w[i], "weights", e);
            ok = w[i] && kv_weight(m, s.first + i, w[i]);
        }
        if (ok && activation) ok = gather(&k, &s, w, e);
        gemm_blas_threads((int)r->c.run.threads);
        for (int64_t i = 0; ok && i < s.n; i++) {
            int64_t l = s.first + i;
            ok = factor_layer(r, m, plan, v, w[i], activation ? &s.moments[i] : NULL, s.outputs,
                              decoupled, &made[l], factors[l], e);
            if (ok) log_kept(&made[l], l, decoupled);
        }
        gemm_blas_threads(1);
        for (int64_t i = 0; i < s.n; i++) {
            free(w[i]);
            w[i] = NULL;
            moments_free(&s.moments[i]);
        }
    }
    calibration_close(&k);
    free(s.moments);
    free(s.y);
    free(w);
    return ok;
}

bool point_plan(const struct run *r, const struct model *m, const struct point *p, int64_t *latent,
                struct mdsvd_plan *plan, struct err *e)
{
    const struct text_config *c = &m->cfg.text;
    int64_t G = c->num_key_value_heads;

    *latent = 1; /* "none": of no width that matters */
    return (r->c.svd.method == KV_NONE || mdsvd_latent(latent, p->low_rank, G, e)) &&
           mdsvd_plan(plan, &kv_methods[r->c.svd.method], G, c->head_dim, p->rope_dim,
                      c->hidden_size, *latent, e);
}

bool convert_point(struct run *r, const struct point *p, struct model *m, struct err *e)
{
    static const char *const inputs[] = {"activation", "weight"};
    const struct text_config *c = &m->cfg.text;
    enum kv_method method = (enum kv_method)r->c.svd.method;
    const struct kv_method_info *v = &kv_methods[method];
    int64_t L = c->num_hidden_layers, latent;
    bool decoupled = r->c.svd.decoupled && m->has_vision;
    struct mdsvd_plan plan;
    struct layer_factors *made = NULL;
    struct factors(*factors)[MODALITIES] = NULL;
    struct mha2mla_config section = m->cfg.mha2mla;
    bool ok;

    ok = point_plan(r, m, p, &latent, &plan, e);
    if (ok) {
        made = mem_new((size_t)L, sizeof *made, "factors", e);
        factors = mem_new((size_t)L, sizeof *factors, "factors", e);
        ok = made && factors;
    }
    ok =
        ok && (method == KV_NONE || factor_all(r, m, &plan, v, decoupled, made, factors, e)) &&
        model_to_mla(m, method, decoupled, latent, (const struct factors(*)[MODALITIES])factors, e);
    if (ok) {
        section.svd_init_method = kv_methods[method].name;
        section.low_rank = (int64_t)ceil(p->low_rank); /* for the reader: tensors have the truth */
        section.decoupled = decoupled;
        section.calibration = inputs[r->c.svd.input];
        ok = hf_config_set_mha2mla(&m->cfg, &section, e);
    }
    for (int64_t l = 0; made && l < L; l++)
        for (int s = 0; s < MODALITIES; s++)
            for (int q = 0; q < 2; q++)
                mdsvd_free(&made[l].out[s][q]);
    free(made);
    free(factors);
    return ok;
}
