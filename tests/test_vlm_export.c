/* test_vlm_export.c - what is written of the families whose pictures differ in size: a trained
 * baseline has the original's names; the converted models have the published code's, what that code
 * needs beside them, and give the same bits when opened again.
 *
 * With MHA2MLA_EXPORTS=DIR it takes the originals DIR/NAME/original, not tests/data/vlm's, and
 * leaves the exports DIR/NAME/{baseline,stage1,stage2} with our logits in each, for
 * tests/data/vlm/check_export.py. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "model/files/safetensors.h"
#include "tests/golden_set.h"
#include "tests/tiny_convert.h"
#include "tests/tmpdir.h"

#include <cjson/cJSON.h>

#define VLM "tests/data/vlm/"

enum { SAMPLES = 6, LATENT = 4 };

static const struct kind {
    const char *name, *pictures;
    const char *layer; /* prefix of the decoder's layers */
    bool tied;
} kinds[] = {
    {"next-llama", VLM "pictures-next.safetensors", "language_model.model.layers.", false},
    {"next-mistral", VLM "pictures-next.safetensors", "language_model.model.layers.", false},
    {"next-qwen2", VLM "pictures-next.safetensors", "language_model.model.layers.", true},
    {"q25", VLM "pictures-qwen.safetensors", "model.layers.", false},
    {"q25-wide", VLM "pictures-qwen.safetensors", "model.layers.", false},
    {"q25-tied", VLM "pictures-qwen.safetensors", "model.layers.", true},
    {"q2", VLM "pictures-qwen.safetensors", "model.layers.", false},
    {"q2-tied", VLM "pictures-qwen.safetensors", "model.layers.", true},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

struct exported {
    const struct kind *k;
    char dir[900]; /* of this model's exports */
    struct st_file golden;
    struct tape *t;
    struct model m;
    struct golden_set set;
};

static float *logits_of(struct exported *x, struct model *m)
{
    struct golden_features features;
    struct forward f = golden_set_features(&x->set, m, x->t, &features);
    float *logits = tiny_logits(m, x->t, &f);

    free(features.values);
    return logits;
}

/* All rows of all samples, for other programs. */
static void write_logits(const struct exported *x, const char *dir, const float *logits)
{
    const int64_t V = x->m.cfg.text.vocab_size;
    struct st_spec specs[2] = {
        {.name = "logits", .dtype = ST_F32, .ndim = 2, .dim = {x->set.b.batch.tokens, V}},
        {.name = "begin", .dtype = ST_I64, .ndim = 1, .dim = {SAMPLES + 1}}};
    struct st_writer w;
    struct err e = {0};
    char path[1000];

    snprintf(path, sizeof path, "%s/logits.safetensors", dir);
    must(st_write_begin(&w, path, specs, 2, NULL, &e), &e);
    must(st_write_raw(&w, 0, logits, (size_t)(x->set.b.batch.tokens * V) * sizeof *logits, &e), &e);
    must(st_write_raw(&w, 1, x->set.b.batch.begin, (SAMPLES + 1) * sizeof(int64_t), &e), &e);
    must(st_write_end(&w, &e), &e);
}

/* Saves the model, and opens it again: the same bits. Leaves its directory in dir. */
static void save(struct exported *x, const char *name, char dir[1000])
{
    struct processor p;
    struct model again;
    struct err e = {0};

    snprintf(dir, 1000, "%s/%s", x->dir, name);
    must(model_save(&x->m, dir, DT_F32, false, &e), &e);
    must(processor_load(&p, dir, &e), &e);
    if (processor_has_limits(&p)) /* as a run does */
        must(processor_save(&p, x->m.cfg.family->processor_class, dir, &e), &e);
    must(model_open(&again, dir, &e), &e);
    assert_int_equal(again.state, x->m.state);
    float *want = logits_of(x, &x->m), *got = logits_of(x, &again);
    assert_memory_equal(want, got,
                        (size_t)(x->set.b.batch.tokens * x->m.cfg.text.vocab_size) * sizeof *want);
    if (getenv("MHA2MLA_EXPORTS")) write_logits(x, dir, want);
    free(want);
    free(got);
    model_close(&again);
}

static cJSON *read_json(const char *dir, const char *file)
{
    char path[1100], *text;
    struct err e = {0};
    size_t len;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    must(file_read(path, 1 << 20, &text, &len, &e), &e);
    cJSON *json = cJSON_ParseWithLength(text, len);
    assert_non_null(json);
    free(text);
    return json;
}

static void open_file(const char *dir, struct st_file *f)
{
    char path[1100];
    struct err e = {0};

    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    must(st_open(f, path, &e), &e);
}

/* Numbers like 1.0 in a config.json, which transformers does not read as 1. */
static int count_fractions(const char *dir)
{
    char path[1100], *text;
    struct err e = {0};
    size_t len;
    int n = 0;

    snprintf(path, sizeof path, "%s/config.json", dir);
    must(file_read(path, 1 << 20, &text, &len, &e), &e);
    for (const char *p = text; (p = strstr(p, ".0")); p += 2)
        n += strchr(",\n", p[2]) != NULL;
    free(text);
    return n;
}

/* The names, shapes and settings of the original. */
static void check_baseline(const struct exported *x, const char *dir, const char *original)
{
    struct st_file ours, theirs;

    open_file(dir, &ours);
    open_file(original, &theirs);
    assert_int_equal(ours.count, theirs.count);
    for (size_t i = 0; i < theirs.count; i++) {
        const struct st_tensor *t = st_find(&ours, theirs.tensors[i].name);
        if (!t) fail_msg("%s: no %s", x->k->name, theirs.tensors[i].name);
        assert_int_equal(t->ndim, theirs.tensors[i].ndim);
        assert_memory_equal(t->dim, theirs.tensors[i].dim, (size_t)t->ndim * sizeof *t->dim);
    }
    st_close(&ours);
    st_close(&theirs);
    cJSON *a = read_json(dir, "config.json"), *b = read_json(original, "config.json");
    assert_true(cJSON_Compare(a, b, true));
    assert_true(count_fractions(original) > 0);
    assert_int_equal(count_fractions(dir), count_fractions(original));
    cJSON_Delete(a);
    cJSON_Delete(b);
}

/* Both spellings of the limits of pixels, with the original's values, and its processor_class. */
static void check_pixels(const char *dir, const char *original)
{
    cJSON *ours = read_json(dir, "preprocessor_config.json"),
          *theirs = read_json(original, "preprocessor_config.json");
    const cJSON *least = cJSON_GetObjectItem(theirs, "min_pixels"),
                *most = cJSON_GetObjectItem(theirs, "max_pixels"),
                *size = cJSON_GetObjectItem(ours, "size");

    assert_true(cJSON_Compare(cJSON_GetObjectItem(theirs, "processor_class"),
                              cJSON_GetObjectItem(ours, "processor_class"), true));
    if (least) {
        assert_true(cJSON_Compare(least, cJSON_GetObjectItem(ours, "min_pixels"), true));
        assert_true(cJSON_Compare(most, cJSON_GetObjectItem(ours, "max_pixels"), true));
        assert_true(cJSON_Compare(least, cJSON_GetObjectItem(size, "shortest_edge"), true));
        assert_true(cJSON_Compare(most, cJSON_GetObjectItem(size, "longest_edge"), true));
    } else {
        assert_true(cJSON_Compare(ours, theirs, true));
    }
    cJSON_Delete(ours);
    cJSON_Delete(theirs);
}

/* Exactly the published names in each layer, with biases where the original has them; a head also
 * where it is the embeddings, because the published code loads strictly. */
static void check_names(const struct exported *x, const char *dir)
{
    static const char *const stage1[] = {"k_r_proj", "kv_proj.up_k", "kv_proj.up_v"},
                             *const stage2[] = {"k_r_proj",          "kv_proj_img.down_kv",
                                                "kv_proj_img.up_k",  "kv_proj_img.up_v",
                                                "kv_proj_text.up_k", "kv_proj_text.down_kv",
                                                "kv_proj_text.up_v"};
    const bool mla = x->m.state == ATTN_MLA, bias = x->m.layers[0].attn.k_b;
    const char *const *names = mla ? stage2 : stage1;
    const int64_t L = x->m.cfg.text.num_hidden_layers;
    const int n = mla ? 7 : 3;
    struct st_file f;
    char name[200];
    int64_t found = 0, wanted = 0;

    open_file(dir, &f);
    for (size_t i = 0; i < f.count; i++)
        found += strstr(f.tensors[i].name, ".k_r_proj") || strstr(f.tensors[i].name, ".kv_proj") ||
                 strstr(f.tensors[i].name, "self_attn.v_proj.weight");
    for (int64_t l = 0; l < L; l++)
        for (int i = 0; i < n; i++)
            for (int b = 0; b < 1 + (bias && !strstr(names[i], "down")); b++, wanted++) {
                snprintf(name, sizeof name, "%s%d.self_attn.%s.%s", x->k->layer, (int)l, names[i],
                         b ? "bias" : "weight");
                if (!st_find(&f, name)) fail_msg("%s: no %s", x->k->name, name);
            }
    for (size_t i = 0; i < f.count; i++) /* the tower's own */
        found -= strncmp(f.tensors[i].name, "vision_tower.", 13) == 0 &&
                 strstr(f.tensors[i].name, "self_attn.v_proj.weight");
    assert_int_equal(found, wanted);
    assert_int_equal(x->m.head == x->m.embed, x->k->tied);
    assert_non_null(st_find(&f, x->m.layout->head));
    st_close(&f);
}

/* What the published code opens: its keys at the top level, the rank file, and for stage 2 the
 * config of stage 1. */
static void check_section(const struct exported *x, const char *dir)
{
    cJSON *json = read_json(dir, "config.json"), *stage1;
    const cJSON *section = cJSON_GetObjectItem(json, "mha2mla");
    char path[1100];
    struct stat st;

    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(section, "partial_rope_version")),
                        "mkl");
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(section, "qk_tensor_path")),
                        "rope_ranks.pth");
    snprintf(path, sizeof path, "%s/rope_ranks.pth", dir);
    assert_int_equal(stat(path, &st), 0);
    const char *below = cJSON_GetStringValue(cJSON_GetObjectItem(section, "stage1_path"));
    assert_int_equal(below != NULL, x->m.state == ATTN_MLA);
    if (below) {
        snprintf(path, sizeof path, "%s/%s", dir, below);
        stage1 = read_json(path, "config.json");
        const cJSON *s = cJSON_GetObjectItem(stage1, "mha2mla");
        assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(s, "svd_init_method")),
                            "none");
        assert_string_equal(
            cJSON_GetStringValue(cJSON_GetObjectItem(section, "svd_init_weight_path")), "");
        cJSON_Delete(stage1);
    }
    cJSON_Delete(json);
}

