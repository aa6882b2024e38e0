/* test_cluster.c - whole runs of several processes, started by mpirun as a user would: their
 * figures beside one process's, and what a stop, a death or an error of one of them leaves. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "cluster/cluster.h"

#include <math.h>
#include <time.h>

#include "tests/tmpdir.h"

#include "tests/program.h"

#include "tests/cluster/processes.h"

/* Where a run is stopped from outside: a training without end. */
#define ENDLESS_SETS                                                                               \
    "--set 'run.steps=[\"baseline\"]' --set baseline.steps=1000000 --set checkpoint.every=20 "

/* ---- figures ---- */

enum { FIGURES = 400 };
struct figures {
    int n;
    double v[FIGURES];
};

/* All numbers under that key of a run's metrics, in order. */
static struct figures read_figures(void *const *state, const char *run, const char *key)
{
    char path[200], find[40];
    char *text, *at;
    struct figures f = {0};

    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    snprintf(find, sizeof find, "\"%s\":", key);
    at = text = slurp(tmpdir_path(state, path), NULL);
    while ((at = strstr(at, find))) {
        assert_true(f.n < FIGURES);
        at += strlen(find);
        f.v[f.n++] = strtod(at, NULL);
    }
    free(text);
    return f;
}

/* The largest relative difference from another run's figures. */
static double differ(void *const *state, const char *run, const char *other, const char *key)
{
    const struct figures a = read_figures(state, run, key), b = read_figures(state, other, key);
    double most = 0;

    if (a.n != b.n || a.n == 0) fail_msg("%s: %d of %s, %s: %d", run, a.n, key, other, b.n);
    for (int i = 0; i < a.n; i++)
        most = fmax(most, fabs(a.v[i] - b.v[i]) / fmax(fabs(a.v[i]), 1e-30));
    return most;
}

static void must_be_close(void *const *state, const char *run, const char *other, const char *key,
                          double most)
{
    const double off = differ(state, run, other, key);

    print_message("# %s beside %s: %s within %.1e\n", run, other, key, off);
    if (!(off <= most)) fail_msg("%s beside %s: %s differs by %g", run, other, key, off);
}

static int cluster_setup(void **state)
{
    processes_setup();
    return program_setup(state);
}
#define cluster_test(f) cmocka_unit_test_setup_teardown(f, cluster_setup, tmpdir_remove)

/* mpirun puts a terminal between, also for one process: what comes out of it into a file has no
 * terminal's codes. */
static void test_one_process(void **state)
{
    must_run(state,
             PROCESSES(1) "--set 'run.steps=[\"baseline\"]' --set baseline.steps=3 > $T/said");
    must_run(state, "test -s $T/said && ! grep -q \"$(printf '\\033')\" $T/said");
}

/* ---- the same run ---- */

#define SAME_SCORES(dir)                                                                           \
    "(cd $T/one && for f in $(find . -name scores.json -o -name answers.jsonl -o -name "           \
    "recovery.tsv); do cmp $f $T/" dir "/$f || exit 1; done)"

/* The MiB of the first training's optimiser, as a run has logged them. */
static double logged_state(void *const *state, const char *run)
{
    char path[100], *text, *at;
    double mib;

    snprintf(path, sizeof path, "%s/train.log", run);
    text = slurp(tmpdir_path(state, path), NULL);
    at = strstr(text, "the optimiser's state here is ");
    assert_non_null(at);
    mib = strtod(at + strlen("the optimiser's state here is "), NULL);
    free(text);
    return mib;
}

/* Of four processes each has half as much as of two, but for the log's last digit and blocks
 * that cannot be halved. */
static void state_is_divided(void *const *state)
{
    const double two = logged_state(state, "p2"), four = logged_state(state, "p4");

    print_message("# the optimiser's state: %.2f MiB of two processes, %.2f of four\n", two, four);
    assert_true(two > 0.1 && fabs(two - 2 * four) < 0.02);
}

