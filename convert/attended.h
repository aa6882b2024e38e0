/* attended.h - what attention makes of its keys and values, with p_hmn the softmax of query head h,
 * query m and key n, in double: how much attention each token receives, and the means of any rows y
 * under it. Never more of p exists than a block of queries of one sample for each thread. */
#ifndef CONVERT_ATTENDED_H
#define CONVERT_ATTENDED_H

#include "autograd/ops.h"

/* A batch's attention: causal, each sample's queries and keys being the same tokens. */
struct attended {
    const struct attention *a;
    int64_t T, longest; /* tokens: of all samples, of the longest */
    int64_t width;      /* of a query or key, over all parts */
    int64_t tasks;      /* blocks of queries */
    struct attended_task {
        int64_t begin, q0, n; /* rows: of the sample, of the block's first query; its queries */
    } * task;
    int64_t group; /* whose keys are in keys; -1: none */
    double *keys, *scratch,
        *place; /* [T, width]; [threads]; the tasks' parts of what is received */
    float *p;   /* [threads, ...] */
};
bool attended_open(struct attended *s, const struct attention *a, struct err *e);
void attended_close(struct attended *s); /* fine on a zeroed struct */

/* Rows y[T, width], and for each of `sets` modalities (1: tokens are not told apart, and modality
 * is NULL) where the means go: mean[k][m] = sum over keys n of modality k of p_hmn y_n, which is
 * not divided by these keys' p, [T, width]. */
struct attended_means {
    const float *y;
    const uint8_t *modality; /* [T] */
    int64_t width;
    int sets;
    float *mean[2];
};

/* Adds sum_m p_hmn to received[T], and fills the means, unless NULL, for query head h. The number
 * of threads does not matter. Heads of the same kv head are best asked for one after the other. */
void attended_head(struct attended *s, int64_t h, double *received, const struct attended_means *y);

size_t attended_bytes(int64_t tokens, int64_t width); /* at most, if all are of one sample */

#endif
