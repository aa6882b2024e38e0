/* test_accumulation.c - cutting a batch into micro-batches gives the same step: the loss is divided
 * by the number of labels in all of them. The samples have 1 to 16 labelled words, with and without
 * an image, so that averaging the micro-batches' means would give a different step. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "tests/tmpdir.h"
#include "train/peft.h"
#include "train/trainer.h"

#include "tests/tiny_run.h"

enum { SAMPLES = 16 };

/* The result of a step: its loss and gradient norm, and everything trained. */
struct outcome {
    double loss, norm;
    float *values;
    int64_t n;
};

static void write_samples(void *const *state)
{
    FILE *fp = fopen(tmpdir_path(state, "lengths.json"), "w");

    assert_non_null(fp);
    for (int i = 0; i < SAMPLES; i++) {
        bool picture = i % 3 == 0;
        fprintf(fp, "{%s\"conversations\":[{\"from\":\"human\",\"value\":\"%sSay %d.\"},",
                picture ? "\"image\":\"a.png\"," : "", picture ? "<image>\\n" : "", i);
        fprintf(fp, "{\"from\":\"gpt\",\"value\":\"");
        for (int k = 0; k <= i; k++)
            fprintf(fp, k % 2 ? " red" : " two");
        fprintf(fp, "\"}]}\n");
    }
    assert_int_equal(fclose(fp), 0);
}

static bool take_line(void *arg, const struct metrics_line *l, struct err *e)
{
    struct outcome *o = arg;

    (void)e;
    if (strcmp(metrics_text(l, "event"), "train") != 0) return true;
    o->loss = metrics_number(l, "loss");
    o->norm = metrics_number(l, "grad_norm");
    return true;
}

/* Factors that are all zero would have no gradient. */
static void fill_factors(struct model *m)
{
    struct rng rng;

    rng_seed(&rng, 5, 0);
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = &m->params[i];
        if (p->kind != PARAM_DOWN && p->kind != PARAM_UP_K && p->kind != PARAM_UP_V) continue;
        for (int64_t k = 0; k < tensor_count(&p->t); k++)
            tensor_real(&p->t)[k] = (float)(0.2 * rng_normal(&rng));
    }
}

static void keep_values(const struct model *m, struct outcome *o)
{
    for (int64_t i = 0; i < m->n_params; i++)
        if (m->params[i].t.needs_grad) o->n += tensor_count(&m->params[i].t);
    o->values = malloc((size_t)o->n * sizeof *o->values);
    assert_non_null(o->values);
    float *at = o->values;
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        if (!p->t.needs_grad) continue;
        memcpy(at, p->own, (size_t)tensor_count(&p->t) * sizeof *at);
        at += tensor_count(&p->t);
    }
}

/* One step over the 16 samples, `micro` at a time. With eps 1, AdamW moves each value by roughly
 * its gradient, so that the values reveal it; a small eps would only reveal its sign. */
static struct outcome one_step(void *const *state, bool mla, int micro)
{
    char train[1400], cut[64];
    const char *const more[] = {train,
                                cut,
                                "data.eval=[]",
                                "baseline.batch_size=16",
                                "baseline.steps=1",
                                "baseline.lr=1",
                                "optim.eps=1",
                                "optim.clip=0",
                                NULL};
    struct train_job job = {.point = "p", .phase = "baseline", .index = 0};
    struct outcome o = {0};
    struct model m = {0};
    struct run r;
    struct err e = {0};
    bool ok;

