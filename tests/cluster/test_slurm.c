/* test_slurm.c - runs that go through a real Slurm of one node (slurm.sh), as one process and as
 * two: submitted, stopped by the time limit, requeued, cancelled, killed, out of room, drained.
 * Whatever happens to it, a run that ends has the bits of an undisturbed one of as many processes.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#include "tests/tmpdir.h"

#include "tests/program.h"

#include "tests/cluster/processes.h"

#define SUBMIT TRAIN "--submit "
#define STATUS TRAIN "--status "
/* One point, whose stage 2 goes on for long enough to be disturbed: 6000 steps, 4 s of a fast
 * machine. */
#define LONG                                                                                       \
    "--set 'sweep.low_rank=[4]' --set stage2.steps=6000 --set checkpoint.every=500 "               \
    "--set stage2.eval_every=0 "
#define TWO "--set slurm.tasks=2 --set slurm.cpus=1 "

/* ---- the cluster ---- */

/* All tests have one directory, with the cluster's files, the data, and the undisturbed runs. */
static void *dir;
static bool none; /* no Slurm can run here */

/* Slurm wants the machine's name to lead to 127.0.0.1. Where it does not, this process and what it
 * starts have an /etc/hosts of their own, if the system lets them. */
static void own_hosts(void)
{
    if (run(&dir, "getent ahostsv4 $(hostname -s) | head -n 1 | grep -q '^127\\.0\\.0\\.1 '") ==
            0 ||
        unshare(CLONE_NEWNS) != 0)
        return;
    run(&dir,
        "mount --make-rprivate / && echo \"127.0.0.1 localhost $(hostname -s)\" > $T/hosts && "
        "mount --bind $T/hosts /etc/hosts");
}

/* slurm.sh's status 77: not on this machine, for the reason that it has said. */
static int cluster_open(void)
{
    int rc;

    processes_setup();
    if (program_setup(&dir) != 0) return 1;
    own_hosts();
    rc = run(&dir, "chmod 711 $T && sh tests/cluster/slurm.sh up $T/slurm");
    none = rc == 77;
    if (rc != 0) print_message("# %s%s", none ? "skipped: " : "", output(&dir));
    return (rc == 0 || none) && setenv("SLURM_CONF", tmpdir_path(&dir, "slurm/slurm.conf"), 1) == 0
               ? 0
               : 1;
}

static int cluster_close(void)
{
    const int rc = none ? 0 : run(&dir, "sh tests/cluster/slurm.sh down $T/slurm");

    if (rc != 0) print_message("# %s", output(&dir));
    return tmpdir_remove(&dir) != 0 || rc != 0;
}

static int test_begin(void **state)
{
    *state = dir;
    return run(state, "rm -rf $T/run $T/cache");
}

/* One that has failed leaves nothing to the next. */
static int test_end(void **state)
{
    return run(state, "scontrol update nodename=$(hostname -s) state=resume; "
                      "for i in $(seq 60); do q=$(squeue -h -o %A) && test -z \"$q\" && exit 0; "
                      "scancel $q; sleep 0.5; done; exit 1");
}

#define slurm_test(f) cmocka_unit_test_setup_teardown(f, test_begin, test_end)

/* ---- waiting ---- */

/* Until `command` succeeds, asked five times a second. */
static void wait_until(void *const *state, const char *command, int seconds)
{
    for (int tries = 5 * seconds; run(state, command) != 0; sleep_ms(200))
        if (--tries <= 0) {
            char *was = output(state);
            run(state, "squeue; scontrol show job; tail -n 30 $T/run/slurm/*.out");
            fail_msg("not in %d s: %s\n%s\n%s", seconds, command, was, output(state));
        }
}

/* Until the cluster has no jobs. */
static void wait_jobs(void *const *state, int seconds)
{
    wait_until(state, "q=$(squeue -h) && test -z \"$q\"", seconds);
}

