/* pictures.c - from picture files to what the model reads: decoded, processed and, where the tower
 * is frozen, taken through it once and kept. */
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "train/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool file_key(const char *path, char key[65], struct err *e)
{
    struct file_map map;
    struct sha256 sum;

    if (!file_map_open(&map, path, e)) return false;
    sha256_init(&sum);
    sha256_add(&sum, map.data, map.size);
    sha256_hex(&sum, key);
    file_map_close(&map);
    return true;
}

static bool decode(const struct run *r, const char *path, float *pixels, struct err *e)
{
    struct image img = {0};
    bool ok = image_read(&img, path, e) &&
              image_flatten(&img, (enum alpha_mode)r->c.data.alpha, e) &&
              (processor_run(&r->processor, &img, pixels, e) || err_context(e, "%s", path));

    image_free(&img);
    return ok;
}

/* A picture that is broken; where the machine failed, what is trained on must not hang on that. */
static bool leave_out(struct dataset_image *img, const struct err *why, struct err *e)
{
    if (why->machine) {
        *e = *why;
        return false;
    }
    img->bad = true;
    log_line("picture left out: %s", why->msg);
    return true;
}

/* One group of new pictures: their values, in the order of `todo`. Bad ones are marked. */
static bool compute_group(struct run *r, struct model *m, struct dataset *d, const int64_t *todo,
                          int64_t n, float *pixels, struct err *e)
{
    struct picture_input *in = &r->pictures;
    int64_t size = 3 * r->processor.height * r->processor.width, good = 0;
    struct err errors[PICTURE_GROUP];
    bool ok[PICTURE_GROUP];
    const float *values = pixels;
    char(*keys)[65] = NULL;

#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < n; i++)
        ok[i] = decode(r, d->images[todo[i]].path, pixels + i * size, &errors[i]);
    keys = mem_new((size_t)n, sizeof *keys, "picture keys", e);
    if (!keys) return false;
    for (int64_t i = 0; i < n; i++) {
        struct dataset_image *img = &d->images[todo[i]];
        if (!ok[i]) {
            if (!leave_out(img, &errors[i], e)) {
                free(keys);
                return false;
            }
            continue;
        }
        memmove(pixels + good * size, pixels + i * size, (size_t)size * sizeof *pixels);
        memcpy(keys[good++], img->key, sizeof img->key);
    }
    bool done = true;
    if (!in->pixels && good) {
        struct tensor leaf = tensor_leaf(DT_F32, good, size, pixels);
        tape_begin(r->tape, false);
        struct tensor *f = model_vision(m, r->tape, &leaf);
        tape_keep(f);
        done = tape_plan(r->tape, r->memory_limit, e);
        if (done) tape_forward(r->tape);
        values = f->data;
    }
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

    for (int64_t i = 0; ok && i < d->n_images && !run_signal(); i++) {
        struct dataset_image *img = &d->images[i];
        struct err bad;
        if (!img->key[0] && !img->bad && !file_key(img->path, img->key, &bad))
            ok = leave_out(img, &bad, e);
        if (ok && !img->bad && store_find(&r->pictures.store, img->key) < 0) todo[n++] = i;
        if (n == PICTURE_GROUP) {
            log_progress("pictures: %lld of %lld", (long long)i, (long long)d->n_images);
            ok = compute_group(r, m, d, todo, n, pixels, e);
            n = 0;
        }
    }
    if (ok && n) ok = compute_group(r, m, d, todo, n, pixels, e);
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
    processor_describe(&r->processor, processor, sizeof processor);
    if (!pixels) model_vision_hash(m, tower);
    in->pixels = pixels;
    in->tokens = pixels ? 1 : model_image_tokens(m);
    in->width = pixels ? 3 * r->processor.height * r->processor.width : m->cfg.vision.hidden_size;
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
    if (ok && run_signal()) ok = err_set(e, "stopped by a signal; go on with --resume");
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
    for (int64_t i = 0; i < n; i++) {
        int64_t at = store_find(&in->store, d->images[b->image[i]].key);
        CHECK(at >= 0); /* run_open_pictures left no sample with a picture that is not there */
        store_get(&in->store, at, in->rows + i * size);
    }
    leaf = tape_alloc(r->tape, sizeof *leaf);
    *leaf = tensor_leaf(DT_F32, n * in->tokens, in->width, in->rows);
    *features = in->pixels ? model_vision(m, r->tape, leaf) : leaf;
    return true;
}
