/* test_cpu.c - the levels of the numeric rooms' instructions: forced, refused,
 * and close together. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpu.h"
#include "tests/tmpdir.h"

#include "tests/program.h"

static const char *const levels[] = {"x86-64-v2", "x86-64-v3", "x86-64-v4"};
enum { LEVELS = sizeof levels / sizeof *levels };

static void skip_single(void)
{
    if (strcmp(cpu_level(), "as built") == 0) skip();
}

/* The levels that this CPU has: all up to the best one, which is taken where none is forced. */
static int count_levels(void)
{
    unsetenv("MHA2MLA_CPU");
    for (int i = LEVELS; i > 0; i--) {
        char command[120];
        snprintf(command, sizeof command,
                 "MHA2MLA_CPU=%s %s/mha2mla-train --version > /dev/null 2>&1", levels[i - 1],
                 build_dir());
        if (system(command) == 0) return i;
    }
    fail_msg("no level runs");
    return 0;
}

static void test_forced(void **state)
{
    char command[200], text[100];
    int n;

    skip_single();
    n = count_levels();
    for (int i = 0; i <= LEVELS; i++) {
        const char *level = i < LEVELS ? levels[i] : "";
        snprintf(command, sizeof command, "%s%s $B/mha2mla-train --config $C --dry-run",
                 i < LEVELS ? "MHA2MLA_CPU=" : "", level);
        if (i < LEVELS && i >= n) {
            snprintf(text, sizeof text, "MHA2MLA_CPU=%s: this CPU lacks its instructions", level);
            assert_int_equal(run(state, command), 1);
        } else {
            snprintf(text, sizeof text, "; vector code: %s\n", i < LEVELS ? level : levels[n - 1]);
            must_run(state, command);
        }
        char *out = output(state);
        if (!strstr(out, text)) fail_msg("no '%s' in %s", text, out);
        free(out);
    }
}

static void test_refused(void **state)
{
    char *out;

    skip_single();
    assert_int_equal(run(state, "MHA2MLA_CPU=x86-64-v9 $B/mha2mla-train --version"), 1);
    out = output(state);
    assert_non_null(strstr(out, "MHA2MLA_CPU=x86-64-v9: is no level: unset it, or give x86-64-v2"));
    assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
    free(out);
}

static double last_loss(void *const *state, const char *dir)
{
    char command[300], *out;
    double loss = NAN;

    snprintf(command, sizeof command,
             "grep '\"loss\"' $T/%s/metrics.jsonl | tail -1 | sed 's/.*\"loss\": *//'", dir);
    must_run(state, command);
    out = output(state);
    loss = strtod(out, NULL);
    free(out);
    return loss;
}

/* The same training at each level: the same bits twice; other bits than at the level below, or it
 * was not another level; and a loss as close as rounding leaves it behind 24 steps (seen: 1e-7). */
static void test_close(void **state)
{
    char command[300];
    double first = NAN;
    int n;

    skip_single();
    n = count_levels();
    for (int i = 0; i < n; i++) {
        char dir[2][32];
        double loss;
        for (int k = 0; k < 2; k++) {
            snprintf(dir[k], sizeof dir[k], "%s-%d", levels[i], k);
            snprintf(command, sizeof command,
                     "MHA2MLA_CPU=%s $B/mha2mla-train --config $C --set run.dir=$T/%s --set "
                     "data.cache=$T/%s/cache --set 'run.steps=[\"baseline\"]'",
                     levels[i], dir[k], dir[k]);
            must_run(state, command);
        }
        snprintf(command, sizeof command,
                 "cmp $T/%s/baseline/model/model.safetensors "
                 "$T/%s/baseline/model/model.safetensors",
                 dir[0], dir[1]);
        must_run(state, command);
        if (i > 0) {
            snprintf(command, sizeof command,
                     "! cmp -s $T/%s/baseline/model/model.safetensors "
                     "$T/%s-0/baseline/model/model.safetensors",
                     dir[0], levels[i - 1]);
            must_run(state, command);
        }
        loss = last_loss(state, dir[0]);
        if (i == 0) first = loss;
        if (!(fabs(loss - first) <= 1e-5 * first))
            fail_msg("%s: loss %.9g, %s: %.9g", levels[i], loss, levels[0], first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_forced), program_test(test_refused),
                                       program_test(test_close)};

    return cmocka_run_group_tests_name("cpu", tests, NULL, NULL);
}
