/* converted.c - see converted.h. */
#include "bench/lib/converted.h"
#include "base/mem.h"
#include "train/factors.h"
#include "train/peft.h"
#include "train/models.h"
#include "train/ranking.h"
#include "train/trainer.h"

#include <stdlib.h>
#include <string.h>

bool adamw_of_model(struct adamw *o, struct model *m, struct err *e)
{
    struct tensor **trained = mem_new((size_t)m->n_params, sizeof *trained, "bench", e);
    int64_t n = 0;
    bool ok;

    for (int64_t i = 0; trained && i < m->n_params; i++)
        if (m->params[i].t.needs_grad) trained[n++] = &m->params[i].t;
    ok = trained && adamw_init(o, trained, NULL, n, MOMENT_F32, e);
    free(trained);
    return ok;
}

static bool convert(struct converted *c, struct err *e)
{
    struct run *r = &c->r;
    struct point p = config_point(&r->c, 0);
    struct model base = {0};
    const struct factors_for what = {.point = &p, .n = 1, .samples = r->c.svd.samples};
    struct made_factors f = {0};
    bool ok = run_limits(r, e) && open_base_model(r, &base, e) && run_open_data(r, &base.cfg, e) &&
              run_open_pictures(r, &base, false, e) && step_rank(r, e);

    model_close(&base);
    ok = ok && open_untrained_partial(r, &p, &c->m, e) &&
         factors_make(&f, r, &c->m, NULL, &what, e) && factors_apply(&f, r, &p, true, &c->m, e) &&
         model_train(&c->m, peft_kinds(r->c.stage2.peft, r->c.stage2.projector), e);
    factors_free(&f);
    return ok;
}

bool converted_open(struct converted *c, const char *config, const char *const *sets, size_t n_sets,
                    struct err *e)
{
    if (!schema_load(&config_schema, &c->r.c, config, sets, n_sets, e) || !convert(c, e) ||
        !adamw_of_model(&c->opt, &c->m, e))
        return false;
    c->samples = mem_new((size_t)c->r.c.stage2.batch_size, sizeof *c->samples, "bench", e);
    return c->samples && converted_batch(c, NULL, e);
}

static void free_samples(struct converted *c)
{
    for (int64_t i = 0; c->samples && i < c->r.c.stage2.batch_size; i++)
        sample_free(&c->samples[i]);
}

void converted_close(struct converted *c)
{
    adamw_free(&c->opt);
    free_samples(c);
    free(c->samples);
    batch_free(&c->batch);
    model_close(&c->m);
    run_close(&c->r);
}

bool converted_batch(struct converted *c, const int64_t *entry, struct err *e)
{
    int64_t size = c->r.c.stage2.batch_size;
    bool ok = true;

    free_samples(c);
    memset(c->samples, 0, (size_t)size * sizeof *c->samples);
    for (int64_t i = 0; ok && i < size; i++)
        ok = dataset_sample(&c->r.train, entry ? entry[i] : i % c->r.train.n, &c->samples[i], e);
    return ok && batch_fill(&c->batch, c->samples, size, false, e);
}

bool converted_step(struct converted *c, struct err *e)
{
    const struct train_loss how = {.distill = {.scale = 1 / (double)c->batch.batch.labels}};
    struct tensor *loss;

    tape_begin(c->r.tape, true);
    loss = train_graph(&c->r, &c->m, &c->r.train, &c->batch, &how, e);
    if (!loss || !tape_plan(c->r.tape, 0, e)) return false;
    tape_forward(c->r.tape);
    tape_backward(c->r.tape, loss);
    adamw_grad_squares(&c->opt);
    adamw_step(&c->opt, 0, 1);
    return true;
}
