/* test_fresh.c - models trained from scratch: scenes with pictures of different sizes, several in a
 * sample; tokenizers for them; and a whole run of each family that new models can be of. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/picture/image.h"
#include "model/family/family.h"
#include "model/model.h"
#include "tests/tmpdir.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/program.h"

static const char *const names[] = {"owl",  "cat", "frog", "pear", "fig",
                                    "rose", "saw", "bus",  "jay",  "gull"};
static const char *const groups[] = {"animals\tAn owl.\tbirds",  "animals\tA cat.\tmammals",
                                     "animals\tA frog.\t",       "food\tA pear.\tfruit",
                                     "food\tA fig.\tfruit",      "plants\tA rose.\tflowers",
                                     "household\tA saw.\ttools", "vehicles\tA bus.\t",
                                     "animals\tA jay.\tbirds",   "animals\tA gull.\tbirds"};
enum { NAMES = sizeof names / sizeof *names };

/* A bar of one colour, w x h, in a transparent picture. */
static void write_stamp(const char *path, int64_t w, int64_t h, uint8_t colour)
{
    struct image im;
    struct err e;

    assert_true(image_new(&im, w + 4, h + 4, 4, &e));
    for (int64_t i = 0; i < (w + 4) * (h + 4); i++) {
        const int64_t x = i % (w + 4), y = i / (w + 4);
        im.px[i * 4] = colour;
        im.px[i * 4 + 3] = x >= 2 && x < w + 2 && y >= 2 && y < h + 2 ? 255 : 0;
    }
    assert_true(image_write_png(&im, path, &e));
    image_free(&im);
}

/* The set "@/set", of pictures from 40 to 90 pixels a side. */
static void make_set(void *const *state)
{
    FILE *fp = fopen(tmpdir_path(state, "pairs.tsv"), "w");

    assert_non_null(fp);
    for (int i = 0; i < NAMES; i++) {
        char file[32];
        snprintf(file, sizeof file, "%s.png", names[i]);
        fprintf(fp, "%s\ttrain\tphoto\t%s\n", file, groups[i]);
        write_stamp(tmpdir_path(state, file), 20 + 15 * (i % 3), 20 + 20 * (i % 4),
                    (uint8_t)(25 * i));
    }
    assert_int_equal(fclose(fp), 0);
    must_run(state, "$B/mha2mla-data scenes --out $T/set --pairs $T/pairs.tsv --root $T --train 60 "
                    "--test 30 --size 40 --longest 90 --pictures 3");
}

static int count_of(const char *text, const char *part)
{
    int n = 0;

    for (; (text = strstr(text, part)) != NULL; text += strlen(part))
        n++;
    return n;
}

static const char *said(const cJSON *turn)
{
    return cJSON_GetStringValue(cJSON_GetObjectItem(turn, "value"));
}

/* The sides of a picture, within the limits; whether they differ. */
static bool check_picture(void *const *state, const char *image)
{
    char path[200];
    struct image im;
    struct err e;
    bool differ;

    snprintf(path, sizeof path, "set/%s", image);
    if (!image_read(&im, tmpdir_path(state, path), &e)) fail_msg("%s", e.msg);
    assert_in_range(im.width, 40, 90);
    assert_in_range(im.height, 40, 90);
    differ = im.width != im.height;
    image_free(&im);
    return differ;
}

/* As many marks as pictures, in the first turn; each question says which picture it means, if there
 * are several. Returns how many there are. */
static int check_sample(void *const *state, const cJSON *s, int *differ)
{
    static const char *const ordinals[] = {
        "First picture: ", "Second picture: ", "Third picture: "};
    const cJSON *list = cJSON_GetObjectItem(s, "conversations"), *item;
    const cJSON *image = cJSON_GetObjectItem(s, "image");
    const int n = cJSON_IsArray(image) ? cJSON_GetArraySize(image) : 1;

    assert_int_equal(count_of(said(list->child), "<image>"), n);
    for (int i = 0; i < n; i++)
        *differ += check_picture(
            state, cJSON_GetStringValue(n > 1 ? cJSON_GetArrayItem(image, i) : image));
    for (item = list->child; item; item = item->next->next) {
        int named = 0;
        for (int k = 0; k < 3; k++)
            if (strstr(said(item), ordinals[k])) {
                assert_true(k < n);
                named++;
            }
        assert_int_equal(named, n > 1);
        assert_true(item == list->child || count_of(said(item), "<image>") == 0);
    }
    return n;
}

static void test_sizes(void **state)
{
    int with[4] = {0}, differ = 0;
    char *text;
    cJSON *root;
    const cJSON *s;

    make_set(state);
    text = slurp(tmpdir_path(state, "set/train.json"), NULL);
    root = cJSON_Parse(text);
    cJSON_ArrayForEach(s, root)
    {
        with[check_sample(state, s, &differ)]++;
    }
    assert_int_equal(with[1] + with[2] + with[3], 60);
    assert_true(with[1] > 5 && with[2] > 5 && with[3] > 5);
    assert_true(differ > 100);
    cJSON_Delete(root);
    free(text);
    must_run(state, "! $B/mha2mla-data scenes --out $T/x --pairs $T/pairs.tsv --size 48 --longest "
                    "47 && ! test -e $T/x");
    text = output(state);
    assert_non_null(strstr(text, "scenes: --longest is 47, less than --size, 48"));
    free(text);
}

