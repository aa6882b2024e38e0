/* test_deepseek.c - a converted text model written as a DeepseekV3ForCausalLM computes the same:
 * its files, read by a decoder of that class in double precision and plain loops, give our logits.
 * So do all frequencies, biases and shapes that have that form; what has none is refused,
 * and nothing is left.
 *
 * tests/export/deepseek.py opens the same exports in transformers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "model/deepseek.h"
#include "tests/golden_set.h"
#include "tests/program.h"
#include "tests/tiny_convert.h"
#include "tests/tiny_cross.h"
#include "tests/tmpdir.h"

#include <cjson/cJSON.h>
#include <math.h>

#define MODELS "tests/data/models"

enum { MOST_T = 64, MOST_D = 64, MOST_WIDE = 4 * CROSS_MOST * 8 };

/* ---- a decoder of that class ---- */

/* The export: [K] numbers of config.json, and its tensors. */
struct deep {
    cJSON *config;
    struct st_model files;
    int64_t d, L, H, r, dc, R, dv, V;
    double eps;
};

static double number(const cJSON *o, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, key);

    if (!cJSON_IsNumber(v)) fail_msg("%s: not a number", key);
    return v->valuedouble;
}

static void deep_open(struct deep *x, const char *dir)
{
    char path[1200];
    struct err e = {0};

    snprintf(path, sizeof path, "%s/config.json", dir);
    char *text = slurp(path, NULL);
    cJSON *c = x->config = cJSON_Parse(text);
    free(text);
    assert_non_null(c);
    must(st_model_open(&x->files, dir, &e), &e);
    x->d = (int64_t)number(c, "hidden_size");
    x->L = (int64_t)number(c, "num_hidden_layers");
    x->H = (int64_t)number(c, "num_attention_heads");
    x->r = (int64_t)number(c, "kv_lora_rank");
    x->dc = (int64_t)number(c, "qk_nope_head_dim");
    x->R = (int64_t)number(c, "qk_rope_head_dim");
    x->dv = (int64_t)number(c, "v_head_dim");
    x->V = (int64_t)number(c, "vocab_size");
    x->eps = number(c, "rms_norm_eps");
    assert_true(x->d <= MOST_D && number(c, "first_k_dense_replace") == (double)x->L);
    assert_true(x->H * (x->dc + x->R) <= MOST_WIDE && x->H * (x->dc + x->dv) <= MOST_WIDE);
}

static void deep_close(struct deep *x)
{
    cJSON_Delete(x->config);
    st_model_close(&x->files);
}

/* Values of a tensor of that shape; the caller frees them. cols 0: a vector. */
static float *weight(const struct deep *x, const char *name, int64_t rows, int64_t cols)
{
    const struct st_tensor *t = st_model_find(&x->files, name);
    const size_t n = (size_t)(rows * (cols ? cols : 1));
    float *w = malloc(n * sizeof *w);
    struct err e = {0};

    if (!t || !w) fail_msg("%s: missing", name);
    assert_int_equal(t->ndim, cols ? 2 : 1);
    assert_int_equal(t->dim[0], rows);
    if (cols) assert_int_equal(t->dim[1], cols);
    must(st_read_f32(t, 0, n, w, &e), &e);
    return w;
}

static float *layer_weight(const struct deep *x, int64_t l, const char *what, int64_t rows,
                           int64_t cols)
{
    char name[100];

    snprintf(name, sizeof name, "model.layers.%d.%s.weight", (int)l, what);
    return weight(x, name, rows, cols);
}

static void product(double *y, const float *w, const double *x, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++) {
        y[i] = 0;
        for (int64_t k = 0; k < cols; k++)
            y[i] += (double)w[i * cols + k] * x[k];
    }
}

static void norm(double *y, const float *w, const double *x, int64_t n, double eps)
{
    double sum = 0;

    for (int64_t k = 0; k < n; k++)
        sum += x[k] * x[k];
    for (int64_t k = 0; k < n; k++)
        y[k] = x[k] * (double)w[k] / sqrt(sum / (double)n + eps);
}

