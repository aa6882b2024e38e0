/* kv_stats.h - what a layer's factors are computed from (docs/method.md, section 3), gathered batch
 * by batch. With x the input of the k/v projection, y = W x, W = [W_kc; W_v] [rows, d], u whichever
 * of y and x is smaller [width], p_hmn the attention of query head h, query m and key n, per
 * modality k of token n:
 *
 *     tokens    S = sum_n u_n u_n^T
 *     received  S = sum_n w_n u_n u_n^T,   w_n = sum_hm p_hmn / H
 *     blocks    S_v^g = 1/RT sum_{h in g} sum_m a_hm a_hm^T,   a_hm = sum_{n of k} p_hmn u_n
 *               S_k^g = 1/RT sum_{h in g} sum_nm p_hmn u_n u_n^T - S_v^g
 *
 * g a kv head, R query heads each, H in all, T tokens of both modalities. S_v is what attention
 * makes of the values, S_k how far what it looks at differs: a bias of all keys changes nothing.
 *
 * Blocks are 4G matrices [width, width], 17 GB for MHA of 32 heads and 4096 inputs. Where that is
 * too much, x is narrowed first: u = D_k x, [narrow], and W u' = U_k u stands for y, with U_k D_k
 * the factors of that width which lose least of W x over the tokens as they are received. */
#ifndef CONVERT_KV_STATS_H
#define CONVERT_KV_STATS_H

#include "convert/blocks.h"
#include "convert/moments.h"
#include "model/model.h"

/* A layer's narrowed inputs, of each modality. */
struct kv_narrow {
    float *up[2],
        *down[2]; /* U_k [rows, narrow], D_k [narrow, d]; NULL: of another layer, or none */
};

/* Sums of one layer. */
struct kv_sums {
    struct kv_narrow narrow;
    /* One, or for blocks S_k^g of each kv head, and behind them S_v^g. Their
     * tokens are not read. */
    struct moments *moments;
    int64_t n;
    double *queries;  /* blocks: [H, dc, dc] sums of q q^T */
    double count[5];  /* tokens and weight of the text, of the images; samples */
    double *total[2]; /* blocks, at the end: S = 1/G sum_g (S_k^g + S_v^g) of each set */
};
enum { KV_TEXT_TOKENS, KV_IMAGE_TOKENS, KV_TEXT_WEIGHT, KV_IMAGE_WEIGHT, KV_SAMPLES };

/* What is gathered: sets 2, or 1 if modalities are not told apart; narrow: of blocks, see above, 0
 * for all inputs. */
struct kv_how {
    enum kv_statistics kind;
    int sets;
    int64_t narrow;
};

struct kv_stats {
    enum kv_statistics kind;
    int sets;
    int64_t narrow, inputs; /* values of x, or of what stands for it: d, or narrow */
    bool outputs;           /* u is y */
    int64_t H, G, dc, dh, d, rows, width;
    float *w;            /* of a layer: W [rows, d] */
    float *wq, *bq, *wo; /* blocks: unrotated queries' [H*dc, d], [H*dc]; o_proj [d, H*dh] */
    struct kv_sums sums;
    float *y, *q, *counted, *mean[2]; /* of a batch: [T, rows], [T, H*dc], [T, width] */
    double *received;                 /* [T] */
    uint8_t *ones;                    /* [T] */
    size_t cap_y, cap_q, cap_counted, cap_mean[2], cap_received, cap_ones;
};

/* For a PARTIAL model's shape. */
bool kv_stats_open(struct kv_stats *s, const struct model *m, const struct kv_how *how,
                   struct err *e);
void kv_stats_close(struct kv_stats *s); /* fine on a zeroed struct */

/* Takes the weights of m's layer l. */
void kv_stats_layer(struct kv_stats *s, const struct model *m, int64_t l);

/* W [rows, inputs] of a set, for x or what stands for it. */
const float *kv_stats_weights(const struct kv_stats *s, int set);

/* The width for how->narrow with which the sums of blocks take at most `room` bytes, or that of a
 * latent, `least`; 0: all inputs have room. */
int64_t kv_stats_narrow(const struct model *m, double room, int64_t least);

/* Narrowed inputs from finished statistics "received" of the same layer; the caller gives them to
 * the sums, or frees them. On failure *n is zeroed. */
bool kv_narrow_make(struct kv_narrow *n, const struct kv_stats *received, int64_t width,
                    struct err *e);
void kv_narrow_free(struct kv_narrow *n); /* fine on a zeroed struct */

/* Sums for a layer, zeroed: s->sums, which kv_sums_free frees, narrowed inputs with it: where there
 * are any, s->sums.narrow has them already. */
bool kv_sums_new(struct kv_stats *s, struct err *e);
void kv_sums_free(struct kv_sums *m); /* fine on a zeroed struct */

/* A batch of `samples` samples, T tokens: x [T, d], modality [T], and unless tokens count alike the
 * attention, on the same tokens, of the model whose attention is to be kept. */
struct kv_batch {
    const float *x;
    const uint8_t *modality;
    int64_t T, samples;
    const struct attention *attention;
};
bool kv_stats_add(struct kv_stats *s, const struct kv_batch *b, struct err *e);

/* No batch follows; fails if the sums are not finite. Then processes can add theirs up, by a
 * function such as cluster_sum, and after that the sums become the S above; those of blocks get
 * 1e-5 of their set's total and of its mean diagonal, and the total of the latter, so that
 * they can be inverted. */
bool kv_stats_gathered(struct kv_stats *s, struct err *e);
bool kv_stats_sum(struct kv_stats *s, bool (*sum)(double *values, int64_t n, struct err *e),
                  struct err *e);
void kv_stats_finish(struct kv_stats *s);

/* The published code's scale, of a set's S: 1 / (its weight * samples), its weight being its
 * tokens' number where they count alike. 0 if there were none. For blocks, of the set's total. */
double kv_stats_scale(const struct kv_stats *s, int set);

/* Bytes of it with one layer's sums, and of the scratch for batches of `tokens` tokens. */
struct kv_bytes {
    double sums, scratch;
};
struct kv_bytes kv_stats_bytes(const struct model *m, const struct kv_how *how, int64_t tokens);

#endif
