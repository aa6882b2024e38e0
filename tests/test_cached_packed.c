/* test_cached_packed.c - attention over a packed cache is attention over the same cache of reals,
 * bit for bit, in every shape; what a model's packed cache holds and costs;
 * latents that are rotated. */
#include "tests/backend.h"
#include "tests/ops_bench.h"

#include "autograd/row_form.h"
#include "model/generate.h"
#include "tests/tiny_cached.h"

#include <math.h>
#include <omp.h>

/* ---- the op ---- */

/* A shape: heads, kv heads of the first part, of the second (0: there is none) and of the values;
 * their widths; whether the values are the second part (joint). */
static const struct shape {
    const char *name;
    int64_t heads, groups[2], v_groups, width[2], v_width;
    bool joint, split, bias, weights;
} shapes[] = {
    {"full", 8, {8, 0}, 8, {32, 0}, 32, false, false, false, false},
    {"full, one kv head", 8, {1, 0}, 1, {40, 0}, 24, false, false, false, false},
    {"partial", 6, {3, 3}, 3, {4, 28}, 32, false, false, false, false},
    {"joint", 8, {8, 1}, 1, {4, 96}, 96, true, true, false, false},
    {"joint, the same factors", 8, {4, 1}, 1, {4, 200}, 200, true, false, false, false},
    {"joint, biases", 8, {8, 1}, 1, {4, 64}, 64, true, true, true, true},
    {"split", 8, {8, 1}, 1, {4, 72}, 136, false, true, false, false},
    {"only keys", 4, {2, 1}, 2, {8, 100}, 16, false, false, false, false},
    {"only values", 4, {4, 4}, 1, {8, 24}, 130, false, true, true, true},
    {"cross", 8, {1, 1}, 1, {12, 13}, 13, true, true, false, false},
    {"full, a few heads a kv head", 16, {2, 0}, 2, {40, 0}, 40, false, false, false, false},
    {"full, wide rows", 8, {8, 0}, 8, {600, 0}, 520, false, false, false, false},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, SEQUENCES = 3, CAPACITY = 200 };

/* The sequences: one of text, one with pictures, one that is long and decodes. */
static const struct span pictures[] = {
    {0, 3, TEXT}, {3, 70, IMAGE}, {70, 81, TEXT}, {81, 90, IMAGE}};
static const struct cached_sequence several[SEQUENCES] = {
    {0, 1, 0, 0, NULL, 0},
    {1, 71, CAPACITY, 20, pictures, 4},
    {71, 73, 2 * CAPACITY, 190, pictures, 4},
};
/* One query each, which is another way (cached_single.c). */
static const struct cached_sequence single[SEQUENCES] = {
    {0, 1, 0, 0, NULL, 0},
    {1, 2, CAPACITY, 89, pictures, 4},
    {2, 3, 2 * CAPACITY, 191, pictures, 4},
};
static const struct cached_sequence *sequences = several; /* of the test that runs */
enum { ROWS = SEQUENCES * CAPACITY };

static int64_t queries(void)
{
    return sequences[SEQUENCES - 1].q_end;
}

/* A cache of random rows in a form, and the same rows as reals. */
static struct tensor packed_cache(struct bench *b, const struct row_form *f, int64_t width,
                                  struct tensor *reals)
{
    struct matrix *x = fresh(b, DT_F32, ROWS, width, 1);
    const int64_t bytes = CAPACITY * row_form_bytes(f, width) + row_form_window(f, width);
    char *held = zeroed(SEQUENCES, (size_t)bytes);
    struct tensor t = tensor_leaf(DT_PACKED, ROWS, width, held);

    t.form = f;
    for (int64_t s = 0; s < SEQUENCES; s++) {
        const struct row_sequence to = row_sequence_at(f, held, s, CAPACITY, width);
        const int64_t n = sequences[s].position + sequences[s].q_end - sequences[s].q_begin;
        real *rows = tensor_real(&x->leaf) + s * CAPACITY * width;
        for (int64_t i = 0; i < n; i++)
            assert_true(row_write(&to, i, rows + i * width));
        row_read(&to, n, &(struct row_part){0, n, 0, width, width}, rows);
    }
    *reals = x->leaf;
    return t;
}

/* Other random rows of the sequences' newest keys, which the reals then hold. */
static struct tensor *newest(struct bench *b, const struct tensor *reals)
{
    struct matrix *x = fresh(b, DT_F32, queries(), reals->cols, 1);

    for (int64_t s = 0; s < SEQUENCES; s++) {
        const struct cached_sequence *q = &sequences[s];
        memcpy(tensor_real(reals) + (q->k_begin + q->position) * reals->cols,
               tensor_real(&x->leaf) + q->q_begin * reals->cols,
               (size_t)((q->q_end - q->q_begin) * reals->cols) * sizeof(real));
    }
    return &x->leaf;
}

