/* test_memory.c - the memory that the dry run forecasts for stage 2 is what the program then uses.
 *
 * What can be measured is peak resident memory, which includes libraries and mapped weights. So
 * pairs of runs with these in common are compared: the increase in measured memory must equal the
 * increase in the forecast, within 10 %: the graph's memory comes in huge pages of 2 MiB,
 * OpenBLAS's copies of its operands grow with the batch, and the heap keeps some memory freed by
 * earlier steps. Together that is 1 to 2 MiB, for differences of 27 to 280. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/sanitized.h"
#include "tests/tmpdir.h"

#include "tests/program.h"

enum { FEW = 16, MANY = 96 };

/* Every batch is the whole data set, which is therefore also the longest samples. */
static const struct setting {
    int samples;
    const char *recompute, *peft;
} settings[] = {
    {FEW, "none", "kv+rope"}, {MANY, "none", "kv+rope"}, {FEW, "all", "kv+rope"},
    {MANY, "all", "kv+rope"}, {MANY, "all", "all"},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

/* Which two are compared. */
static const struct pair {
    const char *what;
    int less, more;
} pairs[] = {
    {"activations, all kept", 0, 1},
    {"activations, all layers recomputed", 2, 3},
    {"activations that recomputing saves", 3, 1},
    {"trained weights, their gradients and moments", 3, 4},
};

/* Bytes of "12.50 MiB", advancing *at past it; 0 for "-". */
static double read_bytes(char **at)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    char number[32], unit[32];
    int n = 0;

    assert_int_equal(sscanf(*at, " %31s%n", number, &n), 1);
    *at += n;
    if (strcmp(number, "-") == 0) return 0;
    assert_int_equal(sscanf(*at, " %31s%n", unit, &n), 1);
    *at += n;
    for (int i = 0; i < 4; i++)
        if (strcmp(unit, units[i]) == 0) return strtod(number, NULL) * pow(1024, i);
    fail_msg("%s %s is not a size", number, unit);
    return 0;
}

/* "together" of stage 2 in the dry run's table: the fifth column. */
static double planned(void *const *state)
{
    static const char row[] = "\nrope8-rank8 stage 2 ";
    char *text = output(state), *at = strstr(text, "\n-- memory, ");
    double bytes = 0;

    at = at ? strstr(at, row) : NULL;
    if (!at) fail_msg("%s", text);
    at += sizeof row - 1;
    for (int i = 0; i < 5; i++)
        bytes = read_bytes(&at);
    free(text);
    return bytes;
}

/* The program's peak memory. */
static double seen(void *const *state, const char *command)
{
    pid_t pid = start(*state, command);
    struct rusage usage;
    int status;

    assert_true(wait4(pid, &status, 0, &usage) == pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail_msg("%s", output(state));
    return 1024.0 * (double)usage.ru_maxrss;
}

static void measure(void *const *state, int i, double *plan, double *peak)
{
    const struct setting *s = &settings[i];
    char command[1000];
    int n = snprintf(command, sizeof command,
                     "exec $B/mha2mla-train --config $C --set model.path=$T/run/baseline/model "
                     "--set 'run.steps=[\"svd\",\"stage2\"]' --set run.dir=$T/run%d "
                     "--set 'data.train=[{\"path\":\"'$T'/s/train.json\",\"limit\":%d}]' "
                     "--set stage2.batch_size=%d --set optim.recompute=%s --set stage2.peft=%s",
                     i, s->samples, s->samples, s->recompute, s->peft);

    assert_true(n > 0 && n + 20 < (int)sizeof command);
    *peak = seen(state, command);
    must_run(state, strcat(command, " --dry-run"));
    *plan = planned(state);
}

static void test_memory_is_as_planned(void **state)
{
    double plan[SETTINGS], peak[SETTINGS];

    if (SANITIZED) skip();
    for (int i = 0; i < SETTINGS; i++)
        measure(state, i, &plan[i], &peak[i]);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        const struct pair *p = &pairs[i];
        double more = plan[p->more] - plan[p->less], got = peak[p->more] - peak[p->less];
        if (!(more > 20 * 0x1p20 && fabs(got - more) <= 0.1 * more))
            fail_msg("%s: planned are %.1f MiB more, seen %.1f MiB", p->what, more / 0x1p20,
                     got / 0x1p20);
    }
}

static const char larger[] = "$B/mha2mla-data shapes --out $T/s --train 96 --test 1 && "
                             "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'";

static const char config[] =
    "{\"run\": {\"dir\": \"%s/run\", \"threads\": 1},\n"
    " \"model\": {\"tokenizer\": \"%s/tok\"},\n"
    " \"data\": {\"train\": [{\"path\": \"%s/s/train.json\"}], \"cache\": \"%s/cache\"},\n"
    " \"baseline\": {\"hidden_size\": 128, \"intermediate_size\": 256, \"layers\": 12,\n"
    "   \"steps\": 1, \"batch_size\": 1},\n"
    " \"rank\": {\"strategy\": \"high\", \"rope_dim\": 8},\n"
    " \"svd\": {\"samples\": 8, \"low_rank\": 8}, \"stage2\": {\"steps\": 1}}\n";

static int setup(void **state)
{
    char text[2000];
    const char *d;

    if (program_setup(state) != 0) return -1;
    d = *state;
    snprintf(text, sizeof text, config, d, d, d, d);
    spill(tmpdir_path(state, "c.json"), text, strlen(text));
    must_run(state, larger);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_memory_is_as_planned, setup, tmpdir_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
