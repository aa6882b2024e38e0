/* test_signals.c - stopping a run from outside: where signals are blocked, that they are noticed in
 * every phase nevertheless, what a second one does, what children inherit, and that no handler
 * writes to a borrowed stack pointer. tests/long/test_signal_storm.c sends many of them. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <omp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "autograd/gemm.h"
#include "autograd/tape_parts.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/signals.h"
#include "tests/tmpdir.h"
#include "train/record/checkpoint.h"
#include "train/report/plot.h"

#include "tests/program.h"

/* ---- parts that need a process of their own: this program again, which returns 0 ---- */

enum { WRONG = 91 };
#define EXPECT(what)                                                                               \
    if (!(what)) {                                                                                 \
        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                         \
        return WRONG;                                                                              \
    }

/* As the program does it, which has no threads yet: tests/backend.c may have started a team. */
static bool open_signals(void)
{
    struct err e;

    omp_pause_resource_all(omp_pause_hard);
    return signals_open(&e);
}

static bool await_signal(void)
{
    for (int i = 0; i < 20000 && !signals_came(); i++)
        sleep_ms(1);
    return signals_came();
}

/* A line of a status file in /proc, as a number. */
static uint64_t status_bits(const char *path, const char *key)
{
    char line[256];
    uint64_t bits = 0;
    FILE *fp = fopen(path, "r");

    while (fp && fgets(line, sizeof line, fp))
        if (strncmp(line, key, strlen(key)) == 0) bits = strtoull(line + strlen(key), NULL, 16);
    if (fp) fclose(fp);
    return bits;
}

#define BIT(sig) (UINT64_C(1) << ((sig)-1))
static const uint64_t asking =
    BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGHUP) | BIT(SIGUSR1) | BIT(SIGUSR2) | BIT(SIGXCPU);

/* How many of n threads have all signals blocked while they compute. */
static int count_blocked(int n)
{
    pid_t tid[64] = {0};
    int blocked = 0;

#pragma omp parallel num_threads(n)
    {
        tid[omp_get_thread_num()] = gettid();
#pragma omp barrier
#pragma omp master
        for (int i = 0; i < n; i++) {
            char path[64];
            snprintf(path, sizeof path, "/proc/self/task/%d/status", (int)tid[i]);
            blocked += (status_bits(path, "SigBlk:") & asking) == asking;
        }
#pragma omp barrier
    }
    return blocked;
}

static int blocked(const char *dir)
{
    (void)dir;
    EXPECT(open_signals());
    EXPECT(count_blocked(4) == 4);
    EXPECT(count_blocked(2) == 2);
    EXPECT(count_blocked(6) == 6); /* some of them are new */
    EXPECT((status_bits("/proc/self/status", "SigCgt:") & asking) == asking);
    return 0;
}

static int noticed(int sig)
{
    struct err e = {0};
    char text[100];

    EXPECT(open_signals());
    EXPECT(signals_came() == 0 && signals_go_on(&e));
    kill(getpid(), sig);
    EXPECT(await_signal() && signals_came() == sig);
    snprintf(text, sizeof text, "stopped by %s; continue with --resume", signals_name(sig));
    EXPECT(!signals_go_on(&e) && strcmp(e.msg, text) == 0);
    return 0;
}

static int noticed_int(const char *dir)
{
    (void)dir;
    return noticed(SIGINT);
}

static int noticed_term(const char *dir)
{
    (void)dir;
    return noticed(SIGTERM);
}

static int noticed_hup(const char *dir)
{
    (void)dir;
    return noticed(SIGHUP);
}

static int noticed_usr1(const char *dir)
{
    (void)dir;
    return noticed(SIGUSR1);
}

static int noticed_usr2(const char *dir)
{
    (void)dir;
    return noticed(SIGUSR2);
}

static int noticed_xcpu(const char *dir)
{
    (void)dir;
    return noticed(SIGXCPU);
}

/* The first of several signals is the one reported. More within the same second count as the same
 * key press; a SIGINT after that ends the process, a SIGHUP does not. */
