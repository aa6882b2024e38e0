/* test_peer.c - this program and the published code of MHA2MLA-VLM compute the same: logits,
 * gradients and greedy tokens of both stages with every strategy and method, learning rates,
 * trained sets. Its checkpoints open here. (MD-SVD: test_peer_svd.c.)
 * tests/data/peer/make_golden.py ran that code, wrote the values, and says what each of them is.
 *
 * Tolerances are 5e-6 of the largest logit and 1e-5 of a gradient's largest value: each side sums
 * fp32 in its own order. Gradients below a thousandth of the largest of all are compared relative
 * to that thousandth: they are sums that cancel. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "convert/rank.h"
#include "convert/transform.h"
#include "model/generate.h"
#include "model/pairs.h"
#include "optim/schedule.h"
#include "tests/peer_golden.h"
#include "tests/tmpdir.h"
#include "train/peft.h"

#include <cjson/cJSON.h>

enum { SAMPLES = 2, NEW_TOKENS = 12, ROPE = 4, PIXELS = 3 * 8 * 8 };

static struct {
    struct st_file file;
    cJSON *json;
    struct tape *t;
    struct sample s[SAMPLES];
    struct batch_buffer b;
    struct tensor pixels;
} g;

static int open_all(void **state)
{
    struct err e = {0};
    char *text;
    size_t len;

    (void)state;
    must(st_open(&g.file, golden_path("golden.safetensors"), &e), &e);
    must(file_read(golden_path("golden.json"), 1 << 20, &text, &len, &e), &e);
    g.json = cJSON_ParseWithLength(text, len);
    g.t = tape_new(&e);
    must(g.t, &e);
    for (int i = 0; i < SAMPLES; i++) {
        const struct st_tensor *ids = golden_tensor(&g.file, "ids.%d", i),
                               *labels = golden_tensor(&g.file, "labels.%d", i);
        g.s[i] = golden_sample(ids->data, ids->dim[0]);
        for (int64_t k = 0; k < g.s[i].n; k++)
            g.s[i].trained[k] = ((const int32_t *)labels->data)[k] >= 0;
    }
    must(batch_fill(&g.b, g.s, SAMPLES, false, &e), &e);
    g.pixels =
        tensor_leaf(DT_F32, 1, PIXELS, (void *)(uintptr_t)golden_tensor(&g.file, "pixels.0")->data);
    free(text);
    return g.json ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    for (int i = 0; i < SAMPLES; i++)
        tiny_sample_free(&g.s[i]);
    batch_free(&g.b);
    tape_free(g.t);
    cJSON_Delete(g.json);
    st_close(&g.file);
    return 0;
}

static cJSON *read_config(const char *dir)
{
    char path[600], *text;
    struct err e = {0};
    size_t len;

    snprintf(path, sizeof path, "%s/config.json", dir);
    must(file_read(path, 1 << 20, &text, &len, &e), &e);
    cJSON *json = cJSON_ParseWithLength(text, len);
    assert_non_null(json);
    free(text);
    return json;
}

static void write_config(const char *dir, const cJSON *json)
{
    char path[600], *text = cJSON_Print(json);
    struct err e = {0};

    snprintf(path, sizeof path, "%s/config.json", dir);
    must(file_write(path, text, strlen(text), &e), &e);
    free(text);
}

/* ---- the same models ---- */

/* `floor`: the least size that differences are relative to, for wanted values close to zero. */
static double distance(const float *want, const float *got, int64_t n, double floor)
{
    double most = 0, d = tiny_distance(want, got, n);

    for (int64_t i = 0; i < n; i++)
        most = fmax(most, fabs((double)want[i]));
    return most > 0 && most < floor ? d * most / floor : d;
}

