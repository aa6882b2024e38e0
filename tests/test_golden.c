/* test_golden.c - small random models saved by transformers compute what transformers computed:
 * logits, hidden states, loss, the gradient of every parameter, five AdamW steps, greedy
 * generation. tests/data/models/make_golden.py made the values and says what each is. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/generate.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "tests/tiny_model.h"

#define DIR "tests/data/models/"

enum { SAMPLES = 3, STEPS = 5 };

struct golden {
    const char *name;
    struct st_file file;
    struct model m;
    struct tape *t;
    struct sample s[SAMPLES];
    struct batch_buffer b;
    float *pixels;
    struct tensor leaf;
};

static const struct st_tensor *get(const struct golden *g, const char *fmt, ...)
{
    char name[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return st_find(&g->file, name);
}

static struct sample read_sample(const struct golden *g, int n, bool prompt)
{
    const struct st_tensor *ids = get(g, prompt ? "prompt.%d" : "ids.%d", n);
    const struct st_tensor *labels = get(g, "labels.%d", n);
    int64_t picture = g->m.has_vision ? g->m.cfg.image_token_index : -1;
    struct sample s = {.n = ids->dim[0]};

    s.ids = calloc((size_t)s.n, sizeof *s.ids);
    s.trained = calloc((size_t)s.n, 1);
    s.modality = calloc((size_t)s.n, 1);
    assert_true(s.ids && s.trained && s.modality);
    memcpy(s.ids, ids->data, ids->bytes);
    for (int64_t i = 0; i < s.n; i++) {
        s.trained[i] = ((const int32_t *)labels->data)[i] >= 0;
        s.modality[i] = s.ids[i] == picture ? IMAGE : TEXT;
        if (s.ids[i] == picture && (i == 0 || s.ids[i - 1] != picture)) s.images++;
    }
    s.prompt = s.n;
    s.image = calloc((size_t)s.images + 1, sizeof *s.image);
    assert_non_null(s.image);
    return s;
}

static void fill(struct golden *g, bool prompt)
{
    struct err e = {0};
    int64_t width =
        g->m.has_vision ? 3 * g->m.cfg.vision.image_size * g->m.cfg.vision.image_size : 0;
    int64_t n = 0;

    g->pixels = mem_new((size_t)(SAMPLES * width), sizeof *g->pixels, "pixels", &e);
    assert_non_null(g->pixels);
    for (int i = 0; i < SAMPLES; i++) {
        const struct st_tensor *p = get(g, "pixels.%d", i);
        g->s[i] = read_sample(g, i, prompt);
        assert_int_equal(g->s[i].images, p != NULL);
        if (p) memcpy(g->pixels + n++ * width, p->data, p->bytes);
    }
    g->leaf = tensor_leaf(DT_F32, n, width, g->pixels);
    must(batch_fill(&g->b, g->s, SAMPLES, false, &e), &e);
}

static void empty(struct golden *g)
{
    for (int i = 0; i < SAMPLES; i++)
        tiny_sample_free(&g->s[i]);
    free(g->pixels);
    g->pixels = NULL;
}

static void open_from(struct golden *g, const char *name, const char *dir)
{
    struct err e = {0};
    char path[300];

    memset(g, 0, sizeof *g);
    g->name = name;
    snprintf(path, sizeof path, DIR "%s/golden.safetensors", name);
    must(st_open(&g->file, path, &e) && model_open(&g->m, dir, &e), &e);
    g->t = tape_new(&e);
    must(g->t, &e);
}

static void open_golden(struct golden *g, const char *name)
{
    char path[300];

    snprintf(path, sizeof path, DIR "%s", name);
    open_from(g, name, path);
}

static void close_golden(struct golden *g)
{
    batch_free(&g->b);
    tape_free(g->t);
    model_close(&g->m);
    st_close(&g->file);
}

/* The graph's input for the pictures: the tower's output, made in the same graph. */
static struct forward forward_of(struct golden *g)
{
    struct forward f = {.batch = &g->b.batch};

    if (g->leaf.rows) f.features = model_vision(&g->m, g->t, &g->leaf);
    return f;
}

/* 1e-5 of the largest value: both sides sum some hundred fp32 products in an order of their own,
 * over two layers and a tower. `floor`: what counts as large where the tensor's own values are next
 * to nothing. */
