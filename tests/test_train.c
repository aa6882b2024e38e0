/* test_train.c - the program as a user runs it: what a run leaves, that it repeats bit for bit,
 * that it survives being stopped, and what it refuses. */
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

#include <cjson/cJSON.h>

#include "model/model.h"
#include "tests/tmpdir.h"

#include "tests/program.h"

/* The curve's points are computed from 5 samples of each of the two sets; scores.json holds them
 * separately from the scores of all 12 and 7. */
static void check_curve(void **state)
{
    char *text = slurp(tmpdir_path(state, "run/rope4-rank4/stage2/scores.json"), NULL);
    cJSON *scores = cJSON_Parse(text), *all = cJSON_GetObjectItem(scores, "all");
    cJSON *curve = cJSON_GetObjectItem(scores, "curve");
    char *lines = slurp(tmpdir_path(state, "run/metrics.jsonl"), NULL);
    char *line = strstr(lines, "\"point\":\"rope4-rank4\",\"phase\":\"stage2\",\"event\":\"eval\","
                               "\"step\":12,");
    double score, samples;

    assert_int_equal(cJSON_GetObjectItem(all, "of")->valueint, 12 + 7);
    assert_int_equal(cJSON_GetObjectItem(curve, "of")->valueint, 5 + 5);
    assert_non_null(line);
    assert_int_equal(
        sscanf(strstr(line, "\"score\":"), "\"score\":%lf,\"samples\":%lf", &score, &samples), 2);
    assert_int_equal(samples, 10);
    assert_true(score == cJSON_GetObjectItem(curve, "right")->valuedouble / 10);
    cJSON_Delete(scores);
    free(text);
    free(lines);
}

static void test_files_and_bits(void **state)
{
    static const char *const files[] = {"config.json",
                                        "train.log",
                                        "metrics.jsonl",
                                        "metrics.h5",
                                        "report.md",
                                        "tensorboard/rope4-rank4/stage2",
                                        "base/scores.json",
                                        "rope4-rank4/stage2/checkpoints/step-00000012.h5",
                                        "rope4-rank1/stage2/model/config.json",
                                        "rope4-rank1/stage2/model/tokenizer.json"};
    char path[200];

    must_run(state, "$B/mha2mla-train --config $C");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "run/%s", files[i]);
        if (!is_there(tmpdir_path(state, path))) fail_msg("the run left no %s", path);
    }
    check_curve(state);
    must_run(state, "! grep -v '\"prompt\":\"[^\"]*ASSISTANT:\"' $T/run/base/answers.jsonl");
    must_run(state, FINGERPRINT("$T/run") " > $T/sums");
    must_run(state, "$B/mha2mla-train --config $C --resume"); /* nothing is left to do */
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
    must_run(state, "$B/mha2mla-train --config $C --set run.dir=$T/again");
    must_run(state, FINGERPRINT("$T/again") " | diff $T/sums -");
}

static void test_second_run_is_refused(void **state)
{
    pid_t pid = start_endless(state, "");

    must_fail(state, "exec timeout -s KILL 20 " ENDLESS, "another run works in this directory");
    must_run(state, "rm $T/run/lock"); /* the directory is locked too */
    must_fail(state, "exec timeout -s KILL 20 " ENDLESS, "another run works in this directory");
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* the first run continues */
    kill(pid, SIGKILL);
    finish(pid);
}

static void test_sigterm(void **state)
{
    must_repeat(state);
    assert_true(stop_and_go(state, SIGTERM, (const long[]){60, 150, 350}, 3) > 0);
}

/* Killed in the middle of each training, when a checkpoint has just appeared, and of a conversion;
 * tests/long/test_kills.c does it at random moments. */
static void test_kill(void **state)
{
    static const char *const seen[] = {
        "baseline/checkpoints/step-00000005.h5",           "rank/rank.h5",
        "rope4/stage1/checkpoints/step-00000005.h5",       "rope4-rank4/svd",
        "rope4-rank4/stage2/checkpoints/step-00000005.h5", "rope4-rank1/stage2/model"};
    char path[200];
    int stopped = 0;

    must_repeat(state);
    must_run(state, "rm -rf $T/cache");
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        pid_t pid = start(*state, "exec $B/mha2mla-train --config $C --resume");
        snprintf(path, sizeof path, "run/%s", seen[i]);
        for (int k = 0; k < 20000 && !is_there(tmpdir_path(state, path)); k++)
            sleep_ms(1);
        kill(pid, SIGKILL);
        stopped += finish(pid) == 128 + SIGKILL;
    }
    assert_in_range(stopped, 4, 6); /* some may have finished before we looked */
    must_run(state, "$B/mha2mla-train --config $C --resume");
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
}

