/* test_moment.c - what the optimiser's state loses by being stored in bf16 or in 8 bits. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/bf16.h"
#include "base/rng.h"
#include "optim/moment.h"

#include <math.h>
#include <string.h>

enum { N = 40 * MOMENT_BLOCK + 77 }; /* the last block is not full */

static struct moment make(enum moment_type type, int64_t n, const struct moment_code *code)
{
    struct moment m;
    struct err e;

    if (!moment_init(&m, type, n, code, &e)) fail_msg("%s", e.msg);
    return m;
}

static void store_all(struct moment *m, const float *x, uint64_t key)
{
    float buf[MOMENT_BLOCK];

    for (int64_t b = 0; b < moment_blocks(m->n); b++) {
        float *to = moment_load(m, b, buf);
        memcpy(to, x + b * MOMENT_BLOCK, (size_t)moment_values(m, b) * sizeof *x);
        moment_store(m, b, to, key);
    }
}

static void load_all(const struct moment *m, float *x)
{
    float buf[MOMENT_BLOCK];

    for (int64_t b = 0; b < moment_blocks(m->n); b++)
        memcpy(x + b * MOMENT_BLOCK, moment_load(m, b, buf),
               (size_t)moment_values(m, b) * sizeof *x);
}

/* The smallest and largest decades of bitsandbytes' create_dynamic_map(signed, 7, 8),
 * calculated by hand. */
static void test_code(void **state)
{
    struct moment_code c;

    (void)state;
    for (int has_sign = 0; has_sign < 2; has_sign++) {
        moment_code_make(&c, has_sign);
        for (int i = 1; i < 256; i++)
            assert_true(c.value[i - 1] < c.value[i]);
        assert_true(c.value[255] == 1);
        if (has_sign) { /* -1 is not among them */
            assert_true(c.value[127] == 0 && c.value[128] == 0.55e-6f && c.value[126] == -0.55e-6f);
            assert_true(c.value[129] == 3.25e-6f && c.value[130] == 7.75e-6f);
            assert_true(c.value[254] == 0.99296875f && c.value[0] == -0.99296875f);
        } else {
            assert_true(c.value[0] == 0 && c.value[1] == 3.25e-7f && c.value[2] == 7.75e-7f);
            assert_true(c.value[254] == 0.996484375f);
        }
    }
}

/* The largest error of q, |q| <= 1, when stochastic rounding may choose either neighbour: one part
 * of q's decade; above the decade's last value half of that plus half a part of the next decade,
 * which is five times as large; below the first decade the distance to its first value, from both
 * sides of 0. fp32's own rounding is added. */
static double bound(double q, bool has_sign)
{
    double top = 1e-6, part;
    int parts = has_sign ? 1 : 2;

    if (fabs(q) < 1e-7) return has_sign ? 5.5e-7 : 3.25e-7;
    for (; fabs(q) > top; top *= 10)
        parts *= 2;
    part = 0.9 * top / parts;
    return (fabs(q) > top - part / 2 ? 3 * part : part) + 1e-6 * fabs(q);
}

/* Values over eight decades, of one or both signs, and zeros; block 5 is all zeros. */
static void draw(struct rng *r, bool has_sign, int64_t n, float *x)
{
    for (int i = 0; i < n; i++) {
        x[i] = (float)(pow(10, 3 - 8 * rng_uniform(r)));
        if (has_sign && rng_below(r, 2)) x[i] = -x[i];
        if (i % 50 == 7 || i / MOMENT_BLOCK == 5) x[i] = 0;
    }
}

static float block_top(const float *x, int64_t n, int64_t i)
{
    int64_t first = i / MOMENT_BLOCK * MOMENT_BLOCK, end = first + MOMENT_BLOCK;
    float top = 0;

    for (int64_t j = first; j < end && j < n; j++)
        top = fabsf(x[j]) > top ? fabsf(x[j]) : top;
    return top;
}

/* In each block the largest value is exact, 0 is 0, and without signs only 0 becomes 0. */
static void test_8bit_round_trip(void **state)
{
    static float x[N], y[N];
    struct rng r;

    (void)state;
    rng_seed(&r, 3, 0);
    for (int has_sign = 0; has_sign < 2; has_sign++) {
        struct moment_code code;
        moment_code_make(&code, has_sign);
        struct moment m = make(MOMENT_8BIT, N, &code);
        load_all(&m, y);
        for (int i = 0; i < N; i++)
            assert_true(y[i] == 0); /* unchanged */
        draw(&r, has_sign, N, x);
        store_all(&m, x, 5);
        load_all(&m, y);
        for (int i = 0; i < N; i++) {
            double top = (double)block_top(x, N, i), error = fabs((double)y[i] - (double)x[i]);
            if (x[i] == 0 || fabs((double)x[i]) == top)
                assert_true(y[i] == x[i]);
            else if (error > top * bound((double)x[i] / top, has_sign))
                fail_msg("%g of %g became %g", (double)x[i], top, (double)y[i]);
            if (!has_sign && x[i] > 0) assert_true(y[i] > 0);
        }
        moment_free(&m);
    }
}

/* Over many keys the mean is the value itself. The mean of KEYS draws of 0 or 1 gap deviates by at
 * most half a gap / sqrt(KEYS), one sigma; of a few thousand values none is 5 sigma off by chance,
 * and with rounding to nearest most would be. gap[i]: 0 if the value must not change, negative if
 * it has no meaningful gap. */
