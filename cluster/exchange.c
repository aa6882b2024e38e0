/* exchange.c - see exchange.h. Parts are cut into buckets, in the order in which the backward
 * pass comes to the parameters, from the last to the first: a bucket's number among those of its
 * owner is its message's tag. What an owner receives lies in a few slots, one bucket of every other
 * process in each, which are used in turn. */
#include "cluster/exchange.h"
#include "base/bf16.h"
#include "base/mem.h"
#include "cluster/cluster.h"
#include "cluster/net.h"

#include <stdlib.h>
#include <string.h>

/* Values of a bucket at least, unless a part has fewer; buckets at most about, unless there are as
 * many parts; messages that a tag can tell apart; bytes of all slots together; values that are
 * summed at a time. */
enum { LEAST = 1 << 18, MOST_BUCKETS = 1 << 14, TAGS = 1 << 15, SLOT_BYTES = 64 << 20, SUM = 4096 };

struct bucket {
    int64_t param, first, n;
    int owner, tag;
};

struct slot {
    int bucket; /* -1: free */
    int missing;
    char *room; /* [size - 1][most]: of the other processes, in the order of ranks */
};

struct exchange {
    int size, rank;
    struct tensor **params; /* [n], at ascending addresses */
    int64_t n, all, most;   /* values: of all; of a bucket at most */
    enum wire wire;
    struct shards shards;
    struct adamw_part *parts; /* [n]: this process's */
    struct bucket *buckets;   /* [n_buckets] */
    int *from;                /* [n + 1]: the buckets of parameter i end before from[i] */
    int *own;                 /* [n_own]: buckets of this process */
    int n_buckets, n_own, next, summed;
    struct slot *slots;
    int n_slots;
    struct net_calls *receiving, *sending, *spreading;
    int *done;   /* room for net_arrived */
    bool *final; /* [n] */
    bool finishing;
    double gradients, early, values; /* bytes sent in all steps */
    int64_t steps;
};

/* A type that gradients are sent in. Packing may be in place. */
static void pack_f32(void *to, const float *from, int64_t n)
{
    if (to != (const void *)from) memcpy(to, from, (size_t)n * sizeof *from);
}

