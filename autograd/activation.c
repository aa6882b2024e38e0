/* activation.c - elementwise ops: SwiGLU, and the activations of vision towers and projectors. An
 * activation is a row of the table: its value and its slope, each as a loop over a piece, so that
 * the compiler can inline the function and vectorise the loop. */
#include "autograd/mathfun.h"
#include "autograd/ops.h"
#include "autograd/oplist.h"

#include <string.h>

enum { GATE, UP };        /* inputs; x is 0 */
enum { PIECE = 1 << 11 }; /* elements per piece of work */

static inline real silu(real x)
{
    return x * real_sigmoid(x);
}

static inline real silu_slope(real x)
{
    real s = real_sigmoid(x);

    return s * (1 + x * (1 - s));
}

static void swiglu_forward(struct node *n)
{
    const real *g = tensor_real(n->in[GATE]), *u = tensor_real(n->in[UP]);
    real *y = tensor_real(n->out);
    int64_t count = tensor_count(n->out);

#pragma omp parallel for simd schedule(static) if (parallel : count > PIECE)
    for (int64_t i = 0; i < count; i++)
        y[i] = silu(g[i]) * u[i];
}

/* Zeroes a piece that is to be overwritten, while it is in the cache: choosing between adding and
 * writing inside the loops would keep them from being vectorised. */
static void clear(real *d, int64_t n, bool adds)
{
    if (!adds) memset(d, 0, (size_t)n * sizeof *d);
}

/* dg and du may be the same buffer: the second sum then adds to the first. */
static void swiglu_gradients(const real *g, const real *u, const real *dy, real *dg, real *du,
                             int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        real value = silu(g[i]), slope = silu_slope(g[i]); /* share one sigmoid, once inlined */
        dg[i] += dy[i] * u[i] * slope;
        du[i] += dy[i] * value;
    }
}

static void swiglu_backward(struct node *n)
{
    struct tensor *gate = n->in[GATE], *up = n->in[UP];
    const real *g = tensor_real(gate), *u = tensor_real(up), *dy = n->out->grad;
    bool gate_adds = gate->needs_grad && tape_grad_adds(gate);
    bool up_adds = up->needs_grad && tape_grad_adds(up);
    int64_t count = tensor_count(n->out);

#pragma omp parallel for schedule(static) if (count > PIECE)
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t k = count - i < PIECE ? count - i : PIECE;
        real unwanted[PIECE]; /* receives the gradient of an input that is not trained */
        real *dg = gate->needs_grad ? gate->grad + i : unwanted;
        real *du = up->needs_grad ? up->grad + i : unwanted;
        clear(dg, k, gate_adds);
        clear(du, k, up_adds);
        swiglu_gradients(g + i, u + i, dy + i, dg, du, k);
    }
}

const struct op swiglu_op = {"swiglu", swiglu_forward, swiglu_backward};

struct tensor *op_swiglu(struct tape *t, struct tensor *gate, struct tensor *up)
{
    CHECK(gate->rows == up->rows && gate->cols == up->cols);
    struct node *n =
        tape_node(t, &swiglu_op, (struct tensor *[]){gate, up}, 2, gate->rows, gate->cols);
    n->reads = 1u << GATE | (gate->needs_grad ? 1u << UP : 0);
    return n->out;
}

/* x Phi(x), and the slope Phi(x) + x phi(x). */
static inline real gelu(real x)
{
    return x * ((real)0.5 + (real)0.5 * real_erf(x * (real)0.70710678118654752));
}

static inline real gelu_slope(real x)
{
    real density = (real)0.39894228040143268 * real_exp(-x * x / 2);

    return (real)0.5 + (real)0.5 * real_erf(x * (real)0.70710678118654752) + x * density;
}

/* 0.5 x (1 + tanh(z)), z = sqrt(2/pi) (x + 0.044715 x^3); 1 + tanh(z) = 2 sigmoid(2 z). */
static inline real gelu_tanh(real x)
{
    return x * real_sigmoid((real)1.5957691216057308 * (x + (real)0.044715 * x * x * x));
}

static inline real gelu_tanh_slope(real x)
{
    real s = real_sigmoid((real)1.5957691216057308 * (x + (real)0.044715 * x * x * x));

    return s + x * s * (1 - s) * (real)1.5957691216057308 * (1 + (real)0.134145 * x * x);
}

static inline real quick_gelu(real x)
{
    return x * real_sigmoid((real)1.702 * x);
}

static inline real quick_gelu_slope(real x)
{
    real s = real_sigmoid((real)1.702 * x);

    return s * (1 + (real)1.702 * x * (1 - s));
}

static inline real relu(real x)
{
    return x > 0 ? x : 0;
}

static inline real relu_slope(real x)
{
    return x > 0 ? 1 : 0;
}

/* A function pointer called per element would keep the loops scalar, hence a macro. */
#define LOOPS(f)                                                                                   \
    static void f##_values(const real *x, real *y, int64_t n)                                      \
    {                                                                                              \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = f(x[i]);                        \
    }                                                                                              \
    static void f##_gradients(const real *x, const real *dy, real *dx, int64_t n)                  \
    {                                                                                              \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) dx[i] += dy[i] * f##_slope(x[i]);      \
    }
LOOPS(gelu)
LOOPS(gelu_tanh)
LOOPS(quick_gelu)
LOOPS(silu)
LOOPS(relu)

struct kind {
    void (*values)(const real *x, real *y, int64_t n);
    void (*gradients)(const real *x, const real *dy, real *dx, int64_t n);
};
static const struct kind kinds[] = {
    [ACT_GELU] = {gelu_values, gelu_gradients},
    [ACT_GELU_TANH] = {gelu_tanh_values, gelu_tanh_gradients},
    [ACT_QUICK_GELU] = {quick_gelu_values, quick_gelu_gradients},
    [ACT_SILU] = {silu_values, silu_gradients},
    [ACT_RELU] = {relu_values, relu_gradients},
};

static void forward(struct node *n)
{
    const struct kind *k = n->args;
    int64_t count = tensor_count(n->out);

#pragma omp parallel for schedule(static) if (count > PIECE)
    for (int64_t i = 0; i < count; i += PIECE)
        k->values(tensor_real(n->in[0]) + i, tensor_real(n->out) + i,
                  count - i < PIECE ? count - i : PIECE);
}

static void backward(struct node *n)
{
    const struct kind *k = n->args;
    struct tensor *x = n->in[0];
    bool adds = tape_grad_adds(x);
    int64_t count = tensor_count(x);

#pragma omp parallel for schedule(static) if (count > PIECE)
    for (int64_t i = 0; i < count; i += PIECE) {
        int64_t m = count - i < PIECE ? count - i : PIECE;
        clear(x->grad + i, m, adds);
        k->gradients(tensor_real(x) + i, n->out->grad + i, x->grad + i, m);
    }
}

const struct op activation_op = {"activation", forward, backward};

struct tensor *op_activation(struct tape *t, struct tensor *x, enum activation kind)
{
    CHECK((size_t)kind < sizeof kinds / sizeof kinds[0]);
    struct node *n = tape_node(t, &activation_op, &x, 1, x->rows, x->cols);
    n->args = &kinds[kind];
    n->reads = 1;
    return n->out;
}
