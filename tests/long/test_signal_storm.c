/* test_signal_storm.c - SIGINT and SIGTERM every half millisecond until the program exits, thirty
 * times in one training of the quickstart's model, with each library for matrix products: never a
 * crash, and finally the bits of an undisturbed run. The model is large enough for the oneDNN
 * kernels that repurpose the stack pointer; see base/signals.h. */
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

#include "base/rng.h"
#include "tests/tmpdir.h"

#include "tests/program.h"

enum { STORMS = 30 };

#define TRAIN                                                                                      \
    "$B/mha2mla-train --config configs/quickstart-published.json --resume --set run.dir=$T/$D "    \
    "--set data.train[0].path=$T/q/train.json --set data.eval[0].path=$T/q/test.json "             \
    "--set data.cache=$T/cache --set 'run.steps=[\"rank\",\"stage1\"]' --set rank.samples=8 "      \
    "--set stage1.steps=300 --set stage1.eval_every=100 --set run.threads=2 --set run.gemm=$G"
#define MODEL "stage1/model/model.safetensors"

/* Returns once the training has logged some more steps, or has ended. */
static bool await_steps(const char *jsonl, pid_t pid)
{
    siginfo_t info = {0};
    struct stat was = {0}, now;

    stat(jsonl, &was);
    for (int i = 0; i < 60000; i++) { /* two minutes at most */
        if (stat(jsonl, &now) == 0 && now.st_size > was.st_size + 300) return true;
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid)
            return true;
        sleep_ms(2);
    }
    return false;
}

/* Sends signals until the program exits, and returns their number. */
static long storm(pid_t pid)
{
    const struct timespec tick = {0, 500000};
    siginfo_t info = {0};
    long n = 0;

    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && !info.si_pid) {
        kill(pid, n++ % 2 ? SIGINT : SIGTERM);
        nanosleep(&tick, NULL);
    }
    return n;
}

static void weather(void *const *state, const char *library)
{
    int stopped = 0, failed = 0;
    struct rng rng;
    long sent = 0;

    rng_seed(&rng, 1, 0);
    setenv("G", library, 1);
    setenv("D", "quiet", 1);
    must_run(state, "rm -rf $T/quiet $T/run $T/cache; " TRAIN);
    setenv("D", "run", 1);
    for (int i = 0; i < STORMS; i++) {
        pid_t pid = start(*state, "exec " TRAIN);
        if (!await_steps(tmpdir_path(state, "run/metrics.jsonl"), pid)) kill(pid, SIGKILL);
        sleep_ms((long)(100 * rng_uniform(&rng)));
        sent += storm(pid);
        int rc = finish(pid);
        stopped += rc == 128 + SIGINT || rc == 128 + SIGTERM;
        failed += rc != 0 && rc != 128 + SIGINT && rc != 128 + SIGTERM;
        if (failed) print_message("%s: status %d\n%s\n", library, rc, output(state));
    }
    print_message("%s: %d storms of %ld signals, %d stopped the run, %d failed\n", library, STORMS,
                  sent, stopped, failed);
    assert_int_equal(failed, 0);
    assert_in_range(stopped, STORMS / 2, STORMS);
    must_run(state, TRAIN);
    must_run(state, "cmp $T/run/rope8/" MODEL " $T/quiet/rope8/" MODEL);
    must_run(state, "grep -v '\"event\":\"end\"' $T/run/metrics.jsonl > $T/a && "
                    "grep -v '\"event\":\"end\"' $T/quiet/metrics.jsonl | cmp - $T/a");
}

static void test_storm(void **state)
{
    must_run(state, "$B/mha2mla-data shapes --out $T/q --train 600 --test 16");
    weather(state, "onednn");
    weather(state, "openblas");
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_storm)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
