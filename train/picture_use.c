/* picture_use.c - see picture_use.h. */
#include "train/picture_use.h"
#include "convert/rank.h"
#include "train/score/evaluate.h"
#include "train/layerwise.h"
#include "train/ranking.h"
#include "train/recipes.h"
#include "train/splits.h"
#include "train/trainer.h"

static void mark_entry(void *arg, int64_t entry)
{
    struct dataset *d = arg;
    const struct dataset_entry *from = &d->entries[entry];

    for (int64_t i = 0; i < from->images; i++)
        d->images[d->refs[from->first_image + i]].used = true;
}

static void clear(struct dataset *d)
{
    for (int64_t i = 0; i < d->n_images; i++)
        d->images[i].used = false;
}

/* The phases whose samples are read in that way. */
static bool mark_trainings(struct run *r, bool pixels, struct err *e)
{
    for (int i = 0; i < PHASES; i++) {
        const bool baseline = phase_steps[i] == STEP_BASELINE;
        const bool here =
            pixels ? baseline
                   : run_has_step(r, phase_steps[i]) && !(baseline && r->c.baseline.vision);
        if (here && !train_each(r, i, mark_entry, &r->train, e)) return false;
    }
    return true;
}

static bool mark_calibration(struct run *r, struct err *e)
{
    const struct config *c = &r->c;
    const bool rank = (run_has_step(r, STEP_RANK) && rank_is_measured(c)) || config_rotates(c);
    const bool trials =
        splits_needed(r) || (run_has_step(r, STEP_SVD) && c->svd.ranks == RANKS_SENSITIVITY);

    return (!rank || layerwise_each(r, c->rank.samples, mark_entry, &r->train, e)) &&
           (!config_calibrates(c) || layerwise_each(r, c->svd.samples, mark_entry, &r->train, e)) &&
           (!trials || layerwise_each(r, c->svd.split_samples, mark_entry, &r->train, e));
}

/* What each recipe's steps read of the training samples. */
static bool mark_recipes(struct run *r, bool pixels, struct err *e)
{
    const int64_t taken = recipes_take(&r->c, -1);
    bool ok = true;

    for (int64_t k = 0; ok && k < recipes_count(&r->c); k++) {
        recipes_take(&r->c, k);
        ok = mark_trainings(r, pixels, e) && (pixels || mark_calibration(r, e));
    }
    recipes_take(&r->c, taken);
    return ok;
}

bool picture_use_mark(struct run *r, bool pixels, struct err *e)
{
    /* what is scored by features: for the tables, or for a baseline's curve alone */
    const bool table = run_has_step(r, STEP_STAGE1) || run_has_step(r, STEP_STAGE2) ||
                       run_has_step(r, STEP_EVALUATE);
    const bool curve = run_has_step(r, STEP_BASELINE) && !r->c.baseline.vision;

    clear(&r->train);
    for (int64_t i = 0; i < r->n_eval; i++) {
        clear(&r->eval[i].data);
        if (pixels || table || curve)
            evaluate_each(r, i, pixels || !table, mark_entry, &r->eval[i].data);
    }
    return r->train.n == 0 || mark_recipes(r, pixels, e);
}

static const struct dataset *set_at(const struct run *r, int64_t i)
{
    return i == 0 ? &r->train : i <= r->n_eval ? &r->eval[i - 1].data : NULL;
}

struct picture_use picture_use_count(const struct run *r, bool pixels, int64_t width)
{
    const struct picture_input in = {.pixels = pixels};
    struct picture_use u = {0};
    const struct dataset *d;

    for (int64_t i = 0; (d = set_at(r, i)); i++)
        for (int64_t k = 0; k < d->n_images; k++) {
            const struct dataset_image *img = &d->images[k];
            if (img->bad) continue;
            u.all++;
            if (!img->used) continue;
            u.used++;
            u.bytes += (double)(picture_rows(&in, &img->shape) * width) * sizeof(float);
        }
    return u;
}

bool picture_use_tokens(const struct run *r, int64_t *least, int64_t *most)
{
    const struct dataset *d;

    *least = INT64_MAX;
    *most = 0;
    for (int64_t i = 0; (d = set_at(r, i)); i++)
        for (int64_t k = 0; k < d->n_images; k++) {
            const int64_t n = d->images[k].shape.tokens;
            if (d->images[k].bad) continue;
            if (n < *least) *least = n;
            if (n > *most) *most = n;
        }
    return *least <= *most;
}
