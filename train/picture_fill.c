/* picture_fill.c - fills the store with what the steps of a run will read of their pictures.
 * Only that is computed; every other picture is decoded once all the same, because the samples
 * that are left out for a broken one decide the order of the rest, which must not depend on the
 * steps. That a picture can be read is remembered in a store of its own, with one value for
 * each. */
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "cluster/cluster.h"
#include "train/picture_group.h"
#include "train/picture_use.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Set number i: data.train, then those of data.eval; NULL after the last. */
static struct dataset *set_at(struct run *r, int64_t i)
{
    return i == 0 ? &r->train : i <= r->n_eval ? &r->eval[i - 1].data : NULL;
}

/* Computes and stores what the steps read of a group of pictures. */
static bool keep_group(struct run *r, struct model *m, const struct dataset *d,
                       const struct picture_group *g, struct err *e)
{
    struct picture_input *in = &r->pictures;
    float *pixels = g->pixels;

    for (int64_t i = 0; i < g->n; pixels += g->shape[i++].inputs * g->width) {
        const char *key = d->images[g->image[i]].key;
        const float *values = pixels;
        if (store_find(&in->store, key) >= 0) continue; /* there may be duplicates in a group */
        if (!in->pixels)
            values = picture_features(r->tape, m, &g->shape[i], pixels, r->memory_limit, e);
        if (!values ||
            !store_put(&in->store, key, values, picture_rows(in, &g->shape[i]) * in->width, e))
            return false;
    }
    return true;
}

/* Notes that the pictures of a group can be read. */
static bool note_group(struct run *r, struct model *m, const struct dataset *d,
                       const struct picture_group *g, struct err *e)
{
    const float one = 1;

    (void)m;
    for (int64_t i = 0; i < g->n; i++) {
        const char *key = d->images[g->image[i]].key;
        if (store_find(&r->pictures.store, key) < 0 &&
            !store_put(&r->pictures.store, key, &one, 1, e))
            return false;
    }
    return true;
}

typedef bool keeper(struct run *, struct model *, const struct dataset *,
                    const struct picture_group *, struct err *);

static bool do_group(struct run *r, struct model *m, struct dataset *d, struct picture_group *g,
                     keeper *keep, struct err *e)
{
    bool ok = picture_group_decode(r, d, g, e) && keep(r, m, d, g, e);

    g->n = g->inputs = 0;
    return ok;
}

/* The pictures of a set that are `used`, or those that are not, as far as the store lacks them. */
static bool fill_set(struct run *r, struct model *m, struct dataset *d, bool used, keeper *keep,
                     struct err *e)
{
    struct picture_group g = {.width = r->processor.input_width};
    bool ok = true;

    for (int64_t i = 0; ok && i < d->n_images && (ok = signals_go_on(e)); i++) {
        const struct dataset_image *img = &d->images[i];
        if (!img->bad && img->used == used && store_find(&r->pictures.store, img->key) < 0)
            picture_group_add(&g, d, i);
        if (!picture_group_is_full(&g)) continue;
        log_progress("pictures: %lld of %lld decoded", (long long)i + 1, (long long)d->n_images);
        ok = do_group(r, m, d, &g, keep, e);
    }
    if (ok && g.n) ok = do_group(r, m, d, &g, keep, e);
    free(g.pixels);
    return ok;
}

/* A store in data.cache: its directory and what it is about. */
struct place {
    char *dir, about[PROCESSOR_TEXT + 256];
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
    err_set(
        e,
        "data.cache: %s, and it lacks %lld of the pictures, the first of them %s: choose another "
        "directory, or make this one writable",
        why->msg, (long long)n, first);
    e->number = why->number; /* there may be no room */
    return false;
}

/* Opens a store to write in it; where that cannot be done, to read it, and *full is set: it has all
 * that is needed. */
static bool open_store(struct run *r, const struct place *p, bool used, bool *full, struct err *e)
{
    struct store *s = &r->pictures.store;
    struct err why, ignored;
    bool there = false;

    *full = false;
    if (!file_there(p->dir, &there, e)) return false;
    if (file_can_write(there ? p->dir : r->c.data.cache, &why) || why.number == ENOENT)
        return store_open(s, p->dir, p->about, true, e);
    if (there && !store_open(s, p->dir, p->about, false, e)) return false;
    *full = check_full(r, used, &why, e);
    if (!*full) store_close(s, &ignored);
    return *full;
}

static bool fill_store(struct run *r, struct model *m, const struct place *p, bool used,
                       keeper *keep, struct err *e)
{
    struct store *s = &r->pictures.store;
    struct dataset *d;
    struct err close_err;
    bool full, ok = open_store(r, p, used, &full, e);

    if (!ok) return false;
    for (int64_t i = 0; ok && !full && (d = set_at(r, i)); i++)
        ok = fill_set(r, m, d, used, keep, e);
    if (!store_close(s, &close_err) && ok) {
        *e = close_err;
        ok = false;
    }
    return ok;
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

/* The first process decodes for all. */
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
    return fill_store(r, m, p, true, keep_group, e) &&
           (!has_unused(r) || fill_store(r, m, checked, false, note_group, e));
}

/* Where samples are dropped, others are drawn, and other pictures with them. */
static bool fill(struct run *r, struct model *m, const struct place *p, struct err *e)
{
    struct place checked = {0};
    bool dropped = true, ok = place_make(&checked, r, "checked", "", e);

    while (ok && dropped)
        ok = cluster_agree(picture_use_mark(r, r->pictures.pixels, e) &&
                               (!cluster_first() || fill_stores(r, m, p, &checked, e)),
                           e) &&
             share_bad(r, e) && drop_samples(r, &dropped, e);
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

/* Whether something can be written in data.cache and in the stores there. Files are not tried: the
 * rights say enough of what is there already. */
static bool can_write(const char *cache, struct err *e)
{
    glob_t g;
    char *pattern;
    bool there = false, ok = file_there(cache, &there, e);

    if (!ok || !there) return ok;
    if (!file_can_write(cache, e) || !(pattern = mem_printf(e, "%s/*-*", cache))) return false;
    if (glob(pattern, GLOB_ONLYDIR, NULL, &g) == 0) {
        for (size_t i = 0; ok && i < g.gl_pathc; i++)
            ok = access(g.gl_pathv[i], W_OK | X_OK) == 0 ||
                 err_system(e, errno, "%s: nothing can be written there", g.gl_pathv[i]);
        globfree(&g);
    }
    free(pattern);
    return ok;
}

bool run_check_cache(struct run *r, const struct model *m, bool pixels, struct err *e)
{
    struct picture_input *in = &r->pictures;
    struct place p[2] = {{0}};
    struct err why;
    bool full, ok;

    if (can_write(r->c.data.cache, &why)) return true;
    if (pixels) {
        err_set(e,
                "data.cache: %s, and what the tower makes of the pictures cannot be there "
                "before it is trained: choose another directory",
                why.msg);
        e->number = why.number;
        return false;
    }
    ok = run_name_pictures(r, e) && place_input(&p[0], r, m, false, e) &&
         place_make(&p[1], r, "checked", "", e);
    for (int i = 0; ok && i < 1 + has_unused(r); i++) {
        ok = open_store(r, &p[i], i == 0, &full, e);
        if (ok) store_close(&in->store, &why);
    }
    free(p[0].dir);
    free(p[1].dir);
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
