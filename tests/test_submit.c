/* test_submit.c - job scripts, and what --submit and --status make of a cluster's answers: Slurm's
 * programs are played by shell scripts here. tests/cluster/ has the real ones. */
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
#include "tests/sanitized.h"

#include "train/submit/partition.h"
#include "train/submit/queue.h"
#include "train/submit/walltime.h"

/* ---- parts ---- */

static void test_walltime(void **state)
{
    static const struct {
        const char *text;
        int64_t seconds; /* 0: refused */
    } rows[] = {{"1", 60},
                {"90", 5400},
                {"1:30", 90},
                {"2:00:05", 7205},
                {"1-0", 86400},
                {"1-2:30", 95400},
                {"10-23:59:59", 950399},
                {"", 0},
                {"0", 0},
                {"0:00:00", 0},
                {"infinite", 0},
                {"1:2:3:4", 0},
                {"1h", 0},
                {" 1", 0},
                {"-1", 0},
                {"1-", 0},
                {"1:-2", 0},
                {"1-1-1", 0},
                {"1:30:", 0},
                {"1234567890", 0}};
    char text[WALLTIME_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t got = 0;
        bool ok = walltime_parse(rows[i].text, &got);
        if (ok != (rows[i].seconds > 0) || (ok && got != rows[i].seconds))
            fail_msg("%s: %lld", rows[i].text, (long long)got);
    }
    assert_string_equal(walltime_text(text, 95405), "1-2:30:05");
    assert_string_equal(walltime_text(text, 59), "0:00:59");
}

static void test_partition(void **state)
{
    static const char nodes[] = "fat|1031000|96|2-00:00:00|up\nfat|2063000|128|2-00:00:00|up\n"
                                "thin*|128000|32|infinite|up\nold|64000|16|1:00:00|drain\n";
    static const struct {
        const char *text, *name, *error;
    } rows[] = {{nodes, "gpu", "slurm.partition: there is no \"gpu\": one of fat, thin, old"},
                {nodes, "fa", "there is no \"fa\": one of"},
                {nodes, "old", "slurm.partition: old is drain"},
                {nodes, "fat,old", "slurm.partition: old is drain"},
                {nodes, "fat,gpu", "slurm.partition: there is no \"gpu\": one of"},
                {nodes, "fat,", "slurm.partition: there is no \"\": one of"},
                {nodes, ",fat", "slurm.partition: there is no \"\": one of"},
                {nodes, "fat, thin", "slurm.partition: there is no \" thin\": one of"},
                {"a|1|1|1:00|up\n", NULL, "the cluster has no default: give one of a"},
                {"", NULL, "the cluster has no partition with nodes"},
                {"nonsense\n\n|||\n", "a", "the cluster has no partition with nodes"}};
    struct partition p;
    struct err e;

    (void)state;
    assert_true(partition_parse(nodes, "fat", &p, &e));
    assert_true(p.nodes == 2 && p.memory == 2063000 && p.cpus == 128 && p.seconds == 172800);
    assert_true(partition_parse(nodes, NULL, &p, &e));
    assert_string_equal(p.name, "thin");
    assert_true(p.nodes == 1 && p.seconds == 0);
    /* a job must fit into each of several */
    assert_true(partition_parse(nodes, "thin,fat", &p, &e));
    assert_string_equal(p.name, "thin,fat");
    assert_true(p.nodes == 1 && p.memory == 128000 && p.cpus == 32 && p.seconds == 172800);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (partition_parse(rows[i].text, rows[i].name, &p, &e) || !strstr(e.msg, rows[i].error))
            fail_msg("%zu: %s", i, e.msg);
}

static void test_queue(void **state)
{
    struct queue q = {0};
    struct err e;

    (void)state;
    assert_true(
        queue_parse(&q,
                    "12|N/A|RUNNING|1:58:20|None\n13|0|PENDING|2:00:00|Dependency\n"
                    "broken\n13|1|PENDING|2:00:00|Nodes required for job are DOWN, DRAINED\n",
                    &e));
    assert_int_equal(q.n, 3);
    assert_string_equal(queue_find(&q, 12, -1)->left, "1:58:20");
    assert_string_equal(queue_find(&q, 13, 1)->why, "Nodes required for job are DOWN, DRAINED");
    assert_null(queue_find(&q, 13, 2));
    assert_null(queue_find(&q, 14, -1));
    queue_close(&q);
}

/* ---- the program among scripts that play Slurm ---- */

