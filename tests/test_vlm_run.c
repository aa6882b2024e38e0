/* test_vlm_run.c - whole runs of the families whose pictures differ in size, on small random
 * models: every step, several pictures in a sample, what the dry run says, an export that opens
 * again, and the same bits where a run was resumed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/picture/image.h"
#include "model/model.h"
#include "tests/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/program.h"

enum { Q25, Q2, NEXT };
static const struct kind {
    const char *dir, *chat;
    int vocab; /* pieces before the added tokens */
    const char *added[8];
    int first;                    /* id of the first of them */
    const char *tokens, *picture; /* in the dry run */
    const char *processor;        /* a look at the exported one */
    const char *trained;          /* through the cache of features, with the projector */
} kinds[] = {
    [Q25] =
        {"q25",
         "qwen2_vl",
         56,
         {"<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
          "<|video_pad|>"},
         56,
         "a picture: 6 to 20 tokens",
         "gray1.png: height x width 9 x 13, resized to 16 x 24, 4 x 6 patches, 6 tokens",
         "cd $T/run/rope4-rank4/stage2/model && for k in min_pixels max_pixels shortest_edge "
         "longest_edge Qwen2_5_VLProcessor; do grep -q $k preprocessor_config.json || exit 1; done",
         "visual.merger.ln_q.weight"},
    [Q2] = {"q2",
            "qwen2_vl",
            56,
            {"<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
             "<|video_pad|>"},
            56,
            "a picture: 6 to 20 tokens",
            "gray1.png: height x width 9 x 13, resized to 16 x 24, 4 x 6 patches, 6 tokens",
            "grep -q '\"processor_class\":.*\"Qwen2VLProcessor\"' "
            "$T/run/rope4-rank4/stage2/model/preprocessor_config.json",
            "visual.merger.ln_q.bias"},
    [NEXT] = {"next-llama",
              "vicuna",
              46,
              {"</s>", "<image>"},
              46,
              "a picture: tiles of 12 x 12 pixels, ",
              "gray1.png: height x width 9 x 13, resized to 12 x 18, 3 tiles, 1 + 1 x 2, 24 tokens",
              "cmp $T/m/preprocessor_config.json "
              "$T/run/rope4-rank4/stage2/model/preprocessor_config.json",
              "image_newline"},
};

