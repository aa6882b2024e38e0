/* test_likelihood.c - continuations of one prompt by likelihood (model/likelihood.h): each scores
 * as it does in a sample of its own, whatever was scored before it, in every state of attention. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/likelihood.h"
#include "tests/tiny_convert.h"
#include "tests/tiny_model.h"

enum { SAMPLES = 3, OPTIONS = 3 };

static const char *const drawn[SAMPLES] = {"tttitt|TTT", "ttt|TTTT", "itt|TT"};

/* The trained tokens of a sample, or the first n of them. */
static struct continuation continuation_of(const struct sample *s, int64_t n)
{
    const int64_t all = s->n - s->prompt;

    return (struct continuation){s->ids + s->prompt, n < all ? n : all};
}

static void check(struct model *m, struct tape *t, const char *name)
{
    struct generate_stats stats = {0};
    const struct generator g = {.m = m, .t = t, .stats = &stats};
    struct continuation o[OPTIONS * SAMPLES];
    struct batch_buffer prompts = {0};
    struct token_score each[20];
    struct tiny_batch all;
    struct forward f;
    double logp[OPTIONS * SAMPLES], want[SAMPLES] = {0}, first[SAMPLES];
    struct err e = {0};
    int64_t k = 0;

    tiny_batch(&all, drawn, SAMPLES, 8);
    must(model_score(&g, &all.f, each, &e), &e);
    for (int64_t s = 0; s < SAMPLES; s++) {
        first[s] = -each[k].loss;
        for (; k < all.b.batch.labels && all.b.batch.label_rows[k] < all.b.batch.begin[s + 1]; k++)
            want[s] -= each[k].loss;
        o[s] = continuation_of(&all.s[s], 9);
        o[SAMPLES + s] = continuation_of(&all.s[s], s == 1 ? 0 : 1);
        o[2 * SAMPLES + s] = o[s];
    }
    must(batch_fill(&prompts, all.s, SAMPLES, true, &e), &e);
    f = all.f;
    f.batch = &prompts.batch;
    must(model_likelihood(&g, &f, o, OPTIONS, logp, &e), &e);
    for (int s = 0; s < SAMPLES; s++) {
        /* 1e-3 a token: as the scores of whole samples against their logits, test_model.c */
        if (!(fabs(logp[s] - want[s]) < 4e-3)) fail_msg("%s: %g, not %g", name, logp[s], want[s]);
        if (s != 1 && !(fabs(logp[SAMPLES + s] - first[s]) < 1e-3))
            fail_msg("%s: first token %g, not %g", name, logp[SAMPLES + s], first[s]);
        assert_true(logp[2 * SAMPLES + s] == logp[s]); /* the cache is as it was */
    }
    assert_true(logp[SAMPLES + 1] == 0);
    batch_free(&prompts);
    tiny_batch_free(&all);
}

static void test_likelihood(void **state)
{
    struct tape *t;
    struct err e;

    (void)state;
    t = tape_new(&e);
    assert_non_null(t);
    for (int i = -2; i < 2 * KV_METHODS; i++) { /* FULL, PARTIAL, then the methods */
        const enum kv_method method = i < 0 ? KV_NONE : (enum kv_method)(i / 2);
        char name[100];
        struct model m;
        snprintf(name, sizeof name, "state %d: %s", i, kv_method_names[method]);
        tiny_model(&m, 2, true, 12);
        if (i > -2) tiny_partial(&m, 4);
        if (i >= 0) tiny_mla(&m, method, i % 2, 6);
        check(&m, t, name);
        model_close(&m);
    }
    tape_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_likelihood)};

    return cmocka_run_group_tests_name("likelihood", tests, NULL, NULL);
}
