/* test_kills.c - kill -9 a hundred times at random moments of a run with every step: ten times each
 * in three runs, the others once per run. The results are bit-identical to an undisturbed run's.
 * SEED in the environment draws other moments. tests/long/test_faults.c kills in every write. */
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

enum { KILLS = 100, RUNS = 3, IN_ONE = 10, TRIES = 3 * KILLS };

static int killed; /* before the run's end */

struct moments {
    struct rng rng;
    double ms; /* duration of the undisturbed run */
};

static void begin(void *const *state, struct moments *m, uint64_t stream)
{
    const char *text = getenv("SEED");
    uint64_t seed = text ? strtoull(text, NULL, 10) : 1;
    double start = clock_seconds();

    must_repeat(state);
    m->ms = 1000 * (clock_seconds() - start);
    rng_seed(&m->rng, seed, stream);
    print_message("SEED=%llu\n", (unsigned long long)seed);
}

static long draw(struct moments *m, double share)
{
    return (long)(rng_uniform(&m->rng) * share * m->ms);
}

/* Each life lasts at most a third of the undisturbed run, so that ten of them cover
 * all of its steps. */
static void test_ten_in_one_run(void **state)
{
    long waits[IN_ONE];
    struct moments m;

    begin(state, &m, 0);
    for (int i = 0; i < RUNS; i++) {
        for (int k = 0; k < IN_ONE; k++)
            waits[k] = draw(&m, 0.33);
        int hit = stop_and_go(state, SIGKILL, waits, IN_ONE);
        assert_in_range(hit, 1, IN_ONE);
        killed += hit;
    }
}

/* Some kills come too late, if the machine is faster than before. */
static void test_alone(void **state)
{
    struct moments m;
    int tries = 0;

    begin(state, &m, 1);
    for (; killed < KILLS && tries < TRIES; tries++) {
        long wait = draw(&m, 0.9);
        killed += stop_and_go(state, SIGKILL, &wait, 1);
    }
    print_message("%d kills, %d tries alone\n", killed, tries);
    assert_int_equal(killed, KILLS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_ten_in_one_run), program_test(test_alone)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
