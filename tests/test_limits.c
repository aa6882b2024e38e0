/* test_limits.c - what `ulimit` leaves too little of is said in a line, and never hung or crashed
 * on; and how threads wait for each other. The parts that set a limit for themselves are this
 * program again. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "autograd/gemm.h"
#include "autograd/team.h"
#include "base/limits.h"
#include "tests/sanitized.h"
#include "tests/tmpdir.h"

#include "tests/printed.h"
#include "tests/program.h"

enum { WRONG = 91, N = 512 };
static const size_t mib = (size_t)1 << 20;

#define EXPECT(what)                                                                               \
    if (!(what)) {                                                                                 \
        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                         \
        return WRONG;                                                                              \
    }

/* Leaves that many bytes more of addresses, or of private memory. */
static bool leave(int resource, size_t bytes)
{
    unsigned long page = (unsigned long)sysconf(_SC_PAGESIZE), size, skip, data;
    struct rlimit rl;
    FILE *fp = fopen("/proc/self/statm", "r");
    bool ok =
        fp && fscanf(fp, "%lu %lu %lu %lu %lu %lu", &size, &skip, &skip, &skip, &skip, &data) == 6;

    if (fp) fclose(fp);
    if (!ok || getrlimit((__rlimit_resource_t)resource, &rl) != 0) return false;
    rl.rlim_cur = (resource == RLIMIT_AS ? size : data) * page + bytes;
    return setrlimit((__rlimit_resource_t)resource, &rl) == 0;
}

/* OpenBLAS would try for ever to map a buffer for the second thread. */
static int held(void)
{
    static float a[N * N], c[N * N];
    struct mat m = mat_of(a, N, false);
    struct err e;

    alarm(60);
    gemm_single_blas();
    gemm_setup(GEMM_OPENBLAS, GEMM_F32);
    EXPECT(team_open(2, &e) && leave(RLIMIT_AS, mib));
#pragma omp parallel num_threads(2)
    for (int i = 0; i < 100; i++) /* some of the time both are in OpenBLAS */
        gemm_serial(N, N / 2, N, 1, m, m, false, c + omp_get_thread_num() * N / 2, N);
    return 0;
}

static int refused(int resource, const char *name)
{
    struct err e;

    EXPECT(limits_addresses(64 * mib, "tests take", &e) && leave(resource, 50 * mib));
    EXPECT(limits_addresses(32 * mib, "tests take", &e));
    EXPECT(!limits_addresses(64 * mib, "tests take", &e) && e.machine);
    EXPECT(strstr(e.msg, "out of memory: tests take 64 MiB of addresses"));
    EXPECT(!team_open(2, &e) && strstr(e.msg, "run.threads 2: "));
    limits_name(&e);
    EXPECT(strstr(e.msg, name));
    return 0;
}

static int refused_addresses(void)
{
    return refused(RLIMIT_AS, "`ulimit -v`");
}

static int refused_data(void)
{
    return refused(RLIMIT_DATA, "`ulimit -d`");
}

/* What is held counts; files that are mapped, and addresses that are not used, do not. */
static int memory(int resource)
{
    size_t left;

    EXPECT(limits_memory(7 * mib) == SIZE_MAX && leave(resource, 100 * mib));
    left = limits_memory(7 * mib);
    EXPECT(left > 105 * mib && left <= 107 * mib);
    return 0;
}

static int memory_of_addresses(void)
{
    return memory(RLIMIT_AS);
}

static int memory_of_data(void)
{
    return memory(RLIMIT_DATA);
}

static const struct part {
    const char *name;
    int (*body)(void);
} parts[] = {
    {"held", held},
    {"refused-addresses", refused_addresses},
    {"refused-data", refused_data},
    {"memory-of-addresses", memory_of_addresses},
    {"memory-of-data", memory_of_data},
};

static int be_part(const char *name)
{
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].name, name) == 0) return parts[i].body();
    return WRONG;
}

static void test_parts(void **state)
{
    (void)state;
    if (SANITIZED) skip();                  /* its own addresses are terabytes */
    setenv("OPENBLAS_NUM_THREADS", "1", 1); /* its own take addresses at a time of their choice */
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            execl("/proc/self/exe", "test_limits", parts[i].name, (char *)NULL);
            _exit(98);
        }
        assert_true(pid > 0);
        int status = finish(pid);
        if (status != 0) fail_msg("%s: status %d", parts[i].name, status);
    }
    unsetenv("OPENBLAS_NUM_THREADS");
}

#define TRAIN "$B/mha2mla-train --config $C "

