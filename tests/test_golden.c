/* test_golden.c - small random models saved by transformers compute what transformers computed:
 * vision features, hidden states, logits, loss, the gradient of every parameter, five AdamW steps,
 * greedy generation. tests/data/models/make_golden.py made the values and describes each. Each test
 * prints the largest differences, relative to the largest reference value. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/generate.h"
#include "model/config/hfgeneration.h"
#include "optim/adamw.h"
#include "optim/schedule.h"
#include "tests/tiny_model.h"
#include "tests/golden_set.h"
#include "tests/tmpdir.h"

#include <dirent.h>

#define DIR_OF(name) "tests/data/models/" name

enum { STEPS = 5, NEW = 12 };

enum quantity { FEATURES, PLACES_OF, HIDDEN, LOGITS, LOSS, GRADIENTS, LOSSES, TRAINED, QUANTITIES };

/* Both sides sum a few hundred fp32 products in different orders, over a tower and two layers: from
 * half a unit of rounding (6e-8) for each operation come 1e-6 behind the tower and 3e-6 behind the
 * layers. The way back from the loss to the tower's first layer is twice as long. A loss is a mean
 * of many, and has two units of rounding. AdamW's step does not shrink where a gradient goes
 * through zero, whose size is rounding then: 2e-5, a hundredth of a step, is for single weights,
 * and `most_weights` for all but one in 500. */
static const double tolerance[QUANTITIES] = {2e-6, 2e-6, 5e-6, 5e-6, 3e-7, 2e-5, 5e-6, 2e-5};
static const double most_weights = 5e-6;

struct golden {
    const char *name;
    struct st_file file;
    struct model m;
    struct tape *t;
    int n, number[GOLDEN_SAMPLES]; /* numbers of the samples in the file */
    struct golden_set set;         /* its pictures: only where they differ in size; else zeroed */
    double most[QUANTITIES];       /* largest difference; -1: not compared */
    int tokens;                    /* number generated as expected */
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

/* ---- a model and its samples ---- */

/* Fills in the samples, or their prompts, and the inputs of their pictures. */
static void fill(struct golden *g, bool prompt)
{
    const char *what = prompt ? "prompt" : "ids";

    for (int i = 0; i < g->n; i++)
        golden_set_any(&g->set, &g->m, &g->file, what, g->number[i], NEW);
    golden_set_fill(&g->set);
}

/* The model in `dir` with the golden values in `file`. */
static void open_golden(struct golden *g, const char *name, const char *file, const char *dir)
{
    struct err e = {0};

    memset(g, 0, sizeof *g);
    g->name = name;
    for (int i = 0; i < QUANTITIES; i++)
        g->most[i] = -1;
    must(st_open(&g->file, file, &e) && model_open(&g->m, dir, &e), &e);
    for (int i = 0; i < GOLDEN_SAMPLES; i++)
        if (get(g, "ids.%d", i)) g->number[g->n++] = i;
    g->t = tape_new(&e);
    must(g->t, &e);
}

/* Prints a row of the table at the end. */
static void close_golden(struct golden *g)
{
    char row[400];
    const char *end = strstr(g->name, ".safetensors");
    int n = snprintf(row, sizeof row, "| %.*s |", (int)(strlen(g->name) - (end ? strlen(end) : 0)),
                     g->name);

    for (int i = 0; i < QUANTITIES; i++)
        n += g->most[i] < 0 ? snprintf(row + n, sizeof row - (size_t)n, " |")
                            : snprintf(row + n, sizeof row - (size_t)n, " %.1e |", g->most[i]);
    print_message("%s %d of %d |\n", row, g->tokens, 2 * g->n * NEW);
    golden_set_close(&g->set);
    tape_free(g->t);
    model_close(&g->m);
    st_close(&g->file);
}

/* ---- comparing ---- */

/* `floor` replaces the largest value if that is smaller. */
static void same_values(struct golden *g, enum quantity q, const char *what, const float *want,
                        const float *got, int64_t n, double floor)
{
    double d = tiny_distance(want, got, n), most = tiny_largest(want, n);

    if (most > 0 && most < floor) d *= most / floor;
    if (!(d < tolerance[q])) fail_msg("%s: %s differs by %g", g->name, what, d);
    g->most[q] = fmax(g->most[q], d);
}

static void same(struct golden *g, enum quantity q, const char *what, const float *got,
                 const struct st_tensor *want)
{
    if (!want) fail_msg("%s: no golden %s", g->name, what);
    same_values(g, q, what, want->data, got, (int64_t)st_count(want), 0);
}

/* Each layer's hidden states, as its attention sees them: after the layer's first norm. */
static void check_hidden(struct golden *g, struct tensor *const x[])
{
    for (int64_t l = 0; l < g->m.cfg.text.num_hidden_layers; l++) {
        const struct st_tensor *h = get(g, "hidden.%d", (int)l);
        const float *norm = tensor_real(&g->m.layers[l].norm1->t);
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
                want[i * d + j] = (float)((double)row[j] / rms) * norm[j];
        }
        same_values(g, HIDDEN, "a layer's input", want, x[l]->data, (int64_t)st_count(h), 0);
        free(want);
    }
}

