/* pictures.c - from picture files to what the model reads: decoded, processed and, where the tower
 * is frozen, taken through it once and kept. */
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

static bool file_key(const char *path, char key[65], struct err *e)
{
    struct sha256 sum;
    uint64_t bytes;
    int fd = file_open(path, e);
    bool ok;

    if (fd < 0) return err_context(e, "%s", path);
    sha256_init(&sum);
    ok = sha256_add_file(&sum, fd, 0, &bytes, NULL, e) || err_context(e, "%s", path);
    sha256_hex(&sum, key);
    close(fd);
    return ok;
}

/* A picture that cannot be read. Where that is the machine's fault the run ends: what is trained on
 * must not hang on it. */
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

/* Every picture of a set that has no key yet gets one; which cannot be read is marked and named. */
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
            if (!img->key[0] && !img->bad && !file_key(img->path, img->key, &why)) img->key[0] = 0;
        }
        for (int64_t i = first; i < end; i++) { /* in their order, whichever thread had them */
            struct dataset_image *img = &d->images[i];
            if (img->key[0] || img->bad || file_key(img->path, img->key, &why)) continue;
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
    bool ok;            /* else `why` says what is wrong with it */
    bool same;          /* its file still has the content that the key is of, else `gone` may say */
    const char *damage; /* as decode_picture says */
    struct err why, gone;
};

static void note_damage(struct picture_input *in, const char *path, const char *damage)
{
    if (in->damaged++ == 0)
        snprintf(in->first_damaged, sizeof in->first_damaged, "%s: %s", path, damage);
}

/* The tower's features of pixels[n, 3 H W], in the tape's memory; NULL on failure. */
static const float *run_tower(struct tape *t, struct model *m, struct tensor *pixels, size_t limit,
                              struct err *e)
{
    struct tensor *f;

    tape_begin(t, false);
    f = model_vision(m, t, pixels);
    tape_keep(f);
    if (!tape_plan(t, limit, e)) return NULL;
    return tape_forward(t) || signals_go_on(e) ? f->data : NULL;
}

/* The pictures of a group, decoded behind each other. A key that is not of what was decoded would
 * stay in the store, for all runs. */
static bool decode_group(const struct run *r, const struct dataset *d, const int64_t *todo,
                         int64_t n, float *pixels, struct decoded *out, struct err *e)
{
    int64_t size = 3 * r->processor.height * r->processor.width;

#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < n; i++) {
        const struct dataset_image *img = &d->images[todo[i]];
        char now[65];
        if (signals_came()) continue;
        out[i].ok = decode_picture(r, img->path, pixels + i * size, &out[i].damage, &out[i].why);
        out[i].gone = (struct err){0};
        out[i].same = file_key(img->path, now, &out[i].gone) && strcmp(now, img->key) == 0;
    }
    if (!signals_go_on(e)) return false;
    for (int64_t i = 0; i < n; i++) {
        if (out[i].gone.machine) return (*e = out[i].gone, false);
        if (!out[i].same)
            return err_set(e,
                           "%s: was changed while it was in use; put it back as it was and start "
                           "again",
                           d->images[todo[i]].path);
    }
    return true;
}

/* One group of new pictures: their values, in the order of `todo`. Bad ones are marked. */
static bool compute_group(struct run *r, struct model *m, struct dataset *d, const int64_t *todo,
                          int64_t n, float *pixels, struct err *e)
{
    struct picture_input *in = &r->pictures;
    int64_t size = 3 * r->processor.height * r->processor.width, good = 0;
    struct decoded got[PICTURE_GROUP];
    const float *values = pixels;
    char(*keys)[65] = NULL;

    if (!decode_group(r, d, todo, n, pixels, got, e)) return false;
    keys = mem_new((size_t)n, sizeof *keys, "picture keys", e);
    if (!keys) return false;
    for (int64_t i = 0; i < n; i++) {
        struct dataset_image *img = &d->images[todo[i]];
        if (!got[i].ok) {
            if (!leave_out(img, &got[i].why, e)) {
                free(keys);
                return false;
            }
            continue;
        }
        if (got[i].damage) note_damage(in, img->path, got[i].damage);
        memmove(pixels + good * size, pixels + i * size, (size_t)size * sizeof *pixels);
        memcpy(keys[good++], img->key, sizeof img->key);
    }
    struct tensor leaf = tensor_leaf(DT_F32, good, size, pixels);
    if (!in->pixels && good) values = run_tower(r->tape, m, &leaf, r->memory_limit, e);
    bool done = values;
    for (int64_t i = 0; done && i < good; i++)
        if (store_find(&in->store, keys[i]) < 0) /* the same picture may come twice in a group */
            done = store_put(&in->store, keys[i], values + i * in->tokens * in->width, e);
    free(keys);
    return done;
}

static bool prepare_set(struct run *r, struct model *m, struct dataset *d, const char *what,
                        struct err *e)
{
    int64_t size = 3 * r->processor.height * r->processor.width, todo[PICTURE_GROUP], n = 0;
    float *pixels = mem_new((size_t)(PICTURE_GROUP * size), sizeof *pixels, "decoded pictures", e);
    bool ok = pixels;