/* Until the point's stage 2 is beyond its first 100 steps. */
static void wait_steps(void *const *state)
{
    wait_until(state,
               "grep -q '\"stage2\".*\"step\":1[0-9][0-9],' $T/run/rope4-rank4/metrics.jsonl", 300);
}

/* Until it has saved. */
static void wait_checkpoint(void *const *state)
{
    wait_until(state, "ls $T/run/rope4-rank4/stage2/checkpoints | grep -q '^step-[0-9]*$'", 300);
}

/* Until it has begun again, n times in all. */
static void wait_continued(void *const *state, int n)
{
    char command[200];

    snprintf(command, sizeof command,
             "test $(grep -c 'stage2: continues from step' $T/run/slurm/points-0.out) -ge %d", n);
    wait_until(state, command, 120);
}

#define JOB(name) "$(sed -n 's/.*\"" name "\":[^0-9]*\\([0-9]*\\).*/\\1/p' $T/run/slurm/jobs.json)"
/* The processes of a job of several, by the end of a regular expression for their rank. */
#define RANKS(rank)                                                                                \
    "$(for p in $(pgrep -f \"mha2mla-train.*$T/run/slurm\"); do tr '\\0' '\\n' 2>/dev/null "       \
    "</proc/$p/environ | grep -q '^PMIX_RANK=" rank "$' && echo $p; done)"

/* To the run's processes. Those that stand still do so until Slurm, which takes its time, ends
 * them: it lets them go on for its SIGTERM. */
#define SIGNAL(name)                                                                               \
    "for p in $(pgrep -x mha2mla-train); do "                                                      \
    "if grep -q $T/run/slurm /proc/$p/cmdline; then kill -" name " $p; fi; done"

static void hold(void *const *state)
{
    must_run(state, SIGNAL("STOP"));
}

static void let_go(void *const *state)
{
    must_run(state, SIGNAL("CONT"));
}

/* Both have got SIGUSR1, the tenth bit from the right. */
#define NOTICED                                                                                    \
    "test $(cat $(printf '/proc/%d/status ' " RANKS("[01]") ") | grep -c '^ShdPnd:.*2..$') = 2"

/* ---- the same bits ---- */

/* The undisturbed runs, each made once: by mpirun where there are two processes. */
static const struct undisturbed {
    const char *name, *start;
} undisturbed[] = {
    {"sweep", TRAIN}, {"sweep2", PROCESSES(2)}, {"long", TRAIN LONG}, {"long2", PROCESSES(2) LONG}};

static void make_undisturbed(void *const *state, const char *name)
{
    char command[800];
    size_t i = 0;

    while (strcmp(undisturbed[i].name, name) != 0)
        i++;
    snprintf(command, sizeof command,
             "test -s $T/%s.sums || { %s --set run.dir=$T/%s --set data.cache=$T/%s/cache "
             "&& " FINGERPRINT("$T/%s") " > $T/sums && mv $T/sums $T/%s.sums; }",
             name, undisturbed[i].start, name, name, name, name);
    must_run(state, command);
}

/* Where it is not, what differs, and what the jobs said. */
static void must_be_as(void *const *state, const char *name)
{
    char command[1000];

    make_undisturbed(state, name);
    snprintf(command, sizeof command,
             FINGERPRINT("$T/run") " | diff $T/%s.sums - || "
                                   "{ diff $T/%s/metrics.jsonl $T/run/metrics.jsonl | head -n 9; "
                                   "cat $T/run/slurm/*.state; tail -n 20 $T/run/slurm/*.out; "
                                   "false; }",
             name, name);
    must_run(state, command);
}

/* Submitted again, it goes on from a checkpoint, to the same bits. */
static void must_go_on(void *const *state, const char *submit, const char *name)
{
    must_run(state, "rm $T/run/slurm/*.out");
    must_run(state, submit);
    wait_jobs(state, 300);
    must_run(state, "grep -q 'stage2: continues from step' $T/run/slurm/points-0.out");
    must_be_as(state, name);
}

