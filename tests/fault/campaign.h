/* campaign.h - small runs with every fault in every place, or with a sample of them: before
 * including this, a test defines FAULT_SAMPLE, the number of places of each kind in each run
 * (0: all). Two processes share the work; the second one's result is the last test of the first. */
#ifndef TESTS_FAULT_CAMPAIGN_H
#define TESTS_FAULT_CAMPAIGN_H

#include "tests/sanitized.h"
#include "tests/tiny_model.h"
#include "tests/tmpdir.h"

#include "tests/fault/inject.h"
#include "tests/fault/small_run.h"

#include "tests/fault/small_judge.h"

enum { HALVES = 2 };
static int half;         /* which of the two this process is */
static pid_t other_half; /* in the first process: the second */
static FILE *other_output;

/* This process's share of `sample` places, spread evenly over `count` (0: of all). */
struct places {
    long count, sample, next;
};

/* A place, from 1. */
static bool take_place(struct places *p, long *n)
{
    long all = p->sample && p->sample < p->count ? p->sample : p->count;
    long i = p->next++ * HALVES + half;

    *n = 1 + (all == p->count ? i : (2 * i + 1) * p->count / (2 * all));
    return i < all;
}

static void spread_faults(struct small_run *s, const struct fault_kind *kind, bool kill,
                          long sample)
{
    struct fault f = {.kind = kind};
    struct places p = {.sample = sample};

    small_reset(s);
    assert_int_equal(small_start(s, &f, true), 0);
    p.count = f.calls;
    while (take_place(&p, &f.n)) {
        f.error = kill ? 0 : kind->errors[f.n % 2];
        small_check(s, &f);
    }
    print_message("%s: %s%s: %ld places\n", small_names[s->kind], kill ? "killed in " : "",
                  kind->name, p.count);
}

static struct small_run runs[SMALL_RUNS];

static int make_runs(void **state)
{
    if (tmpdir_make(state) != 0) return -1;
    for (int i = 0; i < SMALL_RUNS; i++)
        small_make(&runs[i], (enum small_kind)i, *state, small_names[i]);
    return 0;
}

static int remove_runs(void **state)
{
    for (int i = 0; i < SMALL_RUNS; i++)
        small_free(&runs[i]);
    return tmpdir_remove(state);
}

static void test_faults(void **state)
{
    (void)state;
    for (int run = 0; run < SMALL_RUNS; run++)
        for (int i = 0; i < FAULT_KINDS; i++)
            spread_faults(&runs[run], &fault_kinds[i], false, FAULT_SAMPLE);
}

static void test_killed(void **state)
{
    (void)state;
    for (int run = 0; run < SMALL_RUNS; run++) {
        spread_faults(&runs[run], fault_kind("write"), true, 2 * FAULT_SAMPLE);
        spread_faults(&runs[run], fault_kind("rename"), true, 2 * FAULT_SAMPLE);
    }
}

/* ---- allocations ---- */

enum { STACKS = 1 << 18 };

/* Whether a call stack is seen for the first time, over all runs. */
static bool is_new(uint64_t stack)
{
    static uint64_t seen[STACKS]; /* open addressing; 0: free */
    uint64_t at = stack % STACKS;

    while (seen[at] && seen[at] != stack)
        at = (at + 1) % STACKS;
    if (seen[at]) return false;
    seen[at] = stack;
    return true;
}

/* The allocations of a run whose call stack has not been seen before. */
static long *list_allocations(struct small_run *s, long *n, long *all)
{
    char file[900];
    size_t size;
    uint64_t *numbers;
    long *list;

    snprintf(file, sizeof file, "%s.stacks", s->dir);
    setenv("FAULT_MALLOC_OUT", file, 1);
    small_reset(s);
    assert_int_equal(small_start_malloc(s, 0), 0);
    unsetenv("FAULT_MALLOC_OUT");
    numbers = (uint64_t *)(void *)slurp(file, &size);
    *all = (long)numbers[0];
    assert_in_range(*all, 1000, size / sizeof *numbers - 1);
    list = calloc((size_t)*all, sizeof *list);
    assert_non_null(list);
    *n = 0;
    for (long i = 1; i <= *all; i++)
        if (is_new(numbers[i])) list[(*n)++] = i;
    free(numbers);
    return list;
}

static void test_allocations(void **state)
{
    (void)state;
    if (SANITIZED) skip(); /* its malloc aborts the program when out of memory */
    for (int run = 0; run < SMALL_RUNS; run++) {
        struct places p = {.sample = 6 * FAULT_SAMPLE};
        long all, i, *list = list_allocations(&runs[run], &p.count, &all);

        while (take_place(&p, &i))
            small_check_malloc(&runs[run], list[i - 1]);
        print_message("%s: %ld allocations, new are %ld call stacks\n", small_names[run], all,
                      p.count);
        free(list);
    }
}

/* ---- two processes ---- */

static void test_other_half(void **state)
{
    char text[4096];
    int status;
    size_t n;

    (void)state;
    assert_int_equal(waitpid(other_half, &status, 0), other_half);
    if (status == 0) return;
    rewind(other_output);
    while ((n = fread(text, 1, sizeof text - 1, other_output)) > 0) {
        text[n] = '\0';
        print_error("%s", text);
    }
    fail_msg("the other half of the runs: status %d", status);
}

static int run_campaign(const struct CMUnitTest *tests, size_t n)
{
    const struct CMUnitTest last[] = {cmocka_unit_test(test_other_half)};
    int failed;

    /* Two processes with several threads each would compete for two cores. */
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    setenv("OMP_NUM_THREADS", "1", 1);
    other_output = tmpfile();
    other_half = fork();
    if (!other_output || other_half < 0) return 1;
    if (other_half == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(fileno(other_output), 1);
        dup2(fileno(other_output), 2);
        half = 1;
    }
    failed = _cmocka_run_group_tests("faults", tests, n, make_runs, remove_runs);
    if (half == 0) failed += cmocka_run_group_tests(last, NULL, NULL);
    return failed;
}

#endif
