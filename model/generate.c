/* generate.c - prefill, then one token at a time for all sequences that have not stopped. Each step
 * is a batch of the running sequences' newest tokens, with T = n: logits [n, V] from model_extend,
 * of which the largest, or a chooser's choice, is the next token. */
#include "model/generate.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/signals.h"
#include "model/evict.h"
#include "model/family/family.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void running_free(struct running *r)
{
    free(r->seq);
    free(r->begin);
    free(r->ids);
    free(r->positions);
    free(r->next);
    free(r->spans);
    memset(r, 0, sizeof *r);
}

bool running_new(struct running *r, int64_t n, const struct model *m, struct err *e)
{
    const char *what = "the running sequences";
    size_t count = (size_t)n;

    memset(r, 0, sizeof *r);
    family_places(&m->cfg, &r->pictures);
    r->seq = mem_new(count, sizeof *r->seq, what, e);
    r->begin = mem_new(count + 1, sizeof *r->begin, what, e);
    r->ids = mem_new(count, sizeof *r->ids, what, e);
    r->positions = mem_new((size_t)r->pictures.axes * count, sizeof *r->positions, what, e);
    r->next = mem_new(count, sizeof *r->next, what, e);
    r->spans = mem_new(count, sizeof *r->spans, what, e);
    if (r->seq && r->begin && r->ids && r->positions && r->next && r->spans) return true;
    running_free(r);
    return false;
}

void running_add(struct running *r, int64_t seq, int32_t id, int32_t position)
{
    const int64_t i = r->n++;

    r->seq[i] = seq;
    r->ids[i] = id;
    r->next[i] = position + 1;
    r->begin[i] = i;
    r->begin[i + 1] = i + 1;
    r->spans[i] = (struct span){i, i + 1, token_modality(&r->pictures, id)};
}

struct batch running_batch(struct running *r)
{
    for (int64_t i = 0; i < r->pictures.axes * r->n; i++)
        r->positions[i] = r->next[i % r->n] - 1;
    return (struct batch){.tokens = r->n,
                          .ids = r->ids,
                          .axes = r->pictures.axes,
                          .positions = r->positions,
                          .next = r->next,
                          .samples = r->n,
                          .begin = r->begin,
                          .n_spans = r->n,
                          .spans = r->spans};
}

/* The modality whose factors make a generated token's key and value: it follows from the id, as in
 * the published code, although the token's embedding is text's. */
enum modality token_modality(const struct picture_places *p, int32_t id)
{
    return p->id >= 0 && (id == p->id || id == p->around[0] || id == p->around[1]) ? IMAGE : TEXT;
}

/* The index of the largest of x[n], the first if several; -1 if one is NaN. */
static int32_t argmax(const real *x, int64_t n)
{
    int64_t best = 0;

    for (int64_t i = 0; i < n; i++) {
        if (isnan(x[i])) return -1;
        if (x[i] > x[best]) best = i;
    }
    return (int32_t)best;
}

bool generate_not_numbers(const struct model *m, struct err *e)
{
    return err_set(e,
                   "%s%sthe logits are not numbers: the model's training has diverged, and is to "
                   "be done again with a smaller lr",
                   m->dir ? m->dir : "", m->dir ? ": " : "");
}

bool generate_forward(const struct generator *g, const struct kv_cache *c, struct err *e)
{
    if (!tape_plan(g->t, g->memory_limit, e)) return false;
    if (!tape_forward(g->t)) /* by a signal, or by who is asked between the nodes */
        return signals_go_on(e) ? err_set(e, "stopped") : false;
    return kv_cache_check(c, e);
}

bool generate_take(const struct generator *how, int64_t seq, real *logits, int64_t n,
                   struct generation *g, struct err *e)
{
    const struct chooser *by = how->chooser;
    int32_t id = argmax(logits, n);

    if (id < 0) return generate_not_numbers(how->m, e);
    if (by && by->pick) id = by->pick(by->arg, seq, logits, n);
    for (int64_t k = 0; k < how->n_stop; k++)
        g->stopped |= how->stop[k] == id;
    if (!g->stopped) g->ids[g->n++] = id;
    g->ended = g->stopped || (by && by->took && !by->took(by->arg, seq, g)) || g->n == how->max_new;
    return true;
}

struct tensor *generate_logits(const struct generator *g, const struct forward *f, struct err *e)
{
    struct tensor *logits;

    tape_begin(g->t, false);
    logits = model_extend(g->m, g->t, f, e);
    return logits && generate_forward(g, f->cache, e) ? logits : NULL;
}

/* Takes each running sequence's next token from its logits [n, V]; drops sequences that stop. */
static bool take_tokens(struct running *r, const struct generator *how, const struct tensor *logits,
                        const struct kv_cache *c, struct generation *out, struct err *e)
{
    const int64_t n = r->n;

    r->n = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t seq = r->seq[i];
        struct generation *g = &out[seq];
        if (!generate_take(how, seq, tensor_real(logits) + i * logits->cols, logits->cols, g, e))
            return false;
        if (!g->ended) running_add(r, seq, g->ids[g->n - 1], c->next[seq]);
    }
    return true;
}

