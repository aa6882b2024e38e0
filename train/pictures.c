/* pictures.c - from picture files to the model's input: decoded, processed and, if the tower is
 * frozen, run through it once and cached. Per picture of shape s, in the store:
 *     pixels    [s.inputs, input width]      the processor's output
 *     features  [s.rows, feature width]      the tower's output for these pixels */
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "train/decode.h"
#include "train/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Drops an unreadable picture. If the machine is at fault the run ends instead: the training data
 * must not depend on that. */
static bool leave_out(struct dataset_image *img, const struct err *why, struct err *e)
{
    if (why->machine) {
        *e = *why;
        return false;
    }
    if (!dataset_mark_bad(img, why, e)) return false;
    log_line("picture left out: %s", why->msg);
    return true;
}

/* Gives every picture of a set its key, unless it has one; unreadable ones are marked and
 * reported. */
static bool name_set(struct dataset *d, struct err *e)
{
    enum { GROUP = 1024 };

    for (int64_t first = 0; first < d->n_images; first += GROUP) {
        const int64_t end = first + GROUP < d->n_images ? first + GROUP : d->n_images;
        struct err why;

        if (!signals_go_on(e)) return false;
        if (!d->images[first].key[0])
            log_progress("pictures: %lld of %lld read", (long long)first, (long long)d->n_images);
#pragma omp parallel for schedule(dynamic, 8) private(why)
        for (int64_t i = first; i < end; i++) {
            struct dataset_image *img = &d->images[i];
            if (!img->key[0] && !img->bad && !sha256_path(img->path, NULL, img->key, &why))
                img->key[0] = 0;
        }
        for (int64_t i = first; i < end; i++) { /* in order, whichever thread read them */
            struct dataset_image *img = &d->images[i];
            if (img->key[0] || img->bad || sha256_path(img->path, NULL, img->key, &why)) continue;
            img->key[0] = 0;
            if (!leave_out(img, &why, e)) return false;
        }
    }
    return true;
}

bool run_name_pictures(struct run *r, struct err *e)
{
    bool ok = name_set(&r->train, e);

    for (int64_t i = 0; ok && i < r->n_eval; i++)
        ok = name_set(&r->eval[i].data, e);
    return ok;
}

struct decoded {
    bool ok;            /* otherwise `why` says what is wrong */
    bool same;          /* the file's content still matches the key; else see `gone` */
    const char *damage; /* as returned by decode_picture */
    struct err why, gone;
};

static void note_damage(struct picture_input *in, const char *path, const char *damage)
{
    if (in->damaged++ == 0)
        snprintf(in->first_damaged, sizeof in->first_damaged, "%s: %s", path, damage);
}

/* Pictures that are new to the store, and their pixels, back to back. */
struct group {
    int64_t n, image[PICTURE_GROUP]; /* indices into the set's images */
    struct picture_shape shape[PICTURE_GROUP];
    int64_t inputs, width;
    float *pixels; /* [inputs, width] */
    size_t cap;
};

static void add_picture(struct group *g, const struct dataset *d, int64_t image)
{
    g->image[g->n] = image;
    g->shape[g->n] = d->images[image].shape;
    g->inputs += g->shape[g->n++].inputs;
}

static bool is_full(const struct group *g)
{
    return g->n == PICTURE_GROUP || g->inputs * g->width >= PICTURE_VALUES;
}

/* The tower's features of a group's pixels, [sum of shape[i].rows, feature width], in the tape's
 * memory; NULL on failure. */
static const float *run_tower(struct tape *t, struct model *m, const struct group *g, size_t limit,
                              struct err *e)
{
    struct tensor leaf = tensor_leaf(DT_F32, g->inputs, g->width, g->pixels), *f;

    tape_begin(t, false);
    f = model_vision(m, t, &leaf, g->shape, g->n);
    tape_keep(f);
    if (!tape_plan(t, limit, e)) return NULL;
    return tape_forward(t) || signals_go_on(e) ? f->data : NULL;
}

/* Decodes the pictures of a group into g->pixels [inputs, width], and checks their keys: a key that
 * does not match what was decoded would stay in the store for all runs. */
static bool decode_group(const struct run *r, const struct dataset *d, const struct group *g,
                         struct decoded *out, struct err *e)
{
    float *at[PICTURE_GROUP], *next = g->pixels;

