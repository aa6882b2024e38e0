/* basisfile.c - see basisfile.h. */
#include "model/files/basisfile.h"
#include "base/mem.h"
#include "model/files/arrayfile.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ARRAYS = 4 };

static void arrays_of(struct file_array out[ARRAYS], const struct rank_dims *n,
                      const struct basisfile *b)
{
    const int64_t P = n->dh / 2, C = n->G * P;

    out[0] = (struct file_array){"pair", false, 2, {n->L, C, 1}, b->pair};
    out[1] = (struct file_array){"re", true, 3, {n->L, C, n->G}, b->re};
    out[2] = (struct file_array){"im", true, 3, {n->L, C, n->G}, b->im};
    out[3] = (struct file_array){"scale", true, 3, {n->L, n->G, P}, b->scale};
}

bool basisfile_new(struct basisfile *b, const struct rank_dims *n, struct err *e)
{
    const size_t P = (size_t)n->dh / 2, C = (size_t)n->G * P, L = (size_t)n->L;

    b->pair = mem_new(L * C, sizeof *b->pair, "the keys' basis", e);
    b->re = mem_new(L * C * (size_t)n->G, sizeof *b->re, "the keys' basis", e);
    b->im = mem_new(L * C * (size_t)n->G, sizeof *b->im, "the keys' basis", e);
    b->scale = mem_new(L * C, sizeof *b->scale, "the keys' basis", e);
    if (b->pair && b->re && b->im && b->scale) return true;
    basisfile_free(b);
    return false;
}

void basisfile_free(struct basisfile *b)
{
    free(b->pair);
    free(b->re);
    free(b->im);
    free(b->scale);
    memset(b, 0, sizeof *b);
}

bool basisfile_write(const char *path, const struct rank_dims *n, const struct basisfile *b,
                     struct err *e)
{
    struct file_array a[ARRAYS];

    arrays_of(a, n, b);
    return arrayfile_write(path, a, ARRAYS, e) || err_context(e, "basis file");
}

static bool check(const struct rank_dims *n, const struct basisfile *b, struct err *e)
{
    const int64_t P = n->dh / 2, C = n->G * P;

    for (int64_t j = 0; j < n->L * C; j++) {
        if (b->pair[j] < 0 || b->pair[j] >= P)
            return err_set(e, "pair: %d is none of the %" PRId64, (int)b->pair[j], P);
        if (!(b->scale[j] > 0) || isinf(b->scale[j]))
            return err_set(e, "scale: %g; a number above 0 is needed", b->scale[j]);
    }
    for (int64_t j = 0; j < n->L * C * n->G; j++)
        if (!isfinite(b->re[j]) || !isfinite(b->im[j]))
            return err_set(e, "re, im: values that are not finite");
    return true;
}

bool basisfile_read(const char *path, const struct rank_dims *n, struct basisfile *b, struct err *e)
{
    struct file_array a[ARRAYS];

    arrays_of(a, n, b);
    return (arrayfile_read(path, a, ARRAYS, e) && check(n, b, e)) ||
           err_context(e, "basis file %s", path);
}