static void check_logits(const char *name, struct model *m, double *worst)
{
    struct tensor *logits;
    struct err e = {0};

    tape_begin(g.t, false);
    struct forward f = {.batch = &g.b.batch,
                        .features = model_vision(m, g.t, &g.pixels, NULL, g.pixels.rows)};
    logits = model_logits(m, g.t, &f, NULL, 0);
    must(tape_plan(g.t, 0, &e), &e);
    tape_forward(g.t);
    for (int i = 0; i < SAMPLES; i++) {
        const struct st_tensor *want = golden_tensor(&g.file, "%s/logits.%d", name, i);
        double d = distance(want->data, (float *)logits->data + g.b.batch.begin[i] * want->dim[1],
                            (int64_t)st_count(want), 0);
        if (!(d < 5e-6)) fail_msg("%s: logits of sample %d differ by %g", name, i, d);
        *worst = fmax(*worst, d);
    }
}

static void check_generation(const char *name, struct model *m)
{
    struct generation out[SAMPLES];
    struct tensor leaf, *features;
    struct err e = {0};

    tape_begin(g.t, false);
    features = model_vision(m, g.t, &g.pixels, NULL, g.pixels.rows);
    tape_keep(features);
    must(tape_plan(g.t, 0, &e), &e);
    tape_forward(g.t);
    float *values = mem_new((size_t)tensor_count(features), sizeof *values, "features", &e);
    assert_non_null(values);
    memcpy(values, features->data, (size_t)tensor_count(features) * sizeof *values);
    leaf = tensor_leaf(DT_F32, features->rows, features->cols, values);
    struct forward f = {.batch = &g.b.batch, .features = &leaf};
    must(model_generate(&(struct generator){.m = m, .t = g.t, .max_new = NEW_TOKENS}, &f, out, &e),
         &e);
    for (int i = 0; i < SAMPLES; i++) {
        const struct st_tensor *want = golden_tensor(&g.file, "%s/generated.%d", name, i);
        assert_int_equal(out[i].n, want->dim[0]);
        assert_memory_equal(out[i].ids, want->data, want->bytes);
    }
    generation_free(out, SAMPLES);
    free(values);
}

/* Rows row0 .. of the golden gradient that p is a part of; *n is its size, 0 if there is none. */
static const float *wanted_gradient(const char *name, const struct param *p, int64_t *n)
{
    const struct st_tensor *t = golden_tensor(&g.file, "%s/grad.%s", name, p->name);
    const int64_t width = p->ndim == 1 ? 1 : p->t.cols;

    *n = t ? tensor_count(&p->t) : 0;
    if (t) assert_true((p->row0 * width + *n) <= (int64_t)st_count(t));
    return t ? (const float *)t->data + p->row0 * width : NULL;
}

static void check_gradients(const char *name, struct model *m, double *worst)
{
    struct err e = {0};
    struct tensor *loss;
    double most = 0;
    int64_t n, left = 0;

    must(model_train(m, ~0u, &e), &e);
    tape_begin(g.t, true);
    struct forward f = {.batch = &g.b.batch,
                        .features = model_vision(m, g.t, &g.pixels, NULL, g.pixels.rows)};
    loss = model_loss(m, g.t, &f, 1 / (double)g.b.batch.labels);
    must(tape_plan(g.t, 0, &e), &e);
    tape_forward(g.t);
    assert_true(distance(golden_tensor(&g.file, "%s/loss", name)->data, loss->data, 1, 0) < 1e-6);
    tape_backward(g.t, loss);
    for (size_t i = 0; i < g.file.count; i++) {
        const struct st_tensor *t = g.file.tensors + i;
        size_t len = strlen(name);
        if (strncmp(t->name, name, len) != 0 || strncmp(t->name + len, "/grad.", 6) != 0) continue;
        left += (int64_t)st_count(t);
        for (size_t k = 0; k < st_count(t); k++)
            most = fmax(most, fabs((double)((const float *)t->data)[k]));
    }
    assert_true(left > 0);
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        const float *want = wanted_gradient(name, p, &n);
        /* the tower has no RoPE: a key's bias moves all scores alike, its gradient is rounding */
        double floor = strstr(p->name, "k_proj.bias") ? most : 1e-3 * most;
        double d = want ? distance(want, p->t.grad, n, floor) : 0;
        if (!(d < 1e-5)) fail_msg("%s: the gradient of %s differs by %g", name, p->name, d);
        *worst = fmax(*worst, d);
        left -= n;
    }
    assert_int_equal(left, 0); /* every value was compared */
}

