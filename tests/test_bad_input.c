/* test_bad_input.c - how the program responds to bad settings, data and files: one line, status 1,
 * nothing half-written. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/tmpdir.h"

#include "tests/edited_model.h"
#include "tests/sanitized.h"
#include "tests/program.h"

#define TRAIN "$B/mha2mla-train --config $C "
/* The samples in $T/x.json, none of which may be bad. */
#define SAMPLES TRAIN "--set data.train[0].path=$T/x.json --set data.max_bad=0"
#define HUMAN(text) "{\"from\":\"human\",\"value\":\"" text "\"}"
#define GPT ",{\"from\":\"gpt\",\"value\":\"A\"}"
#define SAMPLE(image, turns) "echo '[{" image "\"conversations\":[" turns "]}]' > $T/x.json; "
#define TOKENIZER(lacks)                                                                           \
    "mkdir -p $T/tok2; sed 's|" lacks                                                              \
    "|none|g' $T/tok/tokenizer.json > $T/tok2/tokenizer.json; " TRAIN                              \
    "--set model.tokenizer=$T/tok2"

static void test_bad_input(void **state)
{
    static const struct {
        const char *command, *text;
    } cases[] = {
        {"$B/mha2mla-train", "--config FILE is missing"},
        {TRAIN "--what", "unknown option"},
        {TRAIN "--point 2", "the points 0..1"},
        {TRAIN "--point 99999999999999999999",
         "--point 99999999999999999999: no sweep has so many"},
        {TRAIN "--point 1 --point 0", "--point is given twice"},
        {TRAIN "--config $T/other.json", "/c.json and "},
        /* unknown key, wrong type, not allowed: in the file and by --set */
        {"sed 's/\"projector\"/\"x\"/; s/\"samples\": 32/\"sample\": 32/' $C > $T/d.json; "
         "$B/mha2mla-train --config $T/d.json",
         "d.json:14: svd.sample: unknown key; did you mean \"samples\"?"},
        {"sed 's/\"steps\": 24/\"steps\": \"many\"/' $C > $T/d.json; "
         "$B/mha2mla-train --config $T/d.json",
         "d.json:12: baseline.steps: a number is needed, found the string"},
        {TRAIN "--set svd.low_rang=3", "did you mean \"low_rank\"?"},
        {TRAIN "--set baseline.steps=many", "baseline.steps"},
        {TRAIN "--set stage1.peft=v9", "one of v2"},
        /* other formats */
        {"printf 'run:\\n  dir: x\\n' > $T/c.yaml; $B/mha2mla-train --config $T/c.yaml",
         "c.yaml:1:1: a value is needed, near 'run:'; settings are JSON, an object in {}, with //"},
        {"printf '[run]\\ndir = 1\\n' > $T/c.toml; $B/mha2mla-train --config $T/c.toml",
         "c.toml:1:2: a value is needed, near 'run]'; settings are JSON, an object in {}"},
        /* missing files */
        {"$B/mha2mla-train --config $T/no.json", "no.json: No such file"},
        {TRAIN "--set 'data.train=[{\"path\":\"gone.json\"}]'", "gone.json: No such file"},
        {TRAIN "--set 'data.train=[{\"path\":\"data/sets/gone.json\"}]'",
         "data/sets/gone.json: No such file or directory; sets are made first: the first lines "
         "of "},
        {TRAIN "--set model.tokenizer=data/sets/gone",
         "data/sets/gone: no such directory; sets are made first: the first lines of "},
        {TRAIN "--set model.tokenizer=$T/gone", "/gone: no such directory"},
        {TRAIN "--set model.tokenizer=$T/tok/tokenizer.json",
         "/tok/tokenizer.json: is a file; a tokenizer is a directory with tokenizer.json: give"},
        {"mkdir -p $T/tok3; : > $T/tok3/tokenizer.model; " TRAIN "--set model.tokenizer=$T/tok3",
         "/tok3: has tokenizer.model, but no tokenizer.json: in Python transformers' AutoTok"},
        {"rm $T/tok3/*; " TRAIN "--set model.tokenizer=$T/tok3", "/tok3: has no tokenizer.json: f"},
        /* paths that no shell has expanded, and addresses */
        {TRAIN "--set 'run.dir=~/x'", "run.dir: \"~/x\" begins with ~, which only a shell knows"},
        {TRAIN "--set 'data.cache=~/x'", "data.cache: \"~/x\" begins with ~, which"},
        {TRAIN "--set 'model.path=~/x'", "model.path: \"~/x\" begins with ~, which"},
        {TRAIN "--set 'model.tokenizer=~'", "model.tokenizer: \"~\" begins with ~, which"},
        {TRAIN "--set 'rank.file=~/x'", "rank.file: \"~/x\" begins with ~, which"},
        {TRAIN "--set 'data.train[0].path=~/x'", "data.train[0].path: \"~/x\" begins with ~"},
        {TRAIN "--set 'data.eval[1].images=~/x'", "data.eval[1].images: \"~/x\" begins with ~"},
        {TRAIN "--set 'data.train[0].path=https://a.b/c.json'",
         "data.train[0].path: \"https://a.b/c.json\" is an address: nothing is downloaded; fetch"},
        {TRAIN "--set 'run.dir=file:///x'", "run.dir: \"file:///x\" is an address: give the path"},
        {"$B/mha2mla-train --config='~/no.json'",
         "no.json: No such file or directory; it begins with ~"},
        {SAMPLE("\"image\":\"~/x.png\",", HUMAN("<image>Q") GPT) SAMPLES,
         "x.json:1:11: \"~/x.png\" begins with ~, which only a shell knows"},
        {TRAIN "--set model.path=$T/gone --set 'run.steps=[\"rank\"]'", "/gone: no such directory"},
        {SAMPLE("\"image\":\"x.png\",", HUMAN("<image>Q") GPT) SAMPLES, "x.png"},
        /* samples */
        {SAMPLE("", HUMAN("Q")) SAMPLES, "has no answer to train on"},
        {SAMPLE("", "") SAMPLES, "x.json:1:19: \"conversations\" is an empty list: it has no turn"},
        {SAMPLE("", HUMAN("<image>Q") GPT) SAMPLES, "1 <image> mark for 0 pictures"},
        {SAMPLE("\"image\":\"s/images/train-000000.png\",", HUMAN("Q") GPT) SAMPLES,
         "0 <image> marks for 1 picture"},
        {"cp -r $T/s $T/s2 && for f in $T/s2/images/train*; do "
         "head -c 200 $f > $f.t; mv $f.t $f; done; " TRAIN
         "--set data.max_bad=9 --set data.train[0].path=$T/s2/train.json",
         "data.max_bad allows 9"},
        {TOKENIZER("<image>"), "has no token <image>"},
        {TOKENIZER("</s>"), "has no token </s>"},
        {TRAIN "--set data.template=chatml",
         "no token \"<|im_start|>\", which the chat template chatml needs"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        must_run(state, "rm -rf $T/run");
        must_fail(state, cases[i].command, cases[i].text);
        /* nothing is left but the list of dropped samples, if they were the reason */
        if (run(state, "test ! -e $T/run || test \"$(ls -A $T/run)\" = left_out.txt") != 0)
            fail_msg("%s leaves a directory", cases[i].command);
    }
}

/* Makes a model to start from, in T/model. */
static void make_model(void *const *state)
{
    must_run(state, TRAIN "--set 'run.steps=[\"baseline\",\"rank\"]' --set run.dir=$T/made");
    must_run(state, "cp -r $T/made/baseline/model $T/model");
}

/* A tensor's entry in a safetensors header. */
static char *tensor_of(char *header, const char *name)
{
    char *at = strstr(header, name);

    assert_non_null(at);
    return at;
}

enum damage { HUGE_LENGTH, OVERLAP, WRONG_DTYPE, CUT };

/* Overlap: layer 0's v_proj gets the bytes of its k_proj, which has the same size. */
static void overlap(char *header)
{
    char *k = strchr(tensor_of(header, "layers.0.self_attn.k_proj.weight"), ']');
    char *v = tensor_of(header, "layers.0.self_attn.v_proj.weight");
    long long begin, end;

    k = strstr(tensor_of(header, "layers.0.self_attn.k_proj.weight"), "data_offsets");
    v = strstr(v, "data_offsets");
    assert_int_equal(sscanf(k, "data_offsets\":[%lld,%lld]", &begin, &end), 2);
    v = strchr(v, '[') + 1;
    size_t room = strcspn(v, "]");
    char text[64];
    int used = snprintf(text, sizeof text, "%lld,%lld", begin, end);
    assert_true((size_t)used <= room);
    memset(v, ' ', room);
    memcpy(v, text, (size_t)used);
}

static void damage(void *const *state, enum damage how)
{
    const char *path = tmpdir_path(state, "bad/model.safetensors");
    size_t len;
    char *text;

    must_run(state, "rm -rf $T/bad; cp -r $T/model $T/bad");
    text = slurp(path, &len);
    if (how == HUGE_LENGTH) memset(text, 0xff, 7);
    if (how == OVERLAP) overlap(text + 8);
    if (how == WRONG_DTYPE) memcpy(strstr(tensor_of(text + 8, "k_proj.weight"), "F32"), "I32", 3);
    spill(path, text, how == CUT ? len / 2 : len);
    free(text);
}

static void test_bad_safetensors(void **state)
{
    static const struct {
        enum damage how;
        const char *text;
    } cases[] = {
        {HUGE_LENGTH,
         "at most 100000000 are allowed: the file is damaged, or no safetensors file; download"},
        {OVERLAP, "v_proj.weight: shares bytes with"},
        {WRONG_DTYPE, "k_proj.weight"},
        {CUT, "bytes of data: it is cut short, copy or download it again"}};

    make_model(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        damage(state, cases[i].how);
        must_fail(state, TRAIN "--set model.path=$T/bad --set 'run.steps=[\"rank\"]'",
                  cases[i].text);
        assert_false(is_there(tmpdir_path(state, "run")));
    }
}

#define ADD_TOKEN(id)                                                                              \
    "sed -i '0,/\"added_tokens\":\t\\[{/s//\"added_tokens\":[{\"id\":" id                          \
    ",\"content\":\"<new>\"},{/' $T/bad/tokenizer.json"

/* A model from the hub with inconsistent files: each gives one line that names the file, the tensor
 * or the setting, and what was found. */
static void test_bad_model(void **state)
{
#define M "language_model.model."
#define V "vision_tower.vision_model."
#define SET(key, old, new)                                                                         \
    {                                                                                              \
        .find = "\"" key "\":\t" old, .replace = "\"" key "\":" new                                \
    }
#define INDEX "$T/bad/model.safetensors.index.json"
#define NORM "layers.0.input_layernorm.weight"
    static const struct {
        struct edit edit;
        const char *then; /* a shell command */
        const char *said[3];
    } rows[] = {
        /* tensors */
        {{.skip = M "layers.1.self_attn.k_proj.weight"},
         NULL,
         {"/bad: tensor " M "layers.1.self_attn.k_proj.weight is missing", "not complete"}},
        {{.skip = M "embed_tokens.weight"},
         NULL,
         {"/bad: tensor " M "embed_tokens.weight is missing"}},
        {{.more = M "layers.0.self_attn.q_norm.weight"},
         NULL,
         {"/bad/model.safetensors: tensor " M "layers.0.self_attn.q_norm.weight: is not used"}},
        {{.twist = M "layers.1.mlp.gate_proj.weight"},
         NULL,
         {"/bad/model.safetensors: tensor " M "layers.1.mlp.gate_proj.weight: has shape [32, 48]",
          "must be [48, 32]"}},
        {{.whole = M "layers.0.mlp.up_proj.weight"},
         NULL,
         {"/bad/model.safetensors: tensor " M "layers.0.mlp.up_proj.weight: is I8",
          "quantized weights cannot"}},
        /* shards */
        {{.shard = 40000},
         "rm $T/bad/model-00002-of-*",
         {"/bad/model-00002-of-0000", "is not there, but", "index.json puts tensor "}},
        {{.shard = 40000},
         "sed -i 's/" NORM "\":[ \t]*\"model-0000[0-9]/" NORM "\": \"model-00009/' " INDEX,
         {"/bad/model-00009-of-", "is not there", NORM}},
        {{.shard = 40000},
         "sed -i 's/" NORM "\"/" NORM ".x\"/' " INDEX,
         {"index.json: tensor " M NORM ".x: is not in model-0000", "where the index puts it"}},
        {{.shard = 40000},
         "sed -i '/model-00002-of/d' " INDEX,
         {"/bad: tensor ", " is missing", "; model-00002-of-0000"}},
        {{.shard = 40000},
         "f=$(grep 'model.norm.weight' " INDEX " | grep -o 'model-[0-9]*-of'); "
         "sed -i \"/$f/d\" " INDEX,
         {"/bad/config.json:", "-of-0000",
          ".safetensors is there, but the index names no tensor of it: fetch the index again"}},
        {{.shard = 40000},
         "sed -i '/model-00002-of/d' " INDEX "; rm $T/bad/model-00002*",
         {"/bad: tensor ", "; by their names there are ", " shards, but the index names "}},
        {{0}, "rm $T/bad/model.safetensors", {"/bad: holds no weights: no model.safetensors, no "}},
        {{0},
         "mv $T/bad/model.safetensors $T/bad/pytorch_model.bin",
         {"/bad/pytorch_model.bin: is a safetensors file"}},
        {{0},
         "mv $T/bad/model.safetensors $T/bad/adapter_model.safetensors",
         {"/bad: is an adapter of another model: merge it first"}},
        /* settings that contradict the tensors */
        {SET("hidden_size", "32", "64"),
         NULL,
         {"/bad/config.json:14:17: text_config.hidden_size is 64, but tensor " M
          "embed_tokens.weight is [4",
          ", 32]: config.json and the tensors must be of the same model"}},
        {SET("vocab_size", "", "1"),
         NULL,
         {"/bad/config.json:", "text_config.vocab_size is 14", "[4"}},
        {SET("num_hidden_layers", "2", "3"),
         NULL,
         {"text_config.num_hidden_layers is 3, but the tensors " M "layers.* have 2 layers"}},
        {SET("num_hidden_layers", "2", "1"),
         NULL,
         {"text_config.num_hidden_layers is 1, but the t"}},
        {SET("num_key_value_heads", "2", "1"),
         NULL,
         {"text_config.num_key_value_heads is 1, which with head_dim 16 makes 16, but tensor " M
          "layers.0.self_attn.k_proj.weight is [32, 32]"}},
        {SET("num_attention_heads", "2", "2,\"head_dim\":8"),
         NULL,
         {"text_config.num_attention_heads is 2, which with head_dim 8 makes 16, but tensor " M
          "layers.0.self_attn.q_proj.weight is [32, 32]"}},
        {SET("intermediate_size", "48", "64"),
         NULL,
         {"text_config.intermediate_size is 64, but tensor " M
          "layers.0.mlp.gate_proj.weight is [48"}},
        {SET("rms_norm_eps", "", "1e-5,\"attention_bias\":true,\"x\":"),
         NULL,
         {"text_config.attention_bias is true, but there is no tensor " M
          "layers.0.self_attn.q_proj"}},
        {SET("rms_norm_eps", "", "1e-5,\"mlp_bias\":true,\"x\":"),
         NULL,
         {"text_config.mlp_bias is true, but there is no tensor " M "layers.0.mlp.gate_proj.bias"}},
        {SET("model_type", "\"llama\"", "\"qwen2\""),
         NULL,
         {"text_config.model_type is \"qwen2\", which has biases, but there is no tensor"}},
        {SET("projector_hidden_act", "\"gelu\"", "\"gelu\",\"multimodal_projector_bias\":false"),
         NULL,
         {"multimodal_projector_bias is false, but there is a tensor "
          "multi_modal_projector.linear_1"}},
        {{.more = "language_model.lm_head.weight", .like = M "layers.0.self_attn.q_proj.weight"},
         NULL,
         {"tensor language_model.lm_head.weight: has shape [32, 32], by config.json it must be "
          "[4"}},
        {{0},
         "sed -i 's/tie_word_embeddings\":\ttrue/tie_word_embeddings\":false/' $T/bad/config.json",
         {"tie_word_embeddings is false, but there is no tensor language_model.lm_head.weight"}},
        {{0},
         "sed -i '/vision_config/,$s/\"hidden_size\":\t32/\"hidden_size\":64/' $T/bad/config.json",
         {"vision_config.hidden_size is 64, but tensor " V "embeddings.class_embedding is [32]"}},
        {{0},
         "sed -i '/vision_config/,$s/_size\":\t48/_size\":64/' $T/bad/config.json",
         {"vision_config.intermediate_size is 64, but tensor " V
          "encoder.layers.0.mlp.fc1.weight is"}},
        {{0},
         "sed -i '/vision_config/,$s/_layers\":\t2/_layers\":3/' $T/bad/config.json",
         {"vision_config.num_hidden_layers is 3, but the tensors " V
          "encoder.layers.* have 2 layers"}},
        {SET("image_size", "32", "48"),
         NULL,
         {"vision_config.image_size is 48, which with a class token and a patch_size of 16 makes "
          "10",
          "position_embedding.weight is [5, 32]"}},
        {SET("patch_size", "16", "8"),
         NULL,
         {"vision_config.patch_size is 8, but tensor", "16, 16]"}},
        /* other models */
        {SET("model_type", "\"llava\"", "\"llava_1_7\""),
         NULL,
         {"/bad/config.json:3:15: model_type is \"llava_1_7\"; allowed: llava, llava_next, "
          "qwen2_vl, qwen2_5_vl, llama, mistral, qwen2"}},
        {SET("model_type", "\"llava\"", "\"qwen3_vl\""),
         NULL,
         {"model_type is \"qwen3_vl\"; allowed:"}},
        {SET("text_config", "", "0,\"mm_projector_type\":\"mlp2x_gelu\",\"x\":"),
         "sed -i 's/\"text_config\":0,//' $T/bad/config.json",
         {"mm_projector_type is \"mlp2x_gelu\"", "this is a checkpoint of LLaVA's own code"}},
        {SET("rope_theta", "", "1e4,\"rope_scaling\":{\"type\":\"longrope\",\"factor\":4},\"x\":"),
         NULL,
         {"text_config.rope_scaling.type is \"longrope\"; allowed: default, linear, dynamic, "
          "llama3, yarn"}},
        /* files that are not what they should be */
        {{0},
         "sed -i 's/\"projection_dim\":.*[0-9]/&,/' $T/bad/config.json",
         {"/bad/config.json:", ": a trailing comma is not allowed before }, near ','"}},
        {{0},
         "head -c 300 $T/bad/config.json > $T/cut && mv $T/cut $T/bad/config.json",
         {"/bad/config.json:", ", near "}},
        {{0},
         "printf '{\"eos_token_id\":\\n\"x\"}' > $T/bad/generation_config.json",
         {"/bad/generation_config.json:2:1: eos_token_id is \"x\"; allowed: a token id below"}},
        {{0},
         "echo '{\"size\":{\"shortest_edge\":8},\"crop_size\":8} trailing } garbage' > "
         "$T/bad/preprocessor_config.json",
         {"/bad/preprocessor_config.json:1:44: ", "trailing } garbage"}},
        {{0},
         "echo '{\"image_processor\":{}}' > $T/bad/processor_config.json",
         {"/bad/processor_config.json: makes pictures of 224 x 224, the tower takes 32 x 32"}},
        {{.find = "\"vocab_size\":", .replace = "\"x\":"},
         NULL,
         {"/bad/config.json: text_config.vocab_size is 32000, but tensor " M "embed_tokens.weight",
          "; text_config.vocab_size is left out there, and has its default"}},
        {{0},
         "rm $T/bad/model.safetensors; printf '\\200\\002}q' > $T/bad/pytorch_model.bin",
         {"/bad/pytorch_model.bin: is a Python pickle: load it in Python"}},
        /* the tokenizer */
        {{0},
         "sed -i 's/<image>/<picture>/g' $T/bad/tokenizer.json",
         {"/bad/tokenizer.json: has no token \"<image>\", but image_token_index is 3 (",
          "/bad/config.json)"}},
        {SET("image_token_index", "3", "7"),
         NULL,
         {"/bad/tokenizer.json: token \"<image>\" has id 3, but image_token_index is 7 (",
          "/bad/config.json), which is \"#\" here"}},
        {SET("image_token_index", "3", "32000"), NULL, {"is 32000 (", "which is not a token here"}},
        {{0},
         ADD_TOKEN("9999"),
         {"/bad/tokenizer.json:5:18: added token \"<new>\" has id 9999 here, but added tokens are "
          "numbered on from the vocabulary's: 440"}},
        {{0},
         ADD_TOKEN("440"),
         {"/bad/tokenizer.json: the last token \"<new>\" has id 440, but the model's vocab_size "
          "is 440"}},
        {{0},
         "sed -i 's/\"pre_tokenizer\":/\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"x\":/' "
         "$T/bad/tokenizer.json",
         {"/bad/tokenizer.json", "pre_tokenizer \"BertPreTokenizer\" is not known to this reader"}},
    };

    make_model(state);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        must_run(state, "rm -rf $T/bad; mkdir $T/bad; cp $T/model/*.json $T/bad");
        copy_edited(tmpdir_path(state, "model"), tmpdir_path(state, "bad"), &rows[i].edit);
        if (rows[i].then) must_run(state, rows[i].then);
        for (int k = 0; k < 3 && rows[i].said[k]; k++)
            must_fail(state,
                      TRAIN "--set model.path=$T/bad --set model.tokenizer=$T/bad "
                            "--set 'run.steps=[\"rank\"]'",
                      rows[i].said[k]);
        assert_false(is_there(tmpdir_path(state, "run/config.json")));
    }
}

