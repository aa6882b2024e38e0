/* settings_unused.c - when each setting is used, as a table. */
#include "base/log.h"
#include "convert/mdsvd.h"
#include "convert/rank.h"
#include "model/model.h"
#include "train/caches.h"
#include "train/score/scorer.h"
#include "train/recipes.h"
#include "train/settings.h"

#include <stdio.h>
#include <string.h>

/* What a rule looks at. */
struct use {
    const struct config *c;
    const struct config_phase *p; /* of a phase's rule */
    const struct settings_model *m;
};

static enum rank_kind rank_kind_of(const struct use *u)
{
    return u->c->rank.basis == BASIS_CROSS
               ? RANK_KIND_MEASURED
               : rank_strategy_kind((enum rank_strategy)u->c->rank.strategy);
}

static bool for_baseline(const struct use *u)
{
    return config_has_step(u->c, STEP_BASELINE);
}
static bool for_shape(const struct use *u)
{
    return !for_baseline(u) || !u->c->model.path;
}
static bool for_stage1(const struct use *u)
{
    return config_has_step(u->c, STEP_STAGE1);
}
static bool for_stage2(const struct use *u)
{
    return config_has_step(u->c, STEP_STAGE2);
}
static bool for_svd(const struct use *u) /* stage 2 finds its start by the point's name */
{
    return config_has_step(u->c, STEP_SVD) || for_stage2(u);
}
static bool for_rank(const struct use *u)
{
    return config_has_step(u->c, STEP_RANK) || for_stage1(u) || for_svd(u);
}
static bool for_splits(const struct use *u) /* which are tried before any of these steps */
{
    return u->c->sweep.cache.n > 0 && for_rank(u);
}
static bool for_calibration(const struct use *u)
{
    return for_svd(u) || (for_stage1(u) && u->c->stage1.refit);
}
static bool for_conversion(const struct use *u)
{
    return for_svd(u) || for_splits(u);
}
static bool for_any_svd(const struct use *u)
{
    return for_conversion(u) || for_calibration(u);
}
static bool for_training(const struct use *u)
{
    return config_trains(u->c);
}
static bool for_saving(const struct use *u)
{
    return config_trains(u->c) || config_has_step(u->c, STEP_SVD);
}
static bool for_delta(const struct use *u)
{
    return !for_saving(u) || for_stage1(u) || config_has_step(u->c, STEP_SVD) || !u->c->save.full;
}
static bool of_file(const struct use *u)
{
    return rank_kind_of(u) == RANK_KIND_GIVEN || !u->c->rank.file;
}
static bool of_uniform(const struct use *u)
{
    return u->c->rank.strategy == RANK_UNIFORM || !u->c->rank.uniform_start;
}
static bool of_measure(const struct use *u)
{
    return rank_kind_of(u) == RANK_KIND_MEASURED;
}
static bool of_samples(const struct use *u)
{
    return of_measure(u) || config_rotates(u->c);
}
static bool of_queries(const struct use *u)
{
    return !of_measure(u) || u->c->rank.basis == BASIS_CROSS || u->c->rank.strategy != RANK_2NORM ||
           config_rotates(u->c);
}
static bool of_rotation(const struct use *u)
{
    return !u->c->rank.rotation || config_rotates(u->c);
}
/* Of heads, or of the key that they share, that keep all of their pairs nothing is left to turn. */
static bool of_unrotated(const struct use *u)
{
    const struct config *c = u->c;
    const struct schema_ints *all = &c->sweep.partial_rope;
    const int64_t whole = u->m->head_dim * (config_shares_key(c) ? u->m->kv_heads : 1);
    bool loses = false;

    if (!whole || c->sweep.cache.n) return true;
    if (!all->n) return c->rank.rope_dim < whole;
    for (int64_t i = 0; i < all->n; i++)
        loses = loses || all->v[i] < whole;
    return loses;
}
static bool of_head_basis(const struct use *u)
{
    return u->c->rank.basis == BASIS_HEAD;
}
static bool of_rope_dim(const struct use *u)
{
    return u->c->sweep.partial_rope.n == 0;
}
static bool of_low_rank(const struct use *u)
{
    return u->c->sweep.low_rank.n == 0;
}
static bool of_given(const struct use *u)
{
    return u->c->sweep.cache.n == 0;
}
static bool of_trials(const struct use *u)
{
    return u->c->sweep.cache.n > 0 || u->c->svd.ranks == RANKS_SENSITIVITY;
}
static bool of_stage2_lr(const struct use *u)
{
    return u->c->sweep.stage2_lr.n == 0;
}
static bool of_factors(const struct use *u)
{
    return u->c->svd.method != KV_NONE;
}
static bool of_calibration(const struct use *u)
{
    return of_factors(u) || config_refits(u->c);
}
static bool of_activation(const struct use *u)
{
    return !of_factors(u) || config_refits(u->c) || u->c->svd.input == MDSVD_ACTIVATION;
}
static bool of_steps(const struct use *u)
{
    return u->c->svd.statistics == KV_BLOCKS;
}
static bool of_decay(const struct use *u)
{
    return u->c->optim.decay > 0;
}
static bool of_eval(const struct use *u)
{
    return u->c->data.eval.n > 0;
}
static bool of_scores(const struct use *u) /* trainings have points of curves */
{
    return for_baseline(u) || caches_used(u->c);
}
static bool of_caches(const struct use *u)
{
    return caches_used(u->c);
}
static bool of_kinds(const struct use *u) /* the report reads their scores */
{
    return caches_used(u->c) || config_has_step(u->c, STEP_REPORT);
}
static bool of_answers(const struct use *u)
{
    return scorer_of(u->c)->generates;
}
static bool of_questions(const struct use *u)
{
    return scorer_of(u->c)->needs_question;
}
static bool of_window(const struct use *u)
{
    return u->c->evaluate.score == SCORE_TOKENS;
}
static bool of_stride(const struct use *u)
{
    return u->c->evaluate.window > 0;
}
static bool of_curve(const struct use *u)
{
    return !u->c->evaluate.samples || u->c->evaluate.curve_samples <= u->c->evaluate.samples;
}
static bool of_pictures(const struct use *u)
{
    return u->m->pictures;
}
static bool of_decoupled(const struct use *u)
{
    return u->m->pictures || !u->c->svd.decoupled;
}
static bool of_epochs(const struct use *u)
{
    return u->p->steps == 0;
}
static bool of_curve_points(const struct use *u)
{
    return u->c->data.eval.n > 0 || u->p->eval_every == 0;
}
static bool of_projector(const struct use *u)
{
    return u->m->pictures || !u->p->projector;
}
static bool of_teacher(const struct use *u)
{
    return u->p->loss != LOSS_CE;
}
static bool of_distill(const struct use *u)
{
    return u->p->loss != LOSS_LAYERS;
}
static bool of_cache(const struct use *u)
{
    return u->m->pictures || config_stores_teacher(u->c);
}
static bool of_vision(const struct use *u)
{
    return u->m->pictures || !u->p->vision;
}