static void set_section(struct exported *x, const char *method, int64_t low_rank)
{
    const struct mha2mla_config c = {.partial_rope_version = "mkl",
                                     .rope_dim_for_mla = x->m.rope_dim,
                                     .svd_init_method = method,
                                     .low_rank = low_rank,
                                     .peft_train = "v2",
                                     .decoupled = low_rank > 0};
    struct err e = {0};

    must(hf_config_set_mha2mla(&x->m.cfg, &c, &e), &e);
}

static void export_all(struct exported *x, const char *original)
{
    char dir[1000];
    const int64_t G = x->m.cfg.text.num_key_value_heads;

    tiny_shake(&x->m, NULL);
    save(x, "baseline", dir);
    check_baseline(x, dir, original);
    check_pixels(dir, original);
    tiny_partial(&x->m, (x->m.cfg.text.head_dim + 3) / 4 * 2);
    set_section(x, "none", 0);
    save(x, "stage1", dir);
    check_names(x, dir);
    check_section(x, dir);
    tiny_mla(&x->m, KV_JOINT, true, LATENT * G);
    tiny_shake(&x->m, "kv_proj"); /* the modalities' factors and biases differ */
    set_section(x, "joint", LATENT);
    save(x, "stage2", dir);
    check_names(x, dir);
    check_section(x, dir);
    check_pixels(dir, original);
}

