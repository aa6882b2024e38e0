/* safetensors_dtype.c - the dtypes of the format, one row each. Adding one takes a name in enum
 * st_dtype and a row here. */
#include "base/bf16.h"
#include "model/files/safetensors.h"

#include <string.h>

/* Row conversions. The file's side is accessed through memcpy: it may be unaligned. */
static void f64_to_f32(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, (const char *)src + i * sizeof v, sizeof v);
        dst[i] = (float)v;
    }
}

static void f64_from_f32(void *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        double v = (double)src[i];
        memcpy((char *)dst + i * sizeof v, &v, sizeof v);
    }
}

static void f32_to_f32(float *dst, const void *src, size_t n)
{
    memcpy(dst, src, n * sizeof *dst);
}

static void f32_from_f32(void *dst, const float *src, size_t n)
{
    memcpy(dst, src, n * sizeof *src);
}

static void f16_row_to_f32(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, (const char *)src + i * sizeof v, sizeof v);
        dst[i] = f16_to_f32(v);
    }
}

static void f16_row_from_f32(void *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v = f16_from_f32(src[i]);
        memcpy((char *)dst + i * sizeof v, &v, sizeof v);
    }
}

static void bf16_row_to_f32(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v;
        memcpy(&v, (const char *)src + i * sizeof v, sizeof v);
        dst[i] = bf16_to_f32(v);
    }
}

static void bf16_row_from_f32(void *dst, const float *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t v = bf16_from_f32(src[i]);
        memcpy((char *)dst + i * sizeof v, &v, sizeof v);
    }
}

const struct st_dtype_info st_dtypes[ST_DTYPES] = {
    [ST_F64] = {"F64", 64, 8, f64_to_f32, f64_from_f32},
    [ST_F32] = {"F32", 32, 4, f32_to_f32, f32_from_f32},
    [ST_F16] = {"F16", 16, 2, f16_row_to_f32, f16_row_from_f32},
    [ST_BF16] = {"BF16", 16, 2, bf16_row_to_f32, bf16_row_from_f32},
    [ST_I64] = {"I64", 64, 8, NULL, NULL},
    [ST_I32] = {"I32", 32, 4, NULL, NULL},
    [ST_I16] = {"I16", 16, 2, NULL, NULL},
    [ST_I8] = {"I8", 8, 1, NULL, NULL},
    [ST_U64] = {"U64", 64, 8, NULL, NULL},
    [ST_U32] = {"U32", 32, 4, NULL, NULL},
    [ST_U16] = {"U16", 16, 2, NULL, NULL},
    [ST_U8] = {"U8", 8, 1, NULL, NULL},
    [ST_BOOL] = {"BOOL", 8, 1, NULL, NULL},
    [ST_C64] = {"C64", 64, 4, NULL, NULL},
    [ST_F8_E4M3] = {"F8_E4M3", 8, 1, NULL, NULL},
    [ST_F8_E5M2] = {"F8_E5M2", 8, 1, NULL, NULL},
    [ST_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8, 1, NULL, NULL},
    [ST_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8, 1, NULL, NULL},
    [ST_F8_E8M0] = {"F8_E8M0", 8, 1, NULL, NULL},
    [ST_F6_E2M3] = {"F6_E2M3", 6, 1, NULL, NULL}, /* packed: whole tensors fill whole bytes */
    [ST_F6_E3M2] = {"F6_E3M2", 6, 1, NULL, NULL},
    [ST_F4] = {"F4", 4, 1, NULL, NULL},
};
