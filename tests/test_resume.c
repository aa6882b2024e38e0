/* test_resume.c - a run that is gone on with: what it was given must be as it was, wherever it lies
 * now, and what it has left must be whole. */
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
#define BASELINE TRAIN "--set 'run.steps=[\"baseline\"]' "
#define GIVEN                                                                                      \
    TRAIN "--set run.dir=$T/given --set model.path=$T/m --set model.tokenizer=$T/tok2 "            \
          "--set 'sweep.low_rank=[2]' "
#define RANK "--set 'run.steps=[\"rank\"]' "

/* A model to start from in T/m, and a tokenizer with all its files in T/tok2. */
static void make_given(void *const *state)
{
    must_run(state, BASELINE);
    must_run(state, "mv $T/run/baseline/model $T/m && rm -r $T/run && cp -r $T/tok $T/tok2");
    must_run(state, "echo '{}' | tee $T/tok2/tokenizer_config.json $T/tok2/special_tokens_map.json "
                    "$T/m/generation_config.json");
}

/* Every file that is read beside the weights, in a way that the program could read. */
static void test_changed_files(void **state)
{
    static const char *const files[] = {
        "m/config.json",
        "m/generation_config.json",
        "m/preprocessor_config.json",
        "m/processor_config.json",
        "m/tokenizer.json",
        "m/tokenizer_config.json",
        "m/special_tokens_map.json",
        "m/added_tokens.json",
        "tok2/tokenizer.json",
        "tok2/tokenizer_config.json",
        "tok2/special_tokens_map.json",
        "tok2/added_tokens.json",
    };

    make_given(state);
    must_run(state, GIVEN RANK);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *name = strchr(files[i], '/') + 1;
        bool there = is_there(tmpdir_path(state, files[i]));
        char say[200], want[100];

        snprintf(say, sizeof say, there ? "cp $T/%s $T/kept && echo >> $T/%s" : "echo '{}' > $T/%s",
                 files[i], files[i]);
        must_run(state, say);
        snprintf(want, sizeof want, "model.%s/%s %s", files[i][0] == 'm' ? "path" : "tokenizer",
                 name, there ? "has changed since" : "is there, and was not when");
        must_fail(state, GIVEN RANK "--resume", want);
        snprintf(say, sizeof say, there ? "cp $T/kept $T/%s" : "rm $T/%s", files[i]);
        must_run(state, say);
    }
    must_run(state, "mv $T/m/generation_config.json $T/kept");
    must_fail(state, GIVEN RANK "--resume",
              "model.path/generation_config.json is gone, and was there when this run began: put "
              "it back");
    must_run(state, "mv $T/kept $T/m/generation_config.json");
    must_run(state, GIVEN RANK "--resume");
    assert_false(says(state, "taken as they are now"));
}

static void test_changed_rank_file(void **state)
{
#define FROM_FILE TRAIN "--set run.dir=$T/ranked --set rank.strategy=file --set rank.file=$T/r.h5 "

    must_run(state, TRAIN "--set 'run.steps=[\"baseline\",\"rank\"]' && cp $T/run/rank/rank.h5 "
                          "$T/r.h5 && cp $T/r.h5 $T/r2.h5");
    must_run(state, FROM_FILE "--set 'run.steps=[\"baseline\",\"rank\"]'");
    must_say(state, "rank: nothing to measure, the pairs are those of ");
    must_run(state, "test ! -e $T/ranked/rank && grep -q '\"rank.file\"' $T/ranked/inputs.json");
    must_run(state, FROM_FILE "--resume --set rank.file=$T/r2.h5 --set 'run.steps=[\"baseline\"]'");
    must_run(state, TRAIN "--set run.dir=$T/o --set rank.strategy=2-norm --set "
                          "'run.steps=[\"baseline\",\"rank\"]' && cp $T/o/rank/rank.h5 $T/r.h5");
    must_fail(state, FROM_FILE "--resume", "rank.file has changed since this run began");
}

/* A few values changed far behind the beginning of a tensor; the same bytes written again; and
 * files that are not used any more. */
