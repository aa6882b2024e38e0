/* test_gradients.c - every gradient of every op against central differences. Built in
 * double (AUTOGRAD_DOUBLE), so that the differences are accurate to about 1e-9 and a
 * wrong term cannot hide.
 *
 * A case is a small graph over some leaves (op_cases.h). The gradients of the plain run are
 * compared with differences; then every subset of the leaves is trained, with the inputs as leaves
 * (gradients accumulate) and as outputs of nodes (the first gradient is written), with frozen
 * weights stored as fp32, and within recomputed segments (op_graph.h), and must give the same. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/op_graph.h"

static double loss_of(struct setup *s)
{
    tape_forward(s->t);
    return tensor_real(s->loss)[0];
}

/* Central differences with a step h: their error is h^2/6 times the third derivative,
 * about 1e-11, plus the rounding of the loss over 2h, about 1e-16 |loss| / 1e-5: the floor
 * grows with the loss. */
static void check_differences(struct setup *s)
{
    const double h = 1e-5;
    double *grad[LEAVES];

    gradients(s, (1u << s->n) - 1, DIRECT);
    double floor = 1e-9 * (1 + fabs(tensor_real(s->loss)[0]));
    memcpy(grad, s->grad, sizeof grad);
    for (int i = 0; i < s->n; i++) {
        int64_t most = s->c->samples ? s->c->samples : 64;
        int64_t step = s->count[i] / most > 0 ? s->count[i] / most : 1;
        for (int64_t k = 0; k < s->count[i]; k += step) {
            double kept = s->value[i][k], up, down, slope;
            s->value[i][k] = kept + h;
            up = loss_of(s);
            s->value[i][k] = kept - h;
            down = loss_of(s);
            s->value[i][k] = kept;
            slope = (up - down) / (2 * h);
            if (!(fabs(slope - grad[i][k]) <= 1e-6 * fabs(slope) + floor))
                fail_msg("%s: leaf %d element %d: gradient %.12g, difference %.12g", s->c->name, i,
                         (int)k, grad[i][k], slope);
        }
    }
}

/* Of an op that rounds there are no slopes: its only leaf gets the gradient of the
 * dot product itself. */
static void check_straight(struct setup *s)
{
    gradients(s, 1, DIRECT);
    assert_int_equal(s->n, 1);
    for (int64_t k = 0; k < s->count[0]; k++)
        if (s->grad[0][k] != weight_of(k))
            fail_msg("%s: element %d: gradient %.17g, not %.17g", s->c->name, (int)k, s->grad[0][k],
                     weight_of(k));
}

/* The gradients of the trained leaves, end to end. */
static double *saved(const struct setup *s, unsigned trained)
{
    int64_t total = 0;
    double *all;

    for (int i = 0; i < s->n; i++)
        total += s->count[i];
    all = zeroed(total, sizeof(double));
    total = 0;
    for (int i = 0; i < s->n; i++) {
        if (trained >> i & 1) memcpy(all + total, s->grad[i], (size_t)s->count[i] * sizeof(double));
        total += s->count[i];
    }
    return all;
}

/* Compares the trained leaves' gradients with `times` those in `all`; tolerance 0: bit for bit. */
static void check_same(const struct setup *s, unsigned trained, const double *all, double times,
                       double tolerance, const char *what)
{
    for (int i = 0; i < s->n; all += s->count[i], i++)
        for (int64_t k = 0; k < s->count[i] && trained >> i & 1; k++)
            if (!(fabs(s->grad[i][k] - times * all[k]) <= tolerance * (1 + fabs(all[k]))))
                fail_msg("%s: %s, trained %x: leaf %d element %d: %.17g, not %.17g", s->c->name,
                         what, trained, i, (int)k, s->grad[i][k], times * all[k]);
}

static void check_modes(struct setup *s)
{
    static const char *const names[MODES] = {"leaves", "frozen in fp32", "outputs of nodes",
                                             "recomputed", "recomputed, inner"};
    unsigned every = (1u << s->n) - 1;
    double *all;

    gradients(s, every, DIRECT);
    all = saved(s, every);
    for (unsigned trained = 1; trained <= every; trained++) {
        double *wrapped = NULL;
        for (int mode = 0; mode < MODES; mode++) {
            gradients(s, trained, (enum mode)mode);
            check_same(s, trained, all, 1, 1e-11, names[mode]);
            if (mode == WRAPPED) wrapped = saved(s, trained);
            if (mode > WRAPPED) check_same(s, trained, wrapped, 1, 0, names[mode]);
            tape_forward(s->t);
            tape_backward(s->t, s->loss);
            check_same(s, trained, all, 2, 1e-11, "two passes");
        }
        free(wrapped);
    }
    free(all);
}