/* Compares the embeddings of the rows filled by pictures; and the tower's features, if they are
 * stored as in transformers. */
static void check_pictures(struct golden *g, const struct tensor *places,
                           const struct tensor *features)
{
    const float *at = places->data, *row = features->data;

    for (int i = 0; i < g->n; i++) {
        const struct st_tensor *list = get(g, "pictures.%d", g->number[i]);
        for (int64_t k = 0; list && k < list->dim[0]; k++) {
            int picture = ((const int32_t *)list->data)[k];
            const struct st_tensor *packed = get(g, "packed.%d", picture);
            const struct st_tensor *merged = get(g, "merged.%d", picture);
            const struct st_tensor *want = get(g, "features.%d", picture);
            same(g, PLACES_OF, "a picture's places", at, packed ? packed : merged);
            if (merged) same(g, FEATURES, "a picture's features", row, want);
            at += g->set.s[i].shape[k].tokens * places->cols;
            row += g->set.s[i].shape[k].rows * features->cols;
        }
    }
}

/* All samples in one batch, with their different lengths. */
static void check_logits(struct golden *g)
{
    int64_t V = g->m.cfg.text.vocab_size, L = g->m.cfg.text.num_hidden_layers, picture = 0;
    struct taps taps = {.x = calloc((size_t)L, sizeof *taps.x)};
    struct err e = {0};

    assert_non_null(taps.x);
    fill(g, false);
    for (int64_t l = 0; l < L; l++) /* check_hidden's reference may be 16 bits in the file */
        must(param_own(g->m.layers[l].norm1, &e), &e);
    tape_begin(g->t, false);
    struct forward f = golden_set_forward(&g->set, &g->m, g->t);
    struct tensor *places = NULL;
    if (f.features) {
        tape_keep(f.features);
        tape_keep(places = g->m.cfg.family->project(&g->m, g->t, &f));
    }
    f.taps = &taps;
    struct tensor *logits = model_logits(&g->m, g->t, &f, NULL, 0);
    must(tape_plan(g->t, 0, &e), &e);
    tape_forward(g->t);
    check_hidden(g, taps.x);
    for (int i = 0; i < g->n; i++) {
        const struct st_tensor *features = get(g, "features.%d", g->number[i]);
        if (features && !g->set.pictures.processor.kind)
            same(g, FEATURES, "a picture's features",
                 (float *)f.features->data + picture++ * (int64_t)st_count(features), features);
        same(g, LOGITS, "a sample's logits", (float *)logits->data + g->set.b.batch.begin[i] * V,
             get(g, "logits.%d", g->number[i]));
    }
    if (g->set.pictures.processor.kind) check_pictures(g, places, f.features);
    free(taps.x);
    golden_set_empty(&g->set);
}

/* ---- training ---- */

static struct tensor *loss_graph(struct golden *g, struct err *e)
{
    tape_begin(g->t, true);
    struct forward f = golden_set_forward(&g->set, &g->m, g->t);
    struct tensor *loss = model_loss(&g->m, g->t, &f, 1 / (double)g->set.b.batch.labels);
    must(tape_plan(g->t, 0, e), e);
    tape_forward(g->t);
    tape_backward(g->t, loss);
    return loss;
}

/* Without RoPE, a key bias moves all scores of a query alike, which softmax ignores: its gradient
 * is pure rounding, which AdamW turns into full steps. */
static bool is_noise(const char *name)
{
    size_t n = strlen(name), k = strlen("k_proj.bias");

    return strncmp(name, "vision_tower", 12) == 0 && n > k &&
           strcmp(name + n - k, "k_proj.bias") == 0;
}

/* Values per row. */
static int64_t width(const struct param *p)
{
    return p->ndim == 1 ? 1 : p->t.cols;
}

/* A tensor's values from a parameter's first row on, as fp32. */
static const float *values_of(const struct st_tensor *t, const struct param *p)
{
    return (const float *)t->data + p->row0 * width(p);
}

