/* test_row_form.c - packed rows: sizes, codes by hand, errors within half a step, rows that no form
 * can hold, short blocks, and parts of rows; the Walsh-Hadamard transform of latents. */
#include "tests/ops_bench.h"

#include "autograd/row_form.h"

#include <stdio.h>

enum { MOST_BYTES = 1024 };

static const struct row_form *form(const char *name)
{
    const struct row_form *f = row_form_find(name, strlen(name));

    assert_non_null(f);
    return f;
}

/* Bytes of a block, and of a token per kv head with 32 rotated dims, the
 * latents in another form. */
static void test_sizes(void **state)
{
    static const struct {
        const char *name;
        int64_t values, bytes;
    } want[] = {{"f32", 1, 4},      {"bf16", 1, 2},      {"q8", 32, 34},     {"q4", 64, 36},
                {"q2", 32, 12},     {"quanto2", 64, 20}, {"hqq4", 64, 36},   {"hqq2", 64, 20},
                {"kivi4k", 32, 20}, {"kivi2k", 32, 12},  {"kivi4v", 32, 20}, {"kivi2v", 32, 12}};
    /* of 64 kv heads, so that blocks are full */
    static const int64_t rank[] = {16, 32, 64, 128}, bytes[][4] = {{96, 51, 43, 40},
                                                                   {128, 68, 52, 46},
                                                                   {192, 102, 70, 58},
                                                                   {320, 170, 106, 82}};
    static const char *const names[][2] = {
        {"bf16", "bf16"}, {"q8", "q8"}, {"q8", "q4"}, {"q8", "q2"}};
    const int64_t G = 64;

    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const struct row_form *f = form(want[i].name);
        assert_ptr_equal(f, row_form_at((int)i)); /* the settings' order */
        assert_int_equal(f->values, want[i].values);
        assert_int_equal(f->bytes, want[i].bytes);
        if (f->channels) continue; /* their runs are test_kivi's */
        assert_int_equal(row_form_bytes(f, 2 * f->values + 1),
                         (f->values > 1 ? 3 : 2 * f->values + 1) * f->bytes);
    }
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++)
            assert_int_equal(row_form_bytes(form(names[k][0]), 32 * G) +
                                 row_form_bytes(form(names[k][1]), rank[i] * G),
                             bytes[i][k] * G);
    assert_null(row_form_at(sizeof want / sizeof *want));
    assert_null(row_form_find("q", 1));
    assert_null(row_form_find("q88", 3));
}

/* The affine codes that optimum-quanto and HQQ (before its rounds) give -1, -.5, 0, .25, .5, .75,
 * 1, 2: 0 2 5 6 8 9 10 15 with 4 bits, 0 0 1 1 2 2 2 3 with 2. Times 5, so that s is 1 in q4, and
 * no rounding to fp16 is in the way. */
static void test_codes(void **state)
{
    static const float group[] = {-1, -.5f, 0, .25f, .5f, .75f, 1, 2};
    static const uint8_t q4[] = {0, 2, 5, 6, 8, 9, 10, 15}, q2[] = {0, 0, 1, 1, 2, 2, 2, 3};
    float x[64];
    uint8_t row[64];

    (void)state;
    for (int i = 0; i < 64; i++)
        x[i] = 5 * group[i / 4 % 8]; /* not the same in both halves of a byte */
    assert_true(row_pack(form("q4"), row, x, 64));
    assert_memory_equal(row, "\x00\x3c\x00\xc5", 4); /* fp16: 1, -5 */
    for (int i = 0; i < 32; i++)
        assert_int_equal(row[4 + i], q4[i / 4 % 8] | q4[(i + 32) / 4 % 8] << 4);
    for (int i = 0; i < 32; i++)
        x[i] = group[i % 8];
    assert_true(row_pack(form("q2"), row, x, 32));
    assert_memory_equal(row, "\x00\x3c\x00\xbc", 4);
    for (int i = 0; i < 8; i++)
        assert_int_equal(row[4 + i], q2[i] * 0x55);
    for (int i = 0; i < 32; i++)
        x[i] = i == 31 ? -127 : (float)i / 2;
    assert_true(row_pack(form("q8"), row, x, 32));
    assert_memory_equal(row, "\x00\x3c", 2);
    for (int i = 0; i < 31; i++) /* half to even */
        assert_int_equal((int8_t)row[2 + i], i % 4 == 1 ? i / 2 : (i + 1) / 2);
    assert_int_equal((int8_t)row[33], -127);
}

/* 64 values of linspace(-1, 2)^3, with figures of optimum-quanto 0.2.7 and hqq 0.2.8: the zero
 * point -m / s, and the mean |error|. 1e-3 of them: s 0.6 is 0.60009765625 in fp16,
 * and m is rounded too. */
