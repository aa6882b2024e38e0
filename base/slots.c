/* slots.c - open addressing, at most half full. Growing needs no keys: the hashes are kept. */
#include "base/slots.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 256 };

bool slots_reserve(struct slots *s, int64_t n, struct err *e)
{
    struct slots was = *s, now = {.n = s->n ? s->n : FIRST_SLOTS};

    if (2 * n <= s->n) return true;
    while (now.n < 2 * n)
        now.n *= 2;
    now.slot = mem_new((size_t)now.n, sizeof *now.slot, "a hash table", e);
    if (!now.slot) return false;
    *s = now;
    slots_clear(s);
    for (int64_t i = 0; i < was.n; i++)
        if (was.slot[i].index >= 0) slots_put(s, was.slot[i].hash, was.slot[i].index);
    free(was.slot);
    return true;
}

void slots_put(struct slots *s, uint64_t hash, int64_t index)
{
    uint64_t at = hash % (uint64_t)s->n;

    while (s->slot[at].index >= 0)
        at = (at + 1) % (uint64_t)s->n;
    s->slot[at] = (struct slot){hash, index};
}

int64_t slots_next(const struct slots *s, uint64_t hash, uint64_t *step)
{
    for (; s->n; ++*step) {
        const struct slot *at = &s->slot[(hash % (uint64_t)s->n + *step) % (uint64_t)s->n];

        if (at->index < 0) return -1;
        if (at->hash != hash) continue;
        ++*step;
        return at->index;
    }
    return -1;
}

void slots_clear(struct slots *s)
{
    for (int64_t i = 0; i < s->n; i++)
        s->slot[i].index = -1;
}

void slots_free(struct slots *s)
{
    free(s->slot);
    memset(s, 0, sizeof *s);
}
