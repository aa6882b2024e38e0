/* test_transformers.c - converted models of every family and in every state of attention are saved
 * with the modeling file of model/export/ and what makes transformers use it; they open here again
 * and compute the same bits; and a directory that builds on another one has nothing of it.
 *
 * With MHA2MLA_EXPORTS=DIR the exports stay in DIR, each with our logits, greedy tokens and bytes
 * of cache in ours.safetensors, for tests/export/compare.py, which opens them in
 * transformers. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "model/export.h"
#include "model/generate.h"
#include "tests/golden_set.h"
#include "tests/tiny_convert.h"
#include "tests/tiny_cross.h"
#include "tests/tmpdir.h"

#include <cjson/cJSON.h>

#define MODELS "tests/data/models"
#define VLM "tests/data/vlm"

enum { NEW = 12, LATENT = 2 };

static const struct kind {
    const char *models, *name; /* the golden model models/name; a variant of its RoPE */
    const char *pictures;      /* NULL: squares, or none */
    bool variant;
} kinds[] = {
    {MODELS, "llama", NULL, false},
    {MODELS, "llama-biases", NULL, false},
    {MODELS, "smollm2", NULL, false},
    {MODELS, "mistral", NULL, false},
    {MODELS, "qwen2", NULL, false},
    {MODELS, "llava", NULL, false},
    {MODELS, "llava-qwen2", NULL, false},
    {MODELS, "llama-linear.safetensors", NULL, true},
    {MODELS, "llama-dynamic.safetensors", NULL, true},
    {MODELS, "llama-yarn.safetensors", NULL, true},
    {MODELS, "qwen2-yarn.safetensors", NULL, true},
    {MODELS, "llava-yarn.safetensors", NULL, true},
    {VLM, "next-llama", VLM "/pictures-next.safetensors", false},
    {VLM, "next-mistral", VLM "/pictures-next.safetensors", false},
    {VLM, "next-qwen2", VLM "/pictures-next.safetensors", false},
    {VLM, "q2", VLM "/pictures-qwen.safetensors", false},
    {VLM, "q2-tied", VLM "/pictures-qwen.safetensors", false},
    {VLM, "q25", VLM "/pictures-qwen.safetensors", false},
    {VLM, "q25-wide", VLM "/pictures-qwen.safetensors", false},
    {VLM, "q25-tied", VLM "/pictures-qwen.safetensors", false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* What is made of each, with each head's own rotated key, in a cross-head basis, and with one key
 * of which, as of the latents, layers have different widths. Models without pictures have no
 * factors per modality. */
enum { OWN, CROSS, UNEVEN, KEYS };
static const char *const key_names[KEYS] = {"", "cross-", "uneven-"};
static const struct form {
    const char *name;
    bool mla, decoupled, whole; /* whole: all pairs stay rotated */
    enum kv_method method;
} forms[] = {
    {"partial", false, false, false, KV_NONE},
    {"partial-whole", false, false, true, KV_NONE},
    {"joint", true, false, false, KV_JOINT},
    {"split", true, false, false, KV_SPLIT},
    {"only_key", true, false, false, KV_ONLY_KEY},
    {"only_value", true, false, false, KV_ONLY_VALUE},
    {"joint-whole", true, false, true, KV_JOINT},
    {"joint-decoupled", true, true, false, KV_JOINT},
    {"split-decoupled", true, true, false, KV_SPLIT},
    {"only_key-decoupled", true, true, false, KV_ONLY_KEY},
    {"only_value-decoupled", true, true, false, KV_ONLY_VALUE},
    {"none-decoupled", true, true, false, KV_NONE},
};
enum { FORMS = sizeof forms / sizeof *forms };

struct exported {
    const struct kind *k;
    const struct form *f;
    int keys;
    char from[1200], golden_path[300], dir[1000];
    struct st_file golden;
    struct tape *t;
    struct model m;
    struct golden_set set;
};

static void open_kind(struct exported *x, const char *in)
{
    struct err e = {0};

    if (x->k->variant) {
        golden_variant(in, x->k->models, x->k->name, x->from);
        snprintf(x->golden_path, sizeof x->golden_path, "%s/variants/%s", x->k->models, x->k->name);
    } else {
        snprintf(x->from, sizeof x->from, "%s/%s", x->k->models, x->k->name);
        snprintf(x->golden_path, sizeof x->golden_path, "%.200s/golden.safetensors", x->from);
    }
    must(st_open(&x->golden, x->golden_path, &e), &e);
    x->t = tape_new(&e);
    must(x->t, &e);
}

static void close_kind(struct exported *x)
{
    char link[1300];

    st_close(&x->golden);
    tape_free(x->t);
    if (!x->k->variant) return;
    snprintf(link, sizeof link, "%s/config.json", x->from);
    unlink(link);
    snprintf(link, sizeof link, "%s/model.safetensors", x->from);
    unlink(link);
    rmdir(x->from);
}

/* The model in the form wanted, with weights as after training. */
static void convert(struct exported *x)
{
    const struct form *f = x->f;
    const int64_t dh = x->m.cfg.text.head_dim, G = x->m.cfg.text.num_key_value_heads;
    struct mha2mla_config c = {.partial_rope_version = "mkl",
                               .svd_init_method = kv_method_names[f->method],
                               .low_rank = f->method == KV_NONE ? 0 : LATENT,
                               .decoupled = f->decoupled};
    const int64_t latents[TINY_LAYERS] = {LATENT * G, LATENT * G - 1};
    struct err e = {0};

    if (x->keys != OWN) c.rope_basis = "cross";
    if (x->keys == OWN) tiny_partial(&x->m, f->whole ? dh : (dh + 3) / 4 * 2);
    if (x->keys == CROSS) tiny_cross(&x->m, f->whole);
    if (x->keys == UNEVEN) tiny_shared(&x->m, f->whole);
    c.rope_dim_for_mla = x->m.rope_dim;
    if (f->mla)
        tiny_mla_of(&x->m, f->method, f->decoupled, LATENT * G, x->keys == UNEVEN ? latents : NULL);
    tiny_shake(&x->m, "self_attn");
    must(hf_config_set_mha2mla(&x->m.cfg, &c, &e), &e);
}

static void fill(struct exported *x, const char *what)
{
    golden_set_empty(&x->set);
    for (int n = 0; n < GOLDEN_SAMPLES && golden_get(&x->golden, "ids", n); n++)
        golden_set_any(&x->set, &x->m, &x->golden, what, n, NEW);
    golden_set_fill(&x->set);
}

static float *logits_of(struct exported *x, struct model *m)
{
    struct golden_features features;
    struct forward f = golden_set_features(&x->set, m, x->t, &features);
    float *logits = tiny_logits(m, x->t, &f);

    free(features.values);
    return logits;
}

static cJSON *read_json(const char *dir, const char *file)
{
    char path[1200];

    snprintf(path, sizeof path, "%s/%s", dir, file);
    char *text = slurp(path, NULL);
    cJSON *json = cJSON_Parse(text);
    free(text);
    assert_non_null(json);
    return json;
}

/* The file is the repository's, and config.json leads there. */
static void check_announced(const struct exported *x)
{
    const bool vision = hf_has_vision(&x->m.cfg);
    char path[1200], name[100], where[200];
    size_t ours, theirs;

    snprintf(path, sizeof path, "%s/modeling_mha2mla.py", x->dir);
    char *got = slurp(path, &ours), *want = slurp("model/export/modeling_mha2mla.py", &theirs);
    assert_int_equal(ours, theirs);
    assert_memory_equal(got, want, ours);
    snprintf(name, sizeof name, "Mha2mla%s", x->m.cfg.family->architecture);
    snprintf(where, sizeof where, "class %s(", name);
    assert_non_null(strstr(got, where));
    snprintf(where, sizeof where, "modeling_mha2mla.%s", name);
    cJSON *root = read_json(x->dir, "config.json"), *map = cJSON_GetObjectItem(root, "auto_map"),
          *list = cJSON_GetObjectItem(root, "architectures"),
          *how = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "mha2mla"), "modeling");
    assert_int_equal(cJSON_GetArraySize(map), 1);
    assert_string_equal(map->child->string,
                        vision ? "AutoModelForImageTextToText" : "AutoModelForCausalLM");
    assert_string_equal(map->child->valuestring, where);
    assert_int_equal(cJSON_GetArraySize(list), 1);
    assert_string_equal(list->child->valuestring, name);
    assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(how, "method")),
                        kv_method_names[x->f->method]);
    assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItem(how, "decoupled")), x->f->decoupled);
    assert_int_equal((int64_t)cJSON_GetNumberValue(cJSON_GetObjectItem(how, "latent")),
                     x->f->method == KV_NONE ? 0 : x->m.latent);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(how, "image_tokens")),
                     !vision                               ? 0
                     : x->m.cfg.vision_start_token_id >= 0 ? 3
                                                           : 1);
    cJSON_Delete(root);
    free(got);
    free(want);
}

