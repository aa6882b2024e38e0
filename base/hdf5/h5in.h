/* h5in.h - reads HDF5 files that anybody may have made, or damaged.
 *
 * libhdf5 writes our files (h5out.h) but reads none: it trusts its input, and one wrong byte can
 * cost a crash or gigabytes. Reading in a child process would protect the run, but needs a fork
 * next to the threads of OpenMP, OpenBLAS and MPI. A file of plain arrays uses a small part of the
 * format, so that part is read here and everything else is refused by name:
 *     superblock       versions 0 to 3, addresses and lengths of 8 bytes, any user block
 *     object headers   version 1, and 2 (libver "latest", track_order)
 *     groups           symbol tables, or links in the header; only hard links are followed
 *     arrays, attributes   integers, IEEE floats, bf16, fixed-length strings
 *     storage          contiguous or compact, of exactly the size that type and shape require
 * (HDF5 File Format Specification 3.0). Checksums of version 2 are not verified: nothing that they
 * protect is trusted.
 *
 * Cost: the metadata is read at most a few times, whatever it says, and values are read only into
 * the caller's memory. The file is never mapped, so one that is truncated meanwhile is an error. No
 * message names the file: the caller does. */
#ifndef BASE_HDF5_H5IN_H
#define BASE_HDF5_H5IN_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Owns no memory and needs no closing; the caller owns the descriptor, which must stay open. */
struct h5_in {
    int fd;
    uint64_t base; /* offset of the HDF5 part in the file; addresses count from there */
    uint64_t end;  /* address of its end */
    uint64_t root; /* address of the header of / */
    uint64_t left; /* bytes of metadata that may still be read */
};

/* Finds the HDF5 part of an open regular file. */
bool h5_in_start(struct h5_in *f, int fd, struct err *e);

/* ---- groups ---- */

struct h5_link {
    const char *name;
    const char *kind; /* NULL: hard; else what it is instead, e.g. "a soft link" */
    uint64_t header;  /* address of the object, for a hard link */
};
struct h5_links {
    struct h5_link *link; /* [n], sorted by name, without duplicates */
    size_t n, cap;
    char *text; /* holds the names */
    size_t len, cap_text;
};

/* The links of a group; the caller frees them. On failure *links is zeroed. */
bool h5_in_links(struct h5_in *f, uint64_t group, struct h5_links *links, struct err *e);
void h5_links_free(struct h5_links *l); /* fine on a zeroed struct */

/* The object header that the hard link of this name points to. */
bool h5_links_find(const struct h5_links *l, const char *name, uint64_t *header, struct err *e);

/* ---- arrays and attributes ---- */

enum { H5_IN_RANK = 32 }; /* the format's own limit */
enum h5_kind {
    H5_KIND_INT,
    H5_KIND_UINT,
    H5_KIND_FLOAT,
    H5_KIND_BF16,
    H5_KIND_TEXT,
    H5_KIND_OTHER
};

struct h5_values {
    enum h5_kind kind;
    uint64_t size; /* of one value: integers 1, 2, 4, 8; floats 4, 8; bf16 2 */
    bool big_endian;
    int rank; /* 0: a single value */
    uint64_t dims[H5_IN_RANK];
    uint64_t count; /* the product of dims */
    uint64_t at;    /* address of the values; the file is known to hold count * size bytes there */
};

bool h5_in_array(struct h5_in *f, uint64_t header, struct h5_values *v, struct err *e);

/* An attribute of the object. Absence is not an error: *there says so. Nor is a type that is not
 * supported: its kind is H5_KIND_OTHER, which h5_in_integers and h5_in_text refuse. */
bool h5_in_attribute(struct h5_in *f, uint64_t header, const char *name, struct h5_values *v,
                     bool *there, struct err *e);

/* Copies the values [first, first + n) as they are in the file: n * v->size bytes. */
bool h5_in_read(const struct h5_in *f, const struct h5_values *v, uint64_t first, uint64_t n,
                void *to, struct err *e);

/* Reads all v->count values, which must be integers; values above INT64_MAX become INT64_MAX. */
bool h5_in_integers(const struct h5_in *f, const struct h5_values *v, int64_t *to, struct err *e);

/* Reads a single string. Fails if it is not one, or longer than size - 1. */
bool h5_in_text(const struct h5_in *f, const struct h5_values *v, char *to, size_t size,
                struct err *e);

#endif
