/* relaxed.c - ChartQA: a number may be 5 % off, a year as well. A percentage is divided by 100; a
 * reference of 0, and what is no number, are compared as text, without case:
 *     |answer - reference| / |reference| <= 0.05, in double and in this order. */
#include "data/metric/metric_parts.h"

#include <math.h>

static bool number(struct work *w, struct points p, double *out)
{
    if (p.n == 0 || p.v[p.n - 1] != '%') return points_float(w, p, out);
    if (!points_float(w, points_rstrip_of(p, '%'), out)) return false;
    *out /= 100.0;
    return true;
}

static double near(struct work *w, struct points answer, struct points reference)
{
    double a, t;

    if (number(w, answer, &a) && number(w, reference, &t) && t != 0)
        return fabs(a - t) / fabs(t) <= 0.05;
    return points_equal(points_lower(w, answer), points_lower(w, reference));
}

const struct metric_rule relaxed_rule = {.extract = answer_stripped, .compare = near};
