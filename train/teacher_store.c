/* teacher_store.c - see teacher_store.h. */
#include "train/teacher_store.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/signals.h"
#include "cluster/cluster.h"
#include "train/ahead.h"
#include "train/cache_rights.h"
#include "train/models.h"
#include "train/recipes.h"
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

/* sums: of the teacher's files; pictures: what their store is about. */
static void tell_about(struct name *name, const struct run *r, const struct config_phase *p,
                       int64_t tokens, const char *sums, const char *pictures)
{
    snprintf(name->about, sizeof name->about,
             "teacher of settings and weights %s, data %s, %lld samples, %s, %lld tokens "
             "at temperature %.17g, compute %d",
             sums, r->train.hash, (long long)r->train.n, pictures, (long long)tokens,
             p->temperature, r->c.run.compute);
}

static bool place_store(struct name *name, const struct run *r, struct err *e)
{
    struct sha256 sum;
    char hash[65];
    int n;

    sha256_init(&sum);
    sha256_add(&sum, name->about, strlen(name->about));
    sha256_hex(&sum, hash);
    n = snprintf(name->dir, sizeof name->dir, "%s/teacher-%.16s", r->c.data.cache, hash);
    return (n > 0 && (size_t)n < sizeof name->dir) || err_set(e, "data.cache: too long a path");
}

static const char no_pictures[] = "no pictures";

/* The first process's, for all: it reads the teacher's files. */
static bool name_store(const struct teacher *t, const struct run *r, const struct config_phase *p,
                       struct name *name, struct err *e)
{
    char *sums = cluster_first() ? model_sums(&t->m, e) : NULL;
    bool ok;

    if (sums)
        tell_about(name, r, p, t->said.k, sums,
                   r->pictures.open ? r->pictures.store.about : no_pictures);
    ok = cluster_agree(!cluster_first() || sums, e);
    free(sums);
    return ok && cluster_broadcast(name->about, sizeof name->about, 0, e) &&
           place_store(name, r, e);
}

/* ---- filling ---- */

struct filling {
    struct run *r;
    struct teacher *t;
    struct store store;
    uint8_t *drawn;  /* [samples of the data] */
    int64_t samples; /* that are drawn */
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

    f->samples += !f->drawn[entry];
    f->drawn[entry] = 1;
}

struct entry {
    char key[65];
    int64_t at;     /* -1: there is none */
    bool whole;     /* as it was stored, or of a sample of which nothing is said */
    struct err why; /* it is not */
};

/* The entry of a sample. Reading them all here costs little beside the training, which would end at
 * a damaged one. */
static bool look_stored(struct filling *f, const struct sample *s, struct entry *x, struct err *e)
{
    const int64_t n = labels_of(s), values = n * (2 * f->t->said.k + 1);

    *x = (struct entry){.at = -1, .whole = n == 0};
    if (n == 0) return true;
    key_of(&f->r->train, s, x->key);
    x->at = store_find(&f->store, x->key);
    if (x->at < 0) return true;
    if (!mem_grow(&f->t->row, &f->t->cap_row, (size_t)values, sizeof *f->t->row, e)) return false;
    x->whole = store_get(&f->store, x->at, f->t->row, values, &x->why);
    if (!x->whole && x->why.machine) return (*e = x->why, false);
    return true;
}

/* The entry, new or in the place of the damaged one, of what was said of its sample. */
static bool put_sample(struct filling *f, const struct entry *x, struct err *e)
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
    return x->at < 0 ? store_put(&f->store, x->key, f->t->row, n * (2 * k + 1), e)
                     : store_mend(&f->store, x->at, f->t->row, n * (2 * k + 1), e);
}

static bool ask(struct filling *f, const struct sample *s, const struct entry *x, struct err *e)
{
    struct run *r = f->r;

    if (x->at >= 0) log_line("cache: %s: the teacher is asked again", x->why.msg);
    return batch_fill(&f->batch, s, 1, false, e) &&
           teacher_graph(f->t, r, &r->train, &f->batch, e) &&
           tape_plan(r->tape, r->memory_limit, e) && (tape_forward(r->tape) || signals_go_on(e)) &&
           put_sample(f, x, e);
}

static bool fill_sample(struct filling *f, int64_t entry, struct err *e)
{
    struct sample s = {0};
    struct entry x;
    bool ok = dataset_sample(&f->r->train, entry, &s, e) && look_stored(f, &s, &x, e) &&
              (x.whole || ask(f, &s, &x, e));

    sample_free(&s);
    return ok;
}

static bool fill(struct filling *f, const struct config_phase *p, struct err *e)
{
    int64_t done = 0;
    bool ok = true;

    for (int64_t i = 0; ok && i < f->r->train.n; i++) {
        if (!f->drawn[i]) continue;
        if (++done % 256 == 0)
            log_progress("teacher: sample %lld of %lld", (long long)done, (long long)f->samples);
        ok = signals_go_on(e) && fill_sample(f, i, e);
    }
    if (ok && f->made)
        log_line("teacher: asked about %lld sample%s, %lld label%s, at temperature %g: %s",
                 (long long)f->made, plural(f->made), (long long)f->labels, plural(f->labels),
                 p->temperature, f->store.dir);
    return ok;
}

