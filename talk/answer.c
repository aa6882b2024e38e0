/* answer.c - see answer.h. The cache keeps, between the answers, the longest beginning of the
 * prompt that is the same as before: tokens are compared by tags, in which a picture's places also
 * have the picture's content.
 *
 * Where a talker has several seats, an answer is to have the same bits whatever else is asked,
 * before it or meanwhile. So a prompt is computed in parts, which end at places that follow from
 * the tokens before them alone, each part by itself; and what is kept are
 * whole parts of prompts. */
#include "talk/answer.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/units.h"
#include "model/family/family.h"
#include "train/decode.h"
#include "train/forecast/room.h"
#include "train/picture_group.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

const char *const finish_names[] = {"stop", "length", "interrupted"};

/* ---- what is cached already ---- */

/* Tags of the prompt's tokens, to[n], and for each how many of its picture's places lie before it,
 * inside[n]. */
static void fill_tags(const struct talk_prompt *p, uint64_t *to, int64_t *inside)
{
    const struct sample *s = &p->sample;
    int64_t picture = -1, left = 0;

    for (int64_t i = 0; i < s->prompt; i++) {
        to[i] = (uint64_t)(uint32_t)s->ids[i];
        inside[i] = 0;
        if (s->kind[i] != TOKEN_PLACE) continue;
        if (left == 0) left = s->shape[++picture].tokens;
        inside[i] = s->shape[picture].tokens - left--;
        to[i] = rng_at(hash_fnv(p->data.images[s->image[picture]].key, 64), (uint64_t)inside[i]) |
                (uint64_t)1 << 63; /* no token's */
    }
}

/* Where the part of a prompt of n tokens ends that begins at `at`: no picture is cut. */
static int64_t part_end(const struct talker *t, const int64_t *inside, int64_t n, int64_t at)
{
    int64_t end = t->how->part ? at + t->how->part : n;

    while (end < n && inside[end] > 0)
        end++;
    return end < n ? end : n;
}

/* How many of the first `most` tokens are whole parts: all, where there are none. */
static int64_t whole_parts(const struct talker *t, const int64_t *inside, int64_t n, int64_t most)
{
    int64_t at = 0, end;

    if (!t->how->part) return most;
    while (at < most && (end = part_end(t, inside, n, at)) <= most && end - at >= t->how->part)
        at = end;
    return at;
}

/* How many of the n tokens stay cached in a sequence. At least one is left, for its logits, and no
 * picture is cut. */
static int64_t in_common(const struct talker *t, int64_t seq, const uint64_t *tags,
                         const int64_t *inside, int64_t n)
{
    const int64_t held = t->cache.length ? t->cache.length[seq] : 0;
    int64_t k = 0;

    while (k < held && k < n - 1 && tags[k] == t->held[seq].tags[k])
        k++;
    return whole_parts(t, inside, n, k - inside[k]);
}

bool making_common(const struct talker *t, int64_t seq, const struct talk_prompt *p, int64_t *n,
                   struct err *e)
{
    const size_t count = (size_t)p->sample.prompt;
    uint64_t *tags = mem_new(count, sizeof *tags, "the prompt", e);
    int64_t *inside = mem_new(count, sizeof *inside, "the prompt", e);

    if (tags && inside) {
        fill_tags(p, tags, inside);
        *n = in_common(t, seq, tags, inside, p->sample.prompt);
    }
    free(tags);
    free(inside);
    return tags && inside;
}

/* Cuts the cache to what the prompt has in common with it. */
static bool keep_cached(struct making *m, struct err *e)
{
    struct talker *t = m->t;
    const struct talk_prompt *p = m->q->prompt;
    const size_t n = (size_t)p->sample.prompt;
    struct held *held = &t->held[m->seq];

    m->tags = mem_new(n, sizeof *m->tags, "the prompt", e);
    m->inside = mem_new(n, sizeof *m->inside, "the prompt", e);
    if (!m->tags || !m->inside || !mem_grow(&held->tags, &held->cap, n, sizeof *held->tags, e))
        return false;
    fill_tags(p, m->tags, m->inside);
    m->kept = m->at = in_common(t, m->seq, m->tags, m->inside, p->sample.prompt);
    if (t->cache.length) kv_cache_rewind(&t->cache, m->seq, m->kept, 0);
    memcpy(held->tags, m->tags, n * sizeof *held->tags);
    return true;
}

/* What makes room, for messages. */
static const char *room_options(const struct talker *t)
{
    return t->how->seats ? "lower max_tokens (--max-tokens) or --parallel, or raise --memory-limit"
                         : "lower -n, or raise --memory-limit";
}