static void test_cubes(void **state)
{
    static const struct {
        const char *name;
        double scale, zero, error;
    } want[] = {{"q4", 0.6, 1.6666666, 0.15882},
                {"hqq4", 0.6, 1.9302649, 0.12819},
                {"quanto2", 3, 0.33333, 0.84974},
                {"hqq2", 3, 0.018088, 0.46754}};
    float x[64], y[64];
    uint8_t row[64];
    uint16_t head[2];

    (void)state;
    for (int i = 0; i < 64; i++)
        x[i] = powf(-1 + 3 * (float)i / 63, 3);
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        double error = 0;
        assert_true(row_pack(form(want[k].name), row, x, 64));
        memcpy(head, row, sizeof head);
        row_unpack(form(want[k].name), y, row, 0, 64);
        for (int i = 0; i < 64; i++)
            error += fabs((double)x[i] - (double)y[i]) / 64;
        const double s = (double)f16_to_f32(head[0]), m = (double)f16_to_f32(head[1]);
        if (!(fabs(s / want[k].scale - 1) < 1e-3 && fabs(-m / s - want[k].zero) < 1e-3 &&
              fabs(error - want[k].error) < 1e-3))
            fail_msg("%s: s %g, zero %g, error %g", want[k].name, s, -m / s, error);
    }
}

/* The step of a block: half of it is the largest error, but for the rounding of s and m to fp16,
 * 2^-11 of what they make: q s, at most the block's range (q8: its largest value), and m; or, below
 * 2^-14, 2^-25 of each of up to 127 steps. */
static double step_of(const struct row_form *f, const float *x, int64_t n, double *rounding)
{
    double low = (double)x[0], high = (double)x[0], most;

    for (int64_t i = 1; i < n; i++) {
        low = fmin(low, (double)x[i]);
        high = fmax(high, (double)x[i]);
    }
    most = fmax(fabs(low), fabs(high));
    *rounding = 0x1p-11 * (high - low + most) + 0x1p-18;
    if (strcmp(f->name, "bf16") == 0) return 0x1p-7 * most;
    if (strcmp(f->name, "q8") == 0) return most / 127;
    /* HQQ gives up large errors, for smaller ones elsewhere; and what is below its least scale */
    if (f->fit && high - low <= 1e-3) return 2 * (high - low);
    return (f->fit ? 2 : 1) * (high - low) / ((1 << f->bits) - 1);
}

static void check_row(const struct row_form *f, const float *x, int64_t width)
{
    uint8_t row[MOST_BYTES], guard = 0xa5;
    float y[256];

    assert_true(row_form_bytes(f, width) < MOST_BYTES);
    row[row_form_bytes(f, width)] = guard;
    assert_true(row_pack(f, row, x, width));
    assert_int_equal(row[row_form_bytes(f, width)], guard);
    row_unpack(f, y, row, 0, width);
    for (int64_t b = 0; b < width; b += f->values) {
        const int64_t n = width - b < f->values ? width - b : f->values;
        double rounding, step = step_of(f, x + b, n, &rounding);
        for (int64_t i = b; i < b + n; i++)
            if (!(fabs((double)y[i] - (double)x[i]) <= step / 2 + rounding))
                fail_msg("%s: %g became %g", f->name, (double)x[i], (double)y[i]);
    }
    for (int64_t c0 = 0; c0 < width; c0 += 7) /* any part of it */
        for (int64_t c1 = c0; c1 <= width; c1 += 5) {
            float part[256];
            row_unpack(f, part, row, c0, c1);
            assert_memory_equal(part, y + c0, (size_t)(c1 - c0) * sizeof *y);
        }
}

static void test_round_trip(void **state)
{
    static const float scales[] = {0, 1e-8f, 1e-5f, 1e-3f, 1, 300, 10000};
    struct rng r;
    float x[256];

    (void)state;
    rng_seed(&r, 3, 0);
    for (int k = 1; row_form_at(k) && !row_form_at(k)->run; k++)
        for (int i = 0; i < 140; i++) {
            const int64_t width = 1 + (int64_t)rng_below(&r, 200);
            const float scale = scales[i % 7], mean = i / 7 % 2 ? 5 * scale : 0;
            for (int64_t c = 0; c < width; c++) {
                x[c] = mean + scale * (float)rng_normal(&r);
                x[c] = fminf(fmaxf(x[c], -65504), 65504);
            }
            check_row(row_form_at(k), x, width);
        }
}

/* What is constant is held as it is, apart from fp16; zeros and what fp16 cannot tell from them
 * stay finite. */