static int second(const char *dir)
{
    double begin = clock_seconds();

    (void)dir;
    EXPECT(open_signals());
    kill(getpid(), SIGTERM);
    EXPECT(await_signal());
    kill(getpid(), SIGINT);
    kill(getpid(), SIGHUP);
    sleep_ms(50);
    EXPECT(signals_came() == SIGTERM);
    if (clock_seconds() - begin > 1)
        return 128 + SIGINT; /* too slow a machine: the test proves nothing */
    sleep_ms(1100);
    kill(getpid(), SIGHUP);
    sleep_ms(50);
    kill(getpid(), SIGINT);
    sleep_ms(20000);
    return WRONG;
}

/* A batch system warns, tells the job to end some time later, and loses its patience. */
static int second_term(const char *dir)
{
    (void)dir;
    EXPECT(open_signals());
    kill(getpid(), SIGUSR1);
    EXPECT(await_signal());
    sleep_ms(1100);
    kill(getpid(), SIGTERM);
    kill(getpid(), SIGUSR1);
    sleep_ms(1100);
    EXPECT(signals_came() == SIGUSR1);
    kill(getpid(), SIGTERM);
    sleep_ms(20000);
    return WRONG;
}

/* Signals that were ignored when the process began, as under nohup. */
static int ignored(const char *dir)
{
    (void)dir;
    signal(SIGHUP, SIG_IGN);
    EXPECT(open_signals());
    kill(getpid(), SIGHUP);
    sleep_ms(200);
    EXPECT(signals_came() == 0);
    EXPECT(status_bits("/proc/self/status", "SigIgn:") & BIT(SIGHUP));
    EXPECT(!(status_bits("/proc/self/status", "SigBlk:") & BIT(SIGHUP)));
    return 0;
}

/* What is under way may go on for a while, and its program knows at once. */
static int patience(const char *dir)
{
    double begin;

    (void)dir;
    signals_patience(0.5);
    EXPECT(open_signals());
    begin = clock_seconds();
    kill(getpid(), SIGTERM);
    for (int i = 0; i < 200 && !signals_asked(); i++)
        sleep_ms(2);
    EXPECT(signals_asked() == SIGTERM);
    EXPECT(signals_came() == 0 || clock_seconds() - begin > 0.5);
    EXPECT(await_signal() && signals_came() == SIGTERM && clock_seconds() - begin >= 0.5);
    return 0;
}

static const struct curve curve = {"a", (const double[]){0, 1}, (const double[]){1, 1}, 2, NULL};

static bool draw(const char *dir, const char *gnuplot, struct err *e)
{
    const struct recovery_plot plot = {"t", 1, &curve, 1};
    char path[1300], search[4000];
    struct err note;

    snprintf(path, sizeof path, "%s/gnuplot", dir);
    FILE *fp = fopen(path, "w");
    if (!fp || fputs(gnuplot, fp) < 0 || fclose(fp) != 0 || chmod(path, 0755) != 0) return false;
    snprintf(search, sizeof search, "%s:%s", dir, getenv("PATH"));
    setenv("PATH", search, 1);
    return plot_recovery(dir, &plot, &note, e);
}

/* A picture of one pixel, escaped for sh's printf. */
#define PIXEL                                                                                      \
    "\\211PNG\\015\\012\\032\\012\\000\\000\\000\\015IHDR\\000\\000\\000\\001"                     \
    "\\000\\000\\000\\001\\010\\000\\000\\000\\000\\072\\176\\233U\\000\\000"                      \
    "\\000\\012IDATx\\332c\\140\\000\\000\\000\\002\\000\\001\\345\\047\\336"                      \
    "\\374\\000\\000\\000\\000IEND\\256B\\140\\202"

