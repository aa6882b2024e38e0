/* work_data.c - the work around the model: MD-SVD of a layer, pictures, and training steps that
 * read new samples each time. */
#include "autograd/gemm.h"
#include "base/file.h"
#include "base/mem.h"
#include "bench/lib/converted.h"
#include "bench/lib/measure.h"
#include "bench/lib/work.h"
#include "convert/mdsvd.h"
#include "convert/moments.h"
#include "data/order.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- mdsvd: file=FILE rank=R: second moments by modality, then the factors of both ---- */

struct mdsvd_state {
    float *w, *x[MODALITIES]; /* [n, d], [T, d] */
    int64_t n, d, T[MODALITIES], r;
    struct moments moments;
    struct mdsvd_in in[MODALITIES];
    struct mdsvd_out out[MODALITIES];
};

static void mdsvd_forget(struct mdsvd_state *s)
{
    moments_free(&s->moments);
    for (int k = 0; k < MODALITIES; k++)
        mdsvd_free(&s->out[k]);
}

static void mdsvd_close(void *p)
{
    struct mdsvd_state *s = p;

    mdsvd_forget(s);
    for (int k = 0; k < MODALITIES; k++)
        free(s->x[k]);
    free(s->w);
    free(s);
}

static float *read_matrix(const struct st_file *f, const char *name, int64_t *rows, int64_t *cols,
                          struct err *e)
{
    const struct st_tensor *t = st_find(f, name);
    float *v;

    CHECK(t && t->ndim == 2);
    *rows = t->dim[0];
    *cols = t->dim[1];
    v = mem_new(st_count(t), sizeof *v, name, e);
    if (v && st_read_f32(t, 0, st_count(t), v, e)) return v;
    free(v);
    return NULL;
}

static void *mdsvd_open(const struct work_args *a, struct err *e)
{
    struct mdsvd_state *s = mem_new(1, sizeof *s, "bench", e);
    struct st_file f = {0};
    bool ok = s && st_open(&f, work_text(a, "file", NULL), e) &&
              (s->w = read_matrix(&f, "w", &s->n, &s->d, e)) &&
              (s->x[TEXT] = read_matrix(&f, "x_text", &s->T[TEXT], &s->d, e)) &&
              (s->x[IMAGE] = read_matrix(&f, "x_image", &s->T[IMAGE], &s->d, e));

    st_close(&f);
    if (s) s->r = work_number(a, "rank", 0);
    if (ok || !s) return s;
    mdsvd_close(s);
    return NULL;
}

static bool mdsvd_run(void *p, double *units, struct err *e)
{
    struct mdsvd_state *s = p;
    int64_t most = s->T[TEXT] > s->T[IMAGE] ? s->T[TEXT] : s->T[IMAGE];
    uint8_t *modality = mem_new((size_t)most, 1, "modalities", e);
    bool ok;

    mdsvd_forget(s);
    ok = modality && moments_init(&s->moments, s->d, e);
    for (int k = 0; ok && k < MODALITIES; k++) {
        memset(modality, k, (size_t)s->T[k]);
        moments_add(&s->moments, s->x[k], modality, s->T[k], 1);
    }
    ok = ok && moments_finish(&s->moments, e);
    for (int k = 0; k < MODALITIES; k++)
        s->in[k] = (struct mdsvd_in){.w = s->w,
                                     .n = s->n,
                                     .d = s->d,
                                     .s = s->moments.s[k],
                                     .scale = moments_scale(&s->moments, k),
                                     .r = s->r,
                                     .method = MDSVD_ACTIVATION};
    ok = ok && mdsvd_factor(s->out, s->in, MODALITIES, MODALITIES, e);
    free(modality);
    *units += 1;
    return ok;
}

/* The fraction of the outputs' energy lost, measured from the factors in double. */
static bool mdsvd_finish(void *p, struct err *e)
{
    static const char *const names[] = {[TEXT] = "error_text", [IMAGE] = "error_image"};
    struct mdsvd_state *s = p;
    double error;

    for (int k = 0; k < MODALITIES; k++) {
        if (!mdsvd_error(&error, &s->in[k], s->out[k].up, s->out[k].down, e)) return false;
        work_fact(names[k], error / s->out[k].energy);
    }
    return true;
}

const struct work work_mdsvd = {"mdsvd", mdsvd_open, mdsvd_run, mdsvd_finish, mdsvd_close};

/* ---- images: model=DIR (its processor) dir=DIR kind=.jpg or .png ---- */

