/* prompts.c - see prompts.h. */
#include "train/score/prompts.h"
#include "base/mem.h"
#include "base/signals.h"

#include <stdlib.h>
#include <string.h>

/* Tokens from which a pass of its own pays where no picture is shared. */
enum { TEXT_FROM = 16 };

/* ---- what begins alike ---- */

static int64_t length_of(const struct prompts_in *in, int64_t i)
{
    return in->prompts ? in->samples[i].prompt : in->samples[i].n;
}

/* How many tokens may be computed beforehand: something must be left to
 * compute, with all labels. */
static int64_t most_shared(const struct prompts_in *in, int64_t i)
{
    const struct sample *s = &in->samples[i];
    int64_t n = s->prompt;

    for (int64_t k = 0; !in->prompts && k < s->n; k++)
        if (s->trained[k]) {
            n = k;
            break;
        }
    return n > 0 ? n - 1 : 0;
}

/* The tokens that two samples begin with, at most `most`, with whole pictures;
 * *pictures: so many. */
static int64_t common(const struct sample *a, const struct sample *b, int64_t most,
                      int64_t *pictures)
{
    int64_t n = 0;

    *pictures = 0;
    while (n < most && a->ids[n] == b->ids[n] && a->kind[n] == b->kind[n]) {
        const int64_t i = *pictures;
        if (a->kind[n] != TOKEN_PLACE) {
            n++;
            continue;
        }
        if (i >= b->images || a->image[i] != b->image[i] || n + a->shape[i].tokens > most) break;
        n += a->shape[i].tokens;
        ++*pictures;
    }
    return n;
}

/* Whether sample i joins the group of `first`, of `count` that share *keep tokens: not where less
 * would be saved with it than without. */
static bool joins(const struct prompts_in *in, int64_t first, int64_t i, int64_t count,
                  int64_t *keep)
{
    const struct sample *a = &in->samples[first], *b = &in->samples[i];
    int64_t most = most_shared(in, i), pictures, n;

    if (*keep < most) most = *keep;
    n = common(a, b, most, &pictures);
    if (!pictures && (a->images || b->images || n < TEXT_FROM)) return false;
    if (n * count < *keep * (count - 1)) return false;
    *keep = n;
    return true;
}

void prompts_share(const struct prompts_in *in, int64_t *skip)
{
    for (int64_t first = 0, end; first < in->n; first = end) {
        int64_t keep = most_shared(in, first);
        for (end = first + 1; end < in->n && joins(in, first, end, end - first, &keep);)
            end++;
        for (int64_t i = first; i < end; i++)
            skip[i] = end - first < 2 ? 0 : i == first ? -keep : keep;
    }
}

/* ---- the passes ---- */

/* Puts the batch's features in memory of their own, because scoring restarts the tape. A tower
 * being trained runs here. Shape: [feature rows of the batch, feature width]. */
static bool take_features(struct prompts *p, const struct scoring *s, struct err *e)
{
    struct run *r = s->r;
    struct tensor *features;

    free(p->features);
    p->features = NULL;
    p->f.features = NULL;
    tape_begin(r->tape, false);
    if (!run_pictures(r, s->m, &s->set->data, &p->batch, &features, e)) return false;
    if (!features) return true;
    if (features->maker) {
        tape_keep(features);
        if (!tape_plan(r->tape, r->memory_limit, e)) return false;
        if (!tape_forward(r->tape)) return signals_go_on(e);
    }
    p->features =
        mem_new((size_t)tensor_count(features), sizeof *p->features, "vision features", e);
    if (!p->features) return false;
    memcpy(p->features, features->data, (size_t)tensor_count(features) * sizeof *p->features);
    p->leaf = tensor_leaf(DT_F32, features->rows, features->cols, p->features);
    p->f.features = &p->leaf;
    return true;
}