/* Attention over packed rows (0) and over reals (1) of one shape. */
static void both(struct bench *b, const struct shape *s, const struct row_form *const form[2],
                 bool exact, struct tensor cache[2][3], struct tensor *out[2])
{
    struct cached_attention a = {.parts = s->groups[1] ? 2 : 1,
                                 .heads = s->heads,
                                 .v_groups = s->v_groups,
                                 .v_width = s->v_width,
                                 .split_modalities = s->split,
                                 .weights = s->weights,
                                 .seq = sequences,
                                 .n_seq = SEQUENCES,
                                 .capacity = CAPACITY,
                                 .scale = 0.3};

    for (int p = 0; p < a.parts; p++) {
        a.part[p].width = s->width[p];
        a.part[p].k_groups = s->groups[p];
        a.part[p].q[TEXT] = &fresh(b, DT_F32, queries(), s->heads * s->width[p], 1)->leaf;
        if (p == 1 && s->split)
            a.part[p].q[IMAGE] = &fresh(b, DT_F32, queries(), s->heads * s->width[p], 1)->leaf;
        cache[0][p] = packed_cache(b, form[p], s->groups[p] * s->width[p], &cache[1][p]);
    }
    for (int m = 0; s->bias && m < MODALITIES; m++)
        a.key_bias[m] = &fresh(b, DT_F32, queries(), s->heads, 1)->leaf;
    if (!s->joint) cache[0][2] = packed_cache(b, form[1], s->v_groups * s->v_width, &cache[1][2]);
    for (int p = 0; exact && p < a.parts; p++)
        a.part[p].fresh = newest(b, &cache[1][p]);
    if (exact) a.v_fresh = s->joint ? a.part[1].fresh : newest(b, &cache[1][2]);
    for (int i = 0; i < 2; i++) {
        for (int p = 0; p < a.parts; p++) {
            a.part[p].k = &cache[i][p];
            if (i == 1) a.part[p].fresh = NULL;
        }
        a.v = s->joint ? &cache[i][1] : &cache[i][2];
        if (i == 1) a.v_fresh = NULL;
        out[i] = op_cached_attention(b->t, &a);
        tape_keep(out[i]);
    }
}

/* With `exact`, the newest rows are read as they were before. */
static void check_shape(const struct shape *s, const struct row_form *const form[2], bool exact)
{
    struct tensor cache[2][3], *out[2];
    struct bench b;

    bench_open(&b);
    both(&b, s, form, exact, cache, out);
    compute(&b);
    assert_true(tensor_count(out[0]) > 0);
    if (memcmp(out[0]->data, out[1]->data, (size_t)tensor_count(out[0]) * sizeof(real)) != 0)
        fail_msg("%s, %s and %s: not the same bits", s->name, form[0]->name, form[1]->name);
    for (int p = 0; p < 3; p++)
        if (p == 0 || (p == 1 && s->groups[1]) || (p == 2 && !s->joint)) free(cache[0][p].data);
    bench_close(&b);
}

static void test_same_bits(void **state)
{
    const int threads = omp_get_max_threads();

    (void)state;
    for (int i = 0; i < 2 * SHAPES; i++)
        for (int k = 1; row_form_at(k); k++) {
            const struct row_form *form[2] = {row_form_at(k), row_form_at(k)};
            sequences = i < SHAPES ? several : single;
            omp_set_num_threads(1 + (i + k) % 3);
            check_shape(&shapes[i % SHAPES], form, (i + k) % 2);
            form[0] = row_form_find("q8", 2);
            check_shape(&shapes[i % SHAPES], form, (i + k) % 2 == 0);
        }
    sequences = several;
    omp_set_num_threads(threads);
}

/* Values as reals beside packed keys, and the reverse. */
static void test_one_packed(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct shape *s = &shapes[2];
        const struct row_form *form[2] = {row_form_find("q4", 2), row_form_find("q8", 2)};
        struct tensor cache[2][3], *out[2];
        struct bench b;

        bench_open(&b);
        both(&b, s, form, false, cache, out);
        void *held[] = {cache[0][0].data, cache[0][1].data, cache[0][2].data};
        for (int p = i ? 2 : 0; p < (i ? 3 : 2); p++)
            cache[0][p] = cache[1][p];
        compute(&b);
        assert_memory_equal(out[0]->data, out[1]->data,
                            (size_t)tensor_count(out[0]) * sizeof(real));
        for (int p = 0; p < 3; p++)
            free(held[p]);
        bench_close(&b);
    }
}