/* ---- submitted ---- */

/* Two points beside each other, in a directory whose name has what shells and Slurm read. Each job
 * gets a notice before its program has begun, and is put back into the queue. */
static void test_sweep(void **state)
{
#define ODD                                                                                        \
    "--set run.dir=\"$T/it's \\\"50%a\\\"\" "                                                      \
    "--set 'slurm.lines=[\"[ \\\"${SLURM_RESTART_COUNT:-0}\\\" != 0 ] || kill -USR1 $$\"]' "
    must_run(state, SUBMIT ODD);
    must_fail(state, SUBMIT ODD, " was submitted on ");
    must_run(state, "ln -s \"$T/it's \\\"50%a\\\"\" $T/run && test -d $T/run/slurm");
    wait_jobs(state, 300);
    must_be_as(state, "sweep");
    must_run(state, "for f in shared points-0 points-1 report; do "
                    "grep -q 'restarts: 1' $T/run/slurm/$f.out || exit 1; done");
    must_run(state, STATUS ODD "> $T/status; grep -c ' done ' $T/status | grep -qx 4");
    must_run(state, "test -s $T/run/report.md && test -s $T/run/slurm/points-1.out");
}

/* Two processes, which srun starts. */
static void test_two(void **state)
{
    must_run(state, SUBMIT TWO);
    wait_jobs(state, 300);
    must_run(state, "grep -q 'stage2: of 2 processes' $T/run/slurm/points-0.out");
    must_be_as(state, "sweep2");
}

/* ---- stopped ---- */

/* Put back into the queue three times: saved ahead of the limit of a minute, and twice taken away
 * from its node. Slurm looks at its clocks every 30 s, and gives its notice after 20 to 50 s. The
 * processes are held still until it has come to both: else a training would have to be that long.
 */
static void test_requeued(void **state)
{
    make_undisturbed(state, "long2"); /* here, where no clock runs */
    must_run(state, SUBMIT LONG TWO "--set slurm.time=1 --set slurm.notice=10 ");
    wait_steps(state);
    hold(state);
    wait_until(state, NOTICED, 90);
    let_go(state);
    wait_continued(state, 1);
    must_run(state, "grep -q 'stopped by SIGUSR1; rope4-rank4 stage2 is saved' "
                    "$T/run/slurm/points-0.out");
    for (int i = 2; i <= 3; i++) {
        hold(state);
        must_run(state, "scontrol requeue " JOB("points") "_0");
        wait_continued(state, i);
    }
    must_run(state, "grep -q 'stopped by SIGTERM; rope4-rank4 stage2 is saved' "
                    "$T/run/slurm/points-0.out");
    wait_jobs(state, 300);
    must_be_as(state, "long2");
}

/* One process, which the script signals itself: by a notice such as a time limit's, taken from its
 * node, and cancelled. What scancel has ended stays ended, with its last step saved, and can be
 * submitted again. */
static void test_one(void **state)
{
    must_run(state, SUBMIT LONG);
    wait_steps(state);
    must_run(state, "scancel --batch --signal=USR1 " JOB("points") "_0");
    wait_continued(state, 1);
    must_run(state, "grep -q 'stopped by SIGUSR1; rope4-rank4 stage2 is saved' "
                    "$T/run/slurm/points-0.out");
    hold(state);
    must_run(state, "scontrol requeue " JOB("points") "_0");
    wait_continued(state, 2);
    hold(state);
    must_run(state, "scancel " JOB("points") " " JOB("report"));
    wait_jobs(state, 60);
    must_run(state,
             "scontrol show job " JOB(
                 "points") "_0 | grep -q JobState=CANCELLED && "
                           "grep -q '^ended 143 ' $T/run/slurm/points-0.state && "
                           "test $(grep -c 'stopped by SIGTERM; rope4-rank4 stage2 is saved' "
                           "$T/run/slurm/points-0.out) = 2");
    must_run(state, STATUS LONG);
    must_say(state, "rope4-rank4          stopped by SIGTERM ");
    must_go_on(state, SUBMIT LONG, "long");
}

