/* test_kills.c - kill -9 at a hundred random moments of a run with every step: thirty in three
 * runs, ten in each, and seventy each in a run of its own. What they end in has the same bits as
 * without. SEED in the environment draws other moments. tests/long/test_faults.c kills in every
 * write. */
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

#include "base/clock.h"
#include "base/rng.h"
#include "tests/tmpdir.h"

#include "tests/program.h"

enum { RUNS = 3, IN_ONE = 10, ALONE = 70 };

static uint64_t seed(void)
{
    const char *text = getenv("SEED");
    uint64_t n = text ? strtoull(text, NULL, 10) : 1;

    print_message("SEED=%llu\n", (unsigned long long)n);
    return n;
}

/* The undisturbed run, and n moments within that share of its time, in ms. */
static void draw(void *const *state, long *waits, int n, double share)
{
    struct rng rng;
    double begin = clock_seconds(), took;

    must_repeat(state);
    took = 1000 * (clock_seconds() - begin);
    rng_seed(&rng, seed(), 0);
    for (int i = 0; i < n; i++)
        waits[i] = (long)(rng_uniform(&rng) * share * took);
}

/* Each life is a third of the undisturbed run at most, so that ten reach all of its steps. */
static void test_ten_in_one_run(void **state)
{
    long waits[RUNS * IN_ONE];

    draw(state, waits, RUNS * IN_ONE, 0.33);
    for (int i = 0; i < RUNS; i++)
        assert_in_range(stop_and_go(state, SIGKILL, waits + i * IN_ONE, IN_ONE), 1, IN_ONE);
}

static void test_alone(void **state)
{
    long waits[ALONE];
    int stopped = 0;

    draw(state, waits, ALONE, 0.9);
    for (int i = 0; i < ALONE; i++)
        stopped += stop_and_go(state, SIGKILL, &waits[i], 1);
    print_message("%d of %d came before the end\n", stopped, ALONE);
    assert_in_range(stopped, ALONE / 2, ALONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_ten_in_one_run), program_test(test_alone)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
