/* basisfile.c - see basisfile.h. */
#include "model/files/basisfile.h"
#include "base/file.h"
#include "base/hdf5/h5in.h"
#include "base/hdf5/h5out.h"
#include "base/mem.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARRAYS = 4 };

/* The file's arrays, with where their values are. */
struct array {
    const char *name;
    hid_t file, mem;
    int rank;
    int64_t dims[3];
    void *data;
    size_t size;
};

static void arrays_of(struct array out[ARRAYS], const struct rank_dims *n,
                      const struct basisfile *b)
{
    const int64_t P = n->dh / 2, C = n->G * P;
    const hid_t i32 = H5T_STD_I32LE, f64 = H5T_IEEE_F64LE;

    out[0] = (struct array){"pair", i32, H5T_NATIVE_INT32, 2, {n->L, C, 1}, b->pair, 4};
    out[1] = (struct array){"re", f64, H5T_NATIVE_DOUBLE, 3, {n->L, C, n->G}, b->re, 8};
    out[2] = (struct array){"im", f64, H5T_NATIVE_DOUBLE, 3, {n->L, C, n->G}, b->im, 8};
    out[3] = (struct array){"scale", f64, H5T_NATIVE_DOUBLE, 3, {n->L, n->G, P}, b->scale, 8};
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
    struct array a[ARRAYS];
    struct h5_out out = {0};
    bool ok = h5_out_open(&out, path, 0, e);

    arrays_of(a, n, b); /* HDF5 is open: its types are known */
    for (int i = 0; ok && i < ARRAYS; i++) {
        struct h5_array v = {.name = a[i].name,
                             .file_type = a[i].file,
                             .mem_type = a[i].mem,
                             .rank = a[i].rank,
                             .data = a[i].data};
        for (int k = 0; k < a[i].rank; k++)
            v.dims[k] = (hsize_t)a[i].dims[k];
        ok = h5_out_write(&out, out.file, &v, e);
    }
    ok = ok && h5_out_finish(&out, e) && h5_out_commit(&out, e);
    if (!ok) h5_out_abort(&out);
    return ok || err_context(e, "basis file");
}

static bool read_array(struct h5_in *f, const struct h5_links *links, const struct array *a,
                       struct err *e)
{
    struct h5_values v;
    uint64_t header, count = 1;
    bool fits;

    if (!h5_links_find(links, a->name, &header, e) || !h5_in_array(f, header, &v, e)) return false;
    fits = v.rank == a->rank && v.size == a->size && !v.big_endian &&
           v.kind == (a->size == 4 ? H5_KIND_INT : H5_KIND_FLOAT);
    for (int k = 0; k < a->rank && fits; k++) {
        fits = v.dims[k] == (uint64_t)a->dims[k];
        count *= v.dims[k];
    }
    if (!fits) return err_set(e, "%s: is of another model", a->name);
    return h5_in_read(f, &v, 0, count, a->data, e);
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
    struct array a[ARRAYS];
    struct h5_links links = {0};
    struct h5_in f;
    int fd = file_open(path, e);
    bool ok = fd >= 0 && h5_in_start(&f, fd, e) && h5_in_links(&f, f.root, &links, e);

    arrays_of(a, n, b);
    for (int i = 0; ok && i < ARRAYS; i++)
        ok = read_array(&f, &links, &a[i], e);
    ok = ok && check(n, b, e);
    h5_links_free(&links);
    if (fd >= 0) close(fd);
    return ok || err_context(e, "basis file %s", path);
}
