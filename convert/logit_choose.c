/* logit_choose.c - the choice of logit.h. A query head's F, with e appended as one more variable,
 * is kept partialled by the rotations of the pairs in N: the sweep operator (Dempster, Elements of
 * Continuous Multivariate Analysis, 1969), symmetric and its own inverse but for a sign, so that a
 * pair joins or leaves N in (m + 1)^2 products, and what a candidate would cost is read
 * off a few elements. */
#include "base/mem.h"
#include "convert/eigen.h"
#include "convert/logit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double RIDGE = 1e-3; /* as in rotation.c */

/* A kv head's pairs as some of them are in N. */
struct state {
    int64_t P, heads, w; /* query heads; m + 1 */
    bool rotates;
    double *f;    /* [heads, w, w] */
    int32_t *out; /* [P]: 1 for pairs in N */
};

static double *of_head(const struct state *s, int64_t h)
{
    return s->f + h * s->w * s->w;
}

/* Places of pair i's a and b, and of its d. */
static int64_t place_d(const struct state *s, int64_t i)
{
    return (s->rotates ? 2 * s->P : 0) + i;
}

/* Sweeps f on variable k, or back (sign -1). A variable without variance explains nothing. */
static void sweep(double *f, int64_t w, int64_t k, double sign)
{
    const double pivot = f[k * w + k];

    if (!(pivot * sign > 0)) return;
    for (int64_t i = 0; i < w; i++) {
        const double by = f[i * w + k] / pivot;
        if (i == k) continue;
        for (int64_t j = 0; j < w; j++)
            if (j != k) f[i * w + j] -= by * f[k * w + j];
    }
    for (int64_t i = 0; i < w; i++) {
        f[i * w + k] *= sign / pivot;
        if (i != k) f[k * w + i] = f[i * w + k];
    }
    f[k * w + k] = -1 / pivot;
}

/* e += by * d_i */
static void add_to_e(double *f, int64_t w, int64_t d, double by)
{
    const int64_t e = w - 1;
    const double corner = f[e * w + e] + 2 * by * f[e * w + d] + by * by * f[d * w + d];

    for (int64_t j = 0; j < e; j++)
        f[j * w + e] = f[e * w + j] += by * f[d * w + j];
    f[e * w + e] = corner;
}

/* Pair i joins N, or leaves it. */
static void move(struct state *s, int64_t i, bool out)
{
    for (int64_t h = 0; h < s->heads; h++) {
        double *f = of_head(s, h);
        add_to_e(f, s->w, place_d(s, i), out ? 1 : -1);
        if (!s->rotates) continue;
        sweep(f, s->w, i, out ? 1 : -1);
        sweep(f, s->w, s->P + i, out ? 1 : -1);
    }
    s->out[i] = out;
}

/* What the head loses now. */
static double loses(const struct state *s)
{
    double sum = 0;

    for (int64_t h = 0; h < s->heads; h++)
        sum += of_head(s, h)[s->w * s->w - 1];
    return sum;
}

/* Of u [2] by B = [[x, z], [z, y]]: u^T B^-1 u, as two sweeps would have it. */
static double explained(double u, double v, double x, double y, double z)
{
    double sum = 0;

    if (x > 0) {
        sum += u * u / x;
        v -= z / x * u;
        y -= z / x * z;
    }
    return y > 0 ? sum + v * v / y : sum;
}

/* What it would lose with pair i in N too. */
static double would_lose(const struct state *s, int64_t i)
{
    const int64_t w = s->w, e = w - 1, d = place_d(s, i), a = i, b = s->P + i;
    double sum = 0;

    for (int64_t h = 0; h < s->heads; h++) {
        const double *f = of_head(s, h);
        sum += f[e * w + e] + 2 * f[e * w + d] + f[d * w + d];
        if (s->rotates)
            sum -= explained(f[e * w + a] + f[d * w + a], f[e * w + b] + f[d * w + b], f[a * w + a],
                             f[b * w + b], f[a * w + b]);
    }
    return sum;
}

/* The pair whose joining costs least; the first of equal ones. */
static int64_t cheapest(const struct state *s, double *cost)
{
    int64_t least = -1;

    for (int64_t i = 0; i < s->P; i++) {
        const double now = s->out[i] ? INFINITY : would_lose(s, i);
        if (s->out[i] || (least >= 0 && now >= *cost)) continue;
        least = i;
        *cost = now;
    }
    return least;
}

static void copy(struct state *to, const struct state *from)
{
    memcpy(to->f, from->f, (size_t)(from->heads * from->w * from->w) * sizeof *to->f);
    memcpy(to->out, from->out, (size_t)from->P * sizeof *to->out);
}

/* The best of the swaps of one pair in N for another, if it saves a thousandth:
 * whether there is one. */
