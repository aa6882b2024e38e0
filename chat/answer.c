/* answer.c - see answer.h. The cache keeps, between the answers, the longest beginning of the prompt
 * that is the same as before: tokens are compared by tags, in which a picture's places also have the
 * picture's content. */
#include "chat/answer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "chat/stream.h"
#include "model/family/family.h"
#include "model/generate.h"
#include "train/decode.h"
#include "train/picture_group.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

const char *const finish_names[] = {"stop", "length", "interrupted"};

/* ---- what is cached already ---- */

/* Tags of the first n tokens of a sample, to[n], and for each how many of its picture's places lie
 * before it, inside[n]. */
static void fill_tags(const struct talk_prompt *p, int64_t n, uint64_t *to, int64_t *inside)
{
    const struct sample *s = &p->sample;
    int64_t picture = -1, left = 0;

    for (int64_t i = 0; i < n; i++) {
        to[i] = (uint64_t)(uint32_t)s->ids[i];
        inside[i] = 0;
        if (s->kind[i] != TOKEN_PLACE) continue;
        if (left == 0) left = s->shape[++picture].tokens;
        inside[i] = s->shape[picture].tokens - left--;
        to[i] = rng_at(hash_fnv(p->data.images[s->image[picture]].key, 64), (uint64_t)inside[i]) |
                (uint64_t)1 << 63; /* no token's */
    }
}

/* How many of the prompt's tokens stay cached; the cache and its tags are cut to these, and get the
 * tags of the whole prompt. At least one token is left, for its logits, and no picture is cut. */
static bool keep_cached(struct talker *t, const struct talk_prompt *p, int64_t *keep, struct err *e)
{
    const int64_t n = p->sample.prompt, held = t->cache.length ? t->cache.length[0] : 0;
    uint64_t *tags = mem_new((size_t)n, sizeof *tags, "the prompt", e);
    int64_t *inside = mem_new((size_t)n, sizeof *inside, "the prompt", e), k = 0;
    bool ok = tags && inside && mem_grow(&t->held, &t->cap_held, (size_t)n, sizeof *t->held, e);

    if (ok) {
        fill_tags(p, n, tags, inside);
        while (k < held && k < n - 1 && tags[k] == t->held[k])
            k++;
        k -= inside[k];
        if (t->cache.length) kv_cache_rewind(&t->cache, 0, k, 0);
        memcpy(t->held, tags, (size_t)n * sizeof *tags);
    }
    free(tags);
    free(inside);
    *keep = k;
    return ok;
}

static bool reserve(struct talker *t, int64_t tokens, struct err *e)
{
    int64_t more = 2 * t->cache.capacity;

    if (tokens <= t->cache.capacity) return true;
    if (more > t->o.max_length) more = t->o.max_length;
    if (more > tokens) tokens = more;
    return t->cache.length ? kv_cache_reserve(&t->cache, tokens, e)
                           : kv_cache_new(&t->cache, &t->m, &t->how_cached, 1, tokens, e);
}

/* ---- pictures ---- */

/* The tower's features of one picture, to[shape.rows, width]. */
static bool picture(struct talker *t, const struct dataset_image *img, float *to, int64_t width,
                    struct err *e)
{
    const struct picture_shape *s = &img->shape;
    const char *damage = NULL;
    const float *features = NULL;
    float *pixels =
        mem_new((size_t)(s->inputs * t->r.processor.input_width), sizeof *pixels, "a picture", e);

    if (pixels && decode_picture(&t->r, img, pixels, &damage, e))
        features = picture_features(t->r.tape, &t->m, s, pixels, t->r.memory_limit, e);
    if (features) memcpy(to, features, (size_t)(s->rows * width) * sizeof *to);
    if (damage) log_line("%s: is damaged: %s", img->path, damage);
    free(pixels);
    return features;
}

/* Of the batch's pictures, in *rows [sum of their rows, width], owned by the caller, as *leaf. */
static bool features(struct talker *t, const struct dataset *d, float **rows, struct tensor *leaf,
                     struct err *e)
{
    const struct batch *b = &t->batch.batch;
    int64_t n = 0, width, at = 0;

    *rows = NULL;
    if (b->images == 0) return true;
    width = t->m.cfg.family->feature_width(&t->m.cfg);
    for (int64_t i = 0; i < b->images; i++)
        n += b->shapes[i].rows;
    *rows = mem_new((size_t)(n * width), sizeof **rows, "vision features", e);
    if (!*rows) return false;
    for (int64_t i = 0; i < b->images; at += b->shapes[i++].rows)
        if (!picture(t, &d->images[t->batch.image[i]], *rows + at * width, width, e)) return false;
    *leaf = tensor_leaf(DT_F32, n, width, *rows);
    return true;
}

/* ---- the answer ---- */

struct making {
    struct talker *t;
    struct stream stream;
    double begin, first; /* clock_seconds: of the turn, of the first token */
    bool broken;         /* the stream failed, as *e says */
    struct err *e;
};

static int32_t pick(void *arg, int64_t seq, real *logits, int64_t n)
{
    struct making *m = arg;

    (void)seq;
    CHECK(n == m->t->choose.vocab);
    if (m->first == 0) m->first = clock_seconds();
    return choose_next(&m->t->choose, logits);
}

