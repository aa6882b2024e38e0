/* test_logit_run.c - runs with rank.strategy "logit", each head's own pairs or one key of them all:
 * the same bits in two runs and after a kill, what the cache holds, and a choice
 * that is read back. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tmpdir.h"

#include "tests/program.h"

#define RUN                                                                                        \
    "exec $B/mha2mla-train --config $C --set run.dir=$T/%s --set rank.strategy=logit "             \
    "--set rank.rope_dim=%d --set rank.budget=%s --set rank.rotation=true "                        \
    "--set sweep.low_rank=[6] --set checkpoint.every=3 %s"

static pid_t begin(void *const *state, const char *dir, const char *budget, const char *more)
{
    char command[700];

    snprintf(command, sizeof command, RUN, dir, strcmp(budget, "even") == 0 ? 4 : 8, budget, more);
    return start(*state, command);
}

static void whole(void *const *state, const char *dir, const char *budget, const char *more)
{
    const int rc = finish(begin(state, dir, budget, more));

    if (rc != 0) fail_msg("%s: status %d\n%s", budget, rc, output(state));
}

/* Kills the run as soon as that file is there. */
static void stop_at(void *const *state, const char *budget, const char *file, const char *more)
{
    pid_t pid = begin(state, "two", budget, more);
    struct stat there;

    for (int k = 0; k < 60000 && stat(tmpdir_path(state, file), &there) != 0; k++)
        sleep_ms(1);
    kill(pid, SIGKILL);
    assert_int_equal(finish(pid), 128 + SIGKILL);
}

/* Killed once the pairs are chosen, and in stage 2; the cache has as many values
 * with either budget. */
static void check_run(void **state, const char *budget, int rope)
{
    char command[500], file[200];

    whole(state, "one", budget, "");
    must_say(state, "rank: logit, under constant rotation, over 8 samples");
    must_say(state, "the cache holds 20 values a token and layer");
    stop_at(state, budget, "two/rank/rank.h5", "");
    snprintf(file, sizeof file, "two/rope%d-rank6/stage2/checkpoints/step-00000003.h5", rope);
    stop_at(state, budget, file, "--resume");
    whole(state, "two", budget, "--resume");
    must_say(state, "rank: is done already");
    snprintf(command, sizeof command,
             "for f in rank/rank.h5 rope%d/stage1/model/model.safetensors "
             "rope%d-rank6/stage2/model/model.safetensors rope%d-rank6/stage2/model/config.json "
             "rope%d-rank6/stage2/answers.jsonl; do cmp $T/one/$f $T/two/$f || exit 1; done",
             rope, rope, rope, rope);
    must_run(state, command);
}

static void test_even(void **state)
{
    check_run(state, "even", 4);
    must_run(state, "test -e $T/one/rope4-rank6/stage2/model/rope_ranks.pth");
}

static void test_spread(void **state)
{
    check_run(state, "spread", 8);
    must_run(state, "grep -q 'rank: layer 1 keeps' $T/one/train.log && "
                    "test ! -e $T/one/rope8-rank6/stage2/model/rope_ranks.pth && "
                    "test -e $T/one/rope8-rank6/stage2/model/modeling_mha2mla.py");
}

/* A damaged choice is found; the dry run says that widths are means. */
static void test_faults(void **state)
{
    whole(state, "one", "heads", "--set 'run.steps=[\"baseline\",\"rank\"]'");
    must_run(state, "dd if=/dev/zero of=$T/one/rank/rank.h5 bs=1 seek=2100 count=300 conv=notrunc");
    assert_int_equal(finish(begin(state, "one", "heads", "--resume")), 1);
    must_say(state, "rank/rank.h5");
    must_run(state, "$B/mha2mla-train --config $C --set run.dir=$T/new --set rank.strategy=logit "
                    "--set rank.budget=spread --set rank.rope_dim=8 --dry-run");
    must_say(state, "divides the rotated dims among the layers: these are their means");
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_even), program_test(test_spread),
                                       program_test(test_faults)};

    return cmocka_run_group_tests_name("logit_run", tests, NULL, NULL);
}
