/* picture_fill.c - fills the store with what the steps of a run will read of their pictures.
 * Only that is computed; every other picture is decoded once all the same, because the samples
 * that are left out for a broken one decide the order of the rest, which must not depend on the
 * steps. That a picture can be read is remembered in a store of its own, with one value for
 * each. */
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "cluster/cluster.h"
#include "train/cache_rights.h"
#include "train/picture_group.h"
#include "train/picture_use.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Set number i: data.train, then those of data.eval; NULL after the last. */
static struct dataset *set_at(struct run *r, int64_t i)
{
    return i == 0 ? &r->train : i <= r->n_eval ? &r->eval[i - 1].data : NULL;
}

/* What a store has of a picture: values[*count], valid until the next call. NULL on failure. */
typedef const float *maker(struct run *, struct model *, const struct picture_shape *,
                           float *pixels, int64_t *count, struct err *);

/* What the steps read. */
static const float *make_input(struct run *r, struct model *m, const struct picture_shape *shape,
                               float *pixels, int64_t *count, struct err *e)
{
    const struct picture_input *in = &r->pictures;

    *count = picture_rows(in, shape) * in->width;
    return in->pixels ? pixels : picture_features(r->tape, m, shape, pixels, r->memory_limit, e);
}

/* That it can be read. */
static const float *make_note(struct run *r, struct model *m, const struct picture_shape *shape,
                              float *pixels, int64_t *count, struct err *e)
{
    static const float one = 1;

    (void)r, (void)m, (void)shape, (void)pixels, (void)e;
    *count = 1;
    return &one;
}

/* Stores a group of pictures, of which several may be the same. */
static bool keep_group(struct run *r, struct model *m, const struct dataset *d,
                       const struct picture_group *g, maker *make, struct err *e)
{
    struct store *s = &r->pictures.store;
    float *pixels = g->pixels;

    for (int64_t i = 0; i < g->n; pixels += g->shape[i++].inputs * g->width) {
        const char *key = d->images[g->image[i]].key;
        const float *values;
        int64_t count;
        if (store_find(s, key) >= 0) continue;
        values = make(r, m, &g->shape[i], pixels, &count, e);
        if (!values || !store_put(s, key, values, count, e)) return false;
    }
    return true;
}

/* ---- groups of several processes ---- */

/* A round: a group for each process, as the first process has chosen them. */
struct round {
    int64_t n, image[PICTURE_GROUP];
};

/* What a process hands to the first of its group: how many pictures were damaged, and which first;
 * then of each picture this and its values, or why it is bad. */
struct handed_group {
    int64_t damaged;
    char first_damaged[512];
};
struct handed {
    int64_t image, count;
    bool bad;
};

struct parcel {
    char *data;
    size_t n, cap;
};

static bool pack(struct parcel *p, const void *data, size_t n, struct err *e)
{
    if (!mem_grow(&p->data, &p->cap, p->n + n, 1, e)) return false;
    if (n) memcpy(p->data + p->n, data, n);
    p->n += n;
    return true;
}

static const void *unpack(struct parcel *p, void *to, size_t n)
{
    const char *at = p->data + p->n;

    CHECK(p->n + n <= p->cap);
    if (to) memcpy(to, at, n);
    p->n += n;
    return at;
}

/* `round` is the group as it was chosen, g what is left of it after decoding. */
static bool pack_group(struct run *r, struct model *m, const struct dataset *d,
                       const struct round *round, const struct picture_group *g, maker *make,
                       struct parcel *out, struct err *e)
{
    float *pixels = g->pixels;
    bool ok = true;

    for (int64_t i = 0; ok && i < round->n; i++) {
        const struct dataset_image *img = &d->images[round->image[i]];
        char why[sizeof(struct err)] = ""; /* whole, so that floats that follow are aligned */
        const struct handed bad = {round->image[i], sizeof why, true};
        if (!img->bad) continue;
        snprintf(why, sizeof why, "%s", img->why);
        ok = pack(out, &bad, sizeof bad, e) && pack(out, why, sizeof why, e);
    }
    for (int64_t i = 0; ok && i < g->n; pixels += g->shape[i++].inputs * g->width) {
        struct handed good = {g->image[i], 0, false};
        const float *values = make(r, m, &g->shape[i], pixels, &good.count, e);
        ok = values && pack(out, &good, sizeof good, e) &&
             pack(out, values, (size_t)good.count * sizeof *values, e);
    }
    return ok;
}