static void test_refused(void **state)
{
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    must_fail(state, "$B/mha2mla-train --config $C", "already holds a run: add --resume");
    /* what would contradict what is there already */
    must_fail(state, "$B/mha2mla-train --config $C --resume --set stage2.lr=0.5", "stage2.lr (was");
    must_fail(state, "$B/mha2mla-train --config $C --resume --set rank.rope_dim=8",
              "rank.rope_dim (was");
    must_fail(state, "$B/mha2mla-train --config $C --resume --set 'sweep.low_rank=[2]'",
              "sweep.low_rank");
    must_fail(state, "$B/mha2mla-train --config $C --resume --set data.train[0].limit=9",
              "data.train");
    must_run(state, "cp $T/s/train.json $T/keep; sed -i s/Describe/describe/ $T/s/train.json");
    must_fail(state, "$B/mha2mla-train --config $C --resume", "data.train has changed since");
    must_run(state, "mv $T/keep $T/s/train.json; sed -i s/Count/count/ $T/s/test.json");
    must_fail(state, "$B/mha2mla-train --config $C --resume", "data.eval[0] has changed since");
}

/* A run that was refused leaves no directory, and nothing in an existing one. */
static void test_mended(void **state)
{
    static const char *const refused[][2] = {
        {"data.train[0].path=$T/s/trian.json", "trian.json"},
        {"'sweep.low_rank=[4,2.25]'", "sweep.low_rank: 2.25 x 2 kv heads"},
        {"run.memory_limit=0.001", "micro_batch"},
        {"model.tokenizer=$T/gone", "/gone: no such directory"},
        {"'data.eval=[]'", "data.eval has no samples"},
        {"data.cache=$T/c.json", "data.cache: "},
        {"data.cache=$T/c.json/below", "c.json: is there but is not a directory"},
        {"rank.strategy=file --set rank.file=$T/gone.h5", "gone.h5"},
        {"'run.steps=[\"baseline\",\"rank\"]' --set rank.strategy=file",
         "rank.file: must be given"},
        {"'run.steps=[\"baseline\",\"rank\"]' --set rank.strategy=file --set rank.file=$T/c.json",
         "c.json: is "}};
    char command[300];

    for (int there = 0; there < 2; there++) {
        if (there) must_run(state, "mkdir $T/run");
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
            snprintf(command, sizeof command, "$B/mha2mla-train --config $C --set %s",
                     refused[i][0]);
            must_fail(state, command, refused[i][1]);
            must_run(state, there ? "test -z \"$(ls -A $T/run)\"" : "test ! -e $T/run");
        }
    }
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    must_run(state, "grep -q 'matrix products' $T/run/train.log"); /* from before the log exists */
}

/* Dropped samples are counted by kind in the log, and listed in a file. */
static void test_left_out(void **state)
{
    must_run(state, "mkdir $T/bad && cp -r $T/s/images $T/bad && sed -e '3s/\"gpt\"/\"human\"/g' "
                    "-e 's/train-000005.png/gone.png/' $T/s/train.json > $T/bad/train.json");
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' "
                    "--set data.train[0].path=$T/bad/train.json");
    must_run(state, "grep -q 'a picture is missing or broken: .*bad/train.json:7:[0-9]*: "
                    ".*gone.png: No such file.* (id ' "
                    "$T/run/left_out.txt && "
                    "grep -q 'nothing in them would be trained: .*bad/train.json:3:[0-9]*: ' "
                    "$T/run/left_out.txt && "
                    "test $(wc -l < $T/run/left_out.txt) = 2");
}

/* A run that is refused because of dropped samples leaves only their list, which its message names
 * and the next try replaces. A dry run leaves nothing. */