static void add_f32(float *sum, const void *from, int64_t at, int64_t n)
{
    const float *x = (const float *)from + at;

#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

static void pack_bf16(void *to, const float *from, int64_t n)
{
    uint16_t *out = to;

    for (int64_t i = 0; i < n; i++) { /* in order: what is written has been read */
        const uint16_t bits = bf16_from_f32(from[i]);
        memcpy(out + i, &bits, sizeof bits);
    }
}

static void add_bf16(float *sum, const void *from, int64_t at, int64_t n)
{
    const uint16_t *x = (const uint16_t *)from + at;

#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] += bf16_to_f32(x[i]);
}

static const struct {
    size_t bytes;
    void (*pack)(void *to, const float *from, int64_t n);
    void (*add)(float *sum, const void *from, int64_t at, int64_t n);
} wires[WIRES] = {[WIRE_F32] = {sizeof(float), pack_f32, add_f32},
                  [WIRE_BF16] = {sizeof(uint16_t), pack_bf16, add_bf16}};

static float *grad_of(const struct exchange *x, const struct bucket *b)
{
    return (float *)(void *)x->params[b->param]->grad + b->first;
}

/* ---- opening ---- */

/* Visits all buckets in order; returns how many there are. tags[size]: of each owner, zeroed. */
static int cut(struct exchange *x, int *tags, struct bucket *out)
{
    int n = 0;

    for (int64_t i = x->n - 1; i >= 0; i--)
        for (int owner = 0; owner < x->size; owner++) {
            const struct adamw_part p = shards_part(&x->shards, x->size, owner, i);
            for (int64_t at = 0; at < p.n; at += x->most, n++) {
                const int64_t rest = p.n - at;
                CHECK(tags[owner] < TAGS);
                if (out)
                    out[n] = (struct bucket){i, p.first + at, rest < x->most ? rest : x->most,
                                             owner, tags[owner]};
                tags[owner]++;
            }
        }
    return n;
}

static bool open_buckets(struct exchange *x, struct err *e)
{
    static const char what[] = "the exchange of gradients";
    const size_t size = (size_t)x->size;
    int *tags = mem_new(2 * size, sizeof *tags, what, e);

    if (tags) x->n_buckets = cut(x, tags, NULL);
    x->buckets = mem_new((size_t)x->n_buckets, sizeof *x->buckets, what, e);
    x->from = mem_new((size_t)x->n + 1, sizeof *x->from, what, e);
    x->own = mem_new((size_t)x->n_buckets, sizeof *x->own, what, e);
    if (tags && x->buckets && x->from && x->own) cut(x, tags + size, x->buckets);
    free(tags);
    if (!tags || !x->buckets || !x->from || !x->own) return false;
    for (int b = 0; b < x->n_buckets; b++) {
        x->from[x->buckets[b].param]++;
        if (x->buckets[b].owner == x->rank) x->own[x->n_own++] = b;
    }
    for (int64_t i = x->n - 1; i >= 0; i--) /* counts become ends */
        x->from[i] += x->from[i + 1];
    return true;
}

/* Values of a bucket at most, of that many in all. */
static int64_t most_of_bucket(int64_t all)
{
    return all / MOST_BUCKETS > LEAST ? all / MOST_BUCKETS : LEAST;
}

/* Slots of that many bytes, if there are buckets for all. */
static int slots_of(size_t bytes)
{
    return (int)(SLOT_BYTES / bytes) + 2;
}

static bool open_slots(struct exchange *x, struct err *e)
{
    static const char what[] = "the exchange of gradients";
    const size_t others = (size_t)x->size - 1;
    const size_t bytes = others * (size_t)x->most * wires[x->wire].bytes;
    int calls, spread = x->n_own * (int)others + x->n_buckets - x->n_own;

    x->n_slots = slots_of(bytes);
    if (x->n_slots > x->n_own) x->n_slots = x->n_own;
    calls = x->n_slots * (int)others;
    x->slots = mem_new((size_t)x->n_slots, sizeof *x->slots, what, e);
    for (int i = 0; x->slots && i < x->n_slots; i++)
        if (!(x->slots[i].room = mem_new(bytes, 1, what, e))) return false;
    x->done = mem_new((size_t)(calls + x->n_buckets + spread), sizeof *x->done, what, e);
    x->receiving = net_calls_new(calls, e);
    x->sending = net_calls_new(x->n_buckets, e);
    x->spreading = net_calls_new(spread, e);
    return x->slots && x->done && x->receiving && x->sending && x->spreading;
}

static bool open_exchange(struct exchange *x, struct tensor *const params[], struct err *e)
{
    static const char what[] = "the exchange of gradients";

    x->params = mem_new((size_t)x->n, sizeof(struct tensor *), what, e);
    x->parts = mem_new((size_t)x->n, sizeof *x->parts, what, e);
    x->final = mem_new((size_t)x->n, sizeof *x->final, what, e);
    if (!x->params || !x->parts || !x->final || !shards_init(&x->shards, params, x->n, e))
        return false;
    for (int64_t i = 0; i < x->n; i++) {
        CHECK(i == 0 || params[i] > params[i - 1]);
        x->params[i] = params[i];
        x->parts[i] = shards_part(&x->shards, x->size, x->rank, i);
        x->all += tensor_count(params[i]);
    }
    x->most = most_of_bucket(x->all);
    return x->size == 1 || (open_buckets(x, e) && open_slots(x, e));
}

struct exchange *exchange_new(struct tensor *const params[], int64_t n, enum wire wire,
                              struct err *e)
{
    struct exchange *x = mem_new(1, sizeof *x, "the exchange of gradients", e);
    bool ok = x;

    if (x) *x = (struct exchange){cluster_size(), cluster_rank(), .n = n, .wire = wire};
    ok = cluster_agree(ok && open_exchange(x, params, e), e);
    if (ok) return x;
    exchange_free(x);
    return NULL;
}

double exchange_bytes(double values, int64_t size, enum wire wire)
{
    const double own = values / (double)size * (double)(size - 1) * (double)wires[wire].bytes;
    const size_t slot =
        (size_t)(size - 1) * (size_t)most_of_bucket((int64_t)values) * wires[wire].bytes;
    const double slots = size > 1 ? (double)slots_of(slot) * (double)slot : 0;

    return own < slots ? own : slots; /* of small parts there are fewer buckets than slots */
}

void exchange_free(struct exchange *x)
{
    if (!x) return;
    for (int i = 0; x->slots && i < x->n_slots; i++)
        free(x->slots[i].room);
    net_calls_free(x->receiving);
    net_calls_free(x->sending);
    net_calls_free(x->spreading);
    shards_free(&x->shards);
    free(x->params);
    free(x->parts);
    free(x->final);
    free(x->buckets);
    free(x->from);
    free(x->own);
    free(x->slots);
    free(x->done);
    free(x);
}

const struct adamw_part *exchange_parts(const struct exchange *x)
{
    return x->parts;
}

const struct shards *exchange_shards(const struct exchange *x)
{
    return &x->shards;
}

/* ---- gradients ---- */

/* Gives a free slot the next bucket of this process, if there is one left. */
static void use_slot(struct exchange *x, int i)
{
    struct slot *s = &x->slots[i];
    const size_t bytes = (size_t)x->most * wires[x->wire].bytes;

    s->bucket = -1;
    if (x->next == x->n_own) return;
    s->bucket = x->own[x->next++];
    s->missing = x->size - 1;
    for (int r = 0, k = 0; r < x->size; r++) {
        if (r == x->rank) continue;
        net_receive(x->receiving, i * (x->size - 1) + k, s->room + (size_t)k * bytes,
                    (size_t)x->buckets[s->bucket].n * wires[x->wire].bytes, r,
                    x->buckets[s->bucket].tag);
        k++;
    }
}

void exchange_begin(struct exchange *x)
{
    if (x->size == 1) return;
    x->next = x->summed = 0;
    x->finishing = false;
    memset(x->final, 0, (size_t)x->n * sizeof *x->final);
    for (int i = 0; i < x->n_slots; i++)
        use_slot(x, i);
}

/* Values [at, at + n) of the slot's bucket: what all processes have, in the order of ranks. */
static void sum_values(const struct exchange *x, const struct slot *s, int64_t at, int64_t n)
{
    const size_t bytes = (size_t)x->most * wires[x->wire].bytes;
    float *grad = grad_of(x, &x->buckets[s->bucket]) + at, sum[SUM] = {0};

    for (int r = 0, k = 0; r < x->size; r++)
        if (r == x->rank)
            add_f32(sum, grad, 0, n);
        else
            wires[x->wire].add(sum, s->room + (size_t)k++ * bytes, at, n);
    memcpy(grad, sum, (size_t)n * sizeof *sum);
}

static void sum_slot(const struct exchange *x, const struct slot *s)
{
    const int64_t n = x->buckets[s->bucket].n;

#pragma omp parallel for schedule(static) if (n > 4 * SUM)
    for (int64_t at = 0; at < n; at += SUM)
        sum_values(x, s, at, n - at < SUM ? n - at : SUM);
}

/* Sums what has come whole. */
static void advance(struct exchange *x, bool wait)
{
    const int n = net_arrived(x->receiving, x->done, wait);

    for (int i = 0; i < n; i++)
        x->slots[x->done[i] / (x->size - 1)].missing--;
    for (int i = 0; i < x->n_slots; i++) {
        struct slot *s = &x->slots[i];
        if (s->bucket < 0 || s->missing || !x->final[x->buckets[s->bucket].param]) continue;
        sum_slot(x, s);
        x->summed++;
        use_slot(x, i);
    }
}

static void send_param(struct exchange *x, int64_t i)
{
    for (int b = x->from[i + 1]; b < x->from[i]; b++) {
        const struct bucket *k = &x->buckets[b];
        const size_t bytes = (size_t)k->n * wires[x->wire].bytes;
        float *grad = grad_of(x, k);

        if (k->owner == x->rank) continue;
        wires[x->wire].pack(grad, grad, k->n);
        net_send(x->sending, b, grad, bytes, k->owner, k->tag);
        x->gradients += (double)bytes;
        if (!x->finishing) x->early += (double)bytes;
    }
    x->final[i] = true;
}

static int64_t index_of(const struct exchange *x, const struct tensor *param)
{
    int64_t low = 0, high = x->n;

    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        *(x->params[middle] <= param ? &low : &high) = middle;
    }
    CHECK(x->params[low] == param);
    return low;
}