/* x [R], whose pairs are the dims 2i and 2i + 1, turned for a position. */
static void turn(const struct deep *x, double *v, int64_t position)
{
    const cJSON *rope = cJSON_GetObjectItemCaseSensitive(x->config, "rope_scaling");
    const cJSON *factors = cJSON_GetObjectItemCaseSensitive(rope, "short_factor");
    const double theta = number(x->config, "rope_theta");

    assert_string_equal(cJSON_GetObjectItem(rope, "rope_type")->valuestring, "longrope");
    assert_true(cJSON_Compare(factors, cJSON_GetObjectItem(rope, "long_factor"), true));
    assert_true(number(rope, "attention_factor") == 1);
    assert_int_equal(cJSON_GetArraySize(factors), x->R / 2);
    for (int64_t i = 0; i < x->R / 2; i++) {
        const double f = cJSON_GetArrayItem(factors, (int)i)->valuedouble *
                         pow(theta, 2 * (double)i / (double)x->R);
        const double cs = cos((double)position / f), sn = sin((double)position / f);
        const double a = v[2 * i], b = v[2 * i + 1];
        v[2 * i] = a * cs - b * sn;
        v[2 * i + 1] = b * cs + a * sn;
    }
}

/* Of one layer for T tokens: what the attention needs, from normalised inputs h [T, d]. */
struct attended {
    double q[MOST_T][MOST_WIDE], kv[MOST_T][MOST_WIDE], k_r[MOST_T][MOST_WIDE];
};

static void project(const struct deep *x, int64_t l, double (*h)[MOST_D], int64_t T,
                    struct attended *a)
{
    const int64_t dq = x->dc + x->R, both = x->dc + x->dv;
    float *wq = layer_weight(x, l, "self_attn.q_proj", x->H * dq, x->d);
    float *wa = layer_weight(x, l, "self_attn.kv_a_proj_with_mqa", x->r + x->R, x->d);
    float *wn = layer_weight(x, l, "self_attn.kv_a_layernorm", x->r, 0);
    float *wb = layer_weight(x, l, "self_attn.kv_b_proj", x->H * both, x->r);
    double c[MOST_WIDE];

    for (int64_t t = 0; t < T; t++) {
        product(a->q[t], wq, h[t], x->H * dq, x->d);
        for (int64_t n = 0; n < x->H; n++)
            turn(x, a->q[t] + n * dq + x->dc, t);
        product(c, wa, h[t], x->r + x->R, x->d);
        memcpy(a->k_r[t], c + x->r, (size_t)x->R * sizeof *c);
        turn(x, a->k_r[t], t);
        norm(c, wn, c, x->r, (double)1e-6f); /* that class's own eps */
        product(a->kv[t], wb, c, x->H * both, x->r);
    }
    free(wq);
    free(wa);
    free(wn);
    free(wb);
}

/* o [dv] of head n for query t. */
static void attend(const struct deep *x, const struct attended *a, int64_t t, int64_t n, double *o)
{
    const int64_t dq = x->dc + x->R, both = x->dc + x->dv;
    const double *q = a->q[t] + n * dq;
    double p[MOST_T], sum = 0;

    for (int64_t s = 0; s <= t; s++) {
        double score = 0;
        for (int64_t k = 0; k < x->dc; k++)
            score += q[k] * a->kv[s][n * both + k];
        for (int64_t k = 0; k < x->R; k++)
            score += q[x->dc + k] * a->k_r[s][k];
        sum += p[s] = exp(score / sqrt((double)dq));
    }
    for (int64_t k = 0; k < x->dv; k++) {
        o[k] = 0;
        for (int64_t s = 0; s <= t; s++)
            o[k] += p[s] / sum * a->kv[s][n * both + x->dc + k];
    }
}

/* h [T, d] += the MLP of its norm. */
static void mlp(const struct deep *x, int64_t l, double (*h)[MOST_D], int64_t T)
{
    const int64_t wide = (int64_t)number(x->config, "intermediate_size");
    float *wn = layer_weight(x, l, "post_attention_layernorm", x->d, 0);
    float *wg = layer_weight(x, l, "mlp.gate_proj", wide, x->d);
    float *wu = layer_weight(x, l, "mlp.up_proj", wide, x->d);
    float *wd = layer_weight(x, l, "mlp.down_proj", x->d, wide);
    double in[MOST_D], gate[MOST_WIDE], up[MOST_WIDE], out[MOST_D];

    assert_true(wide <= MOST_WIDE);
    for (int64_t t = 0; t < T; t++) {
        norm(in, wn, h[t], x->d, x->eps);
        product(gate, wg, in, wide, x->d);
        product(up, wu, in, wide, x->d);
        for (int64_t k = 0; k < wide; k++)
            up[k] *= gate[k] / (1 + exp(-gate[k]));
        product(out, wd, up, x->d, wide);
        for (int64_t k = 0; k < x->d; k++)
            h[t][k] += out[k];
    }
    free(wn);
    free(wg);
    free(wu);
    free(wd);
}