/* Each notes its arguments in T/calls. sbatch numbers jobs from 101 and refuses the script that
 * T/refused names; squeue and sinfo print T/queue and T/nodes. */
static int cluster_setup(void **state)
{
    if (program_setup(state) != 0) return -1;
    must_run(state,
             "mkdir $T/bin && cd $T/bin && echo 100 > $T/last && : > $T/queue && : > $T/refused && "
             "echo 'part*|8000|4|2:00:00|up' > $T/nodes && "
             "printf '%s\\n' '#!/bin/sh' 'echo \"${0##*/} $*\" >> $T/calls' > head && "
             "for p in sbatch squeue sinfo scancel scontrol; do cp head $p; chmod +x $p; done && "
             "echo 'cat $T/queue' >> squeue && echo 'cat $T/nodes' >> sinfo && "
             "echo 'for a; do :; done; case ${a##*/} in $(cat $T/refused)) "
             "echo \"sbatch: error: Batch job submission failed: no\" >&2; exit 1;; esac; "
             "echo $(($(cat $T/last) + 1)) > $T/last; cat $T/last' >> sbatch");
    return 0;
}

#define cluster_test(f) cmocka_unit_test_setup_teardown(f, cluster_setup, tmpdir_remove)
#define SLURM "PATH=$T/bin:$PATH; export PATH; "
#define TRAIN SLURM "$B/mha2mla-train --config $C "
#define SUBMIT TRAIN "--submit "

/* What a dry run shows: every setting in its place, scripts that bash can read, nothing written. */
static void test_scripts(void **state)
{
    static const char *const lines[] = {
        "#SBATCH --job-name=\"run-shared\"",
        "#SBATCH --partition=\"part,next\"",
        "#SBATCH --account=\"a\\\"b\"",
        "#SBATCH --constraint=\"big&new\"",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks-per-node=2",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=4096M",
        "#SBATCH --time=1:30:00",
        "#SBATCH --signal=B:USR1@300",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        "#SBATCH --array=0-1%1",
        "#SBATCH --exclusive",
        "module load 'it'\\''s/1' || { state ended 1; exit 1; }",
        "export X=1",
        "points=(rope4-rank4 rope4-rank1)",
    };

    must_run(state, "echo 'next|9000|8|infinite|up' >> $T/nodes");
    must_run(state, SUBMIT "--dry-run --set slurm.partition=part,next --set 'slurm.account=a\"b' "
                           "--set 'slurm.constraint=big&new' --set slurm.tasks=2 --set "
                           "slurm.cpus=2 --set slurm.memory=4 --set slurm.time=1:30:00 --set "
                           "slurm.notice=300 --set slurm.at_once=1 --set "
                           "slurm.modules='[\"it'\\''s/1\"]' --set "
                           "slurm.lines='[\"#SBATCH --exclusive\",\"export X=1\"]'");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char want[200];
        snprintf(want, sizeof want, "\n%s\n", lines[i]);
        if (!says(state, want)) fail_msg("no line %s:\n%s", lines[i], output(state));
    }
    must_say(state, "srun --mpi=pmix '");
    /* nine tenths of it, for two processes */
    must_say(state, "--set run.memory_limit=1.8 --set "
                    "'run.steps=[\"baseline\",\"rank\",\"stage1\",\"evaluate\"]'");
    must_say(state, "--set run.memory_limit=1.8 --share --point \"$SLURM_ARRAY_TASK_ID\"");
    must_say(state, "A dry run: nothing was written or submitted.");
    must_run(state, "cp $T/out $T/shown && sed -n '/^#!/,$p' $T/shown | sed '/^-- /d; /^A dry/d' > "
                    "$T/all.sh && bash -n $T/all.sh && test ! -e $T/run && "
                    "! grep -q sbatch $T/calls");
    /* without a cluster too, but for the comparison */
    must_run(state,
             "PATH=/nowhere; $B/mha2mla-train --config $C --submit --dry-run --set slurm.cpus=500");
    must_say(state, "what the jobs ask for is not compared with a cluster: sinfo: ");
}

