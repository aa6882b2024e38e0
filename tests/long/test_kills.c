/* test_kills.c - kill -9 at ten random moments, in one run and each in a run of its own: what they
 * end in has the same bits as without. SEED in the environment draws other moments. */
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

enum { KILLS = 10 };

static uint64_t seed(void)
{
    const char *text = getenv("SEED");
    uint64_t n = text ? strtoull(text, NULL, 10) : 1;

    print_message("SEED=%llu\n", (unsigned long long)n);
    return n;
}

/* The undisturbed run, and ten moments within that share of its time. */
static void draw(void *const *state, long *waits, double share)
{
    struct rng rng;
    double begin = clock_seconds(), took;

    must_repeat(state);
    took = 1000 * (clock_seconds() - begin);
    rng_seed(&rng, seed(), 0);
    for (int i = 0; i < KILLS; i++)
        waits[i] = (long)(rng_uniform(&rng) * share * took);
}

/* Each run lives a third of the undisturbed one at most, so that the ten reach all of its steps. */
static void test_ten_in_one_run(void **state)
{
    long waits[KILLS];

    draw(state, waits, 0.33);
    assert_in_range(stop_and_go(state, SIGKILL, waits, KILLS), 1, KILLS);
}

static void test_ten_runs(void **state)
{
    long waits[KILLS];
    int stopped = 0;

    draw(state, waits, 0.9);
    for (int i = 0; i < KILLS; i++)
        stopped += stop_and_go(state, SIGKILL, &waits[i], 1);
    print_message("%d of %d came before the end\n", stopped, KILLS);
    assert_in_range(stopped, KILLS / 2, KILLS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_ten_in_one_run),
                                       program_test(test_ten_runs)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
