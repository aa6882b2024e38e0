/* plan.c - tensor lifetimes and placement.
 *
 * Time is counted in steps: the forward nodes in order, then, for training, the nodes backwards. On
 * entering a recomputed segment from its end, those of its nodes whose outputs its backward reads
 * first run again. This gives every tensor, gradient and scratch buffer the range of steps in which
 * it must exist; all of them are placed largest first, each at the lowest offset where it overlaps
 * nothing alive at the same time (greedy by size: Pisarchyk and Lee, arXiv 2001.03288). */
#include "autograd/tape_parts.h"

#include <limits.h>
#include <string.h>

static bool has_backward(const struct node *n)
{
    return n->out->needs_grad;
}

/* Made in a segment and read only there: in the backward pass it is recomputed. */
static bool is_interior(const struct tensor *x, const bool *boundary)
{
    return x->maker && x->maker->segment >= 0 && !boundary[x->maker->index];
}

/* boundary[i]: the output of node i, under any of its in-place names, is read outside the node's
 * segment (or by the caller). */
static void find_boundaries(struct tape *t, bool *boundary)
{
    for (int i = 0; i < t->n_nodes; i++) {
        struct node *n = t->nodes[i];
        if (n->out->kept) boundary[i] = true;
        for (int k = 0; k < NODE_IN; k++)
            if (n->in[k] && n->in[k]->maker && n->in[k]->maker->segment != n->segment)
                boundary[n->in[k]->maker->index] = true;
    }
    for (int i = t->n_nodes - 1; i >= 0; i--) /* the loss, and anything nobody reads */
        if (t->nodes[i]->out->consumers == 0) boundary[i] = true;
    for (int i = t->n_nodes - 1; i >= 0; i--) { /* in place: all names share memory */
        struct tensor *y = t->nodes[i]->out;
        if (y->alias && boundary[i]) boundary[y->alias->maker->index] = true;
    }
    for (int i = 0; i < t->n_nodes; i++) {
        struct tensor *y = t->nodes[i]->out;
        if (y->alias && boundary[y->alias->maker->index]) boundary[i] = true;
    }
}

/* Marks the nodes of segments that must run again: those whose interior output or aux the segment's
 * backward reads, and, transitively, those that their forwards read. */
static void find_reruns(struct tape *t, const bool *boundary)
{
    for (int i = t->n_nodes - 1; i >= 0; i--) {
        struct node *n = t->nodes[i];
        if (n->segment < 0 || !has_backward(n)) continue;
        if (n->reads & READS_AUX) n->rerun = true;
        if ((n->reads & READS_OUT) && !boundary[i]) n->rerun = true;
        for (int k = 0; k < NODE_IN; k++)
            if (n->in[k] && (n->reads >> k & 1) && is_interior(n->in[k], boundary))
                n->in[k]->maker->rerun = true;
    }
    for (bool again = true; again;) {
        again = false;
        for (int i = t->n_nodes - 1; i >= 0; i--) {
            struct node *n = t->nodes[i];
            if (!n->rerun) continue;
            for (int k = 0; k < NODE_IN; k++)
                if (n->in[k] && is_interior(n->in[k], boundary)) n->in[k]->maker->rerun = true;
        }
        for (int i = 0; i < t->n_nodes; i++) { /* whatever modified it in place must follow */
            struct node *n = t->nodes[i];
            if (n->rerun || !n->out->alias || !n->out->alias->maker->rerun) continue;
            if (n->segment == n->out->alias->maker->segment) n->rerun = again = true;
        }
    }
}

static void add_step(struct tape *t, struct node *n, enum step_kind kind)
{
    t->steps[t->n_steps++] = (struct step){.node = n, .kind = kind};
}

static void order_steps(struct tape *t)
{
    int segment = -1;

    t->steps = tape_new_array(t, struct step, 3 * t->n_nodes + 1);
    t->n_steps = 0;
    for (int i = 0; i < t->n_nodes; i++)
        add_step(t, t->nodes[i], STEP_FORWARD);
    t->n_forward = t->n_steps;
    if (!t->train) return;
    for (int i = t->n_nodes - 1; i >= 0; i--) {
        struct node *n = t->nodes[i];
        if (n->segment >= 0 && n->segment != segment) {
            int first = i;
            while (first > 0 && t->nodes[first - 1]->segment == n->segment)
                first--;
            for (int k = first; k <= i; k++)
                if (t->nodes[k]->rerun) add_step(t, t->nodes[k], STEP_RERUN);
        }
        segment = n->segment;
        if (has_backward(n)) add_step(t, n, STEP_BACKWARD);
    }
}

static void use(struct place *p, int time)
{
    if (time < p->begin) p->begin = time;
    if (time > p->end) p->end = time;
}

static const struct place unused = {.begin = INT_MAX, .end = -1};