static void test_left_out_refused(void **state)
{
    static const char command[] = "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' "
                                  "--set data.train[0].path=$T/s/bad.json --set data.max_bad=0";
    char again[sizeof command + 40];

    must_run(state, "sed -e 's/train-000005.png/gone.png/' -e '3s/\"gpt\"/\"human\"/g' "
                    "$T/s/train.json > $T/s/bad.json");
    snprintf(again, sizeof again, "%s --dry-run", command);
    must_fail(state, again, "samples that cannot be used: 2, data.max_bad allows 0");
    must_run(state, "test ! -e $T/run && ! grep -q left_out $T/out");
    must_fail(state, command, "/run/left_out.txt");
    must_run(state,
             "test \"$(ls -A $T/run)\" = left_out.txt && grep -q gone.png $T/run/left_out.txt "
             "&& test $(wc -l < $T/run/left_out.txt) = 2");
    /* every sample is too long */
    snprintf(again, sizeof again, "%s --set data.max_length=8", command);
    must_fail(state, again, "run/left_out.txt");
    must_run(state, "cp $T/s/train.json $T/s/bad.json");
    must_run(state, command);
    must_run(state, "test ! -e $T/run/left_out.txt && test -e $T/run/config.json");
}

#define GIVEN                                                                                      \
    "$B/mha2mla-train --config $C --set run.dir=$T/given --set model.path=$T/run/baseline/model "  \
    "--set 'run.steps=[\"rank\",\"stage1\",\"svd\",\"stage2\"]' --set 'sweep.low_rank=[2]' "
#define OF_BASELINE(set) "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' " set

/* Every compression method ends in scores; "none" compresses nothing, so a copy of the projection
 * for each modality gives the same answers as one for both. */
static void test_methods(void **state)
{
    static const char *const methods[] = {"split", "only_key", "only_value", "none"};
    char command[400];

    must_run(state, OF_BASELINE(""));
    for (int i = 0; i < 8; i++) {
        snprintf(command, sizeof command,
                 "$B/mha2mla-train --config $C --set run.dir=$T/m%d --set "
                 "model.path=$T/run/baseline/model --set 'run.steps=[\"rank\",\"svd\","
                 "\"evaluate\"]' --set 'sweep.low_rank=[2]' --set svd.method=%s --set "
                 "svd.decoupled=%s",
                 i, methods[i / 2], i % 2 ? "true" : "false");
        must_run(state, command);
    }
    must_run(state, "cmp $T/m6/rope4-rank2/svd/answers.jsonl $T/m7/rope4-rank2/svd/answers.jsonl");
}

#define WHOLE_HEADS                                                                                \
    "$B/mha2mla-train --config $C --set model.path=$T/run/baseline/model --set "                   \
    "'run.steps=[\"rank\",\"stage1\",\"svd\",\"stage2\",\"evaluate\",\"report\"]' --set "          \
    "'sweep.low_rank=[2]' --set run.dir=$T/whole-$M --set svd.method=$M "

/* Every pair of a head of 16 stays rotated: no row is left of the keys' other part, in what is
 * trained, saved and opened again. Alone and beside another number of pairs. */
static void test_whole_heads(void **state)
{
    static const char *const methods[] = {"joint", "none", "only_value"};
    static const char *const dims[] = {
        "'sweep.partial_rope=[4,16]'", "rank.rope_dim=16",
        "rank.rope_dim=16 --set stage1.peft=all --set save.full=true"};
    char command[700];

    must_run(state, OF_BASELINE(""));
    for (int i = 0; i < 3; i++) {
        setenv("M", methods[i], 1);
        snprintf(command, sizeof command, WHOLE_HEADS "--set %s --dry-run", dims[i]);
        must_run(state, command);
        snprintf(command, sizeof command, WHOLE_HEADS "--set %s", dims[i]);
        must_run(state, command);
        must_run(state, "grep -q 'rope16-rank2/stage2: exact match' $T/whole-$M/train.log");
    }
    setenv("M", "split", 1);
    must_fail(state, WHOLE_HEADS "--set rank.rope_dim=16 --dry-run", "every pair stays rotated");
    unsetenv("M");
}

/* A given model: with another tokenizer's files, which the export must contain and no others, every
 * model exported whole; and another model put in its place. */
