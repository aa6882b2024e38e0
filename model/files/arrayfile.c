/* arrayfile.c - see arrayfile.h. */
#include "model/files/arrayfile.h"
#include "base/file.h"
#include "base/hdf5/h5in.h"
#include "base/hdf5/h5out.h"

#include <unistd.h>

bool arrayfile_write(const char *path, const struct file_array *a, int n, struct err *e)
{
    struct h5_out out = {0};
    bool ok = h5_out_open(&out, path, 0, e); /* from here on HDF5's types are known */

    for (int i = 0; ok && i < n; i++) {
        struct h5_array v = {.name = a[i].name,
                             .file_type = a[i].real ? H5T_IEEE_F64LE : H5T_STD_I32LE,
                             .mem_type = a[i].real ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT32,
                             .rank = a[i].rank,
                             .data = a[i].data};
        for (int k = 0; k < a[i].rank; k++)
            v.dims[k] = (hsize_t)a[i].dims[k];
        ok = h5_out_write(&out, out.file, &v, e);
    }
    ok = ok && h5_out_finish(&out, e) && h5_out_commit(&out, e);
    if (!ok) h5_out_abort(&out);
    return ok;
}

static bool read_array(struct h5_in *f, const struct h5_links *links, const struct file_array *a,
                       struct err *e)
{
    struct h5_values v;
    uint64_t header, count = 1;
    bool fits;

    if (!h5_links_find(links, a->name, &header, e) || !h5_in_array(f, header, &v, e)) return false;
    fits = v.rank == a->rank && v.size == (a->real ? 8 : 4) && !v.big_endian &&
           v.kind == (a->real ? H5_KIND_FLOAT : H5_KIND_INT);
    for (int k = 0; k < a->rank && fits; k++) {
        fits = v.dims[k] == (uint64_t)a->dims[k];
        count *= v.dims[k];
    }
    if (!fits) return err_set(e, "%s: is of another model", a->name);
    return h5_in_read(f, &v, 0, count, a->data, e);
}

bool arrayfile_read(const char *path, const struct file_array *a, int n, struct err *e)
{
    struct h5_links links = {0};
    struct h5_in f;
    int fd = file_open(path, e);
    bool ok = fd >= 0 && h5_in_start(&f, fd, e) && h5_in_links(&f, f.root, &links, e);

    for (int i = 0; ok && i < n; i++)
        ok = read_array(&f, &links, &a[i], e);
    h5_links_free(&links);
    if (fd >= 0) close(fd);
    return ok;
}
