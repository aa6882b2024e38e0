/* models.c - opens the models that steps start from, and tells which of them exist. */
#include "train/models.h"
#include "base/mem.h"
#include "base/watch.h"
#include "convert/rank.h"
#include "convert/transform.h"
#include "model/files/rankfile.h"
#include "model/pairs.h"
#include "train/basis.h"
#include "train/logit.h"
#include "train/made.h"
#include "train/ranking.h"
#include "train/rotation.h"

#include <stdlib.h>

/* Every step before evaluate trains or converts. */
static bool needs_original(const struct run *r)
{
    for (int s = 0; s < STEP_EVALUATE; s++)
        if (run_has_step(r, (enum step)s)) return true;
    return false;
}

/* A model that is already converted can only be scored. It is reopened for each step, and must
 * still be the same. */
bool open_given_model(const struct run *r, const char *dir, struct model *m, struct err *e)
{
    bool ok = watch_kept(e) && model_open(m, dir, e);

    if (ok && m->state != ATTN_FULL && needs_original(r)) {
        ok = err_set(e,
                     "%s: is already converted; the original model is needed, or only evaluate "
                     "and report in run.steps, to score it as it is",
                     dir);
        model_close(m);
    }
    return ok;
}

bool open_base_model(struct run *r, struct model *m, struct err *e)
{
    bool made;

    if (!model_is_there(r, "baseline", &made, e)) return false;
    return made || !r->c.model.path ? made_open(r, STEP_BASELINE, "baseline", m, e)
                                    : open_given_model(r, r->c.model.path, m, e);
}

/* By a ranking, or by the strategy itself. */
static bool ranked_pairs(const struct run *r, const struct point *p, const struct model *m,
                         int32_t *pairs, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct rank_dims n = model_rank_dims(m);
    int32_t *rank = ranks_new(&n, e);
    char *path = run_path(r, e, "%s", ranks_path(&r->c));
    bool there, ok = rank && path && rank_check(&n, p->rope_dim, e);

    if (ok && rank_strategy_kind(strategy) == RANK_KIND_FIXED)
        ok = rank_fixed(rank, strategy, &n, p->rope_dim, r->c.rank.uniform_start, e) ||
             err_context(e, "rank.strategy");
    else if (ok && rank_strategy_kind(strategy) == RANK_KIND_GIVEN)
        ok = ranks_read_given(r, &n, rank, e);
    else if (ok && (ok = file_there(path, &there, e)))
        ok = there ? ranks_read_measured(r, path, &n, rank, e)
                   : err_set(e, "%s: missing: add \"rank\" to run.steps", path);
    if (ok) rank_select(pairs, rank, &n, p->rope_dim);
    free(rank);
    free(path);
    return ok;
}

/* The kept pairs of a point, of each head. */
static bool pairs_of(const struct run *r, const struct point *p, const struct model *m,
                     int32_t *pairs, struct err *e)
{
    return r->c.rank.strategy == RANK_LOGIT ? logit_pairs(r, m, p->rope_dim, pairs, e)
                                            : ranked_pairs(r, p, m, pairs, e);
}

bool point_check(const struct run *r, const struct model *m, const struct point *p, struct err *e)
{
    enum rank_strategy strategy = (enum rank_strategy)r->c.rank.strategy;
    struct rank_dims n = model_rank_dims(m);
    int32_t *pairs;
    bool ok =
        config_shares_key(&r->c) ? basis_check(&n, p->rope_dim, e) : rank_check(&n, p->rope_dim, e);

    if (!ok) return err_context(e, "%s", point_size_key(&r->c, "rank.rope_dim"));
    if (config_shares_key(&r->c)) return true;
    if (rank_strategy_kind(strategy) == RANK_KIND_MEASURED) return true;
    pairs = mem_new((size_t)(n.L * n.G * p->rope_dim / 2), sizeof *pairs, "kept pairs", e);
    ok = pairs && pairs_of(r, p, m, pairs, e);
    free(pairs);
    return ok;
}

/* The published codes' name for a strategy. They cannot name what ranked the pairs: to them, "mkl"
 * (with images) and "2-norm" (text only) mean that a rank file did. */
static const char *version_name(const struct run *r, const struct model *m)
{
    enum rank_strategy s = (enum rank_strategy)r->c.rank.strategy;

    if (rank_strategy_kind(s) == RANK_KIND_FIXED) return rank_strategy_name(s);
    return hf_has_vision(&m->cfg) ? "mkl" : "2-norm";
}

static bool to_partial(struct run *r, const struct point *p, struct model *m, struct err *e)
{
    struct rank_dims n = model_rank_dims(m);
    struct mha2mla_config c = {.partial_rope_version = version_name(r, m),
                               .rope_dim_for_mla = p->rope_dim,
                               .uniform_start_point = r->c.rank.uniform_start,
                               .svd_init_method = "none"};
    int32_t *pairs;
    bool ok;

    if (config_shares_key(&r->c)) {
        c.rope_basis = "cross";
        return (r->c.rank.basis == BASIS_CROSS ? basis_apply(r, m, p->rope_dim, e)
                                               : logit_apply(r, m, p->rope_dim, e)) &&
               hf_config_set_mha2mla(&m->cfg, &c, e);
    }
    pairs = mem_new((size_t)(n.L * n.G * p->rope_dim / 2), sizeof *pairs, "kept pairs", e);
    ok = pairs && pairs_of(r, p, m, pairs, e) && model_to_partial(m, pairs, p->rope_dim, e) &&
         hf_config_set_mha2mla(&m->cfg, &c, e);

    free(pairs);
    return ok;
}

bool open_untrained_partial(struct run *r, const struct point *p, struct model *m, struct err *e)
{
    return open_base_model(r, m, e) && to_partial(r, p, m, e) &&
           (!r->c.rank.rotation || rotation_apply(r, m, e));
}

bool partial_is_trained(const struct run *r, const struct point *p, bool *trained, struct err *e)
{
    char *config = run_path(r, e, "%s/model/config.json", p->dir[STEP_STAGE1]);
    bool ok = config && file_there(config, trained, e);

    free(config);
    return ok;
}

bool open_partial_model(struct run *r, const struct point *p, struct model *m, struct err *e)
{
    char *dir = run_path(r, e, "%s/model", p->dir[STEP_STAGE1]);
    bool trained, ok = dir && partial_is_trained(r, p, &trained, e);

    if (ok && trained)
        ok = made_open(r, STEP_STAGE1, p->dir[STEP_STAGE1], m, e);
    else if (ok && run_has_step(r, STEP_STAGE1))
        ok = err_set(e, "%s: stage 1 of %s is not finished", dir, p->stage1);
    else if (ok)
        ok = open_untrained_partial(r, p, m, e);
    free(dir);
    return ok;
}