static void test_case(void **state)
{
    struct setup s;

    setup_open(&s, *state, 1);
    if (s.c->samples == STRAIGHT)
        check_straight(&s);
    else
        check_differences(&s);
    check_modes(&s);
    setup_close(&s);
}

/* Ops without a backward: the test of their forward, and its file. */
static const struct {
    const char *op; /* its name */
    const char *test, *file;
} forward_only[] = {
    {"rope_table", "test_rope_table", "tests/test_ops.c"},
    {"top_logits", "test_top_logits", "tests/test_distill.c"},
    {"rows_out", "test_rows_out", "tests/test_hidden.c"},
    {"cache_write", "test_cache_write", "tests/test_attention.c"},
    {"hadamard", "test_hadamard", "tests/test_row_form.c"},
    {"cached_attention", "test_cached_attention", "tests/test_attention.c"},
};

/* Whether a file's main still runs the named test: the source is searched for it. */
static bool file_runs(const char *path, const char *test)
{
    struct err e = {0};
    char *text = NULL, call[128];
    size_t len = 0;

    if (!file_read(path, 1 << 20, &text, &len, &e)) fail_msg("%s", e.msg);
    snprintf(call, sizeof call, "cmocka_unit_test(%s)", test);
    bool found = strstr(text, call) != NULL;
    free(text);
    return found;
}

static bool has_test(const struct op *op)
{
    for (int i = 0; i < CASES && op->backward; i++)
        if (strcmp(cases[i].op, op->name) == 0) return true;
    for (size_t i = 0; i < sizeof forward_only / sizeof forward_only[0]; i++)
        if (strcmp(forward_only[i].op, op->name) == 0 && !op->backward)
            return file_runs(forward_only[i].file, forward_only[i].test);
    return false;
}

static void test_every_op_has_a_case(void **state)
{
    (void)state;
    assert_non_null(op_at(0));
    for (int i = 0; op_at(i); i++) {
        if (!has_test(op_at(i))) fail_msg("%s has no test", op_at(i)->name);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(op_at(i)->name, op_at(k)->name);
    }
}

/* An op missing from the list would escape the test above: the ops defined in the
 * sources must be listed. */
static void check_listed(const char *file, int *found)
{
    static const char definition[] = "\nconst struct op ";
    struct err e = {0};
    char *text = NULL, name[64];
    size_t len = 0;

    if (!file_read(file, 1 << 20, &text, &len, &e)) fail_msg("%s", e.msg);
    for (char *at = text; (at = strstr(at, definition));) {
        int i = 0;
        at += sizeof definition - 1;
        if (*at == '*') continue; /* op_at */
        assert_int_equal(sscanf(at, "%*s = {\"%63[^\"]", name), 1);
        while (op_at(i) && strcmp(op_at(i)->name, name) != 0)
            i++;
        if (!op_at(i)) fail_msg("%s: %s is not in autograd/oplist.c", file, name);
        ++*found;
    }
    free(text);
}

static void test_every_op_is_listed(void **state)
{
    DIR *dir = opendir("autograd");
    int found = 0;

    (void)state;
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));) {
        char file[300];
        size_t n = strlen(d->d_name);
        snprintf(file, sizeof file, "autograd/%s", d->d_name);
        if (n > 2 && strcmp(d->d_name + n - 2, ".c") == 0) check_listed(file, &found);
    }
    closedir(dir);
    assert_null(op_at(found));
    assert_non_null(op_at(found - 1));
}

int main(void)
{
    struct CMUnitTest tests[CASES + 2] = {cmocka_unit_test(test_every_op_has_a_case),
                                          cmocka_unit_test(test_every_op_is_listed)};

    for (int i = 0; i < CASES; i++)
        tests[i + 2] =
            (struct CMUnitTest){cases[i].name, test_case, NULL, NULL, (void *)(uintptr_t)&cases[i]};
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
