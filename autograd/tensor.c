/* tensor.c - dtypes and leaves. */
#include "autograd/tensor.h"
#include "base/bf16.h"
#include "base/err.h"

size_t dtype_size(enum dtype dt)
{
    static const size_t bytes[] = {[DT_F32] = 4, [DT_F64] = 8, [DT_BF16] = 2, [DT_F16] = 2};

    CHECK(dt != DT_PACKED);
    return bytes[dt];
}

struct tensor tensor_leaf(enum dtype dt, int64_t rows, int64_t cols, const void *data)
{
    /* The const is cast away only here: ops write to outputs, never to leaves. */
    return (struct tensor){
        .dtype = dt, .rows = rows, .cols = cols, .data = (void *)(uintptr_t)data};
}

void tensor_to_real(const struct tensor *t, int64_t first, int64_t n, real *dst)
{
    const void *src = (const char *)t->data + (size_t)first * dtype_size(t->dtype);
    const float *f32 = src;
    const double *f64 = src;
    const uint16_t *half = src;

    CHECK(first >= 0 && n >= 0 && first + n <= tensor_count(t));
    switch (t->dtype) {
    case DT_F32:
        for (int64_t i = 0; i < n; i++)
            dst[i] = f32[i];
        break;
    case DT_F64:
        for (int64_t i = 0; i < n; i++)
            dst[i] = (real)f64[i];
        break;
    case DT_BF16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = bf16_to_f32(half[i]);
        break;
    case DT_F16:
        for (int64_t i = 0; i < n; i++)
            dst[i] = f16_to_f32(half[i]);
        break;
    case DT_PACKED:
        break;
    }
}