/* ---- failed ---- */

/* A point for which there is no memory: the other one is done, and the report says so. */
static void test_failed_point(void **state)
{
    must_run(state, SUBMIT "--set slurm.lines='[\"[ \\\"$SLURM_ARRAY_TASK_ID\\\" != 1 ] || "
                           "ulimit -v 300000\"]'");
    wait_jobs(state, 300);
    must_run(state, "grep 'rope4-rank1: no scores of stage 2: its training has failed' "
                    "$T/run/report.md && ! grep -q 'rope4-rank4: no scores' $T/run/report.md");
    must_run(state, STATUS);
    must_say(state, "rope4-rank4          done ");
    must_say(state, "rope4-rank1          failed (status 1) ");
    must_say(state, "report               done ");
    if (!says(state, "limit")) fail_msg("%s", output(state)); /* of ulimit */
    /* the shared part fails: no point stays in the queue */
    must_run(state, "rm -r $T/run; " SUBMIT "--set slurm.lines='[\"ulimit -v 300000\"]'");
    wait_jobs(state, 120);
    must_run(state, STATUS);
    must_say(state, "shared               failed (status 1) ");
    must_say(state, "rope4-rank4          cancelled ");
}

/* What the job of a killed point leaves behind. */
static void must_have_failed(void *const *state, const char *error)
{
    wait_jobs(state, 120);
    must_run(state, STATUS LONG TWO);
    must_say(state, "rope4-rank4          failed ");
    if (!says(state, error)) fail_msg("no '%s':\n%s", error, output(state));
    must_run(state, "grep 'rope4-rank4: no scores of stage 2' $T/run/report.md");
    must_run(state, "test -z \"$(find $T/run -name '*.tmp*')\"");
}

/* One of two processes is killed: the job ends, where the other would wait for ever. */
static void test_killed_process(void **state)
{
    double begin, seconds;

    must_run(state, SUBMIT LONG TWO);
    wait_checkpoint(state);
    must_run(state, "kill -9 " RANKS("1"));
    begin = clock_seconds();
    wait_until(state, "grep -q '^ended 137 ' $T/run/slurm/points-0.state", 60);
    seconds = clock_seconds() - begin;
    print_message("# the job of a killed process has ended after %.1f s\n", seconds);
    assert_true(seconds < 10);
    must_have_failed(state, ": task 1: Killed\n");
    must_go_on(state, SUBMIT LONG TWO, "long2");
}

/* The script itself is killed: Slurm ends what it had started. */
static void test_killed_script(void **state)
{
    must_run(state, SUBMIT LONG TWO "--set slurm.lines='[\"echo $$ > $job.pid\"]'");
    wait_checkpoint(state);
    hold(state);
    must_run(state, "kill -9 $(cat $T/run/slurm/points-0.pid)");
    must_have_failed(state, "");
    must_run(state, "test -z \"" RANKS("[01]") "\"");
    must_go_on(state, SUBMIT LONG TWO, "long2");
}

/* Has the second process, once there is a checkpoint, write the others to a disk of its own, which
 * has room for a page of them. */
static const char full_disk[] =
    "at=$1/run/rope4-rank4/stage2/checkpoints\n"
    "shift\n"
    "fill() {\n"
    "    mount -t tmpfs -o size=4k,nr_inodes=100 none /mnt\n"
    "    for step in $(seq 1000 500 6000); do mkdir /mnt/step-0000$step.tmp; done\n"
    "    until [ -d $at/step-00000500 ]; do [ -d /proc/$$ ] && sleep 0.02 || exit; done\n"
    "    mount --bind /mnt $at\n"
    "}\n"
    "[ $SLURM_PROCID != 1 ] || fill </dev/null >/dev/null 2>&1 &\n"
    "exec \"$@\"\n";

