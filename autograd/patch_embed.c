/* patch_embed.c - the first layer of a vision tower: a convolution whose stride is its kernel,
 * so that every pixel belongs to one patch and the layer is a linear layer over rows of
 * gathered pixels. One image at a time is gathered into scratch. If the patch does not divide
 * the size (384 by 14), the pixels beyond the last whole patch are ignored, as in a
 * convolution without padding. */
#include "autograd/gemm.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <string.h>

enum { PIXELS, W, B };

struct patch_args {
    int64_t channels, size, patch, side; /* side: patches per row */
    int64_t patches, width;              /* of an image; width = channels * patch^2 */
    size_t bias_at, rows_at;             /* offsets in n->scratch, in reals */
};

/* Where line y of patch k's channel c begins in the image; it has `patch` pixels. */
static int64_t line_at(const struct patch_args *a, int64_t k, int64_t c, int64_t y)
{
    int64_t row = k / a->side * a->patch + y, column = k % a->side * a->patch;

    return (c * a->size + row) * a->size + column;
}

/* Gathers the lines of patches [channels, size, size] into rows [patches, width]. */
static void gather(const struct patch_args *a, const real *image, real *rows)
{
    int64_t p = a->patch;

#pragma omp parallel for schedule(static) if (a->patches * a->width > 1 << 14)
    for (int64_t k = 0; k < a->patches; k++)
        for (int64_t c = 0; c < a->channels; c++)
            for (int64_t y = 0; y < p; y++)
                memcpy(rows + k * a->width + (c * p + y) * p, image + line_at(a, k, c, y),
                       (size_t)p * sizeof(real));
}

/* The inverse of gather, adding: patches do not overlap. */
static void scatter(const struct patch_args *a, const real *rows, real *image)
{
    int64_t p = a->patch;

#pragma omp parallel for schedule(static) if (a->patches * a->width > 1 << 14)
    for (int64_t k = 0; k < a->patches; k++)
        for (int64_t c = 0; c < a->channels; c++)
            for (int64_t y = 0; y < p; y++) {
                real *line = image + line_at(a, k, c, y);
                for (int64_t x = 0; x < p; x++)
                    line[x] += rows[k * a->width + (c * p + y) * p + x];
            }
}

static void fill_bias(struct node *n)
{
    const struct patch_args *a = n->args;
    real *row = (real *)n->scratch + a->bias_at, *y = tensor_real(n->out);
    int64_t d = n->out->cols;

    tensor_to_real(n->in[B], 0, d, row);
#pragma omp parallel for schedule(static) if (n->out->rows * d > 1 << 14)
    for (int64_t i = 0; i < n->out->rows; i++)
        for (int64_t j = 0; j < d; j++)
            y[i * d + j] = row[j];
}

static void forward(struct node *n)
{
    const struct patch_args *a = n->args;
    struct tensor *pixels = n->in[PIXELS], *w = n->in[W];
    real *rows = (real *)n->scratch + a->rows_at;
    int64_t d = w->rows;

    if (n->in[B]) fill_bias(n);
    for (int64_t i = 0; i < pixels->rows; i++) {
        gather(a, tensor_real(pixels) + i * pixels->cols, rows);
        gemm(a->patches, d, a->width, mat_of(rows, a->width, false),
             (struct mat){w->data, w->dtype, a->width, true}, n->in[B] != NULL,
             tensor_real(n->out) + i * a->patches * d, d, n->scratch);
    }
}

static void backward(struct node *n)
{
    const struct patch_args *a = n->args;
    struct tensor *pixels = n->in[PIXELS], *w = n->in[W], *b = n->in[B];
    real *rows = (real *)n->scratch + a->rows_at;
    int64_t d = w->rows;

    if (pixels->needs_grad && !tape_grad_adds(pixels))
        memset(pixels->grad, 0, (size_t)tensor_count(pixels) * sizeof(real));
    for (int64_t i = 0; i < pixels->rows; i++) {
        const real *dy = n->out->grad + i * a->patches * d;
        if (w->needs_grad) {
            gather(a, tensor_real(pixels) + i * pixels->cols, rows);
            gemm(d, a->width, a->patches, mat_of(dy, d, true), mat_of(rows, a->width, false),
                 tape_grad_adds(w), w->grad, a->width, n->scratch);
        }
        if (pixels->needs_grad) {
            gemm(a->patches, a->width, d, mat_of(dy, d, false),
                 (struct mat){w->data, w->dtype, a->width, false}, false, rows, a->width,
                 n->scratch);
            scatter(a, rows, pixels->grad + i * pixels->cols);
        }
    }
    if (b && b->needs_grad)
        bias_backward(n->out->grad, n->out->rows, d, b, (real *)n->scratch + a->bias_at);
}

const struct op patch_embed_op = {"patch_embed", forward, backward};

struct tensor *op_patch_embed(struct tape *t, struct tensor *pixels, struct tensor *w,
                              struct tensor *b, int64_t channels, int64_t size, int64_t patch)
{
    struct patch_args *a = tape_new_array(t, struct patch_args, 1);
    int64_t side = size / patch;

    *a = (struct patch_args){channels, size, patch, side, side * side, channels * patch * patch,
                             0,        0};
    CHECK(pixels->dtype == DT_REAL && pixels->rows > 0 && side > 0);
    CHECK(pixels->cols == channels * size * size && w->cols == a->width);
    CHECK(!b || (b->rows == 1 && b->cols == w->rows));
    a->bias_at = gemm_linear_scratch(a->patches, w, pixels->needs_grad) / sizeof(real);
    a->rows_at = a->bias_at + (b ? bias_scratch(b) / sizeof(real) : 0);
    struct node *n = tape_node(t, &patch_embed_op, (struct tensor *[]){pixels, w, b}, 3,
                               pixels->rows * a->patches, w->rows);
    n->args = a;
    n->reads = (w->needs_grad ? 1u << PIXELS : 0) | (pixels->needs_grad ? 1u << W : 0);
    n->scratch_bytes = (a->rows_at + (size_t)(a->patches * a->width)) * sizeof(real);
    return n->out;
}