static void test_changed_weights(void **state)
{
    static const char hurt[] =
        "printf '\\000\\000' | dd of=$T/m/model.safetensors bs=1 seek=$(($(stat "
        "-c %s $T/m/model.safetensors) - 600)) conv=notrunc";

    make_given(state);
    must_run(state, GIVEN RANK);
    must_run(state, "cp $T/m/model.safetensors $T/kept");
    must_run(state, hurt);
    must_fail(state, GIVEN RANK "--resume",
              "given: model.path/model.safetensors has changed since this run began: put it back, "
              "or choose another run.dir");
    must_run(state, "cp $T/kept $T/m/model.safetensors && touch $T/m/*");
    must_run(state, GIVEN RANK "--resume");
    must_run(state, "sed -i 's/\"model.path.model.safetensors\"/\"model.path\\/x.safetensors\": "
                    "\"1\", &/' $T/given/inputs.json");
    must_fail(state, GIVEN RANK "--resume",
              "model.path/x.safetensors was used when this run began, and is not now");
}

/* Of a run that an older version began, some sums are not there. */
static void test_unknown_sums(void **state)
{
    static const char forget[] = "sed -i '/\"model[^\"]*\\/[^\"]*\":/d; "
                                 "s/\\(\"data.eval.1.*\\),$/\\1/' $T/given/inputs.json";

    make_given(state);
    must_run(state, GIVEN RANK);
    must_run(state, forget);
    must_run(state, "cp -r $T/m $T/m2");
    must_fail(state, GIVEN RANK "--resume --set model.path=$T/m2",
              "an older version began this run, and kept no sum of what was there: give it as it "
              "was");
    must_run(state, GIVEN RANK "--resume");
    must_say(state, "given/inputs.json has no sum of some inputs (26, the first: "
                    "model.path/model.safetensors): they are taken as they are now");
    must_run(state, "echo >> $T/m/config.json");
    must_fail(state, GIVEN RANK "--resume", "model.path/config.json has changed since");
    must_run(state,
             "cp $T/m2/config.json $T/m && rm $T/given/inputs.json && " GIVEN RANK "--resume");
    must_say(state, "the first: data.train)");
    must_run(state, "echo '{' > $T/given/inputs.json");
    must_fail(state, GIVEN RANK "--resume", "or delete it to take all as it is now");
    must_run(state, ": > $T/given/config.json");
    must_fail(state, GIVEN RANK "--resume", "these are the settings that the run began with");
}

/* A run's directory at another place: the models in it build on its own baseline, there. */
static void test_moved_run(void **state)
{
    must_repeat(state);
    must_run(state, "mv $T/quiet $T/moved && rm -r $T/moved/rope4-rank1/svd/model "
                    "$T/moved/rope4-rank*/stage2");
    must_run(state, TRAIN "--resume --set run.dir=$T/moved");
    must_say(state, "moved/rope4-rank4/svd/model: builds on ");
    must_run(state, FINGERPRINT("$T/moved") " | diff $T/sums - && test ! -e $T/quiet");
    must_run(state, "for d in rope4/stage1 rope4-rank4/svd rope4-rank1/svd; do grep -q "
                    "'\"base\":.*/moved/baseline/model\"' $T/moved/$d/model/config.json || exit 1; "
                    "done");
    must_run(state, TRAIN "--resume --set run.dir=$T/moved");
    assert_false(says(state, "builds on"));
}

/* The model that was given at another place, and then another model there. */
static void test_moved_model(void **state)
{
#define STEPS(more) "--set 'run.steps=[\"rank\",\"stage1\",\"svd\"" more "]' "
    make_given(state);
    must_run(state, GIVEN STEPS(",\"stage2\"") "--set run.dir=$T/quiet");
    must_run(state, GIVEN STEPS(""));
    must_run(state, "mv $T/m $T/m2 && mv $T/tok2 $T/tok3");
    must_run(state, GIVEN STEPS(",\"stage2\"") "--resume --set model.path=$T/m2 --set "
                                               "model.tokenizer=$T/tok3");
    must_run(state, "cd $T/given && cmp rope4-rank2/stage2/model/model.safetensors "
                    "$T/quiet/rope4-rank2/stage2/model/model.safetensors && "
                    "grep -q '\"base\":.*/m2\"' rope4/stage1/model/config.json && "
                    "grep -q '\"base\":.*/m2\"' rope4-rank2/svd/model/config.json");
    must_run(state, BASELINE "--set run.seed=2 && mv $T/run/baseline/model $T/m3 && "
                             "cp $T/m2/generation_config.json $T/m3");
    must_fail(state,
              GIVEN STEPS("") "--resume --set model.path=$T/m3 --set model.tokenizer=$T/tok3",
              "model.path/model.safetensors has changed");
    must_fail(state, GIVEN STEPS("") "--resume --set model.path=$T/m2 --set model.tokenizer=null",
              "model.tokenizer (was");
    must_fail(state, TRAIN "--resume --set model.path=$T/m2 --set run.dir=$T/run",
              "model.path (was null");
}