/* Rows of an unpackable value: the first by row is noted, and stays so. */
static void test_fault(void **state)
{
    static const int32_t rows[] = {9, 4, 7, 1, 0, 2, 3, 5, 6, 8};
    const struct row_form *f = row_form_find("q4", 2);
    struct cache_fault fault = {0};
    struct bench b;
    char *held = zeroed(10, (size_t)row_form_bytes(f, 5));
    const struct cache_store to = {held, 10, 10, f, &fault, 17};

    (void)state;
    bench_open(&b);
    struct matrix *x = fresh(&b, DT_F32, 10, 5, 1);
    tensor_real(&x->leaf)[2 * 5 + 3] = 70000;
    tensor_real(&x->leaf)[9 * 5] = NAN;
    struct tensor *c = op_cache_write(b.t, &x->leaf, &to, rows);
    assert_true(c->dtype == DT_PACKED && c->form == f && c->rows == 10 && c->cols == 5);
    compute(&b);
    assert_true(fault.found && fault.place == 17 && fault.row == 7 && fault.value == 70000);
    fault.row = 3;
    tape_forward(b.t);
    assert_int_equal(fault.row, 3);
    free(held);
    bench_close(&b);
}

/* ---- models ---- */

/* Bytes are those of the rows, and the coarser the form, the further are the logits from those over
 * reals; f32 gives the bits of a cache that nothing was said of. The bounds are for the 2 layers of
 * these random models: 8 bits have 127 steps, of which half is 0.4 %; 4 bits
 * 15, 3.3 %; 2 bits 3. */
static void test_kinds(void **state)
{
    static const struct {
        const char *name;
        double most;
    } kinds[] = {{"f32", 0}, {"bf16", 0.02}, {"q8", 0.05}, {"q8+q4", 0.5}, {"q2", 1.5}};
    struct tape *t;
    struct err e = {0};

    (void)state;
    must((t = tape_new(&e)) != NULL, &e);
    for (int i = 0; i < FORMS; i++) {
        struct tiny_batch all;
        struct model m;
        size_t bytes;
        open_form(&m, i, 24);
        tiny_batch(&all, mixed, MIXED, 8);
        float *want = extended(&m, t, NULL, &all, &bytes);
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            const struct cache_kind kind = kind_of(kinds[k].name);
            float *got = extended(&m, t, &kind, &all, &bytes);
            double d = tiny_distance(want, got, MIXED * TINY_VOCAB);
            if (!(d <= kinds[k].most) || (kinds[k].most > 0 && d == 0))
                fail_msg("form %d, %s: %g", i, kinds[k].name, d);
            assert_int_equal(bytes, cache_kind_bytes(&kind, &m) * all.b.batch.tokens);
            free(got);
        }
        free(want);
        tiny_batch_free(&all);
        model_close(&m);
    }
    tape_free(t);
}

/* Where tokens given together see each other as they are, nothing is lost until the next step; then
 * it is. The original's cache of KIVI, whose newest rows wait in bf16, holds what
 * row_form_held says. */
static void test_exact(void **state)
{
    static const char *const names[] = {"q2+exact", "kivi2k+kivi2v+exact"};
    struct tape *t;
    struct err e = {0};

    (void)state;
    must((t = tape_new(&e)) != NULL, &e);
    for (int i = 0; i < 2 * FORMS; i++) {
        const struct cache_kind kind = kind_of(names[i % 2]);
        struct generation g[2][MIXED];
        struct generate_stats stats = {0};
        struct cache_how how;
        struct tiny_batch all;
        struct model m;
        size_t bytes;
        open_form(&m, i / 2, 24);
        tiny_batch(&all, mixed, MIXED, 8);
        float *want = extended(&m, t, NULL, &all, &bytes);
        float *got = extended(&m, t, &kind, &all, &bytes);
        assert_memory_equal(want, got, MIXED * TINY_VOCAB * sizeof *got);
        must(cache_how_new(&how, &m, &kind, &e), &e);
        struct generator how_made = {.m = &m, .t = t, .max_new = 40, .stats = &stats};
        for (int k = 0; k < 2; k++, how_made.cache = &how)
            must(model_generate(&how_made, &all.f, g[k], &e), &e);
        for (int s = 0; s < MIXED; s++)
            assert_int_equal(g[0][s].ids[0], g[1][s].ids[0]);
        generation_free(g[0], MIXED);
        generation_free(g[1], MIXED);
        cache_how_free(&how);
        free(want);
        free(got);
        tiny_batch_free(&all);
        model_close(&m);
    }
    tape_free(t);
}

/* Rotated latents as reals: the same scores but for rounding, 1e-5 of the largest; in bf16, whose
 * values are off by up to 2^-9, 1e-2. With blocks of 8 of
 * 24 columns and of 16, and without any where r is not divisible by 8. */