/* gnuplot gets the signal state that we had at the start. */
static int child(const char *dir)
{
    uint64_t blk = status_bits("/proc/self/status", "SigBlk:");
    uint64_t ign = status_bits("/proc/self/status", "SigIgn:");
    char path[1300];
    struct err e;

    EXPECT(open_signals());
    /* no other program: while it starts one, sh blocks more signals */
    EXPECT(draw(dir,
                "#!/bin/sh\nwhile read -r l; do echo \"$l\"; done < /proc/$$/status > status\n"
                "printf '" PIXEL "' > recovery.png.tmp\n",
                &e));
    snprintf(path, sizeof path, "%s/status", dir);
    EXPECT(access(path, R_OK) == 0);
    EXPECT(status_bits(path, "SigBlk:") == blk);
    /* Except the C library's two: posix_spawn, with which make starts us, leaves them ignored. */
    EXPECT((status_bits(path, "SigIgn:") & (BIT(32) - 1)) == (ign & (BIT(32) - 1)));
    return 0;
}

static int child_that_hangs(const char *dir)
{
    pid_t parent = getpid(), helper;
    struct err e;
    int status;

    EXPECT(open_signals());
    helper = fork();
    if (helper == 0) {
        char path[1300];
        snprintf(path, sizeof path, "%s/runs", dir);
        for (int i = 0; i < 20000 && access(path, R_OK) != 0; i++)
            sleep_ms(1);
        kill(parent, SIGTERM);
        _exit(0);
    }
    EXPECT(!draw(dir, "#!/bin/sh\n: > runs; exec sleep 1000\n", &e));
    EXPECT(strcmp(e.msg, "stopped by SIGTERM; continue with --resume") == 0);
    EXPECT(waitpid(helper, &status, 0) == helper);
    EXPECT(waitpid(-1, &status, 0) < 0 && errno == ECHILD); /* no child is left */
    return 0;
}

/* ---- a tape ---- */

static int runs;

static void run_and_signal(struct node *n)
{
    (void)n;
    if (++runs != 2) return;
    kill(getpid(), SIGINT);
    await_signal();
}

static void run_back(struct node *n)
{
    tape_grad_adds(n->in[0]);
    run_and_signal(n);
}

static const struct op op_signal = {
    .name = "signal", .forward = run_and_signal, .backward = run_back};

static struct tensor *three_nodes(struct tape *t, struct tensor *x)
{
    for (int i = 0; i < 3; i++)
        x = tape_node(t, &op_signal, &x, 1, 1, 1)->out;
    return x;
}

static bool refuses(void *arg)
{
    return ++*(int *)arg < 3;
}

/* Who is asked between the nodes can stop it too. */
static int tape_asks(const char *dir)
{
    struct err e;
    struct tape *t = tape_new(&e);
    real value = 1;
    struct tensor leaf = tensor_leaf(DT_REAL, 1, 1, &value);
    int asked = 0;

    (void)dir;
    EXPECT(t);
    runs = -9; /* far from sending anything */
    tape_begin(t, false);
    three_nodes(t, &leaf);
    EXPECT(tape_plan(t, 0, &e));
    tape_ask(t, refuses, &asked);
    EXPECT(!tape_forward(t) && runs == -7 && asked == 3);
    tape_ask(t, NULL, NULL);
    EXPECT(tape_forward(t) && runs == -4 && asked == 3);
    tape_free(t);
    return 0;
}

/* The second of three nodes sends a signal: the third one does not run. */
static int tape_part(bool backward)
{
    struct err e;
    struct tape *t = tape_new(&e);
    real value = 1, grad = 0;
    struct tensor leaf = tensor_leaf(DT_REAL, 1, 1, &value), *out;

    leaf.needs_grad = true;
    leaf.grad = &grad;
    EXPECT(t && open_signals());
    tape_begin(t, true);
    out = three_nodes(t, &leaf);
    EXPECT(tape_plan(t, 0, &e));
    if (backward) {
        runs = -3;
        EXPECT(tape_forward(t) && runs == 0);
        EXPECT(!tape_backward(t, out) && runs == 2);
    } else {
        EXPECT(!tape_forward(t) && runs == 2);
    }
    tape_free(t);
    return 0;
}

static int tape_forward_stops(const char *dir)
{
    (void)dir;
    return tape_part(false);
}

static int tape_backward_stops(const char *dir)
{
    (void)dir;
    return tape_part(true);
}

