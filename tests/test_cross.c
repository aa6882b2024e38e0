/* test_cross.c - rotated keys in a cross-head basis: with all components kept the model is the
 * original, with those of some pairs, or of each head alone, the model that keeps these pairs; and
 * all that follows of it: factors, the absorbed cache, saving. LLaVA and text models, MHA and GQA,
 * with and without biases.
 *
 * 1e-5 relative throughout, as in test_conversion.c: the basis is one more product in fp32. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tiny_convert.h"
#include "tests/tiny_cross.h"
#include "tests/tiny_reference.h"
#include "tests/tiny_variants.h"
#include "tests/tmpdir.h"

enum { P = 4 }; /* pairs of a head */

/* ---- bases ---- */

/* Each head's own pairs [L, G, kept]: the unit vectors. */
static void unit_basis(struct basis *b, int G, const int32_t *pairs, int kept)
{
    *b = (struct basis){.b = {0}};
    for (int l = 0; l < TINY_LAYERS; l++) {
        int64_t at = l * G * kept;
        for (int i = 0; i < P; i++)
            for (int g = 0; g < G; g++)
                for (int j = 0; j < kept; j++) {
                    if (pairs[(l * G + g) * kept + j] != i) continue;
                    b->pair[at] = i;
                    b->re[at++ * G + g] = 1;
                }
    }
    for (int k = 0; k < TINY_LAYERS * G * P; k++)
        b->scale[k] = 1;
    b->b = (struct cross_basis){G * kept, b->pair, b->re, b->im, b->scale};
}

/* ---- models ---- */

static void check(struct model *m, const struct tiny_batch *b, const float *want, const char *what,
                  int variant)
{
    struct tape *t = new_tape();
    float *got = tiny_logits(m, t, &b->f);
    double d = tiny_distance(want, got, b->b.batch.tokens * TINY_VOCAB);

    if (!(d < 1e-5)) fail_msg("variant %d, %s: %g", variant, what, d);
    free(got);
    tape_free(t);
}

/* Over the cache, of whose rotated keys there is one. */
static void check_cached(struct model *m, const float *want, const struct tiny_batch *b, int v)
{
    struct tape *t = new_tape();
    struct kv_cache cache = {0};
    struct err e = {0};

    must(kv_cache_new(&cache, m, NULL, 1, 1, &e), &e);
    assert_int_equal(cache.before[1][CACHE_ROPE], m->rope_dim * (int64_t)sizeof(real));
    kv_cache_free(&cache);
    check_absorbed(m, want, t, b, v);
    tape_free(t);
}

static void to_cross(struct model *m, const struct basis *b)
{
    struct err e = {0};

    must(model_to_cross(m, &b->b, &e), &e);
    assert_int_equal(m->layers[0].attn.k->t.rows, 2 * b->b.n);
    assert_int_equal(m->layers[0].attn.q[0]->t.rows, TINY_HEADS * 2 * b->b.n);
    assert_int_equal(m->layers[0].attn.q[1]->t.rows, TINY_D);
}

/* With all components nothing is left to the unrotated keys, and the model is the original. */
static void test_all(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        struct tiny_batch b;
        struct basis basis;
        struct model m;
        open_variant(&m, &b, &variants[v]);
        float *want = reference_logits(&m, &b, NULL);
        random_basis(&basis, variants[v].kv_heads, P, 15);
        to_cross(&m, &basis);
        for (int64_t i = 0; i < tensor_count(&m.layers[1].attn.set[TEXT].up_k->t); i++)
            assert_true(fabsf(tensor_real(&m.layers[1].attn.set[TEXT].up_k->t)[i]) < 1e-5F);
        check(&m, &b, want, "all", v);
        check_cached(&m, want, &b, v);
        free(want);
        tiny_batch_free(&b);
        model_close(&m);
    }
}

/* All components of some pairs, whatever the basis, are these pairs of all heads. */
static void test_some_pairs(void **state)
{
    static const int32_t one_head[] = {1, 3};

    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        const int G = variants[v].kv_heads;
        int32_t pairs[TINY_LAYERS * TINY_HEADS * 2];
        struct reference r = {.pairs = pairs, .kept = 2};
        struct tiny_batch b;
        struct basis basis;
        struct model m;
        open_variant(&m, &b, &variants[v]);
        for (int i = 0; i < TINY_LAYERS * G * 2; i++)
            pairs[i] = one_head[i % 2];
        float *want = reference_logits(&m, &b, &r);
        random_basis(&basis, G, P, 1u << 1 | 1u << 3);
        to_cross(&m, &basis);
        check(&m, &b, want, "two pairs", v);
        check_cached(&m, want, &b, v);
        free(want);
        tiny_batch_free(&b);
        model_close(&m);
    }
}

/* Heads that keep other pairs each: the basis of unit vectors. Then factors of full rank, and the
 * model saved and opened again. */
static void test_own_pairs(void **state)
{
    struct err e = {0};

    for (int v = 0; v < VARIANTS * 2; v++) {
        const struct variant *kind = &variants[v / 2];
        const bool decoupled = v % 2 && !kind->type;
        struct mha2mla_config section = {.partial_rope_version = "mkl",
                                         .rope_dim_for_mla = 4 * kind->kv_heads,
                                         .rope_basis = "cross",
                                         .svd_init_method = "joint",
                                         .low_rank = TINY_D / kind->kv_heads,
                                         .decoupled = decoupled};
        int32_t pairs[TINY_LAYERS * TINY_HEADS * 2];
        struct reference r = {.pairs = pairs, .kept = 2};
        struct tiny_batch b;
        struct basis basis;
        struct model m, opened;
        char name[32];
        open_variant(&m, &b, kind);
        tiny_pairs(&m, 4, pairs, 11);
        float *want = reference_logits(&m, &b, &r);
        unit_basis(&basis, kind->kv_heads, pairs, 2);
        to_cross(&m, &basis);
        check(&m, &b, want, "own pairs", v);
        tiny_mla(&m, KV_JOINT, decoupled, TINY_D);
        assert_int_equal(model_cache_values(&m), 4 * kind->kv_heads + TINY_D);
        check(&m, &b, want, "factors", v);
        check_cached(&m, want, &b, v);
        snprintf(name, sizeof name, "m%d", v);
        must(hf_config_set_mha2mla(&m.cfg, &section, &e), &e);
        must(model_save(&m, tmpdir_path(state, name), DT_F32, false, &e), &e);
        must(model_open(&opened, tmpdir_path(state, name), &e), &e);
        assert_true(opened.cross);
        assert_memory_equal(opened.pairs, m.pairs,
                            (size_t)(TINY_LAYERS * basis.b.n) * sizeof *m.pairs);
        check(&opened, &b, want, "opened", v);
        check_cached(&opened, want, &b, v);
        free(want);
        tiny_batch_free(&b);
        model_close(&opened);
        model_close(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_some_pairs),
        cmocka_unit_test_setup_teardown(test_own_pairs, tmpdir_make, tmpdir_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