/* Whether the memory limit leaves room for a cache of so many tokens a sequence. */
static bool fits_in(const struct talker *t, int64_t tokens, struct err *e)
{
    const double bytes =
        (double)(t->seats * tokens) * (double)cache_kind_bytes(&t->how_cached.kind, &t->m);
    const double left = (double)room_left(&t->r, room_held(), 0);
    char text[2][UNIT_TEXT];

    return bytes <= left ||
           err_set(e,
                   "out of memory: a KV cache of %lld x %lld tokens takes %s, --memory-limit or "
                   "the machine leaves %s: %s",
                   (long long)t->seats, (long long)tokens, unit_bytes(text[0], bytes),
                   unit_bytes(text[1], left), room_options(t));
}

static bool reserve(struct talker *t, int64_t tokens, struct err *e)
{
    int64_t more = 2 * t->cache.capacity;
    struct err unused;

    if (tokens <= t->cache.capacity) return true;
    if (more > t->o.max_length) more = t->o.max_length;
    if (more > tokens && fits_in(t, more, &unused)) tokens = more;
    if (!fits_in(t, tokens, e)) return false;
    return t->cache.length ? kv_cache_reserve(&t->cache, tokens, e)
                           : kv_cache_new(&t->cache, &t->m, &t->how_cached, t->seats, tokens, e);
}

bool answer_fits(const struct talker *t, struct err *e)
{
    const int64_t most = t->how->part + t->how->max_new;

    return fits_in(t, most < t->o.max_length ? most : t->o.max_length, e);
}

/* ---- pictures ---- */

void pixels_read(struct pixels *p, const struct run *r, const struct dataset_image *img)
{
    const int64_t n = img->shape.inputs * r->processor.input_width;

    *p = (struct pixels){.values = NULL};
    p->values = mem_new((size_t)n, sizeof *p->values, "a picture", &p->why);
    p->ok = p->values && decode_picture(r, img, p->values, &p->damage, &p->why);
}

void pixels_free(struct pixels *p)
{
    free(p->values);
    memset(p, 0, sizeof *p);
}

/* How many pictures the first n tokens have. */
static int64_t pictures_in(const struct sample *s, int64_t n)
{
    int64_t places = 0, images = 0;

    for (int64_t i = 0; i < n; i++)
        places += s->kind[i] == TOKEN_PLACE;
    while (places > 0)
        places -= s->shape[images++].tokens;
    return images;
}

const struct dataset_image *making_wants(const struct making *m)
{
    const struct talk_prompt *p = m->q->prompt;
    const struct sample *s = &p->sample;
    const int64_t end = part_end(m->t, m->inside, s->prompt, m->at);
    const int64_t next = pictures_in(s, m->at) + m->seen;

    return next < pictures_in(s, end) ? &p->data.images[s->image[next]] : NULL;
}

bool making_see(struct making *m, const struct pixels *p, struct err *e)
{
    const struct dataset_image *img = making_wants(m);
    const struct picture_shape *s = &img->shape;
    struct talker *t = m->t;
    const int64_t width = t->m.cfg.family->feature_width(&t->m.cfg);
    const float *features;

    if (!p->ok) {
        m->refused = p->why.machine ? NULL : img;
        *e = p->why;
        return false;
    }
    if (p->damage) log_line("%s: is damaged: %s", img->path, p->damage);
    if (!mem_grow(&m->rows, &m->cap_rows, (size_t)((m->n_rows + s->rows) * width), sizeof *m->rows,
                  e))
        return false;
    features = picture_features(t->r.tape, &t->m, s, p->values, t->r.memory_limit, e);
    if (!features) return false;
    memcpy(m->rows + m->n_rows * width, features, (size_t)(s->rows * width) * sizeof *m->rows);
    m->n_rows += s->rows;
    m->seen++;
    return true;
}

/* Has all pictures of the next part seen, *leaf [n_rows, width]. */
static bool see_rest(struct making *m, struct tensor *leaf, struct err *e)
{
    const struct hf_config *cfg = &m->t->m.cfg;
    const struct dataset_image *img;
    bool ok = true;

    while (ok && (img = making_wants(m))) {
        struct pixels p;
        pixels_read(&p, &m->t->r, img);
        ok = making_see(m, &p, e);
        pixels_free(&p);
    }
    if (ok && m->seen)
        *leaf = tensor_leaf(DT_F32, m->n_rows, cfg->family->feature_width(cfg), m->rows);
    return ok;
}