/* A BPE tokenizer of single characters. */
static void write_tokenizer(const char *path, const struct kind *k)
{
    static const char pieces[] = "abcdefghijklmnopqrstuvwxyz .Y?WTAIUSERN:";
    FILE *fp = fopen(path, "w");
    int n = 0;

    assert_non_null(fp);
    fprintf(fp, "{\"added_tokens\":[");
    for (int i = 0; k->added[i]; i++)
        fprintf(fp,
                "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                i ? "," : "", k->first + i, k->added[i]);
    fprintf(fp, "],\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,"
                "\"decoder\":{\"type\":\"Fuse\"},\"model\":{\"type\":\"BPE\",\"unk_token\":"
                "\"<unk>\",\"fuse_unk\":false,\"byte_fallback\":false,\"merges\":[],\"vocab\":{"
                "\"<unk>\":0,\"\\n\":1");
    for (const char *p = pieces; *p; p++)
        if (!memchr(pieces, *p, (size_t)(p - pieces))) fprintf(fp, ",\"%c\":%d", *p, n++ + 2);
    for (n += 2; n < k->vocab; n++)
        fprintf(fp, ",\"x%d\":%d", n, n);
    assert_true(n == k->vocab);
    fprintf(fp, "}}}");
    assert_int_equal(fclose(fp), 0);
}

/* 24 samples with one, two or three pictures. */
static void write_samples(const char *path)
{
    static const char *const pictures[] = {"gray1.png",  "alpha_0.bmp", "cmyk.jpg",
                                           "gray16.png", "both.gif",    "grays.gif"};
    FILE *fp = fopen(path, "w");

    assert_non_null(fp);
    for (int i = 0; i < 24; i++) {
        fprintf(fp, "%s{\"image\":[", i ? ",\n" : "[");
        for (int k = 0; k <= i % 3; k++)
            fprintf(fp, "%s\"%s\"", k ? "," : "", pictures[(i + k) % 6]);
        fprintf(fp, "],\"conversations\":[{\"from\":\"human\",\"value\":\"");
        for (int k = 0; k <= i % 3; k++)
            fprintf(fp, "<image>\\nand ");
        fprintf(fp, "What is it?\"},{\"from\":\"gpt\",\"value\":\"%s\"}]}",
                i % 2 ? "a cat." : "a dog.");
    }
    fprintf(fp, "]\n");
    assert_int_equal(fclose(fp), 0);
}

static void write_config(void *const *state, const struct kind *k)
{
    char text[2000];
    int n = snprintf(
        text, sizeof text,
        "{\"run\":{\"dir\":\"%s/run\",\"threads\":1,\"steps\":[\"rank\",\"stage1\",\"svd\","
        "\"stage2\",\"evaluate\",\"report\"]},\"model\":{\"path\":\"%s/m\"},"
        "\"data\":{\"train\":[{\"path\":\"%s/d.json\",\"images\":\"tests/data/image\"}],"
        "\"eval\":[{\"path\":\"%s/d.json\",\"images\":\"tests/data/image\",\"name\":\"seen\","
        "\"limit\":6}],\"cache\":\"%s/cache\",\"template\":\"%s\",\"max_length\":400},"
        "\"rank\":{\"rope_dim\":4,\"samples\":8},\"svd\":{\"samples\":16,\"low_rank\":4},"
        "\"stage1\":{\"steps\":4,\"batch_size\":4,\"lr\":1e-3,\"projector\":true},"
        "\"stage2\":{\"steps\":6,\"batch_size\":4,\"lr\":1e-3,\"eval_every\":3,"
        "\"projector\":true},\"checkpoint\":{\"every\":2},\"evaluate\":{\"max_new_tokens\":8}}",
        (const char *)*state, (const char *)*state, (const char *)*state, (const char *)*state,
        (const char *)*state, k->chat);

    assert_true(n < (int)sizeof text);
    spill(tmpdir_path(state, "c.json"), text, (size_t)n);
}

static void set_up(void *const *state, const struct kind *k)
{
    char command[300];

    snprintf(command, sizeof command,
             "mkdir -p $T/m && cp tests/data/vlm/%s/config.json tests/data/vlm/%s/*_config.json "
             "tests/data/vlm/%s/model.safetensors $T/m/",
             k->dir, k->dir, k->dir);
    must_run(state, command);
    write_tokenizer(tmpdir_path(state, "m/tokenizer.json"), k);
    write_samples(tmpdir_path(state, "d.json"));
    write_config(state, k);
}

/* The dry run shows the longest sample's pictures; one token less is allowed, and it is left out by
 * the count that its pictures have really. */
static void check_longest(void *const *state)
{
    char *out = output(state), *at = strstr(out, "the longest sample:\nsample "), command[200],
         find[100];
    int tokens, image, pictures = 0;

    assert_non_null(at);
    at = strchr(at, ')');
    assert_int_equal(sscanf(at, "): %d tokens, %d of them image", &tokens, &image), 2);
    while ((at = strstr(at, "\n  picture ")) != NULL) { /* the last lines of this section */
        int n = 0;
        at = strstr(at, "resized to ");
        for (; *at != '\n'; at++)
            if (*at == ',') sscanf(at, ", %d tokens", &n);
        image -= n;
        pictures++;
    }
    assert_true(image == 0 && pictures == 3);
    free(out);
    snprintf(command, sizeof command,
             "$B/mha2mla-train --config $C --dry-run --set data.max_length=%d", tokens - 1);
    must_run(state, command);
    snprintf(find, sizeof find, "%d tokens, data.max_length is %d", tokens, tokens - 1);
    must_say(state, find);
}

static void test_runs(void **state)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct model m;
        struct err e = {0};

        set_up(state, &kinds[i]);
        must_run(state, "$B/mha2mla-train --config $C --dry-run");
        must_say(state, kinds[i].tokens);
        must_say(state, kinds[i].picture);
        must_say(state, "together");
        assert_false(says(state, "fullatt_block_indexes") || says(state, "go beyond the model's"));
        check_longest(state);
        must_run(state, "$B/mha2mla-train --config $C");
        must_say(state, "recovered");
        if (!model_open(&m, tmpdir_path(state, "run/rope4-rank4/stage2/model"), &e))
            fail_msg("%s", e.msg);
        assert_int_equal(m.state, ATTN_MLA);
        assert_true(m.decoupled);
        model_close(&m);
        must_run(state, kinds[i].processor);
        char look[100]; /* stage 1 saves what has changed */
        snprintf(look, sizeof look, "grep -aq '%s' $T/run/rope4/stage1/model/model.safetensors",
                 kinds[i].trained);
        must_run(state, look);
        must_run(state, "mv $T/run $T/whole");
        /* a run that was stopped after stage 1, and finds its features in the cache, ends in the
         * same bits */
        must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"rank\",\"stage1\"]'");
        must_run(state, "$B/mha2mla-train --config $C --resume");
        must_run(state, "cmp $T/run/rope4-rank4/stage2/model/model.safetensors "
                        "$T/whole/rope4-rank4/stage2/model/model.safetensors && "
                        "cmp $T/run/rope4-rank4/stage2/answers.jsonl "
                        "$T/whole/rope4-rank4/stage2/answers.jsonl");
        must_run(state, "rm -r $T/run $T/whole $T/m $T/cache");
    }
}

