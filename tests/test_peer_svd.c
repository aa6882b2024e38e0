/* test_peer_svd.c - our factors are those of the published code: MD-SVD as its script does it, and
 * plain SVD of the weights, from the same calibration samples and weights
 * (tests/data/peer/make_golden.py). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "convert/mdsvd.h"
#include "convert/moments.h"
#include "tests/peer_golden.h"

enum { SVD_SAMPLES = 48, SVD_TEXT = 12, PICTURE_TOKENS = 4, PIXELS = 3 * 8 * 8 };

static struct {
    struct st_file file;
    struct tape *t;
} g;

/* The calibration samples of make_golden.py, with their pictures. */
static struct sample *calibration(float *pixels)
{
    struct sample *s = calloc(SVD_SAMPLES, sizeof *s);

    assert_non_null(s);
    for (int n = 0; n < SVD_SAMPLES; n++) {
        int32_t ids[PICTURE_TOKENS + SVD_TEXT];
        for (int i = 0; i < PICTURE_TOKENS; i++)
            ids[i] = PICTURE_ID;
        for (int i = 0; i < SVD_TEXT; i++)
            ids[PICTURE_TOKENS + i] = 1 + (7 * n * n + 11 * i * i + 3 * n * i + 5 * i) % 38;
        s[n] = golden_sample(ids, PICTURE_TOKENS + SVD_TEXT);
        for (int j = 0; j < PIXELS; j++)
            pixels[n * PIXELS + j] = (float)sin(0.37 * j * (n % 7 + 1) + n);
    }
    return s;
}

/* Moments of the first `count` samples, by layer; *tap, unless NULL, receives the last layer's
 * inputs [T, d] of the batch. */
static void measure(struct model *m, int count, struct moments *by_layer, float *tap)
{
    float *values = calloc(SVD_SAMPLES * PIXELS, sizeof *values);
    struct tensor *x[LAYERS];
    struct taps taps = {.x = x};
    struct batch_buffer b = {0};
    struct err e = {0};

    assert_non_null(values);
    struct sample *s = calibration(values);
    struct tensor pixels = tensor_leaf(DT_F32, count, PIXELS, values);
    must(batch_fill(&b, s, count, false, &e), &e);
    tape_begin(g.t, false);
    struct forward f = {.batch = &b.batch,
                        .features = model_vision(m, g.t, &pixels, NULL, pixels.rows),
                        .taps = &taps};
    model_logits(m, g.t, &f, NULL, 0);
    must(tape_plan(g.t, 0, &e), &e);
    tape_forward(g.t);
    for (int l = 0; l < LAYERS; l++) {
        must(moments_init(&by_layer[l], HIDDEN, &e), &e);
        for (int n = 0; n < count; n++)
            moments_add(&by_layer[l], (float *)x[l]->data + b.batch.begin[n] * HIDDEN, s[n].kind,
                        s[n].n, 1);
        must(moments_finish(&by_layer[l], &e), &e);
    }
    if (tap) memcpy(tap, x[LAYERS - 1]->data, (size_t)(b.batch.tokens * HIDDEN) * sizeof *tap);
    for (int n = 0; n < SVD_SAMPLES; n++)
        tiny_sample_free(&s[n]);
    batch_free(&b);
    free(s);
    free(values);
}

/* Rows [up_k; up_v] of a layer's uncompressed projection. */
static void weights_of(const struct model *m, int l, float *w, int64_t *k_rows, int64_t *n)
{
    const struct kv_set *set = &m->layers[l].attn.set[TEXT];

    *k_rows = set->up_k->t.rows;
    *n = *k_rows + set->up_v->t.rows;
    tensor_to_real(&set->up_k->t, 0, *k_rows * HIDDEN, w);
    tensor_to_real(&set->up_v->t, 0, (*n - *k_rows) * HIDDEN, w + *k_rows * HIDDEN);
}

/* up[n,r] down[r,d] */
static void multiply(float *out, const float *up, const float *down, int64_t n, int64_t r)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < HIDDEN; j++) {
            double sum = 0;
            for (int64_t k = 0; k < r; k++)
                sum += (double)up[i * r + k] * (double)down[k * HIDDEN + j];
            out[i * HIDDEN + j] = (float)sum;
        }
}