/* Losses: of 44 steps, each an fp32 sum over the batch: 1e-6 is some 10 roundings of 6e-8, seen are
 * 1e-7. Norms also have the roundings of all gradients, which training amplifies: seen are 1.3e-6.
 */
static void test_as_one(void **state)
{
    static const char *const runs[] = {"p2", "p3", "p4", "p8"};

    must_run(state, TRAIN "--set run.dir=$T/one");
    must_run(state, PROCESSES(2) "--set run.dir=$T/p2 --set data.cache=$T/cache2");
    must_run(state, PROCESSES(3) "--set run.dir=$T/p3 --set data.cache=$T/cache3");
    must_run(state, PROCESSES(4) "--set run.dir=$T/p4");
    state_is_divided(state);
    must_run(state, PROCESSES(8) "--set run.dir=$T/p8");
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        must_be_close(state, "one", runs[i], "loss", 1e-6);
        must_be_close(state, "one", runs[i], "grad_norm", 1e-5);
        must_be_close(state, "one", runs[i], "score", 0);
    }
    must_run(state, SAME_SCORES("p2") " && " SAME_SCORES("p8"));
    /* the features are of another tower: its last bits differ */
    must_run(state, "for f in $(cd $T/cache && find pixels-* -name '*.h5'); do cmp $T/cache/$f "
                    "$T/cache3/$f || exit 1; done");
}

/* Each process asks the teacher about its own samples: the terms of the loss as the loss itself.
 * The divergence is a sum of differences of two logs, each off by some roundings of the logits: it
 * has ten times their relative error. */
static void test_teacher(void **state)
{
    static const char sets[] =
        "--set 'run.steps=[\"baseline\",\"rank\",\"stage1\",\"svd\",\"stage2\"]' "
        "--set stage1.loss=distill --set stage2.loss=distill "
        "--set stage2.temperature=2 --set run.dir=$T/";
    static const char *const runs[] = {"p2", "p3"};
    char command[800];

    snprintf(command, sizeof command, TRAIN "%sone && " PROCESSES(2) "%sp2", sets, sets);
    must_run(state, command);
    snprintf(command, sizeof command, PROCESSES(3) "%sp3 && " PROCESSES(3) "%sagain", sets, sets);
    must_run(state, command);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        must_be_close(state, "one", runs[i], "loss", 1e-6);
        must_be_close(state, "one", runs[i], "ce", 1e-6);
        must_be_close(state, "one", runs[i], "distill", 1e-5);
    }
    must_run(state, "cmp $T/p3/rope4-rank4/stage2/model/model.safetensors "
                    "$T/again/rope4-rank4/stage2/model/model.safetensors");
}

/* The second time beside others that want the processors, so that messages come at other times. */
static void test_repeats(void **state)
{
    must_run(state, PROCESSES(4) "--set run.dir=$T/a --set optim.state=8bit");
    must_run(
        state,
        "for i in 1 2 3 4 5 6; do { while :; do :; done & busy=\"$busy $!\"; }; done; " PROCESSES(
            4) "--set run.dir=$T/b --set optim.state=8bit; rc=$?; "
               "kill $busy; exit $rc");
    must_run(state, FINGERPRINT("$T/a") " > $T/sums && " FINGERPRINT("$T/b") " | diff $T/sums -");
}

/* Rounded to bf16, a gradient is off by up to 2^-9 = 2e-3, its sums by less: a few steps of a
 * training with lr 1e-3 move the loss by 1e-4 of itself at most (1.5e-6 seen, 5e-5 with moments
 * in 8 bits). And it must differ by more than 1e-7, which f32 does: else nothing would have been
 * rounded. */
static void test_bf16_wire(void **state)
{
    static const char sets[] = "--set 'run.steps=[\"baseline\"]' --set run.dir=$T/";
    char command[600];

    must_run(state, TRAIN "--set 'run.steps=[\"baseline\"]' --set run.dir=$T/one");
    for (int i = 0; i < 2; i++) {
        snprintf(command, sizeof command, PROCESSES(4) "%sw%d --set cluster.wire=bf16", sets, i);
        must_run(state, command);
    }
    must_be_close(state, "one", "w0", "loss", 2e-4);
    assert_true(differ(state, "one", "w0", "loss") > 3e-7);
    must_be_close(state, "w0", "w1", "loss", 0);
}