/* Four bytes close to the end of a file in the run's directory. */
#define HURT(file)                                                                                 \
    "printf 'wxyz' | dd of=" file " bs=1 seek=$(($(stat -c %s " file ") - 40)) conv=notrunc"

/* What the steps have left, damaged since. Where that is deleted, it is made again as it was. */
static void test_damaged_outputs(void **state)
{
#define SVD "rope4-rank1/svd/model"
    static const struct {
        const char *hurt, *said, *mend;
    } rows[] = {
        {": > rope4-rank1/stage2/model/model.safetensors",
         "rope4-rank1/stage2/model: is damaged (model.safetensors: is empty): delete the "
         "directory, and --resume makes it again",
         "rm -r rope4-rank1/stage2/model"},
        {"rm rope4-rank1/stage2/model/model.safetensors",
         "stage2/model: is damaged (holds no weights", "rm -r rope4-rank1/stage2/model"},
        {": > rope4/stage1/model/config.json",
         "stage1/model: is damaged (config.json: is empty): delete", "rm -r rope4/stage1/model"},
        {"rm " SVD "/config.json",
         SVD ": is damaged (config.json is missing): delete the "
             "directory",
         "rm -r " SVD},
        {"truncate -s -4 " SVD "/model.safetensors",
         "bytes of data: it is cut short): delete the directory, and --resume makes it again",
         "rm -r " SVD},
        {"truncate -s 900 baseline/model/model.safetensors",
         "baseline/model: is damaged (model.safetensors: header of ", "rm -r baseline/model"},
        {"truncate -s 100 rank/rank.h5", "rank/rank.h5: is damaged (", "rm rank/rank.h5"},
        /* values that could be right */
        {HURT("rope4/stage1/model/model.safetensors"),
         "stage1/model: is damaged (model.safetensors: has other contents than when it was "
         "written): delete the directory, and --resume makes it again",
         "rm -r rope4/stage1/model"},
        {HURT("rope4-rank1/stage2/model/tokenizer.json"), "tokenizer.json: has other contents",
         "rm -r rope4-rank1/stage2/model"},
        {"rm rope4-rank1/stage2/model/tokenizer.json", "tokenizer.json: No such file",
         "rm -r rope4-rank1/stage2/model"},
        {"echo >> " SVD "/config.json", "svd/model: is damaged (config.json: had ", "rm -r " SVD},
        {HURT("rank/rank.h5"),
         "rank/rank.h5: is damaged (has other contents than when it was written): delete the file",
         "rm rank/rank.h5"},
        /* by the disk itself: no other time, so that it is noticed when it is used */
        {"rm -r rope4-rank4/stage2 && cp -p rope4-rank4/svd/model/model.safetensors $T/was && "
         "{ " HURT(
             "rope4-rank4/svd/model/model.safetensors") "; } && "
                                                        "touch -r $T/was "
                                                        "rope4-rank4/svd/model/model.safetensors",
         "rope4-rank4/svd/model: is damaged (model.safetensors: has other contents",
         "rm -r rope4-rank4/svd/model"},
    };
    char command[600];

    must_repeat(state);
    must_run(state, "mv $T/quiet $T/run && sed -i '/ -$/d' $T/sums"); /* metrics: in other order */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(command, sizeof command, "cd $T/run && %s", rows[i].hurt);
        must_run(state, command);
        must_fail(state, TRAIN "--resume", rows[i].said);
        assert_false(says(state, "download"));
        snprintf(command, sizeof command, "cd $T/run && %s", rows[i].mend);
        must_run(state, command);
        must_run(state, TRAIN "--resume");
        must_run(state, FINGERPRINT("$T/run") " | grep -v -e ' -$' | diff $T/sums -");
    }
    must_run(state, ": > $T/run/" SVD "/model.safetensors");
    must_fail(state, TRAIN "--resume --set 'run.steps=[\"evaluate\"]'",
              "delete the directory, and --resume with \"svd\" in run.steps makes it again");
    /* which another point does not need, but the report does */
    must_run(state, TRAIN "--resume --point 0 --set 'run.steps=[\"stage2\",\"evaluate\"]'");
    must_fail(state, TRAIN "--resume --point 0", SVD ": is damaged");
}