static void test_odd_rows(void **state)
{
    static const float values[] = {0, -0.0f, 1.5f, -3, 65504, -65504, 1e-45f, 1e-39f};
    float x[80], y[80];
    uint8_t row[MOST_BYTES];

    (void)state;
    for (int k = 1; row_form_at(k) && !row_form_at(k)->run; k++)
        for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
            const struct row_form *f = row_form_at(k);
            for (int c = 0; c < 80; c++)
                x[c] = values[i];
            assert_true(row_pack(f, row, x, 80));
            row_unpack(f, y, row, 0, 80);
            for (int c = 0; c < 80; c++) /* q8: 127 steps of a scale in fp16 */
                if (!(fabsf(y[c] - x[c]) <= fabsf(x[c]) * 0x1p-8f + 0x1p-24f))
                    fail_msg("%s: %g became %g", f->name, (double)x[c], (double)y[c]);
        }
}

/* NaN, infinity and what fp16 cannot hold are refused, whatever else is in the row. */
static void test_bad_rows(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY, 65504.01f, -65536, 1e30f};
    uint8_t row[MOST_BYTES];
    float x[80] = {1, 2, 3}, y[80];

    (void)state;
    for (int k = 1; row_form_at(k) && !row_form_at(k)->run; k++)
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            const struct row_form *f = row_form_at(k);
            const bool any = strcmp(f->name, "bf16") == 0;
            x[70] = bad[i];
            assert_int_equal(row_bad(f, x, 80), any ? -1 : 70);
            assert_int_equal(row_pack(f, row, x, 80), any);
            row_unpack(f, y, row, 0, 80);
            for (int c = 0; !any && c < 80; c++)
                assert_true(y[c] == 0);
        }
}

/* A short block is what it would be, filled up with its last value; and the next
 * row is not touched. */
static void test_short_block(void **state)
{
    uint8_t is[MOST_BYTES], whole[MOST_BYTES];
    float x[128];

    (void)state;
    for (int k = 2; row_form_at(k) && !row_form_at(k)->run; k++) {
        const struct row_form *f = row_form_at(k);
        for (int c = 0; c < 128; c++)
            x[c] = c < 77 ? (float)(c * c % 41) - 9 : x[76];
        assert_true(row_pack(f, is, x, 77) && row_pack(f, whole, x, f->values == 64 ? 128 : 96));
        assert_memory_equal(is, whole, (size_t)row_form_bytes(f, 77));
    }
}

/* ---- sequences ---- */

/* KIVI's forms: keys by channel over runs of 32 tokens, packed when the token after a run comes;
 * values by token over 32 channels, packed 32 tokens later; what waits is in bf16. Against that,
 * written down plainly, for every length, any part, and several sequences. */
enum { WIDTH = 40, LONGEST = 100, SEQS = 3 };

static void expect_kivi(const struct row_form *f, const float *x, int64_t n, double *want,
                        double *rounding)
{
    const int64_t packed = f->channels ? (n - 1) / 32 * 32 : n > 32 ? n - 32 : 0;

    for (int64_t t = 0; t < n; t++)
        for (int64_t c = 0; c < WIDTH; c++) {
            double low = INFINITY, high = -INFINITY, v = (double)bf16_round(x[t * WIDTH + c]);
            for (int64_t i = 0; i < 32; i++) {
                const int64_t row = f->channels ? t / 32 * 32 + i : t;
                const int64_t column = f->channels ? c : c / 32 * 32 + i;
                if (column >= WIDTH || row >= n) continue;
                low = fmin(low, (double)bf16_round(x[row * WIDTH + column]));
                high = fmax(high, (double)bf16_round(x[row * WIDTH + column]));
            }
            rounding[t * WIDTH + c] = 0;
            want[t * WIDTH + c] = v;
            if (t >= packed) continue;
            const double s = (high - low) / ((1 << f->bits) - 1);
            /* half a step, and of fp16's rounding of s and m what makes them up */
            rounding[t * WIDTH + c] = s / 2 + 0x1p-10 * (high - low + fabs(low));
        }
}

