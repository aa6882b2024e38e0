/* tape.h - building, planning and running a computation.
 *
 *     tape_begin(t, true);                                 // forgets the last graph, keeps memory
 *     struct tensor *h = op_linear(t, x, &w, NULL, NULL);  // ops.h: checks shapes, only records
 *     struct tensor *loss = op_cross_entropy(t, h, &head, labels, 1.0 / n);
 *     if (!tape_plan(t, limit, e)) ...                     // every byte is placed here
 *     tape_forward(t);
 *     tape_backward(t, loss);                              // adds to grad of every trained leaf
 *
 * Building an op only records a node. tape_plan() then knows who needs which tensor until when, in
 * the forward and the backward pass, and places all of them in one region, so that memory is known
 * before anything runs (a dry run stops there), tensors that are not alive at the same time share
 * it, and nothing is allocated once the region is large enough. Between tape_segment_begin and _end
 * stands what is recomputed in the backward pass instead of kept.
 *
 * Gradients are computed only on paths from a trained leaf. Every sum has a fixed order: the same
 * graph on the same number of threads gives the same bits. */
#ifndef AUTOGRAD_TAPE_H
#define AUTOGRAD_TAPE_H

#include "autograd/tensor.h"
#include "base/err.h"

struct tape;
struct node;

/* One kind of operation. A forward that is called twice (recomputation) writes the same bits. An op
 * without backward is for inference: building it on a tensor that needs a gradient aborts. */
struct op {
    const char *name;
    void (*forward)(struct node *n);
    void (*backward)(struct node *n);
};

enum { NODE_IN = 8 };

struct node {
    const struct op *op;
    struct tensor *in[NODE_IN]; /* NULL where an optional input is absent */
    struct tensor *out;
    struct tensor *aux;   /* what the forward saves for the backward: no gradient; or NULL */
    const void *args;     /* the op's own struct, in the tape's memory */
    unsigned reads;       /* whose data the backward reads: bit i = in[i], READS_OUT, READS_AUX */
    int passes;           /* the in[] whose gradient is out's unchanged (a residual), or -1 */
    size_t scratch_bytes; /* of `scratch`, for each of the two passes */
    void *scratch;        /* valid while forward or backward runs */
    int segment;          /* which recomputed segment it lies in, or -1 */
    int index;            /* place in the forward order */
    bool rerun;           /* plan.c: its output is made again in the backward pass */
};
enum { READS_OUT = 1 << 8, READS_AUX = 1 << 9 };

struct tape *tape_new(struct err *e);
void tape_free(struct tape *t); /* fine on NULL */

/* Starts a new graph. Tensors and args of the last one become invalid. */
void tape_begin(struct tape *t, bool train);

/* From the next graph on: what the backward pass reads of the forward pass is rounded to bf16 when
 * it is made, and takes half the memory until then. */
void tape_stash_bf16(struct tape *t, bool on);

/* Zeroed memory that lives until the next tape_begin: for args and index lists. */
void *tape_alloc(struct tape *t, size_t bytes);
#define tape_new_array(t, type, n) ((type *)tape_alloc((t), (size_t)(n) * sizeof(type)))

/* For ops: a new node with its output [rows, cols]; the caller then sets aux, args, reads, ... */
struct node *tape_node(struct tape *t, const struct op *op, struct tensor *const in[], int n_in,
                       int64_t rows, int64_t cols);
struct tensor *tape_aux(struct tape *t, int64_t rows, int64_t cols);

/* For ops that change in[0] where it lies: out shares its memory (and its gradient's). in[0] must
 * have been made by a node, and nobody else may use it. */
void tape_in_place(struct node *n);

/* Makes t's data readable by the caller after tape_forward (and until the next tape_begin). */
void tape_keep(struct tensor *t);

/* Everything recorded in between is recomputed in the backward pass. No nesting. */
void tape_segment_begin(struct tape *t);
void tape_segment_end(struct tape *t);

/* Places everything. Fails where more than `limit` bytes are needed (0 = no limit) or to be had. */
bool tape_plan(struct tape *t, size_t limit, struct err *e);
/* The bytes that the current graph needs: what tape_plan would place, computed without placing. */
size_t tape_bytes(struct tape *t);
size_t tape_region(const struct tape *t); /* bytes of memory held now */

/* The graph as it was recorded, in forward order. */
struct node *const *tape_nodes(const struct tape *t, int *n);

/* False: given up between two nodes, because a signal asks the run to stop (signals_go_on has the
 * message); what was computed is of no use then. */
bool tape_forward(struct tape *t);
/* d loss / d loss = 1. loss is [1, 1]. Gives up as tape_forward does. */
bool tape_backward(struct tape *t, struct tensor *loss);

/* For a backward function: where the gradient of x goes. Returns true where something is there
 * already and must be added to; false where the memory is unset and must be written. */
bool tape_grad_adds(struct tensor *x);
/* For a backward function: adds out's gradient, unchanged, to that of in[i]. Free of charge where
 * the plan made them share memory (n->passes == i). */
void tape_pass_grad(struct node *n, int i);

/* Seconds and calls by op since tape_profile(t, true), for bench/. */
struct op_time {
    const struct op *op;
    double forward, backward;
    int64_t calls;
};
void tape_profile(struct tape *t, bool on);
const struct op_time *tape_times(const struct tape *t, int *n);

#endif
