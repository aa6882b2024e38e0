/* prepare.c - makes what the measurements work on, as files that both sides read:
 *     build/bench/prepare quick config=FILE data=FILE dir=DIR
 *                               the config's stage-2 model, and a batch
 *     build/bench/prepare mla model=DIR out=DIR rope_dim=N low_rank=N
 *                               the model converted with random factors
 *     build/bench/prepare batch out=FILE image=N text=N labels=N width=N vocab=N image_id=N
 *                               [samples=N] of that size
 *     build/bench/prepare svd out=FILE rows=N cols=N text=N image=N
 *                               a weight and its inputs
 *     build/bench/prepare pictures dir=DIR count=N width=N height=N
 *                               PNG and JPEG
 * Everything is drawn from fixed seeds. */
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "bench/lib/converted.h"
#include "bench/lib/stored.h"
#include "bench/lib/work.h"
#include "convert/transform.h"
#include "data/picture/image.h"

#include <math.h>
#include <stdio.h> /* before jpeglib.h, which needs it */
#include <jpeglib.h>
#include <stdlib.h>
#include <string.h>

static float *normal(int64_t n, double deviation, uint64_t stream, struct err *e)
{
    float *v = mem_new((size_t)n, sizeof *v, "random values", e);
    struct rng r;

    rng_seed(&r, 1, stream);
    for (int64_t i = 0; v && i < n; i++)
        v[i] = (float)(deviation * rng_normal(&r));
    return v;
}

/* ---- quick ---- */

static bool quick(const struct work_args *a, struct err *e)
{
    const char *dir = work_text(a, "dir", NULL);
    struct converted c = {.r = {.lock = -1}};
    struct tensor *features = NULL;
    char *sets[] = {mem_printf(e, "data.train=[{\"path\":\"%s\"}]", work_text(a, "data", NULL)),
                    mem_printf(e, "run.dir=%s/run", dir), mem_printf(e, "data.cache=%s/cache", dir),
                    mem_strdup("data.eval=[]", e), mem_strdup("run.threads=2", e)};
    enum { SETS = sizeof sets / sizeof *sets };
    char *batch = mem_printf(e, "%s/quick.batch", dir), *model = mem_printf(e, "%s/quick", dir);
    bool ok = batch && model;

    for (int i = 0; i < SETS; i++)
        ok = ok && sets[i];
    ok = ok && converted_open(&c, work_text(a, "config", NULL), (const char *const *)sets, SETS, e);
    if (ok) {
        tape_begin(c.r.tape, true);
        ok = run_pictures(&c.r, &c.m, &c.r.train, &c.batch, &features, e) &&
             stored_write(batch, &c.batch.batch, tensor_real(features), features->cols, e) &&
             model_save(&c.m, model, DT_F32, true, e);
    }
    converted_close(&c);
    for (int i = 0; i < SETS; i++)
        free(sets[i]);
    free(batch);
    free(model);
    return ok;
}

/* ---- mla ---- */

/* Factors of one layer and modality, for [up_k; up_v] [rows, latent]. */
static bool random_factors(struct factors *f, int64_t rows_k, int64_t rows_v, int64_t latent,
                           int64_t d, uint64_t stream, struct err *e)
{
    float *down = normal(latent * d, 0.02, stream, e),
          *up = down ? normal((rows_k + rows_v) * latent, 0.02, stream + 1, e) : NULL;

    *f = (struct factors){{down, NULL}, up, up + rows_k * latent, latent};
    return up;
}

/* The pairs of head h begin at h, two apart, so that heads differ. */
static int32_t *some_pairs(const struct text_config *c, int64_t rope_dim, struct err *e)
{
    int64_t heads = c->num_hidden_layers * c->num_key_value_heads, kept = rope_dim / 2;
    int32_t *pairs = mem_new((size_t)(heads * kept), sizeof *pairs, "pairs", e);

    for (int64_t h = 0; pairs && h < heads; h++)
        for (int64_t i = 0; i < kept; i++)
            pairs[h * kept + i] = (int32_t)(h % (c->head_dim / 2 - 2 * kept + 2) + 2 * i);
    return pairs;
}

