/* file.h - reading whole files, and writing files that appear under their name complete or not at
 * all: written to NAME.tmp, flushed to disk and renamed. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/err.h"
#include "base/watch.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Reads a whole file. *text is NUL-terminated (*len does not count the NUL) and freed by the
 * caller. Refuses files of more than `limit` bytes and anything but a regular file: directories,
 * devices, and named pipes, on which a read could block for ever. */
bool file_read(const char *path, size_t limit, char **text, size_t *len, struct err *e);

/* The same, but accepts a pipe (--config <(command)), which is read to its end. If that keeps us
 * waiting, a line on standard error says so. */
bool file_read_stream(const char *path, size_t limit, char **text, size_t *len, struct err *e);

/* Opens a regular file (nothing else) for reading. Returns a descriptor that the caller closes, -1
 * on failure. The message does not name the file. */
int file_open(const char *path, struct err *e);

/* True if the path is a regular file, or nothing at all. */
bool file_regular(const char *path, struct err *e);

/* Reads n bytes at offset `at`. Fails if the file ends before that; the message
 * does not name it. */
bool file_read_at(int fd, uint64_t at, size_t n, void *to, struct err *e);

/* A regular file (nothing else) mapped read-only and watched while mapped (watch.h). An empty file
 * maps to a non-NULL pointer of length 0. */
struct file_map {
    const uint8_t *data;
    size_t size;
    struct watched *watched;
    bool borrowed; /* the caller's bytes */
};
bool file_map_open(struct file_map *m, const char *path, struct err *e);
/* A map of bytes that the caller keeps, as if they were a file's. */
void file_map_borrow(struct file_map *m, const void *data, size_t size);
void file_map_close(struct file_map *m); /* fine on a zeroed struct */

/* Zeroed memory backed by an unnamed file in `dir` that disappears with the process: pages that the
 * system may write out instead of keeping in memory. The whole size is reserved up front, so that a
 * full disk is an error here and not a fault later. */
struct file_scratch {
    void *data;
    size_t size;
    struct watched *watched;
};
bool file_scratch_open(struct file_scratch *s, const char *dir, size_t size, struct err *e);
void file_scratch_close(struct file_scratch *s); /* fine on a zeroed struct */

/* One file being written under a temporary name.
 *     struct file_out out = {0};
 *     if (!file_out_open(&out, path, e)) return false;
 *     fprintf(out.fp, ...);
 *     return file_out_commit(&out, e);    // or file_out_abort(&out)
 * commit reports any write error since open (including a full disk); it then removes the .tmp and
 * leaves the file under the final name unchanged. A link is followed; what is there and is neither
 * a file nor missing, such as a device, is refused. */
struct file_out {
    FILE *fp;
    char *path, *tmp;
};
bool file_out_open(struct file_out *out, const char *path, struct err *e);
/* Flushes all that was written to disk, so that committing only has to give it its name. */
bool file_out_flush(struct file_out *out, struct err *e);
bool file_out_commit(struct file_out *out, struct err *e);
void file_out_abort(struct file_out *out); /* fine on a zeroed or committed struct */

/* Writes `len` bytes to `path` as above. */
bool file_write(const char *path, const void *data, size_t len, struct err *e);

/* Copies a file of up to 1 GiB through memory and file_write. */
bool file_copy(const char *from, const char *to, struct err *e);

/* Flushes a finished file `tmp` (written by some library) to disk and renames it to `path`. On
 * failure tmp is removed. One exception: if only flushing the directory fails, the file is
 * nevertheless complete under its name. */
bool file_publish(const char *tmp, const char *path, struct err *e);

/* Makes the names in a directory survive a power cut, if the file system can do that. */
bool file_sync_dir(const char *dir, struct err *e);

/* Creates a directory and its parents; fine if it exists. */
bool file_mkdirs(const char *path, struct err *e);

/* Whether files can be made in a directory, which is tried: rights alone do not say so. Nothing is
 * left there. */
bool file_can_write(const char *dir, struct err *e);

/* Whether it exists or file_mkdirs could create it; creates nothing. */
bool file_can_mkdirs(const char *path, struct err *e);

/* Removes a directory tree as far as possible, without following links. Fine if there is none. */
void file_remove_tree(const char *path);

/* Whether a file of that name exists. Being unable to tell (no access to its directory, a disk
 * error) is an error, not the same as absence. */
bool file_there(const char *path, bool *there, struct err *e);
/* The same, but counts a dangling link too. */
bool file_named(const char *path, bool *there, struct err *e);

/* "dir/name" in new memory; just `name` if it is absolute or dir is "". */
char *file_join(const char *dir, const char *name, struct err *e);

/* The part of `path` before the last slash, "." if there is none; in new memory. */
char *file_dir(const char *path, struct err *e);

#endif
