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
    return err_set(e, "%g x %" PRId64 " kv heads is not a whole number of latent dims", low_rank,
                   G);
}

/* Adds a part whose r counts only if it is compressed. */
static bool plan_add(struct mdsvd_plan *plan, const struct kv_shape *s, struct mdsvd_part part,
                     bool low_rank, struct err *e)
{
    const int64_t most = part.rows < s->d ? part.rows : s->d;
    const char *name = kv_method_names[s->method];

    if (part.rows == 0 && low_rank)
        return err_set(e,
                       "compression %s: no part of the keys is left to compress, since every pair "
                       "stays rotated (rope_dim is the head size); joint, only_value and none can "
                       "do without",
                       name);
    if (part.rows == 0) return true;
    if (low_rank && (part.r < 1 || part.r > most))
        return err_set(e,
                       "compression %s: latent width %" PRId64 " (low_rank x kv heads) is outside "
                       "1..%" PRId64 ", what a %" PRId64 " x %" PRId64 " projection can use",
                       name, part.r, most, part.rows, s->d);
    if (!low_rank) part.r = 0;
    plan->part[plan->parts++] = part;
    plan->cache += low_rank ? part.r : part.rows;
    return true;
}

bool mdsvd_plan(struct mdsvd_plan *plan, const struct kv_shape *s, int64_t r, struct err *e)
{
    const int64_t k_rows = s->G * (s->dh - (s->cross ? 0 : s->rope_dim)), v_rows = s->G * s->dh;
    const struct kv_method_info *how = &kv_methods[s->method];
    const struct mdsvd_part both = {0, k_rows + v_rows, r};
    const struct mdsvd_part key = {0, k_rows, r}, value = {k_rows, v_rows, r};

    CHECK(s->G > 0 && s->rope_dim >= 0 && s->rope_dim <= (s->cross ? s->G : 1) * s->dh);
    memset(plan, 0, sizeof *plan);
    plan->cache = (s->cross ? 1 : s->G) * s->rope_dim;
    if (how->joint) return plan_add(plan, s, both, true, e);
    return plan_add(plan, s, key, how->key, e) && plan_add(plan, s, value, how->value, e);
}
