/* test_parity.c - our models are transformers' models: vision features and logits of small ones
 * (data/model/golden.json, made by data/model/make_golden.py) with weights that a formula gives.
 * LLaVA with either end of the tower, Llama with every kind of RoPE scaling, Qwen2.
 *
 * 1e-5 relative: both sides compute in fp32. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "tests/tiny_model.h"

#include <cjson/cJSON.h>

static float *wave(int64_t n, double step, double phase, double scale, double base)
{
    struct err e;
    float *v = mem_new((size_t)n, sizeof *v, "values", &e);

    assert_non_null(v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(base + scale * (double)(float)sin(step * (double)i + phase));
    return v;
}

/* Gives every parameter the values that make_golden.py's fill() has for its name. */
static void fill(struct model *m)
{
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = &m->params[i];
        bool norm = p->ndim == 1 && strstr(p->name, "norm") && strstr(p->name, ".weight");
        int64_t n = tensor_count(&p->t), phase = 0;
        for (const char *c = p->name; *c; c++)
            phase += *c;
        float *v = wave(n, 0.7, (double)phase, 0.2, norm ? 1 : 0);
        memcpy(p->own, v, (size_t)n * sizeof *v);
        free(v);
    }
}

/* `got` [n] against a list of the file. */
static void compare(const char *name, const char *what, const cJSON *list, const float *got,
                    int64_t n)
{
    struct err e;
    float *want = mem_new((size_t)n, sizeof *want, "golden values", &e);
    const cJSON *item;
    int64_t i = 0;

    assert_non_null(want);
    assert_int_equal(cJSON_GetArraySize(list), n);
    cJSON_ArrayForEach(item, list) want[i++] = (float)item->valuedouble;
    double d = tiny_distance(want, got, n);
    if (!(d < 1e-5)) fail_msg("%s: %s: %g", name, what, d);
    free(want);
}

/* The tower's output for n pictures, in new memory. */
static float *features_of(struct model *m, struct tape *t, int64_t n, int64_t *count)
{
    const struct vision_config *c = &m->cfg.vision;
    int64_t width = c->num_channels * c->image_size * c->image_size;
    float *values = wave(n * width, 0.3, 0, 1, 0), *copy;
    struct tensor pixels = tensor_leaf(DT_F32, n, width, values), *out;
    struct err e = {0};

    tape_begin(t, false);
    out = model_vision(m, t, &pixels);
    tape_keep(out);
    must(tape_plan(t, 0, &e), &e);
    tape_forward(t);
    *count = tensor_count(out);
    copy = mem_new((size_t)*count, sizeof *copy, "features", &e);
    assert_non_null(copy);
    memcpy(copy, out->data, (size_t)*count * sizeof *copy);
    free(values);
    return copy;
}

static void check_case(const cJSON *c, struct tape *t)
{
    const cJSON *ids = cJSON_GetObjectItem(c, "ids"), *want = cJSON_GetObjectItem(c, "features");
    char *json = cJSON_PrintUnformatted(cJSON_GetObjectItem(c, "config"));
    struct sample s = {.n = cJSON_GetArraySize(ids)};
    struct batch_buffer b = {0};
    float *features = NULL;
    int64_t count = 0, pictures = 0;
    struct tensor leaf;
    struct err e = {0};
    struct model m;

    assert_non_null(json);
    tiny_from_json(&m, json, strlen(json), 1);
    fill(&m);
    s.ids = calloc((size_t)s.n, sizeof *s.ids);
    s.trained = calloc((size_t)s.n, 1);
    s.modality = calloc((size_t)s.n, 1);
    assert_true(s.ids && s.trained && s.modality);
    for (int64_t i = 0; i < s.n; i++) {
        s.ids[i] = (int32_t)cJSON_GetArrayItem(ids, (int)i)->valuedouble;
        s.modality[i] = s.ids[i] == m.cfg.image_token_index ? IMAGE : TEXT;
        pictures += s.modality[i] == IMAGE;
    }
    if (want) {
        pictures /= model_image_tokens(&m);
        features = features_of(&m, t, pictures, &count);
        compare(c->string, "features", want, features, count);
    }
    must(batch_fill(&b, &s, 1, false, &e), &e);
    leaf = tensor_leaf(DT_F32, b.batch.image_tokens, m.cfg.vision.hidden_size, features);
    struct forward f = {.batch = &b.batch, .features = want ? &leaf : NULL};
    float *logits = tiny_logits(&m, t, &f);
    compare(c->string, "logits", cJSON_GetObjectItem(c, "logits"), logits,
            s.n * m.cfg.text.vocab_size);
    free(logits);
    free(features);
    free(json);
    batch_free(&b);
    sample_free(&s);
    model_close(&m);
}

static void test_golden(void **state)
{
    struct err e = {0};
    char *text = NULL;
    size_t len = 0;
    struct tape *t = tape_new(&e);
    const cJSON *c;
    int cases = 0;

    (void)state;
    must(t && file_read("tests/data/model/golden.json", 1 << 20, &text, &len, &e), &e);
    cJSON *golden = cJSON_ParseWithLength(text, len);
    assert_non_null(golden);
    cJSON_ArrayForEach(c, golden)
    {
        check_case(c, t);
        cases++;
    }
    assert_int_equal(cases, 8);
    cJSON_Delete(golden);
    free(text);
    tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden)};

    return cmocka_run_group_tests_name("parity", tests, NULL, NULL);
}