static struct storage *new_storage(struct tape *t, const struct tensor *x)
{
    struct storage *s = tape_alloc(t, sizeof *s);
    size_t bytes = ((size_t)tensor_count(x) * sizeof(real) + 63) & ~(size_t)63;

    s->at[0] = s->at[1] = unused;
    s->at[0].bytes = s->at[1].bytes = bytes;
    return s;
}

/* The storage phase of x that a use at this kind of step falls into. */
static struct place *phase(struct tensor *x, enum step_kind kind, const bool *boundary)
{
    struct tensor *root = tensor_root(x);
    bool anew = root->storage->stash || (root->maker->rerun && is_interior(root, boundary));

    return &root->storage->at[kind != STEP_FORWARD && anew];
}

static void make_storages(struct tape *t)
{
    for (int i = 0; i < t->n_nodes; i++) {
        struct node *n = t->nodes[i];
        struct tensor *y = n->out;
        struct tensor *pass = n->passes >= 0 ? n->in[n->passes] : NULL;
        CHECK(!y->alias || y->alias->consumers == 1); /* nobody reads a tensor modified in place */
        if (!y->alias) y->storage = new_storage(t, y);
        if (n->aux) n->aux->storage = new_storage(t, n->aux);
        if (!has_backward(n)) continue;
        if (!y->alias) y->grad_storage = new_storage(t, y);
        /* A residual's last consumer is the first to give it a gradient, and that is out's own. */
        if (pass && pass->needs_grad && pass->maker) {
            bool last = true;
            for (int k = i + 1; last && k < t->n_nodes; k++)
                for (int j = 0; j < NODE_IN; j++)
                    if (t->nodes[k]->in[j] == pass) last = false;
            for (int j = 0; j < NODE_IN; j++) /* nor be another input of this node */
                if (j != n->passes && n->in[j] == pass) last = false;
            if (last && !pass->alias && !y->alias) y->grad_storage = pass->grad_storage;
        }
    }
}

enum { STASH_LEAST = 1 << 10, STASH_GAP = 4 }; /* elements; steps it must be idle */

/* Whatever a backward reads is rounded; small tensors are not worth it. */
static void find_rounded(struct tape *t)
{
    for (int i = 0; i < t->n_nodes; i++) {
        struct node *n = t->nodes[i];
        if (!has_backward(n)) continue;
        for (int k = 0; k < NODE_IN; k++)
            if (n->in[k] && n->in[k]->maker && (n->reads >> k & 1))
                tensor_root(n->in[k])->storage->rounded = true;
        if (n->reads & READS_OUT) tensor_root(n->out)->storage->rounded = true;
    }
    for (int i = 0; i < t->n_nodes; i++) {
        struct tensor *y = t->nodes[i]->out;
        if (!y->alias && tensor_count(y) < STASH_LEAST) y->storage->rounded = false;
    }
}

/* Rounded tensors may be stashed, unless the caller reads them or they are recomputed anyway.
 * settle_stashes drops those that do not pay. */
static void offer_stashes(struct tape *t)
{
    for (int i = 0; i < t->n_nodes; i++) {
        struct tensor *y = t->nodes[i]->out;
        if (y->alias || !y->storage->rounded) continue;
        y->storage->stash = tape_alloc(t, sizeof *y->storage->stash);
        *y->storage->stash = (struct stash){.packed = unused, .storage = y->storage, .root = y};
    }
    for (int i = 0; i < t->n_nodes; i++) {
        struct tensor *y = t->nodes[i]->out;
        bool read_later = y->kept || y->consumers == 0;
        if (read_later || t->nodes[i]->rerun) tensor_root(y)->storage->stash = NULL;
    }
}

static void settle_stashes(struct tape *t)
{
    for (int i = 0; i < t->n_nodes; i++) {
        struct storage *s = t->nodes[i]->out->storage;
        struct stash *h = t->nodes[i]->out->alias ? NULL : s->stash;
        if (!h) continue;
        if (s->at[1].begin > s->at[1].end || s->at[1].begin - s->at[0].end < STASH_GAP) {
            if (s->at[1].end > s->at[0].end) s->at[0].end = s->at[1].end;
            s->at[1] = unused;
            s->stash = NULL;
            continue;
        }
        struct step *last = &t->steps[s->at[0].end], *first = &t->steps[s->at[1].begin];
        h->count = tensor_count(h->root);
        h->packed = (struct place){.bytes = ((size_t)h->count * 2 + 63) & ~(size_t)63,
                                   .begin = s->at[0].end,
                                   .end = s->at[1].begin};
        h->next_packed = last->pack;
        last->pack = h;
        h->next_unpacked = first->unpack;
        first->unpack = h;
    }
}

