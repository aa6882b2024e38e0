/* teacher.c - see teacher.h. */
#include "train/teacher.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "train/models.h"
#include "train/recipes.h"
#include "train/teacher_store.h"

#include <stdlib.h>
#include <string.h>

struct top_logits teacher_lists(const struct config_phase *p, int64_t V)
{
    return (struct top_logits){.k = V < TEACHER_TOKENS ? V : TEACHER_TOKENS,
                               .temperature = p->temperature};
}

static bool check_phase(const struct config *c, int i, const struct hf_config *cfg, struct err *e)
{
    return !config_has_step(c, phase_steps[i]) || config_phase(c, i)->loss != LOSS_LAYERS ||
           cfg->text.num_hidden_layers > 1 ||
           err_set(e,
                   "%s.loss: \"layers\" compares hidden states behind all layers but the last, and "
                   "the model has one layer: set it to \"distill\" or \"ce\"",
                   step_names[phase_steps[i]]);
}

bool teacher_check(const struct config *c, const struct hf_config *cfg, struct err *e)
{
    for (int64_t k = 0; k < PHASES * recipes_count(c); k++)
        if (!check_phase(recipes_config(c, k / PHASES), (int)(k % PHASES), cfg, e))
            return recipes_blame(c, k / PHASES, e);
    return true;
}

/* Of all layers but the last. */
static int64_t hidden_states(int64_t tokens, const struct model *m)
{
    return (m->cfg.text.num_hidden_layers - 1) * tokens * m->cfg.text.hidden_size;
}

/* For the longest samples at once, so that it is there when the room for a
 * step's graph is asked. */
static bool reserve_hidden(struct teacher *t, const struct run *r, const struct config_phase *p,
                           struct err *e)
{
    const int64_t tokens = config_at_a_time(p, cluster_size()) * r->train.longest;

    t->cap_hidden = (size_t)hidden_states(tokens, &t->m);
    t->hidden = mem_new(t->cap_hidden, sizeof *t->hidden, "hidden states", e);
    return t->hidden;
}

bool teacher_open(struct teacher *t, struct run *r, const struct config_phase *p, int phase,
                  struct err *e)
{
    bool ok;

    if (p->loss == LOSS_CE) return true;
    t->store.lock = -1;
    ok = open_base_model(r, &t->m, e);
    if (p->teacher == TEACHER_STORED && !cluster_agree(ok, e)) return false;
    if (!ok) return false;
    t->open = true;
    t->layers = p->loss == LOSS_LAYERS;
    t->said = teacher_lists(p, t->m.head->t.rows);
    if (t->layers) return reserve_hidden(t, r, p, e);
    return p->teacher != TEACHER_STORED || teacher_store_open(t, r, p, phase, e);
}

void teacher_close(struct teacher *t)
{
    struct err ignored;

    model_close(&t->m);
    if (t->stored) store_close(&t->store, &ignored); /* of a reader there is nothing to write */
    free(t->row);
    free(t->said.ids);
    free(t->said.logits);
    free(t->said.rest);
    free(t->hidden);
    memset(t, 0, sizeof *t);
}

bool teacher_reserve(struct teacher *t, int64_t labels, struct err *e)
{
    const size_t rows = (size_t)labels, n = rows * (size_t)t->said.k;

    return mem_grow(&t->said.ids, &t->cap_ids, n, sizeof *t->said.ids, e) &&
           mem_grow(&t->said.logits, &t->cap_logits, n, sizeof *t->said.logits, e) &&
           mem_grow(&t->said.rest, &t->cap_rest, rows, sizeof *t->said.rest, e);
}

bool teacher_graph(struct teacher *t, struct run *r, const struct dataset *d,
                   struct batch_buffer *b, struct err *e)
{
    struct forward f = {.batch = &b->batch};
    const size_t states = (size_t)hidden_states(b->batch.tokens, &t->m);

    CHECK(!t->layers || states > 0);
    if (t->layers ? !mem_grow(&t->hidden, &t->cap_hidden, states, sizeof *t->hidden, e)
                  : !teacher_reserve(t, b->batch.labels, e))
        return false;
    tape_begin(r->tape, false);
    if (!run_pictures(r, &t->m, d, b, &f.features, e)) return false;
    if (t->layers)
        model_hidden(&t->m, r->tape, &f, t->hidden);
    else
        model_top_logits(&t->m, r->tape, &f, &t->said);
    return true;
}

double teacher_hidden_bytes(int64_t tokens, const struct model *teacher)
{
    return (double)hidden_states(tokens, teacher) * (double)sizeof(real);
}

double teacher_bytes(int64_t labels, int64_t V)
{
    const int64_t k = V < TEACHER_TOKENS ? V : TEACHER_TOKENS;

    return (double)labels *
           (double)(k * (int64_t)(sizeof(int32_t) + sizeof(real)) + (int64_t)sizeof(real));
}

double teacher_mapped(const struct model *teacher, unsigned kinds)
{
    const unsigned attention = 1u << PARAM_Q | 1u << PARAM_K | 1u << PARAM_V | 1u << PARAM_O;
    double bytes = 0;

    for (int64_t i = 0; i < teacher->n_params; i++) {
        const struct param *p = &teacher->params[i];
        if ((attention | kinds) >> p->kind & 1)
            bytes += (double)tensor_count(&p->t) * (double)dtype_size(p->t.dtype);
    }
    return bytes;
}