static const char not_scored[] = "run.steps has none that scores",
                  no_step[] = "run.steps lacks their step", no_eval[] = "there is no data.eval",
                  no_training[] = "nothing is trained", no_model[] = "no model is saved",
                  other_strategy[] = "rank.strategy makes no use of it",
                  no_factors[] = "svd.method \"none\" compresses nothing",
                  no_decay[] = "optim.decay is 0",
                  no_answers[] = "evaluate.score is", /* and its name */
    no_pictures[] = "the model takes no pictures",
                  own_shape[] = "the model of model.path has its shape",
                  by_steps[] = "the training's steps are given",
                  by_cache[] = "sweep.cache has the sizes",
                  cross_basis[] = "rank.basis is \"cross\", which orders its components itself",
                  no_teacher[] = "the training's loss is \"ce\"",
                  no_logits[] = "the training's loss is \"layers\"";

/* A setting, or all of a group (with the dot), and when it is used. The first rule that says no
 * counts. */
static const struct rule {
    const char *key;
    bool (*used)(const struct use *u);
    const char *why;
    int phase; /* 1 + index; 0: of none */
} rules[] = {
    {"baseline.", for_baseline, no_step, 0},
    {"rank.", for_rank, no_step, 0},
    {"stage1.", for_stage1, no_step, 0},
    {"svd.", for_any_svd, no_step, 0},
    {"svd.samples", for_calibration, no_step, 0},
    {"svd.ranks", for_svd, no_step, 0},
    {"svd.method", for_conversion, no_step, 0},
    {"svd.decoupled", for_conversion, no_step, 0},
    {"svd.input", for_conversion, no_step, 0},
    {"svd.statistics", for_conversion, no_step, 0},
    {"svd.steps", for_conversion, no_step, 0},
    {"svd.low_rank", for_conversion, no_step, 0},
    {"svd.refit", for_conversion, no_step, 0},
    {"svd.split_samples", for_conversion, no_step, 0},
    {"stage2.", for_stage2, no_step, 0},
    {"optim.", for_training, no_training, 0},
    {"checkpoint.", for_training, no_training, 0},
    {"save.", for_saving, no_model, 0},
    {"save.full", for_delta, "stage1 and svd are not among run.steps", 0},
    {"evaluate.", of_eval, no_eval, 0},
    {"evaluate.max_new_tokens", of_answers, no_answers, 0},
    {"evaluate.examples", of_questions, no_answers, 0},
    {"evaluate.window", of_window, "evaluate.score is not \"tokens\"", 0},
    {"evaluate.stride", of_stride, "evaluate.window is 0", 0},
    {"evaluate.curve_samples", of_curve, "evaluate.samples are fewer", 0},
    {"cache.", of_eval, no_eval, 0},
    {"cache.", of_caches, not_scored, 0},
    {"evaluate.caches", of_kinds, not_scored, 0},
    {"evaluate.batch", of_scores, not_scored, 0},
    {"baseline.family", for_shape, own_shape, 0},
    {"baseline.hidden_size", for_shape, own_shape, 0},
    {"baseline.intermediate_size", for_shape, own_shape, 0},
    {"baseline.layers", for_shape, own_shape, 0},
    {"baseline.heads", for_shape, own_shape, 0},
    {"baseline.kv_heads", for_shape, own_shape, 0},
    {"baseline.max_length", for_shape, own_shape, 0},
    {"baseline.rope_theta", for_shape, own_shape, 0},
    {"baseline.tie", for_shape, own_shape, 0},
    {"baseline.vision_", for_shape, own_shape, 0},
    {"baseline.image_size", for_shape, own_shape, 0},
    {"baseline.patch_size", for_shape, own_shape, 0},
    {"rank.strategy", of_head_basis, cross_basis, 0},
    {"rank.file", of_head_basis, cross_basis, 0},
    {"rank.uniform_start", of_head_basis, cross_basis, 0},
    {"rank.file", of_file, other_strategy, 0},
    {"rank.uniform_start", of_uniform, other_strategy, 0},
    {"rank.samples", of_samples, "rank.strategy measures nothing", 0},
    {"rank.max_queries", of_samples, "rank.strategy measures nothing", 0},
    {"rank.max_queries", of_queries, other_strategy, 0},
    {"rank.rotation", of_rotation, "stage1 and svd are not among run.steps", 0},
    {"rank.rotation", of_unrotated, "every pair stays rotated: nothing loses RoPE", 0},
    {"rank.rope_dim", of_given, by_cache, 0},
    {"svd.low_rank", of_given, by_cache, 0},
    {"svd.split_samples", of_trials, "there is no sweep.cache, and svd.ranks is not sensitivity",
     0},
    {"rank.rope_dim", of_rope_dim, "sweep.partial_rope has the values", 0},
    {"svd.low_rank", of_low_rank, "sweep.low_rank has the values", 0},
    {"svd.low_rank", of_factors, no_factors, 0},
    {"sweep.low_rank", of_factors, no_factors, 0},
    {"sweep.stage2_lr", for_stage2, no_step, 0},
    {"stage2.lr", of_stage2_lr, "sweep.stage2_lr has the values", 0},
    {"svd.input", of_factors, no_factors, 0},
    {"svd.ranks", of_factors, no_factors, 0},
    {"svd.statistics", of_factors, no_factors, 0},
    {"svd.steps", of_factors, no_factors, 0},
    {"svd.steps", of_steps, "svd.statistics is not \"blocks\"", 0},
    {"svd.samples", of_calibration, no_factors, 0},
    {"svd.samples", of_activation, "svd.input is not \"activation\"", 0},
    {"svd.decoupled", of_decoupled, no_pictures, 0},
    {"optim.min_lr", of_decay, no_decay, 0},
    {"optim.decay_style", of_decay, no_decay, 0},
    {"data.alpha", of_pictures, no_pictures, 0},
    {"data.min_pixels", of_pictures, no_pictures, 0},
    {"data.max_pixels", of_pictures, no_pictures, 0},
    {"data.cache", of_cache, no_pictures, 0},
    {"baseline.vision", of_vision, no_pictures, 1},
#define PHASE_RULES(name, i)                                                                       \
    {name ".epochs", of_epochs, by_steps, i}, {name ".eval_every", of_curve_points, no_eval, i},   \
    {                                                                                              \
        name ".projector", of_projector, no_pictures, i                                            \
    }
#define TEACHER_RULES(name, i)                                                                     \
    {name ".distill_weight", of_teacher, no_teacher, i},                                           \
        {name ".teacher", of_teacher, no_teacher, i},                                              \
        {name ".temperature", of_teacher, no_teacher, i},                                          \
    {                                                                                              \
        name ".temperature", of_distill, no_logits, i                                              \
    }
    PHASE_RULES("baseline", 1),
    PHASE_RULES("stage1", 2),
    PHASE_RULES("stage2", 3),
    TEACHER_RULES("stage1", 2),
    TEACHER_RULES("stage2", 3),
};
enum { RULES = sizeof rules / sizeof *rules };

