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

/* The graph of d's n longest samples, on the run's tape. */
struct dry_batch {
    struct sample *samples;
    struct batch_buffer buffer;
    struct tensor leaf;
    struct forward f;
    int64_t n;
};

static bool open_batch(struct dry_batch *b, struct run *r, struct model *shape,
                       const struct dataset *d, int64_t n, bool training, bool pixels, bool prompt,
                       struct err *e)
{
    const struct vision_config *v = &shape->cfg.vision;
    const struct batch *batch = &b->buffer.batch;
    int64_t *entry;
    bool ok;

    memset(b, 0, sizeof *b);
    b->f = (struct forward){.batch = batch, .recompute = r->c.optim.recompute};
    b->n = n < d->n ? n : d->n;
    entry = mem_new((size_t)b->n, sizeof *entry, "the longest samples", e);
    b->samples = mem_new((size_t)b->n, sizeof *b->samples, "the longest samples", e);
    ok = entry && b->samples;
    if (ok) longest(d, b->n, entry);
    for (int64_t i = 0; ok && i < b->n; i++)
        ok = dataset_sample(d, entry[i], &b->samples[i], e);
    free(entry);
    tape_begin(r->tape, training);
    if (!ok || !batch_fill(&b->buffer, b->samples, b->n, prompt, e)) return false;
    if (batch->images && pixels) {
        b->leaf = tensor_leaf(DT_F32, batch->images,
                              v->num_channels * v->image_size * v->image_size, NULL);
        b->f.features = model_vision(shape, r->tape, &b->leaf);
    } else if (batch->images) {
        b->leaf = tensor_leaf(DT_F32, batch->image_tokens, v->hidden_size, NULL);
        b->f.features = &b->leaf;
    }
    return true;
}

static void close_batch(struct dry_batch *b, struct run *r)
{
    for (int64_t i = 0; b->samples && i < b->n; i++)
        sample_free(&b->samples[i]);
    tape_begin(r->tape, false); /* the graph's batch and shapes go */
    batch_free(&b->buffer);
    free(b->samples);
}

bool dry_activations(struct run *r, struct model *shape, int64_t n, bool pixels, size_t *bytes,
                     struct err *e)
{
    struct dry_batch b;
    bool ok = open_batch(&b, r, shape, &r->train, n, true, pixels, false, e);

    if (ok) {
        model_loss(shape, r->tape, &b.f, 1);
        *bytes = tape_bytes(r->tape);
    }
    close_batch(&b, r);
    return ok;
}

bool dry_answers(struct run *r, struct model *shape, const struct dataset *d, size_t *bytes,
                 struct err *e)
{
    bool tokens = r->c.evaluate.score == SCORE_TOKENS;
    int64_t rows = 0, more = tokens ? 0 : r->c.evaluate.max_new_tokens;
    const struct batch *batch;
    struct dry_batch b;
    bool ok = open_batch(&b, r, shape, d, r->c.evaluate.batch, false, false, !tokens, e);

    if (ok) {
        batch = &b.buffer.batch;
        int32_t *last = tape_new_array(r->tape, int32_t, batch->samples);
        for (int64_t s = 0; s < batch->samples; s++) {
            int64_t length = batch->begin[s + 1] - batch->begin[s] + more;
            last[s] = (int32_t)batch->begin[s + 1] - 1;
            if (length > rows) rows = length;
        }
        if (tokens)
            model_loss(shape, r->tape, &b.f, 1);
        else
            model_logits(shape, r->tape, &b.f, last, batch->samples);
        *bytes = tape_bytes(r->tape) + (size_t)(batch->samples * rows * model_cache_values(shape) *
                                                shape->cfg.text.num_hidden_layers) *
                                           sizeof(real);
    }
    close_batch(&b, r);
    return ok;
}