enum { IMAGES = 64 };
struct images_state {
    struct processor processor;
    char *path[IMAGES];
    int n;
    float *pixels; /* [n, 3, h, w] */
};

static void images_close(void *p)
{
    struct images_state *s = p;

    for (int i = 0; i < s->n; i++)
        free(s->path[i]);
    free(s->pixels);
    free(s);
}

static bool images_run(void *p, double *units, struct err *e)
{
    struct images_state *s = p;
    int64_t size = 3 * s->processor.height * s->processor.width;
    struct err errors[IMAGES];
    int bad = -1;

#pragma omp parallel for schedule(dynamic, 1)
    for (int i = 0; i < s->n; i++) {
        struct image img = {0};
        bool ok = image_read(&img, s->path[i], &errors[i]);

        if (ok) image_flatten(&img, ALPHA_WHITE);
        ok = ok && processor_run(&s->processor, &img, s->pixels + i * size, &errors[i]);

        image_free(&img);
#pragma omp critical
        if (!ok) bad = i;
    }
    *units += s->n;
    return bad < 0 || err_set(e, "%s", errors[bad].msg);
}

static void *images_open(const struct work_args *a, struct err *e)
{
    struct images_state *s = mem_new(1, sizeof *s, "bench", e);
    const char *dir = work_text(a, "dir", NULL), *kind = work_text(a, "kind", NULL);
    double units = 0, sum = 0;
    struct dirent *entry;
    int64_t values;
    bool ok = s && processor_load(&s->processor, work_text(a, "model", NULL), e);
    DIR *d = ok ? opendir(dir) : NULL;

    if (ok && !d) ok = err_set(e, "%s: cannot be opened", dir);
    while (ok && (entry = readdir(d)) && s->n < IMAGES)
        if (strstr(entry->d_name, kind)) {
            s->path[s->n] = file_join(dir, entry->d_name, e);
            ok = s->path[s->n++];
        }
    if (d) closedir(d);
    values = s ? s->n * 3 * s->processor.height * s->processor.width : 0;
    ok = ok && (s->pixels = mem_new((size_t)values, sizeof *s->pixels, "pixels", e)) &&
         images_run(s, &units, e);
    if (!ok && s) images_close(s);
    if (!ok) return NULL;
    for (int64_t i = 0; i < values; i++)
        sum += fabs((double)s->pixels[i]) / (double)values;
    work_fact("check", sum);
    return s;
}

const struct work work_images = {"images", images_open, images_run, NULL, images_close};

/* ---- train: config=FILE data=FILE limit=N dir=DIR: steps on the next samples of the data ---- */

struct train_state {
    struct converted c;
    struct order order;
    int64_t at;
};

static void train_close(void *p)
{
    struct train_state *s = p;

    order_free(&s->order);
    converted_close(&s->c);
    free(s);
}

static void *train_open(const struct work_args *a, struct err *e)
{
    struct train_state *s = mem_new(1, sizeof *s, "bench", e);
    const char *dir = work_text(a, "dir", NULL);
    char *sets[] = {mem_printf(e, "data.train=[{\"path\":\"%s\",\"limit\":%s}]",
                               work_text(a, "data", NULL), work_text(a, "limit", NULL)),
                    mem_printf(e, "run.dir=%s/run", dir), mem_printf(e, "data.cache=%s/cache", dir),
                    mem_printf(e, "run.threads=%s", work_text(a, "threads", "2")),
                    mem_strdup("data.eval=[]", e)};
    enum { SETS = sizeof sets / sizeof *sets };
    bool ok = s;

    for (int i = 0; i < SETS; i++)
        ok = ok && sets[i];
    if (s) s->c.r.lock = -1;
    ok = ok &&
         converted_open(&s->c, work_text(a, "config", NULL), (const char *const *)sets, SETS, e) &&
         order_init(&s->order, 1, s->c.r.train.n, e);
    for (int i = 0; i < SETS; i++)
        free(sets[i]);
    if (ok) work_fact("samples", (double)s->c.r.train.n);
    if (!ok && s) train_close(s);
    return ok ? s : NULL;
}

static bool train_run(void *p, double *units, struct err *e)
{
    struct train_state *s = p;
    struct converted *c = &s->c;
    int64_t size = c->r.c.stage2.batch_size, entry[256];

    CHECK(size <= 256);
    for (int64_t i = 0; i < size; i++)
        entry[i] = order_at(&s->order, s->at++);
    if (!converted_batch(c, entry, e) || !converted_step(c, e)) return false;
    *units += (double)c->batch.batch.tokens;
    return true;
}

const struct work work_train = {"train", train_open, train_run, NULL, train_close};
