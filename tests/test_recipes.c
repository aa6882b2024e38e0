/* test_recipes.c - the configs of the published recipe, and of its ablations: each is run dry on a
 * made-up checkpoint that has the shapes of its model, in two layers. Matrices are holes in a file
 * that takes little room. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/json/jsonc.h"
#include "data/picture/image.h"
#include "model/family/family.h"
#include "model/params.h"
#include "tests/tmpdir.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/program.h"

enum { LAYERS = 2, POINTS = 3, ADDED = 8 };

#define QWEN_PROCESSOR                                                                             \
    "{\"image_processor_type\":\"Qwen2VLImageProcessor\",\"min_pixels\":3136,"                     \
    "\"max_pixels\":12845056,\"patch_size\":14,\"temporal_patch_size\":2,\"merge_size\":2}"
#define QWEN_PICTURE                                                                               \
    "480 x 640, resized to 476 x 644, 34 x 46 patches, 391 tokens" /* in the dry run */
/* clang-format off */
#define QWEN_TOKENS \
    {{151643, "<|endoftext|>"}, {151644, "<|im_start|>"}, {151645, "<|im_end|>"}, \
     {151652, "<|vision_start|>"}, {151653, "<|vision_end|>"}, {151655, "<|image_pad|>"}, \
     {151656, "<|video_pad|>"}}
/* clang-format on */
#define CLIP_SIZES "\"size\":{\"shortest_edge\":336},\"crop_size\":{\"height\":336,\"width\":336}"

/* The tokens that end answers, and of pictures, with the models' ids; the
 * vocabulary is filled up. */
struct added {
    int id;
    const char *text;
};

static const struct recipe {
    const char *name;          /* of the config */
    const char *config;        /* of tests/data/hfconfig */
    const char *vision_layers; /* the key */
    const char *processor;     /* preprocessor_config.json */
    struct added added[ADDED];
    int vocab;                     /* pieces before them */
    const char *picture;           /* 480 x 640 pixels, as the dry run shows it */
    const char *lr1, *lr2[POINTS]; /* peak rates, of stage 1 and by point */
    const char *points[POINTS];
    const char *cache[POINTS]; /* values a layer, and their share */
    int scored;                /* sets */
} recipes[] = {
    {"llava-1.5-7b",
     "llava-1.5-7b",
     "num_hidden_layers",
     "{\"image_processor_type\":\"CLIPImageProcessor\"," CLIP_SIZES "}",
     {{0, "<unk>"}, {1, "<s>"}, {2, "</s>"}, {32000, "<image>"}, {32001, "<pad>"}},
     32000,
     "480 x 640, resized to 336 x 448, 576 tokens",
     "5e-05",
     {"1e-05", "5e-06", "1e-06"},
     {"rope32-rank16", "rope32-rank32", "rope32-rank64"},
     {"1,536 18.75 %", "2,048 25.00 %", "3,072 37.50 %"},
     6},
    {"llava-next-8b",
     "llama3-llava-next-8b",
     "num_hidden_layers",
     "{\"image_processor_type\":\"LlavaNextImageProcessor\"," CLIP_SIZES
     ",\"image_grid_pinpoints\":[[336,672],[672,336],[672,672],[1008,336],[336,1008]]}",
     {{128000, "<|begin_of_text|>"},
      {128001, "<|end_of_text|>"},
      {128002, "<|start_header_id|>"},
      {128003, "<|end_header_id|>"},
      {128004, "<|eot_id|>"},
      {128256, "<image>"}},
     128000,
     "480 x 640, resized to 504 x 672, 5 tiles, 1 + 2 x 2, 2340 tokens",
     "5e-06",
     {"5e-06", "1e-06", "8e-07"},
     {"rope32-rank32", "rope32-rank64", "rope32-rank128"},
     {"512 25.00 %", "768 37.50 %", "1,280 62.50 %"},
     8},
    {"qwen2.5-vl-7b",
     "qwen2.5-vl-7b",
     "depth",
     QWEN_PROCESSOR,
     QWEN_TOKENS,
     151643,
     QWEN_PICTURE,
     "1e-05",
     {"5e-05", "1e-05", "5e-06"},
     {"rope32-rank32", "rope32-rank64", "rope32-rank128"},
     {"256 25.00 %", "384 37.50 %", "640 62.50 %"},
     8},
    {"qwen2.5-vl-3b",
     "qwen2.5-vl-3b",
     "depth",
     QWEN_PROCESSOR,
     QWEN_TOKENS,
     151643,
     QWEN_PICTURE,
     "1e-05",
     {"5e-05", "1e-05", "5e-06"},
     {"rope32-rank32", "rope32-rank64", "rope32-rank128"},
     {"128 25.00 %", "192 37.50 %", "320 62.50 %"},
     8},
    {"qwen2-vl-2b",
     "qwen2-vl-2b",
     "depth",
     QWEN_PROCESSOR,
     QWEN_TOKENS,
     151643,
     QWEN_PICTURE,
     "1e-05",
     {"5e-05", "1e-05", "5e-06"},
     {"rope32-rank32", "rope32-rank64", "rope32-rank128"},
     {"128 25.00 %", "192 37.50 %", "320 62.50 %"},
     8},
};
enum { RECIPES = sizeof recipes / sizeof *recipes, PAPER = 3 /* the first, those of the paper */ };