/* ---- a checkpoint ---- */

/* With a stop pending, saving succeeds and loading is refused. */
static int checkpoint(const char *dir)
{
    float value = 1, back = 0;
    struct ckpt_item item = {.name = "a", .type = CKPT_F32, .rows = 1, .cols = 1, .data = &value};
    char path[1300];
    struct err e;

    snprintf(path, sizeof path, "%s/checkpoint.h5", dir);
    EXPECT(open_signals());
    kill(getpid(), SIGTERM);
    EXPECT(await_signal());
    EXPECT(checkpoint_save(path, &item, 1, "{}", &e));
    item.data = &back;
    EXPECT(!checkpoint_load(path, &item, 1, NULL, &e) && back == 0);
    EXPECT(strstr(e.msg, "stopped by SIGTERM"));
    return 0;
}

/* ---- a borrowed stack pointer ---- */

enum { STACK = 64 << 10, FILL = 0x5a };

/* A file full of FILL, mapped so that its content outlives the process. */
static char *map_file(const char *dir, const char *name)
{
    char path[1300];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR);
    char *p = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

#ifdef __x86_64__
/* As in oneDNN's kernels, the stack pointer points elsewhere while we wait or read. */
static void borrow_and_wait(char *stack, const atomic_int *flag)
{
    __asm__ volatile("mov %%rsp, %%r12\n mov %0, %%rsp\n"
                     "1: cmpl $0, (%1)\n je 1b\n mov %%r12, %%rsp\n"
                     :
                     : "r"(stack + STACK / 2), "r"(flag)
                     : "r12", "memory", "cc");
}

static void borrow_and_read(char *stack, const char *byte)
{
    __asm__ volatile("mov %%rsp, %%r12\n mov %0, %%rsp\n movb (%1), %%al\n mov %%r12, %%rsp\n"
                     :
                     : "r"(stack + STACK / 2), "r"(byte)
                     : "r12", "rax", "memory", "cc");
}

static atomic_int enough;

/* Within half a second: those of the next one would end the process at once. */
static void *send_signals(void *unused)
{
    const double begin = clock_seconds();

    for (int i = 0; i < 200 && clock_seconds() < begin + 0.5; i++) {
        kill(getpid(), i % 2 ? SIGTERM : SIGHUP);
        sleep_ms(1);
    }
    atomic_store(&enough, 1);
    return unused;
}

static int borrowed(const char *dir)
{
    char *stack[2] = {map_file(dir, "stack0"), map_file(dir, "stack1")};
    pthread_t sender;

    EXPECT(stack[0] && stack[1] && open_signals());
    EXPECT(pthread_create(&sender, NULL, send_signals, NULL) == 0);
#pragma omp parallel num_threads(2)
    borrow_and_wait(stack[omp_get_thread_num()], &enough);
    EXPECT(await_signal());
    return 0;
}

/* Both threads of a team, with the signal stacks that gemm_setup gave them. */
static int bus_error(const char *dir, int which)
{
    char *stack[2] = {map_file(dir, "stack0"), map_file(dir, "stack1")}, path[1300];
    struct file_map m;
    struct err e;

    snprintf(path, sizeof path, "%s/mapped", dir);
    EXPECT(stack[0] && stack[1] && file_map_open(&m, path, &e));
    omp_set_num_threads(2);
    gemm_setup(GEMM_ONEDNN, GEMM_F32);
    EXPECT(truncate(path, 0) == 0);
#pragma omp parallel num_threads(2)
    if (omp_get_thread_num() == which)
        borrow_and_read(stack[omp_get_thread_num()], (const char *)m.data);
    return WRONG;
}

static int bus_error_main(const char *dir)
{
    return bus_error(dir, 0);
}

static int bus_error_worker(const char *dir)
{
    return bus_error(dir, 1);
}
#endif