static void test_full_disk(void **state)
{
    if (run(state, "unshare -m mount -t tmpfs none $T/s") != 0) {
        print_message("# skipped: a mount of one process needs a right that this one has not\n");
        skip();
    }
    spill(tmpdir_path(state, "full.sh"), full_disk, strlen(full_disk));
    must_run(state, SUBMIT LONG TWO
             "--set slurm.lines=\"[\\\"srun() { exec srun \\$1 unshare -m sh $T/full.sh $T "
             "\\\\\\\"\\${@:2}\\\\\\\"; }\\\"]\" ");
    must_have_failed(state, "rank 1 of 2: ");
    must_run(state, STATUS LONG TWO);
    must_say(state, ".tmp/part-1-of-2.h5: cannot be written: No space left on device: make "
                    "room, then go on with --resume\n");
    must_run(state, "test $(grep -c 'mha2mla-train: error: ' $T/run/slurm/points-0.out) = 1 && "
                    "test \"$(ls $T/run/rope4-rank4/stage2/checkpoints)\" = step-00000500");
    must_go_on(state, SUBMIT LONG TWO, "long2");
}

/* ---- the node ---- */

/* A drained node lets its job end, and takes the next one once it is back. */
static void test_drained(void **state)
{
    must_run(state, SUBMIT LONG TWO);
    wait_steps(state);
    hold(state);
    must_run(state, "scontrol update nodename=$(hostname -s) state=drain reason=test");
    must_run(state, STATUS LONG TWO);
    must_say(state, "rope4-rank4          running ");
    let_go(state);
    wait_until(state, "test -s $T/run/rope4-rank4/stage2/scores.json", 300);
    wait_until(state, "squeue -h -o '%T %r' | grep -q 'PENDING.*\\(DRAIN\\|Drain\\)'", 120);
    must_run(state, STATUS LONG TWO);
    must_say(state, "report               pending (");
    must_run(state, "scontrol update nodename=$(hostname -s) state=resume");
    wait_jobs(state, 300);
    must_be_as(state, "long2");
}

static void test_refused(void **state)
{
    must_fail(state, SUBMIT "--set slurm.partition=gpu",
              "slurm.partition: there is no \"gpu\": one of test, closed");
    must_fail(state, SUBMIT "--set slurm.partition=closed", "slurm.partition: closed is down");
    must_fail(state, SUBMIT "--set slurm.time=2:00:00",
              "slurm.time: 2:00:00 is more than partition test allows, 1:00:00");
    must_fail(state, SUBMIT "--set slurm.memory=4000", "slurm.memory: 4000 GiB; the largest node");
    must_fail(state, SUBMIT "--set slurm.memory=0.005", "of the 5.12 MiB of slurm.memory it may");
    must_fail(state, SUBMIT "--set slurm.lines='[\"#SBATCH --no-such\"]'", "sbatch: ");
    must_fail(state, SUBMIT "--set slurm.lines='[\"#SBATCH --begin=never\"]'",
              "never; Invalid --begin specification");
    must_run(state, "test -z \"$(squeue -h)\" && test ! -e $T/run/slurm/jobs.json");
}

static void skipped(void **state)
{
    (void)state;
    skip();
}

/* With an argument, only the tests of that name. */
int main(int argc, char **argv)
{
    struct CMUnitTest tests[] = {slurm_test(test_sweep),         slurm_test(test_two),
                                 slurm_test(test_requeued),      slurm_test(test_one),
                                 slurm_test(test_failed_point),  slurm_test(test_killed_process),
                                 slurm_test(test_killed_script), slurm_test(test_full_disk),
                                 slurm_test(test_drained),       slurm_test(test_refused)};
    int failed = cluster_open();

    for (size_t i = 0; none && i < sizeof tests / sizeof *tests; i++)
        tests[i] = (struct CMUnitTest){.name = tests[i].name, .test_func = skipped};
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    failed = failed || cmocka_run_group_tests_name("slurm", tests, NULL, NULL) != 0;
    return cluster_close() != 0 || failed;
}