static void forget_seen(struct making *m)
{
    free(m->rows);
    m->rows = NULL;
    m->cap_rows = 0;
    m->n_rows = m->seen = 0;
}

/* ---- the answer ---- */

static int32_t pick(void *arg, int64_t seq, real *logits, int64_t n)
{
    struct making *m = arg;

    (void)seq;
    CHECK(n == m->q->choose->vocab);
    if (m->first == 0) m->first = clock_seconds();
    return choose_next(m->q->choose, logits);
}

bool making_goes_on(struct making *m)
{
    m->interrupted |= signals_came() || (m->q->go_on && !m->q->go_on(m->q->arg));
    return !m->interrupted;
}

static bool goes_on(void *arg)
{
    return making_goes_on(arg);
}

static bool took(void *arg, int64_t seq, const struct generation *g)
{
    struct making *m = arg;

    (void)seq;
    choose_saw(m->q->choose, g->ids[g->n - 1]);
    m->broken = !stream_grow(&m->stream, g->ids, g->n, m->e);
    return !m->broken && !m->stream.stopped && making_goes_on(m);
}

bool making_begin(struct making *m, struct talker *t, int64_t seq, const struct asking *q,
                  struct err *e)
{
    const int64_t n = q->prompt->sample.prompt, left = t->o.max_length - n;
    const int64_t most = q->max_new < left ? q->max_new : left;

    *m = (struct making){.q = q,
                         .t = t,
                         .seq = seq,
                         .stream = {.tokenizer = t->r.tokenizer,
                                    .stops = q->stops,
                                    .n_stops = q->n_stops,
                                    .out = q->out},
                         .chooser = {pick, took, m},
                         .begin = clock_seconds()};
    m->how = (struct generator){.m = &t->m,
                                .t = t->r.tape,
                                .memory_limit = t->r.memory_limit,
                                .max_new = most,
                                .stop = t->r.stop,
                                .n_stop = t->r.n_stop,
                                .chooser = &m->chooser};
    if (left < 1)
        return err_set(e, "%lld tokens leave no room for an answer, %s is %lld", (long long)n,
                       t->o.limited_by, (long long)t->o.max_length);
    choose_begin(q->choose, q->prompt->sample.ids, n);
    m->g.ids = mem_new((size_t)most, sizeof *m->g.ids, "generated tokens", e);
    return m->g.ids && keep_cached(m, e) && reserve(t, n + most, e);
}

/* The prompt's tokens from m->at to `end` as the talker's batch. */
static bool fill_part(struct making *m, int64_t end, struct err *e)
{
    const struct sample *s = &m->q->prompt->sample;
    struct sample part = *s; /* its beginning, up to `end` */

    part.prompt = end;
    part.images = pictures_in(s, end);
    if (!batch_fill(&m->t->batch, &part, 1, true, e)) return false;
    batch_skip(&m->t->batch, &m->at);
    return true;
}

/* Appends the part to the cache; the logits of its last token. */
static struct tensor *append(struct making *m, struct err *e)
{
    struct talker *t = m->t;
    struct tensor leaf, *logits = NULL;

    if (see_rest(m, &leaf, e)) {
        const struct forward f = {.batch = &t->batch.batch,
                                  .features = m->seen ? &leaf : NULL,
                                  .cache = &t->cache,
                                  .seq = &m->seq};
        tape_ask(t->r.tape, goes_on, m);
        logits = generate_logits(&m->how, &f, e);
        tape_ask(t->r.tape, NULL, NULL);
    }
    forget_seen(m);
    return logits;
}

bool making_prompt(struct making *m, struct err *e)
{
    const int64_t n = m->q->prompt->sample.prompt, end = part_end(m->t, m->inside, n, m->at);
    struct tensor *logits = fill_part(m, end, e) ? append(m, e) : NULL;

    m->e = e;
    if (!logits || !making_goes_on(m)) {
        m->g.ended = true;
        return making_goes_on(m) ? false : true;
    }
    m->at = end;
    if (end < n) return true;
    return generate_take(&m->how, m->seq, tensor_real(logits), logits->cols, &m->g, e) &&
           !m->broken;
}