/* Looks wrong but is not: a head that repeats tied embeddings, buffers in older files, rows of the
 * embedding without a token. */
static void test_unusual_model(void **state)
{
    static const struct edit edits[] = {
        {.more = "language_model.lm_head.weight", .like = M "embed_tokens.weight"},
        {.more = M "layers.0.self_attn.rotary_emb.inv_freq"},
        {.more = V "embeddings.position_ids"},
        {.shard = 40000},
    };

    make_model(state);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        must_run(state, "rm -rf $T/bad $T/run; mkdir $T/bad; cp $T/model/*.json $T/bad");
        copy_edited(tmpdir_path(state, "model"), tmpdir_path(state, "bad"), &edits[i]);
        must_run(state, TRAIN "--set model.path=$T/bad --set model.tokenizer=$T/bad "
                              "--set 'run.steps=[\"rank\"]'");
    }
    /* a tokenizer with fewer words than the model was made for */
    must_run(
        state,
        "rm -rf $T/run; $B/mha2mla-data tokenizer --out $T/few $T/s/test.json && "
        "test $(grep -c . $T/few/tokenizer.json) -lt $(grep -c . $T/tok/tokenizer.json) && " TRAIN
        "--set model.path=$T/bad --set model.tokenizer=$T/few --set 'run.steps=[\"rank\"]'");
}