static void check_model(const char *name, struct model *m)
{
    double logits = 0, gradients = 0;

    check_logits(name, m, &logits);
    check_generation(name, m);
    check_generation(name, m);
    check_gradients(name, m, &gradients);
    print_message("# %-10s logits %.1e, gradients %.1e\n", name, logits, gradients);
}

/* base with the pairs of a strategy, or for "mkl" those of the rank file. */
static void open_partial(struct model *m, const char *version)
{
    int32_t rank[64], pairs[64];
    enum rank_strategy s;
    struct err e = {0};

    golden_model(m, "base");
    struct rank_dims n = model_rank_dims(m);
    s = rank_strategy_of(version);
    if (rank_strategy_kind(s) == RANK_KIND_FIXED)
        must(rank_fixed(rank, s, &n, ROPE, s == RANK_UNIFORM, &e), &e);
    else
        must(rankfile_read(golden_path("stage1/ranks.pth"), &n, rank, NULL, &e), &e);
    rank_select(pairs, rank, &n, ROPE);
    must(model_to_partial(m, pairs, ROPE, &e), &e);
}

/* Saves the model and opens it again with the strategy that its config.json names: the pairs
 * follow from that alone. */
static void check_fixed(struct model *m, const char *version, const char *dir)
{
    const struct mha2mla_config c = {.partial_rope_version = version,
                                     .rope_dim_for_mla = ROPE,
                                     .uniform_start_point = 1,
                                     .svd_init_method = "none"};
    struct model again;
    struct err e = {0};

    must(hf_config_set_mha2mla(&m->cfg, &c, &e) && model_save(m, dir, DT_F32, false, &e), &e);
    cJSON *json = read_config(dir);
    cJSON_DeleteItemFromObject(cJSON_GetObjectItem(json, "mha2mla"), "rope_pairs");
    write_config(dir, json);
    must(model_open(&again, dir, &e), &e);
    check_model(version, &again);
    cJSON_Delete(json);
    model_close(&again);
}

static void test_partial(void **state)
{
    static const char *const versions[] = {"high", "low", "uniform"};
    struct model m;

    for (int i = 0; i < 3; i++) {
        open_partial(&m, versions[i]);
        check_fixed(&m, versions[i], tmpdir_path(state, versions[i]));
        check_model(versions[i], &m);
        model_close(&m);
    }
    open_partial(&m, "mkl");
    check_model("stage1", &m);
    model_close(&m);
}

/* Sets a case's factors by name: those that its method computes, and the dense parts. */
static void put_factors(const char *name, struct model *m)
{
    struct err e = {0};

    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = &m->params[i];
        if (!strstr(p->name, ".kv_proj")) continue;
        const struct st_tensor *t = golden_tensor(&g.file, "%s/factor.%s", name, p->name);
        assert_non_null(t);
        assert_int_equal(st_count(t), tensor_count(&p->t));
        must(param_own(p, &e), &e);
        memcpy(p->own, t->data, t->bytes);
    }
}

static void to_mla(struct model *m, enum kv_method method, bool decoupled)
{
    static const float zeros[LATENT * 64];
    const struct factors f = {{zeros, zeros}, zeros, zeros, LATENT};
    struct factors factors[LAYERS][MODALITIES] = {{f, f}, {f, f}};
    struct err e = {0};

    must(model_to_mla(m,
                      &(struct to_mla){method, decoupled, LATENT,
                                       (const struct factors(*)[MODALITIES])factors, NULL, NULL,
                                       NULL},
                      &e),
         &e);
}

static void test_mla(void **state)
{
    struct model m;

    (void)state;
    for (int i = 0; i < KV_METHODS; i++) {
        const char *name = kv_methods[i].joint ? "shared" : kv_method_names[i];
        open_partial(&m, "mkl");
        to_mla(&m, (enum kv_method)i, !kv_methods[i].joint);
        put_factors(name, &m);
        check_model(name, &m);
        model_close(&m);
    }
}

/* ---- its checkpoints ---- */