static void test_stack(void **state)
{
    must_fail(state, "ulimit -s 64; " TRAIN, "the stack may have 64 KiB (ulimit -s), and 512");
    must_fail(state, "OMP_STACKSIZE=256K " TRAIN "--set run.threads=2",
              "a thread's stack has 256 KiB (OMP_STACKSIZE), and 512 are needed");
    assert_int_equal(run(state, "ulimit -s 64; $B/mha2mla-data shapes --out $T/x"), 1);
    must_say(state, "mha2mla-data: error: the stack may have 64 KiB");
    assert_false(is_there(tmpdir_path(state, "run")) || is_there(tmpdir_path(state, "x")));
    must_run(state, "ulimit -s 512; " TRAIN);
}

static void test_addresses(void **state)
{
    if (SANITIZED) skip();
    must_fail(state,
              "export OPENBLAS_NUM_THREADS=1; ulimit -v 300000; " TRAIN "--set run.threads=2",
              "run.threads 2: the threads and OpenBLAS's buffers take 288 MiB of addresses; this "
              "process is limited to 292 MiB of addresses (`ulimit -v`): raise that");
    assert_false(is_there(tmpdir_path(state, "run")));
    /* the limit is the machine's memory: what is left of it is not the whole */
    must_run(state, "ulimit -v 8000000; " TRAIN "--dry-run");
    char *out = output(state), *at = strstr(out, "limit: ");
    assert_non_null(at);
    double limit = strtod(at + strlen("limit: "), NULL);
    if (!(limit > 1 && limit < 7.7 && strncmp(strchr(at + 7, ' '), " GiB", 4) == 0))
        fail_msg("%.40s", at);
    free(out);
}

/* As many threads as OpenBLAS has buffers for, without a word of its own; more are refused, and all
 * the cores of a larger machine are not taken. */
static void test_threads(void **state)
{
    const int most = team_most();
    char command[200], *text;
    int64_t n = 0;
    struct err e;

    int was = printed_begin(state);
    assert_true(team_choose(&n, 3, 128, &e) && n == 3);
    assert_true(team_choose(&n, 1, 3, &e) && n == 3);
    text = printed_end(state, was);
    assert_string_equal(text, "");
    free(text);
    n = 0;
    was = printed_begin(state);
    assert_true(team_choose(&n, 192, 128, &e) && n == 128);
    text = printed_end(state, was);
    assert_non_null(strstr(text, "run.threads is 0, all the cores: 128 of the 192 are used"));
    free(text);
    n = 129;
    assert_false(team_choose(&n, 192, 128, &e));
    assert_string_equal(e.msg,
                        "run.threads is 129, and the OpenBLAS of this machine serves 128: as "
                        "many or fewer are needed");
    if (most >= 1024) skip(); /* the setting's own limit is lower */
    snprintf(command, sizeof command, TRAIN "--dry-run --set run.threads=%d", most + 1);
    must_fail(state, command, "and the OpenBLAS of this machine serves ");
    if (SANITIZED || most > 256) skip(); /* for whom so many threads are too many */
    snprintf(command, sizeof command, TRAIN "--set run.threads=%d --set 'run.steps=[\"baseline\"]'",
             most);
    must_run(state, command);
    assert_false(says(state, "OpenBLAS warning"));
}

/* Whether /proc/PID/NAME has that text in it, NUL or newline behind it. */
static bool proc_says(pid_t pid, const char *name, const char *text)
{
    char path[64], data[1 << 16];
    size_t n, len = strlen(text);

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *fp = fopen(path, "r");
    assert_non_null(fp);
    n = fread(data, 1, sizeof data, fp);
    fclose(fp);
    for (size_t i = 0; i + len < n; i++)
        if (memcmp(data + i, text, len) == 0 && (data[i + len] == '\0' || data[i + len] == '\n'))
            return true;
    return false;
}

/* The program, under its own name and number, has the environment that makes it wait shortly,
 * except where somebody has said how it is to wait, and without OpenBLAS's threads. */
static void test_waits_shortly(void **state)
{
#ifdef __clang__
    skip(); /* another OpenMP */
#endif
    unsetenv("OMP_WAIT_POLICY"); /* whoever runs the tests may have a wish */
    unsetenv("GOMP_SPINCOUNT");
    for (int given = 0; given < 2; given++) {
        if (given) setenv("OMP_WAIT_POLICY", "active", 1);
        pid_t pid = start_endless(state, "--set run.threads=2");
        unsetenv("OMP_WAIT_POLICY");
        bool spins = proc_says(pid, "environ", "GOMP_SPINCOUNT=2000");
        bool single = proc_says(pid, "environ", "OPENBLAS_NUM_THREADS=1");
        bool name = proc_says(pid, "comm", "mha2mla-train");
        kill(pid, SIGTERM);
        assert_int_equal(finish(pid), 128 + SIGTERM);
        assert_true(name && spins == !given && single);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2) _exit(be_part(argv[1])); /* exit joins threads that wait for a buffer */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),     program_test(test_stack),
        program_test(test_addresses),     program_test(test_threads),
        program_test(test_waits_shortly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