/* What is not used, or goes further than the model was made for, and is no reason to refuse. */
static void test_said(void **state)
{
    set_up(state, &kinds[Q25]);
    must_run(state, "sed -i 's/^      3$/      7/' $T/m/config.json; $B/mha2mla-train --config $C "
                    "--dry-run --set evaluate.max_new_tokens=500");
    must_say(state, "vision_config.fullatt_block_indexes has 7: not used; the tower has the blocks "
                    "0 to 3");
    must_say(state, "evaluate.max_new_tokens is 500: with a question of ");
    must_say(state, "d.json:1) an answer may go beyond the model's 512 positions, for which");
}

/* Limits of pixels: obeyed and exported where the model has such, refused where not. */
static void test_limits(void **state)
{
    set_up(state, &kinds[Q25]);
    must_run(state, "$B/mha2mla-train --config $C --dry-run --set data.max_pixels=512");
    must_say(state, "a picture: 6 tokens");
    must_run(state, "$B/mha2mla-train --config $C --set data.max_pixels=512 "
                    "--set 'run.steps=[\"rank\",\"svd\"]' --set save.full=true && "
                    "grep -q '\"max_pixels\":.*512' $T/run/rope4-rank4/svd/model/"
                    "preprocessor_config.json");
    must_fail(state, "$B/mha2mla-train --config $C --dry-run --set data.max_pixels=10",
              "max_pixels is 10 and min_pixels 256");
    must_run(state, "rm -r $T/run $T/m");
    set_up(state, &kinds[NEXT]);
    must_fail(state, "$B/mha2mla-train --config $C --dry-run --set data.max_pixels=512",
              "data.max_pixels: is not for this model");
}

/* Models whose files contradict each other, or are of a kind that is not computed: a command that
 * changes them, and a part of the one line that says so. */
