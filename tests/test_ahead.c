/* test_ahead.c - what would stop a run later stops it, and the dry run, at once: settings, what its
 * steps start from, and samples that are not enough. */
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

static void test_looks_ahead(void **state)
{
#define STEPS(list) "--set 'run.steps=[" list "]' --set model.path=$T/model "
    static const char *const refused[][2] = {
        {"--point 2", "--point 2: the sweep has the points 0..1"},
        {"--set run.dir=$T/c.json", "run.dir: "},
        {"--set run.dir=$T/c.json/x/y", "/c.json: is there but is not a directory"},
        {"--set run.dir=$T/link/x", "/link: is a link that leads nowhere"},
        {"--set data.cache=$T/c.json", "data.cache: "},
        {"--set run.dir=/proc/x", "run.dir: /proc: nothing can be written there"},
        {"--set data.cache=/proc/x", "data.cache: /proc: nothing can be written there"},
        {"--set 'sweep.low_rank=[4,4]'", "sweep: has the point rope4-rank4 twice"},
        {"--set stage1.micro_batch=9", "stage1.micro_batch: 9 is more than"},
        {STEPS("\"stage1\""),
         "/run/rank/rank.h5: missing, and stage 1 starts from it: add \"rank\""},
        {STEPS("\"svd\""), "/run/rank/rank.h5: missing, and svd starts from it: add \"rank\""},
        {STEPS("\"stage2\",\"evaluate\""), "/run/rope4-rank4/svd/model: missing, and stage 2 "
                                           "starts from it: add \"svd\" to run.steps"},
        {STEPS("\"stage2\"") "--point 1", "/run/rope4-rank1/svd/model: missing"},
        {STEPS("\"report\""), "/run: holds no run to report on"},
        {"--set data.eval[1].path=$T/empty.json", "/empty.json: an empty list: no sample is in it"},
        {"--set data.train[0].path=$T/empty.json", "/empty.json: an empty list: no sample is"},
        {"--set 'data.eval=[]'", "data.eval has no samples"},
        {"--set data.train[0].path=$T/words.json",
         "svd: none of the 2 calibration samples that svd.samples draws has a picture"},
        {"--set data.train[0].path=$T/words.json --set 'sweep.low_rank=[]' --set "
         "'sweep.cache=[0.4]' --set svd.split_samples=1",
         "svd: none of the 1 calibration samples that svd.split_samples draws has a picture"},
    };
    char command[400];

    must_run(
        state, TRAIN
        "--set 'run.steps=[\"baseline\"]' && mv $T/run/baseline/model $T/model && rm -r $T/run");
    must_run(state, "ln -s gone $T/link; echo '[]' > $T/empty.json; (head -1 $T/s/train.json; "
                    "grep -v '\"image\"' $T/s/train.json | grep '{') | sed '$s/,*$/]/' > "
                    "$T/words.json");
    for (size_t i = 0; i < 2 * sizeof refused / sizeof *refused; i++) {
        snprintf(command, sizeof command, TRAIN "%s %s", refused[i / 2][0],
                 i % 2 ? "" : "--dry-run");
        must_fail(state, command, refused[i / 2][1]);
        must_run(state, "test ! -e $T/run");
    }
    /* nothing is written beside a model's files */
    must_fail(state,
              TRAIN "--dry-run --set model.path=configs/quickstart/model --set "
                    "model.tokenizer=null --set data.cache=configs/quickstart/model/cache",
              "data.cache: configs/quickstart/model/cache lies in model.path, "
              "configs/quickstart/model, where nothing is written");
    /* a dry run that will fail over the samples shows them first */
    must_fail(state, TRAIN "--dry-run --set data.train[0].path=$T/words.json", "svd: none");
    must_say(state, "sample 1, ");
    must_run(state, TRAIN STEPS("\"rank\"") "--set rank.samples=99 "
                                            "--set svd.samples=99 --set data.train[0].name=x");
    assert_true(
        says(state, "rank.samples is 99, more than the samples of data.train (64): all are") &&
        says(state, "not used: data.train[0].name, for") && !says(state, "svd.samples is"));
    must_run(state, TRAIN STEPS("\"rank\"") "--dry-run");
    must_say(state, "/run: holds a run already, with which --resume goes on");
}

/* Pictures are looked at when they are first needed: a run that loses too many to them is refused
 * before its first step. */