/* The largest difference between factors whose components may have either sign. */
static double up_to_sign(const float *want, const float *got, int64_t n, int64_t r)
{
    double most = 0, worst = 0;

    for (int64_t i = 0; i < n * r; i++)
        most = fmax(most, fabs((double)want[i]));
    for (int64_t k = 0; k < r; k++) {
        double d[2] = {0};
        for (int64_t i = 0; i < n; i++)
            for (int s = 0; s < 2; s++)
                d[s] = fmax(d[s], fabs((double)want[i * r + k] +
                                       (s ? 1.0 : -1.0) * (double)got[i * r + k]));
        worst = fmax(worst, fmin(d[0], d[1]));
    }
    return worst / most;
}

/* Compares our factors with the published recipe's, which are fp32 and take two inverses. 2e-5 for
 * the products: its moments are fp32 sums, and their inverse root magnifies their error. */
static void check_factors(const char *modality, int l, const struct mdsvd_out *ours, int64_t k_rows,
                          int64_t n)
{
    const struct st_tensor *up_k = golden_tensor(&g.file, "svd/W_up_k_%s.%d", modality, l);
    const struct st_tensor *up_v = golden_tensor(&g.file, "svd/W_up_v_%s.%d", modality, l);
    const struct st_tensor *down = golden_tensor(&g.file, "svd/W_down_%s.%d", modality, l);
    float up[64 * LATENT], want[64 * HIDDEN], got[64 * HIDDEN];

    assert_true(n <= 64 && up_k->dim[0] == k_rows && up_v->dim[0] == n - k_rows);
    memcpy(up, up_k->data, up_k->bytes);
    memcpy(up + k_rows * LATENT, up_v->data, up_v->bytes);
    multiply(want, up, down->data, n, LATENT);
    multiply(got, ours->up, ours->down, n, LATENT);
    double product = tiny_distance(want, got, n * HIDDEN);
    double balance = up_to_sign(up, ours->up, n, LATENT);
    print_message("# MD-SVD, %s, layer %d: product %.1e, W_up %.1e\n", modality, l, product,
                  balance);
    if (!(product < 2e-5))
        fail_msg("%s, layer %d: the products differ by %g", modality, l, product);
    if (!(balance < 1e-3)) fail_msg("%s, layer %d: W_up differs by %g", modality, l, balance);
}

static void test_md_svd(void **state)
{
    struct moments s[LAYERS];
    struct err e = {0};
    float w[64 * HIDDEN];
    int64_t k_rows, n;
    struct model m;

    (void)state;
    golden_model(&m, "stage1");
    measure(&m, SVD_SAMPLES, s, NULL);
    for (int l = 0; l < LAYERS; l++) {
        weights_of(&m, l, w, &k_rows, &n);
        for (int k = 0; k < MODALITIES; k++) {
            struct mdsvd_in in = {.w = w,
                                  .n = n,
                                  .d = HIDDEN,
                                  .s = s[l].s[k],
                                  .scale = moments_scale(&s[l], k),
                                  .r = LATENT};
            struct mdsvd_out out;
            must(mdsvd_factor(&out, &in, 1, 1, &e), &e);
            check_factors(k == IMAGE ? "img" : "text", l, &out, k_rows, n);
            mdsvd_free(&out);
        }
        moments_free(&s[l]);
    }
    model_close(&m);
}

/* One picture has 4 tokens of 32 dims: S is singular, and the recipe would invert rounding errors.
 * We get four components, all finite, which reproduce the projection of those tokens. */