static void set_layers(cJSON *in, const char *key)
{
    cJSON *item = cJSON_GetObjectItem(in, key);

    if (item)
        cJSON_SetNumberValue(item, LAYERS);
    else
        cJSON_AddNumberToObject(in, key, LAYERS);
}

/* The published config.json with fewer layers. */
static void write_config_json(void *const *state, const struct recipe *q)
{
    char path[200], *text;
    cJSON *root, *inner;

    snprintf(path, sizeof path, "tests/data/hfconfig/%s.json", q->config);
    text = slurp(path, NULL);
    root = cJSON_Parse(text);
    free(text);
    inner = cJSON_GetObjectItem(root, "text_config");
    set_layers(inner ? inner : root, "num_hidden_layers");
    inner = cJSON_GetObjectItem(root, "vision_config");
    if (!inner) inner = cJSON_AddObjectToObject(root, "vision_config");
    set_layers(inner, q->vision_layers);
    text = cJSON_PrintUnformatted(root);
    spill(tmpdir_path(state, "m/config.json"), text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(root);
}

/* Whether p is the first of the parameters that share a tensor. */
static bool is_first(const struct model *m, int64_t i)
{
    for (int64_t k = 0; k < i; k++)
        if (strcmp(m->params[k].name, m->params[i].name) == 0) return false;
    return true;
}

static int64_t count_of(const struct param *p)
{
    int64_t n = 1;

    for (int k = 0; k < p->ndim; k++)
        n *= p->dim[k];
    return n;
}

/* Vectors are ones: a norm of zeros, or a file that ends in zeros, would be refused. */
static void write_vectors(FILE *fp, const struct model *m, long begin)
{
    for (int64_t i = 0, at = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        if (!is_first(m, i)) continue;
        if (p->ndim == 1) {
            assert_int_equal(fseek(fp, begin + (long)(2 * at), SEEK_SET), 0);
            for (int64_t k = 0; k < p->dim[0]; k++) {
                fputc(0x80, fp);
                fputc(0x3f, fp);
            }
        }
        at += count_of(p);
    }
}

/* One file in bf16, whose matrices are holes. */
static void write_weights(const char *path, const struct model *m)
{
    FILE *fp = fopen(path, "wb");
    int64_t at = 0;
    uint64_t bytes;

    assert_non_null(fp);
    fprintf(fp, "        {");
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        if (!is_first(m, i)) continue;
        fprintf(fp, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", at ? "," : "", p->name);
        for (int k = 0; k < p->ndim; k++)
            fprintf(fp, "%s%lld", k ? "," : "", (long long)p->dim[k]);
        fprintf(fp, "],\"data_offsets\":[%lld,%lld]}", (long long)(2 * at),
                (long long)(2 * (at + count_of(p))));
        at += count_of(p);
    }
    fprintf(fp, "}");
    while (ftell(fp) % 8)
        fputc(' ', fp);
    const long begin = ftell(fp);
    bytes = (uint64_t)begin - 8;
    assert_int_equal(fseek(fp, 0, SEEK_SET), 0);
    assert_int_equal(fwrite(&bytes, sizeof bytes, 1, fp), 1);
    write_vectors(fp, m, begin);
    assert_int_equal(fflush(fp), 0);
    assert_int_equal(ftruncate(fileno(fp), begin + 2 * at), 0);
    assert_int_equal(fclose(fp), 0);
}

static void write_model(void *const *state, const struct recipe *q)
{
    struct model m = {0};
    struct err e = {0};

    write_config_json(state, q);
    if (!hf_config_read(&m.cfg, tmpdir_path(state, "m/config.json"), &e)) fail_msg("%s", e.msg);
    m.rope_dim = m.cfg.text.head_dim;
    m.layout = m.cfg.family->layouts;
    if (!params_declare(&m, &e)) fail_msg("%s", e.msg);
    write_weights(tmpdir_path(state, "m/model.safetensors"), &m);
    spill(tmpdir_path(state, "m/preprocessor_config.json"), q->processor, strlen(q->processor));
    model_close(&m);
}

static void write_added(FILE *fp, int id, const char *text)
{
    fprintf(fp,
            "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
            "\"rstrip\":false,\"normalized\":false,\"special\":true}",
            ftell(fp) > 20 ? "," : "", id, text);
}

/* Single characters, as many further pieces as the model's vocabulary has, and its added tokens,
 * whose ids go on without a gap. */
static void write_tokenizer(const char *path, const struct recipe *q)
{
    static const char pieces[] = " abcdefghijklmnopqrstuvwxyzAINRSTUWEY.:?";
    FILE *fp = fopen(path, "w");
    int n = 3, next = q->vocab;

    assert_non_null(fp);
    fprintf(fp, "{\"added_tokens\":[");
    for (int i = 0; i < ADDED && q->added[i].text; i++) {
        for (char text[32]; next < q->added[i].id; next++) {
            snprintf(text, sizeof text, "<|spare_%d|>", next);
            write_added(fp, next, text);
        }
        write_added(fp, q->added[i].id, q->added[i].text);
        if (q->added[i].id == next) next++;
    }
    fprintf(fp, "],\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,"
                "\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\",\"unk_token\":"
                "\"<unk>\",\"fuse_unk\":false,\"byte_fallback\":false,\"merges\":[],\"vocab\":{"
                "\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"\\n\":3");
    for (const char *p = pieces; *p; p++)
        fprintf(fp, ",\"%c\":%d", *p, ++n);
    for (n++; n < q->vocab; n++)
        fprintf(fp, ",\"x%d\":%d", n, n);
    fprintf(fp, "}}}");
    assert_int_equal(fclose(fp), 0);
}

/* 32 samples with a picture of 480 x 640 pixels. */
static void write_data(void *const *state)
{
    FILE *fp = fopen(tmpdir_path(state, "d.json"), "w");
    struct image im;
    struct err e;

    assert_non_null(fp);
    for (int i = 0; i < 32; i++)
        fprintf(fp,
                "%s{\"image\":\"p.png\",\"conversations\":[{\"from\":\"human\",\"value\":"
                "\"<image>\\nWhat is it?\"},{\"from\":\"gpt\",\"value\":\"a red cat.\"}]}",
                i ? ",\n" : "[");
    fprintf(fp, "]\n");
    assert_int_equal(fclose(fp), 0);
    assert_true(image_new(&im, 640, 480, 3, &e) &&
                image_write_png(&im, tmpdir_path(state, "p.png"), &e));
    image_free(&im);
}

/* Whether some line of the text begins with one word and has these others, after any blanks. */
static bool has_line(const char *text, const char *first, const char *rest)
{
    char line[400], squeezed[400];

    for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
        size_t n = 0;
        snprintf(line, sizeof line, "%.*s", (int)(end - text), text);
        for (const char *p = line; *p; p++)
            if (*p != ' ' || (n && squeezed[n - 1] != ' ')) squeezed[n++] = *p;
        squeezed[n] = '\0';
        if (strncmp(squeezed, first, strlen(first)) == 0 && strstr(squeezed, rest)) return true;
    }
    return false;
}

