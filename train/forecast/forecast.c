/* forecast.c - which models a run will have, and the memory that its steps need. */
#include "train/forecast/forecast.h"
#include "train/forecast/advice.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "cluster/exchange.h"
#include "convert/basis.h"
#include "convert/logit.h"
#include "model/pairs.h"
#include "optim/moment.h"
#include "train/caches.h"
#include "train/peft.h"
#include "train/caches.h"
#include "train/factors.h"
#include "train/layerwise.h"
#include "train/forecast/room.h"
#include "train/made.h"
#include "train/models.h"
#include "train/picture_use.h"
#include "train/ranking.h"
#include "train/recipes.h"
#include "train/refit.h"
#include "train/rotation.h"
#include "train/splits.h"
#include "train/teacher.h"
#include "train/teacher_store.h"
#include "train/trainer.h"
#include "base/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool forecast_open(struct forecast *f, struct run *r, struct err *e)
{
    bool made;

    *f = (struct forecast){.r = r};
    if (!made_check(r, e)) return false;
    if (!model_is_there(r, "baseline", &made, e)) return false;
    if (!r->c.model.path && !made && !run_has_step(r, STEP_BASELINE))
        return err_set(e, "model.path: must be given where \"baseline\" is not one of run.steps");
    if (!(r->c.model.path || made ? open_base_model(r, &f->base, e)
                                  : make_baseline_model(r, &f->base, e)))
        return false;
    if (!caches_check_base(&r->c, &f->base, e) || !splits_guess(r, &f->base, e)) return false;
    if (f->base.dir && !model_check_zeros(&f->base, e)) return false;
    for (size_t i = 0; i < f->base.n_notes; i++)
        log_line("%s", f->base.notes[i]);
    return true;
}

void forecast_close(struct forecast *f)
{
    model_close(&f->base);
    free(f->models);
    free(f->steps);
    memset(f, 0, sizeof *f);
}

static struct forecast_model *add(struct forecast *f, const char *name, const char *training,
                                  const struct config_phase *phase, unsigned kinds)
{
    struct forecast_model *m = &f->models[f->n++];

    snprintf(m->name, sizeof m->name, "%s%s", name, phase ? training : "");
    m->phase = phase;
    m->kinds = phase ? kinds : 0;
    return m;
}

static struct model_state partial_state(const struct forecast *f, const struct point *pt)
{
    return (struct model_state){
        .state = ATTN_PARTIAL, .rope_dim = pt->rope_dim, .cross = config_shares_key(&f->r->c)};
}

/* The point's MLA model; fails as the conversion itself would. */
static bool mla_state(const struct forecast *f, const struct point *pt, struct model_state *s,
                      struct err *e)
{
    const struct config *c = &f->r->c;
    struct mdsvd_plan unused;

    *s = (struct model_state){.state = ATTN_MLA,
                              .rope_dim = pt->rope_dim,
                              .cross = config_shares_key(c),
                              .method = (enum kv_method)c->svd.method,
                              .decoupled = c->svd.decoupled && hf_has_vision(&f->base.cfg)};
    return point_plan(f->r, &f->base, pt, &s->latent, &unused, e);
}

/* Names the recipe whose settings the model refuses; false. */
static bool of_recipe(const struct config *c, const struct point *p, struct err *e)
{
    if (!c->recipes || e->machine) return false;
    return err_context(e, "sweep.recipe[%lld] \"%s\"", (long long)p->recipe,
                       recipes_name(c, p->recipe));
}

