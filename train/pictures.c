/* pictures.c - the keys of picture files, and a batch's pictures as the model's input, from the
 * store that picture_fill.c has filled. Per picture of shape s, in the store:
 *     pixels    [s.inputs, input width]      the processor's output
 *     features  [s.rows, feature width]      the tower's output for these pixels */
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "cluster/cluster.h"
#include "train/decode.h"
#include "train/picture_group.h"

#include <stdlib.h>
#include <string.h>

/* Gives every picture of a set its key, unless it has one; unreadable ones are marked and
 * reported. */
static bool name_set(struct dataset *d, struct err *e)
{
    enum { GROUP = 1024 };

    for (int64_t first = 0; first < d->n_images; first += GROUP) {
        const int64_t end = first + GROUP < d->n_images ? first + GROUP : d->n_images;
        struct err why;

        if (!signals_go_on(e)) return false;
        if (first && !d->images[first].key[0])
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
            if (!picture_leave_out(img, &why, e)) return false;
        }
    }
    return true;
}

/* The keys of a set, of which each process reads every n-th file; what one cannot read is left to
 * name_set, which says so. */
static bool name_share(struct dataset *d, struct err *e)
{
    const int64_t n = d->n_images, size = cluster_size(), rank = cluster_rank();
    const int64_t own = (n - rank + size - 1) / size;
    char(*mine)[65] = mem_new((size_t)(own > 0 ? own : 0), sizeof *mine, "pictures", e);
    char(*all)[65];
    void *got = NULL;
    size_t bytes;
    bool ok = cluster_agree(mine, e);

#pragma omp parallel for schedule(dynamic, 8) if (ok)
    for (int64_t k = 0; k < own; k++) {
        const struct dataset_image *img = &d->images[k * size + rank];
        struct err why;
        if (!ok || signals_came() || img->bad || img->key[0]) continue;
        if (!sha256_path(img->path, NULL, mine[k], &why)) mine[k][0] = 0;
    }
    ok = cluster_agree(ok && signals_go_on(e), e) &&
         cluster_gather(mine, (size_t)own * sizeof *mine, &got, &bytes, e);
    all = got;
    for (int64_t from = 0; ok && from < size; from++)
        for (int64_t i = from; i < n; i += size, all++)
            if (!d->images[i].key[0]) memcpy(d->images[i].key, *all, sizeof *all);
    free(mine);
    free(got);
    return ok;
}

bool run_share_names(struct run *r, struct err *e)
{
    bool ok = cluster_size() == 1 || name_share(&r->train, e);

    for (int64_t i = 0; ok && cluster_size() > 1 && i < r->n_eval; i++)
        ok = name_share(&r->eval[i].data, e);
    return ok;
}

bool run_name_pictures(struct run *r, struct err *e)
{
    bool ok = name_set(&r->train, e);

    for (int64_t i = 0; ok && i < r->n_eval; i++)
        ok = name_set(&r->eval[i].data, e);
    return ok;
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
    struct picture_group g = {.width = r->processor.input_width};
    const float *values;
    const char *damage; /* was reported when the cache was filled */
    struct tape *tape = NULL;
    char key[65];
    bool ok;

    picture_group_add(&g, d, image);
    values = g.pixels = mem_new((size_t)(g.inputs * g.width), sizeof *g.pixels, "a picture", e);
    ok = values && decode_picture(r, img, g.pixels, &damage, e) &&
         sha256_path(img->path, NULL, key, e);
    if (ok && strcmp(key, img->key) != 0)
        ok = err_set(e, "%s: has changed while it was in use: put it back", img->path);
    if (ok && !in->pixels) {
        tape = tape_new(e);
        values = tape ? picture_features(tape, m, g.shape, g.pixels, r->memory_limit, e) : NULL;
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