static void test_exports(void **state)
{
    const char *exports = getenv("MHA2MLA_EXPORTS");

    for (int i = 0; i < KINDS; i++) {
        struct exported x = {.k = &kinds[i]};
        char original[1000], path[300];
        struct err e = {0};
        snprintf(x.dir, sizeof x.dir, "%s/%s", exports ? exports : (const char *)*state,
                 kinds[i].name);
        if (exports)
            snprintf(original, sizeof original, "%s/original", x.dir);
        else
            snprintf(original, sizeof original, VLM "%s", kinds[i].name);
        snprintf(path, sizeof path, VLM "%s/golden.safetensors", kinds[i].name);
        x.t = tape_new(&e);
        must(x.t && st_open(&x.golden, path, &e) && model_open(&x.m, original, &e), &e);
        golden_set_open(&x.set, &x.m, original, kinds[i].pictures);
        for (int n = 0; n < SAMPLES; n++)
            golden_set_add(&x.set, &x.m, &x.golden, "ids", n, 0);
        golden_set_fill(&x.set);
        export_all(&x, original);
        golden_set_close(&x.set);
        model_close(&x.m);
        st_close(&x.golden);
        tape_free(x.t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_exports)};

    return cmocka_run_group_tests_name("vlm_export", tests, NULL, NULL);
}