static const struct kind {
    const char *chat, *more; /* settings of its own */
    const char *decoder;     /* of the model's config.json */
} kinds[] = {
    {"vicuna", "\"patch_size\":16", "\"llama\""},
    {"vicuna", "\"patch_size\":16", "\"image_grid_pinpoints\""},
    {"qwen2_vl", "\"patch_size\":8", "\"mrope_section\""},
};
static const char *const fresh_names[] = {FRESH_FAMILIES};
enum { KINDS = sizeof kinds / sizeof *kinds };
_Static_assert(KINDS == sizeof fresh_names / sizeof *fresh_names, "a run for each family");

static void write_config(void *const *state, int i)
{
    char text[2400];
    const char *T = *state;
    int n = snprintf(
        text, sizeof text,
        "{\"run\":{\"dir\":\"%s/run\",\"threads\":1,\"steps\":[\"baseline\",\"rank\",\"stage1\","
        "\"svd\",\"stage2\",\"evaluate\",\"report\"]},\"model\":{\"tokenizer\":\"%s/%s\"},"
        "\"data\":{\"train\":[{\"path\":\"%s/set/train.json\"}],"
        "\"eval\":[{\"path\":\"%s/set/test.json\",\"name\":\"test\",\"limit\":6}],"
        "\"cache\":\"%s/cache\",\"template\":\"%s\",\"max_length\":600},"
        "\"baseline\":{\"family\":\"%s\",\"hidden_size\":32,\"intermediate_size\":48,\"layers\":2,"
        "\"heads\":2,\"kv_heads\":1,\"vision_hidden_size\":32,\"vision_intermediate_size\":48,"
        "\"vision_layers\":3,\"vision_heads\":2,\"image_size\":32,%s,\"steps\":2,\"batch_size\":2},"
        "\"rank\":{\"rope_dim\":4,\"samples\":4},\"svd\":{\"samples\":4},\"sweep\":{\"low_rank\":["
        "4,2],\"stage2_lr\":[1e-3,0]},"
        "\"stage1\":{\"steps\":1,\"batch_size\":2},\"stage2\":{\"steps\":1,\"batch_size\":2},"
        "\"evaluate\":{\"max_new_tokens\":3}}",
        T, T, kinds[i].chat, T, T, T, kinds[i].chat, fresh_names[i], kinds[i].more);

    assert_true(n < (int)sizeof text);
    spill(tmpdir_path(state, "c.json"), text, (size_t)n);
}

/* Settings that each are fine, and together make no model, are named by the family's own names. */
static void refuse_misfits(void *const *state)
{
    static const char *const rows[][2] = {
        {"baseline.heads=5", "is 32; allowed: a multiple of num_attention_heads, which is 5"},
        {"baseline.kv_heads=3", "num_key_value_heads is 3; allowed: a divisor of "},
        {"baseline.vision_heads=3", "vision_config.hidden_size is 32; allowed: a multiple of "},
    };
    char command[120];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *text;
        snprintf(command, sizeof command, "$B/mha2mla-train --config $C --dry-run --set %s",
                 rows[i][0]);
        must_fail(state, command, rows[i][1]);
        text = output(state);
        assert_non_null(strstr(text, "error: baseline: these settings make no model: "));
        free(text);
    }
}

/* Trained, converted and trained again; and opened as what it was meant to be. */
static void test_runs(void **state)
{
    make_set(state);
    must_run(state, "for t in vicuna qwen2_vl; do $B/mha2mla-data tokenizer --template $t --out "
                    "$T/$t $T/set/train.json || exit 1; done");
    for (int i = 0; i < KINDS; i++) {
        struct model m;
        struct err e = {0};
        char *config;

        write_config(state, i);
        refuse_misfits(state);
        must_run(state, "$B/mha2mla-train --config $C --dry-run");
        must_run(state, "$B/mha2mla-train --config $C");
        if (!model_open(&m, tmpdir_path(state, "run/rope4-rank4/stage2/model"), &e))
            fail_msg("%s", e.msg);
        assert_string_equal(m.cfg.family->model_type, fresh_names[i]);
        assert_true(m.state == ATTN_MLA && m.decoupled);
        model_close(&m);
        config = slurp(tmpdir_path(state, "run/baseline/model/config.json"), NULL);
        assert_non_null(strstr(config, kinds[i].decoder));
        free(config);
        must_run(state, "lr() { grep '\"point\":\"rope4-rank'$1'\",\"phase\":\"stage2\",\"event\":"
                        "\"train\"' $T/run/metrics.jsonl | grep -q '\"lr\":0,'; } && "
                        "lr 2 && ! lr 4"); /* each point has its own rate */
        must_run(state, "rm -r $T/run $T/cache");
    }
    must_fail(state, "$B/mha2mla-train --config $C --set model.tokenizer=$T/vicuna",
              "has no token <|endoftext|>, which a baseline of baseline.family qwen2_5_vl needs");
    must_fail(state, "$B/mha2mla-train --config $C --set baseline.family=llama",
              "baseline.family: one of llava, llava_next, qwen2_5_vl");
}

/* The list of names is that of the table's rows. */
static void test_names(void **state)
{
    int rows = 0;

    (void)state;
    for (const struct family *const *f = families; *f; f++)
        rows += (*f)->fresh != NULL;
    assert_int_equal(rows, KINDS);
    for (int i = 0; i < KINDS; i++)
        assert_string_equal(family_fresh(i)->model_type, fresh_names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), tmpdir_test(test_sizes),
                                       tmpdir_test(test_runs)};

    return cmocka_run_group_tests_name("fresh", tests, NULL, NULL);
}
