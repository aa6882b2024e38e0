/* test_rundir.c - what a run finds where it is to work: nothing of others is taken for its own or
 * written over, no named pipe is waited for in silence, and what cannot be compared is said. */
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

#define TRAIN                                                                                      \
    "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' --set baseline.steps=1 "

/* Fails, with --resume and as a dry run too, and leaves what is in $T/run as it is. */
static void must_refuse(void *const *state, const char *prepare, const char *text)
{
    static const char *const how[] = {TRAIN, TRAIN "--resume", TRAIN "--dry-run"};

    must_run(state, "rm -rf $T/run; mkdir $T/run");
    must_run(state, prepare);
    must_run(state, "(cd $T/run && find . | sort) > $T/list");
    for (int i = 0; i < 3; i++) {
        must_fail(state, how[i], text);
        must_run(state, "(cd $T/run && find . | sort) | diff $T/list -");
    }
}

static void test_of_others(void **state)
{
    static const struct {
        const char *prepare, *text;
    } rows[] = {
        {"echo '{\"model_type\": \"llava\"}' > $T/run/config.json; echo x > $T/run/tokenizer.json",
         "/run: holds a model ("},
        {"echo '{\"a\": 1}' > $T/run/config.json", "/run: holds no run, and "},
        {"echo x > $T/run/report.md",
         "/run: is not empty and holds no run (\"report.md\" is there)"},
        /* settings, without a run to which they could belong */
        {"cp $C $T/run/config.json", "/run/config.json: holds settings, but there is no run"},
        {"mkdir $T/run/rank; echo x > $T/run/rank/rank.h5", "holds no run (\"rank\" is there)"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        must_refuse(state, rows[i].prepare, rows[i].text);
}

/* What a run that was killed early leaves, what people put there, and a cache in it. */
static void test_in_nobodys_way(void **state)
{
    must_run(state, "mkdir -p $T/run/cache/x; cd $T/run; touch lock left_out.txt inputs.json "
                    "config.json.tmp slurm-1.out .hidden; cp $C mine.json");
    must_run(state, TRAIN "--set data.cache=$T/run/cache > $T/run/a.log");
    must_run(state, TRAIN "--set data.cache=$T/run/cache --resume > $T/run/a.log");
}

/* Notes that somebody has added to the settings of a run. */
static void test_notes_in_a_run(void **state)
{
    must_run(state, TRAIN);
    must_run(state, "cd $T/run; sed -i '1a // my notes' config.json; cp config.json $T/mine");
    must_run(state, TRAIN "--resume");
    must_say(state, "/run/config.json: has comments, ");
    must_run(state, "cmp $T/mine $T/run/config.json");
    must_run(state,
             "cd $T/run; sed -i 2d config.json; cp config.json $T/was; cd - > /dev/null; " TRAIN
             "--resume --set run.memory_limit=9; ! cmp -s $T/was $T/run/config.json");
}

static void test_pipes_in_a_run(void **state)
{
    static const char *const names[] = {"config.json",   "inputs.json",     "lock",
                                        "metrics.jsonl", "pictures.sha256", "train.log"};
    char command[200], text[100];

    must_run(state, TRAIN);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(command, sizeof command, "cd $T/run; mv %s $T/kept; mkfifo %s", names[i],
                 names[i]);
        must_run(state, command);
        snprintf(text, sizeof text, "/run/%s: is a named pipe, a file is needed", names[i]);
        must_fail(state, TRAIN "--resume", text);
        snprintf(command, sizeof command, "mv $T/kept $T/run/%s", names[i]);
        must_run(state, command);
    }
    must_run(state, TRAIN "--resume");
}

/* A pipe without a writer is said to be waited for. */
static void test_settings_from_a_pipe(void **state)
{
    must_run(state, "mkfifo $T/pipe; (sleep 3; cat $C > $T/pipe) & "
                    "$B/mha2mla-train --config $T/pipe --list-points; rc=$?; wait; exit $rc");
    must_say(state, "mha2mla-train: waiting for what will be written into ");
    must_say(state, "1  rope4-rank1");
    must_run(state, "cat $C > $T/pipe & $B/mha2mla-train --config $T/pipe --list-points");
    assert_false(says(state, "waiting"));
}

/* What was there when the run began is not known any more. */
static void test_without_sums(void **state)
{
    must_run(state, TRAIN);
    must_run(state, "rm $T/run/pictures.sha256; rm -r $T/run/baseline/model; " TRAIN "--resume");
    must_say(state, "/run/pictures.sha256 is not there: whether pictures have changed");
    must_run(state, "test -s $T/run/pictures.sha256");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_of_others),      program_test(test_in_nobodys_way),
        program_test(test_pipes_in_a_run), program_test(test_settings_from_a_pipe),
        program_test(test_without_sums),   program_test(test_notes_in_a_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
