/* rank.c - the accumulator over calibration samples, in which a measured strategy is a row of three
 * functions, and the row orders that follow from a ranking. */
#include "convert/rank.h"

#include "base/mem.h"
#include "convert/rank_mkl.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The sums of a measured strategy: `len` doubles per layer. */
struct measure {
    int64_t (*len)(const struct rank_dims *n);
    bool (*add)(const struct rank_acc *a, double *sums, const struct rank_sample *x, struct err *e);
    bool (*score)(const struct rank_dims *n, const double *sums,
                  double *score); /* false: no data */
};

struct rank_acc {
    const struct measure *measure;
    struct rank_dims n;
    int64_t max_queries, len;
    double *state; /* [L, len] */
    double *fresh; /* [len]: contribution of the current sample */
};

/* ---- 2-norm. Sums: [1] samples, [H,P] mean |q_pair|, [G,P] mean |k_pair| ---- */

static int64_t norm_len(const struct rank_dims *n)
{
    return 1 + (n->H + n->G) * (n->dh / 2);
}

/* out[heads,P] = the mean over tokens of the lengths of the pairs in x[T, heads*dh]. */
static void pair_norms(double *out, const float *x, int64_t T, int64_t heads, int64_t P)
{
#pragma omp parallel for schedule(static)
    for (int64_t h = 0; h < heads; h++) {
        double *sum = out + h * P;

        memset(sum, 0, (size_t)P * sizeof *sum);
        for (int64_t t = 0; t < T; t++) {
            const float *a = x + (t * heads + h) * 2 * P, *b = a + P;
            for (int64_t i = 0; i < P; i++)
                sum[i] += sqrt((double)a[i] * a[i] + (double)b[i] * b[i]);
        }
        for (int64_t i = 0; i < P; i++)
            sum[i] /= (double)T;
    }
}

static bool norm_add(const struct rank_acc *a, double *sums, const struct rank_sample *x,
                     struct err *e)
{
    const int64_t P = a->n.dh / 2;

    (void)e;
    sums[0] = 1;
    pair_norms(sums + 1, x->q, x->T, a->n.H, P);
    pair_norms(sums + 1 + a->n.H * P, x->k, x->T, a->n.G, P);
    return true;
}

static bool norm_score(const struct rank_dims *n, const double *sums, double *score)
{
    const int64_t P = n->dh / 2, group = n->H / n->G;
    const double *q = sums + 1, *k = q + n->H * P, samples = sums[0];

    if (samples == 0) return false;
    for (int64_t j = 0; j < n->G * P; j++)
        score[j] = 0;
    for (int64_t h = 0; h < n->H; h++)
        for (int64_t i = 0; i < P; i++) {
            const int64_t j = h / group * P + i;
            score[j] += q[h * P + i] / samples * (k[j] / samples);
        }
    return true;
}

/* ---- mkl, mkl-mask: convert/rank_mkl.h ---- */

static bool mkl_add(const struct rank_acc *a, double *sums, const struct rank_sample *x,
                    struct err *e)
{
    return rank_mkl_add(&a->n, false, a->max_queries, sums, x, e);
}

static bool mask_add(const struct rank_acc *a, double *sums, const struct rank_sample *x,
                     struct err *e)
{
    return rank_mkl_add(&a->n, true, a->max_queries, sums, x, e);
}

/* ---- the accumulator ---- */

static const struct measure measures[RANK_STRATEGIES] = {
    [RANK_2NORM] = {norm_len, norm_add, norm_score},
    [RANK_MKL] = {rank_mkl_len, mkl_add, rank_mkl_score},
    [RANK_MKL_MASK] = {rank_mkl_len, mask_add, rank_mkl_score},
};

struct rank_acc *rank_acc_new(enum rank_strategy s, const struct rank_dims *n, int64_t max_queries,
                              struct err *e)
{
    struct rank_acc *a;

    CHECK(measures[s].len);
    if (!rank_check(n, 2, e)) return NULL;
    a = mem_new(1, sizeof *a, "RoPE ranking", e);
    if (!a) return NULL;
    a->measure = &measures[s];
    a->n = *n;
    a->max_queries = max_queries;
    a->len = a->measure->len(n);
    a->state = mem_new((size_t)(n->L * a->len), sizeof(double), "RoPE ranking sums", e);
    a->fresh = a->state ? mem_new((size_t)a->len, sizeof(double), "RoPE ranking sums", e) : NULL;
    if (!a->fresh) {
        rank_acc_free(a);
        return NULL;
    }
    return a;
}

void rank_acc_free(struct rank_acc *a)
{
    if (!a) return;
    free(a->state);
    free(a->fresh);
    free(a);
}

bool rank_acc_add(struct rank_acc *a, int64_t layer, const struct rank_sample *x, struct err *e)
{
    double *sums = a->state + layer * a->len;

    CHECK(layer >= 0 && layer < a->n.L && x->T > 0 && x->scale > 0);
    for (int64_t t = 0; t < x->T; t++)
        CHECK(x->modality[t] <= 1);
    if (!a->measure->add(a, a->fresh, x, e)) return false;
    for (int64_t j = 0; j < a->len; j++)
        if (!isfinite(a->fresh[j]))
            return err_set(e,
                           "RoPE ranking, layer %" PRId64
                           ": queries or keys of a sample with %" PRId64
                           " tokens are not finite; check the model's weights",
                           layer, x->T);
    for (int64_t j = 0; j < a->len; j++)
        sums[j] += a->fresh[j];
    return true;
}

double *rank_acc_sums(struct rank_acc *a, int64_t *n)
{
    *n = a->n.L * a->len;
    return a->state;
}

static void rank_by_score(int32_t *rank, const double *score, int64_t P)
{
    for (int64_t i = 0; i < P; i++) {
        rank[i] = 0;
        for (int64_t j = 0; j < P; j++)
            rank[i] += score[j] > score[i] || (j < i && score[j] == score[i]);
    }
}

bool rank_acc_finish(const struct rank_acc *a, int32_t *rank, double *scores, struct err *e)
{
    const int64_t P = a->n.dh / 2, GP = a->n.G * P;
    double *score = mem_new((size_t)GP, sizeof *score, "RoPE ranking scores", e);
    bool ok = score != NULL;

    for (int64_t l = 0; l < a->n.L && ok; l++) {
        ok = a->measure->score(&a->n, a->state + l * a->len, score);
        if (!ok) {
            err_set(e, "RoPE ranking, layer %" PRId64 ": no calibration sample was added", l);
            break;
        }
        for (int64_t g = 0; g < a->n.G; g++)
            rank_by_score(rank + l * GP + g * P, score + g * P, P);
        if (scores) memcpy(scores + l * GP, score, (size_t)GP * sizeof *score);
    }
    free(score);
    return ok;
}

/* ---- the row order that follows from kept pairs ---- */

void rank_rows(int64_t *rows, const int32_t *kept, int64_t heads, int64_t G, int64_t dh,
               int64_t rope_dim)
{
    const int64_t P = dh / 2, K = rope_dim / 2;
    int64_t *nope = rows + heads * rope_dim;

    CHECK(heads % G == 0);
    for (int64_t h = 0; h < heads; h++) {
        const int32_t *pairs = kept + h / (heads / G) * K;
        int64_t next = 0; /* kept dims of this head seen so far */

        for (int64_t dim = 0; dim < dh; dim++) {
            const int64_t half = dim / P;
            if (next < (half + 1) * K && pairs[next - half * K] + half * P == dim) {
                *rows++ = h * dh + dim;
                next++;
            } else {
                *nope++ = h * dh + dim;
            }
        }
    }
}
