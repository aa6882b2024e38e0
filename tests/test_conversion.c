/* test_conversion.c - every step of the conversion against a second implementation of the decoder
 * (tiny_reference.h): the original model, with unrotated pairs, with factors at full rank, and with
 * factors that truncate. LLaVA and text models, MHA and GQA, with and without biases.
 *
 * 1e-5 relative throughout: two layers of fp32 against double; 1e-6 is measured. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/generate.h"
#include "tests/tiny_convert.h"
#include "tests/tiny_reference.h"
#include "tests/tiny_variants.h"
#include "tests/tmpdir.h"

/* The model's logits must equal `want`. */
static void check(struct model *m, struct tape *t, const struct tiny_batch *b, const float *want,
                  const char *what, int variant)
{
    float *got = tiny_logits(m, t, &b->f);
    double d = tiny_distance(want, got, b->b.batch.tokens * TINY_VOCAB);

    if (!(d < 1e-5)) fail_msg("variant %d, %s: %g", variant, what, d);
    free(got);
}

/* The unrotated rows of HF's k_proj, in the order of up_k: head by head, dims ascending. */
static int64_t unrotated_rows(const struct model *m, int64_t l, int64_t *rows)
{
    int64_t G = m->cfg.text.num_key_value_heads, dh = m->cfg.text.head_dim, n = 0;
    int64_t kept = m->rope_dim / 2;

    for (int64_t g = 0; g < G; g++)
        for (int64_t dim = 0; dim < dh; dim++) {
            const int32_t *p = m->pairs + (l * G + g) * kept;
            bool rotated = false;
            for (int64_t j = 0; j < kept; j++)
                rotated |= p[j] == dim % (dh / 2);
            if (!rotated) rows[n++] = g * dh + dim;
        }
    return n;
}

/* A bias of unrotated keys adds the same to all scores of a query, so that no logit
 * shows where it went. */
static void check_key_bias(const struct model *m, const struct model *full)
{
    for (int64_t l = 0; l < TINY_LAYERS; l++) {
        const struct param *now = m->layers[l].attn.set[TEXT].up_k_b;
        double *was = reference_values(full->layers[l].attn.k_b), *is = reference_values(now);
        int64_t rows[TINY_D], n = unrotated_rows(m, l, rows);
        assert_int_equal(tensor_count(&now->t), n);
        for (int64_t i = 0; i < n; i++)
            assert_true(is[i] == was[rows[i]]);
        free(was);
        free(is);
    }
}

/* FULL, and PARTIAL with every number of pairs: rows of q and k moved, pairs left unrotated. The
 * pairs differ between heads and layers, so that a misplaced row shows. */
static void test_partial(void **state)
{
    int32_t pairs[TINY_LAYERS * TINY_HEADS * 4];
    struct tape *t = new_tape();
    struct err e = {0};

    (void)state;
    for (int i = 0; i < VARIANTS; i++)
        for (int rope_dim = 2; rope_dim <= 8; rope_dim += 2) {
            struct tiny_batch b;
            struct model m, original;
            char what[32];

            open_variant(&original, &b, &variants[i]);
            tiny_batch_free(&b);
            open_variant(&m, &b, &variants[i]);
            float *full = reference_logits(&m, &b, NULL);
            check(&m, t, &b, full, "as it is", i);
            tiny_pairs(&m, rope_dim, pairs, 11);
            struct reference r = {.pairs = pairs, .kept = rope_dim / 2};
            float *want = reference_logits(&m, &b, &r);
            double moved = tiny_distance(full, want, b.b.batch.tokens * TINY_VOCAB);
            assert_int_equal(moved > 1e-3, rope_dim < 8); /* the test is sensitive */
            must(model_to_partial(&m, pairs, rope_dim, &e), &e);
            snprintf(what, sizeof what, "%d dims rotated", rope_dim);
            check(&m, t, &b, want, what, i);
            if (variants[i].bias) check_key_bias(&m, &original);
            free(full);
            free(want);
            tiny_batch_free(&b);
            model_close(&m);
            model_close(&original);
        }
    tape_free(t);
}

/* The same for a model from a file, whose weights are used in place: reordered rows get memory of
 * their own, and together they are the original's. */
