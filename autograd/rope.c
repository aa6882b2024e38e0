/* rope.c - rotary position embedding, in place: the pair (a, b) turns by its angle to (a cos - b
 * sin, b cos + a sin), and its gradient turns back by the same angle. The angle is the fp32 product
 * position * inv_freq, as in Hugging Face's models (at position 100,000 its rounding is visible),
 * even in the double build; cos and sin of that float are exact to the last bit of real. */
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <math.h>

enum { X, TABLE };
enum { SMALL = 1 << 14 };

static void table_forward(struct node *n)
{
    const struct rope_table *r = n->args;
    int64_t pairs = r->pairs;

#pragma omp parallel for schedule(static) if (r->n * pairs > 1 << 10)
    for (int64_t i = 0; i < r->n; i++) {
        real *row = tensor_real(n->out) + i * 2 * pairs;
        const float *inv_freq = r->inv_freq + (r->set ? r->set[i] : 0) * pairs;
        for (int64_t p = 0; p < pairs; p++) {
            int64_t axis = r->axis ? r->axis[p] : 0;
            float angle = (float)r->positions[axis * r->n + i] * inv_freq[p];
            row[p] = (real)(cos((double)angle) * r->scale);
            row[pairs + p] = (real)(sin((double)angle) * r->scale);
        }
    }
}

/* No inputs, hence no gradients: its backward is never called. */
const struct op rope_table_op = {"rope_table", table_forward, NULL};

struct tensor *op_rope_table(struct tape *t, const struct rope_table *r)
{
    struct rope_table *own = tape_new_array(t, struct rope_table, 1);

    CHECK(r->n >= 0 && r->pairs > 0);
    *own = *r;
    struct node *n = tape_node(t, &rope_table_op, NULL, 0, r->n, 2 * r->pairs);
    n->args = own;
    return n->out;
}

struct rope_args {
    int64_t col, heads, kept;
    const int32_t *index;
};

/* Turns the selected columns of m [rows, cols] by the table's angles, or back (sign -1). */
static void rotate(const struct node *n, real *m, real sign)
{
    const struct rope_args *a = n->args;
    int64_t rows = n->out->rows, cols = n->out->cols, pairs = n->in[TABLE]->cols / 2;
    int64_t kept = a->kept;

#pragma omp parallel for schedule(static) if (rows * a->heads * kept > SMALL)
    for (int64_t i = 0; i < rows; i++) {
        const real *c = tensor_real(n->in[TABLE]) + i * 2 * pairs, *s = c + pairs;
        for (int64_t h = 0; h < a->heads; h++) {
            const int32_t *index = a->index ? a->index + h * kept : NULL;
            real *x = m + i * cols + a->col + h * 2 * kept;
            for (int64_t j = 0; j < kept; j++) {
                int64_t p = index ? index[j] : j;
                real u = x[j], v = x[j + kept], turn = s[p] * sign;
                x[j] = u * c[p] - v * turn;
                x[j + kept] = v * c[p] + u * turn;
            }
        }
    }
}

static void forward(struct node *n)
{
    rotate(n, tensor_real(n->out), 1);
}

/* The table's scale multiplies cos and sin alike, so turning back is the transpose, as required. */
static void backward(struct node *n)
{
    bool adds = tape_grad_adds(n->in[X]);

    CHECK(!adds && n->in[X]->grad == n->out->grad);
    rotate(n, n->out->grad, -1);
}

const struct op rope_op = {"rope", forward, backward};

struct tensor *op_rope(struct tape *t, struct tensor *x, struct tensor *table, int64_t col,
                       int64_t heads, int64_t kept, const int32_t *index)
{
    struct rope_args *a = tape_new_array(t, struct rope_args, 1);
    int64_t pairs = table->cols / 2;

    CHECK(table->rows == x->rows && col >= 0 && col + heads * 2 * kept <= x->cols);
    CHECK(index || kept <= pairs);
    for (int64_t j = 0; index && j < heads * kept; j++)
        CHECK(index[j] >= 0 && index[j] < pairs);
    *a = (struct rope_args){col, heads, kept, index};
    struct node *n = tape_node(t, &rope_op, (struct tensor *[]){x, table}, 2, x->rows, x->cols);
    n->args = a;
    n->reads = 1u << TABLE;
    tape_in_place(n);
    return n->out;
}
