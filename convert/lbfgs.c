/* lbfgs.c - the direction is -H g by the two loops over the last steps s and changes y of the
 * gradient, with H0 = (s y) / (y y) I. A step is halved until the value falls by at least SLOPE
 * times what the gradient promises (Armijo). A pair (s, y) without positive curvature is left out,
 * so that H stays positive definite. */
#include "convert/lbfgs.h"

#include "base/mem.h"
#include "base/signals.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HISTORY = 8, HALVINGS = 30 };
static const double SLOPE = 1e-4, FIRST = 0.1; /* FIRST: length of the first step over x's own */

struct lbfgs {
    int64_t n, held; /* pairs held, the latest last */
    double *x, *g, *direction;
    double *s[HISTORY], *y[HISTORY], sy[HISTORY];
};

size_t lbfgs_scratch(int64_t n)
{
    return (size_t)(n * (4 + 2 * HISTORY)) * sizeof(double);
}

static double dot(const struct lbfgs *w, const double *a, const double *b)
{
    return cblas_ddot((int)w->n, a, 1, b, 1);
}

static void add(const struct lbfgs *w, double factor, const double *a, double *to)
{
    cblas_daxpy((int)w->n, factor, a, 1, to, 1);
}

/* direction = -H g; before there is a pair, -g, FIRST times as long as x. */
static void aim(struct lbfgs *w, const double *x, const double *g)
{
    double *q = w->direction, alpha[HISTORY] = {0}, h0 = 1;

    for (int64_t j = 0; j < w->n; j++)
        q[j] = -g[j];
    for (int64_t i = w->held - 1; i >= 0; i--) {
        alpha[i] = dot(w, w->s[i], q) / w->sy[i];
        add(w, -alpha[i], w->y[i], q);
    }
    if (w->held)
        h0 = w->sy[w->held - 1] / dot(w, w->y[w->held - 1], w->y[w->held - 1]);
    else if (dot(w, x, x) > 0)
        h0 = FIRST * sqrt(dot(w, x, x) / dot(w, g, g));
    cblas_dscal((int)w->n, h0, q, 1);
    for (int64_t i = 0; i < w->held; i++)
        add(w, alpha[i] - dot(w, w->y[i], q) / w->sy[i], w->s[i], q);
}

/* Keeps the pair of a step, the oldest making room. */
static void remember(struct lbfgs *w, const double *x, const double *g)
{
    double *s = w->s[0], *y = w->y[0], sy;
    const bool full = w->held == HISTORY;

    if (!full) s = w->s[w->held], y = w->y[w->held];
    for (int64_t j = 0; j < w->n; j++) {
        s[j] = w->x[j] - x[j];
        y[j] = w->g[j] - g[j];
    }
    sy = dot(w, s, y);
    if (full) { /* what was overwritten goes to the end, or, unusable, out */
        memmove(w->s, w->s + 1, (HISTORY - 1) * sizeof *w->s);
        memmove(w->y, w->y + 1, (HISTORY - 1) * sizeof *w->y);
        memmove(w->sy, w->sy + 1, (HISTORY - 1) * sizeof *w->sy);
        w->s[HISTORY - 1] = s;
        w->y[HISTORY - 1] = y;
        w->held--;
    }
    if (sy > 1e-12 * dot(w, y, y)) w->sy[w->held++] = sy;
}

/* A step along the direction to w->x, w->g; false: none lessens *value. */
static bool step(struct lbfgs *w, const struct lbfgs_function *f, const double *x, const double *g,
                 double *value)
{
    const double slope = dot(w, w->direction, g);
    double length = 1;

    for (int i = 0; i < HALVINGS && slope < 0; i++, length /= 2) {
        double now;
        memcpy(w->x, x, (size_t)w->n * sizeof *x);
        add(w, length, w->direction, w->x);
        now = f->value(f->arg, w->x, w->g);
        if (!(now < *value && now <= *value + SLOPE * length * slope)) continue;
        *value = now;
        return true;
    }
    return false;
}

static bool open(struct lbfgs *w, int64_t n, struct err *e)
{
    double *at;

    *w = (struct lbfgs){.n = n};
    w->x = mem_new((size_t)n, (3 + 2 * HISTORY) * sizeof *w->x, "L-BFGS", e);
    if (!w->x) return false;
    w->g = w->x + n;
    w->direction = w->g + n;
    at = w->direction + n;
    for (int i = 0; i < HISTORY; i++, at += 2 * n) {
        w->s[i] = at;
        w->y[i] = at + n;
    }
    return true;
}

bool lbfgs_minimise(const struct lbfgs_function *f, double *x, int64_t steps, double *value,
                    struct err *e)
{
    double *g = mem_new((size_t)f->n, sizeof *g, "L-BFGS", e);
    struct lbfgs w = {0};
    bool ok = g && open(&w, f->n, e);

    if (ok) *value = f->value(f->arg, x, g);
    ok = ok && signals_go_on(e);
    for (int64_t i = 0; ok && isfinite(*value) && *value > f->least && i < steps; i++) {
        aim(&w, x, g);
        if (!step(&w, f, x, g, value)) break;
        remember(&w, x, g);
        memcpy(x, w.x, (size_t)f->n * sizeof *x);
        memcpy(g, w.g, (size_t)f->n * sizeof *g);
        ok = signals_go_on(e);
    }
    free(w.x);
    free(g);
    return ok;
}