static bool add_point(struct forecast *f, int64_t i, struct err *e)
{
    const struct config *c = &f->r->c;
    struct point pt = config_point(c, i);
    bool stage1 = run_has_step(f->r, STEP_STAGE1), stage2 = run_has_step(f->r, STEP_STAGE2);
    bool svd = stage2 || run_has_step(f->r, STEP_SVD);
    struct forecast_model *m;

    recipes_take(&f->r->c, pt.recipe);
    if ((stage1 || svd) && !point_check(f->r, &f->base, &pt, e)) return of_recipe(c, &pt, e);
    if (stage1 && config_first_of_stage1(c, i)) {
        m = add(f, pt.stage1, " stage 1", recipes_phase(c, pt.recipe, STEP_STAGE1),
                peft_kinds((enum peft_set)c->stage1.peft, c->stage1.projector));
        m->point = pt;
        m->state = partial_state(f, &pt);
    }
    if (!svd) return true;
    m = add(f, pt.name, " stage 2", stage2 ? recipes_phase(c, pt.recipe, STEP_STAGE2) : NULL,
            peft_kinds((enum peft_set)c->stage2.peft, c->stage2.projector));
    m->point = pt;
    return mla_state(f, &pt, &m->state, e) || of_recipe(c, &pt, e);
}

/* Bytes that the training takes of each of the run's processes: the trained values and their
 * gradients, both fp32, its part of the optimiser's two moments, and what the others send. */
static double training_bytes(struct forecast_model *m, const struct model *shape,
                             const struct run *r)
{
    double moments = 0;

    for (int64_t i = 0; i < shape->n_params; i++) {
        const struct param *q = &shape->params[i];
        double n = (double)tensor_count(&q->t);
        m->count[q->kind] += n;
        m->all += n;
        if (!q->t.needs_grad) continue;
        m->trained += n;
        moments += 2 * moment_bytes(moment_type_of((enum moment_type)r->c.optim.state, &q->t),
                                    tensor_count(&q->t));
    }
    return 2 * sizeof(float) * m->trained + moments / (double)r->processes +
           exchange_bytes(m->trained, r->processes, (enum wire)r->c.cluster.wire);
}

/* Where frozen weights are: in memory of their own, or mapped. Until a model has been
 * saved and reopened, a new one owns all of them, and a partial one owns the moved rows:
 * all except v_proj's. */
static void place_weights(const struct forecast *f, struct forecast_step *s,
                          const struct model *shape, bool is_new, bool is_moved)
{
    const bool turned = is_moved && f->r->c.rank.rotation; /* q_proj's, in fp32 */

    for (int64_t i = 0; i < shape->n_params; i++) {
        const struct param *p = &shape->params[i];
        const enum dtype dtype = turned && p->kind == PARAM_Q ? DT_F32 : p->t.dtype;
        double bytes = (double)tensor_count(&p->t) * (double)dtype_size(dtype);
        bool moved = p->kind == PARAM_Q || p->kind == PARAM_Q_ROPE || p->kind == PARAM_K_ROPE ||
                     p->kind == PARAM_UP_K;
        if (p->t.needs_grad) continue;
        *(is_new || (is_moved && moved) ? &s->computed : &s->mapped) += bytes;
    }
}

static struct forecast_step *add_step(struct forecast *f, const char *name, enum step of,
                                      enum forecast_kind kind)
{
    struct forecast_step *s = &f->steps[f->n_steps++];

    s->of = of;
    s->kind = kind;
    s->recipe = recipes_taken(&f->r->c);
    snprintf(s->name, sizeof s->name, "%s", name);
    return s;
}

/* Adds up a step. `region` becomes the largest graph so far, since the region never shrinks. */
static void sum_up(struct forecast *f, struct forecast_step *s)
{
    double before = s > f->steps ? s[-1].region : 0;

    if (s->region < before) s->region = before;
    s->bytes = f->program + s->region + s->cache + s->computed + s->trained;
}

/* What the teacher says of n samples, at most. */
static double said_bytes(const struct dataset *d, int64_t n, const struct model *teacher)
{
    int64_t most = 0;

    for (int64_t i = 0; i < d->n; i++)
        if (d->entries[i].labels > most) most = d->entries[i].labels;
    return teacher_bytes(n * most, teacher->head->t.rows);
}

/* What waits to be written of it, and two samples' (train/teacher_store.h). */
static double stored_bytes(const struct dataset *d, const struct model *teacher)
{
    const int64_t V = teacher->head->t.rows;

    return teacher_store_pending(d->labels, V) + 2 * teacher_bytes(d->longest, V);
}