/* Samples that are used but may be unintended: the dry run mentions them too. */
static void test_unusual_samples(void **state)
{
    must_run(state, SAMPLE("", "{\"from\":\"gpt\",\"value\":\"A\"}") TRAIN
             "--set data.train[0].path=$T/x.json --set svd.decoupled=false --dry-run && grep -q "
             "'data.train: samples that "
             "begin with an answer: 1; the first: .*x.json:1:2$' $T/out");
}

/* Text in a wider form than UTF-8, as a list and as lines, with the zeros before and after. */
static void test_wide_text(void **state)
{
    static const char *const forms[] = {"UTF-16LE", "UTF-16BE", "UTF-32LE", "UTF-32BE"};
    char command[400], said[100];

    must_run(state, "echo '{\"conversations\":[" HUMAN("Q") GPT "]}' > $T/lines.json");
    for (size_t i = 0; i < 2 * sizeof forms / sizeof *forms; i++) {
        snprintf(command, sizeof command,
                 "iconv -f UTF-8 -t %s %s > $T/x.json; " TRAIN "--set data.train[0].path=$T/x.json",
                 forms[i / 2], i % 2 ? "$T/s/test.json" : "$T/lines.json");
        snprintf(said, sizeof said, "/x.json: is text in %.6s: save it as UTF-8", forms[i / 2]);
        must_fail(state, command, said);
        assert_false(is_there(tmpdir_path(state, "run")));
    }
}

