/* cache.c - inference: writes the rows of the newest tokens to the caller's cache. The cache
 * outlives the graph, so the tape plans no memory for it: the node's own output is empty, and the
 * tensor returned is a leaf around the caller's memory. Nodes run in the order they were recorded,
 * so an attention recorded later reads what was written. */
#include "autograd/ops.h"
#include "autograd/oplist.h"
#include "autograd/row_form.h"

#include <string.h>

enum { FEW_ROWS = 8 }; /* packed on one thread: a step of decoding */

struct cache_args {
    struct cache_store to;
    const int32_t *rows;
};

/* Notes the first row of src that its form cannot hold, of those from `row` on. */
static void note_fault(const struct cache_args *a, const struct tensor *src, int64_t row)
{
    struct cache_fault *f = a->to.fault;
    const real *x = tensor_real(src) + row * src->cols;

    if (f->found) return;
    *f = (struct cache_fault){true, a->to.place, a->rows[row],
                              (double)x[row_bad(a->to.form, x, src->cols)]};
}

static bool write_row(const struct cache_args *a, const struct tensor *src, int64_t i)
{
    const struct row_sequence s = row_sequence_at(
        a->to.form, a->to.data, a->rows[i] / a->to.capacity, a->to.capacity, src->cols);

    return row_write(&s, a->rows[i] % a->to.capacity, tensor_real(src) + i * src->cols);
}

static void pack_rows(const struct cache_args *a, const struct tensor *src)
{
    const bool apart = !a->to.form->run; /* rows of a run pack those before them */
    int64_t bad = src->rows;

#pragma omp parallel for schedule(static) reduction(min : bad) if (apart && src->rows > FEW_ROWS)
    for (int64_t i = 0; i < src->rows; i++)
        if (!write_row(a, src, i) && i < bad) bad = i;
    if (bad < src->rows) note_fault(a, src, bad);
}

static void forward(struct node *n)
{
    const struct cache_args *a = n->args;
    const struct tensor *src = n->in[0];

    if (a->to.form) {
        pack_rows(a, src);
        return;
    }
    for (int64_t i = 0; i < src->rows; i++)
        memcpy((real *)a->to.data + a->rows[i] * src->cols, tensor_real(src) + i * src->cols,
               (size_t)src->cols * sizeof(real));
}

const struct op cache_write_op = {"cache_write", forward, NULL};

struct tensor *op_cache_write(struct tape *t, struct tensor *src, const struct cache_store *to,
                              const int32_t *rows)
{
    struct cache_args *a = tape_new_array(t, struct cache_args, 1);
    struct tensor *leaf = tape_new_array(t, struct tensor, 1);

    CHECK(src->dtype == DT_REAL);
    CHECK(!to->form || (to->form->pack && to->fault && to->capacity > 0));
    for (int64_t i = 0; i < src->rows; i++)
        CHECK(rows[i] >= 0 && rows[i] < to->rows);
    *a = (struct cache_args){*to, rows};
    tape_node(t, &cache_write_op, &src, 1, 0, 0)->args = a;
    *leaf = tensor_leaf(to->form ? DT_PACKED : DT_REAL, to->rows, src->cols, to->data);
    leaf->form = to->form;
    return leaf;
}
