/* choose.c - see choose.h. */
#include "talk/choose.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

bool choose_open(struct choose *c, const struct sampling *how, uint64_t seed, int64_t vocab,
                 struct err *e)
{
    *c = (struct choose){.how = *how, .vocab = vocab};
    rng_seed(&c->rng, seed, 0);
    c->seen = mem_new((size_t)vocab, sizeof *c->seen, "the choice of tokens", e);
    c->sort = mem_new((size_t)vocab, sizeof *c->sort, "the choice of tokens", e);
    return c->seen && c->sort;
}

void choose_close(struct choose *c)
{
    free(c->seen);
    free(c->sort);
    memset(c, 0, sizeof *c);
}

void choose_saw(struct choose *c, int32_t id)
{
    if (id >= 0 && id < c->vocab) c->seen[id] = 1;
}

void choose_begin(struct choose *c, const int32_t *ids, int64_t n)
{
    memset(c->seen, 0, (size_t)c->vocab);
    for (int64_t i = 0; i < n; i++)
        choose_saw(c, ids[i]);
}

static void punish(const struct choose *c, real *logits)
{
    const real by = (real)c->how.penalty;

    for (int64_t i = 0; i < c->vocab; i++)
        if (c->seen[i]) logits[i] = logits[i] > 0 ? logits[i] / by : logits[i] * by;
}

/* The largest first; of equal ones the smaller id, so that the order is the same everywhere. */
static int by_size(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;

    if (x->x != y->x) return x->x < y->x ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Turns the first n candidates' logits into probabilities exp((x - largest) / temperature), not
 * normalised; returns their sum. The difference comes first: x / temperature may be infinite. */
static double exponents(struct candidate *sort, int64_t n, double temperature)
{
    const double largest = sort[0].x;
    double sum = 0;

    for (int64_t i = 0; i < n; i++)
        sum += sort[i].x = exp((sort[i].x - largest) / temperature);
    return sum;
}

/* How many of the first n are needed for the share p of their sum, which
 * becomes the sum of these. */
static int64_t nucleus(const struct candidate *sort, int64_t n, double p, double *sum)
{
    const double enough = p * *sum;
    double before = 0;
    int64_t kept = 0;

    while (kept < n && (kept == 0 || before < enough))
        before += sort[kept++].x;
    *sum = before;
    return kept;
}

static int32_t draw(struct choose *c, const real *logits)
{
    struct candidate *sort = c->sort;
    int64_t n = c->vocab, at = 0;
    double sum, left;

    for (int64_t i = 0; i < n; i++)
        sort[i] = (struct candidate){(double)logits[i], (int32_t)i};
    qsort(sort, (size_t)n, sizeof *sort, by_size);
    if (c->how.top_k && c->how.top_k < n) n = c->how.top_k;
    sum = exponents(sort, n, c->how.temperature);
    if (c->how.top_p < 1) n = nucleus(sort, n, c->how.top_p, &sum);
    left = rng_uniform(&c->rng) * sum;
    while (at + 1 < n && (left -= sort[at].x) >= 0)
        at++;
    return sort[at].id;
}

int32_t choose_next(struct choose *c, real *logits)
{
    int64_t best = 0;

    if (c->how.penalty != 1) punish(c, logits);
    if (c->how.temperature > 0) return draw(c, logits);
    for (int64_t i = 1; i < c->vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return (int32_t)best;
}