static void test_refused(void **state)
{
    static const struct {
        const char *settings, *error;
    } rows[] = {
        {"slurm.time=soon", "slurm.time: MINUTES, MM:SS, HH:MM:SS, D-HH or D-HH:MM:SS is needed, "
                            "found \"soon\""},
        {"slurm.time=2", "slurm.notice: 120 seconds ahead of slurm.time, 120, and the 30 by"},
        {"slurm.time=3:00:00", "slurm.time: 3:00:00 is more than partition part allows, 2:00:00"},
        {"slurm.partition=gpu", "slurm.partition: there is no \"gpu\": one of part"},
        {"slurm.nodes=2' --set 'slurm.tasks=2", "slurm.nodes: partition part has 1, found 2"},
        {"slurm.tasks=3' --set 'slurm.nodes=2", "slurm.tasks: 3 cannot be shared out evenly"},
        {"slurm.tasks=2' --set 'cluster.processes=3",
         "slurm.tasks: 2, and cluster.processes is 3: give one number"},
        {"slurm.cpus=5", "slurm.cpus: 5 cores for each of 1 processes of a node are 5; the largest "
                         "node of partition part has 4"},
        {"run.threads=0", "slurm.cpus: is 0, and so is run.threads"},
        {"slurm.cpus=1' --set 'run.threads=2", "slurm.cpus: 1 cores are fewer than run.threads, 2"},
        {"slurm.memory=9", "slurm.memory: 9 GiB; the largest node of partition part has 7.812"},
        {"slurm.memory=0.005", "of the 5.12 MiB of slurm.memory it may use nine tenths"},
        {"run.dir=/tmp/a\\b", "/tmp/a\\b: has a backslash, which Slurm takes out"},
        {"slurm.account=a\nb", "slurm.account: has a control character"},
        {"slurm.lines=[\"a\\nb\"]", "slurm.lines: has a control character"},
        {"slurm.lines=[\"#SBATCH --time=5\"]", "\"#SBATCH --time=5\": is what slurm.time sets"},
        {"slurm.lines=[\"#SBATCH  -p x\"]", "\"#SBATCH  -p x\": is what slurm.partition sets"},
        {"slurm.lines=[\"#SBATCH --array=0-5\"]", "--array is given by the scripts themselves"},
    };
    char command[400];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(command, sizeof command, SUBMIT "--set '%s'", rows[i].settings);
        must_fail(state, command, rows[i].error);
    }
    must_run(state, "echo 'part*|5|4|2:00:00|up' > $T/nodes");
    must_fail(state, SUBMIT, "of the 5.00 MiB of the largest node of partition part it may use");
    must_fail(state, SUBMIT "--point 1", "--submit: is for all points");
    must_fail(state, TRAIN "--status --submit", "--status: only looks");
    must_fail(state, "PATH=/nowhere; $B/mha2mla-train --config $C --submit",
              "sbatch: is not in PATH: on this machine there is no Slurm");
    must_run(state, "test ! -e $T/run && ! grep -q sbatch $T/calls");
}

/* What a job has printed, and which error of it --status shows. */
static const char *const errors[][2] = {
    {"x\nmha2mla-train: error: no luck\nx\n", "no luck"},
    {"srun: error: n1: task 1: Killed\nx\nsrun: error: n1: task 0: Killed\n", "n1: task 1: Killed"},
    {"slurmstepd: error: *** STEP 8.0 ***\nmha2mla-train: error: rank 1 of 2: no room\nMPI_ABORT\n"
     "srun: error: n1: task 0: Exited\n",
     "rank 1 of 2: no room"},
    {"slurm: job 7 begins\nmha2mla-train: error: before\nslurm: job 8 begins\nsrun: error: after\n",
     "after"},
    {"mha2mla-train: error: stopped by SIGUSR1\nslurm: error: not one step\n", "not one step"},
    {"slurm: job 7, restarts: 0\nx\nsrun: fatal: no memory\n\n", "srun: fatal: no memory"}};