static void must_have(const char *out, const char *first, const char *fmt, ...)
{
    char rest[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(rest, sizeof rest, fmt, ap);
    va_end(ap);
    if (!has_line(out, first, rest)) fail_msg("no line '%s ... %s' in:\n%s", first, rest, out);
}

static void check_output(const struct recipe *q, const char *out)
{
    char name[64];

    if (!strstr(out, q->picture)) fail_msg("no '%s' in:\n%s", q->picture, out);
    must_have(out, "data.train: 32 samples", "tokens");
    for (int i = 0; i < q->scored; i++) {
        snprintf(name, sizeof name, "data.eval set%d: 1 sample", i);
        must_have(out, name, "");
    }
    must_have(out, "rope32 stage 1", "2 16 %s 32", q->lr1);
    for (int i = 0; i < POINTS; i++) {
        snprintf(name, sizeof name, "%s stage 2", q->points[i]);
        must_have(out, name, "2 16 %s 32", q->lr2[i]);
        must_have(out, q->points[i], "%s", q->cache[i]);
    }
    must_have(out, "A dry run: nothing was computed", "");
}

/* The published recipe and ours beside each other. */
static void check_ablation(const struct recipe *q, const char *out)
{
    static const char *const ours[POINTS] = {"ours-rope384-rank36", "ours-rope384-rank52",
                                             "ours-rope384-rank84"};
    char name[64];

    must_have(out, "published-rope32 stage 1", "2 16 %s 32", q->lr1);
    must_have(out, "ours-rope384 stage 1", "2 16 %s 32", q->lr1);
    for (int i = 0; i < POINTS; i++) {
        snprintf(name, sizeof name, "published-%s ", q->points[i]);
        must_have(out, name, "%s", q->cache[i]);
        must_have(out, ours[i], "%s", q->cache[i]);
        snprintf(name, sizeof name, "%s stage 2", ours[i]);
        must_have(out, name, "2 16 %s 32", q->lr2[i]);
    }
    must_have(out, "A dry run: nothing was computed", "");
}

/* The paper's ablations: every recipe at the three sizes, each with the published rate, and with
 * split latents as large a cache; what shares a stage 1 has none of its own. */
static void check_paper(const struct recipe *q, const char *out)
{
    static const struct {
        const char *name;
        bool stage1, pairs; /* has its own; the points' names have other latents than the others' */
    } ablations[] = {
        {"published", true, false}, {"2-norm", true, false},  {"mkl-mask", true, false},
        {"high", true, false},      {"uniform", true, false}, {"shared", false, false},
        {"weight", false, false},   {"split", false, true},   {"random", false, false},
        {"one-stage", true, false}, {"v4", false, false},     {"kv-rope", false, false}};
    char name[64];

    for (size_t k = 0; k < sizeof ablations / sizeof *ablations; k++) {
        const bool one = strcmp(ablations[k].name, "one-stage") == 0;
        snprintf(name, sizeof name, "%s-rope32 stage 1", ablations[k].name);
        assert_int_equal(has_line(out, name, ""), ablations[k].stage1);
        if (ablations[k].stage1) must_have(out, name, one ? "1 16 0 16" : "2 16 %s 32", q->lr1);
        for (int i = 0; i < POINTS; i++) {
            const int rank = atoi(strstr(q->points[i], "rank") + 4) / (ablations[k].pairs ? 2 : 1);
            snprintf(name, sizeof name, "%s-rope32-rank%d ", ablations[k].name, rank);
            must_have(out, name, "%s", q->cache[i]);
            snprintf(name, sizeof name, "%s-rope32-rank%d stage 2", ablations[k].name, rank);
            must_have(out, name, one ? "4 16 %s 64" : "2 16 %s 32", q->lr2[i]);
        }
    }
    for (int i = 0; i < POINTS;
         i++) { /* the rivals at the same sizes, in f32: twice the share of bf16 */
        const double share = atof(strchr(q->cache[i], ' ')) / 100;
        snprintf(name, sizeof name, "tova:%g", share);
        must_have(out, "base", "%.2f %% %s", 200 * share, name);
    }
    must_have(out, "A dry run: nothing was computed", "");
}

/* A config as it is, but for the places of its files: each of its sets becomes ours. */
static void run_config(void *const *state, const struct recipe *q, const char *config,
                       void (*check)(const struct recipe *, const char *))
{
    char command[4000], sets[2000] = "";
    char *out;
    size_t n = 0;

    for (int i = 0; i < q->scored; i++)
        n += (size_t)snprintf(sets + n, sizeof sets - n,
                              "%s{\"path\":\"%s/d.json\",\"name\":\"set%d\",\"limit\":1}",
                              i ? "," : "", (const char *)*state, i);
    snprintf(command, sizeof command,
             "$B/mha2mla-train --config configs/%s.json --dry-run --set run.dir=$T/run --set "
             "model.path=$T/m --set run.memory_limit=48 --set \"data.cache=$T/cache\" --set "
             "\"data.train=[{\\\"path\\\":\\\"$T/d.json\\\"}]\" --set 'data.eval=[%s]'",
             config, sets);
    must_run(state, command);
    out = output(state);
    check(q, strstr(out, "-- data"));
    free(out);
}

/* The configs of one model, whose file of some GB is written once: a run reads all of it. */
static void run_configs(void *const *state, int i)
{
    const struct recipe *q = &recipes[i];
    char paper[64];

    snprintf(paper, sizeof paper, "paper-%s", q->name);
    write_data(state);
    must_run(state, "mkdir -p $T/m");
    write_model(state, q);
    write_tokenizer(tmpdir_path(state, "m/tokenizer.json"), q);
    run_config(state, q, q->name, check_output);
    if (i == 0) run_config(state, q, "ablation-llava-1.5-7b", check_ablation);
    if (i < PAPER) run_config(state, q, paper, check_paper);
}

static void test_llava_15(void **state)
{
    run_configs(state, 0);
}

static void test_llava_next(void **state)
{
    run_configs(state, 1);
}

static void test_qwen25_7b(void **state)
{
    run_configs(state, 2);
}

static void test_qwen25_3b(void **state)
{
    run_configs(state, 3);
}

static void test_qwen2(void **state)
{
    run_configs(state, 4);
}

/* How many sets each config scores, under which names. */
static void test_sets(void **state)
{
    static const char *const names[] = {"ai2d",        "gqa",        "pope",    "seedbench",
                                        "realworldqa", "mmbench_en", "chartqa", "docvqa_val"};

    (void)state;
    for (int i = 0; i < RECIPES; i++) {
        char path[100];
        struct jsonc doc;
        struct err e;
        int n = 0;
        const cJSON *set;
        snprintf(path, sizeof path, "configs/%s.json", recipes[i].name);
        if (!jsonc_read(&doc, path, 1 << 20, &e)) fail_msg("%s", e.msg);
        cJSON_ArrayForEach(set, cJSON_GetObjectItem(cJSON_GetObjectItem(doc.root, "data"), "eval"))
        {
            assert_true(n < recipes[i].scored);
            assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(set, "name")), names[n++]);
        }
        assert_int_equal(n, recipes[i].scored);
        jsonc_close(&doc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sets),  tmpdir_test(test_llava_15),
                                       tmpdir_test(test_llava_next), tmpdir_test(test_qwen25_7b),
                                       tmpdir_test(test_qwen25_3b),  tmpdir_test(test_qwen2)};

    return cmocka_run_group_tests_name("recipes", tests, NULL, NULL);
}
