/* exchange.h - the gradients of the processes, summed, and the stepped values, spread. Each process
 * owns a part of every parameter's values (shards.h):
 *
 *     exchange_begin(x);
 *     tape_on_final(tape, exchange_final, x);  // for the last backward pass: others' parts leave
 *     tape_backward(tape, loss);               // as soon as they are final
 *     exchange_finish(x);                      // now its own parts hold the sums
 *     adamw_step(...);                         // of its own parts
 *     exchange_values(x);                      // now all values are those of their owners
 *
 * A part is summed by its owner in the order of ranks, however the messages come: the same bits
 * from run to run. With one process all of this is nothing. */
#ifndef CLUSTER_EXCHANGE_H
#define CLUSTER_EXCHANGE_H

#include "cluster/shards.h"

enum wire { WIRE_F32, WIRE_BF16, WIRES }; /* what the others' gradients are sent as */
#define WIRE_NAMES "f32", "bf16"          /* of the settings, in order */

struct exchange;

/* For n trained parameters, in fp32, with their gradients. All processes must call it with the
 * same; memory that is short in one fails all. NULL on failure. */
struct exchange *exchange_new(struct tensor *const params[], int64_t n, enum wire wire,
                              struct err *e);
void exchange_free(struct exchange *x); /* fine on NULL */
/* Bytes that it takes in each of `size` processes, with that many trained values: what comes from
 * the others is kept until it is summed. */
double exchange_bytes(double values, int64_t size, enum wire wire);

/* The part of each parameter that this process owns, [n]. */
const struct adamw_part *exchange_parts(const struct exchange *x);
const struct shards *exchange_shards(const struct exchange *x);

void exchange_begin(struct exchange *x);
/* The gradient of that parameter will not change any more: a tape_final (autograd/tape.h). */
void exchange_final(void *exchange, struct tensor *param);
/* Takes the rest as final, and waits. Must be called after exchange_begin whatever has happened
 * in between: the others wait for what is sent. The gradients that others own are zeroed. */
void exchange_finish(struct exchange *x);
void exchange_values(struct exchange *x);

/* Bytes that this process has sent in a step, on average since exchange_new. */
struct exchange_sent {
    double gradients, values;
    double early; /* the share of the gradients that left before exchange_finish, 0 .. 1 */
};
struct exchange_sent exchange_sent(const struct exchange *x);
/* What each of N processes sends in a step by the theory: (N - 1) / N of all trained values as
 * gradients, and as many as values, in bytes. Parts are of whole blocks (shards.h): a process may
 * send a few values more or fewer. */
double exchange_theory(const struct exchange *x);

#endif