/* A few pictures, fewer than are decoded at a time, and one that is not there. */
static void test_few_pictures(void **state)
{
    static const char *const families[] = {
        "llava", "llava_next --set baseline.image_size=32",
        "qwen2_5_vl --set model.tokenizer=$T/qtok --set data.template=qwen2_vl "
        "--set baseline.patch_size=8 --set baseline.image_size=32"};
    char command[700];

#define ASKED(picture) "{\"image\":\"" picture "\",\"conversations\":[" HUMAN("<image>Q") GPT "]}"
    must_run(
        state,
        "echo '[" ASKED("s/images/gone.png") "," ASKED("s/images/train-000000.png") "," ASKED(
            "s/images/train-000003.png") "]' > $T/x.json; "
                                         "echo '[" ASKED(
                                             "s/images/test-000000.png") "]' > $T/y.json; "
                                                                         "$B/mha2mla-data "
                                                                         "tokenizer --template "
                                                                         "qwen2_vl --out $T/qtok "
                                                                         "$T/s/train.json");
    for (size_t i = 0; i < 2 * sizeof families / sizeof *families; i++) {
        snprintf(command, sizeof command,
                 "rm -rf $T/run; " TRAIN "--set data.train[0].path=$T/x.json --set "
                 "'data.eval=[{\"path\":\"'$T'/y.json\"}]' --set 'run.steps=[\"baseline\"]' "
                 "--set baseline.steps=1 --set baseline.batch_size=2 --set baseline.family=%s %s",
                 families[i / 2], i % 2 ? "" : "--dry-run");
        must_run(state, command);
        must_say(state, "samples left out: 1, ");
    }
}