static void test_given_model(void **state)
{
    must_run(state, OF_BASELINE(""));
    must_run(state, "echo '{}' > $T/run/baseline/model/added_tokens.json; "
                    "cp -r $T/tok $T/tok2; echo >> $T/tok2/tokenizer.json; "
                    "echo '{\"legacy\": true}' > $T/tok2/tokenizer_config.json; " GIVEN
                    "--set model.tokenizer=$T/tok2 --set save.full=true");
    must_run(state, "grep -qF 'tokenizer: tokenizer.json as it is (transformers does so for "
                    "model_type llava)' $T/given/train.log");
    must_run(state, "for d in rope4/stage1 rope4-rank2/svd rope4-rank2/stage2; do "
                    "cd $T/given/$d/model && test -e rope_ranks.pth && test -e tokenizer.json && "
                    "! grep -q '\"base\"' config.json && "
                    "grep -q language_model.lm_head model.safetensors || exit 1; done");
    must_run(state, "cd $T/given/rope4-rank2/stage2/model && test ! -e added_tokens.json && "
                    "for f in tokenizer.json tokenizer_config.json; do cmp $T/tok2/$f $f || "
                    "exit 1; done");
    must_run(state, "cmp $T/run/baseline/model/preprocessor_config.json "
                    "$T/given/rope4-rank2/stage2/model/preprocessor_config.json");
    must_run(state, OF_BASELINE("--set run.dir=$T/other --set run.seed=2"));
    must_run(state, "cp $T/other/baseline/model/model.safetensors $T/run/baseline/model");
    must_fail(state, GIVEN "--set model.tokenizer=$T/tok2 --resume",
              "model.path/model.safetensors has changed");
}

#define SCORED(dir, model, steps)                                                                  \
    "$B/mha2mla-train --config $C --set run.dir=$T/" dir " --set "                                 \
    "model.path=$T/given/" model "/model --set 'run.steps=[" steps "]' "
#define CONVERTED(dir, steps) SCORED(dir, "rope4-rank2/stage2", steps)

/* A converted model is scored unchanged, and never converted again. One of changed tensors only
 * takes its other files from the model that it builds on. */
static void test_given_converted_model(void **state)
{
    must_run(state, OF_BASELINE(""));
    must_run(state, GIVEN);
    must_run(state, "$B/mha2mla-train --config $T/given/config.json --resume --set "
                    "'run.steps=[\"evaluate\"]'");
    /* a report alone still shows what was trained before, and one without trainings no table */
    must_run(state,
             "$B/mha2mla-train --config $T/given/config.json --resume --set "
             "'run.steps=[\"report\"]' && grep -q '^| rope4-rank2 | stage 2 | [1-9]' "
             "$T/given/report.md && grep -q '^| rope4 | stage 1 | [1-9]' $T/given/report.md");
    must_run(state, CONVERTED("alone", "\"evaluate\",\"report\"") "--dry-run > $T/plan");
    must_run(state, "grep -q '^original .*100.00 %' $T/plan && grep -q '^base .*18.75 %' $T/plan");
    must_run(state, CONVERTED("alone", "\"evaluate\",\"report\""));
    must_run(state, "cmp $T/given/rope4-rank2/stage2/scores.json $T/alone/base/scores.json && "
                    "cmp $T/given/rope4-rank2/stage2/answers.jsonl $T/alone/base/answers.jsonl");
    must_run(state, "! grep -q Trainings $T/alone/report.md");
    must_fail(state, CONVERTED("again", "\"evaluate\",\"report\",\"svd\""), "is already converted");
    must_run(state, "test ! -e $T/again/config.json");
    must_run(state, SCORED("one", "rope4/stage1", "\"evaluate\"") "--set model.tokenizer=null");
    must_run(state, "cmp $T/given/rope4/stage1/answers.jsonl $T/one/base/answers.jsonl");
    must_run(state, SCORED("two", "rope4-rank2/svd", "\"evaluate\"") "--set model.tokenizer=null");
    assert_true(says(state, "has no tokenizer.json: that of ") &&
                says(state, "has no preprocessor_config.json: that of "));
    must_run(state, "cmp $T/given/rope4-rank2/svd/answers.jsonl $T/two/base/answers.jsonl");
    must_run(state, "mv $T/run/baseline/model $T/away");
    must_fail(state, SCORED("two", "rope4/stage1", "\"evaluate\"") "--dry-run",
              "/given/rope4/stage1/model/config.json: mha2mla.base: ");
}