    for (int64_t i = 0; i < g->n; next += g->shape[i++].inputs * g->width)
        at[i] = next;
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < g->n; i++) {
        const struct dataset_image *img = &d->images[g->image[i]];
        char now[65];
        if (signals_came()) continue;
        out[i].ok = decode_picture(r, img, at[i], &out[i].damage, &out[i].why);
        out[i].gone = (struct err){0};
        out[i].same = sha256_path(img->path, NULL, now, &out[i].gone) && strcmp(now, img->key) == 0;
    }
    if (!signals_go_on(e)) return false;
    for (int64_t i = 0; i < g->n; i++) {
        if (out[i].gone.machine) return (*e = out[i].gone, false);
        if (!out[i].same)
            return err_set(e,
                           "%s: was changed while it was in use; put it back as it was and start "
                           "again",
                           d->images[g->image[i]].path);
    }
    return true;
}

/* Removes from the group what could not be decoded, marking it bad. */
static bool drop_bad(struct picture_input *in, struct dataset *d, struct group *g,
                     const struct decoded *got, struct err *e)
{
    struct group kept = {.width = g->width};
    const float *from = g->pixels;

    for (int64_t i = 0; i < g->n; from += g->shape[i++].inputs * g->width) {
        struct dataset_image *img = &d->images[g->image[i]];
        if (!got[i].ok) {
            if (!leave_out(img, &got[i].why, e)) return false;
            continue;
        }
        if (got[i].damage) note_damage(in, img->path, got[i].damage);
        memmove(g->pixels + kept.inputs * g->width, from,
                (size_t)(g->shape[i].inputs * g->width) * sizeof *from);
        add_picture(&kept, d, g->image[i]);
    }
    kept.pixels = g->pixels;
    kept.cap = g->cap;
    *g = kept;
    return true;
}

/* Computes one group of new pictures and stores their values. Bad ones are marked. */
static bool compute_group(struct run *r, struct model *m, struct dataset *d, struct group *g,
                          struct err *e)
{
    struct picture_input *in = &r->pictures;
    struct decoded got[PICTURE_GROUP];
    const float *values;

    if (!mem_grow(&g->pixels, &g->cap, (size_t)(g->inputs * g->width), sizeof *g->pixels, e) ||
        !decode_group(r, d, g, got, e) || !drop_bad(in, d, g, got, e))
        return false;
    values = in->pixels || g->n == 0 ? g->pixels : run_tower(r->tape, m, g, r->memory_limit, e);
    if (!values) return false;
    for (int64_t i = 0; i < g->n; i++) {
        const char *key = d->images[g->image[i]].key;
        int64_t count = picture_rows(in, &g->shape[i]) * in->width;
        /* there may be duplicates in a group */
        if (store_find(&in->store, key) < 0 && !store_put(&in->store, key, values, count, e))
            return false;
        values += count;
    }
    g->n = g->inputs = 0;
    return true;
}

static bool prepare_set(struct run *r, struct model *m, struct dataset *d, const char *what,
                        struct err *e)
{
    struct group g = {.width = r->processor.input_width};
    bool ok = true;

    for (int64_t i = 0; ok && i < d->n_images && (ok = signals_go_on(e)); i++) {
        struct dataset_image *img = &d->images[i];
        if (!img->bad && store_find(&r->pictures.store, img->key) < 0) add_picture(&g, d, i);
        if (!is_full(&g)) continue;
        log_progress("pictures: %lld of %lld", (long long)i, (long long)d->n_images);
        ok = compute_group(r, m, d, &g, e);
    }
    if (ok && g.n) /* not if stopped: a later run has the same groups, and so the same bits */
        ok = compute_group(r, m, d, &g, e);
    free(g.pixels);
    if (!ok) return false;
    int64_t before = d->n;
    if (!dataset_drop_bad_images(d, e)) return false;
    return d->n == before || (run_name_left_out(r, e) && run_report_drops(r, d, what, e));
}

bool run_open_pictures(struct run *r, struct model *m, bool pixels, struct err *e)
{
    struct picture_input *in = &r->pictures;
    char processor[PROCESSOR_TEXT], tower[65] = "", about[PROCESSOR_TEXT + 256], hash[65];
    struct sha256 sum;
    char *dir;
    bool ok;

    if (!hf_has_vision(&m->cfg)) return true;
    if (!run_name_pictures(r, e)) return false;
    processor_describe(&r->processor, processor, sizeof processor);
    if (!pixels) model_vision_hash(m, tower);
    in->pixels = pixels;
    in->width = pixels ? r->processor.input_width : hf_feature_width(&m->cfg);
    snprintf(about, sizeof about, "%s of %s, alpha %d%s%s", pixels ? "pixels" : "features",
             processor, r->c.data.alpha, pixels ? "" : ", tower ", tower);
    sha256_init(&sum);
    sha256_add(&sum, about, strlen(about));
    sha256_hex(&sum, hash);
    dir = mem_printf(e, "%s/%s-%.16s", r->c.data.cache, pixels ? "pixels" : "features", hash);
    if (!dir) return false;
    ok = store_open(&in->store, dir, about, true, e);
    if (ok) {
        ok = prepare_set(r, m, &r->train, "data.train", e);
        for (int64_t i = 0; ok && i < r->n_eval; i++)
            ok = prepare_set(r, m, &r->eval[i].data, r->eval[i].name, e);
        struct err close_err;
        if (!store_close(&in->store, &close_err) && ok) {
            *e = close_err;
            ok = false;
        }
    }
    if (ok && in->damaged)
        log_line(
            "%lld of the pictures that were read now are damaged, and are what Pillow makes of "
            "them too; the first: %s",
            (long long)in->damaged, in->first_damaged);
    in->open = ok && store_open(&in->store, dir, about, false, e);
    free(dir);
    return in->open;
}