/* Characters for which the tokenizer has nothing: they vanish, or become its unknown. */
static void test_characters_without_a_token(void **state)
{
#define ZEBRA                                                                                      \
    TRAIN "--set data.train[0].path=$T/x.json --set svd.decoupled=false --set "                    \
          "model.tokenizer=$T/tok "
    must_run(
        state,
        SAMPLE(
            "",
            HUMAN("Z ZQ") GPT "," HUMAN(
                "Q") ",{\"from\":\"gpt\",\"value\":\"AZ\"}") "sed -i 's/\"Z\":/\"Z_is_no_more\":/' "
                                                             "$T/tok/tokenizer.json; " ZEBRA
                                                             "--dry-run");
    must_say(state, "data.train: characters without a token: 3 in 1 sample (\"<0x5A>\"), "
                    "which vanish from what is read and trained; the first: ");
    must_say(state, "/x.json:1:2\n");
    must_say(state, "  without a token, and not in the text below: \"<0x5A>\"\n");
    assert_true(says(state, "\" A</s>\"") && !says(state, "Z</s>") && !says(state, "Z Q"));
    must_run(state, ZEBRA "--set 'run.steps=[\"baseline\"]' --set baseline.steps=1");
    assert_true(
        says(state, "data.train: characters without a token: 3 in 1 sample (\"<0x5A>\"), "));
    must_run(state, "sed -i 's/\"unk_token\":\tnull/\"unk_token\":\t\"<unk>\"/' "
                    "$T/tok/tokenizer.json; rm -r $T/run; " ZEBRA "--dry-run");
    must_say(state, "3 in 1 sample (\"<0x5A>\"), which become <unk>; the first: ");
    assert_false(says(state, "Z</s>") || says(state, "Z Q"));
}