    for (int64_t i = 0; ok && i < d->n_images && (ok = signals_go_on(e)); i++) {
        struct dataset_image *img = &d->images[i];
        if (!img->bad && store_find(&r->pictures.store, img->key) < 0) todo[n++] = i;
        if (n == PICTURE_GROUP) {
            log_progress("pictures: %lld of %lld", (long long)i, (long long)d->n_images);
            ok = compute_group(r, m, d, todo, n, pixels, e);
            n = 0;
        }
    }
    if (ok && n) /* stopped: a later run has the same groups, and so the same bits */
        ok = compute_group(r, m, d, todo, n, pixels, e);
    free(pixels);
    if (!ok) return false;
    int64_t before = d->n;
    if (!dataset_drop_bad_images(d, e)) return false;
    return d->n == before || (run_name_left_out(r, e) && run_report_drops(r, d, what, e));
}

bool run_open_pictures(struct run *r, struct model *m, bool pixels, struct err *e)
{
    struct picture_input *in = &r->pictures;
    char processor[512], tower[65] = "", about[768], hash[65];
    struct sha256 sum;
    char *dir;
    bool ok;

    if (!m->has_vision) return true;
    if (!run_name_pictures(r, e)) return false;
    processor_describe(&r->processor, processor, sizeof processor);
    if (!pixels) model_vision_hash(m, tower);
    in->pixels = pixels;
    in->tokens = pixels ? 1 : model_image_tokens(m);
    in->width = pixels ? 3 * r->processor.height * r->processor.width : hf_feature_width(&m->cfg);
    snprintf(about, sizeof about, "%s of %s, alpha %d%s%s", pixels ? "pixels" : "features",
             processor, r->c.data.alpha, pixels ? "" : ", tower ", tower);
    sha256_init(&sum);
    sha256_add(&sum, about, strlen(about));
    sha256_hex(&sum, hash);
    dir = mem_printf(e, "%s/%s-%.16s", r->c.data.cache, pixels ? "pixels" : "features", hash);
    if (!dir) return false;
    ok = store_open(&in->store, dir, about, in->tokens * in->width, true, e);
    if (ok) {
        ok = prepare_set(r, m, &r->train, "data.train", e);
        for (int64_t i = 0; ok && i < r->n_eval; i++)
            ok = prepare_set(r, m, &r->eval[i].data, r->eval[i].name, e);
        struct err close_err;
        if (!store_close(&in->store, &close_err) && ok) ok = err_set(e, "%s", close_err.msg);
    }
    if (ok && in->damaged)
        log_line(
            "%lld of the pictures that were read now are damaged, and are what Pillow makes of "
            "them too; the first: %s",
            (long long)in->damaged, in->first_damaged);
    in->open = ok && store_open(&in->store, dir, about, in->tokens * in->width, false, e);
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

/* A picture that the cache should have: decoded and taken through the tower, on a tape of its own
 * because the run's is in use. */
static bool compute_again(const struct run *r, struct model *m, const struct dataset_image *img,
                          float *row, struct err *e)
{
    const struct picture_input *in = &r->pictures;
    int64_t size = 3 * r->processor.height * r->processor.width;
    float *pixels = mem_new((size_t)size, sizeof *pixels, "a decoded picture", e);
    struct tensor leaf = tensor_leaf(DT_F32, 1, size, pixels);
    const float *values = pixels;
    const char *damage; /* was counted when the cache was filled */
    struct tape *tape = NULL;
    char key[65];
    bool ok =
        pixels && decode_picture(r, img->path, pixels, &damage, e) && file_key(img->path, key, e);

    if (ok && strcmp(key, img->key) != 0)
        ok = err_set(e, "%s: has changed while it was in use: put it back", img->path);
    if (ok && !in->pixels) {
        tape = tape_new(e);
        values = tape ? run_tower(tape, m, &leaf, r->memory_limit, e) : NULL;
        ok = values;
    }
    if (ok) memcpy(row, values, (size_t)(in->tokens * in->width) * sizeof *row);
    tape_free(tape);
    free(pixels);
    return ok;
}

/* From the cache, or computed where that has been damaged, or taken away, since it was filled:
 * said, and mended where the entry is there at all. */
static bool picture_row(struct run *r, struct model *m, const struct dataset_image *img, float *row,
                        struct err *e)
{
    struct store *s = &r->pictures.store;
    int64_t at = store_find(s, img->key);
    struct err why;

    if (at >= 0 && store_get(s, at, row, &why)) return true;
    if (at >= 0 && why.machine) {
        *e = why;
        return err_context(e, "cache");
    }
    if (at < 0) err_set(&why, "%s: has lost an entry", s->dir);
    if (!compute_again(r, m, img, row, e)) return err_context(e, "cache: %s", why.msg);
    log_line("cache: %s: %s is computed again, %lld so far", why.msg, img->path,
             (long long)++r->pictures.again);
    if (at >= 0 && !store_mend(s, at, row, &why)) log_line("cache: cannot be mended: %s", why.msg);
    return true;
}

bool run_pictures(struct run *r, struct model *m, const struct dataset *d,
                  const struct batch_buffer *b, struct tensor **features, struct err *e)
{
    struct picture_input *in = &r->pictures;
    int64_t n = b->batch.images, size = in->tokens * in->width;
    struct tensor *leaf;

    *features = NULL;
    if (n == 0) return true;
    CHECK(in->open);
    if (!mem_grow(&in->rows, &in->cap, (size_t)(n * size), sizeof *in->rows, e)) return false;
    for (int64_t i = 0; i < n; i++)
        if (!picture_row(r, m, &d->images[b->image[i]], in->rows + i * size, e)) return false;
    leaf = tape_alloc(r->tape, sizeof *leaf);
    *leaf = tensor_leaf(DT_F32, n * in->tokens, in->width, in->rows);
    *features = in->pixels ? model_vision(m, r->tape, leaf) : leaf;
    return true;
}