static void test_pictures_broken(void **state)
{
#define BREAK(files) "for f in $T/s/images/" files "*; do head -c 99 $f > $f.t; mv $f.t $f; done"
    static const char *const left = "test \"$(ls -A $T/run)\" = left_out.txt";

    must_run(state, "grep -v '#words' $T/s/test.json > $T/s/seen.json; " BREAK("test"));
    must_fail(state, TRAIN "--set data.eval[0].path=$T/s/seen.json",
              "data.eval test: no usable sample is left to score; those left out are named in ");
    must_run(state, left);
    must_run(state, BREAK("train"));
    must_fail(state,
              TRAIN "--set 'data.eval=[]' --set "
                    "'run.steps=[\"baseline\",\"rank\",\"svd\"]'",
              "svd: none of the 2 calibration samples that svd.samples draws has a picture");
    must_run(state, left);
    must_run(state, TRAIN "--set 'data.eval=[]' --set svd.decoupled=false "
                          "--set 'run.steps=[\"baseline\",\"rank\",\"svd\"]'");
    assert_true(
        says(state, "svd.samples is 32, more than the samples of data.train (2): all are") &&
        says(state, "baseline.batch_size is 8, more than the samples of data.train (2): "));
}

/* Somebody who owns nothing but a directory for what he writes. */
#define CACHED                                                                                     \
    "$T/train --config $C --set model.path=$T/model --set run.dir=$T/own/run --set "               \
    "data.cache=$T/kept "

/* A model, and an empty cache of somebody else's. */
static void make_kept(void **state)
{
    if (!become_nobody(state)) skip();
    must_run(state,
             TRAIN "--set 'run.steps=[\"baseline\"]' && mv $T/run/baseline/model $T/model && "
                   "rm -r $T/run; mkdir -p $T/kept");
}

/* A cache of somebody else's, to be read only. */
static void test_cache_to_read(void **state)
{
    make_kept(state);
    for (int i = 0; i < 2; i++) {
        must_fail(state, i ? NOBODY CACHED : NOBODY CACHED "--dry-run",
                  "and what the tower makes of the pictures cannot be there before it is trained");
        must_fail(state,
                  i ? NOBODY CACHED STEPS("\"rank\"") : NOBODY CACHED STEPS("\"rank\"") "--dry-run",
                  "/kept: nothing can be written there: Permission denied, and it lacks ");
        must_run(state, "test -z \"$(ls -A $T/own)$(ls -A $T/kept)\"");
    }
    must_run(state, CACHED STEPS("\"rank\"") "&& rm -r $T/own/run");
    must_run(state, "ls -R $T/kept > $T/was; " NOBODY CACHED STEPS("\"rank\"") "--dry-run");
    must_run(state, NOBODY CACHED STEPS("\"rank\"") "&& ls -R $T/kept | cmp $T/was -");
    must_run(state, "rm -r $T/own/run; rm $T/kept/feat*/part*");
    must_fail(state, NOBODY CACHED STEPS("\"rank\"") "--dry-run", "and it lacks ");
    must_fail(state, NOBODY CACHED STEPS("\"rank\""), "and it lacks ");
    assert_false(is_there(tmpdir_path(state, "own/run")));
}

#define STORED                                                                                     \
    "--set stage1.loss=distill --set stage1.teacher=stored --set stage1.temperature=2 "            \
    "--set stage2.loss=distill --set stage2.teacher=stored "
#define LEARNS CACHED STEPS("\"rank\",\"stage1\",\"svd\",\"stage2\"") STORED

/* The dry run, and the run, which leaves nothing. */
static void refuse_both(void **state, const char *command, const char *text)
{
    char line[2000];

    for (int dry = 0; dry < 2; dry++) {
        snprintf(line, sizeof line, "%s%s", command, dry ? "--dry-run" : "");
        must_fail(state, line, text);
        assert_false(is_there(tmpdir_path(state, "own/run")));
    }
    must_run(state, "ls -lR $T/kept | cmp $T/was -");
}

static const char note[] = "ls -lR $T/kept > $T/was";