/* Files that are not read here, but copied into every saved model. */
static void test_bad_companions(void **state)
{
#define LFS "printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:0\\nsize 1\\n' > "
#define GIVEN TRAIN "--set model.path=$T/bad --set 'run.steps=[\"rank\",\"stage1\"]' "
    static const struct {
        const char *make, *said;
    } rows[] = {
        {LFS "$T/bad/chat_template.jinja", "/bad/chat_template.jinja: is a Git LFS pointer"},
        {": > $T/bad/merges.txt", "/bad/merges.txt: is empty; a saved model gets a copy of this"},
        {"echo '<!doctype html><p>' > $T/bad/tokenizer.model", "/bad/tokenizer.model: is an HTML"},
        {"printf 'Entry not found' > $T/bad/tokenizer.model", "\"Entry not found\""},
        {"mkfifo $T/bad/tokenizer.model", "/bad/tokenizer.model: is a named pipe"},
        {"ln -s gone $T/bad/merges.txt", "/bad/merges.txt: is a link to gone, which is not there"},
        {"echo '{\"a\": 1' > $T/bad/vocab.json", "/bad/vocab.json:2:1: "},
        {"echo '{\"a\": 1}' > $T/bad/vocab.json; " LFS "$T/bad/chat_template.json",
         "/bad/chat_template.json: is a Git LFS pointer"},
        {LFS "$T/bad/generation_config.json", "/bad/generation_config.json: is a Git LFS pointer"},
        /* if another tokenizer is given, its files are preferred to the model's */
        {LFS "$T/bad/special_tokens_map.json; " LFS "$T/tok/special_tokens_map.json",
         "/tok/special_tokens_map.json: is a Git LFS pointer"},
        {"printf '{}' > $T/tok/special_tokens_map.json; " LFS "$T/tok/chat_template.jinja",
         "/tok/chat_template.jinja: is a Git LFS pointer"},
    };

    make_model(state);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        must_run(state, "rm -rf $T/bad; cp -r $T/model $T/bad");
        must_run(state, rows[i].make);
        must_fail(state, GIVEN "--dry-run", rows[i].said);
        must_fail(state, GIVEN, rows[i].said);
        assert_false(is_there(tmpdir_path(state, "run")));
    }
    /* files that would not be copied */
    must_run(state, TRAIN "--set model.path=$T/bad --set 'run.steps=[\"rank\"]' --dry-run");
    must_run(state, "rm -rf $T/bad; cp -r $T/model $T/bad; rm $T/tok/chat_template.jinja; " LFS
                    "$T/bad/tokenizer.json; " GIVEN "--dry-run");