static const struct part {
    const char *name;
    int (*body)(const char *dir);
    int status;
    const char *says; /* on standard error */
} parts[] = {
    {"blocked", blocked, 0, ""},
    {"int", noticed_int, 0, ""},
    {"term", noticed_term, 0, ""},
    {"hup", noticed_hup, 0, ""},
    {"usr1", noticed_usr1, 0, ""},
    {"usr2", noticed_usr2, 0, ""},
    {"xcpu", noticed_xcpu, 0, ""},
    {"second", second, 128 + SIGINT, ""},
    {"second-term", second_term, 128 + SIGTERM, "by a second SIGTERM"},
    {"ignored", ignored, 0, ""},
    {"patience", patience, 0, ""},
    {"child", child, 0, ""},
    {"child-that-hangs", child_that_hangs, 0, ""},
    {"tape-asks", tape_asks, 0, ""},
    {"tape-forward", tape_forward_stops, 0, ""},
    {"tape-backward", tape_backward_stops, 0, ""},
    {"checkpoint", checkpoint, 0, ""},
#ifdef __x86_64__
    {"borrowed", borrowed, 0, ""},
    {"bus-error-main", bus_error_main, 1, "mapped: was changed while it was in use"},
    {"bus-error-worker", bus_error_worker, 1, "mapped: was changed while it was in use"},
#endif
};
enum { PARTS = sizeof parts / sizeof *parts };

static int be_part(const char *name, const char *dir)
{
    for (size_t i = 0; i < PARTS; i++)
        if (strcmp(parts[i].name, name) == 0) return parts[i].body(dir);
    return WRONG;
}

static void must_be_untouched(void *const *state, const char *name, const char *part)
{
    char *bytes = slurp(tmpdir_path(state, name), NULL);

    for (int i = 0; i < STACK; i++)
        if (bytes[i] != FILL) fail_msg("%s: byte %d of %s was written over", part, i, name);
    free(bytes);
}

static void run_part(void *const *state, const struct part *p)
{
    static char fill[STACK];
    pid_t pid;

    memset(fill, FILL, sizeof fill);
    spill(tmpdir_path(state, "stack0"), fill, sizeof fill);
    spill(tmpdir_path(state, "stack1"), fill, sizeof fill);
    spill(tmpdir_path(state, "mapped"), fill, sizeof fill);
    pid = fork();
    if (pid == 0) {
        int fd = open(tmpdir_path(state, "out"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(fd, STDERR_FILENO);
        execl("/proc/self/exe", "test_signals", p->name, (const char *)*state, (char *)NULL);
        _exit(98);
    }
    assert_true(pid > 0);
    int status = finish(pid);
    char *out = output(state);
    if (status != p->status || !strstr(out, p->says))
        fail_msg("%s: status %d: %s", p->name, status, out);
    free(out);
    must_be_untouched(state, "stack0", p->name);
    must_be_untouched(state, "stack1", p->name);
}

/* OpenBLAS's threads are older than main and block nothing: the kernel may choose one of them. */
static void test_parts(void **state)
{
    static const char *const blas_threads[] = {"1", "4"};

    for (int i = 0; i < 2; i++) {
        setenv("OPENBLAS_NUM_THREADS", blas_threads[i], 1);
        for (size_t k = 0; k < PARTS; k++)
            run_part(state, &parts[k]);
    }
    unsetenv("OPENBLAS_NUM_THREADS");
}

/* ---- the program ---- */

/* A checkpoint of exactly the step that the message names, then the exit; and the run can
 * be resumed from it. */
static void stop_endless(void *const *state, const char *settings, int sig)
{
    char path[200], text[200];
    pid_t pid = start_endless(state, settings);
    kill(pid, sig);
    int rc = finish(pid);
    char *out = output(state), *at = strstr(out, "is saved at step ");

    if (rc != stopped_by(sig) || !at) fail_msg("%s: status %d\n%s", settings, rc, out);
    long step = strtol(at + strlen("is saved at step "), NULL, 10);
    free(out);
    snprintf(path, sizeof path, "run/baseline/checkpoints/step-%08ld.h5", step);
    assert_true(is_there(tmpdir_path(state, path)));
    pid = start_endless(state, settings);
    kill(pid, SIGKILL);
    assert_int_equal(finish(pid), 128 + SIGKILL);
    snprintf(text, sizeof text, "continues from step %ld of 1000000", step);
    if (!says(state, text)) fail_msg("not '%s':\n%s", text, output(state));
}

static void test_saved(void **state)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    static const char *const settings[] = {
        "--set run.threads=2 --set run.gemm=onednn",
        "--set run.threads=2 --set run.gemm=openblas",
    };

    for (size_t k = 0; k < sizeof settings / sizeof *settings; k++) {
        must_run(state, "rm -rf $T/run");
        for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
            stop_endless(state, settings[k], signals[i]);
    }
}

/* A lost connection has no effect under nohup. */
static void test_nohup(void **state)
{
    signal(SIGHUP, SIG_IGN);
    pid_t pid = start_endless(state, "");
    signal(SIGHUP, SIG_DFL);
    kill(pid, SIGHUP);
    sleep_ms(300);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    kill(pid, SIGTERM);
    assert_int_equal(finish(pid), 128 + SIGTERM);
}

/* The reader of the output is gone, as `tee` is after the same Ctrl-C. */
static void test_pipe(void **state)
{
    must_run(state, "{ " ENDLESS "--set checkpoint.every=20 2> $T/errors; echo $? > $T/status; } | "
                    "grep -m 1 saved > /dev/null; test $(cat $T/status) = 141");
    must_run(state, "grep -q 'stopped by SIGPIPE; base baseline is saved at step' $T/errors");
}

/* As finish, but a program that does not react is an error. */
static int finish_soon(void *const *state, pid_t pid)
{
    double begin = clock_seconds();
    siginfo_t info = {0};

    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0) {
        if (clock_seconds() - begin > 60) kill(pid, SIGKILL);
        sleep_ms(10);
    }
    int rc = finish(pid);
    if (rc == 128 + SIGKILL) fail_msg("deaf:\n%s", output(state));
    return rc;
}

