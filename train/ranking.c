/* ranking.c - the step that ranks the RoPE pairs. */
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "cluster/cluster.h"
#include "convert/rank.h"
#include "model/files/rankfile.h"
#include "model/pairs.h"
#include "train/basis.h"
#include "train/layerwise.h"
#include "train/logit.h"
#include "train/models.h"
#include "train/made.h"
#include "train/ranking.h"
#include "train/recipes.h"

#include <stdlib.h>
#include <string.h>

/* The ranking in progress; P = dh/2 pairs. */
struct ranking {
    struct rank_acc *acc;
    struct rank_dims n;
    double scale;
    int64_t layer;
    struct rank_table table;
};

bool rank_table_fill(struct rank_table *k, const struct tensor *table, struct err *e)
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

void rank_table_free(struct rank_table *k)
{
    free(k->cs);
}

struct rank_sample rank_sample_of(const struct layer_look *look, const struct rank_table *table,
                                  const struct rank_dims *n, double scale, int64_t s)
{
    const struct batch *b = look->batch;
    const int64_t P = n->dh / 2, at = b->begin[s];

    return (struct rank_sample){look->q + at * n->H * n->dh,
                                look->k + at * n->G * n->dh,
                                table->cs + at * P,
                                table->cs + (b->tokens + at) * P,
                                look->modality + at,
                                b->begin[s + 1] - at,
                                scale};
}

static bool rank_look(void *arg, const struct layer_look *look, struct err *e)
{
    struct ranking *k = arg;
    bool ok = rank_table_fill(&k->table, look->table, e);

    for (int64_t s = 0; ok && s < look->batch->samples; s++) {
        const struct rank_sample x = rank_sample_of(look, &k->table, &k->n, k->scale, s);
        ok = rank_acc_add(k->acc, k->layer, &x, e);
    }
    return ok;
}

/* Over the samples of all processes. */
static bool sum_ranking(const struct ranking *k, struct err *e)
{
    int64_t n;
    double *sums = rank_acc_sums(k->acc, &n);

    return cluster_sum(sums, n, e);
}

const char *ranks_path(const struct config *c)
{
    if (c->ranks_file) return c->ranks_file;
    return c->rank.basis == BASIS_CROSS ? BASIS_PATH : RANKS_PATH;
}

static bool measure_rank(struct run *r, struct model *m, const char *path, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct ranking k = {.n = model_rank_dims(m), .scale = model_rope_scale(&m->cfg.text)};
    int64_t count = k.n.L * k.n.G * k.n.dh / 2;
    int32_t *rank = mem_new((size_t)count, sizeof *rank, "ranks", e);
    double *scores = mem_new((size_t)count, sizeof *scores, "ranks", e);
    struct layerwise w = {0};
    bool ok;

    k.acc = rank_acc_new(strategy, &k.n, r->c.rank.max_queries, e);
    ok = k.acc && rank && scores && layerwise_open(&w, r, m, r->c.rank.samples, LOOK_QK, e);
    for (; ok && k.layer < k.n.L; k.layer++)
        ok = layerwise_next(&w, "rank", rank_look, &k, e);
    ok = cluster_agree(ok, e) && sum_ranking(&k, e) && rank_acc_finish(k.acc, rank, scores, e);
    ok = ok && watch_check(e) && outputs_forget(r, ranks_path(&r->c), e);
    if (ok && cluster_first()) {
        struct rankfile_info info = {.samples = w.all_samples, .tokens = w.all_tokens};
        strncpy(info.strategy, rank_strategy_name(strategy), sizeof info.strategy - 1);
        ok = rankfile_write(path, &k.n, rank, scores, &info, e) &&
             outputs_add(r, ranks_path(&r->c), path, e);
    }
    if (ok)
        log_line("rank: %s over %lld sample%s, %lld token%s: %s", rank_strategy_name(strategy),
                 (long long)w.all_samples, plural(w.all_samples), (long long)w.all_tokens,
                 plural(w.all_tokens), path);
    layerwise_close(&w);
    rank_acc_free(k.acc);
    rank_table_free(&k.table);
    free(rank);
    free(scores);
    return ok;
}

