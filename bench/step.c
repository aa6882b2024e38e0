/* step.c - what one optimiser step costs and where its time goes:
 *     build/bench/step --config configs/quickstart.json [--set KEY=VALUE ...]
 * Takes the config's stage-2 model (converted anew, not trained; a ranking is made where the run
 * has none), repeats one step on the same batch, and prints tokens/s with its spread, the share of
 * each op, the share of the machine's own fp32 GEMM rate, and memory. The GEMM rate is measured
 * before and after, on a product that fits the caches, with the same threads and the same BLAS. */
#include "autograd/gemm.h"
#include "autograd/oplist.h"
#include "base/clock.h"
#include "base/mem.h"
#include "optim/adamw.h"
#include "train/factors.h"
#include "train/peft.h"
#include "train/steps.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { REPEATS = 7, GEMM_N = 1024 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* GFLOP/s of a square fp32 product: the best of some. */
static double gemm_rate(struct err *e)
{
    int64_t n = GEMM_N;
    real *a = mem_new((size_t)(n * n), sizeof *a, "bench", e),
         *b = mem_new((size_t)(n * n), sizeof *b, "bench", e);
    real *c = mem_new((size_t)(n * n), sizeof *c, "bench", e);
    double best = 0;

    CHECK(a && b && c);
    for (int64_t i = 0; i < n * n; i++) {
        a[i] = (real)(i % 7) - 3;
        b[i] = (real)(i % 5) - 2;
    }
    for (int i = 0; i < 20; i++) {
        double begin = clock_seconds();
        gemm(n, n, n, mat_of(a, n, false), mat_of(b, n, true), false, c, n, NULL);
        double rate = 2e-9 * (double)(n * n * n) / (clock_seconds() - begin);
        if (i >= 3 && rate > best) best = rate;
    }
    free(a);
    free(b);
    free(c);
    return best;
}

struct bench {
    struct run r;
    struct model m;
    struct adamw opt;
    struct sample *samples;
    struct batch_buffer batch;
};

/* The keys that all queries of an attention see, summed. */
static double keys_seen(const struct attention *a)
{
    double sum = 0;

    for (int64_t s = 0; s < a->n_samples; s++) {
        int64_t keys = a->samples[s].k_end - a->samples[s].k_begin;
        for (int64_t i = a->samples[s].q_begin; i < a->samples[s].q_end; i++) {
            int64_t seen = 1 + (a->q_index ? a->q_index[i] : i - a->samples[s].q_begin);
            sum += (double)(a->causal && seen < keys ? seen : keys);
        }
    }
    return sum;
}

/* Multiplications and additions of the products of a node, forward and backward: each gradient that
 * is wanted is one product more. The head makes its logits, and attention its scores, once more in
 * the backward pass. */
static double node_flop(const struct node *n)
{
    const struct tensor *x = n->in[0], *w = n->in[1] ? n->in[1] : n->in[2]; /* by modality */

    if (n->op == &attention_op) {
        const struct attention *a = n->args;
        int64_t width = a->part[0].width + (a->parts > 1 ? a->part[1].width : 0);
        double passes = n->out->needs_grad ? 4 : 1; /* q k^T: again, dQ, dK */
        double values = n->out->needs_grad ? 3 : 1; /* p v: dP, dV */
        return 2 * keys_seen(a) * (double)a->heads *
               (passes * (double)width + values * (double)a->v_width);
    }
    if (n->op != &linear_op && n->op != &modal_linear_op && n->op != &cross_entropy_op) return 0;
    return 2 * (double)x->rows * (double)tensor_count(w) *
           (1 + x->needs_grad + w->needs_grad + (n->op == &cross_entropy_op && n->out->needs_grad));
}

static double needed_flop(const struct tape *t)
{
    int n;
    struct node *const *nodes = tape_nodes(t, &n);
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += node_flop(nodes[i]);
    return sum;
}

static bool open_bench(struct bench *b, const char *config, const char **sets, size_t n_sets,
                       struct err *e)
{
    struct run *r = &b->r;
    struct point p;
    struct model base = {0};
    struct made_factors f = {0};
    struct tensor **trained;
    int64_t n = 0, size;
    bool ok;

    if (!schema_load(&config_schema, &r->c, config, sets, n_sets, e)) return false;
    p = config_point(&r->c, 0);
    ok = run_limits(r, e) && open_base_model(r, &base, e) && run_open_data(r, &base.cfg, e) &&
         run_open_pictures(r, &base, false, e) && step_rank(r, e);
    model_close(&base);
    ok = ok && open_untrained_partial(r, &p, &b->m, e) && factors_make(&f, r, &b->m, &p, e) &&
         factors_apply(&f, r, &p, &b->m, e) &&
         model_train(&b->m, peft_kinds(r->c.stage2.peft, r->c.stage2.projector), e);
    factors_free(&f);
    if (!ok) return false;
    trained = mem_new((size_t)b->m.n_params, sizeof *trained, "bench", e);
    size = r->c.stage2.batch_size;
    b->samples = mem_new((size_t)size, sizeof *b->samples, "bench", e);
    if (!trained || !b->samples) return false;
    for (int64_t i = 0; i < b->m.n_params; i++)
        if (b->m.params[i].t.needs_grad) trained[n++] = &b->m.params[i].t;
    ok = adamw_init(&b->opt, trained, n, (enum moment_type)b->r.c.optim.state, e);
    free(trained);
    for (int64_t i = 0; ok && i < size; i++)
        ok = dataset_sample(&r->train, i % r->train.n, &b->samples[i], e);
    return ok && batch_fill(&b->batch, b->samples, size, false, e);
}