static void test_partial_of_a_file(void **state)
{
    struct tape *t = new_tape();
    struct err e = {0};

    for (int v = 0; v < VARIANTS; v++)
        for (int rope_dim = 4; rope_dim <= 8; rope_dim += 4) {
            struct tiny_batch b;
            struct model original, m;
            int32_t pairs[TINY_LAYERS * TINY_HEADS * 4];
            char name[32];

            open_variant(&original, &b, &variants[v]);
            snprintf(name, sizeof name, "file%d-%d", v, rope_dim);
            must(model_save(&original, tmpdir_path(state, name), DT_F32, false, &e), &e);
            must(model_open(&m, tmpdir_path(state, name), &e), &e);
            tiny_pairs(&m, rope_dim, pairs, 11);
            struct reference r = {.pairs = pairs, .kept = rope_dim / 2};
            float *want = reference_logits(&original, &b, rope_dim == 8 ? NULL : &r);
            must(model_to_partial(&m, pairs, rope_dim, &e), &e);
            check(&m, t, &b, want, name, v);
            check_absorbed(&m, want, t, &b, v);
            free(want);
            tiny_batch_free(&b);
            model_close(&original);
            model_close(&m);
        }
    tape_free(t);
}

/* The width at which a latent preserves everything of its part of W. */
static int64_t full_width(const struct model *m, const struct kv_method_info *how)
{
    int64_t nk = m->layers[0].attn.set[TEXT].up_k->t.rows;
    int64_t nv = m->layers[0].attn.set[TEXT].up_v->t.rows;
    int64_t most = how->joint ? nk + nv : nk > nv ? nk : nv;

    return most < TINY_D ? most : TINY_D;
}

/* With every pair kept and full rank it is the original itself, and with full rank and fewer pairs
 * the partial model. If all keys are rotated they cannot have a latent of their own: mdsvd_plan. */
static void test_full_rank(void **state)
{
    struct tape *t = new_tape();

    (void)state;
    for (int i = 0; i < VARIANTS * KV_METHODS * 2 * 2; i++) {
        int v = i / (4 * KV_METHODS), rope_dim = i & 1 ? 8 : 4;
        const struct kv_method_info *how = &kv_methods[i / 4 % KV_METHODS];
        bool decoupled = i & 2;
        int32_t pairs[TINY_LAYERS * TINY_HEADS * 4];
        struct tiny_batch b;
        struct model m;
        char what[64];

        if (rope_dim == 8 && how->key && !how->joint) continue;
        if (variants[v].type && decoupled) continue; /* only one modality */
        open_variant(&m, &b, &variants[v]);
        tiny_pairs(&m, rope_dim, pairs, 11);
        struct reference r = {.pairs = pairs, .kept = rope_dim / 2};
        float *want = reference_logits(&m, &b, rope_dim == 8 ? NULL : &r);
        tiny_partial(&m, rope_dim);
        tiny_mla(&m, (enum kv_method)(how - kv_methods), decoupled, full_width(&m, how));
        assert_int_equal(m.state, ATTN_MLA);
        snprintf(what, sizeof what, "%s, %d dims rotated, %s", kv_method_names[how - kv_methods],
                 rope_dim, decoupled ? "by modality" : "shared");
        check(&m, t, &b, want, what, v);
        check_absorbed(&m, want, t, &b, v);
        free(want);
        tiny_batch_free(&b);
        model_close(&m);
    }
    tape_free(t);
}

/* Rows rows[] (NULL: in order) of `into` become up down, or up if there is no down. */
static void put_product(double *into, const int64_t *rows, const struct param *up,
                        const struct param *down)
{
    double *u = reference_values(up), *d = reference_values(down);
    int64_t n = up->t.rows, r = up->t.cols;

    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < TINY_D; j++) {
            double sum = down ? 0 : u[i * r + j];
            for (int64_t k = 0; down && k < r; k++)
                sum += u[i * r + k] * d[k * TINY_D + j];
            into[(rows ? rows[i] : i) * TINY_D + j] = sum;
        }
    free(u);
    free(d);
}

