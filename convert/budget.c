/* budget.c - see budget.h. Sums over takers one after the other, for every total (dynamic
 * programming): the costs need not fall evenly, as sets of pairs of different sizes need not
 * contain each other. */
#include "convert/budget.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* now[j] = the least of was[j - s] + cost[s], pick[j] that s. */
static void take(const struct budget *b, int64_t i, int64_t total, const double *was, double *now,
                 int32_t *pick)
{
    const double *cost = b->cost + i * (b->most + 1);

    for (int64_t j = 0; j <= total; j++) {
        now[j] = INFINITY;
        for (int64_t s = b->least; s <= b->most && s <= j; s++) {
            const double sum = was[j - s] + cost[s];
            if (!(sum < now[j])) continue;
            now[j] = sum;
            pick[j] = (int32_t)s; /* at most a layer's pairs */
        }
    }
}

bool budget_divide(const struct budget *b, int64_t *share, double *sums, struct err *e)
{
    const int64_t total = sums ? b->n * b->most : b->total;
    const size_t row = (size_t)total + 1;
    int32_t *pick = mem_new((size_t)b->n * row, sizeof *pick, "the pairs' budget", e);
    double *was = mem_new(row, sizeof *was, "the pairs' budget", e);
    double *now = mem_new(row, sizeof *now, "the pairs' budget", e);
    bool ok = pick && was && now;

    CHECK(total >= b->n * b->least && total <= b->n * b->most);
    for (size_t j = 1; ok && j < row; j++)
        was[j] = INFINITY;
    for (int64_t i = 0; ok && i < b->n; i++) {
        take(b, i, total, was, now, pick + i * (int64_t)row);
        memcpy(was, now, row * sizeof *was);
    }
    if (ok && sums) memcpy(sums, was, row * sizeof *sums);
    for (int64_t i = b->n - 1, left = total; ok && share && i >= 0; i--)
        left -= share[i] = pick[i * (int64_t)row + left];
    free(pick);
    free(was);
    free(now);
    return ok;
}

/* `of` [L]: the pairs of each layer. */
static bool among_layers(const struct rank_dims *n, const double *cost, int64_t pairs, int64_t *of,
                         struct err *e)
{
    const int64_t P = n->dh / 2, most = n->G * P;
    double *sums = mem_new((size_t)n->L, (size_t)(most + 1) * sizeof *sums, "the pairs' budget", e);
    bool ok = sums;

    for (int64_t l = 0; ok && l < n->L; l++)
        ok = budget_divide(&(struct budget){cost + l * n->G * (P + 1), n->G, 0, P, 0}, NULL,
                           sums + l * (most + 1), e);
    ok = ok && budget_divide(&(struct budget){sums, n->L, 1, most, n->L * pairs}, of, NULL, e);
    free(sums);
    return ok;
}

bool budget_pairs(const struct rank_dims *n, const double *cost, int64_t pairs, bool layers,
                  int64_t *kept, struct err *e)
{
    const int64_t P = n->dh / 2;
    int64_t *of = mem_new((size_t)n->L, sizeof *of, "the pairs' budget", e);
    bool ok = of;

    for (int64_t l = 0; ok && l < n->L; l++)
        of[l] = pairs;
    ok = ok && (!layers || among_layers(n, cost, pairs, of, e));
    for (int64_t l = 0; ok && l < n->L; l++)
        ok = budget_divide(&(struct budget){cost + l * n->G * (P + 1), n->G, 0, P, of[l]},
                           kept + l * n->G, NULL, e);
    free(of);
    return ok;
}