/* The products of a training: of its own graph and of the teacher's, which is asked about each
 * sample of each step, or once about each sample. */
static double training_flop(const struct config_phase *p, const struct dataset *d, double own,
                            double teacher)
{
    const double tokens = d->n ? (double)d->tokens / (double)d->n : 0;
    const double drawn = (double)(train_steps(p, d->n) * p->batch_size);

    return tokens * (drawn * own + (double)train_asked(p, d->n) * teacher);
}

/* A training's graph, which comes after the teacher's where there is one. */
static bool add_graph(struct forecast *f, struct forecast_model *m, struct model *shape,
                      struct forecast_step *s, struct err *e)
{
    struct run *r = f->r;
    struct dry_graph g = {.n = config_at_a_time(m->phase, r->processes),
                          .pixels = m->pixels,
                          .teacher = m->phase->loss == LOSS_CE ? NULL : m->phase};
    struct model teacher = {0};
    struct dry_cost asked = {0, 0}, own = {0, 0};
    bool ok = true;

    if (g.teacher) {
        ok = model_outline(&teacher, &f->base, &f->models[0].state, 0, e) &&
             dry_teacher(r, &teacher, &g, &asked, e);
        if (ok) {
            s->mapped += teacher_mapped(&teacher, m->kinds);
            s->computed += g.teacher->loss == LOSS_LAYERS
                               ? teacher_hidden_bytes(g.n * r->train.longest, &teacher)
                               : said_bytes(&r->train, g.n, &teacher);
            if (g.teacher->teacher == TEACHER_STORED)
                s->computed += stored_bytes(&r->train, &teacher);
        }
        model_close(&teacher);
    }
    g.room = room_left(r, f->program + s->computed + s->trained, s->mapped);
    ok = ok && dry_activations(r, shape, &g, &own, &s->recomputed, e);
    s->activations = s->region = (double)(own.bytes > asked.bytes ? own.bytes : asked.bytes);
    m->flop = training_flop(m->phase, &r->train, own.flop, asked.flop);
    return ok;
}

/* The most that scoring one of the sets takes. c: settings of the model's caches. */
static bool add_answers(struct run *r, const struct config *c, struct model *shape,
                        struct forecast_step *s, struct err *e)
{
    for (int64_t i = 0; i < r->n_eval; i++) {
        size_t bytes = 0;
        int64_t cached = 0;
        if (!r->eval[i].data.n) continue;
        if (!dry_answers(r, shape, &r->eval[i], &bytes, &cached, e)) return false;
        const double cache = (double)(cached * caches_most_bytes(c, shape));
        if ((double)bytes > s->region) s->region = (double)bytes;
        if ((double)bytes + cache > s->answers) s->answers = (double)bytes + cache;
        if (cache > s->cache) s->cache = cache;
    }
    return true;
}

/* Training and answering of a model. */
static bool add_model_step(struct forecast *f, struct forecast_model *m, struct err *e)
{
    struct run *r = f->r;
    static const enum step of[] = {
        [ATTN_FULL] = STEP_BASELINE, [ATTN_PARTIAL] = STEP_STAGE1, [ATTN_MLA] = STEP_STAGE2};
    /* the first is the base, whatever its attention */
    struct forecast_step *s =
        add_step(f, m->name, m == f->models ? STEP_BASELINE : of[m->state.state], FORECAST_MODEL);
    struct model shape = {0};
    const struct config *c =
        m == f->models ? &r->c
                       : recipes_config(&r->c, m->point.recipe); /* the base: the run's own */
    bool ok = model_outline(&shape, &f->base, &m->state, m->kinds, e);

    if (ok) {
        bool made = m->state.state == ATTN_FULL && m->phase && !r->c.model.path;
        s->trained = training_bytes(m, &shape, r);
        place_weights(f, s, &shape, made, m->state.state == ATTN_PARTIAL);
        s->is_training = m->phase;
    }
    if (ok && m->phase) ok = add_graph(f, m, &shape, s, e);
    ok = ok && add_answers(r, c, &shape, s, e);
    if (ok) sum_up(f, s);
    model_close(&shape);
    return ok;
}

