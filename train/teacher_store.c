/* teacher_store.c - see teacher_store.h. */
#include "train/teacher_store.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"
#include "cluster/cluster.h"
#include "train/models.h"
#include "train/trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names ---- */

static void add_number(struct sha256 *sum, int64_t x)
{
    char text[32];

    snprintf(text, sizeof text, " %lld", (long long)x);
    sha256_add(sum, text, strlen(text));
}

static void key_of(const struct dataset *d, const struct sample *s, char key[65])
{
    struct sha256 sum;

    sha256_init(&sum);
    for (int64_t i = 0; i < s->n; i++)
        add_number(&sum, 2 * (int64_t)s->ids[i] + s->trained[i]);
    for (int64_t i = 0; i < s->images; i++)
        sha256_add(&sum, d->images[s->image[i]].key, 64);
    sha256_hex(&sum, key);
}

struct name {
    char about[4096], dir[4096];
};

/* The first process's, for all: it reads the teacher's files. */
static bool name_store(const struct teacher *t, const struct run *r, const struct config_phase *p,
                       struct name *name, struct err *e)
{
    char *sums = cluster_first() ? model_sums(&t->m, e) : NULL, hash[65];
    struct sha256 sum;
    bool ok;
    int n;

    if (sums)
        snprintf(name->about, sizeof name->about,
                 "teacher of settings and weights %s, data %s, %lld samples, %s, %lld tokens "
                 "at temperature %.17g, compute %d",
                 sums, r->train.hash, (long long)r->train.n,
                 r->pictures.open ? r->pictures.store.about : "no pictures", (long long)t->said.k,
                 p->temperature, r->c.run.compute);
    ok = cluster_agree(!cluster_first() || sums, e);
    free(sums);
    if (!ok || !cluster_broadcast(name->about, sizeof name->about, 0, e)) return false;
    sha256_init(&sum);
    sha256_add(&sum, name->about, strlen(name->about));
    sha256_hex(&sum, hash);
    n = snprintf(name->dir, sizeof name->dir, "%s/teacher-%.16s", r->c.data.cache, hash);
    return (n > 0 && (size_t)n < sizeof name->dir) || err_set(e, "data.cache: too long a path");
}

/* ---- filling ---- */

struct filling {
    struct run *r;
    struct teacher *t;
    struct store store;
    uint8_t *drawn; /* [samples of the data] */
    struct batch_buffer batch;
    int64_t made, labels;
};

static int64_t labels_of(const struct sample *s)
{
    int64_t n = 0;

    for (int64_t i = 1; i < s->n; i++)
        n += s->trained[i];
    return n;
}

static void note_drawn(void *arg, int64_t entry)
{
    struct filling *f = arg;

    f->drawn[entry] = 1;
}

/* The entry of a sample of n labels: *at, -1: there is none; and whether it is as it was stored.
 * Reading them all here costs little beside the training, which would end at a damaged one. */
static bool look_stored(struct filling *f, const char *key, int64_t n, int64_t *at, bool *whole,
                        struct err *e)
{
    const int64_t values = n * (2 * f->t->said.k + 1);
    struct err why;

    *whole = false;
    *at = store_find(&f->store, key);
    if (*at < 0) return true;
    if (!mem_grow(&f->t->row, &f->t->cap_row, (size_t)values, sizeof *f->t->row, e)) return false;
    *whole = store_get(&f->store, *at, f->t->row, values, &why);
    if (!*whole && why.machine) return (*e = why, false);
    if (!*whole) log_line("cache: %s: the teacher is asked again", why.msg);
    return true;
}

/* The sample's entry, of what was said of it; at: the damaged one in its place, -1: it is new. */
static bool put_sample(struct filling *f, const char *key, int64_t at, struct err *e)
{
    const struct top_logits *said = &f->t->said;
    const int64_t k = said->k, n = f->batch.batch.labels;
    float *to;

    if (!mem_grow(&f->t->row, &f->t->cap_row, (size_t)(n * (2 * k + 1)), sizeof *to, e))
        return false;
    to = f->t->row;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < k; j++)
            *to++ = (float)said->ids[i * k + j];
        memcpy(to, said->logits + i * k, (size_t)k * sizeof *to);
        to += k;
        *to++ = said->rest[i];
    }
    f->made++;
    f->labels += n;
    return at < 0 ? store_put(&f->store, key, f->t->row, n * (2 * k + 1), e)
                  : store_mend(&f->store, at, f->t->row, n * (2 * k + 1), e);
}

