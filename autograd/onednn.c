/* onednn.c - see onednn.h. fp32 goes through dnnl_sgemm, which needs no preparation. bf16 needs a
 * primitive per shape, for which oneDNN generates code (about a millisecond): primitives are kept
 * in a table, by shape. */
#include "autograd/onednn.h"
#include "base/signals.h"

#include <dnnl.h>
#include <string.h>

enum { KEPT = 1024 }; /* prepared products; beyond that the table starts over */

struct shape {
    int64_t M, N, K, lda, ldb, ldc;
    int64_t ta, tb, add;
};

struct product {
    struct shape shape;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c;
};

static struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct product kept[KEPT]; /* open addressing; primitive NULL: free */
    int used;
} cpu;

static void check(dnnl_status_t status)
{
    if (status == dnnl_out_of_memory) err_no_memory("a matrix product by oneDNN");
    CHECK(status == dnnl_success);
}

static void start(void)
{
    if (cpu.engine) return;
    check(dnnl_engine_create(&cpu.engine, dnnl_cpu, 0));
    check(dnnl_stream_create(&cpu.stream, cpu.engine, dnnl_stream_default_flags));
}

static void describe(dnnl_memory_desc_t *d, int64_t rows, int64_t cols, int64_t ld, bool trans,
                     dnnl_data_type_t type)
{
    const dnnl_dims_t dims = {rows, cols}, strides = {trans ? 1 : ld, trans ? ld : 1};

    check(dnnl_memory_desc_init_by_strides(d, 2, dims, type, strides));
}

/* Returns the status of creating the description: some CPUs have no such product. */
static dnnl_status_t prepare(const struct shape *s, dnnl_memory_desc_t d[3],
                             dnnl_primitive_desc_t *pd)
{
    dnnl_matmul_desc_t op;
    dnnl_primitive_attr_t attr;
    dnnl_post_ops_t post;
    dnnl_status_t status;

    start();
    describe(&d[0], s->M, s->K, s->lda, s->ta, dnnl_bf16);
    describe(&d[1], s->K, s->N, s->ldb, s->tb, dnnl_bf16);
    describe(&d[2], s->M, s->N, s->ldc, false, dnnl_f32);
    check(dnnl_matmul_desc_init(&op, &d[0], &d[1], NULL, &d[2]));
    check(dnnl_primitive_attr_create(&attr));
    if (s->add) {
        check(dnnl_post_ops_create(&post));
        check(dnnl_post_ops_append_sum(post, 1));
        check(dnnl_primitive_attr_set_post_ops(attr, post));
        check(dnnl_post_ops_destroy(post));
    }
    status = dnnl_primitive_desc_create(pd, &op, attr, cpu.engine, NULL);
    check(dnnl_primitive_attr_destroy(attr));
    if (status == dnnl_out_of_memory) check(status); /* not a statement about the CPU */
    return status;
}

bool onednn_has_bf16(void)
{
    const struct shape s = {.M = 64, .N = 64, .K = 64, .lda = 64, .ldb = 64, .ldc = 64};
    dnnl_memory_desc_t d[3];
    dnnl_primitive_desc_t pd;

    if ((dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) !=
        dnnl_cpu_isa_avx512_core_bf16)
        return false;
    if (prepare(&s, d, &pd) != dnnl_success) return false;
    check(dnnl_primitive_desc_destroy(pd));
    return true;
}

bool onednn_has_amx(void)
{
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_amx) ==
           dnnl_cpu_isa_avx512_core_amx;
}

void onednn_sgemm(int64_t M, int64_t N, int64_t K, float alpha, const float *a, int64_t lda,
                  bool ta, const float *b, int64_t ldb, bool tb, bool add, float *c, int64_t ldc)
{
    signals_own_stack(); /* oneDNN repurposes the stack pointer: see signals.h */
    check(dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', M, N, K, alpha, a, lda, b, ldb, add ? 1 : 0, c,
                     ldc));
}

static void forget_all(void)
{
    for (int i = 0; i < KEPT; i++) {
        struct product *p = &cpu.kept[i];
        if (!p->primitive) continue;
        check(dnnl_primitive_destroy(p->primitive));
        check(dnnl_memory_destroy(p->a));
        check(dnnl_memory_destroy(p->b));
        check(dnnl_memory_destroy(p->c));
        memset(p, 0, sizeof *p);
    }
    cpu.used = 0;
}

static void make(struct product *p, const struct shape *s)
{
    dnnl_memory_desc_t d[3];
    dnnl_primitive_desc_t pd;

    p->shape = *s;
    check(prepare(s, d, &pd));
    check(dnnl_primitive_create(&p->primitive, pd));
    check(dnnl_primitive_desc_destroy(pd));
    check(dnnl_memory_create(&p->a, &d[0], cpu.engine, DNNL_MEMORY_NONE));
    check(dnnl_memory_create(&p->b, &d[1], cpu.engine, DNNL_MEMORY_NONE));
    check(dnnl_memory_create(&p->c, &d[2], cpu.engine, DNNL_MEMORY_NONE));
    cpu.used++;
}

static struct product *find(const struct shape *s)
{
    uint64_t h = 0;

    if (cpu.used > KEPT * 3 / 4) forget_all();
    for (size_t i = 0; i < sizeof *s / sizeof s->M; i++)
        h = (h ^ (uint64_t)(&s->M)[i]) * 0x9e3779b97f4a7c15u;
    for (uint64_t at = h >> 32;; at++) {
        struct product *p = &cpu.kept[at % KEPT];
        if (!p->primitive) make(p, s);
        if (memcmp(&p->shape, s, sizeof *s) == 0) return p;
    }
}

void onednn_bf16_gemm(int64_t M, int64_t N, int64_t K, const uint16_t *a, int64_t lda, bool ta,
                      const uint16_t *b, int64_t ldb, bool tb, bool add, float *c, int64_t ldc)
{
    const struct shape s = {M, N, K, lda, ldb, ldc, ta, tb, add};
    struct product *p = find(&s);
    const dnnl_exec_arg_t args[3] = {
        {DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->c}};

    /* oneDNN takes no const pointers; it only reads the first two. */
    check(dnnl_memory_set_data_handle(p->a, (void *)(uintptr_t)a));
    check(dnnl_memory_set_data_handle(p->b, (void *)(uintptr_t)b));
    check(dnnl_memory_set_data_handle(p->c, c));
    check(dnnl_primitive_execute(p->primitive, cpu.stream, 3, args));
    check(dnnl_stream_wait(cpu.stream));
}
