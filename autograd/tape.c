/* tape.c - recording nodes, and running the planned steps. */
#include "autograd/tape_parts.h"
#include "autograd/gemm.h"
#include "base/bf16.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/signals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const size_t meta_most = (size_t)1 << 32, meta_least = (size_t)1 << 26;
static const size_t huge_page = (size_t)2 << 20;

static char *map_memory(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* Addresses, not memory: few where a process may have few. */
static size_t meta_reserve(void)
{
    size_t part = limits_least() / 16;

    return part > meta_most ? meta_most : part < meta_least ? meta_least : part;
}

struct tape *tape_new(struct err *e)
{
    struct tape *t = calloc(1, sizeof *t);

    if (t) t->meta = map_memory(t->meta_size = meta_reserve());
    if (!t || !t->meta) {
        free(t);
        err_set(e, "out of memory for a tape: %s", strerror(errno));
        return NULL;
    }
    gemm_single_blas();
    tape_begin(t, false);
    return t;
}

void tape_free(struct tape *t)
{
    if (!t) return;
    munmap(t->meta, t->meta_size);
    if (t->region) munmap(t->region, t->region_size);
    free(t->nodes);
    free(t);
}

void tape_stash_bf16(struct tape *t, bool on)
{
    t->stashes = on;
}

void tape_begin(struct tape *t, bool train)
{
    t->meta_used = 0;
    t->n_nodes = t->n_steps = t->n_forward = t->n_segments = 0;
    t->segment = -1;
    t->train = train;
    t->planned = false;
}

void *tape_alloc(struct tape *t, size_t bytes)
{
    char *p = t->meta + t->meta_used;

    if (bytes > t->meta_size - t->meta_used - 64) {
        CHECK(t->meta_size < meta_most);
        err_no_memory("the list of a step's operations");
    }
    t->meta_used += (bytes + 63) & ~(size_t)63;
    return memset(p, 0, bytes);
}

static struct tensor *new_tensor(struct tape *t, struct node *maker, int64_t rows, int64_t cols)
{
    struct tensor *x = tape_alloc(t, sizeof *x);

    CHECK(rows >= 0 && cols >= 0);
    *x = (struct tensor){.dtype = DT_REAL, .rows = rows, .cols = cols, .maker = maker};
    return x;
}

struct node *tape_node(struct tape *t, const struct op *op, struct tensor *const in[], int n_in,
                       int64_t rows, int64_t cols)
{
    struct node *n = tape_alloc(t, sizeof *n);

    CHECK(n_in <= NODE_IN && !t->planned);
    n->op = op;
    n->out = new_tensor(t, n, rows, cols);
    n->passes = -1;
    n->segment = t->segment;
    n->index = t->n_nodes;
    for (int i = 0; i < n_in; i++) {
        n->in[i] = in[i];
        if (!in[i]) continue;
        in[i]->consumers++;
        if (in[i]->needs_grad && t->train) n->out->needs_grad = true;
    }
    CHECK(!n->out->needs_grad || op->backward);
    if (t->n_nodes == t->cap_nodes) {
        int cap = t->cap_nodes ? 2 * t->cap_nodes : 256;
        struct node **nodes = realloc(t->nodes, (size_t)cap * sizeof *nodes);
        /* a few kilobytes; it is the region that can really run out of memory */
        if (!nodes) err_no_memory("the list of a step's operations");
        t->nodes = nodes;
        t->cap_nodes = cap;
    }
    t->nodes[t->n_nodes++] = n;
    return n;
}

struct tensor *tape_aux(struct tape *t, int64_t rows, int64_t cols)
{
    struct node *n = t->nodes[t->n_nodes - 1];

    n->aux = new_tensor(t, n, rows, cols);
    return n->aux;
}

void tape_in_place(struct node *n)
{
    struct tensor *x = n->in[0];

    CHECK(x->maker && x->consumers == 1 && !x->kept);
    CHECK(x->rows == n->out->rows && x->cols == n->out->cols);
    n->out->alias = x;
}

void tape_keep(struct tensor *t)
{
    t->kept = true;
}

void tape_segment_begin(struct tape *t)
{
    CHECK(t->segment < 0);
    t->segment = t->n_segments++;
}

void tape_segment_end(struct tape *t)
{
    CHECK(t->segment >= 0);
    t->segment = -1;
}

struct tensor *tensor_root(struct tensor *t)
{
    while (t->alias)
        t = t->alias;
    return t;
}

size_t tape_bytes(struct tape *t)
{
    if (!t->planned) {
        plan_tape(t);
        t->planned = true;
    }
    return t->planned_bytes;
}

size_t tape_region(const struct tape *t)
{
    return t->region_size;
}

struct node *const *tape_nodes(const struct tape *t, int *n)
{
    *n = t->n_nodes;
    return t->nodes;
}

static bool hold_region(struct tape *t, size_t bytes, struct err *e)
{
    size_t size = (bytes + huge_page - 1) / huge_page * huge_page;

    if (size <= t->region_size) return true;
    if (t->region) munmap(t->region, t->region_size);
    t->region_size = 0;
    t->region = map_memory(size);
    if (!t->region)
        return err_set(e, "out of memory: %zu MiB for the activations of one step", size >> 20);
    madvise(t->region, size, MADV_HUGEPAGE); /* a hint: harmless if refused */
    t->region_size = size;
    return true;
}

/* Where tensor x is in phase 0 (forward) or 1 (after its maker was rerun). */
static void locate(struct tape *t, struct tensor *x, int phase)
{
    if (!x) return;
    struct storage *s = tensor_root(x)->storage;
    if (s->at[phase].begin > s->at[phase].end) phase = 0; /* read outside its segment */
    x->data = t->region + s->at[phase].offset;
}

bool tape_plan(struct tape *t, size_t limit, struct err *e)
{
    size_t bytes = tape_bytes(t);

    if (limit && bytes > limit)
        return err_set(e, "one step needs %zu MiB for activations, %zu MiB are allowed",
                       (bytes >> 20) + 1, limit >> 20);
    if (!hold_region(t, bytes, e)) return false;
    for (int i = 0; i < t->n_nodes; i++) {
        struct tensor *y = t->nodes[i]->out;
        struct storage *g = tensor_root(y)->grad_storage;
        locate(t, y, 0);
        locate(t, t->nodes[i]->aux, 0);
        if (y->needs_grad) y->grad = (real *)(void *)(t->region + g->at[0].offset);
    }
    return true;
}

static struct op_time *time_of(struct tape *t, const struct op *op)
{
    for (int i = 0; i < t->n_times; i++)
        if (t->times[i].op == op) return &t->times[i];
    CHECK(t->n_times < MAX_OP_TIMES);
    t->times[t->n_times] = (struct op_time){.op = op};
    return &t->times[t->n_times++];
}

/* ---- what is kept between the passes as bf16 (double builds round to it, but
 * keep doubles) ---- */

static void round_rows(real *x, int64_t n)
{
#pragma omp parallel for simd schedule(static) if (parallel : n > 1 << 15)
    for (int64_t i = 0; i < n; i++)
        x[i] = bf16_round((float)x[i]);
}

static void pack(struct tape *t, const struct stash *h)
{
    const real *from = (const real *)(void *)(t->region + h->storage->at[0].offset);
    uint16_t *to = (uint16_t *)(void *)(t->region + h->packed.offset);

#pragma omp parallel for simd schedule(static) if (parallel : h->count > 1 << 15)
    for (int64_t i = 0; i < h->count; i++)
        to[i] = bf16_from_f32((float)from[i]);
}

static void unpack(struct tape *t, const struct stash *h)
{
    const uint16_t *from = (const uint16_t *)(void *)(t->region + h->packed.offset);
    real *to = (real *)(void *)(t->region + h->storage->at[1].offset);

#pragma omp parallel for simd schedule(static) if (parallel : h->count > 1 << 15)
    for (int64_t i = 0; i < h->count; i++)
        to[i] = bf16_to_f32(from[i]);
    for (int i = h->root->maker->index; i < t->n_nodes; i++) /* all its aliases */
        if (tensor_root(t->nodes[i]->out) == h->root) t->nodes[i]->out->data = to;
}

static void run(struct tape *t, struct step *s)
{
    struct node *n = s->node;
    double begin = t->profile ? clock_seconds() : 0;

    n->scratch = t->region + s->scratch.offset;
    if (s->kind == STEP_BACKWARD) {
        n->op->backward(n);
    } else {
        locate(t, n->out, s->kind == STEP_RERUN);
        locate(t, n->aux, s->kind == STEP_RERUN);
        n->op->forward(n);
        if (tensor_root(n->out)->storage->rounded) round_rows(n->out->data, tensor_count(n->out));
    }
    if (t->profile) {
        struct op_time *ot = time_of(t, n->op);
        *(s->kind == STEP_BACKWARD ? &ot->backward : &ot->forward) += clock_seconds() - begin;
        ot->calls++;
    }
}

bool tape_forward(struct tape *t)
{
    CHECK(t->planned && (t->region || t->planned_bytes == 0));
    for (int i = 0; i < t->n_forward; i++) {
        if (signals_came() || (t->go_on && !t->go_on(t->go_on_arg))) return false;
        run(t, &t->steps[i]);
        for (const struct stash *h = t->steps[i].pack; h; h = h->next_packed)
            pack(t, h);
    }
    return true;
}

void tape_ask(struct tape *t, bool (*go_on)(void *arg), void *arg)
{
    t->go_on = go_on;
    t->go_on_arg = arg;
}

void tape_on_final(struct tape *t, tape_final *f, void *arg)
{
    t->final = f;
    t->final_arg = arg;
}

/* The trained leaf that a step of the backward pass adds to by its input k; or NULL. */
static struct tensor *leaf_of(const struct step *s, int k)
{
    struct tensor *x = s->node->in[k];

    return s->kind == STEP_BACKWARD && x && !x->maker && x->needs_grad ? x : NULL;
}

static void count_writers(struct tape *t)
{
    struct tensor *x;

    for (int i = t->n_forward; i < t->n_steps; i++)
        for (int k = 0; k < NODE_IN; k++)
            if ((x = leaf_of(&t->steps[i], k))) x->writers = 0;
    for (int i = t->n_forward; i < t->n_steps; i++)
        for (int k = 0; k < NODE_IN; k++)
            if ((x = leaf_of(&t->steps[i], k))) x->writers++;
}

static void note_final(struct tape *t, const struct step *s)
{
    struct tensor *x;

    for (int k = 0; k < NODE_IN; k++)
        if ((x = leaf_of(s, k)) && --x->writers == 0) t->final(t->final_arg, x);
}

bool tape_backward(struct tape *t, struct tensor *loss)
{
    CHECK(t->train && loss->rows == 1 && loss->cols == 1);
    CHECK(loss->maker &&
          loss->maker->index == t->n_nodes - 1); /* its gradient lives from there on */
    if (!loss->needs_grad) return true;          /* nothing is trained */
    for (int i = 0; i < t->n_nodes; i++)
        t->nodes[i]->out->grad_live = false;
    loss->grad[0] = 1;
    loss->grad_live = true;
    if (t->final) count_writers(t);
    for (int i = t->n_forward; i < t->n_steps; i++) {
        if (signals_came()) return false;
        for (const struct stash *h = t->steps[i].unpack; h; h = h->next_unpacked)
            unpack(t, h);
        if (t->steps[i].kind == STEP_RERUN || t->steps[i].node->out->grad_live)
            run(t, &t->steps[i]);
        if (t->final) note_final(t, &t->steps[i]);
    }
    return true;
}

bool tape_grad_adds(struct tensor *x)
{
    CHECK(x->needs_grad && x->grad);
    if (!x->maker) return true; /* a leaf's gradient belongs to the caller and accumulates */
    bool adds = x->grad_live;
    x->grad_live = true;
    return adds;
}

void tape_pass_grad(struct node *n, int i)
{
    struct tensor *x = n->in[i];
    const real *dy = n->out->grad;
    int64_t count = tensor_count(x);

    if (!x->needs_grad) return;
    bool adds = tape_grad_adds(x);
    if (x->grad == dy) {
        CHECK(!adds);
        return;
    }
    if (!adds) memset(x->grad, 0, (size_t)count * sizeof *dy);
#pragma omp parallel for simd schedule(static) if (parallel : count > 1 << 15)
    for (int64_t j = 0; j < count; j++)
        x->grad[j] += dy[j];
}

void tape_profile(struct tape *t, bool on)
{
    t->profile = on;
    t->n_times = 0;
}

const struct op_time *tape_times(const struct tape *t, int *n)
{
    *n = t->n_times;
    return t->times;
}