#undef GIVEN
}

/* Truncated HDF5 files. */
static void test_bad_hdf5(void **state)
{
#define CUT(file) "f=" file "; head -c 1500 $f > $f.x; mv $f.x $f; "
#define STEPS "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\"]' "
    static const char *const fuzzed[] = {"external-link", "layout-form",  "attribute-cut",
                                         "header-end-2",  "storage-size", "messages"};

    make_model(state);
    /* a given ranking, and the run's own */
    must_fail(state,
              "cp $T/made/rank/rank.h5 $T/r.h5; " CUT("$T/r.h5") TRAIN
              "--set rank.strategy=file --set rank.file=$T/r.h5 --set model.path=$T/model "
              "--set 'run.steps=[\"stage1\"]'",
              "r.h5: is cut short: 1500 bytes of ");
    for (size_t i = 0; i < sizeof fuzzed / sizeof *fuzzed; i++) {
        char command[600];
        snprintf(command, sizeof command,
                 TRAIN "--set rank.strategy=file --set rank.file=tests/data/h5/%s.h5 "
                       "--set model.path=$T/model --set 'run.steps=[\"stage1\"]'",
                 fuzzed[i]);
        must_fail(state, command, fuzzed[i]);
    }
    assert_false(is_there(tmpdir_path(state, "run/config.json"))); /* before anything is done */
    must_fail(state, CUT("$T/made/rank/rank.h5") TRAIN STEPS "--resume --set run.dir=$T/made",
              "rank/rank.h5: ");
    /* the newest checkpoint: the previous one is used, and that is reported */
    must_run(state,
             "rm -r $T/made/baseline/model; " CUT("$T/made/baseline/checkpoints/step-00000024.h5")
                 TRAIN "--resume --set run.dir=$T/made --set 'run.steps=[\"baseline\"]'");
    char *out = output(state);
    assert_non_null(strstr(out, "step-00000024.h5"));
    assert_non_null(strstr(out, "continues from step 20 of 24"));
    free(out);
    must_run(state, "cmp $T/made/baseline/model/model.safetensors $T/model/model.safetensors");
    /* all checkpoints */
    must_fail(state,
              "rm -r $T/made/baseline/model; for f in $T/made/baseline/checkpoints/*; do " CUT(
                  "$f") "done; " TRAIN
                        "--resume --set run.dir=$T/made --set 'run.steps=[\"baseline\"]'",
              "can be loaded");
    /* cached pictures: no loss */
    must_run(state,
             "rm -rf $T/run; for f in $T/cache/*/part-00000.h5; do " CUT("$f") "done; " TRAIN);
    out = output(state);
    assert_non_null(strstr(out, "part-00000.h5: is cut short: 1500 bytes of "));
    free(out);
}