static bool mla(const struct work_args *a, struct err *e)
{
    int64_t rope_dim = work_number(a, "rope_dim", 0), low_rank = work_number(a, "low_rank", 0);
    struct model m = {0};
    struct factors(*f)[MODALITIES] = NULL;
    int32_t *pairs = NULL;
    bool ok = model_open(&m, work_text(a, "model", NULL), e);
    const struct text_config *c = &m.cfg.text;
    int64_t L = c->num_hidden_layers, G = c->num_key_value_heads, latent = low_rank * G;

    ok = ok && (pairs = some_pairs(c, rope_dim, e)) && model_to_partial(&m, pairs, rope_dim, e);
    f = ok ? mem_new((size_t)L, sizeof *f, "factors", e) : NULL;
    ok = f;
    for (int64_t l = 0; ok && l < L; l++)
        for (int s = 0; ok && s < MODALITIES; s++)
            ok = random_factors(&f[l][s], G * (c->head_dim - rope_dim), G * c->head_dim, latent,
                                c->hidden_size, (uint64_t)(4 * l + 2 * s), e);
    ok = ok && model_to_mla(&m,
                            &(struct to_mla){.method = KV_JOINT,
                                             .decoupled = true,
                                             .latent = latent,
                                             .factors = (const struct factors(*)[MODALITIES])f},
                            e);
    struct mha2mla_config section = {.partial_rope_version = "high",
                                     .rope_dim_for_mla = rope_dim,
                                     .svd_init_method = "joint",
                                     .low_rank = low_rank,
                                     .decoupled = true};
    ok = ok && hf_config_set_mha2mla(&m.cfg, &section, e) &&
         model_save(&m, work_text(a, "out", NULL), DT_BF16, true, e);
    for (int64_t l = 0; f && l < L; l++)
        for (int s = 0; s < MODALITIES; s++) {
            free((float *)(uintptr_t)f[l][s].down[0]);
            free((float *)(uintptr_t)f[l][s].up_k);
        }
    free(f);
    free(pairs);
    model_close(&m);
    return ok;
}

/* ---- batch: samples with an image after the first five tokens, the last tokens trained on ---- */

static bool batch(const struct work_args *a, struct err *e)
{
    enum { BEFORE = 5 };
    int64_t n = work_number(a, "samples", 1);
    int64_t image = work_number(a, "image", 0), text = work_number(a, "text", 0), T = image + text;
    int64_t labels = work_number(a, "labels", 0);
    int64_t width = work_number(a, "width", 0), vocab = work_number(a, "vocab", 0);
    int32_t *ids = mem_new((size_t)(n * T), sizeof *ids, "ids", e),
            *rows = mem_new((size_t)(n * labels), sizeof *rows, "labels", e),
            *targets = mem_new((size_t)(n * labels), sizeof *targets, "labels", e);
    int64_t *begin = mem_new((size_t)n + 1, sizeof *begin, "samples", e);
    struct span *spans = mem_new((size_t)(3 * n), sizeof *spans, "spans", e);
    float *features = normal(n * image * width, 1, 5, e);
    bool ok = ids && rows && targets && begin && spans && features;
    struct rng r;

    rng_seed(&r, 1, 6);
    for (int64_t i = 0; ok && i < n * T; i++)
        ids[i] = i % T >= BEFORE && i % T < BEFORE + image
                     ? (int32_t)work_number(a, "image_id", 0)
                     : 4 + (int32_t)rng_below(&r, (uint64_t)vocab - 4);
    for (int64_t i = 0; ok && i < n * labels; i++) {
        rows[i] = (int32_t)(i / labels * T + T - 1 - labels + i % labels);
        targets[i] = ids[rows[i] + 1];
    }
    for (int64_t k = 0; ok && k < n; k++) {
        begin[k + 1] = (k + 1) * T;
        spans[3 * k] = (struct span){k * T, k * T + BEFORE, TEXT};
        spans[3 * k + 1] = (struct span){k * T + BEFORE, k * T + BEFORE + image, IMAGE};
        spans[3 * k + 2] = (struct span){k * T + BEFORE + image, (k + 1) * T, TEXT};
    }
    struct batch b = {.tokens = n * T,
                      .ids = ids,
                      .samples = n,
                      .begin = begin,
                      .n_spans = 3 * n,
                      .spans = spans,
                      .labels = n * labels,
                      .label_rows = rows,
                      .label_ids = targets,
                      .image_tokens = n * image};
    ok = ok && stored_write(work_text(a, "out", NULL), &b, features, width, e);
    free(ids);
    free(rows);
    free(targets);
    free(begin);
    free(spans);
    free(features);
    return ok;
}

/* ---- svd ---- */

/* Inputs whose channels differ in magnitude by up to a factor of 100, differently for each
 * modality. */
static bool write_inputs(struct st_writer *w, size_t index, int64_t rows, int64_t cols,
                         struct err *e)
{
    bool ok = true;

