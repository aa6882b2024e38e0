/* attend.h - walks the causal attention of one sample in fp32, for what is measured query by query:
 * for each query head and evenly spaced queries, the softmax over the query's keys. Pairs are
 * spread so that loops over keys are vectors. (attended.h has all queries of a batch, in double.)
 *
 *     attend_open(&a, &n, &sample, max_queries, room, e);
 *     attend_each(&a, visit, arg);
 *     attend_close(&a);
 *
 * Letters: G kv heads, H query heads, P = dh/2 pairs, T tokens. */
#ifndef CONVERT_ATTEND_H
#define CONVERT_ATTEND_H

#include "convert/rank.h"

struct attend {
    const struct rank_sample *x;
    struct rank_dims n;
    int64_t queries; /* of a head */
    int64_t chunk;   /* queries of a task */
    int64_t chunks;  /* tasks of a head */
    int64_t room;    /* floats that the visitor has for itself */
    float *keys;     /* [G, P, 4, T]: the pair (a, b) before, then after rotation */
    float *scratch;  /* [threads, 2*T + 4*P + room] */
};

/* max_queries > 0: at most so many, evenly spaced, the last token among them. */
bool attend_open(struct attend *a, const struct rank_dims *n, const struct rank_sample *x,
                 int64_t max_queries, int64_t room, struct err *e);
/* Makes a task of each head, whose queries are then one thread's. */
void attend_by_head(struct attend *a);
void attend_close(struct attend *a); /* fine on a zeroed struct */

/* Position of the j-th query. */
int64_t attend_position(const struct attend *a, int64_t j);

/* A query. A pair's contribution to logit j is q[i] k[j] + q[P + i] k[T + j] without rotation, with
 * k = keys + i*4*T, and that of q[2P + i], q[3P + i] and k[2T + j], k[3T + j] with it. */
struct attend_query {
    int64_t h, t, task;     /* task: 0 .. H * chunks, ascending with h and t */
    const float *keys, *q;  /* [P, 4, T] of its kv head; [4, P], over sqrt(dh) */
    const float *logit, *p; /* [t + 1] */
    float *room;            /* [room] of this thread */
};

/* Shows all queries, of different tasks on different threads: what is added up belongs to a task,
 * so that the number of threads does not matter. */
typedef void attend_visitor(void *arg, const struct attend_query *now);
void attend_each(const struct attend *a, attend_visitor *visit, void *arg);

#endif
