/* test_hidden.c - hidden states of a teacher: what is written, and the loss made of them, against
 * both written down plainly. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/tiny_convert.h"

#include "autograd/ops.h"
#include "tests/tiny_model.h"

/* Layers whose states are compared: all but the last. */
enum { STATES = TINY_LAYERS - 1 };

static void run(struct tape *t)
{
    struct err e;

    must(tape_plan(t, 0, &e), &e);
    tape_forward(t);
}

static const char *const texts[] = {"qiqqTT", "qTqT", "iqTTq"};
enum { TEXTS = 3 };

/* [STATES][tokens, d] by the layers one by one. */
static real *states_of(struct model *m, struct tape *t, const struct tiny_batch *b)
{
    const int64_t n = b->b.batch.tokens * TINY_D;
    struct taps taps = {0};
    struct forward f = b->f;
    real *to = calloc((size_t)(STATES * n), sizeof *to);

    assert_non_null(to);
    f.taps = &taps;
    tape_begin(t, false);
    struct tensor *x = model_embeddings(m, t, &f);
    for (int64_t l = 0; l < STATES; l++)
        x = model_layer(m, t, &f, l, x, false);
    run(t);
    memcpy(to, tensor_real(x), (size_t)n * sizeof *to); /* of the only one */
    return to;
}

static double loss_of(struct model *m, struct tape *t, const struct tiny_batch *b, double scale)
{
    tape_begin(t, false);
    struct tensor *loss = model_loss(m, t, &b->f, scale);
    tape_keep(loss);
    run(t);
    return (double)tensor_real(loss)[0];
}

/* The bits of the layers' outputs. */
static void test_rows_out(void **state)
{
    struct model m = {0};
    struct tiny_batch b;
    struct err e;
    struct tape *t = tape_new(&e);

    (void)state;
    assert_int_equal(STATES, 1);
    tiny_model(&m, 2, true, 3);
    tiny_batch(&b, texts, TEXTS, 5);
    const size_t n = (size_t)(STATES * b.b.batch.tokens * TINY_D);
    real *want = states_of(&m, t, &b), *got = calloc(n, sizeof *got);
    assert_non_null(got);
    tape_begin(t, false);
    model_hidden(&m, t, &b.f, got);
    run(t);
    assert_memory_equal(want, got, n * sizeof *got);
    free(want);
    free(got);
    tape_free(t);
    tiny_batch_free(&b);
    model_close(&m);
}

/* The sum of |x - t|^2 / |t|^2 over rows. */
static double apart(const real *x, const real *to, int64_t rows)
{
    double sum = 0;

    for (int64_t i = 0; i < rows; i++) {
        double square = 0, d = 0;
        for (int64_t c = i * TINY_D; c < (i + 1) * TINY_D; c++) {
            square += (double)to[c] * (double)to[c];
            d += ((double)x[c] - (double)to[c]) * ((double)x[c] - (double)to[c]);
        }
        sum += d / square;
    }
    return sum;
}

/* Of another model's states: the loss and its terms, whether layers are recomputed or not; of its
 * own, the cross entropy's share alone. Sums of some hundred fp32 numbers: 1e-5. */
static void test_loss(void **state)
{
    struct model m = {0}, teacher = {0};
    struct tiny_batch b;
    struct err e;
    struct tape *t = tape_new(&e);

    (void)state;
    tiny_model(&m, 2, true, 3);
    tiny_model(&teacher, 2, true, 4);
    tiny_batch(&b, texts, TEXTS, 5);
    const int64_t tokens = b.b.batch.tokens;
    real *own = states_of(&m, t, &b), *to = states_of(&teacher, t, &b);
    const double ce = loss_of(&m, t, &b, 0.25), distance = 0.5 * apart(own, to, tokens);
    assert_true(distance > 0.1);
    for (int i = 0; i < 4; i++) {
        struct distill_terms terms = {0, 0};
        const struct hidden h = {i < 3 ? to : own, i < 2 ? 0.3 : 1, 0.5, &terms};
        struct forward f = b.f;
        f.recompute = i % 2 ? TINY_LAYERS : 0;
        tape_begin(t, false);
        struct tensor *loss = model_hidden_loss(&m, t, &f, 0.25, &h);
        tape_keep(loss);
        run(t);
        const double far = i < 3 ? distance : 0, want = (1 - h.weight) * ce + h.weight * far;
        assert_true(fabs(terms.ce - ce) < 1e-5 && fabs(terms.distill - far) < 1e-5);
        assert_true(fabs((double)tensor_real(loss)[0] - want) < 1e-5);
    }
    free(own);
    free(to);
    tape_free(t);
    tiny_batch_free(&b);
    model_close(&m);
    model_close(&teacher);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows_out),
                                       cmocka_unit_test(test_loss)};

    return cmocka_run_group_tests_name("hidden", tests, NULL, NULL);
}