/* The largest pictures of all sets, up to a group, among those that the steps read or among the
 * others: they are never in a group together. */
struct largest {
    struct picture_shape shape[PICTURE_GROUP]; /* by inputs, descending */
    int64_t n;
};

static void add_largest(struct largest *l, const struct picture_shape *s)
{
    int64_t at = l->n;

    if (at == PICTURE_GROUP && l->shape[--at].inputs >= s->inputs) return;
    if (l->n < PICTURE_GROUP) l->n++;
    for (; at > 0 && l->shape[at - 1].inputs < s->inputs; at--)
        l->shape[at] = l->shape[at - 1];
    l->shape[at] = *s;
}

/* Bytes of the pixels of a group of the largest. */
static double group_bytes(const struct largest *l, int64_t width)
{
    int64_t inputs = 0;

    for (int64_t i = 0; i < l->n && (i == 0 || inputs * width < PICTURE_VALUES); i++)
        inputs += l->shape[i].inputs;
    return (double)(inputs * width) * sizeof(float);
}

/* The pictures of all sets: those that the steps read, and the others, which are only decoded. */
struct pictures {
    struct largest used, unused;
    int64_t values; /* that the store will hold of the used ones */
};

static void add_set(struct pictures *p, const struct picture_input *in, const struct dataset *d)
{
    for (int64_t i = 0; i < d->n_images; i++) {
        const struct dataset_image *img = &d->images[i];
        if (img->bad) continue; /* never read, and of no shape where that is why */
        add_largest(img->used ? &p->used : &p->unused, &img->shape);
        if (img->used) p->values += picture_rows(in, &img->shape) * in->width;
    }
}

/* The pixels of a group, and what waits for its part of the store to fill up: all, or as much as a
 * part holds. That pictures can be read takes no memory worth counting. */
static double picture_bytes(const struct pictures *p, int64_t width)
{
    double waiting = (double)p->values * sizeof(float), others = group_bytes(&p->unused, width);
    double read =
        group_bytes(&p->used, width) + (waiting < STORE_PART_BYTES ? waiting : STORE_PART_BYTES);

    return read > others ? read : others;
}

/* The set whose largest picture is the largest of all: large ones are read one at a time. A run
 * that has recorded its pictures has read them, and the cache has them. */
static bool find_largest(struct forecast *f, struct err *e)
{
    const struct run *r = f->r;
    const struct dataset *d = &r->train;
    char *sums = run_path(r, e, "pictures.sha256");
    bool done, ok = sums && file_there(sums, &done, e);

    for (int64_t i = 0; i < r->n_eval; i++)
        if (r->eval[i].data.largest.bytes > d->largest.bytes) d = &r->eval[i].data;
    f->largest = ok && d->largest.bytes && !(r->resumed && done) ? d : NULL;
    free(sums);
    return ok;
}

/* Pictures are decoded a group at a time, and those that are read run through
 * the tower one by one. */
static bool add_pictures(struct forecast *f, struct err *e)
{
    const struct run *r = f->r;
    struct picture_input in = {.pixels = f->models[0].pixels};
    struct pictures p = {.values = 0};
    struct model shape = {0};
    struct forecast_step *s;
    bool ok;

    if (!hf_has_vision(&f->base.cfg)) return true;
    in.width = in.pixels ? r->processor.input_width : hf_feature_width(&f->base.cfg);
    if (!picture_use_mark(f->r, in.pixels, e)) return false;
    add_set(&p, &in, &r->train);
    for (int64_t i = 0; i < r->n_eval; i++)
        add_set(&p, &in, &r->eval[i].data);
    if (p.used.n + p.unused.n == 0) return true;
    if (!file_can_mkdirs(r->c.data.cache, e))
        return err_set(e, "data.cache: %s: choose another directory, there or not", e->msg);
    if (!run_check_cache(f->r, &f->base, in.pixels, e) || !find_largest(f, e)) return false;
    s = add_step(f, "pictures", STEP_BASELINE, FORECAST_PICTURES);
    ok = model_outline(&shape, &f->base, &f->models[0].state, 0, e);
    if (ok) {
        if (!in.pixels && p.used.n)
            s->activations = s->region = (double)dry_picture(f->r, &shape, p.used.shape);
        s->computed = picture_bytes(&p, r->processor.input_width) +
                      (f->largest ? (double)f->largest->largest.bytes : 0);
        place_weights(f, s, &shape, false, false);
        sum_up(f, s);
    }
    model_close(&shape);
    return ok;
}