static void same(const struct golden *g, const char *what, const float *got,
                 const struct st_tensor *want, double tolerance, double floor)
{
    double most = 0;

    assert_non_null(want);
    for (size_t i = 0; i < st_count(want); i++)
        most = fmax(most, fabs((double)((const float *)want->data)[i]));
    double d = tiny_distance(want->data, got, (int64_t)st_count(want));
    if (most > 0 && most < floor) d *= most / floor;
    if (!(d < tolerance)) fail_msg("%s: %s differs by %g", g->name, what, d);
}

/* Each layer's hidden states, as its attention sees them: behind the layer's first norm. */
static void check_hidden(struct golden *g, struct tensor *const x[])
{
    for (int64_t l = 0; l < g->m.cfg.text.num_hidden_layers; l++) {
        const struct st_tensor *h = get(g, "hidden.%d", (int)l);
        int64_t d = h->dim[1];
        float *want = calloc(st_count(h), sizeof *want);
        assert_non_null(want);
        for (int64_t i = 0; i < h->dim[0]; i++) {
            const float *row = (const float *)h->data + i * d;
            double squares = 0;
            for (int64_t j = 0; j < d; j++)
                squares += (double)row[j] * (double)row[j];
            double rms = sqrt(squares / (double)d + g->m.cfg.text.rms_norm_eps);
            for (int64_t j = 0; j < d; j++)
                want[i * d + j] =
                    (float)((double)row[j] / rms) * ((float *)g->m.layers[l].norm1->t.data)[j];
        }
        assert_true(tiny_distance(want, x[l]->data, (int64_t)st_count(h)) < 1e-5);
        free(want);
    }
}

static void check_logits(struct golden *g)
{
    int64_t V = g->m.cfg.text.vocab_size, L = g->m.cfg.text.num_hidden_layers;
    struct taps taps = {.x = calloc((size_t)L, sizeof *taps.x)};
    struct err e = {0};

    assert_non_null(taps.x);
    fill(g, false);
    tape_begin(g->t, false);
    struct forward f = forward_of(g);
    f.taps = &taps;
    struct tensor *logits = model_logits(&g->m, g->t, &f, NULL, 0);
    must(tape_plan(g->t, 0, &e), &e);
    tape_forward(g->t);
    check_hidden(g, taps.x);
    for (int i = 0; i < SAMPLES; i++)
        same(g, "a sample's logits", (float *)logits->data + g->b.batch.begin[i] * V,
             get(g, "logits.%d", i), 1e-5, 0);
    free(taps.x);
    empty(g);
}

static struct tensor *loss_graph(struct golden *g, struct err *e)
{
    tape_begin(g->t, true);
    struct forward f = forward_of(g);
    struct tensor *loss = model_loss(&g->m, g->t, &f, 1 / (double)g->b.batch.labels);
    must(tape_plan(g->t, 0, e), e);
    tape_forward(g->t);
    tape_backward(g->t, loss);
    return loss;
}

/* A key's bias without RoPE moves all scores of a query alike, and softmax does not see it: its
 * gradient is rounding and nothing else, which AdamW makes whole steps of. */
static bool is_noise(const char *name)
{
    size_t n = strlen(name), k = strlen("k_proj.bias");

    return strncmp(name, "vision_tower", 12) == 0 && n > k &&
           strcmp(name + n - k, "k_proj.bias") == 0;
}

/* Gradients or trained values against the file's, by name. What transformers had no gradient for
 * (layers of the tower that nobody reads) has none here.
 * 1e-3 of the largest gradient of all is the floor of "large" for a gradient: sums that cancel.
 * 1e-4 after training: AdamW divides by the gradient's size, so that the relative rounding of the
 * smallest gradients, not of the largest, gets into the values. */
static void compare_params(struct golden *g, bool gradients)
{
    const char *prefix = gradients ? "grad." : "after.";
    int64_t found = 0;

    for (int64_t i = 0; i < g->m.n_params; i++) {
        const struct param *p = &g->m.params[i];
        const struct st_tensor *want = get(g, "%s%s", prefix, p->name);
        if (!want) {
            for (int64_t k = 0; gradients && k < tensor_count(&p->t); k++)
                assert_true(p->t.grad[k] == 0);
            continue;
        }
        assert_int_equal(st_count(want), tensor_count(&p->t));
        if (gradients)
            same(g, p->name, p->t.grad, want, 1e-5, 1e-3);
        else if (!is_noise(p->name))
            same(g, p->name, p->own, want, 1e-4, 0);
        found++;
    }
    for (size_t i = 0; i < g->file.count; i++)
        found -= strncmp(g->file.tensors[i].name, prefix, strlen(prefix)) == 0;
    assert_int_equal(found, 0);
}