static void attention(const struct deep *x, int64_t l, double (*h)[MOST_D], int64_t T)
{
    float *wn = layer_weight(x, l, "input_layernorm", x->d, 0);
    float *wo = layer_weight(x, l, "self_attn.o_proj", x->d, x->H * x->dv);
    struct attended *a = malloc(sizeof *a);
    double(*in)[MOST_D] = malloc((size_t)T * sizeof *in), o[MOST_WIDE], out[MOST_D];

    assert_true(a && in);
    for (int64_t t = 0; t < T; t++)
        norm(in[t], wn, h[t], x->d, x->eps);
    project(x, l, in, T, a);
    for (int64_t t = 0; t < T; t++) {
        for (int64_t n = 0; n < x->H; n++)
            attend(x, a, t, n, o + n * x->dv);
        product(out, wo, o, x->d, x->H * x->dv);
        for (int64_t k = 0; k < x->d; k++)
            h[t][k] += out[k];
    }
    free(wn);
    free(wo);
    free(a);
    free(in);
}

/* logits [T, V]; the caller frees them. */
static float *deep_logits(const struct deep *x, const int32_t *ids, int64_t T)
{
    const bool tied = cJSON_IsTrue(cJSON_GetObjectItem(x->config, "tie_word_embeddings"));
    float *embed = weight(x, "model.embed_tokens.weight", x->V, x->d);
    float *last = weight(x, "model.norm.weight", x->d, 0);
    float *head = weight(x, tied ? "model.embed_tokens.weight" : "lm_head.weight", x->V, x->d);
    float *logits = malloc((size_t)(T * x->V) * sizeof *logits);
    double(*h)[MOST_D] = malloc((size_t)T * sizeof *h), y[MOST_WIDE];

    assert_true(T <= MOST_T && x->V <= MOST_WIDE && logits && h);
    for (int64_t t = 0; t < T; t++)
        for (int64_t k = 0; k < x->d; k++)
            h[t][k] = (double)embed[ids[t] * x->d + k];
    for (int64_t l = 0; l < x->L; l++) {
        attention(x, l, h, T);
        mlp(x, l, h, T);
    }
    for (int64_t t = 0; t < T; t++) {
        norm(h[t], last, h[t], x->d, x->eps);
        product(y, head, h[t], x->V, x->d);
        for (int64_t k = 0; k < x->V; k++)
            logits[t * x->V + k] = (float)y[k];
    }
    free(embed);
    free(last);
    free(head);
    free(h);
    return logits;
}

/* ---- tests ---- */

/* The golden model of that name, or variant of its RoPE, in a cross-head basis. */
static void open_model(struct model *m, void **state, const char *name, bool all)
{
    const bool variant = strstr(name, ".safetensors");
    char dir[1200];
    struct err e = {0};

    if (variant) {
        must(file_mkdirs(tmpdir_path(state, all ? "all" : "half"), &e), &e);
        golden_variant(tmpdir_path(state, all ? "all" : "half"), MODELS, name, dir);
    } else {
        snprintf(dir, sizeof dir, MODELS "/%s", name);
    }
    must(model_open(m, dir, &e), &e);
    tiny_cross(m, all);
}

static void to_mla(struct model *m, enum kv_method method)
{
    struct mha2mla_config c = {.partial_rope_version = "mkl",
                               .rope_basis = "cross",
                               .rope_dim_for_mla = m->rope_dim,
                               .svd_init_method = kv_method_names[method],
                               .low_rank = 2};
    struct err e = {0};

    tiny_mla(m, method, false, 2 * m->cfg.text.num_key_value_heads);
    tiny_shake(m, "self_attn");
    must(hf_config_set_mha2mla(&m->cfg, &c, &e), &e);
}

/* 1e-5 of the largest: fp32 here, rounded weights there. */
static void check_logits(struct model *m, const char *dir, const char *what)
{
    static const char *const one[] = {"ttttttttttttttttttt|TTTT"};
    struct tiny_batch b;
    struct deep x = {0};
    struct err e = {0};
    struct tape *t = tape_new(&e);

    must(t, &e);
    tiny_batch(&b, one, 1, 8);
    float *ours = tiny_logits(m, t, &b.f);
    deep_open(&x, dir);
    float *got = deep_logits(&x, b.b.batch.ids, b.b.batch.tokens);
    double d = tiny_distance(ours, got, b.b.batch.tokens * x.V);
    if (!(d < 1e-5)) fail_msg("%s: %g", what, d);
    free(got);
    free(ours);
    deep_close(&x);
    tiny_batch_free(&b);
    tape_free(t);
}