/* One layer's graph in a calibration step, and the tokens in it. */
struct calibration {
    struct model shape;
    int64_t tokens;
};

static bool open_calibration(struct forecast *f, struct forecast_step *s, struct calibration *c,
                             const struct model_state *state, unsigned looks, struct err *e)
{
    size_t bytes = 0;
    bool ok = model_outline(&c->shape, &f->base, state, 0, e) &&
              dry_layer(f->r, &c->shape, looks, &bytes, &c->tokens, e);

    s->activations = s->region = (double)bytes;
    return ok;
}

/* The rearranged copy of the longest sample's keys (convert/rank_mkl.c). */
static double mkl_bytes(const struct forecast *f, const struct rank_dims *n)
{
    return 8.0 * (double)(f->r->train.longest * n->G * n->dh);
}

/* That, or what its scores lose, with all layers' choices (train/logit.c), or its components, with
 * all layers' bases (train/basis.c). */
static double rank_bytes(const struct forecast *f, const struct rank_dims *n)
{
    const double components = (double)(n->L * n->G * n->dh / 2);

    if (f->r->c.rank.basis == BASIS_HEAD && f->r->c.rank.strategy == RANK_LOGIT)
        return logit_bytes(n, f->r->c.rank.rotation, f->r->train.longest) +
               components * (4 * (double)n->dh / 2 + 8);
    if (f->r->c.rank.basis == BASIS_HEAD) return mkl_bytes(f, n);
    return basis_bytes(n, f->r->train.longest) + components * (16 * (double)n->G + 12);
}

/* Queries and keys of one graph; a recipe's has its name. */
static bool add_rank(struct forecast *f, int64_t recipe, struct err *e)
{
    struct forecast_step *s = add_step(f, recipes_name(&f->r->c, recipe), STEP_RANK, FORECAST_RANK);
    struct calibration layer = {0};
    bool ok = open_calibration(f, s, &layer, &f->models[0].state, LOOK_QK, e);

    strcat(s->name, *s->name ? " rank" : "rank");
    if (ok) {
        place_weights(f, s, &layer.shape, false, false);
        const struct rank_dims n = model_rank_dims(&layer.shape);
        const double bytes = rank_bytes(f, &n);
        if (mkl_bytes(f, &n) < bytes) s->less = FORECAST_LESS_MKL;
        s->computed += bytes;
        sum_up(f, s);
    }
    model_close(&layer.shape);
    return ok;
}

/* The original's layers, for the rotation of a partial model. */
static bool add_rotation(struct forecast *f, const struct point *pt, enum step of, struct err *e)
{
    const struct model_state state = partial_state(f, pt);
    struct forecast_step *s;
    struct calibration base = {0};
    struct model shape = {0};
    bool ok;

    if (!f->r->c.rank.rotation) return true;
    s = add_step(f, pt->stage1, of, FORECAST_ROTATION);
    strcat(s->name, " rotation");
    ok = open_calibration(f, s, &base, &f->models[0].state, LOOK_X | LOOK_ATTENTION, e) &&
         model_outline(&shape, &f->base, &state, 0, e);
    if (ok) {
        place_weights(f, s, &shape, false, true);
        s->computed += rotation_size(&shape, base.tokens);
        sum_up(f, s);
    }
    model_close(&base.shape);
    model_close(&shape);
    return ok;
}

/* Where attention is looked at, it is the original's, unless stage 1 has trained
 * the partial model. */