enum { KEYS = 1000, SOME = 4 * MOMENT_BLOCK + 3 };

static void check_unbiased(struct moment *m, const float x[SOME], const double gap[SOME])
{
    static float y[SOME];
    static double sum[SOME];
    double off = 0;

    memset(sum, 0, sizeof sum);
    for (uint64_t key = 0; key < KEYS; key++) {
        store_all(m, x, rng_at(9, key));
        load_all(m, y);
        for (int i = 0; i < SOME; i++)
            sum[i] += (double)y[i];
    }
    for (int i = 0; i < SOME; i++) {
        double error = sum[i] / KEYS - (double)x[i];
        if (gap[i] < 0) continue;
        if (gap[i] == 0) assert_true(y[i] == x[i] && sum[i] == KEYS * (double)x[i]);
        /* plus fp32's rounding in x / scale * scale */
        if (fabs(error) > 5 * gap[i] / 2 / sqrt(KEYS) + 1e-6 * fabs((double)x[i]))
            fail_msg("%g: off by %g", (double)x[i], error);
        if (gap[i] > 0) off += error / gap[i];
    }
    assert_true(fabs(off) / SOME < 5 * 0.5 / sqrt((double)KEYS * SOME)); /* and in total */
}

static void test_bf16_is_unbiased(void **state)
{
    static float x[SOME];
    static double gap[SOME];
    struct moment m = make(MOMENT_BF16, SOME, NULL);
    struct rng r;

    (void)state;
    rng_seed(&r, 4, 0);
    for (int i = 0; i < SOME; i++) {
        x[i] = (float)(rng_normal(&r) * pow(10, (double)(i % 30) - 20));
        gap[i] = ldexp(1, ilogb((double)x[i]) - 7);
    }
    x[3] = 0, x[4] = -2.5f; /* exact in bf16 */
    gap[3] = gap[4] = 0;
    check_unbiased(&m, x, gap);
    moment_free(&m);
}

static void test_8bit_is_unbiased(void **state)
{
    static float x[SOME];
    static double gap[SOME];
    struct rng r;

    (void)state;
    rng_seed(&r, 4, 1);
    for (int has_sign = 0; has_sign < 2; has_sign++) {
        struct moment_code code;
        moment_code_make(&code, has_sign);
        struct moment m = make(MOMENT_8BIT, SOME, &code);
        draw(&r, has_sign, SOME, x);
        for (int i = 0; i < SOME; i++) {
            double top = (double)block_top(x, SOME, i), q = fabs((double)x[i]) / top;
            gap[i] = top * bound(q, has_sign);
            if (x[i] == 0 || q == 1)
                gap[i] = 0;
            else if (q < 3.25e-7 || q > 0.99) /* lacks two neighbours */
                gap[i] = -1;
        }
        check_unbiased(&m, x, gap);
        moment_free(&m);
    }
}

/* The randomness depends only on key and index. */
static void test_bf16_repeats(void **state)
{
    static float x[N], y[3][N];
    struct moment m = make(MOMENT_BF16, N, NULL);
    int same = 0;

    (void)state;
    for (int i = 0; i < N; i++)
        x[i] = 1.005f; /* without the noise all would round alike */
    for (int k = 0; k < 3; k++) {
        store_all(&m, x, k == 2 ? 8 : 7);
        load_all(&m, y[k]);
    }
    assert_memory_equal(y[0], y[1], sizeof y[0]);
    for (int i = 0; i < N; i++)
        same += y[0][i] == y[2][i];
    /* 1.005 is 0.64 of the way from 1 to its neighbour: two draws agree with 0.64^2 + 0.36^2 */
    assert_true(fabs((double)same / N - 0.5392) < 5 * 0.5 / sqrt(N));
    moment_free(&m);
}

static void test_bf16_odd_values(void **state)
{
    static const uint32_t nans[] = {0x7f800001, 0x7fc00000, 0x7fffffff, 0xffffffff};

    (void)state;
    assert_int_equal(bf16_stochastic(INFINITY, 0xffff), 0x7f80);
    assert_int_equal(bf16_stochastic(-INFINITY, 0xffff), 0xff80);
    for (int i = 0; i < 4; i++) {
        float nan;
        memcpy(&nan, &nans[i], sizeof nan);
        assert_true(isnan(bf16_to_f32(bf16_stochastic(nan, 0xffff))));
    }
}

static void test_types(void **state)
{
    static const struct {
        int64_t rows, cols;
        enum moment_type type;
    } cases[] = {{64, 64, MOMENT_8BIT}, {63, 65, MOMENT_F32}, {1, 8192, MOMENT_F32}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor t = tensor_leaf(DT_F32, cases[i].rows, cases[i].cols, NULL);
        assert_int_equal(moment_type_of(MOMENT_8BIT, &t), cases[i].type);
        assert_int_equal(moment_type_of(MOMENT_F32, &t), MOMENT_F32);
    }
    assert_true(moment_bytes(MOMENT_F32, 1000) == 4000);
    assert_true(moment_bytes(MOMENT_BF16, 1000) == 2000);
    assert_true(moment_bytes(MOMENT_8BIT, 1000) == 1000 + 4 * sizeof(float));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_code),
        cmocka_unit_test(test_8bit_round_trip),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_bf16_is_unbiased),
        cmocka_unit_test(test_8bit_is_unbiased),
        cmocka_unit_test(test_bf16_repeats),
        cmocka_unit_test(test_bf16_odd_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
