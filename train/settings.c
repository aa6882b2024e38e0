/* settings.c - which settings contradict each other. */
#include "train/settings.h"
#include "data/benchmark.h"
#include "model/config/choices.h"
#include "train/caches.h"
#include "train/recipes.h"

#include <string.h>

/* null is fine, a shell's variable that is not set is not. */
static bool check_paths(const struct config *c, struct err *e)
{
    const struct {
        const char *key, *path;
    } rows[] = {{"model.path", c->model.path},
                {"model.tokenizer", c->model.tokenizer},
                {"rank.file", c->rank.file}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].path && !*rows[i].path)
            return err_set(e, "%s: is empty: give a path, or null", rows[i].key);
    return true;
}

static bool check_steps(const struct config *c, struct err *e)
{
    for (int64_t i = 0; i < c->run.steps.n; i++)
        for (int64_t k = 0; k < i; k++)
            if (c->run.steps.v[i] == c->run.steps.v[k])
                return err_set(e, "run.steps: \"%s\" is there twice",
                               step_names[c->run.steps.v[i]]);
    return true;
}

static bool check_sweep(const struct config *c, struct err *e)
{
    const bool cache = c->sweep.cache.n;
    const int64_t rates = c->sweep.stage2_lr.n;
    const int64_t sizes = cache ? c->sweep.cache.n : c->sweep.low_rank.n;

    if (cache && (c->sweep.low_rank.n || c->sweep.partial_rope.n))
        return err_set(e, "sweep.cache: its sizes are split by the run: give either it, or "
                          "sweep.low_rank and sweep.partial_rope");
    if (cache && c->svd.method != KV_JOINT && c->svd.method != KV_SPLIT)
        return err_set(e, "sweep.cache: svd.method must be joint or split, which compress keys and "
                          "values");
    if (rates && rates != sizes)
        return err_set(e, "sweep.stage2_lr: has %lld rates for the %lld values of sweep.%s",
                       (long long)rates, (long long)sizes, cache ? "cache" : "low_rank");
    return true;
}

/* By their names, which are the directories': so many digits count. */
static bool check_points(const struct config *c, struct err *e)
{
    for (int64_t i = 0; i < config_points(c); i++) {
        struct point p = config_point(c, i);
        for (int64_t k = 0; k < i; k++)
            if (strcmp(p.name, config_point(c, k).name) == 0)
                return err_set(e, "sweep: has the point %s twice: each value once", p.name);
    }
    return true;
}

/* The lowest rate that a training is to reach. */
static double least_lr(const struct config *c, int phase)
{
    double least = config_phase(c, phase)->lr;

    if (phase_steps[phase] != STEP_STAGE2 || c->sweep.stage2_lr.n == 0) return least;
    least = c->sweep.stage2_lr.v[0];
    for (int64_t i = 1; i < c->sweep.stage2_lr.n; i++)
        if (c->sweep.stage2_lr.v[i] < least) least = c->sweep.stage2_lr.v[i];
    return least;
}

/* ---- choices that exclude each other ---- */

static bool makes_factors(const struct config *c)
{
    return config_has_step(c, STEP_SVD) && c->svd.method != KV_NONE;
}

static bool converts(const struct config *c)
{
    return config_has_step(c, STEP_RANK) || config_has_step(c, STEP_STAGE1) ||
           config_has_step(c, STEP_SVD);
}

static bool cross_by_file(const struct config *c)
{
    return converts(c) && c->rank.basis == BASIS_CROSS &&
           (c->rank.file || c->rank.strategy == RANK_FILE);
}

static bool ranks_of_random(const struct config *c)
{
    return makes_factors(c) && c->svd.ranks != RANKS_EVEN && c->svd.input == MDSVD_RANDOM;
}

static bool cache_of_uniform(const struct config *c)
{
    return converts(c) && c->sweep.cache.n && c->rank.basis == BASIS_HEAD &&
           c->rank.strategy == RANK_UNIFORM;
}

static bool budget_of_others(const struct config *c)
{
    return converts(c) && c->rank.budget != BUDGET_EVEN &&
           (c->rank.basis == BASIS_CROSS || c->rank.strategy != RANK_LOGIT);
}

/* Either of two settings was meant: what then happens is not what one of them asks for. What
 * changes nothing is only said (settings_unused.c). */
static const struct clash {
    bool (*is)(const struct config *c);
    const char *what;
} clashes[] = {
    {cross_by_file,
     "rank.basis: \"cross\" measures components of all heads' keys, and a rank file has "
     "each head's own pairs: set it to \"head\", or rank.file to null and "
     "rank.strategy to another than \"file\""},
    {ranks_of_random,
     "svd.ranks: with svd.input \"random\" no component has energy to compare: set it to \"even\", "
     "or svd.input to \"activation\""},
    {budget_of_others,
     "rank.budget: only rank.strategy \"logit\" says what the pairs of different heads are worth: "
     "a ranking, or a rank file, orders each head's own, and rank.basis \"cross\" has components "
     "of "
     "all heads: set it to \"even\", or rank.strategy to \"logit\" and rank.basis to \"head\""},
    {cache_of_uniform,
     "sweep.cache: rank.strategy \"uniform\" cannot keep every number of dims that "
     "is tried: take another strategy, or sweep.partial_rope and sweep.low_rank"},
};