static void mark_step(struct tape *t, int time, const bool *boundary)
{
    struct step *s = &t->steps[time];
    struct node *n = s->node;

    s->scratch =
        (struct place){.bytes = (n->scratch_bytes + 63) & ~(size_t)63, .begin = time, .end = time};
    if (s->kind == STEP_BACKWARD) {
        use(&tensor_root(n->out)->grad_storage->at[0], time);
        for (int k = 0; k < NODE_IN; k++) {
            struct tensor *x = n->in[k];
            if (!x || !x->maker) continue;
            if (x->needs_grad) use(&tensor_root(x)->grad_storage->at[0], time);
            if (n->reads >> k & 1) use(phase(x, s->kind, boundary), time);
        }
        if (n->reads & READS_OUT) use(phase(n->out, s->kind, boundary), time);
        if (n->reads & READS_AUX) use(&n->aux->storage->at[n->rerun], time);
        return;
    }
    use(phase(n->out, s->kind, boundary), time);
    if (n->aux) use(&n->aux->storage->at[s->kind == STEP_RERUN], time);
    for (int k = 0; k < NODE_IN; k++)
        if (n->in[k] && n->in[k]->maker) use(phase(n->in[k], s->kind, boundary), time);
    if (n->out->kept || n->out->consumers == 0) use(phase(n->out, s->kind, boundary), t->n_steps);
}

/* Whether p is placed before q: the larger first, then the earlier. */
static bool goes_before(const struct place *p, const struct place *q)
{
    if (p->bytes != q->bytes) return p->bytes > q->bytes;
    if (p->begin != q->begin) return p->begin < q->begin;
    return p->end < q->end;
}

/* A stable merge sort, with room for n in `other`: qsort may allocate, which no step may. */
static void sort_places(struct place **items, struct place **other, int n)
{
    for (int width = 1; width < n; width *= 2) {
        for (int from = 0; from < n; from += 2 * width) {
            int middle = from + width < n ? from + width : n;
            int end = middle + width < n ? middle + width : n, a = from, b = middle;
            for (int k = from; k < end; k++) {
                bool second = a == middle || (b < end && goes_before(items[b], items[a]));
                other[k] = second ? items[b++] : items[a++];
            }
        }
        memcpy(items, other, (size_t)n * sizeof *items);
    }
}

/* Places all items; `placed` is kept sorted by offset. */
static size_t place_all(struct place **items, int n, struct place **placed)
{
    size_t top = 0;

    sort_places(items, placed, n);
    for (int i = 0; i < n; i++) {
        struct place *p = items[i];
        size_t at = 0;
        int slot = 0;
        for (int k = 0; k < i; k++) {
            struct place *q = placed[k];
            if (q->end < p->begin || p->end < q->begin) continue;
            if (q->offset >= at + p->bytes) break;
            if (q->offset + q->bytes > at) at = q->offset + q->bytes;
        }
        while (slot < i && placed[slot]->offset <= at)
            slot++;
        memmove(placed + slot + 1, placed + slot, (size_t)(i - slot) * sizeof *placed);
        placed[slot] = p;
        p->offset = at;
        if (at + p->bytes > top) top = at + p->bytes;
    }
    return top;
}

static void collect(struct storage *s, struct place **items, int *n)
{
    for (int k = 0; s && k < 2; k++)
        if (s->at[k].begin <= s->at[k].end && s->at[k].bytes) items[(*n)++] = &s->at[k];
    if (s && s->stash) items[(*n)++] = &s->stash->packed;
}

void plan_tape(struct tape *t)
{
    bool *boundary = tape_new_array(t, bool, t->n_nodes + 1);
    struct place **items, **placed;
    int n = 0;

    find_boundaries(t, boundary);
    if (t->train) find_reruns(t, boundary);
    order_steps(t);
    make_storages(t);
    if (t->train && t->stashes) {
        find_rounded(t);
        offer_stashes(t);
    }
    for (int i = 0; i < t->n_steps; i++)
        mark_step(t, i, boundary);
    if (t->train && t->stashes) settle_stashes(t);
    items = tape_new_array(t, struct place *, 7 * t->n_nodes + t->n_steps + 1);
    placed = tape_new_array(t, struct place *, 7 * t->n_nodes + t->n_steps + 1);
    for (int i = 0; i < t->n_nodes; i++) {
        struct tensor *y = t->nodes[i]->out, *aux = t->nodes[i]->aux;
        struct tensor *pass =
            t->nodes[i]->passes >= 0 ? t->nodes[i]->in[t->nodes[i]->passes] : NULL;
        bool shared = pass && pass->maker && y->grad_storage == pass->grad_storage;
        collect(y->storage, items, &n);
        if (aux) collect(aux->storage, items, &n);
        if (!shared) collect(y->grad_storage, items, &n);
    }
    for (int i = 0; i < t->n_steps; i++)
        if (t->steps[i].scratch.bytes) items[n++] = &t->steps[i].scratch;
    t->planned_bytes = place_all(items, n, placed);
}