static void check_kivi(const struct row_form *f)
{
    const int64_t bytes = LONGEST * row_form_bytes(f, WIDTH) + row_form_window(f, WIDTH);
    uint8_t *all = zeroed(SEQS, (size_t)bytes + 1);
    float *x = zeroed(LONGEST * WIDTH, sizeof *x), *got = zeroed(LONGEST * WIDTH, sizeof *got);
    double *want = zeroed(LONGEST * WIDTH, sizeof *want),
           *most = zeroed(LONGEST * WIDTH, sizeof *most);
    const struct row_sequence s = row_sequence_at(f, all, 1, LONGEST, WIDTH);
    struct rng r;

    rng_seed(&r, 4, 0);
    for (int64_t i = 0; i < LONGEST * WIDTH; i++)
        x[i] = (float)((double)(1 + i % 7) * rng_normal(&r));
    for (int64_t n = 1; n <= LONGEST; n++) {
        assert_true(row_write(&s, n - 1, x + (n - 1) * WIDTH));
        expect_kivi(f, x, n, want, most);
        for (int64_t c0 = 0; c0 < WIDTH; c0 += 13) {
            const int64_t c1 = c0 + 13 < WIDTH ? c0 + 13 : WIDTH;
            const struct row_part p = {n / 3, n, c0, c1, c1 - c0};
            row_read(&s, n, &p, got);
            for (int64_t t = p.from; t < n; t++)
                for (int64_t c = c0; c < p.c1; c++) {
                    const double d = fabs((double)got[(t - p.from) * (p.c1 - c0) + c - c0] -
                                          want[t * WIDTH + c]);
                    if (!(d <= most[t * WIDTH + c]))
                        fail_msg("%s: %d of %d rows, column %d: off by %g", f->name, (int)t, (int)n,
                                 (int)c, d);
                }
        }
        const int64_t packed = f->channels ? (n - 1) / 32 * 32 : n > 32 ? n - 32 : 0;
        const int64_t each = f->channels ? WIDTH * f->bytes / 32 : 2 * f->bytes; /* 40 columns */
        assert_int_equal(row_form_held(f, WIDTH, n), packed * each + (n - packed) * WIDTH * 2);
    }
    for (int64_t i = 0; i < bytes; i++) /* the neighbours' */
        assert_true(all[i] == 0 && all[2 * bytes + i] == 0);
    assert_int_equal(all[SEQS * bytes], 0);
    x[0] = NAN;
    assert_false(row_write(&s, 0, x));
    free(all);
    free(x);
    free(got);
    free(want);
    free(most);
}

static void test_kivi(void **state)
{
    int n = 0;

    (void)state;
    for (int k = 0; row_form_at(k); k++) {
        if (!row_form_at(k)->run) continue;
        check_kivi(row_form_at(k));
        n++;
    }
    assert_int_equal(n, 4);
}

/* ---- the transform ---- */

/* y = H D x, from the definition: entry (i, j) of H_n is -1 to the number of bits
 * that i and j share. */
static double turned(const double *x, const real *by, int64_t width, int64_t n, int64_t at)
{
    const int64_t k = width / n, b = at / n, i = at % n;
    double sum = 0;

    for (int64_t j = 0; j < n; j++)
        sum += (__builtin_popcountll((unsigned long long)(i & j)) % 2 ? -1 : 1) * x[j * k + b] *
               (double)by[j * k + b];
    return sum / sqrt((double)n);
}

static void test_hadamard(void **state)
{
    enum { T = 20, HEADS = 3, W = 96, N = 32, COL = 5, ALL = COL + HEADS * W + 2 };
    static const struct span spans[] = {{0, 7, TEXT}, {7, 18, IMAGE}, {18, 20, TEXT}};
    struct bench b;
    double *ref = zeroed(T * HEADS * W, sizeof *ref);

    (void)state;
    bench_open(&b);
    struct matrix *x = fresh(&b, DT_F32, T, ALL, 1), *by = fresh(&b, DT_F32, 2, W, 1);
    struct matrix *back = fresh(&b, DT_F32, 2, W, 1);
    real *t = tensor_real(&by->leaf), *inverse = tensor_real(&back->leaf);
    for (int i = 0; i < 2 * W; i++)
        inverse[i] = 1 / t[i];
    struct hadamard h = {.x_col = COL,
                         .heads = HEADS,
                         .width = W,
                         .block = N,
                         .by = {t, t + W},
                         .spans = spans,
                         .n_spans = 3};
    struct tensor *y = op_hadamard(b.t, &x->leaf, &h);
    struct hadamard undo = h;
    undo.x_col = 0;
    undo.by[TEXT] = inverse;
    undo.by[IMAGE] = inverse + W;
    undo.back = true;
    struct tensor *again = op_hadamard(b.t, y, &undo);
    tape_keep(y);
    compute(&b);
    for (int r = 0; r < T; r++)
        for (int i = 0; i < HEADS * W; i++)
            ref[r * HEADS * W + i] = turned(x->ref + r * ALL + COL + i / W * W,
                                            t + (r >= 7 && r < 18 ? W : 0), W, N, i % W);
    check_close(y, ref, 1e-6); /* sums of 32 products in fp32 */
    for (int r = 0; r < T; r++)
        for (int i = 0; i < HEADS * W; i++)
            ref[r * HEADS * W + i] = x->ref[r * ALL + COL + i];
    /* back where it was: the smallest of the random scales takes part of the digits */
    check_close(again, ref, 1e-3);
    free(ref);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_codes),
        cmocka_unit_test(test_cubes),       cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_odd_rows),    cmocka_unit_test(test_bad_rows),
        cmocka_unit_test(test_short_block), cmocka_unit_test(test_kivi),
        cmocka_unit_test(test_hadamard),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