/* Compares trained values with the file's. AdamW takes a full step for any gradient, also for one
 * near zero whose sign is rounding: a value whose gradient is within the gradients' own tolerance
 * is not compared. */
static void same_trained(struct golden *g, const struct param *p, const struct st_tensor *want,
                         double most)
{
    const float *grad = values_of(get(g, "grad.%s", p->name), p), *value = values_of(want, p);
    int64_t n = tensor_count(&p->t), far = 0;
    float *got = calloc((size_t)n, sizeof *got);
    double bound = most_weights * tiny_largest(value, n);

    assert_non_null(got);
    for (int64_t i = 0; i < n; i++) {
        double size = fabs((double)grad[i]);
        got[i] =
            size > 0 && size < tolerance[GRADIENTS] * most ? value[i] : ((const float *)p->own)[i];
    }
    for (int64_t i = 0; i < n; i++)
        far += fabs((double)got[i] - (double)value[i]) > bound;
    if (far > 1 + n / 500) fail_msg("%s: %d weights of %s differ", g->name, (int)far, p->name);
    same_values(g, TRAINED, p->name, value, got, n, 0);
    free(got);
}

/* Compares gradients or trained values with the file's, by name. Parameters without a gradient in
 * transformers (layers of the tower that nobody reads) have none here. A tiny gradient is a sum
 * that cancels: it is compared relative to a thousandth of the largest gradient of all. */
static void compare_params(struct golden *g, bool gradients)
{
    const char *prefix = gradients ? "grad." : "after.";
    double most = 0; /* of the gradients */
    int64_t found = 0;

    for (size_t i = 0; i < g->file.count; i++) {
        const struct st_tensor *want = &g->file.tensors[i];
        if (strncmp(want->name, "grad.", 5) == 0)
            most = fmax(most, tiny_largest(want->data, (int64_t)st_count(want)));
        found -= strncmp(want->name, prefix, strlen(prefix)) == 0;
    }
    for (int64_t i = 0; i < g->m.n_params; i++) {
        const struct param *p = &g->m.params[i];
        const struct st_tensor *want = get(g, "%s%s", prefix, p->name);
        int64_t n = tensor_count(&p->t);
        if (want) assert_true(st_count(want) >= (size_t)(p->row0 * width(p) + n));
        if (gradients && (!want || is_noise(p->name)))
            assert_true(tiny_largest(p->t.grad, n) <= (want ? 1e-6 * most : 0));
        else if (gradients)
            same_values(g, GRADIENTS, p->name, values_of(want, p), p->t.grad, n, 1e-3 * most);
        else if (want && !is_noise(p->name))
            same_trained(g, p, want, most);
        found += want && p->row0 == 0;
    }
    assert_int_equal(found, 0);
}

static void check_gradients(struct golden *g)
{
    struct err e = {0};

    must(model_train(&g->m, ~0u, &e), &e);
    same(g, LOSS, "loss", loss_graph(g, &e)->data, get(g, "loss"));
    compare_params(g, true);
}

static uint64_t trained; /* bit i: a model of families[i] was */

static void check_training(struct golden *g)
{
    static const struct schedule schedule = {
        .peak = 2e-3, .warmup = 0.4, .decay = 0.4, .style = DECAY_1_SQRT, .steps = STEPS};
    const float *lr = get(g, "lr")->data;
    struct tensor **params = calloc((size_t)g->m.n_params, sizeof(struct tensor *));
    struct adamw opt;
    struct err e = {0};
    float losses[STEPS];

    for (int i = 0; families[i]; i++)
        if (families[i] == g->m.cfg.family) trained |= UINT64_C(1) << i;
    assert_non_null(params);
    fill(g, false);
    check_gradients(g);
    must(model_train(&g->m, ~0u, &e), &e); /* zeroes the gradients */
    for (int64_t i = 0; i < g->m.n_params; i++)
        params[i] = &g->m.params[i].t;
    must(adamw_init(&opt, params, NULL, g->m.n_params, MOMENT_F32, &e), &e);
    opt.beta2 = 0.95;
    opt.weight_decay = 0.1;
    for (int64_t step = 0; step < STEPS; step++) {
        losses[step] = *(float *)loss_graph(g, &e)->data;
        double norm = sqrt(adamw_grad_squares(&opt)), rate = schedule_lr(&schedule, step);
        assert_true(fabs(rate - (double)lr[step]) < 1e-9);
        adamw_step(&opt, rate, norm > 1 ? 1 / norm : 1);
    }
    same(g, LOSSES, "losses", losses, get(g, "losses"));
    compare_params(g, false);
    adamw_free(&opt);
    free(params);
    golden_set_empty(&g->set);
}