/* The directory opens here with nothing to note, and gives the same bits. */
static void check_opens(struct exported *x, const float *logits)
{
    struct model again;
    struct err e = {0};

    must(model_open(&again, x->dir, &e), &e);
    assert_int_equal(again.state, x->m.state);
    assert_int_equal(again.n_notes, 0);
    assert_null(again.cfg.unused);
    float *got = logits_of(x, &again);
    assert_memory_equal(logits, got,
                        (size_t)(x->set.b.batch.tokens * x->m.cfg.text.vocab_size) * sizeof *got);
    free(got);
    model_close(&again);
}

/* What builds on the directory says nothing of a file that it does not have; what is saved whole
 * from that has it again. */
static void check_delta(struct exported *x)
{
    char whole[1000];
    struct model m;
    struct err e = {0};

    snprintf(whole, sizeof whole, "%s", x->dir);
    must(model_open(&m, whole, &e), &e);
    tiny_shake(&m, "self_attn");
    snprintf(x->dir, sizeof x->dir, "%.980s.delta", whole);
    must(model_save(&m, x->dir, DT_F32, true, &e), &e);
    cJSON *root = read_json(x->dir, "config.json");
    assert_null(cJSON_GetObjectItem(root, "auto_map"));
    assert_null(cJSON_GetObjectItem(cJSON_GetObjectItem(root, "mha2mla"), "modeling"));
    assert_string_equal(cJSON_GetObjectItem(root, "architectures")->child->valuestring,
                        m.cfg.family->architecture);
    cJSON_Delete(root);
    snprintf(x->dir, sizeof x->dir, "%.960s.delta/modeling_mha2mla.py", whole);
    assert_false(is_there(x->dir));
    model_close(&m);
    snprintf(x->dir, sizeof x->dir, "%.980s.delta", whole);
    must(model_open(&m, x->dir, &e), &e);
    snprintf(x->dir, sizeof x->dir, "%.980s.again", whole);
    must(model_save(&m, x->dir, DT_F32, false, &e), &e);
    check_announced(x);
    model_close(&m);
    snprintf(x->dir, sizeof x->dir, "%s", whole);
}