static void test_logits(void **state)
{
    static const char *const names[] = {"llama", "smollm2", "mistral", "llama-linear.safetensors",
                                        "llama-yarn.safetensors"};

    for (size_t i = 0; i < 2 * sizeof names / sizeof *names; i++) {
        char to[40];
        struct deepseek made;
        struct model m;
        struct err e = {0};
        snprintf(to, sizeof to, "d%zu", i);
        open_model(&m, state, names[i / 2], i % 2);
        to_mla(&m, KV_JOINT);
        must(deepseek_write(&m, tmpdir_path(state, to), &made, &e), &e);
        assert_true(i % 2 ? made.rotated == m.rope_dim : made.rotated >= m.rope_dim);
        assert_int_equal(made.latent, m.latent);
        check_logits(&m, tmpdir_path(state, to), names[i / 2]);
        model_close(&m);
    }
}

static void refuse(void **state, struct model *m, const char *why)
{
    struct deepseek made;
    struct err e = {0};

    assert_false(deepseek_write(m, tmpdir_path(state, "no"), &made, &e));
    if (!strstr(e.msg, why)) fail_msg("%s", e.msg);
    assert_false(is_there(tmpdir_path(state, "no")));
    model_close(m);
}

static void test_refused(void **state)
{
    static const int64_t latents[8] = {3, 5, 4, 4, 4, 4, 4, 4}; /* the models have fewer layers */
    struct deepseek made;
    struct model m;
    struct err e = {0};

    must(model_open(&m, MODELS "/llama", &e), &e);
    refuse(state, &m, "the step svd or stage2");
    open_model(&m, state, "llama", false);
    to_mla(&m, KV_SPLIT);
    refuse(state, &m, "svd.method \"joint\"");
    must(model_open(&m, MODELS "/llama", &e), &e);
    tiny_partial(&m, 4);
    tiny_mla(&m, KV_JOINT, false, 4);
    refuse(state, &m, "rank.basis \"cross\"");
    open_model(&m, state, "llama", false);
    to_mla(&m, KV_JOINT);
    must(model_set_latents(&m, latents, &e), &e);
    refuse(state, &m, "svd.ranks \"even\"");
    open_model(&m, state, "qwen2", false);
    to_mla(&m, KV_JOINT);
    refuse(state, &m, "has biases");
    open_model(&m, state, "llama-dynamic.safetensors", false);
    to_mla(&m, KV_JOINT);
    refuse(state, &m, "dynamic");
    open_model(&m, state, "llava", false);
    to_mla(&m, KV_JOINT);
    refuse(state, &m, "has a vision tower");
    open_model(&m, state, "llama", false);
    to_mla(&m, KV_JOINT);
    assert_false(deepseek_write(&m, tmpdir_path(state, ""), &made, &e));
    assert_non_null(strstr(e.msg, "exists"));
    assert_true(is_there(tmpdir_path(state, "")));
    model_close(&m);
}

/* By the command line, from a directory and from one of changed tensors;
 * weights in bf16 stay so. */
static void test_program(void **state)
{
    static const char *const made[] = {"d", "d2"};
    struct model m;
    struct err e = {0};

    open_model(&m, state, "smollm2", false);
    to_mla(&m, KV_JOINT);
    must(model_save(&m, tmpdir_path(state, "m"), DT_BF16, false, &e), &e);
    must(model_save(&m, tmpdir_path(state, "changed"), DT_BF16, true, &e), &e);
    model_close(&m);
    must_run(state,
             "$B/mha2mla-train --deepseek $T/m $T/d | grep -q 'DeepseekV3ForCausalLM, 6 rotated "
             "values (of this model: 6) and 6 latent'");
    must_run(state, "$B/mha2mla-train --deepseek $T/changed $T/d2 && cmp $T/d/model.safetensors "
                    "$T/d2/model.safetensors && cmp $T/d/config.json $T/d2/config.json");
    must_fail(state, "$B/mha2mla-train --deepseek $T/m $T/d", "exists");
    must_fail(state, "$B/mha2mla-train --deepseek $T/m", "MODEL DIR");
    must_fail(state, "$B/mha2mla-train --config $C --deepseek $T/m $T/d3", "MODEL DIR");
    must_fail(state, "$B/mha2mla-train --deepseek $T/none $T/d3", "none");
    for (int i = 0; i < 2; i++) {
        struct st_model files;
        must(st_model_open(&files, tmpdir_path(state, made[i]), &e), &e);
        assert_int_equal(st_model_find(&files, "model.layers.1.self_attn.q_proj.weight")->dtype,
                         ST_BF16);
        st_model_close(&files);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_logits), tmpdir_test(test_refused),
                                       tmpdir_test(test_program)};

    return cmocka_run_group_tests_name("deepseek", tests, NULL, NULL);
}