/* A given model of which only the projector is trained before it is converted: what follows starts
 * from the result, and the given model stays unchanged. */
static void test_given_model_trained(void **state)
{
    static const char command[] =
        "$B/mha2mla-train --config $C --set run.dir=$T/given --set "
        "model.path=$T/run/baseline/model "
        "--set baseline.peft=none --set baseline.vision=false --set 'sweep.low_rank=[2]'";
    struct model m[2];
    struct err e;

    must_run(state, OF_BASELINE(""));
    must_run(state, "cp -r $T/run/baseline/model $T/was");
    must_run(state, command);
    must_run(state, "diff -r $T/was $T/run/baseline/model && "
                    "grep -q '\"base\":.*given/baseline/model\"' "
                    "$T/given/rope4-rank2/svd/model/config.json && "
                    "grep -q 'trained further here' $T/given/report.md");
    for (int i = 0; i < 2; i++)
        if (!model_open(&m[i], tmpdir_path(state, i ? "given/baseline/model" : "was"), &e))
            fail_msg("%s", e.msg);
    for (int64_t i = 0; i < m[0].n_params; i++) {
        const struct tensor *a = &m[0].params[i].t, *b = &m[1].params[i].t;
        bool same = memcmp(a->data, b->data, (size_t)tensor_count(a) * sizeof(float)) == 0;
        if (same != (m[0].params[i].kind != PARAM_PROJECTOR))
            fail_msg("%s: %s", m[0].params[i].name, same ? "as it was" : "was trained");
    }
    model_close(&m[0]);
    model_close(&m[1]);
    must_run(state, "cp $T/given/baseline/model/model.safetensors "
                    "$T/run/baseline/model");
    char again[sizeof command + 20];
    snprintf(again, sizeof again, "%s --resume", command);
    must_fail(state, again, "model.path/model.safetensors has changed");
}

/* run.threads 0, the default, means all cores: a run resumes with the same number. */
static void test_threads(void **state)
{
    static const char command[] = "$B/mha2mla-train --config $C --set run.threads=0 --resume --set "
                                  "'run.steps=[\"baseline\"]'";

    must_run(state, command);
    must_run(state, command);
    must_say(state, "baseline: is done already");
}

static void test_points(void **state)
{
    must_run(state, "$B/mha2mla-train --config $C --set 'sweep.partial_rope=[4,8]' --list-points "
                    "| tr -s ' ' > $T/points; printf '0 rope4-rank4\n1 rope4-rank1\n"
                    "2 rope8-rank4\n3 rope8-rank1\n' | diff - $T/points");
    must_run(state, "cat $C | $B/mha2mla-train --config /dev/stdin --list-points"); /* a pipe */
    must_run(state, "$B/mha2mla-train --config $C --point 1");
    must_run(state, "test -e $T/run/rope4-rank1/stage2/model/config.json && "
                    "test ! -e $T/run/rope4-rank4 && grep -q rope4-rank1 $T/run/report.md");
    must_run(state, "$B/mha2mla-train --config $C --point 0 --resume");
    must_say(state, "rope4/stage1: is done already");
    must_run(state, FINGERPRINT("$T/run") " | grep -v -e ' -$' > $T/sums");
    must_run(state, "$B/mha2mla-train --config $C --set run.dir=$T/all");
    must_run(state, FINGERPRINT("$T/all") " | grep -v -e ' -$' | diff $T/sums -");
}

#define WITH_STATE                                                                                 \
    "$B/mha2mla-train --config $C --set baseline.hidden_size=64 --set 'run.steps=[\"baseline\"]' " \
    "--set optim.state=$S "

/* The optimiser's state in few bits: resuming in the middle ends in the same bits, and is
 * refused with a state of another kind. A width of 64 makes matrices of 4,096 values, which are
 * not kept in fp32. */