static bool swap(struct state *s, struct state *trial)
{
    const double now = loses(s);
    double best = (1 - 1e-3) * now;
    int64_t leaves = -1, joins = -1;

    for (int64_t i = 0; i < s->P && now > 0; i++) {
        double cost;
        int64_t k;
        if (!s->out[i]) continue;
        copy(trial, s);
        move(trial, i, false);
        k = cheapest(trial, &cost);
        if (k < 0 || k == i || cost >= best) continue;
        best = cost;
        leaves = i;
        joins = k;
    }
    if (leaves < 0) return false;
    move(s, leaves, false);
    move(s, joins, true);
    return true;
}

/* Elimination goes on from `s`, swaps are made in `swapped`. */
static void choose(struct state *s, struct state *swapped, struct state *trial, int32_t *chosen,
                   double *cost)
{
    const int64_t P = s->P;

    cost[P] = 0;
    for (int64_t i = 0; i < P; i++)
        chosen[(P - 1) * P + i] = 1;
    for (int64_t kept = P - 1; kept >= 0; kept--) {
        double now;
        move(s, cheapest(s, &now), true);
        copy(swapped, s);
        for (int64_t i = 0; i < P && kept > 0 && swap(swapped, trial); i++)
            ;
        cost[kept] = loses(swapped) > 0 ? loses(swapped) : 0;
        for (int64_t i = 0; kept > 0 && i < P; i++)
            chosen[(kept - 1) * P + i] = !swapped->out[i];
    }
}

/* F of a query head with the ridge on x, and room for e; both triangles. */
static bool load_head(const struct logit *m, int64_t h, double *f, struct err *e)
{
    const int64_t w = m->m + 1, P = m->n.dh / 2;
    const double *queries = m->sums + logit_sums(m) - 2;
    double mean = 0;

    for (int k = 0; k < 2; k++)
        for (int64_t i = 0; i < m->m && queries[k] > 0; i++)
            for (int64_t j = 0; j <= i; j++)
                f[i * w + j] += m->sums[((h * 2 + k) * m->m + i) * m->m + j] / queries[k];
    for (int64_t i = 0; i < m->m; i++) {
        if (!isfinite(f[i * w + i]))
            return err_set(e, "queries or keys are not finite; check the model's weights");
        for (int64_t j = 0; j < i; j++)
            f[j * w + i] = f[i * w + j];
    }
    for (int64_t i = 0; m->rotates && i < 2 * P; i++)
        mean += f[i * w + i] / (double)(2 * P);
    for (int64_t i = 0; m->rotates && i < 2 * P; i++)
        f[i * w + i] += RIDGE * mean;
    return true;
}

static bool open_state(struct state *s, const struct logit *m, struct err *e)
{
    *s = (struct state){
        .P = m->n.dh / 2, .heads = m->n.H / m->n.G, .w = m->m + 1, .rotates = m->rotates};
    s->f = doubles_new(s->heads * s->w, s->w, e);
    s->out = mem_new((size_t)s->P, sizeof *s->out, "RoPE ranking", e);
    return s->f && s->out;
}

static void close_state(struct state *s)
{
    free(s->f);
    free(s->out);
}

static bool choose_head(const struct logit *m, int64_t g, int32_t *chosen, double *cost,
                        struct err *e)
{
    struct state s[3] = {{0}};
    bool ok = true;

    for (int i = 0; ok && i < 3; i++)
        ok = open_state(&s[i], m, e);
    for (int64_t h = 0; ok && h < s->heads; h++)
        ok = load_head(m, g * s->heads + h, of_head(s, h), e);
    if (ok) choose(&s[0], &s[1], &s[2], chosen, cost);
    for (int i = 0; i < 3; i++)
        close_state(&s[i]);
    return ok;
}

bool logit_choose(const struct logit *m, int32_t *chosen, double *cost, struct err *e)
{
    const int64_t P = m->n.dh / 2, G = m->n.G;
    const double *queries = m->sums + logit_sums(m) - 2;
    struct err *each = mem_new((size_t)G, sizeof *each, "RoPE ranking", e);
    bool *ok = each ? mem_new((size_t)G, sizeof *ok, "RoPE ranking", e) : NULL, all = ok;

    if (all && !(queries[0] + queries[1] > 0)) all = err_set(e, "no calibration sample was added");
#pragma omp parallel for schedule(dynamic) if (all)
    for (int64_t g = 0; g < (all ? G : 0); g++)
        ok[g] = choose_head(m, g, chosen + g * P * P, cost + g * (P + 1), &each[g]);
    for (int64_t g = G - 1; all && g >= 0; g--)
        if (!ok[g]) *e = each[g];
    for (int64_t g = 0; ok && g < G; g++)
        all = all && ok[g];
    free(each);
    free(ok);
    return all;
}
