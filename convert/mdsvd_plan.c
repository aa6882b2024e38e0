/* mdsvd_plan.c - which parts of the key/value projection are compressed together, to what width. */
#include "convert/mdsvd_plan.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

bool mdsvd_latent(int64_t *r, double low_rank, int64_t G, struct err *e)
{
    const double width = low_rank * (double)G;

    *r = llround(width);
    /* Fractions such as 1/3 are not exact in double: the product may be off by a few roundings. */
    if (*r >= 1 && fabs(width - (double)*r) < 1e-9 * width) return true;
    return err_set(e,
                   "svd.low_rank: %g x %" PRId64 " kv heads is not a whole number of latent dims",
                   low_rank, G);
}

static bool plan_add(struct mdsvd_plan *plan, const struct kv_method_info *v, int64_t row0,
                     int64_t rows, int64_t d, bool low_rank, int64_t r, struct err *e)
{
    const int64_t most = rows < d ? rows : d;

    if (rows == 0 && low_rank)
        return err_set(e,
                       "compression %s: no part of the keys is left to compress, since every pair "
                       "stays rotated (rope_dim is the head size); joint, only_value and none can "
                       "do without",
                       v->name);
    if (rows == 0) return true;
    if (low_rank && (r < 1 || r > most))
        return err_set(e,
                       "compression %s: latent width %" PRId64 " (low_rank x kv heads) is outside "
                       "1..%" PRId64 ", what a %" PRId64 " x %" PRId64 " projection can use",
                       v->name, r, most, rows, d);
    plan->part[plan->parts++] = (struct mdsvd_part){row0, rows, low_rank ? r : 0};
    plan->cache += low_rank ? r : rows;
    return true;
}

bool mdsvd_plan(struct mdsvd_plan *plan, const struct kv_method_info *v, int64_t G, int64_t dh,
                int64_t rope_dim, int64_t d, int64_t r, struct err *e)
{
    const int64_t k_rows = G * (dh - rope_dim), v_rows = G * dh;

    CHECK(G > 0 && rope_dim >= 0 && rope_dim <= dh);
    memset(plan, 0, sizeof *plan);
    plan->cache = G * rope_dim;
    if (v->joint) return plan_add(plan, v, 0, k_rows + v_rows, d, true, r, e);
    return plan_add(plan, v, 0, k_rows, d, v->key, r, e) &&
           plan_add(plan, v, k_rows, v_rows, d, v->value, r, e);
}