/* Samples with pictures and without, of very different length, and fewer in a step than processes.
 */
static void test_uneven(void **state)
{
    char text[6000] = "[";
    size_t n = 1;

    for (int i = 0; i < 14; i++) {
        char said[500] = "";
        for (int k = 0; k < i * 2 % 13; k++)
            strcat(said, "one and another ");
        n += (size_t)snprintf(text + n, sizeof text - n,
                              "%s{\"id\":\"%d\",%s\"conversations\":[{\"from\":\"human\",\"value\":"
                              "\"%sSay it.\"},{\"from\":\"gpt\",\"value\":\"%sit\"}]}",
                              i ? "," : "", i, i % 3 ? "" : "\"image\":\"p.png\",",
                              i % 3 ? "" : "<image>\\n", said);
        assert_true(n < sizeof text);
    }
    n += (size_t)snprintf(text + n, sizeof text - n, "]");
    spill(tmpdir_path(state, "uneven.json"), text, n);
    must_run(state, "cp $(find $T/s -name '*.png' | head -1) $T/p.png");
#define UNEVEN                                                                                     \
    "--set 'run.steps=[\"baseline\"]' --set 'data.train=[{\"path\":\"'$T'/uneven.json\"}]' "       \
    "--set 'data.eval=[]' --set baseline.batch_size=3 --set baseline.vision=false "
    must_run(state, TRAIN UNEVEN "--set run.dir=$T/one");
    must_run(state, PROCESSES(2) UNEVEN "--set run.dir=$T/p2 --set baseline.micro_batch=1");
    must_run(state, PROCESSES(8) UNEVEN "--set run.dir=$T/p8");
    must_be_close(state, "one", "p2", "loss", 1e-6);
    must_be_close(state, "one", "p8", "loss", 1e-6);
}

/* Splits are tried, and o_proj is refitted, over the samples of all processes. The sums go through
 * an inverse before they are trained on: 1e-5. */
static void converted_as_one(void *const *state, const char *how)
{
    char command[500], run[8];

    snprintf(command, sizeof command, TRAIN "%s--set run.dir=$T/one", how);
    must_run(state, command);
    for (int i = 2; i <= 5; i += 3) { /* five: some have fewer samples than the others */
        snprintf(run, sizeof run, "p%d", i);
        snprintf(command, sizeof command,
                 "mpirun --oversubscribe -np %d " TRAIN "%s--set run.dir=$T/%s", i, how, run);
        must_run(state, command);
        must_be_close(state, "one", run, "loss", 1e-5);
        snprintf(command, sizeof command,
                 "for r in one %s; do grep rope_dim $T/$r/splits.json >$T/$r.dims; done; "
                 "cmp $T/one.dims $T/%s.dims",
                 run, run);
        must_run(state, command);
    }
}

#define SPLITS                                                                                     \
    "--set sweep.low_rank=[] --set 'sweep.cache=[0.4,0.2]' --set svd.refit=true "                  \
    "--set stage1.refit=true "

static void test_converted_as_one(void **state)
{
    converted_as_one(state, SPLITS);
}

static void test_cross_as_one(void **state)
{
    converted_as_one(state, SPLITS "--set rank.basis=cross --set svd.statistics=blocks ");
}

/* A broken picture is found by one process, and its sample left out by all. */
static void test_bad_picture(void **state)
{
#define BASELINE "--set 'run.steps=[\"baseline\"]' "

    must_run(state, "for p in $(find $T/s -name '*.png' | sort | sed -n '3p;20p;41p'); do "
                    "truncate -s 40 $p; done");
    must_run(state, TRAIN BASELINE "--set run.dir=$T/one --set data.cache=$T/cache1");
    must_run(state, PROCESSES(3) BASELINE "--set run.dir=$T/p3");
    must_run(state, "cmp $T/one/left_out.txt $T/p3/left_out.txt && cmp $T/one/pictures.sha256 "
                    "$T/p3/pictures.sha256 && test -s $T/p3/left_out.txt");
    must_be_close(state, "one", "p3", "loss", 1e-6);
}

