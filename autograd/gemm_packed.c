/* gemm_packed.c - bf16 products on all threads from packed operands. A is packed once, B while it
 * is multiplied: a task is a few panels of columns, which its thread packs, a part of K at a time,
 * and multiplies by all rows of A, so that what it packs stays in the core's own cache. Where there
 * would be too few such tasks, all threads pack B together, a part at a time, and a task is some of
 * the rows. Either way each sum runs over the same parts of K in the same order. */
#include "autograd/gemm_parts.h"
#include "autograd/product_bf16.h"

#include <omp.h>

/* Most values of K in a part; most bytes of a task's panels, which stay in a core's cache, and at
 * least one of PART_K; of panels that all pack together, and of A that tasks read in turn, which
 * stay in the common one. */
enum { PART_K = 1024, TASK_BYTES = 256 << 10, SHARED_BYTES = 4 << 20, LEFT_BYTES = 8 << 20 };
enum {
    TASKS = 8,
    LEAST = 8 * PACK_TILE
}; /* tasks of a thread, so that none waits long; rows of one */

struct job {
    int64_t M, N, K, ldc;
    struct words a;
    struct mat b;
    struct base base;
    real *c;
    char *room;
};

struct cut {
    int64_t k, group; /* values of K in a part, and those multiplied by one task after the other */
    int64_t cols;     /* of a task */
    int64_t n, rows;  /* if all pack together: columns, and parts that the rows are cut into */
    bool together;
};

/* A task, or less of it. */
struct piece {
    int64_t m, rows, n, cols, k, values;
};

static int64_t largest(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t smallest(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static struct cut cut_of(int64_t M, int64_t N, int64_t K)
{
    const int64_t threads = omp_get_max_threads(), k = smallest(K, PART_K);
    const int64_t panel = (int64_t)pack_bytes(k, PACK_COLS);
    struct cut c = {.k = k, .cols = largest(TASK_BYTES / panel, 1) * PACK_COLS};
    int64_t tasks = (N + c.cols - 1) / c.cols;

    c.group = largest(LEFT_BYTES / 2 / M / k, 1) * k;
    c.n = smallest(N, largest(SHARED_BYTES / panel, 1) * PACK_COLS);
    c.rows = smallest(TASKS * threads * c.cols / c.n + 1, M / LEAST);
    c.together = threads > 1 && c.rows > 1 && tasks < TASKS * threads;
    return c;
}

/* The most of either way, so that a larger product never has less. */
size_t gemm_packed_scratch(int64_t M, int64_t N, int64_t K)
{
    const int64_t own = omp_get_max_threads() * TASK_BYTES;
    const int64_t all = (int64_t)pack_bytes(smallest(K, PART_K), N);

    return aligned((int64_t)words_bytes(M, K), 1) +
           (size_t)largest(own, smallest(all, SHARED_BYTES));
}

static void multiply(const struct job *j, struct piece p, struct panels b)
{
    struct words a = {j->a.data + p.m / PACK_TILE * j->a.step + p.k / 2 * PACK_TILE, j->a.step};
    real *c = j->c + p.m * j->ldc + p.n;

    product_bf16(p.rows, p.cols, p.values, 1, a, b,
                 p.k == 0 ? base_at(j->base, p.m, p.n, j->ldc) : (struct base){.matrix = c}, c,
                 j->ldc);
}

/* Each thread packs for itself. */
static void by_columns(const struct job *j, const struct cut *cut)
{
    const int64_t tasks = (j->N + cut->cols - 1) / cut->cols;

    for (int64_t k0 = 0; k0 < j->K; k0 += cut->group)
#pragma omp parallel for schedule(dynamic, 1)
        for (int64_t i = 0; i < tasks; i++) {
            char *to = j->room + omp_get_thread_num() * TASK_BYTES;
            struct piece p = {.rows = j->M, .n = i * cut->cols};
            p.cols = smallest(j->N - p.n, cut->cols);
            for (p.k = k0; p.k < smallest(j->K, k0 + cut->group); p.k += cut->k) {
                p.values = smallest(j->K - p.k, cut->k);
                multiply(j, p, pack_right(mat_at(j->b, p.k, 0), p.values, p.n, p.cols, to));
            }
        }
}

/* Columns [n0, n0 + cols) and a part of K, packed by all threads. */
static void by_rows(const struct job *j, const struct cut *cut, int64_t n0, int64_t k0)
{
    const int64_t N = smallest(j->N - n0, cut->n), K = smallest(j->K - k0, cut->k);
    const int64_t tasks = (N + cut->cols - 1) / cut->cols;
    const struct panels all = pack_right(mat_at(j->b, k0, 0), K, n0, N, j->room);

#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < tasks * cut->rows; i++) {
        int64_t n = i % tasks * cut->cols;
        int64_t m = part_begin(j->M, cut->rows, i / tasks, PACK_TILE);
        multiply(j,
                 (struct piece){m, part_begin(j->M, cut->rows, i / tasks + 1, PACK_TILE) - m,
                                n0 + n, smallest(N - n, cut->cols), k0, K},
                 (struct panels){all.data + n / PACK_COLS * all.step, all.step});
    }
}

void gemm_packed(int64_t M, int64_t N, int64_t K, struct mat a, struct mat b, struct base base,
                 real *c, int64_t ldc, void *scratch)
{
    const struct cut cut = cut_of(M, N, K);
    const struct job j = {M,
                          N,
                          K,
                          ldc,
                          pack_left(a, M, K, scratch),
                          b,
                          base,
                          c,
                          (char *)scratch + aligned((int64_t)words_bytes(M, K), 1)};

    if (!cut.together) by_columns(&j, &cut);
    for (int64_t n0 = 0; n0 < N && cut.together; n0 += cut.n)
        for (int64_t k0 = 0; k0 < K; k0 += cut.k)
            by_rows(&j, &cut, n0, k0);
}
