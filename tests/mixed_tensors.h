/* mixed_tensors.h - tensors of many dtypes, what a test writes into them, and whether it is read
 * back. Include after safetensors_files.h. */
#ifndef TESTS_MIXED_TENSORS_H
#define TESTS_MIXED_TENSORS_H

#include "base/bf16.h"
#include "model/files/safetensors.h"

#include <math.h>

static const struct st_spec mixed[] = {
    {"h.weight", ST_F16, 2, {3, 5}},   {"b.weight", ST_BF16, 2, {7, 3}},
    {"f.weight", ST_F32, 1, {9}},      {"d.weight", ST_F64, 2, {2, 2}},
    {"flag", ST_BOOL, 1, {3}},         {"none", ST_F32, 2, {0, 9}},
    {"quote\"d", ST_BF16, 1, {10000}}, {"scalar", ST_F32, 0, {0}},
};
enum { MIXED = sizeof mixed / sizeof *mixed };

static inline float sample(size_t tensor, size_t i)
{
    return (float)((double)(tensor + 1) * 0.37 * sin((double)i * 1.7 + 0.3));
}

static inline size_t spec_count(const struct st_spec *s)
{
    size_t n = 1;
    for (int i = 0; i < s->ndim; i++)
        n *= (size_t)s->dim[i];
    return n;
}

/* Fills all tensors, the last one first, in pieces of three values. */
static inline void fill(struct st_writer *w)
{
    struct err e;

    for (size_t k = MIXED; k-- > 0;) {
        size_t n = spec_count(&mixed[k]);
        if (!st_dtypes[mixed[k].dtype].from_f32) {
            assert_true(st_write_raw(w, k, "\1\0\1", n, &e));
            continue;
        }
        for (size_t i = 0; i < n;) {
            float v[3];
            size_t m = n - i < 3 ? n - i : 3;
            for (size_t j = 0; j < m; j++)
                v[j] = sample(k, i + j);
            assert_true(st_write_f32(w, k, v, m, &e));
            i += m;
        }
    }
}

static inline float rounded(enum st_dtype dtype, float v)
{
    if (dtype == ST_BF16) return bf16_to_f32(bf16_from_f32(v));
    if (dtype == ST_F16) return f16_to_f32(f16_from_f32(v));
    return v;
}

static inline void check_mixed(const struct st_tensor *(*find)(const void *, const char *),
                               const void *in_it)
{
    struct err e;

    for (size_t k = 0; k < MIXED; k++) {
        const struct st_tensor *t = find(in_it, mixed[k].name);
        size_t n = spec_count(&mixed[k]);
        assert_non_null(t);
        assert_true(t->aligned);
        assert_int_equal(t->dtype, mixed[k].dtype);
        assert_int_equal(t->ndim, mixed[k].ndim);
        assert_memory_equal(t->dim, mixed[k].dim, (size_t)t->ndim * sizeof *t->dim);
        if (t->dtype == ST_BOOL) {
            assert_memory_equal(t->data, "\1\0\1", 3);
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            float v;
            assert_true(st_read_f32(t, i, 1, &v, &e));
            assert_true(v == rounded(t->dtype, sample(k, i)));
        }
    }
}

#endif