static bool check_clashes(const struct config *c, struct err *e)
{
    for (size_t i = 0; i < sizeof clashes / sizeof *clashes; i++)
        if (clashes[i].is(c)) return err_set(e, "%s", clashes[i].what);
    return true;
}

/* Hidden states of a whole data set would be terabytes; and those that are learnt from are of all
 * layers but the last, which has the labels alone to learn from. */
static bool check_states(const struct config *c, struct err *e)
{
    for (int i = 0; i < PHASES; i++) {
        const struct config_phase *p = config_phase(c, i);
        const char *name = step_names[phase_steps[i]];
        if (!config_has_step(c, phase_steps[i]) || p->loss != LOSS_LAYERS) continue;
        if (p->teacher == TEACHER_STORED)
            return err_set(e,
                           "%s.teacher: \"stored\" keeps what the original says at the labels, and "
                           "loss \"layers\" asks for its hidden states: set it to \"fly\", or the "
                           "loss to \"distill\"",
                           name);
        if (p->distill_weight == 1)
            return err_set(e,
                           "%s.distill_weight: 1 leaves the last layer untrained: loss \"layers\" "
                           "compares what is behind the others, and the last learns from the "
                           "labels: set it below 1, or the loss to \"distill\"",
                           name);
    }
    return true;
}

static bool check_phases(const struct config *c, struct err *e)
{
    for (int i = 0; i < PHASES; i++) {
        const struct config_phase *p = config_phase(c, i);
        const char *name = step_names[phase_steps[i]];
        const double lr = least_lr(c, i);
        if (!config_has_step(c, phase_steps[i])) continue;
        if (p->micro_batch > p->batch_size)
            return err_set(e, "%s.micro_batch: %lld is more than %s.batch_size, %lld", name,
                           (long long)p->micro_batch, name, (long long)p->batch_size);
        if (c->optim.min_lr > lr)
            return err_set(e, "optim.min_lr: %g is more than %s.lr, %g, from which it falls",
                           c->optim.min_lr, name, lr);
    }
    return true;
}

/* Shares such as 0.7 and 0.3 are no exact doubles. */
static bool check_schedule(const struct config *c, struct err *e)
{
    return !config_trains(c) || c->optim.warmup + c->optim.decay <= 1 + 1e-9 ||
           err_set(e, "optim.warmup and optim.decay: %g and %g of the steps are more than all",
                   c->optim.warmup, c->optim.decay);
}

/* Only the error of outputs has statistics. */
static bool check_statistics(const struct config *c, struct err *e)
{
    static const char *const names[] = {KV_STATISTICS_NAMES}, *const inputs[] = {MDSVD_NAMES};
    const bool svd = config_has_step(c, STEP_SVD) && c->svd.method != KV_NONE;

    return !svd || c->svd.statistics == KV_TOKENS || c->svd.input == MDSVD_ACTIVATION ||
           err_set(e, "svd.statistics: \"%s\" needs svd.input \"activation\", and that is \"%s\"",
                   names[c->svd.statistics], inputs[c->svd.input]);
}

static bool check_metrics(const struct config *c, struct err *e)
{
    const struct config_source *s = c->data.eval.v;
    const struct metric *m;
    char names[BENCHMARK_NAMES];

    benchmark_names(names);
    for (int64_t i = 0; i < c->data.eval.n; i++)
        if (s[i].metric && !benchmark_metric(s[i].metric, &m))
            return err_set(e, "data.eval[%lld].metric is \"%s\"; allowed: %s", (long long)i,
                           s[i].metric, names);
    return true;
}

/* Scores are kept by names, of so many bytes (train/score/score.h). */
static bool check_eval_names(const struct config *c, struct err *e)
{
    const struct config_source *s = c->data.eval.v;

    for (int64_t i = 0; i < c->data.eval.n; i++)
        for (int64_t k = 0; k < i; k++)
            if (strncmp(config_source_name(&s[i]), config_source_name(&s[k]), 127) == 0)
                return err_set(
                    e,
                    "data.eval[%lld]: is called \"%s\" in the scores, as data.eval[%lld] "
                    "is: give it another \"name\"",
                    (long long)i, config_source_name(&s[i]), (long long)k);
    return true;
}

bool settings_check(const struct config *c, struct err *e)
{
    static bool (*const checks[])(const struct config *, struct err *) = {
        check_paths,      check_steps,   check_sweep,    check_clashes,
        check_states,     check_phases,  check_schedule, check_statistics,
        check_eval_names, check_metrics, caches_check};

    for (int64_t k = 0; k < recipes_count(c); k++)
        for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
            if (!checks[i](recipes_config(c, k), e)) return recipes_blame(c, k, e);
    return check_points(c, e);
}
