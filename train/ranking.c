/* ranking.c - the step that ranks the RoPE pairs, and the model with only the best of them rotated.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "convert/rank.h"
#include "model/rankfile.h"
#include "convert/transform.h"
#include "train/layerwise.h"
#include "train/steps.h"

#include <stdlib.h>
#include <string.h>

static struct rank_dims dims_of(const struct model *m)
{
    const struct text_config *c = &m->cfg.text;

    return (struct rank_dims){c->num_hidden_layers, c->num_attention_heads, c->num_key_value_heads,
                              c->head_dim};
}

/* Ranking: what each layer's queries and keys add to the measure. */
struct ranking {
    struct rank_acc *acc;
    struct rank_dims n;
    double scale;
    int64_t layer;
    float *cs; /* cos [T, P], then sin [T, P] of the current batch */
    size_t cap;
};

static bool split_table(struct ranking *k, const struct tensor *table, struct err *e)
{
    int64_t T = table->rows, P = table->cols / 2;

    if (!mem_grow(&k->cs, &k->cap, (size_t)(2 * T * P), sizeof *k->cs, e)) return false;
    for (int64_t t = 0; t < T; t++) {
        memcpy(k->cs + t * P, tensor_real(table) + 2 * t * P, (size_t)P * sizeof *k->cs);
        memcpy(k->cs + (T + t) * P, tensor_real(table) + (2 * t + 1) * P,
               (size_t)P * sizeof *k->cs);
    }
    return true;
}

static bool rank_look(void *arg, const struct layer_look *look, struct err *e)
{
    struct ranking *k = arg;
    const struct batch *b = look->batch;
    int64_t P = k->n.dh / 2;
    bool ok = split_table(k, look->table, e);

    for (int64_t s = 0; ok && s < b->samples; s++) {
        int64_t at = b->begin[s];
        ok = rank_acc_add(k->acc, k->layer,
                          &(struct rank_sample){look->q + at * k->n.H * k->n.dh,
                                                look->k + at * k->n.G * k->n.dh, k->cs + at * P,
                                                k->cs + (b->tokens + at) * P, look->modality + at,
                                                b->begin[s + 1] - at, k->scale},
                          e);
    }
    return ok;
}

static bool measure_rank(struct run *r, struct model *m, const char *path, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct ranking k = {.n = dims_of(m), .scale = model_rope_scale(&m->cfg.text)};
    int64_t count = k.n.L * k.n.G * k.n.dh / 2;
    int32_t *rank = mem_new((size_t)count, sizeof *rank, "ranks", e);
    double *scores = mem_new((size_t)count, sizeof *scores, "ranks", e);
    struct layerwise w = {0};
    bool ok;

    k.acc = rank_acc_new(strategy, &k.n, r->c.rank.max_queries, e);
    ok = k.acc && rank && scores && layerwise_open(&w, r, m, r->c.rank.samples, LOOK_QK, e);
    for (; ok && k.layer < k.n.L; k.layer++)
        ok = layerwise_next(&w, "rank", rank_look, &k, e);
    ok = ok && rank_acc_finish(k.acc, rank, scores, e);
    ok = ok && watch_check(e);
    if (ok) {
        struct rankfile_info info = {.samples = w.samples, .tokens = w.tokens};
        strncpy(info.strategy, rank_strategy_name(strategy), sizeof info.strategy - 1);
        ok = rankfile_write(path, &k.n, rank, scores, &info, e);
    }
    if (ok)
        log_line("rank: %s over %lld sample%s, %lld token%s: %s", rank_strategy_name(strategy),
                 (long long)w.samples, plural(w.samples), (long long)w.tokens, plural(w.tokens),
                 path);
    layerwise_close(&w);
    rank_acc_free(k.acc);
    free(k.cs);
    free(rank);
    free(scores);
    return ok;
}

static bool read_given(const struct run *r, const struct rank_dims *n, int32_t *rank, struct err *e)
{
    if (!r->c.rank.file) return err_set(e, "rank.file: must be given for rank.strategy \"file\"");
    return rankfile_read(r->c.rank.file, n, rank, NULL, e);
}

static bool read_measured(const struct run *r, const char *path, const struct rank_dims *n,
                          int32_t *rank, struct err *e)
{
    return rankfile_read(path, n, rank, NULL, e) || made_again(r, STEP_RANK, "file", path, e);
}

static int32_t *new_ranks(const struct rank_dims *n, struct err *e)
{
    return mem_new((size_t)(n->L * n->G * n->dh / 2), sizeof(int32_t), "ranks", e);
}

/* Measured before, or now. */
static bool rank_measured(struct run *r, struct model *m, struct err *e)
{
    char *dir = run_path(r, e, "rank"), *path = dir ? run_path(r, e, "rank/rank.h5") : NULL;
    const struct rank_dims n = dims_of(m);
    int32_t *rank = new_ranks(&n, e);
    bool there, ok = path && rank && file_mkdirs(dir, e) && file_there(path, &there, e);

    if (ok && !there)
        ok = measure_rank(r, m, path, e);
    else if (ok && (ok = read_measured(r, path, &n, rank, e)))
        log_line("rank: is done already");
    free(rank);
    free(dir);
    free(path);
    return ok;
}

bool rank_check_given(const struct run *r, const struct model *m, struct err *e)
{
    const struct rank_dims n = dims_of(m);
    int32_t *rank;
    bool ok;

    if (rank_strategy_kind((enum rank_strategy)r->c.rank.strategy) != RANK_KIND_GIVEN) return true;
    rank = new_ranks(&n, e);
    ok = rank && read_given(r, &n, rank, e);
    free(rank);
    return ok;
}

bool step_rank(struct run *r, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct model m = {0};
    bool ok = open_base_model(r, &m, e);

    if (ok && rank_strategy_kind(strategy) == RANK_KIND_MEASURED)
        ok = rank_measured(r, &m, e);
    else if (ok && (ok = rank_check_given(r, &m, e)))
        log_line("rank: nothing to measure, the pairs are %s%s",
                 strategy == RANK_FILE ? "those of " : rank_strategy_name(strategy),
                 strategy == RANK_FILE ? r->c.rank.file : "");
    model_close(&m);
    return ok;
}

/* The kept pairs of a point, from the ranking or from the strategy itself. */
static bool pairs_of(const struct run *r, const struct point *p, const struct model *m,
                     int32_t *pairs, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct rank_dims n = dims_of(m);
    int32_t *rank = new_ranks(&n, e);
    char *path = run_path(r, e, "rank/rank.h5");
    bool there, ok = rank && path && rank_check(&n, p->rope_dim, e);

    if (ok && rank_strategy_kind(strategy) == RANK_KIND_FIXED)
        ok = rank_fixed(rank, strategy, &n, p->rope_dim, r->c.rank.uniform_start, e);
    else if (ok && rank_strategy_kind(strategy) == RANK_KIND_GIVEN)
        ok = read_given(r, &n, rank, e);
    else if (ok && (ok = file_there(path, &there, e)))
        ok = there ? read_measured(r, path, &n, rank, e)
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
    bool there, ok = config && file_there(config, &there, e);

    if (ok && there)
        ok = model_open(m, dir, e);
    else if (ok && run_has_step(r, STEP_STAGE1))
        ok = err_set(e, "%s: stage 1 of %s is not finished", dir, p->stage1);
    else if (ok)
        ok = open_untrained_partial(r, p, m, e);
    free(dir);
    free(config);
    return ok;
}