static void same_params(const struct model *a, const struct model *b)
{
    assert_int_equal(a->n_params, b->n_params);
    for (int64_t i = 0; i < a->n_params; i++) {
        assert_string_equal(a->params[i].name, b->params[i].name);
        assert_int_equal(tensor_count(&a->params[i].t), tensor_count(&b->params[i].t));
        assert_memory_equal(a->params[i].t.data, b->params[i].t.data,
                            (size_t)tensor_count(&a->params[i].t) * sizeof(float));
    }
}

/* What the published code wrote opens unchanged, and equals what our conversion makes
 * of the same model. */
static void test_checkpoints(void **state)
{
    struct model m, ours;

    (void)state;
    golden_model(&m, "stage1");
    const struct mha2mla_config *c = &m.cfg.mha2mla;
    assert_int_equal(m.state, ATTN_PARTIAL);
    assert_string_equal(c->partial_rope_version, "mkl");
    assert_int_equal(c->rope_dim_for_mla, ROPE);
    assert_string_equal(c->qk_tensor_path, "ranks.pth");
    assert_string_equal(c->svd_init_method, "none");
    assert_string_equal(c->peft_train, "v4");
    open_partial(&ours, "mkl");
    same_params(&m, &ours);
    check_model("stage1", &m);
    model_close(&m);
    model_close(&ours);

    golden_model(&m, "stage2");
    assert_int_equal(m.state, ATTN_MLA);
    assert_int_equal(m.method, KV_JOINT);
    assert_true(m.decoupled);
    assert_int_equal(m.latent, LATENT);
    assert_string_equal(c->svd_init_method, "joint");
    assert_int_equal(c->low_rank, 4);
    check_model("stage2", &m);
    model_close(&m);
}

static const char *section_text(const cJSON *config, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(cJSON_GetObjectItem(config, "mha2mla"), key));
}

/* A directory that we write contains what the published code opens: its tensors under its names,
 * its settings, the rank file, and for stage 2 the config of stage 1, found through stage1_path. */
static void check_export(const char *from, const char *to)
{
    struct model m, again;
    struct err e = {0};
    char path[600];

    golden_model(&m, from);
    must(model_save(&m, to, DT_F32, false, &e), &e);
    cJSON *theirs = read_config(golden_path(from)), *ours = read_config(to);
    cJSON *section = cJSON_GetObjectItem(ours, "mha2mla");
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItem(theirs, "mha2mla"))
    {
        const bool rewritten = strcmp(item->string, "qk_tensor_path") == 0 ||
                               strcmp(item->string, "stage1_path") == 0 ||
                               strcmp(item->string, "svd_init_weight_path") == 0;
        if (!rewritten)
            assert_true(cJSON_Compare(item, cJSON_GetObjectItem(section, item->string), true));
    }
    if (m.state == ATTN_MLA) {
        snprintf(path, sizeof path, "%s/%s", to, section_text(ours, "stage1_path"));
        cJSON *stage1 = read_config(path);
        assert_string_equal(section_text(stage1, "svd_init_method"), "none");
        assert_string_equal(section_text(stage1, "partial_rope_version"), "mkl");
        assert_string_equal(section_text(stage1, "qk_tensor_path"), "rope_ranks.pth");
        cJSON_Delete(stage1);
        assert_string_equal(section_text(ours, "svd_init_weight_path"), ""); /* false, in Python */
    } else {
        assert_null(section_text(ours, "stage1_path")); /* its presence would mean stage 2 */
    }
    /* Without our list of pairs they are read from the rank file, although its path has changed. */
    cJSON_DeleteItemFromObject(section, "rope_pairs");
    cJSON_SetValuestring(cJSON_GetObjectItem(section, "qk_tensor_path"), "mkl/rope_ranks.pth");
    write_config(to, ours);
    must(model_open(&again, to, &e), &e);
    assert_int_equal(again.files.count, m.files.count);
    for (size_t i = 0; i < m.files.count; i++)
        assert_non_null(st_model_find(&again.files, m.files.tensors[i]->name));
    same_params(&m, &again);
    assert_memory_equal(again.pairs, m.pairs,
                        (size_t)(LAYERS * m.cfg.text.num_key_value_heads * ROPE / 2) *
                            sizeof *m.pairs);
    model_close(&again);
    cJSON_DeleteItemFromObject(section, "qk_tensor_path");
    write_config(to, ours);
    assert_false(model_open(&again, to, &e));
    assert_non_null(strstr(e.msg, "rope_pairs: missing, and so is qk_tensor_path"));
    cJSON_Delete(theirs);
    cJSON_Delete(ours);
    model_close(&m);
}