bool ranks_read_given(const struct run *r, const struct rank_dims *n, int32_t *rank, struct err *e)
{
    if (!r->c.rank.file) return err_set(e, "rank.file: must be given for rank.strategy \"file\"");
    return rankfile_read(r->c.rank.file, n, rank, NULL, e);
}

bool ranks_read_measured(const struct run *r, const char *path, const struct rank_dims *n,
                         int32_t *rank, struct err *e)
{
    return (rankfile_read(path, n, rank, NULL, e) &&
            outputs_check(r, ranks_path(&r->c), true, e)) ||
           made_again(r, STEP_RANK, "file", path, e);
}

int32_t *ranks_new(const struct rank_dims *n, struct err *e)
{
    return mem_new((size_t)(n->L * n->G * n->dh / 2), sizeof(int32_t), "ranks", e);
}

/* Measured before, or now. */
static bool rank_measured(struct run *r, struct model *m, struct err *e)
{
    char *dir = run_path(r, e, "rank"),
         *path = dir ? run_path(r, e, "%s", ranks_path(&r->c)) : NULL;
    const struct rank_dims n = model_rank_dims(m);
    int32_t *rank = ranks_new(&n, e);
    size_t unknown = 0; /* of an older run */
    bool there = false, ok = path && rank && file_mkdirs(dir, e) && file_there(path, &there, e);

    ok = cluster_as_first(ok, &there, e);
    if (ok && !there)
        ok = measure_rank(r, m, path, e);
    else if (ok && (ok = ranks_read_measured(r, path, &n, rank, e)))
        log_line("rank: is done already");
    if (ok) ok = outputs_add_unknown(r, ranks_path(&r->c), &unknown, e);
    free(rank);
    free(dir);
    free(path);
    return cluster_agree(ok, e);
}

bool rank_is_measured(const struct config *c)
{
    return c->rank.basis == BASIS_CROSS ||
           rank_strategy_kind((enum rank_strategy)c->rank.strategy) == RANK_KIND_MEASURED;
}

bool rank_check_given(const struct run *r, const struct model *m, struct err *e)
{
    const struct rank_dims n = model_rank_dims(m);
    int32_t *rank;
    bool ok;

    if (r->c.rank.basis == BASIS_CROSS ||
        rank_strategy_kind((enum rank_strategy)r->c.rank.strategy) != RANK_KIND_GIVEN)
        return true;
    rank = ranks_new(&n, e);
    ok = rank && ranks_read_given(r, &n, rank, e);
    free(rank);
    return ok;
}

static bool rank_one(struct run *r, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct model m = {0};
    bool ok = open_base_model(r, &m, e);

    if (ok && r->c.rank.basis == BASIS_CROSS)
        ok = basis_measured(r, &m, e);
    else if (ok && strategy == RANK_LOGIT)
        ok = logit_measured(r, &m, e);
    else if (ok && rank_strategy_kind(strategy) == RANK_KIND_MEASURED)
        ok = rank_measured(r, &m, e);
    else if (ok && (ok = rank_check_given(r, &m, e)))
        log_line("rank: nothing to measure, the pairs are %s%s",
                 strategy == RANK_FILE ? "those of " : rank_strategy_name(strategy),
                 strategy == RANK_FILE ? r->c.rank.file : "");
    model_close(&m);
    return ok;
}

bool step_rank(struct run *r, struct err *e)
{
    bool ok = true;

    for (int64_t i = 0; ok && i < recipes_count(&r->c); i++) {
        if (!recipes_ranks(&r->c, i)) continue;
        recipes_take(&r->c, i);
        ok = rank_one(r, e);
    }
    recipes_take(&r->c, -1);
    return ok;
}
