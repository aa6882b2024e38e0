/* file.h - whole files in, and files out that appear under their name complete or not at all: they
 * are written to NAME.tmp, flushed to the disk and renamed. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/err.h"
#include "base/watch.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Reads a whole file; *text is terminated by a NUL that *len does not count, and the caller frees
 * it. Refuses files over `limit` bytes, and what is no file: a directory, a named pipe (which could
 * be waited for without end), a device. */
bool file_read(const char *path, size_t limit, char **text, size_t *len, struct err *e);

/* The same, but a pipe will do (--config <(command)): it is read to its end. A line on standard
 * error says so where that takes a while to come. */
bool file_read_stream(const char *path, size_t limit, char **text, size_t *len, struct err *e);

/* A descriptor for reading a file (and nothing else), which the caller closes; -1 on failure. The
 * message does not name the file. */
int file_open(const char *path, struct err *e);

/* Whether there is a file of that name and nothing else, or nothing at all. */
bool file_regular(const char *path, struct err *e);

/* Reads the n bytes at a place. Fails where the file ends before. The message does not name it. */
bool file_read_at(int fd, uint64_t at, size_t n, void *to, struct err *e);

/* A file (and nothing else) mapped read-only, and watched as long (watch.h). An empty file maps to
 * a non-NULL pointer of length 0. */
struct file_map {
    const uint8_t *data;
    size_t size;
    struct watched *watched;
};
bool file_map_open(struct file_map *m, const char *path, struct err *e);
void file_map_close(struct file_map *m); /* fine on a zeroed struct */

/* Zeroed memory in a file of `dir` that has no name and goes away with the process: pages that the
 * system may write out instead of holding them. The whole size is reserved at once, so that a full
 * disk is an error here and not a fault later. */
struct file_scratch {
    void *data;
    size_t size;
    struct watched *watched;
};
bool file_scratch_open(struct file_scratch *s, const char *dir, size_t size, struct err *e);
void file_scratch_close(struct file_scratch *s); /* fine on a zeroed struct */

/* One file being written aside.
 *     struct file_out out = {0};
 *     if (!file_out_open(&out, path, e)) return false;
 *     fprintf(out.fp, ...);
 *     return file_out_commit(&out, e);    // or file_out_abort(&out)
 * commit reports any write error since open (a full disk too), removes the .tmp then, and leaves
 * what was under the final name as it was. */
struct file_out {
    FILE *fp;
    char *path, *tmp;
};
bool file_out_open(struct file_out *out, const char *path, struct err *e);
bool file_out_commit(struct file_out *out, struct err *e);
void file_out_abort(struct file_out *out); /* fine on a zeroed or committed struct */

/* Writes `len` bytes to `path` by the steps above. */
bool file_write(const char *path, const void *data, size_t len, struct err *e);

/* A small file's bytes under another name, as file_write leaves them. */
bool file_copy(const char *from, const char *to, struct err *e);

/* Flushes a finished file `tmp` (written by some library) to the disk and renames it to `path`. On
 * failure tmp is removed; only where the directory cannot be flushed is the file under its name,
 * and whole, all the same. */
bool file_publish(const char *tmp, const char *path, struct err *e);

/* Makes a directory and its parents; fine where it is there already. */
bool file_mkdirs(const char *path, struct err *e);

/* Removes a directory with all that is in it, as far as that can be done; links are not followed.
 * Fine where there is none. */
void file_remove_tree(const char *path);

/* Whether there is something of that name. That this cannot be told (no access to its directory, a
 * disk error) is an error, and not the same as its absence. */
bool file_there(const char *path, bool *there, struct err *e);
/* The same, but a link that leads nowhere counts too. */
bool file_named(const char *path, bool *there, struct err *e);

/* "dir/name" in new memory; `name` alone where it is absolute or dir is "". */
char *file_join(const char *dir, const char *name, struct err *e);

/* The part of `path` before the last slash, "." where there is none; in new memory. */
char *file_dir(const char *path, struct err *e);

#endif