/* ---- stops ---- */

/* Starts two processes of an endless training, and returns once they have logged some more steps
 * and saved some. */
static pid_t start_two(void *const *state)
{
    const char *jsonl = tmpdir_path(state, "run/metrics.jsonl");
    struct stat was = {0}, now;
    pid_t pid;

    stat(jsonl, &was);
    pid = start(*state, "exec " PROCESSES(2) ENDLESS_SETS "--resume");
    for (int i = 0; i < 3000; i++) { /* 60 s at most */
        if (stat(jsonl, &now) == 0 && now.st_size > was.st_size + 8000) return pid;
        sleep_ms(20);
    }
    kill(pid, SIGKILL);
    finish(pid);
    fail_msg("no step:\n%s", output(state));
    return 0;
}

/* Sends a signal to the process of that rank, and returns the status of mpirun and how long it
 * took. */
static int signal_one(void *const *state, pid_t mpirun, int rank, int sig, double *seconds)
{
    struct timespec from, to;
    char command[300];
    int rc;

    snprintf(
        command, sizeof command,
        "for p in $(pgrep -P %d); do tr '\\0' '\\n' < /proc/$p/environ | grep -qx PMIX_RANK=%d "
        "&& exec kill -%d $p; done; exit 1",
        (int)mpirun, rank, sig);
    assert_int_equal(system(command), 0);
    clock_gettime(CLOCK_MONOTONIC, &from);
    rc = finish(mpirun);
    clock_gettime(CLOCK_MONOTONIC, &to);
    *seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
    print_message("# rank %d, signal %d: status %d after %.1f s\n", rank, sig, rc, *seconds);
    (void)state;
    return rc;
}

static int errors_in(void *const *state)
{
    char *out = output(state);
    int n = 0;

    for (const char *at = out; (at = strstr(at, "mha2mla-train: error: ")); at++)
        n++;
    free(out);
    return n;
}

/* A signal to any process saves the same step in all. */
static void test_stop(void **state)
{
    static const int signals[] = {SIGTERM, SIGUSR1, SIGINT};
    static const int status[] = {128 + SIGTERM, 85, 128 + SIGINT};
    double seconds;

    setenv("T", *state, 1);
    for (int i = 0; i < 3; i++) {
        const pid_t pid = start_two(state);
        assert_int_equal(signal_one(state, pid, i % 2, signals[i], &seconds), status[i]);
        assert_int_equal(errors_in(state), 1);
        must_say(state, "is saved at step");
        must_run(state,
                 "set -- $(ls -d $T/run/baseline/checkpoints/step-* | tail -1)/*; [ $# = 2 ]");
    }
}

/* What is killed ends all, and the run goes on from the last checkpoint, with other numbers of
 * processes too. */
static void test_kill(void **state)
{
    double seconds;

    setenv("T", *state, 1);
    for (int rank = 0; rank < 2; rank++) {
        const pid_t pid = start_two(state);
        assert_true(signal_one(state, pid, rank, SIGKILL, &seconds) != 0);
        assert_true(seconds < 10);
        assert_int_equal(system("pgrep -f \"run.dir.*$T\" > /dev/null"), 256); /* none is left */
    }
}

/* 24 steps with a checkpoint at 10 and 20: ten by two processes, ten by three, the rest by one.
 * What was done after a checkpoint is taken away. The data come in the same order: the losses
 * are those of one process. */
