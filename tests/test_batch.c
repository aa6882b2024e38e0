/* test_batch.c - samples in one stream, and the order in which they are drawn. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/order.h"
#include "tests/sample_set.h"

/* Two samples in one stream: rows, spans that end with their sample, and each trained token as the
 * label of the row before it. */
static void test_batch(void **state)
{
    static const char json[] =
        "[" SEEN(ASK("<image>one", "two") "," ASK("three", "four")) "," TOLD(ASK("one", "two")) "]";
    struct batch_buffer b = {0};
    struct sample s[2];
    struct set t;
    struct err e;

    set_init(&t, state);
    must(set_open(&t, state, json, &e), &e);
    for (int i = 0; i < 2; i++)
        must(dataset_sample(&t.d, i, &s[i], &e), &e);
    for (int prompts = 0; prompts < 2; prompts++) {
        int64_t row = 0, label = 0, images = 0;
        must(batch_fill(&b, s, 2, prompts, &e), &e);
        assert_int_equal(b.batch.samples, 2);
        for (int i = 0; i < 2; i++) {
            int64_t n = prompts ? s[i].prompt : s[i].n;
            assert_int_equal(b.batch.begin[i], row);
            for (int64_t k = 0; k < n; k++, row++) {
                assert_int_equal(b.batch.ids[row], s[i].ids[k]);
                assert_int_equal(b.batch.positions[row], k);
                images += s[i].kind[k] == IMAGE;
                if (prompts || k + 1 == n || !s[i].trained[k + 1]) continue;
                assert_int_equal(b.batch.label_rows[label], row);
                assert_int_equal(b.batch.label_ids[label++], s[i].ids[k + 1]);
            }
        }
        assert_int_equal(b.batch.begin[2], row);
        assert_int_equal(b.batch.tokens, row);
        assert_int_equal(b.batch.labels, label);
        assert_int_equal(b.batch.labels, prompts ? 0 : t.d.labels);
        assert_int_equal(b.batch.image_tokens, PLACES);
        assert_int_equal(images, PLACES);
        assert_int_equal(b.batch.images, 1);
        assert_int_equal(b.image[0], 0);
        /* the first sample's text, image, text; the second's text */
        assert_int_equal(b.batch.n_spans, 4);
        assert_int_equal(b.batch.spans[1].modality, IMAGE);
        assert_int_equal(b.batch.spans[1].end - b.batch.spans[1].begin, PLACES);
        assert_int_equal(b.batch.spans[2].end, b.batch.begin[1]);
        assert_int_equal(b.batch.spans[3].begin, b.batch.begin[1]);
        assert_int_equal(b.batch.spans[3].end, row);
    }
    for (int i = 0; i < 2; i++)
        sample_free(&s[i]);
    batch_free(&b);
    set_close(&t);
}

/* ---- order ---- */

enum { N = 37 };

static void test_order(void **state)
{
    struct order o, other;
    struct err e;
    int64_t first[2 * N], moved = 0, same = 0;

    (void)state;
    must(order_init(&o, 5, N, &e), &e);
    for (int64_t at = 0; at < (int64_t)2 * N; at++)
        first[at] = order_at(&o, at);
    for (int epoch = 0; epoch < 2; epoch++) { /* every sample once per epoch */
        bool seen[N] = {false};
        for (int i = 0; i < N; i++) {
            int64_t v = first[epoch * N + i];
            assert_true(v >= 0 && v < N && !seen[v]);
            seen[v] = true;
            moved += v != i;
        }
    }
    for (int i = 0; i < N; i++)
        same += first[i] == first[N + i];
    /* A shuffle leaves about one of N in place; N of N only if there is no shuffle. */
    assert_true(moved > 2 * N - 16 && same < 8);
    order_free(&o);
    /* A position determines everything: resuming there continues in the same way. */
    for (int64_t at = 2 * N - 1; at >= 0; at -= 5) {
        must(order_init(&other, 5, N, &e), &e);
        assert_int_equal(order_at(&other, at), first[at]);
        if (at + 1 < 2 * N) assert_int_equal(order_at(&other, at + 1), first[at + 1]);
        assert_int_equal(order_at(&other, at / 3), first[at / 3]); /* backwards too */
        order_free(&other);
    }
    must(order_init(&other, 6, N, &e), &e);
    same = 0;
    for (int64_t at = 0; at < N; at++)
        same += order_at(&other, at) == first[at];
    assert_true(same < 8);
    order_free(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_batch),
        cmocka_unit_test(test_order),
    };

    return cmocka_run_group_tests_name("batch", tests, NULL, NULL);
}