static bool add_looks(struct forecast *f, struct forecast_step *s, struct calibration *layer,
                      const struct model_state *state, struct err *e)
{
    const bool attention = f->r->c.svd.statistics != KV_TOKENS;
    const unsigned looks = LOOK_X | (attention ? LOOK_ATTENTION : 0);
    struct calibration base = {0};
    double region;
    bool ok = open_calibration(f, s, layer, state, looks, e);

    if (!ok || !attention || run_has_step(f->r, STEP_STAGE1)) return ok;
    region = s->region;
    ok = open_calibration(f, s, &base, &f->models[0].state, looks, e);
    if (region > s->region) s->activations = s->region = region;
    model_close(&base.shape);
    return ok;
}

/* Whose factors: those of a recipe may be made of a stage 1 that another has trained. */
static void name_factors(const struct forecast *f, const struct point *pt, char name[64])
{
    if (f->r->c.recipes && strcmp(pt->name, pt->stage1) != 0) /* not of splits */
        snprintf(name, 64, "%s-rope%lld", recipes_name(&f->r->c, pt->recipe),
                 (long long)pt->rope_dim);
    else
        snprintf(name, 64, "%s", pt->stage1);
}

static double most_of(const struct factors_size *size)
{
    return size->made > size->copied ? size->made : size->copied;
}

/* Finds s->less, of factors of that size. */
static bool find_less(struct forecast *f, struct forecast_step *s, const struct model *m,
                      struct factors_for *what, int64_t tokens, double size, struct err *e)
{
    static const unsigned bits[] = {
        [KV_TOKENS] = FORECAST_LESS_TOKENS, [KV_RECEIVED] = FORECAST_LESS_RECEIVED};
    int *statistics = &f->r->c.svd.statistics;
    const int own = *statistics;
    struct factors_size other;
    bool ok = true;

    for (int k = 0; ok && k < own; k++) {
        *statistics = k;
        ok = factors_size(&other, f->r, m, what, tokens, e);
        if (ok && most_of(&other) < size) s->less |= bits[k];
    }
    *statistics = own;
    if (!ok || !what->uneven) return ok;
    what->uneven = false;
    ok = factors_size(&other, f->r, m, what, tokens, e);
    if (ok && most_of(&other) < size) s->less |= FORECAST_LESS_EVEN;
    return ok;
}

/* *factors: their bytes, while they are copied into a point's model. */
static bool add_svd(struct forecast *f, const struct point *pt, enum forecast_kind kind,
                    double *factors, struct err *e)
{
    struct model_state state = partial_state(f, pt);
    struct forecast_step *s = add_step(f, "", STEP_SVD, kind);
    struct factors_for what = {.n = 0};
    struct factors_size size;
    struct calibration layer = {0};
    bool ok;

    name_factors(f, pt, s->name);
    strcat(s->name, " svd");
    ok = add_looks(f, s, &layer, &state, e) &&
         (kind == FORECAST_SPLITS ? splits_factors(f->r, &f->base, &what, e)
                                  : factors_points(f->r, pt, false, &what, e));
    ok = ok && factors_size(&size, f->r, &layer.shape, &what, layer.tokens, e) &&
         find_less(f, s, &layer.shape, &what, layer.tokens, most_of(&size), e);
    free(what.point);
    if (ok) {
        place_weights(f, s, &layer.shape, false, !run_has_step(f->r, STEP_STAGE1));
        s->computed += most_of(&size);
        s->narrow = size.narrow;
        *factors = size.copied;
        sum_up(f, s);
    }
    model_close(&layer.shape);
    return ok;
}

