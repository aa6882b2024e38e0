/* test_slurm.c - runs that go through a real Slurm of one node (slurm.sh): submitted, stopped by the
 * time limit, requeued, cancelled, killed, drained. Whatever happens to it, a run that ends has the
 * bits of an undisturbed one. */
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
#define SUBMIT TRAIN "--submit "
#define STATUS TRAIN "--status "
/* One point, whose stage 2 goes on for long enough to be disturbed. */
#define LONG                                                                                       \
    "--set 'sweep.low_rank=[4]' --set stage2.steps=3000 --set checkpoint.every=1000000 "           \
    "--set stage2.eval_every=0 "

static char cluster[1200];

static int cluster_open(void **state)
{
    char command[1400];

    (void)state;
    snprintf(cluster, sizeof cluster, "%s/mha2mla-slurm-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(cluster)) return -1;
    snprintf(command, sizeof command, "sh tests/cluster/slurm.sh up '%s'", cluster);
    if (system(command) != 0) return -1;
    snprintf(command, sizeof command, "%s/slurm.conf", cluster);
    return setenv("SLURM_CONF", command, 1);
}

static int cluster_close(void **state)
{
    char command[2 * sizeof cluster + 60];

    (void)state;
    snprintf(command, sizeof command, "sh tests/cluster/slurm.sh down '%s' && rm -r '%s'", cluster,
             cluster);
    return system(command);
}

/* Until `command` succeeds, asked twice a second. */
static void wait_until(void *const *state, const char *command, int seconds)
{
    for (int tries = 2 * seconds; run(state, command) != 0; sleep_ms(500))
        if (--tries <= 0) {
            system("squeue; scontrol show job");
            fail_msg("not in %d s: %s\n%s", seconds, command, output(state));
        }
}

/* Until the cluster has no jobs; with what their output was, if they take too long. */
static void wait_jobs(void *const *state, int seconds)
{
    wait_until(state, "tail -n 4 $T/run/slurm/*.out; q=$(squeue -h) && test -z \"$q\"", seconds);
}

/* Until the first point's stage 2 has gone beyond its first 100 steps. */
static void wait_steps(void *const *state)
{
    wait_until(state,
               "grep -q '\"stage2\".*\"step\":1[0-9][0-9],' $T/run/rope4-rank4/metrics.jsonl", 300);
}

#define JOB(name) "$(sed -n 's/.*\"" name "\":[^0-9]*\\([0-9]*\\).*/\\1/p' $T/run/slurm/jobs.json)"

/* Two points beside each other, in a directory whose name has what shells and Slurm read. */
static void test_sweep(void **state)
{
#define ODD "--set run.dir=\"$T/it's \\\"50%a\\\"\" "
    must_repeat(state);
    must_run(state, SUBMIT ODD);
    must_fail(state, SUBMIT ODD, " was submitted on ");
    must_run(state, "ln -s \"$T/it's \\\"50%a\\\"\" $T/run && test -d $T/run/slurm");
    wait_jobs(state, 300);
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
    must_run(state, STATUS ODD "> $T/status; grep -c ' done ' $T/status | grep -qx 4");
    must_run(state, "test -s $T/run/report.md && test -s $T/run/slurm/points-1.out");
}

/* Saved ahead of the limit of a minute and put back into the queue, until it is done. Slurm looks at its
 * clocks every 30 s, and warned after 20 to 50 s: a training of 170 s by itself, on this machine as busy
 * as it is, is stopped three times at least. */
static void test_time_limit(void **state)
{
#define FOR_170_S LONG "--set stage2.steps=$(cat $T/steps) "
    must_run(state,
             TRAIN LONG "--set run.dir=$T/speed && sed -n "
                        "'s/.*\"stage2\",\"event\":\"end\".*\"seconds\":\\([0-9.]*\\).*/\\1/p' "
                        "$T/speed/metrics.jsonl | awk '{ print int(3000 / $1 * 170) }' > "
                        "$T/steps && test $(cat $T/steps) -ge 3000");
    must_run(state, SUBMIT FOR_170_S "--set slurm.time=1 --set slurm.notice=10 ");
    must_run(state,
             TRAIN FOR_170_S "--set run.dir=$T/quiet && " FINGERPRINT("$T/quiet") " > $T/sums");
    wait_jobs(state, 1800);
    must_run(state, "grep -c 'stage2: continues from' $T/run/slurm/points-0.out > $T/times && "
                    "test $(cat $T/times) -ge 3");
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
}

/* What scancel has ended stays ended, with its last step saved, and can be submitted again. */
static void test_scancel(void **state)
{
    must_run(state, SUBMIT LONG);
    wait_steps(state);
    must_run(state, "scancel " JOB("points") " " JOB("report"));
    wait_jobs(state, 60);
    sleep_ms(25000); /* as long as a requeued job takes to come back here: 7 to 21 s */
    must_run(state, "test -z \"$(squeue -h)\" && "
                    "grep -q '^ended 143 ' $T/run/slurm/points-0.state && "
                    "grep -q 'stopped by SIGTERM; rope4-rank4 stage2 is saved' "
                    "$T/run/slurm/points-0.out");
    must_run(state, STATUS LONG);
    assert_true(says(state, "rope4-rank4          stopped by SIGTERM "));
    must_run(state, SUBMIT LONG);
    wait_jobs(state, 300);
    must_run(state, "grep -q 'stage2: continues from' $T/run/slurm/points-0.out && "
                    "test -s $T/run/rope4-rank4/stage2/scores.json");
}

/* A point for which there is no memory: the other one is done, and the report says so. */
static void test_failed_point(void **state)
{
    must_run(state, SUBMIT "--set slurm.lines='[\"[ \\\"$SLURM_ARRAY_TASK_ID\\\" != 1 ] || "
                           "ulimit -v 300000\"]'");
    wait_jobs(state, 300);
    must_run(state, "grep 'rope4-rank1: no scores of stage 2: its training has failed' "
                    "$T/run/report.md && ! grep -q 'rope4-rank4: no scores' $T/run/report.md");
    must_run(state, STATUS);
    assert_true(says(state, "rope4-rank4          done "));
    assert_true(says(state, "rope4-rank1          failed (status 1) "));
    assert_true(says(state, "report               done "));
    if (!says(state, "limit")) fail_msg("%s", output(state)); /* of ulimit */
    /* the shared part fails: no point stays in the queue */
    must_run(state, "rm -r $T/run; " SUBMIT "--set slurm.lines='[\"ulimit -v 300000\"]'");
    wait_jobs(state, 120);
    must_run(state, STATUS);
    assert_true(says(state, "shared               failed (status 1) "));
    assert_true(says(state, "rope4-rank4          cancelled "));
}

/* The script itself is killed: Slurm ends what it had started. */
static void test_killed_script(void **state)
{
    must_run(state, TRAIN LONG "--set run.dir=$T/quiet && " FINGERPRINT("$T/quiet") " > $T/sums");
    must_run(state, SUBMIT LONG "--set slurm.lines='[\"echo $$ > $job.pid\"]'");
    wait_steps(state);
    must_run(state, "kill -9 $(cat $T/run/slurm/points-0.pid)");
    wait_jobs(state, 120);
    must_run(state, STATUS LONG);
    assert_true(says(state, "rope4-rank4          failed "));
    must_run(state, "grep 'rope4-rank4: no scores of stage 2' $T/run/report.md");
    must_run(state, SUBMIT LONG);
    wait_jobs(state, 300);
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
}

/* A drained node lets its job end, and takes the next one once it is back; then a job that Slurm
 * takes away from its node, as it does for another that goes before it. */
static void test_drained_and_requeued(void **state)
{
    must_run(state, TRAIN LONG "--set run.dir=$T/quiet && " FINGERPRINT("$T/quiet") " > $T/sums");
    must_run(state, SUBMIT LONG);
    wait_steps(state);
    must_run(state, "scontrol requeue " JOB("points") "_0");
    wait_until(state, "grep -q 'stage2: continues from' $T/run/slurm/points-0.out", 120);
    must_run(state, "grep -q 'stopped by SIGTERM; rope4-rank4 stage2 is saved' "
                    "$T/run/slurm/points-0.out");
    must_run(state, "scontrol update nodename=$(hostname -s) state=drain reason=test");
    must_run(state, STATUS LONG);
    assert_true(says(state, "rope4-rank4          running "));
    wait_until(state, "test -s $T/run/rope4-rank4/stage2/scores.json", 300);
    wait_until(state, "squeue -h -o '%T %r' | grep -q 'PENDING.*\\(DRAIN\\|Drain\\)'", 120);
    must_run(state, STATUS LONG);
    assert_true(says(state, "report               pending ("));
    must_run(state, "scontrol update nodename=$(hostname -s) state=resume");
    wait_jobs(state, 300);
    must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
}

static void test_refused(void **state)
{
    must_fail(state, SUBMIT "--set slurm.partition=gpu",
              "slurm.partition: there is no gpu: one of test, closed");
    must_fail(state, SUBMIT "--set slurm.partition=closed", "slurm.partition: closed is down");
    must_fail(state, SUBMIT "--set slurm.time=2:00:00",
              "slurm.time: 2:00:00 is more than partition test allows, 1:00:00");
    must_fail(state, SUBMIT "--set slurm.memory=4000", "slurm.memory: 4000 GiB; the largest node");
    must_fail(state, SUBMIT "--set slurm.memory=0.005", "of the 5.12 MiB of slurm.memory it may");
    must_fail(state, SUBMIT "--set slurm.lines='[\"#SBATCH --no-such\"]'", "sbatch: ");
    must_fail(state, SUBMIT "--set slurm.lines='[\"#SBATCH --begin=never\"]'",
              "sbatch: Invalid --begin specification");
    must_run(state, "test -z \"$(squeue -h)\" && test ! -e $T/run/slurm/jobs.json");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_sweep),         program_test(test_time_limit),
        program_test(test_scancel),       program_test(test_failed_point),
        program_test(test_killed_script), program_test(test_drained_and_requeued),
        program_test(test_refused)};

    return cmocka_run_group_tests_name("slurm", tests, cluster_open, cluster_close);
}