/* The pictures among the first n tokens. */
static int64_t pictures_in(const struct sample *s, int64_t n)
{
    int64_t i = 0, tokens = 0;

    for (int64_t k = 0; k < n; k++)
        tokens += s->kind[k] == TOKEN_PLACE;
    while (i < s->images && tokens >= s->shape[i].tokens)
        tokens -= s->shape[i++].tokens;
    return i;
}

/* Computes the first n tokens of a sample in its sequence. */
static bool compute_head(struct prompts *p, const struct scoring *s, const struct sample *sample,
                         int64_t n, const int64_t *seq, struct err *e)
{
    const struct generator how = scoring_generator(s);
    struct sample head = *sample;

    head.prompt = n;
    head.images = pictures_in(sample, n);
    p->f.seq = seq;
    return batch_fill(&p->batch, &head, 1, true, e) && take_features(p, s, e) &&
           model_prefill(&how, &p->f, e);
}

/* The heads of all groups. */
static bool compute_heads(struct prompts *p, const struct scoring *s, const struct prompts_in *in,
                          int64_t *skip, struct err *e)
{
    int64_t first = 0;

    for (int64_t i = 0; i < in->n; i++) {
        if (skip[i] < 0) {
            first = i;
            skip[i] = -skip[i];
            if (!compute_head(p, s, &in->samples[i], skip[i], &p->seq[i], e)) return false;
        } else if (skip[i] > 0) {
            p->shared += skip[i];
            if (!kv_cache_fork(&p->cache, first, i, e)) return false;
        }
    }
    return true;
}

static bool open_cache(struct prompts *p, const struct scoring *s, const struct prompts_in *in,
                       struct err *e)
{
    int64_t longest = 0;

    for (int64_t i = 0; i < in->n; i++) {
        const int64_t n = length_of(in, i);
        p->seq[i] = i;
        p->tokens += n;
        if (n > longest) longest = n;
    }
    p->f = (struct forward){.batch = &p->batch.batch, .cache = &p->cache};
    return kv_cache_new(&p->cache, s->m, s->cache, in->n, longest + in->more, e);
}

/* Not where frequencies depend on a sequence's length: they are not those of its beginning. Nor
 * where a prompt sees itself before it is packed, newest rows wait to be, or tokens are taken out
 * by the attention that the whole prompt gives. */
static bool can_share(const struct scoring *s)
{
    const struct cache_kind *kind = s->cache ? &s->cache->kind : NULL;

    return s->m->cfg.text.rope_scaling.type != ROPE_DYNAMIC &&
           !(kind && (kind->exact || cache_kind_waits(kind) || kind->evict.rule));
}

bool prompts_open(struct prompts *p, const struct scoring *s, const struct prompts_in *in,
                  struct err *e)
{
    int64_t *skip = mem_new((size_t)in->n, sizeof *skip, "prompts", e);
    bool ok;

    memset(p, 0, sizeof *p);
    p->seq = mem_new((size_t)in->n, sizeof *p->seq, "prompts", e);
    ok = skip && p->seq && open_cache(p, s, in, e);
    if (ok && can_share(s)) prompts_share(in, skip);
    ok = ok && compute_heads(p, s, in, skip, e) &&
         batch_fill(&p->batch, in->samples, in->n, in->prompts, e);
    if (ok) {
        batch_skip(&p->batch, skip);
        p->f.seq = p->seq;
        ok = take_features(p, s, e);
    }
    free(skip);
    if (!ok) prompts_close(p, s, false);
    return ok;
}

void prompts_close(struct prompts *p, const struct scoring *s, bool count)
{
    if (count) {
        s->stats->prompt_tokens += p->tokens;
        s->stats->shared_tokens += p->shared;
        for (int64_t i = 0; i < p->cache.sequences; i++)
            s->stats->cached_tokens += kv_cache_given(&p->cache, i);
        s->stats->cache_bytes += kv_cache_bytes(&p->cache);
    }
    kv_cache_free(&p->cache);
    batch_free(&p->batch);
    free(p->features);
    free(p->seq);
    memset(p, 0, sizeof *p);
}