static bool is_group(const struct rule *r)
{
    const size_t n = strlen(r->key);

    return n && strchr("._", r->key[n - 1]);
}

/* The rule by which a setting is not used with these settings, NULL: it is. */
static const struct rule *against(const char *key, const struct config *c,
                                  const struct settings_model *m)
{
    for (int i = 0; i < RULES; i++) {
        const struct rule *r = &rules[i];
        const size_t n = strlen(r->key);
        struct use u = {.c = c, .p = r->phase ? config_phase(c, r->phase - 1) : NULL, .m = m};
        if (is_group(r) ? strncmp(key, r->key, n) != 0 : strcmp(key, r->key) != 0) continue;
        if (!r->used(&u)) return r;
    }
    return NULL;
}

/* Whose settings are looked at: the run's own, which are used if a recipe uses
 * them, or a recipe's. */
struct look {
    const struct config *c;
    int64_t recipe; /* -1: the run's */
    const struct settings_model *m;
};

static const struct rule replaced = {"", NULL, "each of sweep.recipe sets them", 0};

/* The rule by which a given setting is not used, NULL: it is used, or not given. */
static const struct rule *unused(const struct look *l, const struct schema_row *row)
{
    const struct rule *first = &replaced;

    if (l->recipe >= 0)
        return recipes_sets(l->c, l->recipe, row)
                   ? against(row->key, recipes_config(l->c, l->recipe), l->m)
                   : NULL;
    if (!schema_given(&config_schema, l->c, row)) return NULL;
    for (int64_t k = 0; k < recipes_count(l->c); k++) {
        const struct rule *r;
        if (recipes_sets(l->c, k, row)) continue;
        r = against(row->key, recipes_config(l->c, k), l->m);
        if (!r) return NULL;
        if (first == &replaced) first = r;
    }
    return first;
}

