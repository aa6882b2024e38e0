/* answers_pair.c - which answers of a file are to the same question, and of two models' files. */
#include "base/hash.h"
#include "base/mem.h"
#include "data/answers_parts.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(const struct answer *a)
{
    return hash_fnv(a->set, strlen(a->set)) * 31 + hash_fnv(a->id, strlen(a->id));
}

static bool same_question(const struct answer *a, const struct answer *b)
{
    return strcmp(a->set, b->set) == 0 && strcmp(a->id, b->id) == 0;
}

/* The nth answer to the same question, NULL if there is none. */
static const struct answer *find(const struct answers *all, const struct slots *slots,
                                 const struct answer *like, size_t nth)
{
    const uint64_t hash = hash_of(like);
    uint64_t step = 0;
    int64_t i;

    while ((i = slots_next(slots, hash, &step)) >= 0)
        if (same_question(&all->v[i], like) && all->v[i].nth == nth) return &all->v[i];
    return NULL;
}

bool answers_number(struct answers *a, struct err *e)
{
    struct slots slots = {0};
    size_t *times = mem_new(a->n, sizeof *times, "answers", e); /* by the first of a question */
    bool ok = times && slots_reserve(&slots, (int64_t)a->n, e);

    for (size_t i = 0; ok && i < a->n; i++) {
        const struct answer *first = find(a, &slots, &a->v[i], 0);
        if (!first) {
            slots_put(&slots, hash_of(&a->v[i]), (int64_t)i);
            continue;
        }
        a->v[i].nth = ++times[first - a->v];
        if (a->again++ == 0) a->first_again = i;
    }
    slots_free(&slots);
    free(times);
    return ok;
}

/* Two answers to a question that are no pair. */
static bool check(const struct answer *a, const struct answer *b, struct err *e)
{
    if (a->metric != b->metric)
        return err_set(e, "\"%s\": is scored by \"%s\" in one and by \"%s\" in the other", a->id,
                       a->metric ? a->metric->name : "plain",
                       b->metric ? b->metric->name : "plain");
    if (a->prompt && b->prompt && a->prompt != b->prompt)
        return err_set(e,
                       "\"%s\": the two models were given different prompts, so that their answers "
                       "are no pair",
                       a->id);
    if (a->item.tokens != b->item.tokens)
        return err_set(
            e,
            "\"%s\": %.0f of its tokens are scored in one and %.0f in the other, which are "
            "no pair: both need the same evaluate.window and evaluate.stride",
            a->id, a->item.tokens, b->item.tokens);
    return a->reference == b->reference ||
           err_set(e,
                   "\"%s\": the two files compare it with other answers or options (\"answers\", "
                   "\"expected\", \"choices\"), so that the scores are no pair",
                   a->id);
}

static bool fill(struct slots *slots, const struct answers *b, struct err *e)
{
    if (!slots_reserve(slots, (int64_t)b->n, e)) return false;
    for (size_t i = 0; i < b->n; i++)
        slots_put(slots, hash_of(&b->v[i]), (int64_t)i);
    return true;
}

bool answers_pairs(const struct answers *a, const struct answers *b, const char *set,
                   struct answers_pairs *out, struct err *e)
{
    struct slots slots = {0};
    size_t of_b = 0;
    bool ok;

    *out = (struct answers_pairs){.a = mem_new(a->n, sizeof *out->a, "pairs of answers", e),
                                  .b = mem_new(a->n, sizeof *out->b, "pairs of answers", e)};
    ok = out->a && out->b && fill(&slots, b, e);
    for (size_t i = 0; ok && i < a->n; i++) {
        const struct answer *one = &a->v[i], *other;
        if (set && strcmp(one->set, set) != 0) continue;
        other = find(b, &slots, one, one->nth);
        if (!other) {
            out->alone_a++;
            continue;
        }
        ok = check(one, other, e);
        out->metric = one->metric;
        out->a[out->n] = one->item;
        out->b[out->n++] = other->item;
    }
    for (size_t i = 0; i < b->n; i++)
        of_b += !set || strcmp(b->v[i].set, set) == 0;
    out->alone_b = of_b - out->n;
    slots_free(&slots);
    if (!ok) answers_pairs_free(out);
    return ok;
}

void answers_pairs_free(struct answers_pairs *p)
{
    free(p->a);
    free(p->b);
    memset(p, 0, sizeof *p);
}
