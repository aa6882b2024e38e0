/* dryrun_model.c - models of shapes alone, and the memory of their graphs. A declared parameter has
 * no values, and building a graph reads none: so a 7B model is planned in a few megabytes. */
#include "base/mem.h"
#include "model/params.h"
#include "train/dryrun_parts.h"

#include <stdlib.h>
#include <string.h>

/* Any pairs do for a plan: the first of each head. */
static bool any_pairs(struct model *m, struct err *e)
{
    int64_t kept = m->rope_dim / 2;
    int64_t heads = m->cfg.text.num_hidden_layers * m->cfg.text.num_key_value_heads;

    m->pairs = mem_new((size_t)(heads * kept), sizeof *m->pairs, "the kept RoPE pairs", e);
    if (!m->pairs) return false;
    for (int64_t i = 0; i < heads * kept; i++)
        m->pairs[i] = (int32_t)(i % kept);
    return model_set_query_pairs(m, e);
}

/* Frozen weights stay in the files' dtype: their bytes, and what a product must unpack, depend on
 * it. What conversion computes is fp32. */
static void set_dtypes(struct model *shape, const struct model *m)
{
    int64_t k = 0;

    for (int64_t i = 0; i < shape->n_params; i++) { /* both lists have the same order */
        struct param *p = &shape->params[i];
        int64_t found = k;
        while (found < m->n_params && strcmp(m->params[found].name, p->name) != 0)
            found++;
        if (found == m->n_params) continue;
        k = found;
        if (!p->t.needs_grad && tensor_count(&m->params[found].t) == tensor_count(&p->t))
            p->t.dtype = m->params[found].t.dtype;
    }
}

bool dry_model(struct model *shape, const struct model *m, const struct dry_state *s,
               unsigned kinds, struct err *e)
{
    *shape = *m;
    shape->params = NULL;
    shape->layers = NULL;
    shape->pairs = shape->q_pairs = NULL;
    memset(&shape->vision, 0, sizeof shape->vision);
    shape->n_params = shape->cap_params = 0;
    shape->state = s->state;
    shape->method = s->method;
    shape->decoupled = s->decoupled;
    shape->rope_dim = s->state == ATTN_FULL ? m->rope_dim : s->rope_dim;
    shape->latent = s->latent;
    if (!params_declare(shape, e) || (s->state != ATTN_FULL && !any_pairs(shape, e))) return false;
    for (int64_t i = 0; i < shape->n_params; i++)
        shape->params[i].t.needs_grad = kinds >> shape->params[i].kind & 1;
    set_dtypes(shape, m);
    return true;
}

void dry_model_free(struct model *shape)
{
    params_free(shape->params, shape->n_params);
    free(shape->layers);
    free(shape->vision.layers);
    free(shape->pairs);
    free(shape->q_pairs);
    memset(shape, 0, sizeof *shape);
}

/* The entries of the n longest samples, longest first; of equals the earlier ones. */
static void longest(const struct dataset *d, int64_t n, int64_t *entry)
{
    int64_t held = 0;

    for (int64_t i = 0; i < d->n; i++) {
        if (held == n && d->entries[entry[n - 1]].tokens >= d->entries[i].tokens) continue;
        int64_t at = held < n ? held++ : n - 1;
        for (; at > 0 && d->entries[entry[at - 1]].tokens < d->entries[i].tokens; at--)
            entry[at] = entry[at - 1];
        entry[at] = i;
    }
}

bool dry_activations(struct run *r, struct model *shape, int64_t n, bool pixels, size_t *bytes,
                     struct err *e)
{
    struct batch_buffer b = {0};
    struct forward f = {.batch = &b.batch, .recompute = r->c.optim.recompute};
    struct sample *samples;
    struct tensor leaf;
    int64_t *entry;
    bool ok;

    if (n > r->train.n) n = r->train.n;
    entry = mem_new((size_t)n, sizeof *entry, "the longest samples", e);
    samples = mem_new((size_t)n, sizeof *samples, "the longest samples", e);
    ok = entry && samples;
    if (ok) longest(&r->train, n, entry);
    for (int64_t i = 0; ok && i < n; i++)
        ok = dataset_sample(&r->train, entry[i], &samples[i], e);
    tape_begin(r->tape, true);
    ok = ok && batch_fill(&b, samples, n, false, e);
    if (ok && b.batch.images) {
        int64_t rows = pixels ? b.batch.images : b.batch.image_tokens;
        const struct vision_config *v = &shape->cfg.vision;
        int64_t width = pixels ? v->num_channels * v->image_size * v->image_size : v->hidden_size;
        leaf = tensor_leaf(DT_F32, rows, width, NULL);
        f.features = pixels ? model_vision(shape, r->tape, &leaf) : &leaf;
    }
    if (ok) {
        model_loss(shape, r->tape, &f, 1);
        *bytes = tape_bytes(r->tape);
    }
    for (int64_t i = 0; samples && i < n; i++)
        sample_free(&samples[i]);
    tape_begin(r->tape, false); /* the graph's batch and shapes go */
    batch_free(&b);
    free(samples);
    free(entry);
    return ok;
}
