/* mdsvd_random.c - factors that start at random, to see what the SVD is worth: as Hugging Face
 * starts a linear layer, normal with the model's initializer_range. */
#include "base/mem.h"
#include "base/rng.h"
#include "convert/mdsvd.h"

static void fill(float *x, int64_t n, struct rng *rng, double std)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(std * rng_normal(rng));
}

bool mdsvd_random(struct mdsvd_out *out, const struct mdsvd_random *in, struct err *e)
{
    struct rng rng;

    CHECK(in->n > 0 && in->d > 0 && in->r > 0);
    *out = (struct mdsvd_out){.r = in->r, .live = in->r};
    out->up = mem_new((size_t)in->n, (size_t)in->r * sizeof *out->up, "factors", e);
    out->down = mem_new((size_t)in->r, (size_t)in->d * sizeof *out->down, "factors", e);
    out->component = mem_new((size_t)in->r, sizeof *out->component, "factors", e);
    if (!out->up || !out->down || !out->component) {
        mdsvd_free(out);
        return false;
    }
    rng_seed(&rng, in->seed, 0);
    fill(out->up, in->n * in->r, &rng, in->std);
    fill(out->down, in->r * in->d, &rng, in->std);
    return true;
}