static const struct refused {
    int kind;
    const char *change, *says;
} refused[] = {
    {Q25, "sed -i s/blocks.2.norm1.weight/blocks.2.normX.weight/ $T/m/model.safetensors",
     "visual.blocks.2.norm1.weight"},
    {Q25,
     "sed -i -e 's/\"use_sliding_window\": false/\"use_sliding_window\": true/' "
     "-e 's/\"sliding_window\": null/\"sliding_window\": 16/' "
     "-e s/full_attention/sliding_attention/ $T/m/config.json",
     "16"},
    {Q25, "sed -i 's/\"image_token_id\": 60/\"image_token_id\": 59/' $T/m/config.json",
     "token \"<|image_pad|>\" has id 60, but image_token_index is 59"},
    {Q25,
     "sed -i 's/\"vision_start_token_id\": 58/\"vision_start_token_id\": 57/' $T/m/config.json",
     "token \"<|vision_start|>\" has id 58, but vision_start_token_id is 57"},
    {Q25, "sed -i 's/\"vision_end_token_id\": 59/\"vision_end_token_id\": 58/' $T/m/config.json",
     "token \"<|vision_end|>\" has id 59, but vision_end_token_id is 58 ("},
    {Q25, "sed -i 's/\"max_new_tokens\":8/\"max_new_tokens\":40000/' $T/c.json; echo >> $T/m/x",
     "evaluate.max_new_tokens is 40000, and the model has "},
    {Q25, "sed -i 's/\"patch_size\": 4/\"patch_size\": 8/' $T/m/preprocessor_config.json",
     "makes patches of 8 pixels"},
    {Q2, "sed -i 's/\"mlp_ratio\": 2/\"mlp_ratio\": 3/' $T/m/config.json",
     "vision_config.mlp_ratio is 3, which with embed_dim 16 makes 48, but tensor "
     "visual.blocks.0.mlp.fc1.weight is [32, 16]"},
    {Q2, "sed -i 's/\"embed_dim\": 16/\"embed_dim\": 32/' $T/m/config.json",
     "vision_config.embed_dim is 32, but tensor visual.patch_embed.proj.weight is [16, 3, 2, 4, "
     "4]"},
    {Q2, "sed -i '/vision_config/,$s/\"hidden_size\": 24/\"hidden_size\": 32/' $T/m/config.json",
     "vision_config.hidden_size is 32; allowed: the hidden_size of the text, which is 24"},
    {Q2, "sed -i 's/\"depth\": 3/\"depth\": 2/' $T/m/config.json",
     "vision_config.depth is 2, but the tensors visual.blocks.* have 3 layers"},
    {Q2, "sed -i s/blocks.2.norm1.bias/blocks.2.norm1.biaX/ $T/m/model.safetensors",
     "visual.blocks.2.norm1.bias"},
    {NEXT, "sed -i 's/      36,/      24,/' $T/m/preprocessor_config.json",
     "image_grid_pinpoints is another list than in "},
    {NEXT, "sed -i 's/      36/      35/' $T/m/config.json $T/m/preprocessor_config.json",
     "image_grid_pinpoints"},
    {NEXT,
     "sed -i 's/select_strategy\": \"default\"/select_strategy\": \"full\"/' $T/m/config.json",
     "vision_feature_select_strategy is \"full\"; allowed: default"},
    {NEXT,
     "sed -i s/multi_modal_projector.linear_2.bias/multi_modal_projector.linear_2.biaX/ "
     "$T/m/model.safetensors",
     "multi_modal_projector.linear_2.bias"},
    {NEXT, "sed -i s/image_newline/image_newlinX/ $T/m/model.safetensors", "image_newline"},
    /* as LLaVA-1.6-34B, whose tokenizer has its placeholder elsewhere */
    {NEXT, "sed -i 's/\"image_token_index\": 47/\"image_token_index\": 45/' $T/m/config.json",
     "token \"<image>\" has id 47, but image_token_index is 45"},
    {NEXT, "sed -i 's/\"image_token_index\": 47/&, \"image_token_id\": 46/' $T/m/config.json",
     "is 47 and image_token_id 46; allowed: the same number"},
};

static void test_refused(void **state)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        set_up(state, &kinds[refused[i].kind]);
        must_run(state, "cp -r $T/m $T/before");
        must_run(state, refused[i].change);
        must_run(state, "! diff -rq $T/m $T/before"); /* the command found something to change */
        must_fail(state, "$B/mha2mla-train --config $C --dry-run", refused[i].says);
        must_fail(state, "$B/mha2mla-train --config $C", refused[i].says);
        must_run(state, "! test -e $T/run && rm -r $T/m $T/before");
    }
}

