/* test_share.c - points of a sweep that run beside each other in one directory: the same bits as
 * one after the other, what they write, what they refuse, and what is gathered afterwards. */
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
#define SHARED TRAIN "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\",\"evaluate\"]' --resume"
#define POINT(n) TRAIN "--resume --share --point " n
#define REPORT TRAIN "--set 'run.steps=[\"report\"]' --resume"

static void test_same_bits(void **state)
{
    must_repeat(state);
    must_run(state, SHARED);
    must_run(state, "cp -r $T/run $T/one && for f in metrics.jsonl outputs.json config.json "
                    "inputs.json; do sha256sum $T/run/$f; done > $T/shared");
    must_run(state, POINT("0") " > $T/p0 & " POINT("1") " > $T/p1 && wait $!");
    must_run(state, "sha256sum -c $T/shared && cd $T/run && "
                    "test -s rope4-rank4/metrics.jsonl && test -s rope4-rank1/outputs.json && "
                    "grep -q stage2 rope4-rank1/train.log && ! grep -q rope4-rank1 train.log");
    must_run(state, REPORT);
    must_run(state,
             "cd $T/run && test ! -e rope4-rank4/metrics.jsonl && "
             "test ! -e rope4-rank1/outputs.json && grep -q rope4-rank1/stage2 outputs.json");
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
    must_run(state, "diff $T/quiet/report.md $T/run/report.md | grep '^[<>]' | "
                    "grep -v '^[<>] \\(# \\|| steps \\|| rope4\\|| base |\\)' > $T/other; "
                    "cat $T/other; test ! -s $T/other");
    must_run(state, TRAIN "--resume"); /* all is done, and whole */
    assert_false(says(state, "has no sum"));
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
}

/* A point that was begun by a run of all of them and goes on beside others, cut short in between;
 * and gathering that was cut short between its two files. */
static void test_interrupted(void **state)
{
    must_repeat(state);
    must_run(state, TRAIN " && cd $T/run && rm -r rope4-rank1/stage2/model "
                          "rope4-rank1/stage2/scores.json rope4-rank1/stage2/answers.jsonl "
                          "rope4-rank1/stage2/checkpoints/step-00000012.h5");
    must_run(state, POINT("1") " && cp -r $T/run/rope4-rank1 $T/kept");
    must_run(state, "test $(wc -l < $T/run/rope4-rank1/metrics.jsonl) = 4");
    must_run(state, REPORT " && " FINGERPRINT("$T/run") " | diff $T/sums -");
    must_run(state, "cp $T/kept/*.json* $T/run/rope4-rank1 && " REPORT
                    " && " FINGERPRINT("$T/run") " | diff $T/sums -");
}

static void test_refused(void **state)
{
    must_fail(state, TRAIN "--share", "--share: is for one point: add --point N");
    must_fail(state, POINT("7"), "--point 7: the sweep has the points 0..1");
    must_fail(state, POINT("0"), "run/config.json: missing, and the points share it");
    must_run(state, "test ! -e $T/run");
    must_run(state, TRAIN "--set 'run.steps=[\"baseline\",\"rank\"]'");
    must_fail(state, POINT("0"), "run/rope4/stage1/model: missing, and the points share it");
    must_run(state, TRAIN "--set 'run.steps=[\"stage1\"]' --resume");
    must_run(state, "rm $T/run/base/scores.json");
    must_fail(state, POINT("0"),
              "run/base/scores.json: missing, and the points share it: run the "
              "steps before svd, and evaluate, without --share first");
    must_fail(state, POINT("0") " --set 'run.steps=[\"report\"]'", "run.steps has no step of a");
    must_run(state, SHARED);
    must_fail(state, "(exec 9<>$T/run/lock; flock -s 9; exec " TRAIN "--resume 9>&9) || exit $?",
              "run: another run works in this directory");
    must_run(state, "(exec 9<>$T/run/lock; flock -s 9; exec " POINT("0") ")");
    must_fail(state, "(exec 9<>$T/run/lock; flock 9; exec " POINT("1") ")",
              "run: another run works in this directory");
    must_fail(state, "(exec 9<>$T/run/rope4-rank4/lock; flock 9; exec " POINT("0") ")",
              "run/rope4-rank4: another run works in this directory");
}

/* A run that ranks nothing opens its pictures for the splits, and the points find them. */
static void test_splits(void **state)
{
    must_run(state, TRAIN "--set 'run.steps=[\"baseline\",\"svd\"]' --set 'rank.strategy=\"high\"' "
                          "--set sweep.low_rank=[] --set sweep.cache=[0.4] --set svd.samples=4 "
                          "--set run.dir=$T/run");
    must_run(state, "test -s $T/run/splits.json && test -s $T/run/cache0.4/svd/model/config.json");
}

/* Points whose names and stage 1 follow from splits that the shared part finds. */
static void test_split_points(void **state)
{
#define SUMS(dir)                                                                                  \
    "(cd " dir " && sha256sum $(find . -name model.safetensors -o -name answers.jsonl -o -name "   \
    "scores.json -o -name splits.json | sort))"
#define CACHE                                                                                      \
    "--set sweep.low_rank=[] --set sweep.cache=[0.4,0.3] --set svd.samples=4 --set "               \
    "rank.rope_dim=4 "
    must_run(state, TRAIN CACHE "--set run.dir=$T/quiet && " SUMS("$T/quiet") " > $T/sums");
    must_run(state, SHARED " " CACHE);
    must_run(state, POINT("0") " " CACHE " && " POINT("1") " " CACHE " && " REPORT " " CACHE);
    must_run(state,
             "test ! -e $T/run/cache0.4/metrics.jsonl && "
             "grep -q cache0.3/stage2 $T/run/outputs.json && " SUMS("$T/run") " | diff $T/sums -");
    must_run(state, "sed -i 's/\"low_rank\":/& /' $T/run/splits.json");
    must_fail(state, TRAIN CACHE "--resume", " now): delete the file, and --resume makes it again");
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_same_bits), program_test(test_interrupted),
                                       program_test(test_refused), program_test(test_splits),
                                       program_test(test_split_points)};

    return cmocka_run_group_tests_name("share", tests, NULL, NULL);
}