/* What a teacher said, in such a cache: all of it serves, less is refused at once. */
static void test_teacher_to_read(void **state)
{
    make_kept(state);
    /* the pictures are all there, and of what is said nothing */
    must_run(state, CACHED STEPS("\"rank\",\"stage1\"") "&& rm -r $T/own/run");
    must_run(state, note);
    refuse_both(state, NOBODY LEARNS,
                "/kept: nothing can be written there: Permission denied, and what the teacher says "
                "of 64 samples, the first of them ");
    must_fail(state, NOBODY LEARNS, "or set stage1.teacher to \"fly\"");
    must_run(state, LEARNS "&& mv $T/own/run $T/first");
    must_run(state, note);
    must_run(state, NOBODY LEARNS "--dry-run");
    must_run(state, NOBODY LEARNS "&& ls -lR $T/kept | cmp $T/was - && "
                                  "cmp $T/own/run/rope4-rank1/stage2/model/model.safetensors "
                                  "$T/first/rope4-rank1/stage2/model/model.safetensors && "
                                  "! grep 'teacher: asked' $T/own/run/train.log");
    /* what is done asks nothing: the other stage's store is the one that is written last */
    must_run(state, "mkdir $T/aside && mv $(ls -dt $T/kept/teacher-* | tail -1) $T/aside && "
                    "rm -r $T/own/run/rope4-rank1/stage2/model");
    must_run(state, NOBODY LEARNS "--resume");
    must_run(state, "rm -r $T/own/run/rope4/stage1/model");
    must_fail(state, NOBODY LEARNS "--resume", "or set stage1.teacher to \"fly\"");
    must_run(state, "mv $T/aside/* $T/kept && rm -r $T/own/run");
}

/* Which parts of a store can be missing, damaged, or not be written. */
static void test_teacher_in_part(void **state)
{
    make_kept(state);
    must_run(state, LEARNS "&& rm -r $T/own/run");
    must_run(state, "dd if=/dev/zero of=$(ls -t $T/kept/teacher-*/part-* | head -1) bs=1 "
                    "seek=9000 count=4000 conv=notrunc");
    must_run(state, note);
    refuse_both(state, NOBODY LEARNS, "is missing or damaged: choose another directory, make this");
    must_fail(state, NOBODY LEARNS, "or set stage2.teacher to \"fly\"");
    /* the cache itself can be written, its stores cannot */
    must_run(state, "rm $(ls -t $T/kept/teacher-*/part-* | head -1) && chmod 777 $T/kept");
    must_run(state, note);
    refuse_both(state, NOBODY LEARNS,
                ": nothing can be written there: Permission denied, and what "
                "the teacher says of 64 samples, the first of them ");
    must_run(state, "chmod 777 $T/kept/*");
    must_run(state, note);
    refuse_both(state, NOBODY LEARNS, "/lock: cannot be written: Permission denied, and what the ");
    must_run(state, "chmod 700 $T/kept/teacher-*");
    must_run(state, note);
    refuse_both(state, NOBODY LEARNS, ": choose another directory, or make this one readable");
    must_run(state, "rm -r $T/kept/teacher-*");
    must_run(state, NOBODY LEARNS "&& ls -d $T/kept/teacher-* | wc -l | grep -qx 2");
}

/* A teacher that is yet to be trained has nothing there. */
static void test_teacher_of_later(void **state)
{
#define LATER                                                                                      \
    CACHED STEPS("\"baseline\",\"rank\",\"svd\",\"stage2\"") "--set baseline.vision=false " STORED

    make_kept(state);
    must_run(state, LATER "&& rm -r $T/own/run");
    must_run(state, note);
    refuse_both(state, NOBODY LATER,
                "what the teacher says cannot be there before it is trained: choose another");
    /* where a new store can be made, it is not made by the dry run */
    must_run(state, "chmod 777 $T/kept && rm -r $T/kept/feat*");
    must_run(state, note);
    must_run(state, NOBODY LATER "--dry-run && ls -lR $T/kept | cmp $T/was -");
    must_run(state, NOBODY CACHED STEPS("\"baseline\"") "--dry-run && ls -lR $T/kept | cmp "
                                                        "$T/was -");
    must_run(state, NOBODY LATER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_looks_ahead),     program_test(test_pictures_broken),
        program_test(test_cache_to_read),   program_test(test_teacher_to_read),
        program_test(test_teacher_in_part), program_test(test_teacher_of_later)};

    return cmocka_run_group_tests_name("ahead", tests, NULL, NULL);
}
