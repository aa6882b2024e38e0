/* kv_narrow.c - narrowed inputs: the factors of all of W, wider than those that are wanted. */
#include "convert/kv_stats.h"

#include <stdlib.h>
#include <string.h>

const float *kv_stats_weights(const struct kv_stats *s, int set)
{
    return s->narrow ? s->sums.narrow.up[set] : s->w;
}

bool kv_narrow_make(struct kv_narrow *n, const struct kv_stats *received, int64_t width,
                    struct err *e)
{
    const struct kv_stats *s = received;
    struct mdsvd_in in[2];
    struct mdsvd_out out[2];

    CHECK(s->kind == KV_RECEIVED);
    *n = (struct kv_narrow){0};
    for (int set = 0; set < s->sets; set++) {
        const double *sums = s->sums.moments->s[set];
        in[set] = (struct mdsvd_in){.w = s->w,
                                    .n = s->rows,
                                    .d = s->d,
                                    .s = s->outputs ? NULL : sums,
                                    .m = s->outputs ? sums : NULL,
                                    .ldm = s->rows,
                                    .scale = kv_stats_scale(s, set),
                                    .r = width,
                                    .method = MDSVD_ACTIVATION};
    }
    if (!mdsvd_factor(out, in, s->sets, s->sets, e)) return false;
    for (int set = 0; set < s->sets; set++) {
        n->up[set] = out[set].up;
        n->down[set] = out[set].down;
        out[set].up = out[set].down = NULL;
        mdsvd_free(&out[set]);
    }
    return true;
}

void kv_narrow_free(struct kv_narrow *n)
{
    for (int set = 0; set < 2; set++) {
        free(n->up[set]);
        free(n->down[set]);
    }
    memset(n, 0, sizeof *n);
}