static bool step(struct bench *b, struct err *e)
{
    struct tensor *loss;

    tape_begin(b->r.tape, true);
    loss = train_graph(&b->r, &b->m, &b->r.train, &b->batch, 1 / (double)b->batch.batch.labels, e);
    if (!loss || !tape_plan(b->r.tape, 0, e)) return false;
    tape_forward(b->r.tape);
    tape_backward(b->r.tape, loss);
    adamw_grad_norm(&b->opt);
    adamw_step(&b->opt, 0, 1); /* rate 0: every repeat does the same work */
    return true;
}

static void print_shares(struct bench *b, double total)
{
    int n;
    const struct op_time *t = tape_times(b->r.tape, &n);
    double seen = 0;

    printf("%-20s %10s %10s %8s\n", "op", "forward", "backward", "share");
    for (int i = 0; i < n; i++) {
        seen += t[i].forward + t[i].backward;
        printf("%-20s %7.2f ms %7.2f ms %6.1f %%\n", t[i].op->name, 1e3 * t[i].forward,
               1e3 * t[i].backward, 100 * (t[i].forward + t[i].backward) / total);
    }
    printf("%-20s %31.1f %%\n", "graph, plan, AdamW", 100 * (total - seen) / total);
}

static bool measure(struct bench *b, struct err *e)
{
    double rates[REPEATS], before = gemm_rate(e), begin, after;
    double tokens = (double)b->batch.batch.tokens;
    struct rusage usage;
    int inner;

    for (int i = 0; i < 5; i++)
        if (!step(b, e)) return false;
    begin = clock_seconds();
    if (!step(b, e)) return false;
    inner = (int)(0.5 / (clock_seconds() - begin)) + 1; /* half a second a repeat */
    for (int i = 0; i < REPEATS; i++) {
        begin = clock_seconds();
        for (int k = 0; k < inner; k++)
            if (!step(b, e)) return false;
        rates[i] = tokens * inner / (clock_seconds() - begin);
    }
    tape_profile(b->r.tape, true);
    begin = clock_seconds();
    if (!step(b, e)) return false;
    print_shares(b, clock_seconds() - begin);
    after = gemm_rate(e);
    qsort(rates, REPEATS, sizeof *rates, by_value);
    getrusage(RUSAGE_SELF, &usage);
    double gemm_best = before > after ? before : after,
           used = 1e-9 * needed_flop(b->r.tape) * rates[REPEATS / 2] / tokens;
    printf("\nbatch             %lld samples, %lld tokens, %lld labels\n",
           (long long)b->batch.batch.samples, (long long)b->batch.batch.tokens,
           (long long)b->batch.batch.labels);
    printf("tokens/s          %.0f (median of %d; %.0f to %.0f)\n", rates[REPEATS / 2], REPEATS,
           rates[0], rates[REPEATS - 1]);
    printf("needed GFLOP/s    %.1f, %.1f %% of the %.1f that one %d x %d fp32 product reaches "
           "(%.1f, %.1f)\n",
           used, 100 * used / gemm_best, gemm_best, GEMM_N, GEMM_N, before, after);
    printf("memory            %.1f MiB planned for the step, %.1f MiB peak of the process\n",
           (double)tape_bytes(b->r.tape) / 0x1p20, (double)usage.ru_maxrss / 1024);
    printf("threads           %lld, OPENBLAS_CORETYPE=%s\n", (long long)b->r.c.run.threads,
           getenv("OPENBLAS_CORETYPE") ? getenv("OPENBLAS_CORETYPE") : "(not set)");
    return true;
}

int main(int argc, char **argv)
{
    struct bench b = {.r = {.lock = -1}};
    const char *config = "configs/quickstart.json", **sets = calloc((size_t)argc + 1, sizeof *sets);
    size_t n_sets = 0;
    struct err e = {0};

    CHECK(sets);
    sets[n_sets++] = "run.dir=runs/bench"; /* the run's own ranking is not to come from here */
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--config") == 0) config = argv[i + 1];
        if (strcmp(argv[i], "--set") == 0) sets[n_sets++] = argv[i + 1];
    }
    bool ok = open_bench(&b, config, sets, n_sets, &e) && measure(&b, &e);
    if (!ok) fprintf(stderr, "bench: error: %s\n", e.msg);
    adamw_free(&b.opt);
    for (int64_t i = 0; b.samples && i < b.r.c.stage2.batch_size; i++)
        sample_free(&b.samples[i]);
    free(b.samples);
    batch_free(&b.batch);
    model_close(&b.m);
    run_close(&b.r);
    free(sets);
    return !ok;
}
