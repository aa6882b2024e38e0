/* cache.c - inference: writes the rows of the newest tokens to the caller's cache. The cache
 * outlives the graph, so the tape plans no memory for it: the node's own output is empty, and the
 * tensor returned is a leaf around the caller's memory. Nodes run in the order they were recorded,
 * so an attention recorded later reads what was written. */
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <string.h>

struct cache_args {
    real *cache;
    const int32_t *rows;
};

static void forward(struct node *n)
{
    const struct cache_args *a = n->args;
    const struct tensor *src = n->in[0];

    for (int64_t i = 0; i < src->rows; i++)
        memcpy(a->cache + a->rows[i] * src->cols, tensor_real(src) + i * src->cols,
               (size_t)src->cols * sizeof(real));
}

const struct op cache_write_op = {"cache_write", forward, NULL};

struct tensor *op_cache_write(struct tape *t, struct tensor *src, real *cache, int64_t cache_rows,
                              const int32_t *rows)
{
    struct cache_args *a = tape_new_array(t, struct cache_args, 1);
    struct tensor *leaf = tape_new_array(t, struct tensor, 1);

    CHECK(src->dtype == DT_REAL);
    for (int64_t i = 0; i < src->rows; i++)
        CHECK(rows[i] >= 0 && rows[i] < cache_rows);
    *a = (struct cache_args){cache, rows};
    tape_node(t, &cache_write_op, &src, 1, 0, 0)->args = a;
    *leaf = tensor_leaf(DT_REAL, cache_rows, src->cols, cache);
    return leaf;
}