static bool took(void *arg, int64_t seq, const struct generation *g)
{
    struct making *m = arg;

    (void)seq;
    choose_saw(&m->t->choose, g->ids[g->n - 1]);
    m->broken = !stream_grow(&m->stream, g->ids, g->n, m->e);
    return !m->broken && !m->stream.stopped && !signals_came();
}

/* The tags of what was generated, as far as it is cached; what else the cache holds is cut off. */
static bool note_held(struct talker *t, int64_t prompt, int64_t keep, const struct generation *g,
                      struct err *e)
{
    int64_t held = g->n ? prompt + g->n - !g->stopped : g->stopped ? prompt : keep;

    if (!t->cache.length) return true;
    if (held > t->cache.length[0]) held = t->cache.length[0];
    if (!mem_grow(&t->held, &t->cap_held, (size_t)held, sizeof *t->held, e)) return false;
    for (int64_t i = prompt; i < held; i++)
        t->held[i] = (uint64_t)(uint32_t)g->ids[i - prompt];
    kv_cache_rewind(&t->cache, 0, held, t->cache.next[0]);
    return true;
}

static void measure(const struct making *m, const struct talk_prompt *p, const struct generation *g,
                    struct answer *a)
{
    const struct talker *t = m->t;
    const double end = clock_seconds();

    a->finish = g->stopped || m->stream.stopped ? FINISH_STOP
                : signals_came()                ? FINISH_INTERRUPTED
                                                : FINISH_LENGTH;
    a->prompt_tokens = p->sample.prompt;
    for (int64_t i = 0; i < p->sample.prompt; i++)
        a->image_tokens += p->sample.kind[i] == TOKEN_PLACE;
    a->new_tokens = g->n + g->stopped;
    a->prefill_seconds = (m->first > 0 ? m->first : end) - m->begin;
    a->decode_seconds = m->first > 0 ? end - m->first : 0;
    a->cached_tokens = t->cache.length ? t->cache.length[0] : 0;
    cache_kind_text(a->cache_format, &t->how_cached.kind);
    a->cache_bytes = t->cache.length ? kv_cache_bytes(&t->cache) : 0;
    a->original_bytes = (size_t)(a->cached_tokens * t->m.cfg.text.num_hidden_layers *
                                 model_cache_values_full(&t->m)) *
                        sizeof(real);
}

/* Runs the model; true with g as far as it came if a signal stopped it. */
static bool generate(struct making *m, const struct talk_prompt *p, struct generation *g,
                     struct answer *a, struct err *e)
{
    struct talker *t = m->t;
    const int64_t n = p->sample.prompt, left = t->o.max_length - n;
    const struct chooser chooser = {pick, took, m};
    struct generator how = {.m = &t->m,
                            .t = t->r.tape,
                            .memory_limit = t->r.memory_limit,
                            .max_new = t->how->max_new < left ? t->how->max_new : left,
                            .stop = t->r.stop,
                            .n_stop = t->r.n_stop,
                            .chooser = &chooser};
    struct tensor leaf;
    float *rows = NULL;
    bool ok;

    if (left < 1)
        return err_set(e, "%lld tokens leave no room for an answer, %s is %lld", (long long)n,
                       t->o.limited_by, (long long)t->o.max_length);
    choose_begin(&t->choose, p->sample.ids, n);
    ok = keep_cached(t, p, &a->kept_tokens, e) && reserve(t, n + how.max_new, e) &&
         batch_fill(&t->batch, &p->sample, 1, true, e);
    if (ok) batch_skip(&t->batch, a->kept_tokens);
    ok = ok && features(t, &p->data, &rows, &leaf, e);
    if (ok) {
        const struct forward f = {
            .batch = &t->batch.batch, .features = rows ? &leaf : NULL, .cache = &t->cache};
        ok = model_continue(&how, &f, g, e) && !m->broken;
    }
    free(rows);
    return note_held(t, n, a->kept_tokens, g, e) && (ok || (!m->broken && signals_came()));
}

bool answer_make(struct talker *t, FILE *out, struct answer *a, struct err *e)
{
    struct making m = {.t = t,
                       .stream = {.tokenizer = t->r.tokenizer,
                                  .stops = t->how->stops,
                                  .n_stops = t->how->n_stops,
                                  .out = out},
                       .begin = clock_seconds(),
                       .e = e};
    struct talk_prompt p;
    struct generation g = {0};
    bool ok;

    memset(a, 0, sizeof *a);
    if (!talk_prompt(&t->talk, &t->o, &p, e)) return false;
    ok = generate(&m, &p, &g, a, e) && stream_end(&m.stream, e) &&
         talk_answer(&t->talk, m.stream.text, e);
    if (ok) {
        measure(&m, &p, &g, a);
        a->text = m.stream.text;
        m.stream.text = NULL;
    }
    stream_free(&m.stream);
    generation_free(&g, 1);
    talk_prompt_free(&p);
    return ok;
}

void answer_free(struct answer *a)
{
    free(a->text);
    memset(a, 0, sizeof *a);
}

double answer_speed(const struct answer *a)
{
    return a->new_tokens > 1 && a->decode_seconds > 0
               ? (double)(a->new_tokens - 1) / a->decode_seconds
               : 0;
}
