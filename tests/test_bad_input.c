/* test_bad_input.c - what the program says to settings, data and files that are not as they should
 * be: one line, status 1, nothing half written. */
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

#include "tests/program.h"

#define TRAIN "$B/mha2mla-train --config $C "
/* The samples in $T/x.json, of which none may be bad. */
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
        /* missing files */
        {"$B/mha2mla-train --config $T/no.json", "no.json: No such file"},
        {TRAIN "--set 'data.train=[{\"path\":\"gone.json\"}]'", "gone.json: No such file"},
        {TRAIN "--set model.tokenizer=$T/gone", "gone/tokenizer.json: No such file"},
        {TRAIN "--set model.path=$T/gone --set 'run.steps=[\"rank\"]'",
         "gone/config.json: No such file"},
        {SAMPLE("\"image\":\"x.png\",", HUMAN("<image>Q") GPT) SAMPLES, "x.png"},
        /* samples */
        {SAMPLE("", HUMAN("Q")) SAMPLES, "has no answer to train on"},
        {SAMPLE("", HUMAN("<image>Q") GPT) SAMPLES, "1 <image> marks for 0 pictures"},
        {SAMPLE("\"image\":\"s/images/train-000000.png\",", HUMAN("Q") GPT) SAMPLES,
         "0 <image> marks for 1 pictures"},
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
        if (is_there(tmpdir_path(state, "run/baseline/model"))) fail_msg("%s", cases[i].command);
    }
}

/* A model to start from, in T/model. */
static void make_model(void *const *state)
{
    must_run(state, TRAIN "--set 'run.steps=[\"baseline\",\"rank\"]' --set run.dir=$T/made");
    must_run(state, "cp -r $T/made/baseline/model $T/model");
}

/* The text of a tensor in the safetensors header. */
static char *tensor_of(char *header, const char *name)
{
    char *at = strstr(header, name);

    assert_non_null(at);
    return at;
}

enum damage { HUGE_LENGTH, OVERLAP, WRONG_DTYPE, CUT };

/* Overlapping: v_proj of layer 0 takes the bytes of k_proj, which has as many. */
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
    } cases[] = {{HUGE_LENGTH, "model.safetensors: header of"},
                 {OVERLAP, "v_proj.weight: shares bytes with"},
                 {WRONG_DTYPE, "k_proj.weight"},
                 {CUT, "model.safetensors: "}};

    make_model(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        damage(state, cases[i].how);
        must_fail(state, TRAIN "--set model.path=$T/bad --set 'run.steps=[\"rank\"]'",
                  cases[i].text);
        assert_false(is_there(tmpdir_path(state, "run/config.json")));
    }
}

/* HDF5 files that are cut short. */
static void test_bad_hdf5(void **state)
{
#define CUT(file) "f=" file "; head -c 1500 $f > $f.x; mv $f.x $f; "
#define STEPS "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\"]' "
    make_model(state);
    /* a ranking that is given, and the run's own */
    must_fail(state,
              "cp $T/made/rank/rank.h5 $T/r.h5; " CUT("$T/r.h5") TRAIN
              "--set rank.strategy=file --set rank.file=$T/r.h5 --set model.path=$T/model "
              "--set 'run.steps=[\"stage1\"]'",
              "r.h5: ");
    assert_false(is_there(tmpdir_path(state, "run/config.json"))); /* before anything is done */
    must_fail(state, CUT("$T/made/rank/rank.h5") TRAIN STEPS "--resume --set run.dir=$T/made",
              "rank/rank.h5: ");
    /* the newest checkpoint: the one before is used, and said so */
    must_run(state,
             "rm -r $T/made/baseline/model; " CUT("$T/made/baseline/checkpoints/step-00000024.h5")
                 TRAIN "--resume --set run.dir=$T/made --set 'run.steps=[\"baseline\"]'");
    char *out = output(state);
    assert_non_null(strstr(out, "step-00000024.h5"));
    assert_non_null(strstr(out, "goes on from step 20 of 24"));
    free(out);
    must_run(state, "cmp $T/made/baseline/model/model.safetensors $T/model/model.safetensors");
    /* all of them */
    must_fail(state,
              "rm -r $T/made/baseline/model; for f in $T/made/baseline/checkpoints/*; do " CUT(
                  "$f") "done; " TRAIN
                        "--resume --set run.dir=$T/made --set 'run.steps=[\"baseline\"]'",
              "can be loaded");
    /* computed pictures */
    must_fail(state,
              "rm -rf $T/run; for f in $T/cache/*/part-00000.h5; do " CUT("$f") "done; " TRAIN,
              "part-00000.h5: is damaged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_bad_input),
                                       program_test(test_bad_safetensors),
                                       program_test(test_bad_hdf5)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
