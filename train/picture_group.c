/* picture_group.c - see picture_group.h. */
#include "train/picture_group.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "train/decode.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

bool picture_leave_out(struct dataset_image *img, const struct err *why, struct err *e)
{
    if (why->machine) {
        *e = *why;
        return false;
    }
    if (!dataset_mark_bad(img, why, e)) return false;
    log_line("picture left out: %s", why->msg);
    return true;
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

void picture_group_add(struct picture_group *g, const struct dataset *d, int64_t image)
{
    g->image[g->n] = image;
    g->shape[g->n] = d->images[image].shape;
    g->inputs += g->shape[g->n++].inputs;
}

bool picture_group_is_full(const struct picture_group *g)
{
    return g->n == PICTURE_GROUP || g->inputs * g->width >= PICTURE_VALUES;
}

/* Multiplications of a picture below which threads would mostly wait for each other. */
static const double serial_work = 1 << 28;

static double work_of(const struct model *m, const struct picture_shape *shape)
{
    double weights = 0;

    for (int64_t i = 0; i < m->n_params; i++)
        if (m->params[i].kind == PARAM_VISION) weights += (double)tensor_count(&m->params[i].t);
    return weights * (double)shape->rows;
}

const float *picture_features(struct tape *t, struct model *m, const struct picture_shape *shape,
                              float *pixels, size_t limit, struct err *e)
{
    struct tensor leaf = tensor_leaf(DT_F32, shape->inputs, hf_input_width(&m->cfg), pixels), *f;
    const int threads = omp_get_max_threads();
    bool ok;

    if (work_of(m, shape) < serial_work) omp_set_num_threads(1);
    tape_begin(t, false);
    f = model_vision(m, t, &leaf, shape, 1);
    tape_keep(f);
    ok = tape_plan(t, limit, e) && (tape_forward(t) || signals_go_on(e));
    omp_set_num_threads(threads);
    return ok ? f->data : NULL;
}

/* Decodes the pictures of a group into g->pixels [inputs, width], and checks their keys: a key that
 * does not match what was decoded would stay in the store for all runs. */
static bool decode_group(const struct run *r, const struct dataset *d,
                         const struct picture_group *g, struct decoded *out, struct err *e)
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
static bool drop_bad(struct picture_input *in, struct dataset *d, struct picture_group *g,
                     const struct decoded *got, struct err *e)
{
    struct picture_group kept = {.width = g->width};
    const float *from = g->pixels;

    for (int64_t i = 0; i < g->n; from += g->shape[i++].inputs * g->width) {
        struct dataset_image *img = &d->images[g->image[i]];
        if (!got[i].ok) {
            if (!picture_leave_out(img, &got[i].why, e)) return false;
            continue;
        }
        if (got[i].damage) note_damage(in, img->path, got[i].damage);
        memmove(g->pixels + kept.inputs * g->width, from,
                (size_t)(g->shape[i].inputs * g->width) * sizeof *from);
        picture_group_add(&kept, d, g->image[i]);
    }
    kept.pixels = g->pixels;
    kept.cap = g->cap;
    *g = kept;
    return true;
}

bool picture_group_decode(struct run *r, struct dataset *d, struct picture_group *g, struct err *e)
{
    struct decoded got[PICTURE_GROUP];

    return mem_grow(&g->pixels, &g->cap, (size_t)(g->inputs * g->width), sizeof *g->pixels, e) &&
           decode_group(r, d, g, got, e) && drop_bad(&r->pictures, d, g, got, e);
}