void run_close_pictures(struct run *r)
{
    struct err ignored;

    if (r->pictures.open) store_close(&r->pictures.store, &ignored);
    free(r->pictures.rows);
    memset(&r->pictures, 0, sizeof r->pictures);
}

/* Recomputes a picture missing from the cache, on a tape of its own because the run's is in use.
 * row [picture_rows, width]. */
static bool compute_again(const struct run *r, struct model *m, const struct dataset *d,
                          int64_t image, float *row, struct err *e)
{
    const struct dataset_image *img = &d->images[image];
    const struct picture_input *in = &r->pictures;
    struct group g = {.width = r->processor.input_width};
    const float *values;
    const char *damage; /* was reported when the cache was filled */
    struct tape *tape = NULL;
    char key[65];
    bool ok;

    add_picture(&g, d, image);
    values = g.pixels = mem_new((size_t)(g.inputs * g.width), sizeof *g.pixels, "a picture", e);
    ok = values && decode_picture(r, img, g.pixels, &damage, e) &&
         sha256_path(img->path, NULL, key, e);
    if (ok && strcmp(key, img->key) != 0)
        ok = err_set(e, "%s: has changed while it was in use: put it back", img->path);
    if (ok && !in->pixels) {
        tape = tape_new(e);
        values = tape ? run_tower(tape, m, &g, r->memory_limit, e) : NULL;
        ok = values;
    }
    if (ok) memcpy(row, values, (size_t)(picture_rows(in, g.shape) * in->width) * sizeof *row);
    tape_free(tape);
    free(g.pixels);
    return ok;
}

/* A picture's rows from the cache; recomputed if the entry has been damaged or removed since. That
 * is logged, and a damaged entry is repaired. */
static bool picture_row(struct run *r, struct model *m, const struct dataset *d, int64_t image,
                        float *row, struct err *e)
{
    const struct dataset_image *img = &d->images[image];
    struct store *s = &r->pictures.store;
    int64_t at = store_find(s, img->key);
    int64_t count = picture_rows(&r->pictures, &img->shape) * r->pictures.width;
    struct err why;

    if (at >= 0 && store_get(s, at, row, count, &why)) return true;
    if (at >= 0 && why.machine) {
        *e = why;
        return err_context(e, "cache");
    }
    if (at < 0) err_set(&why, "%s: has lost an entry", s->dir);
    if (!compute_again(r, m, d, image, row, e)) return err_context(e, "cache: %s", why.msg);
    log_line("cache: %s: %s is computed again, %lld so far", why.msg, img->path,
             (long long)++r->pictures.again);
    if (at >= 0 && !store_mend(s, at, row, count, &why))
        log_line("cache: cannot be repaired: %s", why.msg);
    return true;
}

bool run_pictures(struct run *r, struct model *m, const struct dataset *d,
                  const struct batch_buffer *b, struct tensor **features, struct err *e)
{
    struct picture_input *in = &r->pictures;
    const struct picture_shape *shapes = b->batch.shapes;
    int64_t n = b->batch.images, rows = 0;
    struct tensor *leaf;

    *features = NULL;
    if (n == 0) return true;
    CHECK(in->open);
    for (int64_t i = 0; i < n; i++)
        rows += picture_rows(in, &shapes[i]);
    if (!mem_grow(&in->rows, &in->cap, (size_t)(rows * in->width), sizeof *in->rows, e))
        return false;
    float *at = in->rows;
    for (int64_t i = 0; i < n; at += picture_rows(in, &shapes[i++]) * in->width)
        if (!picture_row(r, m, d, b->image[i], at, e)) return false;
    leaf = tape_alloc(r->tape, sizeof *leaf);
    *leaf = tensor_leaf(DT_F32, rows, in->width, in->rows);
    *features = in->pixels ? model_vision(m, r->tape, leaf, shapes, n) : leaf;
    return true;
}