static void test_submitted(void **state)
{
    must_run(state, "cd $T && mkdir -p 'a b' && cp c.json 'a b'");
    must_run(state, "B=$(realpath $B); cd \"$T/a b\"; " SLURM "$B/mha2mla-train --config c.json "
                    "--submit --set \"run.dir=it's\" --set stage2.lr=2e-3");
    must_say(state, "submitted: job 101, shared");
    must_say(state, "submitted: job 102, points: 0-1");
    must_say(state, "to end them: scancel 101 102 103");
    must_run(state, "d=\"$T/a b/it's/slurm\"; printf '%s\\n' \"sinfo -h -N -o %P|%m|%c|%l|%a\" "
                    "\"sbatch --parsable --hold $d/shared.sh\" \"sbatch --parsable "
                    "--dependency=afterok:101 --kill-on-invalid-dep=yes $d/points.sh\" "
                    "\"sbatch --parsable --dependency=afterany:102 --kill-on-invalid-dep=yes "
                    "$d/report.sh\" 'scontrol release 101' | diff - $T/calls");
    must_run(state, "cd \"$T/a b/it's/slurm\" && grep -q 'lr\": 0.002' config.json && "
                    "bash -n shared.sh && bash -n points.sh && bash -n report.sh");
#define ODD                                                                                        \
    "cd \"$T/a b\"; " SLURM "$OLDPWD/$B/mha2mla-train --config c.json --set \"run.dir=it's\" "
    must_run(state, "printf '101|N/A|RUNNING|9:59|None\\n102|0|PENDING|10:00|Dependency\\n"
                    "102|1|PENDING|10:00|Dependency\\n' > $T/queue; " ODD "--status");
    must_say(state, "shared               running ");
    must_say(state, "rope4-rank1          pending (dependency) ");
    must_say(state, "101, 9:59");
    must_say(state, "report               cancelled ");
    must_say(state, "stage2.lr (was 0.002, now 0.001)");
    /* A reason of any length keeps the columns; what is left is that of this
     * training, this time. */
    must_run(state,
             "printf '101|N/A|PENDING|9:59|PartitionTimeLimit\n' > $T/queue; " ODD "--status");
    must_say(state, "shared               pending (partitiontimelimit) -  ");
    must_say(state, "                     state                        step ");
    must_run(
        state,
        "cd \"$T/a b/it's\" && printf '%s\n' "
        "'{\"point\":\"shared\",\"phase\":\"stage1\",\"event\":\"train\",\"step\":3,\"loss\":1}' "
        "> metrics.jsonl && printf '%s\n' 'slurm: job 7, restarts: 0' "
        "'shared baseline  step 9/90  loss 1  5 tokens/s  4.2 s left  lr 1' "
        "> slurm/shared.out");
    must_run(state, "printf '101|N/A|RUNNING|9:59|None\n' > $T/queue; " ODD "--status");
    must_say(state, " stage1 3             1.0000         -         -  101, 9:59");
    must_run(state, "echo 'shared stage1  step 3/30  loss 1  5 tokens/s  4.2 s left  lr 1' >> "
                    "\"$T/a b/it's/slurm/shared.out\"; " ODD "--status");
    must_say(state, " stage1 3/30          1.0000         -     4.2 s  101, 9:59");
    must_run(state, "echo 'slurm: job 7, restarts: 1' >> \"$T/a b/it's/slurm/shared.out\"; " ODD
                    "--status");
    must_say(state, " stage1 3             1.0000         -         -  101, 9:59");
    must_run(state, "rm \"$T/a b/it's/metrics.jsonl\"");
    must_fail(state, ODD "--submit", "it's: job 101 (shared, RUNNING) was submitted on ");
    must_say(state, "end it with `scancel 101 102 103`");
    must_run(state, ": > $T/queue; echo 'ended 1 102 0 5' > \"$T/a b/it's/slurm/points-1.state\"");
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        char line[200];
        spill(tmpdir_path(state, "a b/it's/slurm/points-1.out"), errors[i][0],
              strlen(errors[i][0]));
        must_run(state, ODD "--status");
        must_say(state, "rope4-rank1          failed (status 1) ");
        snprintf(line, sizeof line, "\n    %s\n", errors[i][1]);
        if (!says(state, line)) fail_msg("%s, got: %s", line, output(state));
    }
    /* again, now that nothing lives: the old states are forgotten */
    must_run(state, ODD "--submit && test ! -e \"it's/slurm/points-1.state\"");
    must_run(state, "mv \"$T/a b/it's\" $T/moved; " TRAIN "--status --set run.dir=$T/moved");
    must_say(state, "/a b/it's, and now it is ");
}

/* Three at the same time: one has them, and the others say so. From within an allocation the jobs
 * get nothing of it; a job's process is nobody who submits. And a run by hand leaves the directory
 * to the jobs that wait for it. */