/* The sums themselves; without them, an older version's run. */
static void test_output_sums(void **state)
{
    must_run(state, TRAIN "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\"]'");
    must_run(state,
             "cp $T/run/outputs.json $T/o.json && echo '{\"a\": \"b\"}' > $T/run/outputs.json");
    must_fail(state, TRAIN "--resume",
              "outputs.json: \"a\" is not a sum, a size and a time: has the sums of what the steps "
              "have left: put it back, or delete it to take all as it is now");
    must_run(state, "rm $T/run/outputs.json && " TRAIN "--resume --dry-run");
    must_run(state,
             "test ! -e $T/run/outputs.json && " TRAIN "--resume --set 'run.steps=[\"svd\"]'");
    must_say(state, " files of the models: taken as they are now");
    must_run(state, "grep -q rope4/stage1/model/model.safetensors $T/run/outputs.json");
    must_run(state, "sed -i '\\#rope4/stage1/model/config.json#d' $T/run/outputs.json");
    must_run(state, TRAIN "--resume");
    must_say(state, "outputs.json has no sum of 1 file of the models: taken as it is now");
    must_run(state, TRAIN "--resume");
    assert_false(says(state, "outputs.json"));
    must_run(state, "touch $T/run/*/*/model/* $T/run/rank/rank.h5 && " TRAIN "--resume");
}

/* Scores are made again at once: nothing of value is overwritten. */
static void test_damaged_scores(void **state)
{
    static const char *const rows[][2] = {
        {"rm base/answers.jsonl", "base/answers.jsonl: No such file or directory: the model is "},
        {": > rope4-rank1/stage2/scores.json", "scores.json: is empty: the model is scored again"},
        {"echo '{}' > base/scores.json", "scores.json: is not a file of scores: the model is "},
        {"sed -i 2d rope4/stage1/answers.jsonl", "answers.jsonl: has 18 answers, 19 were written"},
        {"echo >> base/scores.json", "base/scores.json: had "},
        {HURT("base/answers.jsonl"), "answers.jsonl: has other contents than when it was written: "
                                     "the model is scored again"},
    };
    char command[300];

    must_repeat(state);
    must_run(state, "mv $T/quiet $T/run");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(command, sizeof command, "cd $T/run && %s", rows[i][0]);
        must_run(state, command);
        must_run(state, TRAIN "--resume");
        if (!says(state, rows[i][1])) fail_msg("%s: %s", rows[i][0], output(state));
        must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
    }
    must_run(state, ": > $T/run/base/scores.json");
    must_fail(state, TRAIN "--resume --set 'run.steps=[\"report\"]'",
              "base/scores.json: is damaged (is empty): delete the file, and --resume with "
              "\"evaluate\" in run.steps makes it again");
    must_run(state, TRAIN "--resume && rm $T/run/base/answers.jsonl");
    must_run(state, TRAIN "--resume --set 'run.steps=[\"report\"]'");
    must_say(state, "base/answers.jsonl: is not there: the report shows none");
}

/* A checkpoint under another's name is not taken for that. */
static void test_renamed_checkpoint(void **state)
{
#define CHECKPOINTS "$T/run/baseline/checkpoints"
    must_run(state, BASELINE "&& mv $T/run/baseline/model $T/was");
    must_run(state, "cd " CHECKPOINTS " && mv step-00000024.h5 ../24.h5 && "
                    "cp step-00000020.h5 step-00000023.h5");
    must_run(state, BASELINE "--resume");
    must_say(state, "step-00000023.h5: was saved as step 20 of base baseline");
    must_say(state, "continues from step 20 of 24");
    must_run(state, "cmp $T/was/model.safetensors $T/run/baseline/model/model.safetensors");
    /* of the same shapes, but of another training */
    must_run(state, TRAIN "--set baseline.steps=24 --set stage1.steps=24 --set stage1.peft=all "
                          "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\"]' --set "
                          "run.dir=$T/two && cd $T/two && rm -r rope4/stage1/model && "
                          "cp rope4/stage1/checkpoints/step-00000024.h5 $T/s1.h5");
    must_run(state, "cd $T/two/rope4/stage1/checkpoints && rm * && cp $T/run/baseline/24.h5 "
                    "step-00000024.h5");
    must_fail(state,
              TRAIN "--resume --set stage1.steps=24 --set stage1.peft=all --set "
                    "run.dir=$T/two",
              "of 1 checkpoint none can be loaded (");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_changed_files),     program_test(test_changed_weights),
        program_test(test_changed_rank_file), program_test(test_unknown_sums),
        program_test(test_moved_run),         program_test(test_moved_model),
        program_test(test_damaged_outputs),   program_test(test_output_sums),
        program_test(test_damaged_scores),    program_test(test_renamed_checkpoint),
    };

    return cmocka_run_group_tests_name("resume", tests, NULL, NULL);
}