/* ---- generation ---- */

static void same_tokens(struct golden *g, const char *what, int n, const int32_t *ids)
{
    const struct st_tensor *want = get(g, "%s.%d", what, n);

    assert_int_equal(NEW, want->dim[0]);
    for (int i = 0; i < NEW; i++, g->tokens++)
        if (ids[i] != ((const int32_t *)want->data)[i])
            fail_msg("%s: token %d of %s.%d is %d", g->name, i, what, n, ids[i]);
}

/* With the cache, for all prompts at once. */
static void generate_cached(struct golden *g, const struct forward *f)
{
    struct generation out[GOLDEN_SAMPLES];
    struct err e = {0};

    must(model_generate(&(struct generator){.m = &g->m, .t = g->t, .max_new = NEW}, f, out, &e),
         &e);
    for (int i = 0; i < g->n; i++) {
        assert_int_equal(out[i].n, NEW);
        same_tokens(g, "generated", g->number[i], out[i].ids);
    }
    generation_free(out, g->n);
}

/* Without it: the complete samples again for each token. */
static void generate_uncached(struct golden *g, struct forward *f)
{
    int64_t V = g->m.cfg.text.vocab_size;
    struct err e = {0};

    for (int k = 0; k < NEW; k++) {
        float *logits = tiny_logits(&g->m, g->t, f);
        for (int i = 0; i < g->n; i++) {
            const float *row = logits + (g->set.b.batch.begin[i + 1] - 1) * V;
            struct sample *s = &g->set.s[i];
            int32_t best = 0;
            for (int32_t v = 1; v < V; v++)
                if (row[v] > row[best]) best = v;
            s->ids[s->n++] = best;
        }
        free(logits);
        must(batch_fill(&g->set.b, g->set.s, g->n, false, &e), &e);
    }
    for (int i = 0; i < g->n; i++)
        same_tokens(g, "uncached", g->number[i], g->set.s[i].ids + g->set.s[i].n - NEW);
}

static void check_generation(struct golden *g)
{
    struct golden_features features;

    fill(g, true);
    struct forward f = golden_set_features(&g->set, &g->m, g->t, &features); /* the tape restarts */
    generate_cached(g, &f);
    generate_uncached(g, &f);
    free(features.values);
    golden_set_empty(&g->set);
}

/* Until an end token of generation_config.json, with which the golden answer ends. */
static void check_stops(struct golden *g, const char *dir)
{
    struct generation out[GOLDEN_SAMPLES];
    struct hf_generation ends;
    int32_t stop[HF_MAX_EOS];
    struct err e = {0};

    fill(g, true);
    must(hf_generation_read(&ends, dir, &g->m.cfg, &e), &e);
    for (int i = 0; i < ends.eos_count; i++)
        stop[i] = (int32_t)ends.eos_token_id[i];
    struct forward f = {.batch = &g->set.b.batch};
    struct generator how = {
        .m = &g->m, .t = g->t, .max_new = NEW, .stop = stop, .n_stop = ends.eos_count};
    must(model_generate(&how, &f, out, &e), &e);
    for (int i = 0; i < g->n; i++) {
        const struct st_tensor *want = get(g, "stopped.%d", g->number[i]);
        const int32_t *ids = want->data;
        int64_t n = want->dim[0] - (want->dim[0] < NEW); /* without the end token */
        assert_int_equal(out[i].n, n);
        assert_int_equal(out[i].stopped, n < want->dim[0]);
        assert_memory_equal(out[i].ids, ids, (size_t)n * sizeof *ids);
    }
    hf_generation_free(&ends);
    generation_free(out, g->n);
    golden_set_empty(&g->set);
}

/* ---- the tests ---- */

static void test_models(void **state)
{
    static const struct {
        const char *name, *file, *dir;
        bool trained;
    } rows[] = {
#define MODEL(values, name) name, DIR_OF(values "/golden.safetensors"), DIR_OF(name)
        {MODEL("llava", "llava"), true},
        {MODEL("llava-qwen2", "llava-qwen2"), true}, /* in shards */
        {MODEL("llama", "llama"), true},
        {MODEL("llama-biases", "llama-biases"), true},
        {MODEL("smollm2", "smollm2"), true},
        {MODEL("qwen2", "qwen2"), true},
        {MODEL("llava-features", "llava-features"), true}, /* of two layers; padding, dropout */
        {MODEL("llama-bf16", "llama-bf16"), false},
        {MODEL("mistral", "mistral"), true}, /* its own head_dim */
        {MODEL("llava-fp16", "llava-fp16"), false},
        /* the weights as saved by transformers 4.51, and with a state dict's names since 4.52 */
        {MODEL("llava", "llava-4.51"), false},
        {MODEL("llava", "llava-4.52"), false},
#undef MODEL
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct golden g;
        open_golden(&g, rows[i].name, rows[i].file, rows[i].dir);
        check_logits(&g);
        check_generation(&g);
        if (rows[i].trained) check_training(&g);
        close_golden(&g);
    }
}

