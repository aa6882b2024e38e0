/* test_picture_use.c - what of a run's pictures is computed: those of the samples that its steps
 * draw, and no others; and nothing that the run makes depends on that. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/program.h"

/* A short run on the model that a first run has trained: of 64 training samples it draws a few. */
#define SHORT                                                                                      \
    "$B/mha2mla-train --config $C --set model.path=$T/run/baseline/model --set "                   \
    "'run.steps=[\"rank\","                                                                        \
    "\"stage1\",\"svd\",\"stage2\",\"evaluate\",\"report\"]' --set rank.samples=3 --set "          \
    "svd.samples=4 --set stage1.steps=1 --set stage1.batch_size=2 --set stage2.steps=2 --set "     \
    "stage2.batch_size=2 --set evaluate.samples=5 --set 'sweep.low_rank=[4]' "

#define SAME_RUNS(a, b)                                                                            \
    "for f in rank/rank.h5 rope4/stage1/model/model.safetensors "                                  \
    "rope4-rank4/svd/model/model.safetensors rope4-rank4/stage2/model/model.safetensors "          \
    "rope4-rank4/stage2/answers.jsonl base/scores.json; do cmp $T/" a "/$f $T/" b                  \
    "/$f || exit 1; "                                                                              \
    "done"

static char *grep(void *const *state, const char *what)
{
    char *out = output(state), *at = strstr(out, what), *line;

    if (!at) fail_msg("no '%s' in:\n%s", what, out);
    at[strcspn(at, "\n")] = '\0';
    line = strdup(at);
    free(out);
    return line;
}

/* The numbers of "data.cache: features of USED of ALL pictures". */
static void counts(void *const *state, int *used, int *all)
{
    char *line = grep(state, "data.cache: features of ");

    assert_int_equal(sscanf(line, "data.cache: features of %d of %d", used, all), 2);
    free(line);
}

/* How many pictures a cache has features of: each entry has a key of 64 characters. */
static int held(void *const *state, const char *cache)
{
    char command[400], *out;
    int n;

    snprintf(command, sizeof command,
             "cat $T/%s/features-*/*.h5 | grep -aoE '[0-9a-f]{64}' | sort -u | wc -l", cache);
    must_run(state, command);
    out = output(state);
    n = atoi(out);
    free(out);
    return n;
}

/* A picture of two sets counts twice in the dry run: the second set is the first 7 of data.train,
 * of which 5 are scored. */
static void test_only_used(void **state)
{
    int used, all, more;

    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    must_run(state, SHORT "--dry-run");
    counts(state, &used, &all);
    assert_true(used >= 5 && used < all / 2);
    must_run(state, SHORT "--set run.dir=$T/cold --set data.cache=$T/c1");
    must_run(state, "! grep -q 'computed again' $T/cold/train.log");
    assert_in_range(held(state, "c1"), used - 5, used);
    /* a longer run fills another cache; then the short one has all pictures at hand */
    must_run(state, SHORT "--dry-run --set stage1.steps=64");
    counts(state, &more, &all);
    assert_true(more > 2 * used);
    must_run(state, SHORT "--set run.dir=$T/long --set data.cache=$T/c2 --set stage1.steps=64");
    assert_in_range(held(state, "c2"), more - 5, more);
    must_run(state, SHORT "--set run.dir=$T/warm --set data.cache=$T/c2");
    must_run(state, SAME_RUNS("cold", "warm"));
}

/* Which samples are left out does not depend on what is drawn, whatever the cache holds. */
static void test_broken(void **state)
{
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    /* all pictures but a few of the last lose their second half */
    must_run(state,
             "for f in $T/s/images/train-00003*.png; do head -c 400 $f > $T/x && cp $T/x $f; "
             "done");
    must_run(state, SHORT "--set run.dir=$T/cold --set data.cache=$T/c1");
    must_run(state, "test $(grep -c 'missing or broken' $T/cold/left_out.txt) -ge 9");
    must_run(state, SHORT "--set run.dir=$T/long --set data.cache=$T/c2 --set stage1.steps=64");
    must_run(state, SHORT "--set run.dir=$T/warm --set data.cache=$T/c2");
    must_run(state, "cmp $T/cold/left_out.txt $T/long/left_out.txt && " SAME_RUNS("cold", "warm"));
    /* resumed, with its cache gone */
    must_run(state, "rm -r $T/c1 $T/cold/rope4-rank4/stage2");
    must_run(state, SHORT "--resume --set run.dir=$T/cold --set data.cache=$T/c1");
    must_run(state, SAME_RUNS("cold", "warm"));
}

#define PLAN                                                                                       \
    "$B/mha2mla-train --config $C --dry-run --set model.path=$T/run/baseline/model --set "         \
    "data.eval=[] --set 'run.steps=[\"rank\"]' --set "                                             \
    "'data.train=[{\"path\":\"'$T'/s/train.json\",\"limit\":16}]' --set rank.samples="

/* KiB of "computed" in the row of the dry run's memory table that is about pictures. */
static double picture_memory(void *const *state)
{
    char *out = output(state), *row = strstr(out, "\npictures  "), graph[2][16];
    double kib;

    if (!row) fail_msg("%s", out);
    assert_int_equal(sscanf(row, " pictures %15s %15s - %lf KiB", graph[0], graph[1], &kib), 3);
    free(out);
    return kib;
}

/* Pictures that are read and others are never in memory together. Each takes 12 KiB as pixels, and
 * one that is read 512 bytes more until its features are written. */
static void test_memory_of_others(void **state)
{
    int used, all;
    double most, less;

    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' --set "
                    "baseline.steps=1");
    must_run(state, PLAN "16");
    most = picture_memory(state);
    must_run(state, PLAN "3");
    less = picture_memory(state);
    counts(state, &used, &all);
    assert_true(used > 0 && used < 4 && all == 16);
    /* hundredths of a KiB */
    assert_in_range(lround(100 * (most - less)), 1250 * 16 - 1200 * (16 - used) - 2,
                    1250 * 16 - 1200 * (16 - used) + 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_only_used),
                                       program_test(test_memory_of_others),
                                       program_test(test_broken)};

    return cmocka_run_group_tests_name("picture_use", tests, NULL, NULL);
}