/* What makes the MLA model's keys and values, as matrices in the original's shape. */
static void take_factors(struct reference *r, const struct model *mla, const struct model *full)
{
    for (int64_t l = 0; l < TINY_LAYERS; l++)
        for (int s = 0; s < MODALITIES; s++) {
            const struct kv_set *set = &mla->layers[l].attn.set[model_sets(mla) > 1 ? s : TEXT];
            int64_t rows[TINY_D];
            r->k[l][s] = reference_values(full->layers[l].attn.k);
            r->v[l][s] = reference_values(full->layers[l].attn.v);
            assert_int_equal(unrotated_rows(mla, l, rows), set->up_k->t.rows);
            put_product(r->k[l][s], rows, set->up_k, set->down[0]);
            put_product(r->v[l][s], NULL, set->up_v, set->down[1]);
        }
}

static void reference_free(struct reference *r)
{
    for (int l = 0; l < TINY_LAYERS; l++)
        for (int s = 0; s < MODALITIES; s++) {
            free(r->k[l][s]);
            free(r->v[l][s]);
        }
}

/* Factors that truncate: each modality's keys and values come from its own product up down. */
static void test_low_rank(void **state)
{
    struct tape *t = new_tape();

    (void)state;
    for (int i = 0; i < VARIANTS * KV_METHODS * 2; i++) {
        int v = i / (2 * KV_METHODS);
        const struct kv_method_info *how = &kv_methods[i / 2 % KV_METHODS];
        bool decoupled = i & 1;
        struct tiny_batch b;
        struct model m, full;
        char what[64];

        if (variants[v].type && decoupled) continue;
        open_variant(&m, &b, &variants[v]);
        tiny_batch_free(&b);
        open_variant(&full, &b, &variants[v]);
        tiny_partial(&m, 4);
        /* one kv head has 4 unrotated dims: a wider latent would contain zeros */
        tiny_mla(&m, (enum kv_method)(how - kv_methods), decoupled, variants[v].kv_heads + 1);
        struct reference r = {.pairs = m.pairs, .kept = 2};
        float *partial = reference_logits(&full, &b, &r);
        take_factors(&r, &m, &full);
        float *want = reference_logits(&full, &b, &r);
        bool cuts = how->key || how->value;
        assert_int_equal(tiny_distance(partial, want, b.b.batch.tokens * TINY_VOCAB) > 1e-3, cuts);
        snprintf(what, sizeof what, "%s, %s", kv_method_names[how - kv_methods],
                 decoupled ? "by modality" : "shared");
        check(&m, t, &b, want, what, v);
        free(partial);
        free(want);
        reference_free(&r);
        tiny_batch_free(&b);
        model_close(&m);
        model_close(&full);
    }
    tape_free(t);
}

/* The last step: absorbed over a cache of latents, then saved and reopened. */
static void test_absorbed_and_saved(void **state)
{
    struct tape *t = new_tape();
    struct err e = {0};

    for (int v = 0; v < VARIANTS; v++) {
        bool decoupled = !variants[v].type;
        struct mha2mla_config section = {.partial_rope_version = "mkl",
                                         .rope_dim_for_mla = 4,
                                         .svd_init_method = "joint",
                                         .low_rank = 2,
                                         .decoupled = decoupled};
        struct tiny_batch b;
        struct model m, full, again;
        char name[32];

        open_variant(&m, &b, &variants[v]);
        tiny_batch_free(&b);
        open_variant(&full, &b, &variants[v]);
        tiny_partial(&m, 4);
        tiny_mla(&m, KV_JOINT, decoupled, variants[v].kv_heads + 1);
        struct reference r = {.pairs = m.pairs, .kept = 2};
        take_factors(&r, &m, &full);
        float *want = reference_logits(&full, &b, &r);
        check_absorbed(&m, want, t, &b, v);
        must(hf_config_set_mha2mla(&m.cfg, &section, &e), &e);
        snprintf(name, sizeof name, "model%d", v);
        must(model_save(&m, tmpdir_path(state, name), DT_F32, false, &e), &e);
        must(model_open(&again, tmpdir_path(state, name), &e), &e);
        check_absorbed(&again, want, t, &b, v);
        check(&again, t, &b, want, "saved and read", v);
        free(want);
        reference_free(&r);
        tiny_batch_free(&b);
        model_close(&m);
        model_close(&full);
        model_close(&again);
    }
    tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partial),       tmpdir_test(test_partial_of_a_file),
        cmocka_unit_test(test_full_rank),     cmocka_unit_test(test_low_rank),
        tmpdir_test(test_absorbed_and_saved),
    };

    return cmocka_run_group_tests_name("conversion", tests, NULL, NULL);
}