/* ---- for compare.py ---- */

enum { TENSORS = 2 * GOLDEN_SAMPLES + 1 };

static void write_ours(struct exported *x, const float *logits)
{
    const int64_t V = x->m.cfg.text.vocab_size, n = x->set.n;
    const char *meta[] = {"golden", x->golden_path, "pictures",
                          x->k->pictures ? x->k->pictures : "", NULL};
    struct golden_features features;
    struct generation out[GOLDEN_SAMPLES];
    struct generate_stats stats = {0};
    struct st_spec specs[TENSORS];
    struct st_writer w;
    char names[TENSORS][20], path[1200];
    int64_t begin[GOLDEN_SAMPLES + 1];
    struct err e = {0};

    memcpy(begin, x->set.b.batch.begin, (size_t)(n + 1) * sizeof *begin);
    fill(x, "prompt");
    struct forward f = golden_set_features(&x->set, &x->m, x->t, &features);
    must(model_generate(&(struct generator){.m = &x->m, .t = x->t, .max_new = NEW, .stats = &stats},
                        &f, out, &e),
         &e);
    for (int64_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "logits.%d", (int)i);
        snprintf(names[n + i], sizeof names[i], "generated.%d", (int)i);
        specs[i] = (struct st_spec){names[i], ST_F32, 2, {begin[i + 1] - begin[i], V}};
        specs[n + i] = (struct st_spec){names[n + i], ST_I32, 1, {NEW}};
    }
    specs[2 * n] = (struct st_spec){"cache_bytes", ST_I64, 1, {1}};
    snprintf(path, sizeof path, "%s/ours.safetensors", x->dir);
    must(st_write_begin(&w, path, specs, (size_t)(2 * n + 1), meta, &e), &e);
    for (int64_t i = 0; i < n; i++) {
        const size_t count = (size_t)((begin[i + 1] - begin[i]) * V);
        must(st_write_f32(&w, (size_t)i, logits + begin[i] * V, count, &e), &e);
        must(st_write_raw(&w, (size_t)(n + i), out[i].ids, NEW * sizeof *out[i].ids, &e), &e);
    }
    must(st_write_raw(&w, (size_t)(2 * n), &(int64_t){(int64_t)stats.cache_bytes}, 8, &e), &e);
    must(st_write_end(&w, &e), &e);
    generation_free(out, n);
    free(features.values);
}