static void test_few_tokens(void **state)
{
    float x[(PICTURE_TOKENS + SVD_TEXT) * HIDDEN], w[64 * HIDDEN], product[64 * HIDDEN];
    struct moments s[LAYERS];
    struct mdsvd_out out;
    struct err e = {0};
    int64_t k_rows, n;
    struct model m;

    (void)state;
    golden_model(&m, "stage1");
    measure(&m, 1, s, x);
    weights_of(&m, LAYERS - 1, w, &k_rows, &n);
    struct mdsvd_in in = {.w = w,
                          .n = n,
                          .d = HIDDEN,
                          .s = s[LAYERS - 1].s[IMAGE],
                          .scale = moments_scale(&s[LAYERS - 1], IMAGE),
                          .r = LATENT};
    must(mdsvd_factor(&out, &in, 1, 1, &e), &e);
    assert_true(out.live >= PICTURE_TOKENS);
    multiply(product, out.up, out.down, n, LATENT);
    for (int t = 0; t < PICTURE_TOKENS; t++) {
        float want[64], got[64];
        for (int64_t i = 0; i < n; i++) {
            double sums[2] = {0};
            for (int64_t j = 0; j < HIDDEN; j++) {
                sums[0] += (double)w[i * HIDDEN + j] * (double)x[t * HIDDEN + j];
                sums[1] += (double)product[i * HIDDEN + j] * (double)x[t * HIDDEN + j];
            }
            want[i] = (float)sums[0];
            got[i] = (float)sums[1];
        }
        assert_true(tiny_distance(want, got, n) < 1e-5);
    }
    mdsvd_free(&out);
    for (int l = 0; l < LAYERS; l++)
        moments_free(&s[l]);
    model_close(&m);
}

/* Plain SVD of rows [row0, row0 + n) of w against the factors of the published method. */
static void check_weight_svd(const float *w, int64_t row0, int64_t n, const char *down,
                             const char *const up[2])
{
    const struct st_tensor *want_down = golden_tensor(&g.file, "weight/%s", down);
    float factor[64 * LATENT], want[64 * HIDDEN], got[64 * HIDDEN];
    struct mdsvd_in in = {
        .w = w + row0 * HIDDEN, .n = n, .d = HIDDEN, .r = LATENT, .method = MDSVD_WEIGHT};
    struct mdsvd_out out;
    struct err e = {0};
    size_t filled = 0;

    for (int i = 0; i < 2 && up[i]; i++) {
        const struct st_tensor *t = golden_tensor(&g.file, "weight/%s", up[i]);
        memcpy(factor + filled, t->data, t->bytes);
        filled += st_count(t);
    }
    assert_int_equal(filled, n * LATENT);
    must(mdsvd_factor(&out, &in, 1, 1, &e), &e);
    multiply(want, factor, want_down->data, n, LATENT);
    multiply(got, out.up, out.down, n, LATENT);
    double product = tiny_distance(want, got, n * HIDDEN);
    double balance = up_to_sign(factor, out.up, n, LATENT);
    print_message("# %s: product %.1e, up %.1e\n", down, product, balance);
    assert_true(product < 1e-5 && balance < 1e-4);
    mdsvd_free(&out);
}

static void test_weight_svd(void **state)
{
    float w[64 * HIDDEN];
    int64_t k, n;
    struct model m;

    (void)state;
    golden_model(&m, "stage1");
    weights_of(&m, 0, w, &k, &n);
    check_weight_svd(w, 0, n, "joint.down_kv.weight",
                     (const char *[]){"joint.up_k.weight", "joint.up_v.weight"});
    check_weight_svd(w, 0, k, "split.down_k.weight", (const char *[]){"split.up_k.weight", NULL});
    check_weight_svd(w, k, n - k, "split.down_v.weight",
                     (const char *[]){"split.up_v.weight", NULL});
    check_weight_svd(w, 0, k, "only_key.down_k.weight",
                     (const char *[]){"only_key.up_k.weight", NULL});
    check_weight_svd(w, k, n - k, "only_value.down_v.weight",
                     (const char *[]){"only_value.up_v.weight", NULL});
    model_close(&m);
}

static int open_all(void **state)
{
    struct err e = {0};

    (void)state;
    must(st_open(&g.file, golden_path("golden.safetensors"), &e), &e);
    g.t = tape_new(&e);
    return g.t ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    tape_free(g.t);
    st_close(&g.file);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_md_svd),
                                       cmocka_unit_test(test_few_tokens),
                                       cmocka_unit_test(test_weight_svd)};

    return cmocka_run_group_tests_name("peer_svd", tests, open_all, close_all);
}
