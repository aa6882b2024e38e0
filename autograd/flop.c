/* flop.c - see flop.h. */
#include "autograd/flop.h"
#include "autograd/ops.h"

#include <string.h>

/* The number of keys seen, summed over all queries of an attention. */
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

static bool is(const struct node *n, const char *op)
{
    return strcmp(n->op->name, op) == 0;
}

/* q k^T and p v, which are computed again, and the gradients of the four. */
static struct flop of_attention(const struct node *n)
{
    const struct attention *a = n->args;
    const int64_t width = a->part[0].width + (a->parts > 1 ? a->part[1].width : 0);
    const double pairs = 2 * keys_seen(a) * (double)a->heads;
    const double backward = n->out->needs_grad ? pairs : 0;

    return (struct flop){pairs * (double)(width + a->v_width),
                         backward * (double)(3 * width + 2 * a->v_width)};
}

static struct flop of_node(const struct node *n)
{
    const struct tensor *x = n->in[0], *w = n->in[1] ? n->in[1] : n->in[2]; /* by modality */
    const bool head = is(n, "cross_entropy") || is(n, "distill") || is(n, "top_logits");
    double product;

    if (is(n, "attention")) return of_attention(n);
    if (!is(n, "linear") && !is(n, "modal_linear") && !head) return (struct flop){0, 0};
    product = 2 * (double)x->rows * (double)tensor_count(w);
    return (struct flop){product,
                         product * (x->needs_grad + w->needs_grad + (head && n->out->needs_grad))};
}

struct flop tape_flop(const struct tape *t)
{
    int n;
    struct node *const *nodes = tape_nodes(t, &n);
    struct flop sum = {0, 0};

    for (int i = 0; i < n; i++) {
        const struct flop one = of_node(nodes[i]);
        sum.forward += one.forward;
        sum.backward += one.backward;
    }
    return sum;
}