static bool fill_sample(struct filling *f, int64_t entry, struct err *e)
{
    struct run *r = f->r;
    struct sample s = {0};
    char key[65];
    int64_t at = -1;
    bool whole = false, ok = dataset_sample(&r->train, entry, &s, e);

    if (ok) key_of(&r->train, &s, key);
    ok = ok && look_stored(f, key, labels_of(&s), &at, &whole, e);
    if (ok && !whole)
        ok = batch_fill(&f->batch, &s, 1, false, e) &&
             (f->batch.batch.labels == 0 ||
              (teacher_graph(f->t, r, &r->train, &f->batch, e) &&
               tape_plan(r->tape, r->memory_limit, e) &&
               (tape_forward(r->tape) || signals_go_on(e)) && put_sample(f, key, at, e)));
    sample_free(&s);
    return ok;
}

static bool fill(struct filling *f, const struct config_phase *p, int phase, struct err *e)
{
    const struct dataset *d = &f->r->train;
    bool ok = train_each(f->r, phase, note_drawn, f, e);

    for (int64_t i = 0; ok && i < d->n; i++) {
        if (!f->drawn[i]) continue;
        if (i % 256 == 255)
            log_progress("teacher: sample %lld of %lld", (long long)i, (long long)d->n);
        ok = signals_go_on(e) && fill_sample(f, i, e);
    }
    if (ok && f->made)
        log_line("teacher: asked about %lld sample%s, %lld label%s, at temperature %g: %s",
                 (long long)f->made, plural(f->made), (long long)f->labels, plural(f->labels),
                 p->temperature, f->store.dir);
    return ok;
}

static bool fill_store(struct teacher *t, struct run *r, const struct config_phase *p, int phase,
                       const struct name *name, struct err *e)
{
    struct filling f = {.r = r, .t = t, .store = {.lock = -1}};
    struct err more;
    bool ok = (f.drawn = mem_new((size_t)r->train.n, 1, "the samples drawn", e)) &&
              store_open(&f.store, name->dir, name->about, true, e);

    if (ok) {
        ok = fill(&f, p, phase, e);
        ok = store_close(&f.store, ok ? e : &more) && ok;
    }
    free(f.drawn);
    batch_free(&f.batch);
    return ok;
}

bool teacher_store_open(struct teacher *t, struct run *r, const struct config_phase *p, int phase,
                        struct err *e)
{
    struct name name = {0};
    bool ok = name_store(t, r, p, &name, e);

    ok = ok && (!cluster_first() || fill_store(t, r, p, phase, &name, e));
    model_close(&t->m);
    ok = cluster_agree(ok, e);
    t->stored = ok && store_open(&t->store, name.dir, name.about, false, e);
    return t->stored;
}

/* ---- reading ---- */

static bool read_sample(struct teacher *t, const struct dataset *d, const struct sample *s,
                        int64_t at, struct err *e)
{
    const int64_t k = t->said.k, n = labels_of(s), values = n * (2 * k + 1);
    const float *from;
    char key[65];
    int64_t index;

    key_of(d, s, key);
    index = n ? store_find(&t->store, key) : -1;
    if (n == 0) return true;
    if (index < 0)
        return err_set(e, "%s: lacks what the teacher says of sample %.*s: --resume asks it again",
                       t->store.dir, (int)s->id.n, s->id.s);
    if (!mem_grow(&t->row, &t->cap_row, (size_t)values, sizeof *t->row, e)) return false;
    if (!store_get(&t->store, index, t->row, values, e))
        return err_context(e, "what the teacher says is damaged: --resume asks it again");
    from = t->row;
    for (int64_t i = at; i < at + n; i++) {
        for (int64_t j = 0; j < k; j++)
            t->said.ids[i * k + j] = (int32_t)*from++;
        memcpy(t->said.logits + i * k, from, (size_t)k * sizeof *from);
        from += k;
        t->said.rest[i] = *from++;
    }
    return true;
}

bool teacher_store_read(struct teacher *t, const struct dataset *d, const struct sample *samples,
                        int64_t n, struct err *e)
{
    int64_t labels = 0, at = 0;
    bool ok;

    for (int64_t i = 0; i < n; i++)
        labels += labels_of(&samples[i]);
    ok = teacher_reserve(t, labels, e);
    for (int64_t i = 0; ok && i < n; at += labels_of(&samples[i++]))
        ok = read_sample(t, d, &samples[i], at, e);
    return ok;
}

double teacher_store_bytes(int64_t labels, int64_t V)
{
    return teacher_bytes(labels, V);
}

double teacher_store_pending(int64_t labels, int64_t V)
{
    const double all = teacher_store_bytes(labels, V);

    return all < STORE_PART_BYTES ? all : STORE_PART_BYTES;
}