/* Models whose pictures differ in size: the directory's processor computes each one first. */
static void test_sizes(void **state)
{
#define VLM(name) "tests/data/vlm/" name
    static const struct {
        const char *name, *pictures;
        bool trained;
    } rows[] = {
        {"next-llama", VLM("pictures-next.safetensors"), true},
        {"next-mistral", VLM("pictures-next.safetensors"), true},
        {"next-qwen2", VLM("pictures-next.safetensors"), true},
        {"q25", VLM("pictures-qwen.safetensors"), true},
        {"q25-wide", VLM("pictures-qwen.safetensors"), true},
        {"q25-tied", VLM("pictures-qwen.safetensors"), true},
        {"q2", VLM("pictures-qwen.safetensors"), true},
        {"q2-tied", VLM("pictures-qwen.safetensors"), true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char dir[200], file[300];
        struct golden g;
        snprintf(dir, sizeof dir, VLM("%s"), rows[i].name);
        snprintf(file, sizeof file, "%s/golden.safetensors", dir);
        open_golden(&g, rows[i].name, file, dir);
        golden_set_open(&g.set, &g.m, dir, rows[i].pictures);
        check_logits(&g);
        check_generation(&g);
        if (rows[i].trained) check_training(&g);
        assert_true(g.set.pictures.tokens > 0);
        close_golden(&g);
    }
#undef VLM
}

/* The golden file, and a model of its own (golden_variant). */
static bool open_variant(struct golden *g, void *const *state, const char *models, const char *name,
                         char dir[1200])
{
    bool stops = golden_variant(*state, models, name, dir);
    char values[300];

    snprintf(values, sizeof values, "%s/variants/%s", models, name);
    open_golden(g, name, values, dir);
    return stops;
}

/* A model's weights with the config.json in the golden file: other layers and activations of the
 * tower, other kinds of RoPE, in the spelling of older and newer files; windows that no text
 * exceeds; a padding row; end tokens in a separate file. */
static void check_variant(void *const *state, const char *name)
{
    char dir[1200];
    struct golden g;
    bool stops = open_variant(&g, state, "tests/data/models", name, dir);

    check_logits(&g);
    check_generation(&g);
    if (stops) check_stops(&g, dir);
    if (get(&g, "loss")) {
        fill(&g, false);
        check_gradients(&g);
        golden_set_empty(&g.set);
    }
    close_golden(&g);
}

/* Qwen2.5-VL's tower with windows of one cell, with windows larger than any picture, with none of
 * its blocks over whole pictures, and with all of them. */
static void check_windows(void *const *state, const char *name)
{
    char dir[1200];
    struct golden g;

    open_variant(&g, state, "tests/data/vlm", name, dir);
    golden_set_open(&g.set, &g.m, "tests/data/vlm/q25", "tests/data/vlm/pictures-qwen.safetensors");
    check_logits(&g);
    check_generation(&g);
    assert_true(g.set.pictures.tokens > 0);
    close_golden(&g);
}

/* Runs check on every file there, and returns how many there were. */
static int each_variant(void *const *state, const char *in,
                        void (*check)(void *const *state, const char *name))
{
    DIR *dir = opendir(in);
    int n = 0;

    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.') continue;
        check(state, d->d_name);
        n++;
    }
    closedir(dir);
    return n;
}

static void test_variants(void **state)
{
    assert_int_equal(each_variant(state, DIR_OF("variants"), check_variant), 37);
}

static void test_windows(void **state)
{
    assert_int_equal(each_variant(state, "tests/data/vlm/variants", check_windows), 4);
}

/* Every row of the table had a model of which logits, gradients and tokens were compared above. */
static void test_families(void **state)
{
    (void)state;
    for (int i = 0; families[i]; i++)
        if (!(trained >> i & 1)) fail_msg("%s has no golden model", families[i]->model_type);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models), cmocka_unit_test(test_sizes),    tmpdir_test(test_variants),
        tmpdir_test(test_windows),     cmocka_unit_test(test_families),
    };

    print_message(
        "| model | features | places | hidden states | logits | loss | gradients | 5 losses | "
        "5 AdamW steps | greedy tokens |\n");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
