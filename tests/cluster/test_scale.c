/* test_scale.c - what docs/scale.md stands on: the same steps in 1, 2, 4 and 8 processes, the bytes
 * that they say they have sent, and the bench on its tiny sizes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "tests/program.h"

static int scale_setup(void **state)
{
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1); /* else mpirun refuses root */
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("OMPI_MCA_btl", "self,vader", 1); /* off the network */
    setenv("OMP_WAIT_POLICY", "passive", 1); /* more threads than cores */
    return program_setup(state);
}
#define scale_test(f) cmocka_unit_test_setup_teardown(f, scale_setup, tmpdir_remove)

/* A command that fails, with what it has printed, is a failed test. */
static void must_print(void *const *state, const char *command)
{
    must_run(state, command);
    print_message("# %s", output(state));
}

/* The quickstart's model from scratch: 20 steps, whose losses go into T/NAME.loss, and what was
 * said of the bytes into T/NAME.sent: MiB, and the theory's. */
#define STEPS(name, launch)                                                                        \
    launch                                                                                         \
        " $B/mha2mla-train --config configs/quickstart-baseline.json --set run.dir=$T/" name       \
        " --set run.threads=1 --set model.tokenizer=$T/tok --set data.cache=$T/cache --set "       \
        "data.eval=[] --set baseline.steps=20 --set "                                              \
        "'data.train=[{\"path\":\"'$T'/s/train.json\"}]' && "                                      \
        "sed -n '/\"train\"/s/.*\"loss\":\\([^,]*\\),.*/\\1/p' $T/" name                           \
        "/metrics.jsonl > $T/" name ".loss && "                                                    \
        "sed -n 's/.*sent a step: \\([0-9.]*\\) MiB (theory \\([0-9.]*\\)).*/\\1 \\2/p' $T/" name  \
        "/train.log > $T/" name ".sent"
#define PROCESSES(n) "mpirun --oversubscribe -np " #n

/* 1e-6 is some 16 roundings of 6e-8, one of which each process's part of a loss has; seen are
 * 8e-8. */
#define CLOSE(name)                                                                                \
    "paste $T/one.loss $T/" name ".loss | awk '{ d = ($1 - $2) / $1; if (d < 0) d = -d; "          \
    "if (d > most) most = d } END { print \"" name " beside one: losses within \" most; "          \
    "exit !(NR == 20 && most <= 1e-6) }'"

/* 2 (N - 1) / N of the trained values, 4 bytes each. The log has three digits; parts are of whole
 * blocks of 256 values, of which one process may have one more than another, and the last of a
 * parameter may be part empty: 0.01 MiB are ten of them. */
#define SENT(name, n)                                                                              \
    "v=$(sed -n 's/.*\"trained_parameters\":\\([0-9]*\\).*/\\1/p' $T/" name "/metrics.jsonl) && "  \
    "awk -v v=$v '{ t = 8 * v * (" #n " - 1) / " #n " / 1048576; a = $1 - t; b = $2 - t; "         \
    "print \"" name ": sent \" $1 \" MiB, \" t \" by the theory\"; "                               \
    "ok = a < 0.01 && a > -0.01 && b < 0.001 && b > -0.001 } END { exit !(NR == 1 && ok) }' "      \
    "$T/" name ".sent"

static void test_twenty_steps(void **state)
{
    must_run(state, STEPS("one", ""));
    must_run(state, STEPS("p2", PROCESSES(2)));
    must_run(state, STEPS("p4", PROCESSES(4)));
    must_run(state, STEPS("p8", PROCESSES(8)));
    must_print(state, CLOSE("p2"));
    must_print(state, CLOSE("p4"));
    must_print(state, CLOSE("p8"));
    must_print(state, SENT("p2", 2));
    must_print(state, SENT("p4", 4));
    must_print(state, SENT("p8", 8));
}

/* Every row runs, and both sides agree: else it fails. */
static void test_bench(void **state)
{
    must_run(state, "$B/bench/cluster --short --work $T/bench > $T/table && "
                    "test $(grep -c '^| ' $T/table) = 8");
}

/* The bytes of two processes are 8 bytes of half of the trained values that the plan counts. */
static void test_plan(void **state)
{
    must_run(state,
             "$B/bench/cluster_plan > $T/plan && awk '/million/ { v[n++] = $2 } "
             "/^[|] 2 / && !seen++ { for (i = 0; i < n; i++) { d = $(4 + 9 * i) - v[i] / 250;"
             " if (d > 0.06 || d < -0.06) exit 1 } } END { exit !(n == 3 && seen) }' $T/plan");
}

/* With an argument, only the tests of that name. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {scale_test(test_twenty_steps), scale_test(test_bench),
                                       scale_test(test_plan)};

    if (argc > 1) cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("scale", tests, NULL, NULL);
}