static void test_others(void **state)
{
    must_run(state, "sed -i '2i sleep 0.3' $T/bin/sbatch && echo 'env > $T/env; "
                    "echo \"$(cat $T/last)|N/A|PENDING|9:59|None\" >> $T/queue' >> $T/bin/sbatch");
    must_run(state,
             "for i in 1 2 3; do (" SUBMIT " > $T/o$i 2>&1; echo $? > $T/rc$i) & done; wait; "
             "cat $T/o?; test $(cat $T/rc? | sort | tr -d '\n') = 011 && "
             "test $(grep -c '^sbatch' $T/calls) = 3 && test -s $T/run/slurm/jobs.json");
    /* the one that comes too late for the lock sees the jobs */
    assert_true(says(state, "another --submit is at work here") || says(state, "was submitted on"));
    must_fail(state, TRAIN, "(shared, PENDING) was submitted on ");
    must_run(state,
             ": > $T/queue; rm -r $T/run; SLURM_MEM_PER_CPU=1 SLURM_JOB_ID=5 SLURM_CONF=c; export "
             "SLURM_MEM_PER_CPU SLURM_JOB_ID SLURM_CONF; " SUBMIT
             " && grep -q SLURM_CONF=c $T/env && ! grep -q 'SLURM_[MJ]' $T/env");
    if (!SANITIZED) /* MPI leaves memory behind */
        must_fail(state, "PMIX_RANK=0; export PMIX_RANK; " SUBMIT, "mpirun or srun");
}

/* One of three is not taken: none is. */
static void test_not_taken(void **state)
{
    must_run(state, "echo report.sh > $T/refused");
    must_fail(state, SUBMIT, "sbatch: Batch job submission failed: no");
    must_run(state, "test \"$(tail -1 $T/calls)\" = 'scancel 101 102' && "
                    "test ! -e $T/run/slurm/jobs.json");
    must_run(state, "echo points.sh > $T/refused; echo 'exit 3' >> $T/bin/scancel");
    must_fail(state, SUBMIT,
              "submission failed: no; and what was queued before could not be taken back (scancel: "
              "ended with status 3): `scancel 103`");
    must_run(state, "echo 103 > $T/queue; sed -i 's/$/|N\\/A|PENDING|1:00|JobHeldUser/' $T/queue");
    must_fail(state, SUBMIT, "job 103 (shared, PENDING)");
    must_run(state, "echo '{' > $T/run/slurm/jobs.json");
    must_fail(
        state, SUBMIT,
        "a key in double quotes is needed, near the end of the text: it says which jobs were");
}

/* A job's script by hand: runs to the end, stops for TERM, goes back into the queue for USR1, and
 * ends where its whole time brought not one step. */
static void test_a_script(void **state)
{
#define JOB SLURM "SLURM_JOB_ID=7; export SLURM_JOB_ID; cd /; exec bash $T/run/slurm/shared.sh"
    pid_t pid;

    must_run(state, SUBMIT "--set baseline.steps=400000 --set checkpoint.every=20");
    pid = start(*state, JOB);
    for (int tries = 6000; !says(state, "; saved") && --tries;)
        sleep_ms(10);
    kill(pid, SIGTERM);
    assert_int_equal(finish(pid), 143);
    must_run(state, "grep -q '^ended 143 7 0 ' $T/run/slurm/shared.state && "
                    "ls $T/run/baseline/checkpoints/*.h5 && ! grep -q requeue $T/calls");
    pid = start(*state, JOB);
    for (int tries = 6000; !says(state, "; saved") && --tries;)
        sleep_ms(10);
    kill(pid, SIGUSR1);
    assert_int_equal(finish(pid), 85);
    must_run(state, "grep -q '^requeued 85 7 0 ' $T/run/slurm/shared.state && "
                    "test \"$(tail -1 $T/calls)\" = 'scontrol requeue 7'");
    must_run(state, ": > $T/calls; echo 1000000 2 > $T/run/slurm/shared.made");
    pid = start(*state, "SLURM_RESTART_COUNT=1; export SLURM_RESTART_COUNT; " JOB);
    for (int tries = 6000; !says(state, "continues") && --tries;)
        sleep_ms(10);
    kill(pid, SIGUSR1);
    assert_int_equal(finish(pid), 1);
    must_say(state, "slurm: error: not one step was done in three times");
    must_run(state, "grep -q '^ended 1 7 1 ' $T/run/slurm/shared.state && test ! -s $T/calls");
    must_run(state, "echo '[ $1 != requeue ]' >> $T/bin/scontrol");
    pid = start(*state, JOB);
    for (int tries = 6000; !says(state, "; saved") && --tries;)
        sleep_ms(10);
    kill(pid, SIGUSR1);
    assert_int_equal(finish(pid), 1);
    must_say(state, "the job could not be put back into the queue");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walltime), cmocka_unit_test(test_partition),
        cmocka_unit_test(test_queue),    cluster_test(test_scripts),
        cluster_test(test_refused),      cluster_test(test_submitted),
        cluster_test(test_others),       cluster_test(test_not_taken),
        cluster_test(test_a_script)};

    return cmocka_run_group_tests_name("submit", tests, NULL, NULL);
}
