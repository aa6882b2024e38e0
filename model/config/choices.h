/* choices.h - the choices of a conversion: each an enum and, in the same order, the one list of its
 * names. The section "mha2mla" of config.json, the program's settings and its messages all take
 * them from here. */
#ifndef MODEL_CONFIG_CHOICES_H
#define MODEL_CONFIG_CHOICES_H

/* Which RoPE pairs stay rotated; model/strategy.h has what follows from each. */
enum rank_strategy {
    RANK_HIGH,     /* the first pairs: the highest frequencies */
    RANK_LOW,      /* the last pairs */
    RANK_UNIFORM,  /* every dh/rope_dim-th pair from a start */
    RANK_2NORM,    /* largest mean |q_pair| * mean |k_pair| */
    RANK_MKL,      /* largest KL when the pair is not rotated */
    RANK_MKL_MASK, /* largest KL when the pair is removed from the logits */
    RANK_LOGIT,    /* least error of the scores that lose it, all together */
    RANK_FILE,     /* given: model/files/rankfile.h */
    RANK_STRATEGIES
};
#define RANK_VERSION_NAMES "high", "low", "uniform", "2-norm", "mkl", "mkl-mask"
#define RANK_NAMES RANK_VERSION_NAMES, "logit", "file" /* the last two are of the settings only */

/* Which of the unrotated keys and the values come from a latent, and whether from the same one. */
/* What the rotated keys are components of: each head's own key, or those of all heads together. */
enum rope_basis { BASIS_HEAD, BASIS_CROSS };
#define BASIS_NAMES "head", "cross"

enum kv_method { KV_NONE, KV_JOINT, KV_SPLIT, KV_ONLY_KEY, KV_ONLY_VALUE, KV_METHODS };
#define KV_METHOD_NAMES "none", "joint", "split", "only_key", "only_value"

/* How tokens count where factors minimise the error of the outputs (docs/method.md, section 3). */
enum kv_statistics {
    KV_TOKENS,   /* alike */
    KV_RECEIVED, /* by the attention that they receive */
    KV_BLOCKS,   /* and each head's keys and values by what their errors do to attention's output */
    KV_STATISTICS
};
#define KV_STATISTICS_NAMES "tokens", "received", "blocks"

/* What the factors of a latent minimise. */
enum mdsvd_method {
    MDSVD_ACTIVATION, /* the error of the outputs: up = P Sigma^1/2, down = Sigma^-1/2 P^T W; P and
                       * Sigma^2 of scale * W S W^T, S the second moments of the inputs */
    MDSVD_WEIGHT,     /* the error of the weights, by plain SVD: up = U Sigma, down = V^T */
    MDSVD_RANDOM,     /* nothing: they start as a new model's weights do (convert/mdsvd_random.c) */
    MDSVD_METHODS
};
#define MDSVD_NAMES "activation", "weight", "random"

#endif