/* Both models' layers in turn. others: bytes of what is there besides, of that step. */
static bool add_refit(struct forecast *f, const char *name, enum forecast_kind kind,
                      const struct model_state *state, double others, struct err *e)
{
    const enum step of = kind == FORECAST_STAGE1_REFIT ? STEP_STAGE1 : STEP_SVD;
    struct forecast_step *s = add_step(f, name, of, kind);
    struct calibration base = {0}, own = {0};
    double region = 0;
    bool ok = open_calibration(f, s, &base, &f->models[0].state, LOOK_A, e);

    strcat(s->name, of == STEP_STAGE1 || f->r->c.svd.refit ? " refit" : " loss");
    if (ok) region = s->region;
    ok = ok && open_calibration(f, s, &own, state, LOOK_A, e);
    if (ok) {
        if (region > s->region) s->activations = s->region = region;
        place_weights(f, s, &own.shape, false,
                      of == STEP_STAGE1 || !run_has_step(f->r, STEP_STAGE1));
        s->computed += others + refit_size(&own.shape, own.tokens);
        sum_up(f, s);
    }
    model_close(&base.shape);
    model_close(&own.shape);
    return ok;
}

/* The refit of the points with the pairs of pt, `factors` being there for all of them. */
static bool add_svd_refit(struct forecast *f, const struct point *pt, enum forecast_kind kind,
                          double factors, struct err *e)
{
    const struct point widest = factors_widest(f->r, pt);
    struct model_state state;

    return mla_state(f, &widest, &state, e) && add_refit(f, widest.name, kind, &state, factors, e);
}

/* The converted model's layers, while it is measured what each one's latent is worth: its
 * parameters are copies of factors. */
static bool add_ranks(struct forecast *f, const struct point *pt, double factors, struct err *e)
{
    const struct point widest = factors_widest(f->r, pt);
    struct forecast_step *s = add_step(f, widest.name, STEP_SVD, FORECAST_RANKS);
    struct calibration own = {0};
    struct model_state state;
    bool ok = mla_state(f, &widest, &state, e) && open_calibration(f, s, &own, &state, 0, e);

    strcat(s->name, " ranks");
    if (ok) {
        place_weights(f, s, &own.shape, false, !run_has_step(f->r, STEP_STAGE1));
        s->computed += factors;
        sum_up(f, s);
    }
    model_close(&own.shape);
    return ok;
}

/* Factors, and what is made of them. */
static bool add_conversion(struct forecast *f, const struct point *pt, struct err *e)
{
    const struct config *c = &f->r->c;
    double factors = 0;

    return (c->svd.method == KV_NONE ||
            (add_svd(f, pt, FORECAST_FACTORS, &factors, e) &&
             (c->svd.ranks != RANKS_SENSITIVITY || add_ranks(f, pt, factors, e)))) &&
           (!c->svd.refit || add_svd_refit(f, pt, FORECAST_REFIT, factors, e));
}

/* What is tried while the sizes of sweep.cache are split. */
static bool add_splits(struct forecast *f, struct err *e)
{
    const struct point pt = splits_largest(f->r, &f->base);
    double factors = 0;

    return !splits_needed(f->r) ||
           (add_rotation(f, &pt, STEP_SVD, e) && add_svd(f, &pt, FORECAST_SPLITS, &factors, e) &&
            add_svd_refit(f, &pt, FORECAST_SPLITS_LOSS, factors, e));
}

/* What comes before the points. */
static bool add_shared(struct forecast *f, struct err *e)
{
    struct config *c = &f->r->c;
    const bool rank = run_has_step(f->r, STEP_RANK);

    for (int64_t k = 0; k < recipes_count(c); k++) {
        recipes_take(c, k);
        if (rank && !rank_check_given(f->r, &f->base, e)) return false;
        if (rank && recipes_ranks(c, k) && rank_is_measured(c) && !add_rank(f, k, e)) return false;
    }
    for (int64_t k = 0; k < recipes_count(c); k++) {
        recipes_take(c, k);
        if (!add_splits(f, e)) return false;
    }
    return true;
}