/* Fails if something is missing in a store in which nothing can be written. */
static bool check_full(struct filling *f, int phase, const struct err *why, struct err *e)
{
    const struct dataset *d = &f->r->train;
    char first[200] = "";
    int64_t n = 0;
    bool ok = true;

    for (int64_t i = 0; ok && i < d->n; i++) {
        struct sample s = {0};
        struct entry x;
        if (!f->drawn[i]) continue;
        ok = signals_go_on(e) && dataset_sample(d, i, &s, e) && look_stored(f, &s, &x, e);
        if (ok && !x.whole && n++ == 0) snprintf(first, sizeof first, "%.*s", (int)s.id.n, s.id.s);
        sample_free(&s);
    }
    if (!ok || n == 0) return ok;
    return cache_refuse(e, why,
                        "what the teacher says of %lld sample%s, the first of them %s, is missing "
                        "or damaged: choose another directory, make this one writable, or set "
                        "%s.teacher to \"fly\"",
                        (long long)n, plural(n), first, step_names[phase_steps[phase]]);
}

/* Fills the store with what the phase of that index will draw. Where nothing can be written, all
 * of it must be there. look: nothing else is done. */
static bool fill_store(struct teacher *t, struct run *r, const struct config_phase *p, int phase,
                       const struct name *name, bool look, struct err *e)
{
    struct filling f = {.r = r, .t = t, .store = {.lock = -1}};
    struct err why, more;
    bool can, ok = cache_rights_store(name->dir, &can, &why, e);

    if (!ok || (can && look)) return ok;
    ok = (f.drawn = mem_new((size_t)r->train.n, 1, "the samples drawn", e)) &&
         train_each(r, phase, note_drawn, &f, e) &&
         (can ? store_open(&f.store, name->dir, name->about, true, e)
              : cache_open_read(&f.store, name->dir, name->about, e));
    if (ok) {
        ok = can ? fill(&f, p, e) : check_full(&f, phase, &why, e);
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

    ok = ok && (!cluster_first() || fill_store(t, r, p, phase, &name, false, e));
    model_close(&t->m);
    ok = cluster_agree(ok, e);
    t->stored = ok && store_open(&t->store, name.dir, name.about, false, e);
    return t->stored;
}

/* ---- looking ahead ---- */

/* The teacher, as far as it is known: a baseline that is yet to be trained has no weights. */
struct known {
    const struct model *m;
    char *sums, pictures[PICTURES_ABOUT];
};

static bool know(struct known *k, struct run *r, struct err *e)
{
    const bool sees = hf_has_vision(&k->m->cfg);

    if (k->sums) return true;
    snprintf(k->pictures, sizeof k->pictures, no_pictures);
    if (sees && !(run_name_pictures(r, e) && run_pictures_about(r, k->m, k->pictures, e)))
        return false;
    k->sums = model_sums(k->m, e);
    return k->sums;
}

/* What a phase of the recipe that is taken will ask. */
static bool check_phase(struct known *k, struct run *r, int phase, struct err *e)
{
    const struct config_phase *p = config_phase(&r->c, phase);
    struct teacher t = {.said = teacher_lists(p, k->m->head->t.rows)};
    struct name name = {0};
    bool ok = know(k, r, e);

    if (!ok) return false;
    tell_about(&name, r, p, t.said.k, k->sums, k->pictures);
    ok = place_store(&name, r, e) && fill_store(&t, r, p, phase, &name, true, e);
    free(t.row);
    return ok;
}

/* A new teacher has a new store. */
static bool check_new(const struct run *r, int phase, struct err *e)
{
    struct err why;
    bool can;

    return cache_rights_new(r->c.data.cache, &can, &why, e) &&
           (can || cache_refuse(e, &why,
                                "what the teacher says cannot be there before it is trained: "
                                "choose another directory, or set %s.teacher to \"fly\"",
                                step_names[phase_steps[phase]]));
}

static bool check_recipe(struct known *k, struct run *r, int64_t recipe, bool made, struct err *e)
{
    bool ok = true, lacks;

    for (int i = 0; ok && i < PHASES; i++) {
        const struct config_phase *p = config_phase(&r->c, i);
        if (p->loss != LOSS_DISTILL || p->teacher != TEACHER_STORED ||
            !run_has_step(r, phase_steps[i]))
            continue;
        ok = ahead_lacks(r, recipe, phase_steps[i], &lacks, e) &&
             (!lacks || (made ? check_phase(k, r, i, e) : check_new(r, i, e)));
    }
    return ok;
}

bool teacher_store_used(const struct config *all)
{
    for (int64_t k = 0; k < recipes_count(all); k++)
        if (config_stores_teacher(recipes_config(all, k))) return true;
    return false;
}

bool teacher_store_check(struct run *r, const struct model *m, struct err *e)
{
    const int64_t taken = recipes_taken(&r->c);
    struct known k = {.m = m};
    struct err why;
    bool can, made, ok;

    if (!cluster_first() || !teacher_store_used(&r->c)) return true;
    if (!cache_rights(r->c.data.cache, &can, &why, e)) return false;
    if (can) return true;
    ok = model_is_there(r, "baseline", &made, e);
    made = made || !run_has_step(r, STEP_BASELINE);
    for (int64_t i = 0; ok && i < recipes_count(&r->c); i++) {
        recipes_take(&r->c, i);
        ok = check_recipe(&k, r, i, made, e);
    }
    recipes_take(&r->c, taken);
    free(k.sums);
    return ok;
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