/* The given settings that are not used for one reason; a group by its name. */
static void say_those(const struct look *l, const char *why)
{
    enum { NAMED = 6 };
    char names[600] = "", more[32] = "", score[32] = "", of[64] = "";
    const struct rule *last = NULL;
    size_t used = 0;
    int n = 0;

    for (size_t i = 0; i < config_schema.nrows; i++) {
        const struct schema_row *row = &config_schema.rows[i];
        const struct rule *r = unused(l, row);
        if (!r || r->why != why || (is_group(r) && r == last)) continue;
        last = r;
        if (n++ >= NAMED) continue;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s%s", used ? ", " : "",
                                 is_group(r) ? r->key : row->key, is_group(r) ? "*" : "");
    }
    if (n > NAMED) snprintf(more, sizeof more, " and %d more", n - NAMED);
    if (n && why == no_answers)
        snprintf(score, sizeof score, " \"%s\"", score_names[l->c->evaluate.score]);
    if (l->recipe >= 0) snprintf(of, sizeof of, " of recipe %s", recipes_name(l->c, l->recipe));
    if (n) log_line("not used: %s%s%s, for %s%s", names, more, of, why, score);
}

/* Reason by reason. */
static void say_all(const struct look *l)
{
    for (int i = 0; i < RULES; i++) {
        int first = 0;
        while (rules[first].why != rules[i].why)
            first++;
        if (first == i) say_those(l, rules[i].why);
    }
    say_those(l, replaced.why);
}

/* The keys of a source that only one use of it reads. */
static void say_sources(const struct config *c)
{
    const struct config_source *train = c->data.train.v, *eval = c->data.eval.v;

    for (int64_t i = 0; i < c->data.train.n; i++) {
        const char *key = train[i].name             ? "name"
                          : train[i].metric         ? "metric"
                          : train[i].max_new_tokens ? "max_new_tokens"
                                                    : NULL;
        if (!key) continue;
        log_line("not used: data.train[%lld].%s, for %s", (long long)i, key,
                 train[i].name ? "names are of what is scored" : "it is not scored");
        break;
    }
    for (int64_t i = 0; i < c->data.eval.n && !scorer_of(c)->generates; i++) {
        const bool metric = eval[i].metric && !scorer_of(c)->needs_question;
        if (!metric && !eval[i].max_new_tokens) continue;
        log_line("not used: data.eval[%lld].%s, for evaluate.score is \"%s\"", (long long)i,
                 metric ? "metric" : "max_new_tokens", score_names[c->evaluate.score]);
        break;
    }
}

void settings_say_unused(const struct config *c, const struct settings_model *m)
{
    for (int64_t k = -1; k < (c->recipes ? recipes_count(c) : 0); k++)
        say_all(&(struct look){c, k, m});
    say_sources(c);
}