/* Samples that are left out, and what is said of them. */
static const struct left_out {
    const char *sample, *says;
} left_out[] = {
    {"{\"id\":\"thin\",\"image\":\"thin.png\",\"conversations\":[{\"from\":\"human\",\"value\":"
     "\"<image>\\nWhat\"},{\"from\":\"gpt\",\"value\":\"a\"}]}",
     "601 x 3 pixels: one side is more than 200 times the other"},
    {"{\"id\":\"film\",\"video\":\"a.mp4\",\"conversations\":[{\"from\":\"human\",\"value\":"
     "\"What\"},{\"from\":\"gpt\",\"value\":\"a\"}]}",
     "\"video\" is not read"},
    {"{\"id\":\"begun\",\"conversations\":[{\"from\":\"human\",\"value\":"
     "\"<|vision_start|>What\"},{\"from\":\"gpt\",\"value\":\"a\"}]}",
     "the mark \"<|vision_start|>\" is not read"},
    {"{\"id\":\"ended\",\"conversations\":[{\"from\":\"human\",\"value\":"
     "\"What<|vision_end|>\"},{\"from\":\"gpt\",\"value\":\"a\"}]}",
     "the mark \"<|vision_end|>\" is not read"},
    /* more placeholders than the picture's grid has cells */
    {"{\"id\":\"padded\",\"image\":\"fine.png\",\"conversations\":[{\"from\":\"human\",\"value\":"
     "\"<image><|image_pad|>\\nWhat\"},{\"from\":\"gpt\",\"value\":\"a\"}]}",
     "2 <image> marks for 1 picture (id padded)"},
    {"{\"id\":\"twice\",\"image\":\"fine.png\",\"conversations\":[{\"from\":\"human\",\"value\":"
     "\"<image><image>What\"},{\"from\":\"gpt\",\"value\":\"a\"}]}",
     "2 <image> marks for 1 picture (id twice)"},
};
enum { LEFT_OUT = sizeof left_out / sizeof *left_out };

static void write_picture(const char *path, int64_t width, int64_t height)
{
    struct image im;
    struct err e;

    assert_true(image_new(&im, width, height, 3, &e) && image_write_png(&im, path, &e));
    image_free(&im);
}

/* One picture of exactly 200 to 1 is fine; the others are named, each with its reason. */
static void test_left_out(void **state)
{
    FILE *fp;
    char *list;

    set_up(state, &kinds[Q25]);
    write_picture(tmpdir_path(state, "thin.png"), 601, 3);
    write_picture(tmpdir_path(state, "fine.png"), 600, 3);
    fp = fopen(tmpdir_path(state, "e.json"), "w");
    assert_non_null(fp);
    fprintf(fp, "[{\"image\":\"fine.png\",\"conversations\":[{\"from\":\"human\",\"value\":"
                "\"<image>\\nWhat\"},{\"from\":\"gpt\",\"value\":\"a\"}]}");
    for (int i = 0; i < LEFT_OUT; i++)
        fprintf(fp, ",\n%s", left_out[i].sample);
    fprintf(fp, "]\n");
    assert_int_equal(fclose(fp), 0);
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"rank\"]' --set "
                    "'data.eval=[]' --set \"data.train=[{\\\"path\\\":\\\"$T/e.json\\\"}]\"");
    must_say(state, "data.train: 1 sample, ");
    list = slurp(tmpdir_path(state, "run/left_out.txt"), NULL);
    for (int i = 0; i < LEFT_OUT; i++)
        if (!strstr(list, left_out[i].says))
            fail_msg("'%s' is not in:\n%s", left_out[i].says, list);
    free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_runs), tmpdir_test(test_limits),
                                       tmpdir_test(test_said), tmpdir_test(test_refused),
                                       tmpdir_test(test_left_out)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
