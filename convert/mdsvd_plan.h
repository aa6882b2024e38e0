/* mdsvd_plan.h - which parts of the key/value projection are compressed together, to what
 * latent widths, and what the cache then holds. Each part with a latent width is one problem
 * for mdsvd_factor. */
#ifndef CONVERT_MDSVD_PLAN_H
#define CONVERT_MDSVD_PLAN_H

#include "base/err.h"
#include "model/model.h"

#include <stdint.h>

/* The compressed parts of W = [W_kc; W_v], W_kc [G*dc, d], W_v [G*dh, d], dc = dh - rope_dim:
 *     name        parts and latent widths        cache per token and layer, values (+ G*rope_dim)
 *     joint       [W_kc; W_v] -> r               r
 *     split       W_kc -> r, W_v -> r            2 r
 *     only_key    W_kc -> r, W_v dense           r + G*dh
 *     only_value  W_kc dense, W_v -> r           G*dc + r
 *     none        both dense                     G*dc + G*dh
 * split gives each part its own r, as in the published code. */
struct mdsvd_part {
    int64_t row0, rows; /* of W */
    int64_t r;          /* latent width; 0: not compressed */
};

struct mdsvd_plan {
    struct mdsvd_part part[2]; /* key part, then value part; joint has one */
    int parts;                 /* a dense key part without rows (rope_dim = dh) is omitted */
    int64_t cache;             /* values per token and layer, including the rotated keys */
};

/* The latent width low_rank * G. low_rank may be a fraction, but the product must be a whole number
 * of at least 1; the message names the setting svd.low_rank. */
bool mdsvd_latent(int64_t *r, double low_rank, int64_t G, struct err *e);

/* Of which projection: G kv heads of dh dims, rope_dim of them rotated, d inputs; cross: the heads
 * share one rotated key of rope_dim dims, and dc = dh. */
struct kv_shape {
    enum kv_method method;
    int64_t G, dh, rope_dim, d;
    bool cross;
};

/* The plan for latent width r. Fails if r is not in 1..min(rows, d) for a compressed part, or if
 * keys are to be compressed on their own but all of them stay rotated. */
bool mdsvd_plan(struct mdsvd_plan *plan, const struct kv_shape *s, int64_t r, struct err *e);

#endif