/* One step: appends f's batch to its cache and takes the next tokens. Adds its time to *spent. */
static bool run(const struct generator *g, const struct forward *f, struct running *r,
                struct generation *out, double *spent, struct err *e)
{
    double begin = clock_seconds();
    struct tensor *logits = generate_logits(g, f, e);

    if (!logits) return false;
    evict_step(f->cache, f->seq, f->batch->samples);
    if (!take_tokens(r, g, logits, f->cache, out, e)) return false;
    *spent += clock_seconds() - begin;
    return true;
}

/* Prefill of f's batch, then the steps. */
static bool run_all(const struct generator *g, const struct forward *f, struct running *r,
                    struct generation *out, struct generate_stats *stats, struct err *e)
{
    const struct batch *b = f->batch;

    r->n = b->samples;
    for (int64_t s = 0; s < b->samples; s++) {
        r->seq[s] = s;
        out[s].ids = mem_new((size_t)g->max_new, sizeof *out[s].ids, "generated tokens", e);
        if (!out[s].ids) return false;
    }
    if (!run(g, f, r, out, &stats->prefill_seconds, e)) return false;
    while (r->n > 0) {
        const struct batch next = running_batch(r);
        struct forward step = {.batch = &next, .cache = f->cache, .seq = r->seq};
        if (!run(g, &step, r, out, &stats->decode_seconds, e)) return false;
    }
    for (int64_t s = 0; s < b->samples; s++)
        stats->new_tokens += out[s].n + out[s].stopped;
    return true;
}

void generate_count_cache(struct generate_stats *stats, const struct batch *b,
                          const struct kv_cache *c)
{
    stats->prompt_tokens += b->tokens;
    for (int64_t s = 0; s < b->samples; s++)
        stats->cached_tokens += kv_cache_given(c, s);
    stats->cache_bytes += kv_cache_bytes(c);
}

static int64_t longest_sample(const struct batch *b)
{
    int64_t longest = 0;

    for (int64_t s = 0; s < b->samples; s++)
        if (b->begin[s + 1] - b->begin[s] > longest) longest = b->begin[s + 1] - b->begin[s];
    return longest;
}

bool model_continue(const struct generator *g, const struct forward *f, struct generation *out,
                    struct err *e)
{
    const struct batch *b = f->batch;
    struct generate_stats unused = {0};
    struct forward first = *f;
    struct running r;
    bool ok;

    CHECK(g->max_new > 0);
    memset(out, 0, (size_t)b->samples * sizeof *out);
    if (!running_new(&r, b->samples, g->m, e)) return false;
    first.seq = r.seq;
    ok = run_all(g, &first, &r, out, g->stats ? g->stats : &unused, e);
    running_free(&r);
    return ok;
}

bool model_generate(const struct generator *g, const struct forward *f, struct generation *out,
                    struct err *e)
{
    const struct batch *b = f->batch;
    struct kv_cache cache = {0};
    struct forward first = *f;
    bool ok;

    memset(out, 0, (size_t)b->samples * sizeof *out);
    first.cache = &cache;
    ok = kv_cache_new(&cache, g->m, g->cache, b->samples, longest_sample(b) + g->max_new, e) &&
         model_continue(g, &first, out, e);
    if (ok && g->stats) generate_count_cache(g->stats, b, &cache);
    kv_cache_free(&cache);
    if (!ok) generation_free(out, b->samples);
    return ok;
}

void generation_free(struct generation *g, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        free(g[i].ids);
    memset(g, 0, (size_t)n * sizeof *g);
}

static int64_t *in_order(struct tape *t, int64_t n)
{
    int64_t *seq = tape_new_array(t, int64_t, n);

    for (int64_t s = 0; s < n; s++)
        seq[s] = s;
    return seq;
}

bool model_prefill(const struct generator *g, const struct forward *f, struct err *e)
{
    const double begin = clock_seconds();

    if (!generate_logits(g, f, e)) return false;
    if (g->stats) g->stats->prefill_seconds += clock_seconds() - begin;
    return true;
}

bool model_score(const struct generator *g, const struct forward *f, struct token_score *each,
                 struct err *e)
{
    const struct batch *b = f->batch;
    double begin = clock_seconds();
    struct kv_cache cache = {0};
    struct forward all = *f;
    struct tensor *loss;
    bool ok = false;

    tape_begin(g->t, false);
    all.seq = in_order(g->t, b->samples);
    if (!f->cache && !kv_cache_new(&cache, g->m, g->cache, b->samples, longest_sample(b), e))
        return false;
    if (!f->cache) all.cache = &cache;
    loss = model_extend_scores(g->m, g->t, &all, each, e);
    ok = loss && generate_forward(g, all.cache, e);
    if (ok && isnan(tensor_real(loss)[0])) ok = generate_not_numbers(g->m, e);
    if (ok && g->stats) {
        if (!f->cache) generate_count_cache(g->stats, b, &cache);
        g->stats->prefill_seconds += clock_seconds() - begin;
    }
    kv_cache_free(&cache);
    return ok;
}