static void test_other_numbers(void **state)
{
#define SOME                                                                                       \
    "--set 'run.steps=[\"baseline\"]' --set 'data.eval=[]' --set checkpoint.every=10 "             \
    "--set checkpoint.keep=9 --set optim.state=8bit "
#define FORGET(steps) "cd $T/run/baseline && rm -r model checkpoints/step-000000" steps

    must_run(state, TRAIN SOME "--set run.dir=$T/one");
    must_run(state, PROCESSES(2) SOME);
    must_run(state, FORGET("2*"));
    must_run(state, PROCESSES(3) SOME "--resume");
    must_say(state, "processes: 3 now, 2 before");
    must_say(state, "continues from step 10 of 24");
    must_run(state, FORGET("24"));
    must_run(state, TRAIN SOME "--resume");
    must_say(state, "continues from step 20 of 24");
    /* 8-bit moments round by chance: a last bit that differs may round the other way, by 1 % of
     * a moment */
    must_be_close(state, "one", "run", "loss", 1e-5);
}

/* ---- errors ---- */

static void must_fail_in(void *const *state, const char *command, const char *text)
{
    if (run(state, command) != 1 || errors_in(state) != 1 || !says(state, text))
        fail_msg("%s: wanted one error with '%s', got:\n%s", command, text, output(state));
    must_run(state, "test -z \"$(find $T -name '*.tmp')\"");
}

/* An error of all is said once, as one process says it; one of a single process with its rank. */
static void test_errors(void **state)
{
    must_fail_in(state, PROCESSES(3) "--set baseline.lr=much",
                 "mha2mla-train: error: --set 1: baseline.lr: a number is needed");
    must_fail_in(state, PROCESSES(2) "--set cluster.processes=3", "and 2 were started");
    must_fail_in(state, "mpirun --oversubscribe -np 2 " TRAIN ": -np 1 " TRAIN "--set run.seed=2",
                 "error: rank 2 of 3: its settings are not those of rank 0");
    must_fail_in(
        state,
        "p=$PWD/$B/mha2mla-train && cd $T && mpirun --oversubscribe -np 1 $p --config c.json "
        ": -np 1 -wdir / $p --config c.json",
        "error: rank 1 of 2: c.json: No such file or directory");
    assert_false(is_there(tmpdir_path(state, "run")));
}

/* Machines of several kinds: the log says that there are others than its own. */
static void test_kinds(void **state)
{
    if (run(state, "grep -q avx2 /proc/cpuinfo") != 0) skip();
    must_run(state, "mpirun --oversubscribe -np 1 -x MHA2MLA_CPU=x86-64-v2 " TRAIN
                    ": -np 1 -x MHA2MLA_CPU=x86-64-v3 " TRAIN);
    must_say(state, "1 of 2 processes have other matrix products or vector code");
    must_run(state, "rm -r $T/run; mpirun --oversubscribe -np 2 -x MHA2MLA_CPU=x86-64-v2 " TRAIN);
    assert_false(says(state, "other matrix products"));
}

/* What one process cannot write of a checkpoint, none leaves. */
static void test_save_fails(void **state)
{
#define LARGE                                                                                      \
    "--set 'run.steps=[\"baseline\"]' --set 'data.eval=[]' --set baseline.steps=2 "                \
    "--set baseline.hidden_size=512 --set checkpoint.every=1 "

    /* MPI's own files take 4 MB, a part of this model's checkpoint 16 */
    must_fail_in(state,
                 "mpirun --oversubscribe -np 1 " TRAIN LARGE
                 ": -np 1 sh -c 'ulimit -f 20000; exec \"$@\"' sh " TRAIN LARGE,
                 "part-1-of-2.h5: cannot be written: File too large: allow larger files");
    must_run(state, "test -z \"$(ls $T/run/baseline/checkpoints)\"");
    must_run(state, PROCESSES(2) LARGE "--resume");
    must_run(state, "set -- $T/run/baseline/checkpoints/step-00000002/*; [ $# = 2 ]");
}

/* ---- this program, as several processes ---- */

/* What process `rank` has at i: of very different size, so that the order of a sum shows. */
static double value_of(int rank, int64_t i)
{
    return (1 + (double)(i % 7)) * pow(10, (double)((rank * 5 + i) % 17 - 8)) / 3;
}