/* The first process stores what another has made. */
static bool unpack_group(struct run *r, struct dataset *d, struct parcel *p, struct err *e)
{
    struct store *s = &r->pictures.store;
    struct handed_group group;

    unpack(p, &group, sizeof group);
    if (r->pictures.damaged == 0)
        memcpy(r->pictures.first_damaged, group.first_damaged, sizeof group.first_damaged);
    r->pictures.damaged += group.damaged;
    while (p->n < p->cap) {
        struct handed h;
        struct err why = {0};
        unpack(p, &h, sizeof h);
        const size_t bytes = (size_t)h.count * (h.bad ? 1 : sizeof(float));
        const void *data = unpack(p, NULL, bytes);
        struct dataset_image *img = &d->images[h.image];
        if (h.bad) {
            err_set(&why, "%s", (const char *)data);
            if (!img->bad && !picture_leave_out(img, &why, e)) return false;
        } else if (store_find(s, img->key) < 0 && !store_put(s, img->key, data, h.count, e)) {
            return false;
        }
    }
    return true;
}

/* This process's group: stored at once, or packed for the first. */
static bool do_group(struct run *r, struct model *m, struct dataset *d, const struct round *round,
                     maker *make, struct parcel *out, struct err *e)
{
    struct picture_group g = {.width = r->processor.input_width};
    struct handed_group begin = {0};
    const int64_t damaged = r->pictures.damaged;
    bool ok;

    for (int64_t i = 0; i < round->n; i++)
        picture_group_add(&g, d, round->image[i]);
    ok = picture_group_decode(r, d, &g, e);
    begin.damaged = r->pictures.damaged - damaged;
    memcpy(begin.first_damaged, r->pictures.first_damaged, sizeof begin.first_damaged);
    if (cluster_first())
        ok = ok && keep_group(r, m, d, &g, make, e);
    else
        ok = ok && pack(out, &begin, sizeof begin, e) &&
             pack_group(r, m, d, round, &g, make, out, e);
    free(g.pixels);
    return ok;
}

/* Chooses a group from *next on: pictures that are `used`, or those that are not, as far as the
 * store lacks them. */
static void choose_group(struct run *r, const struct dataset *d, bool used, int64_t *next,
                         struct round *out)
{
    struct picture_group g = {.width = r->processor.input_width};

    for (out->n = 0; *next < d->n_images && !picture_group_is_full(&g); ++*next) {
        const struct dataset_image *img = &d->images[*next];
        if (img->bad || img->used != used || store_find(&r->pictures.store, img->key) >= 0)
            continue;
        picture_group_add(&g, d, *next);
        out->image[out->n++] = *next;
    }
}

/* Takes from each process what it has made. */
static bool take_groups(struct run *r, struct dataset *d, const struct round *rounds,
                        const struct parcel *mine, struct err *e)
{
    bool ok = true;

    for (int from = 1; ok && from < cluster_size(); from++) {
        struct parcel p = {0};
        void *data;
        if (rounds[from].n == 0) continue;
        ok = cluster_hand(from, mine->data, mine->n, &data, &p.cap, e);
        p.data = data;
        if (ok && cluster_first()) ok = unpack_group(r, d, &p, e);
        free(data);
    }
    return ok;
}

static bool do_round(struct run *r, struct model *m, struct dataset *d, const struct round *rounds,
                     maker *make, struct err *e)
{
    const struct round *own = &rounds[cluster_rank()];
    struct parcel mine = {0};
    bool ok = cluster_agree(own->n == 0 || do_group(r, m, d, own, make, &mine, e), e) &&
              take_groups(r, d, rounds, &mine, e);

    free(mine.data);
    return ok;
}

/* The pictures of a set that are `used`, or those that are not, as far as the store lacks them. */
static bool fill_set(struct run *r, struct model *m, struct dataset *d, bool used, maker *make,
                     struct err *e)
{
    const size_t n = (size_t)cluster_size();
    struct round *rounds = mem_new(n, sizeof *rounds, "groups of pictures", e);
    int64_t next = 0;
    bool ok = cluster_agree(rounds, e);

    while (ok && next < d->n_images) {
        for (size_t i = 0; cluster_first() && i < n; i++)
            choose_group(r, d, used, &next, &rounds[i]);
        ok = signals_go_on(e) && cluster_broadcast(rounds, n * sizeof *rounds, 0, e) &&
             cluster_broadcast(&next, sizeof next, 0, e);
        if (ok && rounds[0].n)
            log_progress("pictures: %lld of %lld decoded", (long long)next, (long long)d->n_images);
        ok = ok && do_round(r, m, d, rounds, make, e);
    }
    free(rounds);
    return ok;
}

