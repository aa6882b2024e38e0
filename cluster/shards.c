/* shards.c - see shards.h. */
#include "cluster/shards.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

bool shards_init(struct shards *s, struct tensor *const params[], int64_t n, struct err *e)
{
    *s = (struct shards){.n = n};
    s->count = mem_new((size_t)n, sizeof *s->count, "the optimiser's parts", e);
    s->begin = mem_new((size_t)n + 1, sizeof *s->begin, "the optimiser's parts", e);
    if (!s->count || !s->begin) {
        shards_free(s);
        return false;
    }
    for (int64_t i = 0; i < n; i++) {
        s->count[i] = tensor_count(params[i]);
        s->begin[i + 1] = s->begin[i] + moment_blocks(s->count[i]);
    }
    return true;
}

void shards_free(struct shards *s)
{
    free(s->count);
    free(s->begin);
    memset(s, 0, sizeof *s);
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Of the `extra` places from `first` on, counted round a ring of `size`, those before `rank`. */
static int64_t extra_before(int64_t first, int64_t extra, int64_t rank, int64_t size)
{
    const int64_t round = first + extra - size; /* those that begin again at 0 */
    const int64_t there = rank > first ? least(rank - first, least(extra, size - first)) : 0;

    return there + (round > 0 ? least(rank, round) : 0);
}

struct adamw_part shards_part(const struct shards *s, int size, int rank, int64_t i)
{
    const int64_t blocks = s->begin[i + 1] - s->begin[i], each = blocks / size;
    const int64_t first = s->begin[i] % size, extra = blocks % size;
    const int64_t from = each * rank + extra_before(first, extra, rank, size);
    const int64_t to = each * (rank + 1) + extra_before(first, extra, rank + 1, size);

    if (from == to) return (struct adamw_part){0, 0};
    return (struct adamw_part){from * MOMENT_BLOCK,
                               least(to * MOMENT_BLOCK, s->count[i]) - from * MOMENT_BLOCK};
}