/* A limit on addresses is named, and nothing waits for them forever: neither a product in OpenBLAS
 * nor one of its threads, for which the program's end would wait. */
static void test_few_addresses(void **state)
{
#define LIMITED(kib)                                                                               \
    "rm -rf $T/run; export OPENBLAS_NUM_THREADS=2; ulimit -v " kib "; timeout -s KILL 100 " TRAIN  \
    "--set 'run.steps=[\"baseline\"]' --set baseline.steps=1"
    static const char *const few[] = {LIMITED("200000"), LIMITED("240000"), LIMITED("300000"),
                                      LIMITED("360000")};

    if (SANITIZED) skip();
    for (size_t i = 0; i < sizeof few / sizeof *few; i++)
        must_fail(state, few[i], "`ulimit -v`");
    must_run(state, LIMITED("2000000"));
}

/* Everything was made, but nobody could read about it. */
static void test_full_output(void **state)
{
    static const char *const commands[] = {
        "$B/mha2mla-data shapes --out $T/x --train 1 --test 1", "$B/mha2mla-data --help",
        "$B/mha2mla-data shapes --help", "$B/mha2mla-train --help", TRAIN "--list-points"};
    char command[200];

    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(command, sizeof command, "%s > /dev/full", commands[i]);
        assert_int_equal(run(state, command), 1);
        must_say(state, ": error: standard output: cannot be written\n");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_full_output),     program_test(test_bad_input),
        program_test(test_bad_safetensors), program_test(test_bad_model),
        program_test(test_unusual_model),   program_test(test_unusual_samples),
        program_test(test_bad_companions),  program_test(test_bad_hdf5),
        program_test(test_few_addresses),   program_test(test_wide_text),
        program_test(test_few_pictures),    program_test(test_characters_without_a_token)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