/* A store in data.cache: its directory and what it is about. */
struct place {
    char *dir, about[PICTURES_ABOUT];
};

static bool place_make(struct place *p, const struct run *r, const char *kind, const char *tower,
                       struct err *e)
{
    char processor[PROCESSOR_TEXT], hash[65];
    struct sha256 sum;

    processor_describe(&r->processor, processor, sizeof processor);
    snprintf(p->about, sizeof p->about, "%s of %s, alpha %d%s%s", kind, processor, r->c.data.alpha,
             *tower ? ", each alone through tower " : "", tower);
    sha256_init(&sum);
    sha256_add(&sum, p->about, strlen(p->about));
    sha256_hex(&sum, hash);
    p->dir = mem_printf(e, "%s/%s-%.16s", r->c.data.cache, kind, hash);
    return p->dir;
}

/* Fails if something is missing in a store in which nothing can be written. */
static bool check_full(struct run *r, bool used, const struct err *why, struct err *e)
{
    const struct dataset *d;
    const char *first = NULL;
    int64_t n = 0;

    for (int64_t i = 0; (d = set_at(r, i)); i++)
        for (int64_t k = 0; k < d->n_images; k++) {
            const struct dataset_image *img = &d->images[k];
            if (img->bad || img->used != used || store_find(&r->pictures.store, img->key) >= 0)
                continue;
            if (n++ == 0) first = img->path;
        }
    if (n == 0) return true;
    return cache_refuse(e, why,
                        "it lacks %lld of the pictures, the first of them %s: choose another "
                        "directory, or make this one writable",
                        (long long)n, first);
}

/* Opens a store in which nothing can be written, for the reason `why`: it must have all that is
 * needed. */
static bool open_full(struct run *r, const struct place *p, bool used, const struct err *why,
                      struct err *e)
{
    struct store *s = &r->pictures.store;
    struct err ignored;

    if (!cache_open_read(s, p->dir, p->about, e)) return false;
    if (check_full(r, used, why, e)) return true;
    store_close(s, &ignored);
    return false;
}

/* Opens a store to write in it; where that cannot be done, to read it, and *full is set: it has all
 * that is needed. */
static bool open_store(struct run *r, const struct place *p, bool used, bool *full, struct err *e)
{
    struct err why;
    bool can;

    *full = false;
    if (!cache_rights_store(p->dir, &can, &why, e)) return false;
    if (can) return store_open(&r->pictures.store, p->dir, p->about, true, e);
    *full = open_full(r, p, used, &why, e);
    return *full;
}

/* Fails where it would, and writes nothing. */
static bool check_store(struct run *r, const struct place *p, bool used, struct err *e)
{
    struct err why, ignored;
    bool can;

    if (!cache_rights_store(p->dir, &can, &why, e)) return false;
    if (can) return true;
    return open_full(r, p, used, &why, e) && store_close(&r->pictures.store, &ignored);
}

/* The first process has the store open; the others make what it lacks with it. */
static bool fill_store(struct run *r, struct model *m, const struct place *p, bool used,
                       maker *make, struct err *e)
{
    struct store *s = &r->pictures.store;
    struct dataset *d;
    struct err close_err;
    bool full = false, ok = !cluster_first() || open_store(r, p, used, &full, e);
    const bool open = ok && cluster_first();

    ok = cluster_as_first(ok, &full, e);
    for (int64_t i = 0; ok && !full && (d = set_at(r, i)); i++)
        ok = fill_set(r, m, d, used, make, e);
    if (open && !store_close(s, &close_err) && ok) {
        *e = close_err;
        ok = false;
    }
    return cluster_agree(ok, e);
}

static bool has_unused(struct run *r)
{
    const struct dataset *d;

    for (int64_t i = 0; (d = set_at(r, i)); i++)
        for (int64_t k = 0; k < d->n_images; k++)
            if (!d->images[k].used && !d->images[k].bad) return true;
    return false;
}

/* Drops the samples of bad pictures from every set; *dropped is whether there were any. */
static bool drop_samples(struct run *r, bool *dropped, struct err *e)
{
    struct dataset *d;

    *dropped = false;
    for (int64_t i = 0; (d = set_at(r, i)); i++) {
        const int64_t before = d->n;
        if (!dataset_drop_bad_images(d, e)) return false;
        if (d->n == before) continue;
        *dropped = true;
        if (!run_name_left_out(r, e) ||
            !run_report_drops(r, d, i ? r->eval[i - 1].name : "data.train", e))
            return false;
    }
    return true;
}