static void test_export(void **state)
{
    check_export("stage1", tmpdir_path(state, "stage1"));
    check_export("stage2", tmpdir_path(state, "stage2"));
}

/* ---- training ---- */

static void test_learning_rates(void **state)
{
    static const char *const styles[] = {DECAY_NAMES};
    const cJSON *row, *lr;
    int rows = 0;

    (void)state;
    cJSON_ArrayForEach(row, cJSON_GetObjectItem(g.json, "learning_rates"))
    {
        struct schedule s = {.peak = 2e-3, .min_lr = 1e-5};
        s.warmup = cJSON_GetObjectItem(row, "warmup")->valuedouble;
        s.decay = cJSON_GetObjectItem(row, "decay")->valuedouble;
        s.steps = (int64_t)cJSON_GetObjectItem(row, "steps")->valuedouble;
        while (strcmp(styles[s.style], cJSON_GetObjectItem(row, "style")->valuestring) != 0)
            s.style++;
        int64_t step = 0;
        cJSON_ArrayForEach(lr, cJSON_GetObjectItem(row, "lr"))
        {
            double rate = schedule_lr(&s, step);
            if (!(fabs(rate - lr->valuedouble) <= 1e-12 * s.peak))
                fail_msg("%d steps, warm-up %g, decay %g: step %d has rate %g, theirs has %g",
                         (int)s.steps, s.warmup, s.decay, (int)step, rate, lr->valuedouble);
            step++;
        }
        assert_int_equal(step, s.steps);
        rows++;
    }
    assert_int_equal(rows, 10);
}

static bool in_list(const cJSON *list, const char *name)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, list) if (strcmp(item->valuestring, name) == 0) return true;
    return false;
}

/* The published sets v3, v5 and v6 train the norms too, and the published configs the projector. */
static void test_trained_sets(void **state)
{
    static const char *const names[] = {PEFT_NAMES};
    static const char *const ours[][2] = {
        {"v2", "v2"}, {"v3", "v3+norms"}, {"v4", "v4"}, {"v5", "v5+norms"}, {"v6", "v6+norms"}};
    const cJSON *sets = cJSON_GetObjectItem(g.json, "trained");
    struct err e = {0};

    (void)state;
    for (int stage = 1; stage <= 2; stage++)
        for (int i = 0; i < 5; i++) {
            struct model m;
            char key[32];
            int set = 0, found = 0;
            snprintf(key, sizeof key, "stage%d %s", stage, ours[i][0]);
            const cJSON *list = cJSON_GetObjectItem(sets, key);
            assert_non_null(list);
            while (strcmp(names[set], ours[i][1]) != 0)
                set++;
            golden_model(&m, stage == 1 ? "stage1" : "stage2");
            must(model_train(&m, peft_kinds(set, true), &e), &e);
            for (int64_t k = 0; k < m.n_params; k++) {
                const struct param *p = &m.params[k];
                if (p->t.needs_grad != in_list(list, p->name))
                    fail_msg("%s: %s is%s trained here", key, p->name,
                             p->t.needs_grad ? "" : " not");
                found += p->t.needs_grad && p->row0 == 0;
            }
            assert_int_equal(found, cJSON_GetArraySize(list));
            model_close(&m);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_partial),
        cmocka_unit_test(test_mla),
        cmocka_unit_test(test_checkpoints),
        tmpdir_test(test_export),
        cmocka_unit_test(test_learning_rates),
        cmocka_unit_test(test_trained_sets),
    };

    return cmocka_run_group_tests_name("peer", tests, open_all, close_all);
}
