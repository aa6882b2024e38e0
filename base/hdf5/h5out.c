/* h5out.c - HDF5 files written under a temporary name, through a file driver that never fails
 * inside HDF5. */
#include "base/hdf5/h5out.h"

#include "base/file.h"
#include "base/mem.h"

#include <hdf5.h>
#if H5_VERSION_GE(1, 14, 0)
#include <H5FDdevelop.h> /* since 1.14 the driver interface is here */
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The driver's state for an open file. HDF5 sees only `pub`, which must come first. */
struct sink {
    H5FD_t pub;
    struct h5_out *out;
    haddr_t eoa; /* end of what HDF5 has allocated */
    haddr_t eof; /* end of what was written */
};

static H5FD_t *sink_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr)
{
    struct h5_out *const *info = H5Pget_driver_info(fapl);
    struct sink *s = info ? calloc(1, sizeof *s) : NULL;

    (void)name; /* h5_out_open has already opened the file */
    (void)flags;
    (void)maxaddr;
    if (info && !s) (*info)->error = errno;
    if (!s) return NULL;
    s->out = *info;
    return &s->pub;
}

/* The last space allocated must exist even if it was never written: a reader takes a file shorter
 * than its allocation for a truncated one. */
static herr_t sink_close(H5FD_t *f)
{
    struct sink *s = (struct sink *)f;

    if (!s->out->error && ftruncate(s->out->fd, (off_t)s->eoa) != 0) s->out->error = errno;
    free(s);
    return 0;
}

/* The same features as HDF5's own POSIX driver: aggregation of metadata and small data. */
static herr_t sink_query(const H5FD_t *f, unsigned long *flags)
{
    (void)f;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_DATA_SIEVE |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t sink_get_eoa(const H5FD_t *f, H5FD_mem_t type)
{
    (void)type;
    return ((const struct sink *)f)->eoa;
}

static herr_t sink_set_eoa(H5FD_t *f, H5FD_mem_t type, haddr_t addr)
{
    (void)type;
    ((struct sink *)f)->eoa = addr;
    return 0;
}

static haddr_t sink_get_eof(const H5FD_t *f, H5FD_mem_t type)
{
    (void)type;
    return ((const struct sink *)f)->eof;
}

/* Anything beyond the end, or lost to an error, reads as zeros. */
static herr_t sink_read(H5FD_t *f, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t n, void *buf)
{
    struct sink *s = (struct sink *)f;
    uint8_t *p = buf;

    (void)type;
    (void)dxpl;
    while (n) {
        ssize_t got = pread(s->out->fd, p, n, (off_t)addr);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && !s->out->error) s->out->error = errno;
        if (got <= 0) break;
        p += got;
        addr += (haddr_t)got;
        n -= (size_t)got;
    }
    if (n) memset(p, 0, n);
    return 0;
}

static herr_t sink_write(H5FD_t *f, H5FD_mem_t type, hid_t dxpl, haddr_t addr, size_t n,
                         const void *buf)
{
    struct sink *s = (struct sink *)f;
    const uint8_t *p = buf;

    (void)type;
    (void)dxpl;
    if (addr + n > s->eof) s->eof = addr + n;
    while (n && !s->out->error) {
        ssize_t put = pwrite(s->out->fd, p, n, (off_t)addr);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) {
            s->out->error = put < 0 ? errno : ENOSPC;
            break;
        }
        p += put;
        addr += (haddr_t)put;
        n -= (size_t)put;
    }
    return 0;
}

static const H5FD_class_t sink_class = {
#if H5_VERSION_GE(1, 14, 0)
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)600, /* private: above the values that the HDF Group assigns */
#endif
    .name = "mha2mla_sink",
    .maxaddr = (haddr_t)INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG, /* closing the file closes all objects still open in it */
    .fapl_size = sizeof(struct h5_out *),
    .open = sink_open,
    .close = sink_close,
    .query = sink_query,
    .get_eoa = sink_get_eoa,
    .set_eoa = sink_set_eoa,
    .get_eof = sink_get_eof,
    .read = sink_read,
    .write = sink_write,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

/* Keeps all metadata in memory until close: after a failed write nothing may be read back. */
static bool keep_metadata(hid_t fapl)
{
    H5AC_cache_config_t c = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};

    if (H5Pget_mdc_config(fapl, &c) < 0) return false;
    c.incr_mode = H5C_incr__off;
    c.flash_incr_mode = H5C_flash_incr__off;
    c.decr_mode = H5C_decr__off;
    c.evictions_enabled = 0;
    return H5Pset_mdc_config(fapl, &c) >= 0;
}