static void test_rotation(void **state)
{
    static const int64_t widths[] = {24, 16, 12};
    struct tape *t;
    struct err e = {0};

    (void)state;
    must((t = tape_new(&e)) != NULL, &e);
    assert_true(latent_block(192) == 64 && latent_block(96) == 32 && latent_block(24) == 8 &&
                latent_block(13) == 0 && latent_block(12) == 0 && latent_block(8) == 8);
    for (int i = 2; i < FORMS; i++)
        for (int w = 0; w < 3; w++) {
            struct cache_kind kind = cache_kind_f32();
            struct tiny_batch all;
            struct model m;
            size_t bytes;
            if (i == 3 || i == 4) continue; /* no latents */
            open_form(&m, i, widths[w]);
            for (int64_t l = 0; l < TINY_LAYERS && w == 0; l++) /* a column that nothing reads */
                for (int s = 0; s < model_sets(&m); s++) {
                    struct kv_set *set = &m.layers[l].attn.set[s];
                    for (int64_t r = 0; r < set->up_v->t.rows && set->down[1]; r++)
                        tensor_real(&set->up_v->t)[r * set->up_v->t.cols + 3] = 0;
                }
            tiny_batch(&all, mixed, MIXED, 8);
            float *want = extended(&m, t, NULL, &all, &bytes);
            kind.rotate = true;
            float *got = extended(&m, t, &kind, &all, &bytes);
            double d = tiny_distance(want, got, MIXED * TINY_VOCAB);
            const bool bf16 = strcmp(backend_compute(), "bf16") == 0;
            if (!(d < (bf16 ? 1e-2 : 1e-5)))
                fail_msg("form %d, width %d: %g", i, (int)widths[w], d);
            if (!bf16) /* where the next product may round to the same inputs */
                assert_int_equal(memcmp(want, got, MIXED * TINY_VOCAB * sizeof *got) != 0,
                                 widths[w] != 12);
            free(want);
            free(got);
            tiny_batch_free(&all);
            model_close(&m);
        }
    tape_free(t);
}

/* What cannot be: of a model without latents, and values that are too large, named. */
static void test_refused(void **state)
{
    struct generation g[MIXED];
    struct cache_how how;
    struct tiny_batch all;
    struct tape *t;
    struct model m;
    struct err e = {0};
    struct cache_kind kind = kind_of("q8+q4+rotate");

    (void)state;
    must((t = tape_new(&e)) != NULL, &e);
    tiny_model(&m, 2, false, 12);
    assert_false(cache_how_new(&how, &m, &kind, &e));
    assert_non_null(strstr(e.msg, "\"q8+q4+rotate\" has latents that are rotated, and this model"));
    kind = kind_of("q8+q4");
    must(cache_how_new(&how, &m, &kind, &e), &e);
    tiny_batch(&all, mixed, 1, 8);
    for (int64_t i = 0; i < tensor_count(&m.layers[1].attn.v->t); i++)
        tensor_real(&m.layers[1].attn.v->t)[i] *= 1e7f;
    assert_false(model_generate(&(struct generator){.m = &m, .t = t, .max_new = 2, .cache = &how},
                                &all.f, g, &e));
    assert_non_null(
        strstr(e.msg, "the cache: the value or latent of layer 1, token 0 has a value of"));
    assert_non_null(strstr(e.msg, "q4 holds finite ones up to 65504; f32 and bf16 hold all"));
    assert_null(strstr(e.msg, "evaluate")); /* who talks to a model has no such setting */
    const struct kv_cache one = {.how = &how, .capacity = 1, .fault = {true, 0, 0, -(double)NAN}};
    assert_false(kv_cache_check(&one, &e));
    assert_non_null(strstr(e.msg, "token 0 has a value of nan: q8 holds"));
    cache_how_free(&how);
    tiny_batch_free(&all);
    model_close(&m);
    tape_free(t);
}

static void test_names(void **state)
{
    static const char *const names[][2] = {{"f32", "f32"},
                                           {"q8+q8", "q8"},
                                           {"q8+q4", "q8+q4"},
                                           {"q8+q4+rotate", "q8+q4+rotate"},
                                           {"q4+exact+rotate", "q4+rotate+exact"},
                                           {"kivi4k+kivi4v+exact", "kivi4k+kivi4v+exact"},
                                           {"q2+rotate", "q2+rotate"}};
    char text[CACHE_KIND_TEXT];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct cache_kind k = kind_of(names[i][0]);
        assert_string_equal(cache_kind_text(text, &k), names[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_one_packed),
        cmocka_unit_test(test_fault),     cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_exact),     cmocka_unit_test(test_rotation),
        cmocka_unit_test(test_refused),   cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