static void check_training(struct golden *g)
{
    static const struct schedule schedule = {
        .peak = 2e-3, .warmup = 0.4, .decay = 0.4, .style = DECAY_1_SQRT, .steps = STEPS};
    const float *lr = get(g, "lr")->data;
    struct tensor **params = calloc((size_t)g->m.n_params, sizeof(struct tensor *));
    struct adamw opt;
    struct err e = {0};
    float losses[STEPS];

    assert_non_null(params);
    fill(g, false);
    must(model_train(&g->m, ~0u, &e), &e);
    same(g, "loss", loss_graph(g, &e)->data, get(g, "loss"), 1e-5, 0);
    compare_params(g, true);
    must(model_train(&g->m, ~0u, &e), &e); /* zeroes the gradients */
    for (int64_t i = 0; i < g->m.n_params; i++)
        params[i] = &g->m.params[i].t;
    must(adamw_init(&opt, params, g->m.n_params, &e), &e);
    opt.beta2 = 0.95;
    opt.weight_decay = 0.1;
    for (int64_t step = 0; step < STEPS; step++) {
        losses[step] = *(float *)loss_graph(g, &e)->data;
        double norm = adamw_grad_norm(&opt), rate = schedule_lr(&schedule, step);
        assert_true(fabs(rate - (double)lr[step]) < 1e-9);
        adamw_step(&opt, rate, norm > 1 ? 1 / norm : 1);
    }
    same(g, "losses", losses, get(g, "losses"), 1e-5, 0);
    compare_params(g, false);
    adamw_free(&opt);
    free(params);
    empty(g);
}

static void check_generation(struct golden *g)
{
    struct generation out[SAMPLES];
    struct tensor leaf = {0};
    struct err e = {0};
    float *features = NULL;

    fill(g, true);
    tape_begin(g->t, false);
    struct forward f = forward_of(g);
    if (f.features) { /* model_generate begins the tape anew */
        tape_keep(f.features);
        must(tape_plan(g->t, 0, &e), &e);
        tape_forward(g->t);
        features = mem_new((size_t)tensor_count(f.features), sizeof *features, "features", &e);
        assert_non_null(features);
        memcpy(features, f.features->data, (size_t)tensor_count(f.features) * sizeof *features);
        leaf = tensor_leaf(DT_F32, f.features->rows, f.features->cols, features);
        f.features = &leaf;
    }
    must(model_generate(&g->m, g->t, &f, 12, NULL, 0, 0, out, NULL, &e), &e);
    for (int i = 0; i < SAMPLES; i++) {
        const struct st_tensor *want = get(g, "generated.%d", i);
        assert_int_equal(out[i].n, want->dim[0]);
        assert_memory_equal(out[i].ids, want->data, want->bytes);
    }
    generation_free(out, SAMPLES);
    free(features);
    empty(g);
}

static void check_all(struct golden *g)
{
    check_logits(g);
    check_generation(g);
    check_training(g);
    close_golden(g);
}

static void test_llava(void **state)
{
    struct golden g;

    (void)state;
    open_golden(&g, "llava");
    check_all(&g);
}

static void test_llama(void **state)
{
    struct golden g;

    (void)state;
    open_golden(&g, "llama");
    check_all(&g);
}

static void test_qwen2(void **state)
{
    struct golden g;

    (void)state;
    open_golden(&g, "qwen2");
    check_all(&g);
}

/* The names that transformers used before 4.52 (here in two shards) and since then. */
static void test_layouts(void **state)
{
    static const char *const dirs[] = {DIR "llava-4.51", DIR "llava-4.52"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct golden g;
        open_from(&g, "llava", dirs[i]);
        check_logits(&g);
        close_golden(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llava),
        cmocka_unit_test(test_llama),
        cmocka_unit_test(test_qwen2),
        cmocka_unit_test(test_layouts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