static bool create(struct h5_out *o, hsize_t userblock)
{
    hid_t driver = H5FDregister(&sink_class);
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), fcpl = H5Pcreate(H5P_FILE_CREATE);
    bool ok = driver > 0 && fapl > 0 && fcpl > 0 && H5Pset_driver(fapl, driver, &o) >= 0 &&
              H5Pset_userblock(fcpl, userblock) >= 0 && keep_metadata(fapl) &&
              /* the format that h5in reads, whatever a later library would choose */
              H5Pset_libver_bounds(fapl, H5F_LIBVER_EARLIEST, H5F_LIBVER_V18) >= 0;

    o->file = ok ? H5Fcreate(o->tmp, H5F_ACC_TRUNC, fcpl, fapl) : 0;
    if (fcpl > 0) H5Pclose(fcpl);
    if (fapl > 0) H5Pclose(fapl);
    if (driver > 0) H5FDunregister(driver); /* an open file holds its own reference */
    if (o->file <= 0) o->file = 0;
    return o->file > 0;
}

bool h5_out_open(struct h5_out *o, const char *path, hsize_t userblock, struct err *e)
{
    memset(o, 0, sizeof *o);
    o->fd = -1;
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    o->path = mem_strdup(path, e);
    o->tmp = o->path ? mem_printf(e, "%s.tmp", path) : NULL;
    if (!o->tmp) goto fail;
    o->fd = open(o->tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (o->fd < 0) {
        err_system(e, errno, "%s", o->tmp);
        goto fail;
    }
    if (create(o, userblock)) return true;
    h5_out_failed(o, "start the file", e);
fail:
    h5_out_abort(o);
    return false;
}

bool h5_out_failed(const struct h5_out *o, const char *what, struct err *e)
{
    if (o->error) return err_system(e, o->error, "%s: cannot be written", o->path);
    return err_set(e, "%s: HDF5 cannot %s", o->path, what);
}

bool h5_out_write(struct h5_out *o, hid_t where, const struct h5_array *a, struct err *e)
{
    hid_t space = H5Screate_simple(a->rank, a->dims, NULL), dcpl = H5Pcreate(H5P_DATASET_CREATE);
    hid_t set = -1;
    bool ok = space > 0 && dcpl > 0 && H5Pset_obj_track_times(dcpl, 0) >= 0, empty = false;

    for (int i = 0; i < a->rank; i++)
        empty = empty || a->dims[i] == 0;
    if (ok) set = H5Dcreate2(where, a->name, a->file_type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    ok = set > 0 &&
         (empty || H5Dwrite(set, a->mem_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, a->data) >= 0);
    if (set > 0 && H5Dclose(set) < 0) ok = false;
    if (dcpl > 0) H5Pclose(dcpl);
    if (space > 0) H5Sclose(space);
    if (ok && !o->error) return true;
    h5_out_failed(o, "write a dataset", e);
    return o->error ? false : err_context(e, "dataset '%s'", a->name);
}

bool h5_out_value(struct h5_out *o, const char *name, hid_t file_type, hid_t mem_type,
                  const void *value, struct err *e)
{
    hid_t space = H5Screate(H5S_SCALAR), attr = -1;
    bool ok;

    if (space > 0) attr = H5Acreate2(o->file, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    ok = attr > 0 && H5Awrite(attr, mem_type, value) >= 0;
    if (attr > 0 && H5Aclose(attr) < 0) ok = false;
    if (space > 0) H5Sclose(space);
    return (ok && !o->error) || h5_out_failed(o, "write an attribute", e);
}

bool h5_out_text(struct h5_out *o, const char *name, const char *text, struct err *e)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    bool ok = type > 0 && H5Tset_size(type, strlen(text) + 1) >= 0;

    ok =
        ok ? h5_out_value(o, name, type, type, text, e) : h5_out_failed(o, "make a string type", e);
    if (type > 0) H5Tclose(type);
    return ok;
}

bool h5_out_finish(struct h5_out *o, struct err *e)
{
    bool ok = H5Fclose(o->file) >= 0;

    o->file = 0;
    return (ok && !o->error) || h5_out_failed(o, "close the file", e);
}

bool h5_out_commit(struct h5_out *o, struct err *e)
{
    int fd = o->fd;
    bool ok;

    o->fd = -1;
    if (close(fd) != 0) {
        o->error = errno;
        ok = h5_out_failed(o, "", e);
        unlink(o->tmp);
    } else {
        ok = file_publish(o->tmp, o->path, e);
    }
    free(o->path);
    free(o->tmp);
    memset(o, 0, sizeof *o);
    return ok;
}

void h5_out_abort(struct h5_out *o)
{
    if (o->file > 0) H5Fclose(o->file);
    if (o->path && o->fd >= 0) {
        close(o->fd);
        unlink(o->tmp);
    }
    free(o->path);
    free(o->tmp);
    memset(o, 0, sizeof *o);
}
