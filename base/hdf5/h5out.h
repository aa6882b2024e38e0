/* h5out.h - writes an HDF5 file so that it appears under its name complete or not at all. HDF5's
 * own file driver does not allow that: if a flush fails (a full disk, a quota), H5Fclose frees the
 * file but keeps its id, and the process crashes at the next use or at exit. The driver here writes
 * to our own descriptor, remembers the first error and reports success to HDF5, so that closing
 * always works; h5_out_finish then reports the error. */
#ifndef BASE_HDF5_H5OUT_H
#define BASE_HDF5_H5OUT_H

#include "base/err.h"

#include <hdf5.h>

/*     struct h5_out out = {0};
 *     bool ok = h5_out_open(&out, path, 0, e) && h5_out_write(&out, out.file, &array, e) &&
 *               h5_out_finish(&out, e) && h5_out_commit(&out, e);
 *     if (!ok) h5_out_abort(&out);
 * No two processes may write to the same path at once: both would use path.tmp. */
struct h5_out {
    hid_t file;       /* for H5Gcreate2 and the like; 0 after h5_out_finish */
    int fd;           /* of the .tmp, ours; -1 if not open */
    int error;        /* errno of the first failed write, 0 while all is well */
    char *path, *tmp; /* NULL in a struct that was not opened */
};

/* One dataset. dims has `rank` (1 to 3) entries; if one of them is 0, data may be NULL. */
struct h5_array {
    const char *name;
    hid_t file_type, mem_type;
    int rank;
    hsize_t dims[3];
    const void *data; /* written without a copy if both types are the same */
};

/* Starts path.tmp with `userblock` bytes (0, or a power of two from 512) before the HDF5 part.
 * Turns off HDF5's own error printing. After a failure, *o needs no h5_out_abort. */
bool h5_out_open(struct h5_out *o, const char *path, hsize_t userblock, struct err *e);

/* Writes a dataset under `where` (out->file or a group in it; the caller closes groups). The file's
 * bytes depend only on what is written: no timestamps are stored. */
bool h5_out_write(struct h5_out *o, hid_t where, const struct h5_array *a, struct err *e);

/* Attributes of the root group: a value, a string. */
bool h5_out_value(struct h5_out *o, const char *name, hid_t file_type, hid_t mem_type,
                  const void *value, struct err *e);
bool h5_out_text(struct h5_out *o, const char *name, const char *text, struct err *e);

/* Ends the HDF5 part; all groups that the caller opened must be closed. From now on out->fd is a
 * plain file, open for reading and writing. */
bool h5_out_finish(struct h5_out *o, struct err *e);

/* Flushes to disk and renames. On failure removes the .tmp. */
bool h5_out_commit(struct h5_out *o, struct err *e);

/* Gives up: removes the .tmp. Fine on a zeroed or committed struct. */
void h5_out_abort(struct h5_out *o);

/* Fills *e for a call on the file that failed: the write error if there was one, otherwise "HDF5
 * cannot " and `what`. */
bool h5_out_failed(const struct h5_out *o, const char *what, struct err *e);

#endif