/* Signals the program once it has printed `text`: it ends soon, with no half-written file. */
static void stop_after(void *const *state, const char *command, const char *text, int sig)
{
    pid_t pid = start(*state, command);
    char find[1300];

    for (int tries = 6000; !says(state, text) && --tries;) /* 60 s at most */
        sleep_ms(10);
    kill(pid, sig);
    int rc = finish_soon(state, pid);
    if (rc != 128 + sig) fail_msg("%s: status %d\n%s", command, rc, output(state));
    snprintf(find, sizeof find, "test -z \"$(find '%s' -name '*.tmp')\"", (const char *)*state);
    assert_int_equal(system(find), 0);
}

/* Many samples, which are all tokenised before anything else happens. */
static void test_while_data_are_opened(void **state)
{
#define BIG "$B/mha2mla-train --config $C --set data.train[0].path=$T/big.json "
    must_run(state, "awk 'BEGIN { for (i = 0; i < 1000000; i++) print \"{\\\"text\\\":\\\"How many "
                    "red squares and blue circles are there in sample \" i \"?\\\"}\" }' "
                    "> $T/big.json");
    stop_after(state, "exec " BIG, "matrix products", SIGINT);
    if (!says(state, "stopped by SIGINT")) fail_msg("%s", output(state));
    assert_false(is_there(tmpdir_path(state, "run/config.json")));
    stop_after(state, "exec " BIG "--dry-run", "matrix products", SIGTERM);
}

static void test_while_another_fills_the_cache(void **state)
{
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    pid_t other = start(*state, "cd $T/cache/*/ && exec flock lock sleep 1000");
    sleep_ms(300);
    stop_after(state, "exec $B/mha2mla-train --config $C --set run.dir=$T/run2",
               "waiting for another", SIGTERM);
    kill(other, SIGKILL);
    finish(other);
}

int main(int argc, char **argv)
{
    if (argc == 3) return be_part(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_parts),
        program_test(test_saved),
        program_test(test_nohup),
        program_test(test_pipe),
        program_test(test_while_data_are_opened),
        program_test(test_while_another_fills_the_cache),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
