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

struct adamw_part shards_part(const struct shards *s, int size, int rank, int64_t i)
{
    const int64_t all = s->begin[s->n];
    int64_t from = all * rank / size, to = all * (rank + 1) / size, end;

    if (from < s->begin[i]) from = s->begin[i];
    if (to > s->begin[i + 1]) to = s->begin[i + 1];
    if (from >= to) return (struct adamw_part){0, 0};
    from = (from - s->begin[i]) * MOMENT_BLOCK;
    end = (to - s->begin[i]) * MOMENT_BLOCK;
    if (end > s->count[i]) end = s->count[i];
    return (struct adamw_part){from, end - from};
}