static void test_optimiser_state(void **state)
{
    static const char *const types[2][2] = {{"bf16", "bf16"}, {"8bit", "u8"}};
    char text[80];

    for (int i = 0; i < 2; i++) {
        setenv("S", types[i][0], 1);
        must_run(state, "rm -rf $T/run; " WITH_STATE "&& rm -rf $T/quiet && cp -r $T/run $T/quiet");
        must_run(state, "cd $T/run/baseline && rm -r model checkpoints/step-00000024.h5");
        must_fail(state, "S=f32; " WITH_STATE "--resume", "optim.state (was");
        must_run(state, WITH_STATE "--resume");
        must_say(state, "continues from step 20 of 24");
        must_run(state, "cmp $T/run/baseline/model/model.safetensors "
                        "$T/quiet/baseline/model/model.safetensors");
        must_run(state, "cd $T/run && rm -r baseline/model && "
                        "sed -i 's/\"state\":[ \t]*\"[a-z0-9]*\"/\"state\": \"f32\"/' config.json");
        snprintf(text, sizeof text, "exp_avg' is %s [440 x 64], this run needs f32", types[i][1]);
        must_fail(state, "S=f32; " WITH_STATE "--resume", text);
    }
    unsetenv("S");
}

/* With SIGXFSZ ignored, a file that exceeds the limit gets an error, as on a full disk. */
static void test_full_disk(void **state)
{
    const char *again = "rm -r $T/run/baseline/model $T/run/baseline/checkpoints/step-00000024.h5";

    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    must_run(state, "cp -r $T/run $T/quiet");
    must_run(state, again);
    /* a checkpoint has 884 KB; ulimit counts blocks of 512 bytes */
    must_fail(state,
              "trap '' XFSZ; ulimit -f 1000; $B/mha2mla-train --config $C --resume "
              "--set 'run.steps=[\"baseline\"]'",
              "step-00000024.h5: cannot be written: File too large: allow larger files "
              "(ulimit -f), then go on with --resume");
    must_run(state, "cmp $T/run/baseline/checkpoints/step-00000020.h5 "
                    "$T/quiet/baseline/checkpoints/step-00000020.h5 && "
                    "test ! -e $T/run/baseline/checkpoints/step-00000024.h5");
    must_run(state, "$B/mha2mla-train --config $C --resume --set 'run.steps=[\"baseline\"]'");
    must_say(state, "continues from step 20 of 24");
    must_run(state, "cmp $T/run/baseline/model/model.safetensors "
                    "$T/quiet/baseline/model/model.safetensors");
    must_run(state, "rm -r $T/run && mkdir $T/run && ln -s /dev/full $T/run/train.log");
    must_fail(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'",
              "train.log: is a device, a file is needed");
}

static void test_diverged(void **state)
{
    must_fail(state,
              "$B/mha2mla-train --config $C --set baseline.lr=1 --set optim.clip=0 "
              "--set optim.warmup=0 --set optim.eps=1e-30 --set baseline.steps=200 "
              "--set optim.beta1=0 --set checkpoint.every=1 --set optim.weight_decay=1e30",
              " at step ");
    char *out = output(state), *at = strstr(out, " at step ");
    char *good = strstr(out, "the last good checkpoint is step "), path[200];

    assert_true(at && good);
    long step = strtol(at + strlen(" at step "), NULL, 10);
    long last = strtol(good + strlen("the last good checkpoint is step "), NULL, 10);
    assert_int_equal(last, step - 1); /* there is one for every step */
    snprintf(path, sizeof path, "run/baseline/checkpoints/step-%08ld.h5", last);
    assert_true(is_there(tmpdir_path(state, path)));
    snprintf(path, sizeof path, "run/baseline/checkpoints/step-%08ld.h5", step);
    assert_false(is_there(tmpdir_path(state, path)));
    assert_false(is_there(tmpdir_path(state, "run/baseline/model")));
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_files_and_bits),
        program_test(test_second_run_is_refused),
        program_test(test_sigterm),
        program_test(test_kill),
        program_test(test_refused),
        program_test(test_mended),
        program_test(test_threads),
        program_test(test_points),
        program_test(test_left_out),
        program_test(test_left_out_refused),
        program_test(test_methods),
        program_test(test_whole_heads),
        program_test(test_given_model),
        program_test(test_given_converted_model),
        program_test(test_given_model_trained),
        program_test(test_optimiser_state),
        program_test(test_full_disk),
        program_test(test_diverged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