bool making_step(struct talker *t, struct making *const *m, int64_t n, struct err *e)
{
    struct running *r = &t->running;
    struct tensor *logits;
    bool ok = true;

    r->n = 0;
    for (int64_t i = 0; i < n; i++) {
        m[i]->e = e;
        running_add(r, m[i]->seq, m[i]->g.ids[m[i]->g.n - 1], t->cache.next[m[i]->seq]);
    }
    const struct batch batch = running_batch(r);
    const struct forward f = {.batch = &batch, .cache = &t->cache, .seq = r->seq};
    logits = generate_logits(&m[0]->how, &f, e);
    for (int64_t i = 0; i < n && !logits; i++)
        m[i]->interrupted = signals_came(), m[i]->g.ended = true;
    if (!logits) return signals_came();
    for (int64_t i = 0; ok && i < n; i++)
        ok = generate_take(&m[i]->how, m[i]->seq, tensor_real(logits) + i * logits->cols,
                           logits->cols, &m[i]->g, e) &&
             !m[i]->broken;
    return ok;
}

/* The tags of what was generated, as far as it is cached; what else the cache holds is cut off. */
static bool note_held(struct making *m, struct err *e)
{
    struct talker *t = m->t;
    struct held *held = &t->held[m->seq];
    const struct generation *g = &m->g;
    const int64_t prompt = m->q->prompt->sample.prompt;
    int64_t n = m->at < prompt ? m->at : g->n ? prompt + g->n - !g->stopped : prompt;

    if (!t->cache.length) return true;
    if (n > t->cache.length[m->seq]) n = t->cache.length[m->seq];
    if (t->how->part) n = whole_parts(t, m->inside, prompt, n < prompt ? n : prompt);
    if (!mem_grow(&held->tags, &held->cap, (size_t)n, sizeof *held->tags, e)) return false;
    for (int64_t i = prompt; i < n; i++)
        held->tags[i] = (uint64_t)(uint32_t)g->ids[i - prompt];
    kv_cache_rewind(&t->cache, m->seq, n, t->cache.next[m->seq]);
    return true;
}

static void measure(const struct making *m, struct answer *a)
{
    const struct talker *t = m->t;
    const struct sample *s = &m->q->prompt->sample;
    const struct generation *g = &m->g;
    const double end = clock_seconds();

    a->finish = g->stopped || m->stream.stopped ? FINISH_STOP
                : m->interrupted                ? FINISH_INTERRUPTED
                                                : FINISH_LENGTH;
    cache_kind_text(a->cache_format, &t->how_cached.kind);
    a->prompt_tokens = s->prompt;
    for (int64_t i = 0; i < s->prompt; i++)
        a->image_tokens += s->kind[i] == TOKEN_PLACE;
    a->kept_tokens = m->kept;
    a->new_tokens = g->n + g->stopped;
    a->prefill_seconds = (m->first > 0 ? m->first : end) - m->begin;
    a->decode_seconds = m->first > 0 ? end - m->first : 0;
    a->cached_tokens = t->cache.length ? t->cache.length[m->seq] : 0;
    a->cache_bytes = t->cache.length ? kv_cache_sequence_bytes(&t->cache, m->seq) : 0;
    a->original_bytes = (size_t)(a->cached_tokens * t->m.cfg.text.num_hidden_layers *
                                 model_cache_values_full(&t->m)) *
                        sizeof(real);
}

bool making_end(struct making *m, struct answer *a, struct err *e)
{
    memset(a, 0, sizeof *a);
    if (!stream_end(&m->stream, e)) return false;
    measure(m, a);
    a->text = m->stream.text;
    m->stream.text = NULL;
    return true;
}

void making_free(struct making *m)
{
    struct err unused;

    /* what cannot be noted is not kept */
    if (m->t && m->inside && !note_held(m, &unused)) kv_cache_rewind(&m->t->cache, m->seq, 0, 0);
    stream_free(&m->stream);
    generation_free(&m->g, 1);
    forget_seen(m);
    free(m->tags);
    free(m->inside);
    memset(m, 0, sizeof *m);
}

bool answer_make(struct talker *t, FILE *out, struct answer *a, struct err *e)
{
    struct talk_prompt p;
    const struct asking q = {.prompt = &p,
                             .choose = &t->choose,
                             .max_new = t->how->max_new,
                             .stops = t->how->stops,
                             .n_stops = t->how->n_stops,
                             .out = out};
    struct making m = {0};
    struct making *const one[] = {&m};
    bool ok;

    memset(a, 0, sizeof *a);
    if (!talk_prompt(&t->talk, &t->o, &p, e)) return false;
    ok = making_begin(&m, t, 0, &q, e);
    while (ok && m.at < p.sample.prompt && !m.g.ended)
        ok = making_prompt(&m, e);
    while (ok && !m.g.ended)
        ok = making_step(t, one, 1, e);
    ok = ok && making_end(&m, a, e);
    if (ok && !talk_answer(&t->talk, a->text, e)) {
        answer_free(a);
        ok = false;
    }
    making_free(&m);
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
