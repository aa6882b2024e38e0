/* measure.c - see measure.h. */
#include "bench/lib/measure.h"
#include "autograd/gemm.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <sys/resource.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double median(double *v, int n)
{
    CHECK(n > 0);
    qsort(v, (size_t)n, sizeof *v, by_value);
    return (v[(n - 1) / 2] + v[n / 2]) / 2;
}

double gemm_rate(int64_t side, int repeats, struct err *e)
{
    size_t n = (size_t)(side * side);
    real *m = mem_new(3 * n, sizeof *m, "a product's matrices", e), *a = m, *b, *c;
    double best = 0;

    if (!m) return -1;
    b = a + n;
    c = b + n;
    for (size_t i = 0; i < n; i++) {
        a[i] = (real)(i % 7) - 3;
        b[i] = (real)(i % 5) - 2;
    }
    for (int i = 0; i <= repeats; i++) {
        double begin = clock_seconds();
        gemm_real(side, side, side, mat_of(a, side, false), mat_of(b, side, true), false, c, side);
        double rate = 2e-9 * (double)side * (double)n / (clock_seconds() - begin);
        if (i && rate > best) best = rate;
    }
    free(m);
    return best;
}

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

double needed_flop(const struct tape *t)
{
    int n;
    struct node *const *nodes = tape_nodes(t, &n);
    double sum = 0;

    for (int i = 0; i < n; i++)
        sum += node_flop(nodes[i]);
    return sum;
}

double peak_mib(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}