static void export_form(struct exported *x, const char *in)
{
    struct err e = {0};

    must(model_open(&x->m, x->from, &e), &e);
    if (x->f->decoupled && !hf_has_vision(&x->m.cfg)) {
        model_close(&x->m);
        return;
    }
    if (x->k->pictures) golden_set_open(&x->set, &x->m, x->from, x->k->pictures);
    convert(x);
    snprintf(x->dir, sizeof x->dir, "%s/%.40s.%s%s", in, x->k->name, key_names[x->keys],
             x->f->name);
    must(model_save(&x->m, x->dir, DT_F32, false, &e), &e);
    fill(x, "ids");
    float *logits = logits_of(x, &x->m);
    check_announced(x);
    check_opens(x, logits);
    if (getenv("MHA2MLA_EXPORTS"))
        write_ours(x, logits);
    else
        check_delta(x);
    free(logits);
    golden_set_close(&x->set);
    memset(&x->set, 0, sizeof x->set);
    model_close(&x->m);
}

static void test_exports(void **state)
{
    const char *exports = getenv("MHA2MLA_EXPORTS"), *in = exports ? exports : *state;

    for (int k = 0; k < KINDS; k++) {
        struct exported x = {.k = &kinds[k]};
        open_kind(&x, *state);
        for (int f = 0; f < KEYS * FORMS; f++) {
            x.f = &forms[f / KEYS];
            x.keys = f % KEYS;
            export_form(&x, in);
        }
        close_kind(&x);
    }
}

/* A model that was not converted is transformers' own. */
static void test_original(void **state)
{
    struct model m;
    struct err e = {0};

    must(model_open(&m, MODELS "/llava", &e), &e);
    must(model_save(&m, tmpdir_path(state, "m"), DT_F32, false, &e), &e);
    assert_false(is_there(tmpdir_path(state, "m/modeling_mha2mla.py")));
    cJSON *root = read_json(tmpdir_path(state, "m"), "config.json");
    assert_null(cJSON_GetObjectItem(root, "auto_map"));
    cJSON_Delete(root);
    model_close(&m);
}

/* Each family's class is in the file. */
static void test_families(void **state)
{
    char *text = slurp("model/export/modeling_mha2mla.py", NULL), name[200];

    (void)state;
    for (const struct family *const *f = families; *f; f++) {
        snprintf(name, sizeof name, "class Mha2mla%s(Latent, %s)", (*f)->architecture,
                 (*f)->architecture);
        if (!strstr(text, name)) fail_msg("no %s", name);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_exports), tmpdir_test(test_original),
                                       cmocka_unit_test(test_families)};

    return cmocka_run_group_tests_name("transformers", tests, NULL, NULL);
}
