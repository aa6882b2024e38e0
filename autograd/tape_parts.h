/* tape_parts.h - internals of a tape, shared by tape.c (building, running) and plan.c (placing). */
#ifndef AUTOGRAD_TAPE_PARTS_H
#define AUTOGRAD_TAPE_PARTS_H

#include "autograd/tape.h"

/* A piece of the region, in use during the steps [begin, end] (both included). */
struct place {
    size_t bytes, offset;
    int begin, end; /* begin > end: unused */
};

/* The memory of a tensor and of those that modify it in place. If its maker is rerun, or it is
 * stashed, the second place is for the time from then on. */
struct storage {
    struct place at[2];
    struct stash *stash; /* or NULL */
    bool rounded;        /* whatever is written there is rounded to bf16 */
};

/* A tensor that the backward pass reads of the forward pass, kept as bf16 in between: packed after
 * the last step that used it, unpacked before the one that needs it again. It is rounded as soon as
 * it is made, so that both passes see the same values and packing loses nothing: whether it is
 * stashed, kept or recomputed changes no bits. */
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
    char *meta; /* reserved address space; pages are allocated as they are touched */
    size_t meta_size, meta_used;
    char *region; /* what the plan places things in */
    size_t region_size;
    bool train, planned;
    bool stashes;        /* bf16 between the passes */
    struct node **nodes; /* in forward order; malloc'ed, doubled as needed */
    int n_nodes, cap_nodes;
    int segment, n_segments; /* the one being recorded or -1 */
    struct step *steps;
    int n_steps, n_forward;
    size_t planned_bytes;
    tape_final *final; /* or NULL */
    void *final_arg;
    bool (*go_on)(void *arg); /* or NULL */
    void *go_on_arg;
    bool profile;
    struct op_time times[MAX_OP_TIMES];
    int n_times;
};

/* plan.c: orders the steps and places everything relative to 0; sets planned_bytes. */
void plan_tape(struct tape *t);

/* The tensor whose storage t uses: itself or the first of its in-place chain. */
struct tensor *tensor_root(struct tensor *t);

#endif
