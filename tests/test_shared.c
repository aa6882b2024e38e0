/* test_shared.c - heads and layers that keep different numbers of pairs, as one key for all heads:
 * with all pairs kept the model is the original, with some the one that rotates these; then factors
 * of full rank, the absorbed cache, and the model saved and opened again. LLaVA and text models,
 * MHA and GQA, with and without biases.
 *
 * 1e-5 relative throughout, as in test_conversion.c: rows are copied, sums have another order. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <cjson/cJSON.h>

#include "tests/tiny_convert.h"
#include "tests/tiny_reference.h"
#include "tests/tiny_variants.h"
#include "tests/tmpdir.h"

enum { P = 4, MOST = TINY_LAYERS * TINY_HEADS * P };

/* The key, and the same as the reference takes it. */
struct key {
    int64_t n[TINY_LAYERS];
    int32_t pair[MOST], head[MOST], reference[MOST];
    struct shared_key k;
};

/* Pairs of each kv head: all, or as many as in the table. */
static void fill_key(struct key *k, int G, bool all)
{
    static const int numbers[][TINY_LAYERS][TINY_HEADS] = {
        [1] = {{1}, {3}}, [2] = {{1, 3}, {2, 0}}, [4] = {{1, 2, 3, 0}, {3, 0, 1, 0}}};
    int at = 0;

    *k = (struct key){.n = {0}};
    for (int l = 0; l < TINY_LAYERS; l++) {
        for (int i = 0; i < P; i++)
            for (int g = 0; g < G; g++) {
                const bool kept = all || (i + l + g) % P < numbers[G][l][g];
                k->reference[(l * G + g) * P + i] = kept ? i : -1;
                if (!kept) continue;
                k->pair[at] = i;
                k->head[at++] = g;
                k->n[l]++;
            }
    }
    k->k = (struct shared_key){k->n, k->pair, k->head};
}

static void check(struct model *m, const struct tiny_batch *b, const float *want, const char *what,
                  int variant)
{
    struct tape *t = new_tape();
    float *got = tiny_logits(m, t, &b->f);
    double d = tiny_distance(want, got, b->b.batch.tokens * TINY_VOCAB);

    if (!(d < 1e-5)) fail_msg("variant %d, %s: %g", variant, what, d);
    free(got);
    check_absorbed(m, want, t, b, variant);
    tape_free(t);
}

static void to_shared(struct model *m, const struct key *k)
{
    struct err e = {0};
    int64_t width[3], sum = 0;

    must(model_to_shared(m, &k->k, &e), &e);
    for (int l = 0; l < TINY_LAYERS; l++) {
        assert_int_equal(m->layers[l].attn.k->t.rows, 2 * k->n[l]);
        assert_int_equal(m->layers[l].attn.q[0]->t.rows, TINY_HEADS * 2 * k->n[l]);
        assert_int_equal(m->layers[l].attn.q[1]->t.rows, TINY_D);
        model_cache_widths(m, l, width);
        assert_int_equal(width[0], 2 * k->n[l]);
        sum += 2 * k->n[l];
    }
    assert_int_equal(m->rope_dim, sum / TINY_LAYERS);
}

static void test_all(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        struct tiny_batch b;
        struct model m;
        struct key k;
        open_variant(&m, &b, &variants[v]);
        float *want = reference_logits(&m, &b, NULL);
        fill_key(&k, variants[v].kv_heads, true);
        to_shared(&m, &k);
        assert_null(m.rope_dims);
        for (int64_t i = 0; i < tensor_count(&m.layers[1].attn.set[TEXT].up_k->t); i++)
            assert_true(tensor_real(&m.layers[1].attn.set[TEXT].up_k->t)[i] == 0);
        check(&m, &b, want, "all", v);
        free(want);
        tiny_batch_free(&b);
        model_close(&m);
    }
}

static void test_uneven(void **state)
{
    struct err e = {0};

    for (int v = 0; v < VARIANTS * 2; v++) {
        const struct variant *kind = &variants[v / 2];
        const bool decoupled = v % 2 && !kind->type;
        struct mha2mla_config section = {.partial_rope_version = "mkl",
                                         .rope_basis = "cross",
                                         .svd_init_method = "joint",
                                         .low_rank = TINY_D / kind->kv_heads,
                                         .decoupled = decoupled};
        struct reference r = {.kept = P};
        struct tiny_batch b;
        struct model m, opened;
        struct key k;
        char name[32];
        open_variant(&m, &b, kind);
        fill_key(&k, kind->kv_heads, false);
        r.pairs = k.reference;
        float *want = reference_logits(&m, &b, &r);
        to_shared(&m, &k);
        assert_non_null(m.rope_dims);
        check(&m, &b, want, "partial", v);
        tiny_mla(&m, KV_JOINT, decoupled, TINY_D);
        check(&m, &b, want, "factors", v);
        section.rope_dim_for_mla = m.rope_dim;
        snprintf(name, sizeof name, "m%d", v);
        must(hf_config_set_mha2mla(&m.cfg, &section, &e), &e);
        must(model_save(&m, tmpdir_path(state, name), DT_F32, false, &e), &e);
        must(model_open(&opened, tmpdir_path(state, name), &e), &e);
        assert_memory_equal(opened.rope_dims, m.rope_dims, TINY_LAYERS * sizeof *m.rope_dims);
        check(&opened, &b, want, "opened", v);
        free(want);
        tiny_batch_free(&b);
        model_close(&opened);
        model_close(&m);
    }
}

/* Lists that do not make up the width of the settings are refused, with what is needed. */
static void test_bad_lists(void **state)
{
    struct mha2mla_config section = {
        .partial_rope_version = "mkl", .rope_basis = "cross", .svd_init_method = "none"};
    struct tiny_batch b;
    struct model m, opened;
    struct key k;
    struct err e = {0};
    char *text, *at;
    size_t size;

    open_variant(&m, &b, &variants[1]);
    fill_key(&k, variants[1].kv_heads, false);
    to_shared(&m, &k);
    section.rope_dim_for_mla = m.rope_dim;
    must(hf_config_set_mha2mla(&m.cfg, &section, &e), &e);
    must(model_save(&m, tmpdir_path(state, "m"), DT_F32, false, &e), &e);
    text = slurp(tmpdir_path(state, "m/config.json"), &size);
    at = strstr(text, "\"rope_dim_for_mla\":");
    assert_non_null(at);
    at = strpbrk(at, "0123456789");
    *at = (char)(*at == '2' ? '4' : '2');
    spill(tmpdir_path(state, "m/config.json"), text, size);
    assert_false(model_open(&opened, tmpdir_path(state, "m"), &e));
    if (!strstr(e.msg, "rope_pairs: another number of pairs in all")) fail_msg("%s", e.msg);
    free(text);
    tiny_batch_free(&b);
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test_setup_teardown(test_uneven, tmpdir_make, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_bad_lists, tmpdir_make, tmpdir_remove),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