void exchange_final(void *exchange, struct tensor *param)
{
    struct exchange *x = exchange;

    if (x->size == 1) return;
    send_param(x, index_of(x, param));
    advance(x, false);
}

/* The gradients of others' parts have been sent, and perhaps packed. */
static void zero_others(struct exchange *x)
{
    for (int b = 0; b < x->n_buckets; b++)
        if (x->buckets[b].owner != x->rank)
            memset(grad_of(x, &x->buckets[b]), 0, (size_t)x->buckets[b].n * sizeof(float));
}

void exchange_finish(struct exchange *x)
{
    if (x->size == 1) return;
    x->finishing = true;
    for (int64_t i = x->n - 1; i >= 0; i--)
        if (!x->final[i]) send_param(x, i);
    advance(x, false);
    while (x->summed < x->n_own)
        advance(x, true);
    while (net_arrived(x->sending, x->done, true) >= 0) {
    }
    zero_others(x);
}

/* ---- values ---- */

void exchange_values(struct exchange *x)
{
    int call = 0;

    if (x->size == 1) return;
    for (int b = 0; b < x->n_buckets; b++) {
        const struct bucket *k = &x->buckets[b];
        float *values = (float *)x->params[k->param]->data + k->first;
        const size_t bytes = (size_t)k->n * sizeof *values;

        if (k->owner != x->rank) net_receive(x->spreading, call++, values, bytes, k->owner, k->tag);
        for (int r = 0; k->owner == x->rank && r < x->size; r++)
            if (r != x->rank) net_send(x->spreading, call++, values, bytes, r, k->tag);
        if (k->owner == x->rank) x->values += (double)bytes * (x->size - 1);
    }
    while (net_arrived(x->spreading, x->done, true) >= 0) {
    }
    x->steps++;
}

struct exchange_sent exchange_sent(const struct exchange *x)
{
    const double steps = (double)(x->steps ? x->steps : 1);

    return (struct exchange_sent){x->gradients / steps, x->values / steps,
                                  x->gradients > 0 ? x->early / x->gradients : 0};
}

double exchange_theory(const struct exchange *x)
{
    const double bytes = (double)(wires[x->wire].bytes + sizeof(float));

    return bytes * (double)x->all * (x->size - 1) / x->size;
}