    for (int64_t i = 0; ok && i < rows; i++) {
        float *x = normal(cols, 1, 100 + 100000 * (uint64_t)index + (uint64_t)i, e);
        for (int64_t j = 0; x && j < cols; j++)
            x[j] *= powf(10, 2 * (float)((j * (index == 1 ? 7919 : 104729)) % cols) / (float)cols);
        ok = x && st_write_f32(w, index, x, (size_t)cols, e);
        free(x);
    }
    return ok;
}

static bool svd(const struct work_args *a, struct err *e)
{
    int64_t rows = work_number(a, "rows", 0), cols = work_number(a, "cols", 0);
    struct st_spec specs[] = {{"w", ST_BF16, 2, {rows, cols}},
                              {"x_text", ST_BF16, 2, {work_number(a, "text", 0), cols}},
                              {"x_image", ST_BF16, 2, {work_number(a, "image", 0), cols}}};
    float *v = normal(rows * cols, 0.02, 7, e);
    struct st_writer w = {0};
    bool ok = v && st_write_begin(&w, work_text(a, "out", NULL), specs, 3, NULL, e) &&
              st_write_f32(&w, 0, v, (size_t)(rows * cols), e);

    for (size_t i = 1; ok && i < 3; i++)
        ok = write_inputs(&w, i, specs[i].dim[0], cols, e);
    free(v);
    if (ok) return st_write_end(&w, e);
    st_write_abort(&w);
    return false;
}

/* ---- pictures ---- */

static void draw(struct image *img, int salt)
{
    struct rng r;

    rng_seed(&r, 2, (uint64_t)salt);
    for (int64_t y = 0; y < img->height; y++)
        for (int64_t x = 0; x < img->width; x++)
            for (int c = 0; c < 3; c++) { /* waves, a disc with a hard edge, and a camera's noise */
                double v = 120 + 60 * sin(0.01 * (double)(x * (c + 1) + y * salt)) +
                           40 * cos(0.023 * (double)(y - x));
                if ((x - 300) * (x - 300) + (y - 200) * (y - 200) < 90 * 90) v = 255 - v;
                v += 4 * rng_normal(&r);
                img->px[(y * img->width + x) * 3 + c] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
            }
}

/* Quality 90, as usual for cameras and the web; libjpeg's own error handler exits. */
static bool write_jpeg(const struct image *img, const char *path, struct err *e)
{
    struct jpeg_error_mgr errors;
    struct jpeg_compress_struct j = {.err = jpeg_std_error(&errors)};
    FILE *fp = fopen(path, "wb");

    if (!fp) return err_set(e, "%s: cannot be written", path);
    jpeg_create_compress(&j);
    jpeg_stdio_dest(&j, fp);
    j.image_width = (JDIMENSION)img->width;
    j.image_height = (JDIMENSION)img->height;
    j.input_components = 3;
    j.in_color_space = JCS_RGB;
    jpeg_set_defaults(&j);
    jpeg_set_quality(&j, 90, TRUE);
    jpeg_start_compress(&j, TRUE);
    for (int64_t y = 0; y < img->height; y++) {
        JSAMPROW row = img->px + y * img->width * 3;
        jpeg_write_scanlines(&j, &row, 1);
    }
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    return fclose(fp) == 0 || err_set(e, "%s: cannot be written", path);
}

static bool pictures(const struct work_args *a, struct err *e)
{
    const char *dir = work_text(a, "dir", NULL);
    bool ok = file_mkdirs(dir, e);

    for (int i = 0; ok && i < work_number(a, "count", 0); i++) {
        char *png = mem_printf(e, "%s/%02d.png", dir, i),
             *jpg = mem_printf(e, "%s/%02d.jpg", dir, i);
        struct image img = {0};
        ok = png && jpg &&
             image_new(&img, work_number(a, "width", 0), work_number(a, "height", 0), 3, e);
        if (ok) draw(&img, i);
        ok = ok && image_write_png(&img, png, e) && write_jpeg(&img, jpg, e);
        image_free(&img);
        free(png);
        free(jpg);
    }
    return ok;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool (*run)(const struct work_args *a, struct err *e);
    } commands[] = {
        {"quick", quick}, {"mla", mla}, {"batch", batch}, {"svd", svd}, {"pictures", pictures}};
    struct work_args a = {0};
    struct err e = {0};

    for (int i = 2; i < argc && a.n < WORK_ARGS; i++)
        a.word[a.n++] = argv[i];
    for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(commands[i].name, argv[1]) != 0) continue;
        if (commands[i].run(&a, &e)) return 0;
        fprintf(stderr, "prepare: error: %s\n", e.msg);
        return 1;
    }
    fprintf(stderr, "prepare: quick, mla, batch, svd or pictures is needed\n");
    return 1;
}
