/* likelihood.c - see likelihood.h. The last token of each prompt is taken off the cache and is
 * given again at the head of every continuation, so that the first token of one is
 * scored like the others. */
#include "model/likelihood.h"
#include "base/clock.h"
#include "base/mem.h"
#include "data/sample.h"
#include "model/family/family.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct prompted {
    const struct generator *g;
    const struct batch *prompts;
    struct picture_places pictures;
    struct kv_cache *cache, own;
    int64_t *length; /* [samples] of the cache without a prompt's last token */
    int32_t *next;   /* [samples] that token's position */
};

/* The batch of one option of every sample that has one; arrays are the tape's. */
struct step {
    struct batch b;
    int64_t *seq;
};

static void lay_out(const struct prompted *c, const struct continuation *o, struct step *s)
{
    struct tape *t = c->g->t;
    const int64_t axes = c->pictures.axes;
    int64_t n = 0, at = 0, samples = c->prompts->samples;
    for (int64_t i = 0; i < samples; i++)
        n += o[i].n;
    int32_t *ids = tape_new_array(t, int32_t, n), *labels = tape_new_array(t, int32_t, n);
    int32_t *rows = tape_new_array(t, int32_t, n), *where = tape_new_array(t, int32_t, axes * n);
    int64_t *begin = tape_new_array(t, int64_t, samples + 1);
    struct span *spans = tape_new_array(t, struct span, n);

    s->seq = tape_new_array(t, int64_t, samples);
    s->b = (struct batch){.tokens = n,
                          .ids = ids,
                          .axes = (int)axes,
                          .positions = where,
                          .begin = begin,
                          .n_spans = n,
                          .spans = spans,
                          .labels = n,
                          .label_rows = rows,
                          .label_ids = labels};
    for (int64_t i = 0; i < samples; i++) {
        if (!o[i].n) continue;
        s->seq[s->b.samples] = i;
        begin[s->b.samples++] = at;
        for (int64_t k = 0; k < o[i].n; k++, at++) {
            ids[at] = k ? o[i].ids[k - 1] : c->prompts->ids[c->prompts->begin[i + 1] - 1];
            labels[at] = o[i].ids[k];
            rows[at] = (int32_t)at;
            spans[at] = (struct span){at, at + 1, token_modality(&c->pictures, ids[at])};
            for (int64_t a = 0; a < axes; a++)
                where[a * n + at] = c->next[i] + (int32_t)k;
        }
    }
    begin[s->b.samples] = at;
}

/* Computes the prompts, and takes their last tokens back. */
static bool prefill(struct prompted *c, const struct forward *f, struct err *e)
{
    struct forward all = *f;
    int64_t *seq;

    tape_begin(c->g->t, false);
    seq = tape_new_array(c->g->t, int64_t, c->prompts->samples);
    for (int64_t s = 0; s < c->prompts->samples; s++)
        seq[s] = s;
    all.cache = c->cache;
    all.seq = seq;
    if (!model_extend(c->g->m, c->g->t, &all, e) || !generate_forward(c->g, c->cache, e))
        return false;
    for (int64_t s = 0; s < c->prompts->samples; s++) {
        c->length[s] = c->cache->length[s] - 1;
        c->next[s] = c->cache->next[s] - 1;
        kv_cache_rewind(c->cache, s, c->length[s], c->next[s]);
    }
    return true;
}

/* One option of every sample. */
static bool score_option(struct prompted *c, const struct continuation *o, double *logp,
                         struct err *e)
{
    struct token_score *each;
    struct step s;
    struct forward f = {.batch = &s.b, .cache = c->cache};
    int64_t at = 0;

    tape_begin(c->g->t, false);
    lay_out(c, o, &s);
    if (!s.b.tokens) return true;
    f.seq = s.seq;
    each = tape_new_array(c->g->t, struct token_score, s.b.tokens);
    if (!model_extend_scores(c->g->m, c->g->t, &f, each, e) || !generate_forward(c->g, c->cache, e))
        return false;
    for (int64_t i = 0; i < s.b.samples; i++) {
        const int64_t sample = s.seq[i];
        for (int64_t k = 0; k < o[sample].n; k++)
            logp[sample] -= each[at++].loss;
        if (isnan(logp[sample])) return generate_not_numbers(c->g->m, e);
        kv_cache_rewind(c->cache, sample, c->length[sample], c->next[sample]);
    }
    return true;
}

static int64_t longest(const struct batch *b, const struct continuation *o, int64_t options)
{
    int64_t prompt = 0, more = 0;

    for (int64_t s = 0; s < b->samples; s++)
        if (b->begin[s + 1] - b->begin[s] > prompt) prompt = b->begin[s + 1] - b->begin[s];
    for (int64_t i = 0; i < options * b->samples; i++)
        if (o[i].n > more) more = o[i].n;
    return prompt + more;
}

bool model_likelihood(const struct generator *g, const struct forward *f,
                      const struct continuation *o, int64_t options, double *logp, struct err *e)
{
    const int64_t samples = f->batch->samples;
    const double begin = clock_seconds();
    struct prompted c = {.g = g, .prompts = f->batch, .cache = f->cache};
    bool ok;

    family_places(&g->m->cfg, &c.pictures);
    memset(logp, 0, (size_t)(options * samples) * sizeof *logp);
    c.length = mem_new((size_t)samples, sizeof *c.length, "prompts", e);
    c.next = mem_new((size_t)samples, sizeof *c.next, "prompts", e);
    if (!c.cache) c.cache = &c.own;
    ok = c.length && c.next &&
         (f->cache ||
          kv_cache_new(&c.own, g->m, g->cache, samples, longest(f->batch, o, options), e)) &&
         prefill(&c, f, e);
    for (int64_t k = 0; ok && k < options; k++)
        ok = score_option(&c, o + k * samples, logp + k * samples, e);
    if (ok && g->stats) {
        if (!f->cache) generate_count_cache(g->stats, f->batch, &c.own);
        g->stats->prefill_seconds += clock_seconds() - begin;
    }
    kv_cache_free(&c.own);
    free(c.length);
    free(c.next);
    return ok;
}
