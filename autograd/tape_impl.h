/* tape_impl.h - the inside of a tape, shared by tape.c (building, running) and plan.c (placing). */
#ifndef AUTOGRAD_TAPE_IMPL_H
#define AUTOGRAD_TAPE_IMPL_H

#include "autograd/tape.h"

/* A piece of the region that is in use during the steps [begin, end] (both included). */
struct place {
    size_t bytes, offset;
    int begin, end; /* begin > end: not used */
};

/* The memory of a tensor and of those that changed it in place. Where its maker is rerun, or where
 * it is stashed, the second place is for the time from then on. */
struct storage {
    struct place at[2];
    struct stash *stash; /* or NULL */
    bool rounded;        /* what is written there is rounded to bf16 */
};

/* What the backward pass reads of the forward pass is kept as bf16 in between: packed behind the
 * step that used it last, unpacked before the one that wants it again. It is rounded when it is
 * made, so that both passes see the same values, and packing loses nothing: whether it is worth it,
 * or whether the tensor is made again instead, changes no bits. */
struct stash {
    struct place packed;
    struct storage *storage;
    int64_t count;
    struct tensor *root;
    struct stash *next_packed, *next_unpacked; /* of the same step */
};

enum step_kind { STEP_FORWARD, STEP_RERUN, STEP_BACKWARD };

struct step {
    struct node *node;
    enum step_kind kind;
    struct place scratch;
    struct stash *pack, *unpack; /* after it, before it */
};

enum { MAX_OP_TIMES = 32 };

struct tape {
    char *meta; /* reserved addresses; pages come as they are touched */
    size_t meta_size, meta_used;
    char *region; /* what the plan places things in */
    size_t region_size;
    bool train, planned;
    bool stashes;        /* bf16 between the passes */
    struct node **nodes; /* in forward order; array lives in malloc, doubled as needed */
    int n_nodes, cap_nodes;
    int segment, n_segments; /* the one being recorded or -1 */
    struct step *steps;
    int n_steps, n_forward;
    size_t planned_bytes;
    bool profile;
    struct op_time times[MAX_OP_TIMES];
    int n_times;
};

/* plan.c: orders the steps and places everything relative to 0; sets planned_bytes. */
void plan_tape(struct tape *t);

/* The tensor whose storage t uses: itself or the first of its in-place chain. */
struct tensor *tensor_root(struct tensor *t);

#endif