/* In the order in which the run takes them. */
static bool add_steps(struct forecast *f, struct err *e)
{
    struct config *c = &f->r->c;
    const struct point *last = NULL;

    if (!add_pictures(f, e) || !teacher_store_check(f->r, &f->base, e)) return false;
    if (!add_model_step(f, &f->models[0], e) || !add_shared(f, e)) return false;
    for (int64_t i = 1; i < f->n; i++) {
        struct forecast_model *m = &f->models[i];
        bool first = m->state.state == ATTN_MLA && (!last || m->point.recipe != last->recipe ||
                                                    strcmp(m->point.stage1, last->stage1) != 0);
        if (first) last = &m->point;
        recipes_take(c, m->point.recipe);
        if ((m->state.state == ATTN_PARTIAL ||
             (first && run_has_step(f->r, STEP_SVD) && !run_has_step(f->r, STEP_STAGE1))) &&
            !add_rotation(f, &m->point, m->state.state == ATTN_MLA ? STEP_SVD : STEP_STAGE1, e))
            return false;
        if (m->state.state == ATTN_PARTIAL && c->stage1.refit &&
            !add_refit(f, m->name, FORECAST_STAGE1_REFIT, &m->state, 0, e))
            return false;
        if (first && run_has_step(f->r, STEP_SVD) && !add_conversion(f, &m->point, e)) return false;
        if (!add_model_step(f, m, e)) return false;
    }
    return true;
}

static bool look_at_models(struct forecast *f, struct err *e)
{
    const struct config *c = &f->r->c;
    int64_t points = config_points(c);
    bool baseline = run_has_step(f->r, STEP_BASELINE);
    double own, mapped;

    f->models = mem_new((size_t)(1 + 2 * points), sizeof *f->models, "the run's models", e);
    f->steps = mem_new((size_t)(5 + 4 * recipes_count(c) + 8 * points), sizeof *f->steps,
                       "the run's steps", e);
    if (!f->models || !f->steps) return false;
    add(f, "base", "line", baseline ? &c->baseline : NULL, baseline_kinds(c))->pixels =
        baseline && c->baseline.vision;
    f->models[0].state = (struct model_state){.state = f->base.state,
                                              .rope_dim = f->base.rope_dim,
                                              .rope_dims = f->base.rope_dims,
                                              .cross = f->base.cross,
                                              .latent = f->base.latent,
                                              .latents = f->base.latents,
                                              .method = f->base.method,
                                              .decoupled = f->base.decoupled};
    for (int64_t i = 0; i < points; i++)
        if (!add_point(f, i, e)) return false;
    recipes_take(&f->r->c, -1);
    if (f->r->train.n == 0)
        return run_refuse(f->r, e, "data.train: no usable sample is left to train on");
    room_of_params(&f->base, &own, &mapped); /* inspection only; freed before the run */
    f->program = room_held() - own;
    if (f->program < 0) f->program = 0;
    return add_steps(f, e);
}

bool forecast_models(struct forecast *f, struct err *e)
{
    const bool ok = look_at_models(f, e);

    recipes_take(&f->r->c, -1);
    return ok;
}

/* Where its largest picture is most of what the step needs that reads pictures. */
static bool is_for_picture(const struct forecast *f, const struct forecast_step *s)
{
    return s->kind == FORECAST_PICTURES && f->largest &&
           2 * (double)f->largest->largest.bytes > s->bytes - f->program;
}

bool forecast_fits(const struct forecast *f, struct err *e)
{
    const struct forecast_step *worst = &f->steps[0];
    double limit = (double)f->r->memory_limit;
    char t[3][UNIT_TEXT], what[ADVICE_TEXT];

    for (int64_t i = 1; i < f->n_steps; i++)
        if (f->steps[i].bytes > worst->bytes) worst = &f->steps[i];
    if (worst->bytes <= limit) return true;
    if (is_for_picture(f, worst)) {
        const struct dataset_reading *most = &f->largest->largest;
        return err_set(e,
                       "%s: %lldx%lld pixels take %s to read and process, %s with all else; "
                       "run.memory_limit or the machine gives %s: make it smaller",
                       f->largest->images[most->image].path, (long long)most->width,
                       (long long)most->height, unit_bytes(t[2], (double)most->bytes),
                       unit_bytes(t[0], worst->bytes), unit_bytes(t[1], limit));
    }
    return err_set(e, "%s needs %s, run.memory_limit or the machine gives %s: try %s", worst->name,
                   unit_bytes(t[0], worst->bytes), unit_bytes(t[1], limit),
                   advice_for(f, worst, what));
}
