/* step.c - the cost of one optimiser step and where its time goes:
 *     build/bench/step --config configs/quickstart-published.json [--set KEY=VALUE ...]
 * Takes the config's stage-2 model (freshly converted, not trained; a ranking is made if the run
 * has none), repeats one step on the same batch, and prints tokens/s with its spread, the share of
 * each op, the share of the machine's own fp32 GEMM rate, and memory. The GEMM rate is measured
 * before and after, on a product that fits the caches, with the same threads and the same BLAS. */
#include "autograd/flop.h"
#include "autograd/team.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/lib/converted.h"
#include "bench/lib/measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 7, GEMM_N = 1024, GEMM_REPEATS = 20 };

static void print_shares(struct converted *b, double total)
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

static bool measure(struct converted *b, struct err *e)
{
    double rates[REPEATS], before = gemm_rate(GEMM_N, GEMM_REPEATS, e), begin, after;
    double tokens = (double)b->batch.batch.tokens;
    int inner;

    for (int i = 0; i < 5; i++)
        if (!converted_step(b, e)) return false;
    begin = clock_seconds();
    if (!converted_step(b, e)) return false;
    inner = (int)(0.5 / (clock_seconds() - begin)) + 1; /* half a second per repeat */
    for (int i = 0; i < REPEATS; i++) {
        begin = clock_seconds();
        for (int k = 0; k < inner; k++)
            if (!converted_step(b, e)) return false;
        rates[i] = tokens * inner / (clock_seconds() - begin);
    }
    tape_profile(b->r.tape, true);
    begin = clock_seconds();
    if (!converted_step(b, e)) return false;
    print_shares(b, clock_seconds() - begin);
    after = gemm_rate(GEMM_N, GEMM_REPEATS, e);
    double gemm_best = before > after ? before : after, rate = median(rates, REPEATS),
           used = 1e-9 * flop_all(tape_flop(b->r.tape)) * rate / tokens;
    printf("\nbatch             %lld samples, %lld tokens, %lld labels\n",
           (long long)b->batch.batch.samples, (long long)b->batch.batch.tokens,
           (long long)b->batch.batch.labels);
    printf("tokens/s          %.0f (median of %d; %.0f to %.0f)\n", rate, REPEATS, rates[0],
           rates[REPEATS - 1]);
    printf("needed GFLOP/s    %.1f, %.1f %% of the %.1f that one %d x %d fp32 product reaches "
           "(%.1f, %.1f)\n",
           used, 100 * used / gemm_best, gemm_best, GEMM_N, GEMM_N, before, after);
    printf("memory            %.1f MiB planned for the step, %.1f MiB peak of the process\n",
           (double)tape_bytes(b->r.tape) / 0x1p20, peak_mib());
    printf("threads           %lld, OPENBLAS_CORETYPE=%s\n", (long long)b->r.c.run.threads,
           getenv("OPENBLAS_CORETYPE") ? getenv("OPENBLAS_CORETYPE") : "(not set)");
    return true;
}

int main(int argc, char **argv)
{
    struct converted b = {.r = {.lock = -1}};
    const char *config = "configs/quickstart-published.json",
               **sets = calloc((size_t)argc + 1, sizeof *sets);
    size_t n_sets = 0;
    struct err e = {0};

    team_wait_shortly(argv); /* as the program does */
    CHECK(sets);
    sets[n_sets++] = "run.dir=runs/bench"; /* do not make the ranking in the run's own directory */
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--config") == 0) config = argv[i + 1];
        if (strcmp(argv[i], "--set") == 0) sets[n_sets++] = argv[i + 1];
    }
    bool ok = converted_open(&b, config, sets, n_sets, &e) && measure(&b, &e);
    if (!ok) fprintf(stderr, "bench: error: %s\n", e.msg);
    converted_close(&b);
    free(sets);
    return !ok;
}