/* Gives the bad pictures of a set, as the first process found them, to all: the number of each
 * that is new, and why it is bad. */
static bool share_set(struct dataset *d, struct err *e)
{
    for (int64_t k = 0, n = d->n_images;; k++) {
        struct err why = {0};

        while (cluster_first() && k < n && !d->images[k].bad)
            k++;
        if (!cluster_broadcast(&k, sizeof k, 0, e)) return false;
        if (k >= n) return true;
        if (cluster_first()) err_set(&why, "%s", d->images[k].why);
        if (!cluster_broadcast(why.msg, sizeof why.msg, 0, e)) return false;
        if (!d->images[k].bad && !dataset_mark_bad(&d->images[k], &why, e)) return false;
    }
}

/* Of what other processes have decoded, only the first has learnt what is bad. */
static bool share_bad(struct run *r, struct err *e)
{
    struct dataset *d;

    for (int64_t i = 0; (d = set_at(r, i)) && cluster_size() > 1; i++)
        if (!share_set(d, e)) return false;
    return true;
}

static bool fill_stores(struct run *r, struct model *m, const struct place *p,
                        const struct place *checked, struct err *e)
{
    return fill_store(r, m, p, true, make_input, e) &&
           (!has_unused(r) || fill_store(r, m, checked, false, make_note, e));
}

/* Where samples are dropped, others are drawn, and other pictures with them. */
static bool fill(struct run *r, struct model *m, const struct place *p, struct err *e)
{
    struct place checked = {0};
    bool dropped = true, ok = place_make(&checked, r, "checked", "", e);

    while (ok && dropped)
        ok = cluster_agree(picture_use_mark(r, r->pictures.pixels, e), e) &&
             fill_stores(r, m, p, &checked, e) && share_bad(r, e) && drop_samples(r, &dropped, e);
    free(checked.dir);
    return ok;
}

/* The store of what the steps read. */
static bool place_input(struct place *p, const struct run *r, const struct model *m, bool pixels,
                        struct err *e)
{
    char tower[65] = "";

    if (!pixels) model_vision_hash(m, tower);
    return place_make(p, r, pixels ? "pixels" : "features", tower, e);
}

bool run_check_cache(struct run *r, const struct model *m, bool pixels, struct err *e)
{
    struct place p[2] = {{0}};
    struct err why;
    bool can, ok;

    if (!cache_rights(r->c.data.cache, &can, &why, e)) return false;
    if (can) return true;
    if (pixels && !cache_rights_new(r->c.data.cache, &can, &why, e)) return false;
    if (pixels && !can)
        return cache_refuse(e, &why,
                            "what the tower makes of the pictures cannot be there before it is "
                            "trained: choose another directory");
    ok = run_name_pictures(r, e) && place_input(&p[0], r, m, pixels, e) &&
         place_make(&p[1], r, "checked", "", e);
    for (int i = 0; ok && i < 1 + has_unused(r); i++)
        ok = check_store(r, &p[i], i == 0, e);
    free(p[0].dir);
    free(p[1].dir);
    return ok;
}

bool run_pictures_about(const struct run *r, const struct model *m, char about[PICTURES_ABOUT],
                        struct err *e)
{
    struct place p = {0};
    const bool ok = place_input(&p, r, m, false, e);

    snprintf(about, PICTURES_ABOUT, "%s", p.about);
    free(p.dir);
    return ok;
}

bool run_open_pictures(struct run *r, struct model *m, bool pixels, struct err *e)
{
    struct picture_input *in = &r->pictures;
    struct place p = {0};
    bool ok;

    if (!hf_has_vision(&m->cfg)) return true;
    if (!cluster_agree(run_name_pictures(r, e), e)) return false;
    in->pixels = pixels;
    in->width = pixels ? r->processor.input_width : hf_feature_width(&m->cfg);
    ok = place_input(&p, r, m, pixels, e) && fill(r, m, &p, e);
    if (ok && in->damaged)
        log_line(
            "%lld of the pictures that were read now are damaged, and are what Pillow makes of "
            "them too; the first: %s",
            (long long)in->damaged, in->first_damaged);
    in->open = ok && store_open(&in->store, p.dir, p.about, false, e);
    free(p.dir);
    return in->open;
}
