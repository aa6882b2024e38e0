/* tape.h - building, planning and running a computation.
 *
 *     tape_begin(t, true);                                 // forgets the last graph, keeps memory
 *     struct tensor *h = op_linear(t, x, &w, NULL, NULL);  // ops.h: checks shapes, only records
 *     struct tensor *loss = op_cross_entropy(t, h, &head, labels, 1.0 / n);
 *     if (!tape_plan(t, limit, e)) ...                     // every byte is placed here
 *     tape_forward(t);
 *     tape_backward(t, loss);                              // adds to grad of every trained leaf
 *
 * Building an op only records a node. tape_plan() then works out how long each tensor is needed in
 * the forward and the backward pass, and places all of them in one region. So memory is known
 * before anything runs (a dry run stops there), tensors that are not alive at the same time share
 * it, and nothing is allocated once the region is large enough. What is recorded between
 * tape_segment_begin and _end is recomputed in the backward pass instead of kept.
 *
 * Gradients are computed only on paths from a trained leaf. Every sum has a fixed order: the same
 * graph on the same number of threads gives the same bits. */
#ifndef AUTOGRAD_TAPE_H
#define AUTOGRAD_TAPE_H

#include "autograd/tensor.h"
#include "base/err.h"

struct tape;
struct node;

/* One kind of operation. A forward called twice (recomputation) must write the same bits. An op
 * without backward is for inference: building it on a tensor that needs a gradient aborts. */
struct op {
    const char *name;
    void (*forward)(struct node *n);
    void (*backward)(struct node *n);
};

enum { NODE_IN = 12 };

struct node {
    const struct op *op;
    struct tensor *in[NODE_IN]; /* NULL for an absent optional input */
    struct tensor *out;
    struct tensor *aux;   /* saved by the forward for the backward, no gradient; or NULL */
    const void *args;     /* the op's own struct, in the tape's memory */
    unsigned reads;       /* data the backward reads: bit i = in[i], READS_OUT, READS_AUX */
    int passes;           /* index of the input whose gradient equals out's (a residual), or -1 */
    size_t scratch_bytes; /* of `scratch`, for each of the two passes */
    void *scratch;        /* valid while forward or backward runs */
    int segment;          /* the recomputed segment it is in, or -1 */
    int index;            /* position in the forward order */
    bool rerun;           /* plan.c: recompute its output in the backward pass */
};
enum { READS_OUT = 1 << NODE_IN, READS_AUX = READS_OUT << 1 };

struct tape *tape_new(struct err *e);
void tape_free(struct tape *t); /* fine on NULL */

/* Starts a new graph. Tensors and args of the previous one become invalid. */
void tape_begin(struct tape *t, bool train);

/* From the next graph on, whatever the backward pass reads of the forward pass is rounded to bf16
 * when it is made, and takes half the memory until then. */
void tape_stash_bf16(struct tape *t, bool on);

/* Zeroed memory that lives until the next tape_begin: for args and index lists. */
void *tape_alloc(struct tape *t, size_t bytes);
#define tape_new_array(t, type, n) ((type *)tape_alloc((t), (size_t)(n) * sizeof(type)))

/* For ops: a new node with its output [rows, cols]; the caller then sets aux, args, reads, ... */
struct node *tape_node(struct tape *t, const struct op *op, struct tensor *const in[], int n_in,
                       int64_t rows, int64_t cols);
struct tensor *tape_aux(struct tape *t, int64_t rows, int64_t cols);

/* For ops that modify in[0] in place: out shares its memory (and its gradient's). in[0] must have
 * been made by a node, and have no other consumer. */
void tape_in_place(struct node *n);

/* Makes t's data readable by the caller after tape_forward (and until the next tape_begin). */
void tape_keep(struct tensor *t);

/* Everything recorded in between is recomputed in the backward pass. No nesting. */
void tape_segment_begin(struct tape *t);
void tape_segment_end(struct tape *t);

/* Places everything. Fails if more than `limit` bytes are needed (0 = no limit) or available. */
bool tape_plan(struct tape *t, size_t limit, struct err *e);
/* The bytes that the current graph needs: what tape_plan would place, without allocating. */
size_t tape_bytes(struct tape *t);
size_t tape_region(const struct tape *t); /* bytes of memory currently held */

/* The graph as it was recorded, in forward order. */
struct node *const *tape_nodes(const struct tape *t, int *n);

/* False: stopped between two nodes because a signal asks the run to stop (signals_go_on has the
 * message), or because go_on does; the results are unusable then. */
bool tape_forward(struct tape *t);
/* Between two nodes of a forward pass go_on(arg) is asked from now on; NULL: nobody is. */
void tape_ask(struct tape *t, bool (*go_on)(void *arg), void *arg);
/* loss is [1, 1]; starts from d loss / d loss = 1. Stops as tape_forward does. */
bool tape_backward(struct tape *t, struct tensor *loss);

/* In the backward passes from now on, f(arg, leaf) is called when the gradient of a trained leaf is
 * final: after the last node that adds to it. A leaf that is not in the graph is not called for.
 * f NULL: nobody is called. */
typedef void tape_final(void *arg, struct tensor *leaf);
void tape_on_final(struct tape *t, tape_final *f, void *arg);

/* For backward functions: prepares to write the gradient of x. Returns true if it must be added to
 * what is there; false if the memory is uninitialised and must be overwritten. */
bool tape_grad_adds(struct tensor *x);
/* For backward functions: adds out's gradient, unchanged, to that of in[i]. Free if the plan made
 * them share memory (n->passes == i). */
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