    write_samples(state);
    snprintf(train, sizeof train, "data.train=[{\"path\":\"%s\"}]",
             tmpdir_path(state, "lengths.json"));
    snprintf(cut, sizeof cut, "baseline.micro_batch=%d", micro);
    tiny_run(&r, state, more);
    job.p = &r.c.baseline;
    job.dir = r.c.run.dir;
    job.kinds =
        mla ? peft_kinds(PEFT_KV_ROPE, true) : peft_kinds(PEFT_ALL, true) | 1u << PARAM_VISION;
    ok = file_mkdirs(r.c.run.dir, &e) &&
         metrics_open(&r.metrics, tmpdir_path(state, "run/metrics.jsonl"), &e) &&
         make_baseline_model(&r, &m, &e) && run_open_data(&r, &m.cfg, &e);
    if (ok && mla) {
        tiny_convert(&m, 8, 4);
        fill_factors(&m);
    }
    ok = ok && run_open_pictures(&r, &m, !mla, &e) && train_model(&r, &m, &job, &e) &&
         metrics_each(tmpdir_path(state, "run/metrics.jsonl"), take_line, &o, &e);
    if (!ok) fail_msg("%s", e.msg);
    assert_int_equal(r.train.n, SAMPLES);
    keep_values(&m, &o);
    model_close(&m);
    run_close(&r);
    assert_int_equal(nftw(tmpdir_path(state, "run"), tmpdir_remove_one, 8, FTW_DEPTH), 0);
    return o;
}

/* fp32 sums in a different order differ by some 1e-7 of the terms; ten times that is allowed, plus
 * cancellation in a gradient. A mean of means is off by 1e-2 and more. */
static void assert_same_step(const struct outcome *a, const struct outcome *b)
{
    double most = 0, moved = 0;

    assert_true(a->loss > 0.1 && a->norm > 0.01);
    assert_true(fabs(a->loss - b->loss) <= 2e-6 * a->loss);
    assert_true(fabs(a->norm - b->norm) <= 1e-5 * a->norm);
    assert_int_equal(a->n, b->n);
    for (int64_t i = 0; i < a->n; i++) {
        most = fmax(most, fabs((double)a->values[i] - (double)b->values[i]));
        moved = fmax(moved, fabs((double)a->values[i]));
    }
    if (most > 2e-6 * fmax(moved, 1)) fail_msg("a value differs by %g of %g", most, moved);
}

static void same_steps(void *const *state, bool mla)
{
    static const int micro[] = {16, 8, 5, 1}; /* with 5, the last has one sample */
    struct outcome whole = one_step(state, mla, 0);

    for (size_t i = 0; i < sizeof micro / sizeof *micro; i++) {
        struct outcome cut = one_step(state, mla, micro[i]);
        assert_same_step(&whole, &cut);
        free(cut.values);
    }
    free(whole.values);
}

static void test_all(void **state)
{
    same_steps(state, false);
}

static void test_mla(void **state)
{
    same_steps(state, true);
}

/* A step that does not fit says what can be made smaller. */
static void test_no_room(void **state)
{
    const char *const more[] = {"baseline.batch_size=4", "data.eval=[]", NULL};
    struct train_job job = {.point = "p", .phase = "baseline", .index = 0};
    struct model m = {0};
    struct run r;
    struct err e = {0};

    tiny_run(&r, state, more);
    job.p = &r.c.baseline;
    job.dir = r.c.run.dir;
    job.kinds = peft_kinds(PEFT_ALL, true);
    if (!file_mkdirs(r.c.run.dir, &e) ||
        !metrics_open(&r.metrics, tmpdir_path(state, "run/metrics.jsonl"), &e) ||
        !make_baseline_model(&r, &m, &e) || !run_open_data(&r, &m.cfg, &e) ||
        !run_open_pictures(&r, &m, false, &e))
        fail_msg("%s", e.msg);
    r.memory_limit = 1 << 16;
    assert_false(train_model(&r, &m, &job, &e));
    if (!strstr(e.msg, "p baseline: one step needs") ||
        !strstr(e.msg, ": try a smaller micro_batch or data.max_length"))
        fail_msg("%s", e.msg);
    model_close(&m);
    run_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_all), tmpdir_test(test_mla),
                                       tmpdir_test(test_no_room)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