/* The sum in the order of ranks, to the last bit; and the bytes of each, of all lengths. */
static bool meet_others(struct err *e)
{
    const int size = cluster_size(), rank = cluster_rank();
    bool ok = true;

    for (int64_t n = 1; ok && n < 60000; n = n * 7 + 2) {
        double *x = calloc((size_t)n, sizeof *x);
        char *mine = calloc((size_t)(n * (rank + 1)), 1);
        void *all = NULL, *got = NULL;
        size_t bytes = 0, handed = 0;

        for (int64_t i = 0; i < n; i++)
            x[i] = value_of(rank, i);
        memset(mine, 'a' + rank, (size_t)(n * (rank + 1)));
        ok = cluster_sum(x, n, e) &&
             cluster_gather(mine, (size_t)(n * (rank + 1)), &all, &bytes, e) &&
             cluster_hand(size - 1, mine, (size_t)(n * (rank + 1)), &got, &handed, e);
        for (int64_t i = 0; ok && i < n; i++) {
            double sum = value_of(0, i);
            for (int k = 1; k < size; k++)
                sum += value_of(k, i);
            ok = x[i] == sum || err_set(e, "the sum at %lld of %lld", (long long)i, (long long)n);
        }
        for (int64_t i = 0, at = 0; ok && i < size; at += n * ++i)
            ok = (((char *)all)[at] == 'a' + i && ((char *)all)[at + n * (i + 1) - 1] == 'a' + i) ||
                 err_set(e, "the bytes of %lld", (long long)i);
        if (ok && rank == 0)
            ok = (handed == (size_t)(n * size) && *(char *)got == 'a' + size - 1) ||
                 err_set(e, "what was handed");
        ok = cluster_agree(ok, e);
        free(x), free(mine), free(all), free(got);
    }
    return ok;
}

/* The last process fails where nobody meets it. */
static bool fail_alone(struct err *e)
{
    if (cluster_rank() == cluster_size() - 1) return err_set(e, "has failed alone");
    sleep(60);
    return true;
}

static int be_process(bool (*what)(struct err *e))
{
    struct err e = {0};
    bool ok = cluster_open(&e) && what(&e);
    char line[64];

    ok = cluster_close(ok, &e);
    snprintf(line, sizeof line, "%d processes agree", cluster_size());
    if (cluster_reports()) fprintf(stderr, "mha2mla-train: error: %s\n", ok ? line : e.msg);
    cluster_leave(ok ? 0 : 1);
    return ok ? 0 : 1;
}

static void test_meetings(void **state)
{
    static const int sizes[] = {2, 3, 5, 8};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char command[200], text[40];
        snprintf(command, sizeof command,
                 "mpirun --oversubscribe -np %d $B/tests/cluster/test_cluster be meeting",
                 sizes[i]);
        snprintf(text, sizeof text, "%d processes agree", sizes[i]);
        must_run(state, command);
        assert_true(says(state, text));
    }
}

static void test_alone(void **state)
{
    const time_t begin = time(NULL);

    must_fail_in(state, "mpirun --oversubscribe -np 3 $B/tests/cluster/test_cluster be alone",
                 "error: rank 2 of 3: has failed alone");
    assert_true(time(NULL) - begin < 10);
}

/* With an argument, only the tests of that name. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cluster_test(test_meetings),      cluster_test(test_alone),
        cluster_test(test_as_one),        cluster_test(test_converted_as_one),
        cluster_test(test_cross_as_one),  cluster_test(test_teacher),
        cluster_test(test_repeats),       cluster_test(test_bf16_wire),
        cluster_test(test_uneven),        cluster_test(test_bad_picture),
        cluster_test(test_stop),          cluster_test(test_kill),
        cluster_test(test_other_numbers), cluster_test(test_errors),
        cluster_test(test_save_fails),    cluster_test(test_kinds),
        cluster_test(test_one_process)};

    if (argc > 2) return be_process(strcmp(argv[2], "alone") == 0 ? fail_alone : meet_others);
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
