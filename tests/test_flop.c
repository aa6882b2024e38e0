/* test_flop.c - the work of a graph against what its products are by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "autograd/flop.h"
#include "autograd/ops.h"

static struct tensor leaf(int64_t rows, int64_t cols, bool trained)
{
    struct tensor x = tensor_leaf(DT_REAL, rows, cols, NULL);

    x.needs_grad = trained;
    return x;
}

static void assert_flop(const struct tape *t, double forward, double backward)
{
    const struct flop f = tape_flop(t);

    if (f.forward != forward || f.backward != backward)
        fail_msg("%g and %g, wanted %g and %g", f.forward, f.backward, forward, backward);
}

/* A trained layer on an input without a gradient, a frozen one on it, and the head behind: its
 * logits are made twice. */
static void test_products(void **state)
{
    static const int32_t labels[3] = {0, 1, 2};
    struct tensor x = leaf(3, 7, false), w = leaf(5, 7, true), v = leaf(4, 5, false),
                  head = leaf(9, 4, false), *y;
    struct err e = {0};
    struct tape *t = tape_new(&e);

    (void)state;
    assert_non_null(t);
    tape_begin(t, true);
    y = op_linear(t, &x, &w, NULL, NULL);
    assert_flop(t, 2 * 3 * 5 * 7, 2 * 3 * 5 * 7);
    y = op_linear(t, y, &v, NULL, NULL);
    assert_flop(t, 210 + 2 * 3 * 4 * 5, 210 + 120);
    op_cross_entropy(t, y, &head, labels, 1);
    assert_flop(t, 330 + 2 * 3 * 9 * 4, 330 + 2 * 216);
    tape_free(t);
}

/* Four tokens see 1 + 2 + 3 + 4 of their own text and two of another's 1 + 2, each in two heads of
 * 3 for the scores and 5 for the values: forward 3 + 5 a pair, backward the scores again and their
 * two gradients, and the values' two. */
static void test_attention(void **state)
{
    static const struct attention_sample samples[2] = {{0, 4, 0, 4}, {4, 6, 4, 6}};
    struct err e = {0};

    (void)state;
    for (int trained = 0; trained < 2; trained++) {
        struct tensor q = leaf(6, 6, trained), k = leaf(6, 3, trained), v = leaf(6, 5, trained);
        const struct attention a = {.part = {{.q = &q, .k = &k, .width = 3}},
                                    .parts = 1,
                                    .v = &v,
                                    .heads = 2,
                                    .groups = 1,
                                    .v_width = 5,
                                    .samples = samples,
                                    .n_samples = 2,
                                    .causal = true,
                                    .scale = 1};
        struct tape *t = tape_new(&e);
        assert_non_null(t);
        tape_begin(t, true);
        op_attention(t, &a);
        assert_flop(t, 2 * 13 * 2 * (3 + 5), trained ? 2 * 13 * 2 * (3 * 3 + 2 * 5) : 0);
        tape_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products),
                                       cmocka_unit_test(test_attention)};

    return cmocka_run_group_tests_name("flop", tests, NULL, NULL);
}
