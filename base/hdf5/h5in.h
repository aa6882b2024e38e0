/* h5in.h - reads HDF5 files that anybody may have made, or damaged.
 *
 * libhdf5 writes our files (h5out.h) but does not read any: it believes what it reads, and one
 * wrong byte can cost a crash or gigabytes. A child process would keep that from the run, at the
 * price of a fork beside the threads of OpenMP, OpenBLAS and MPI. The part of the format that a
 * file of plain arrays uses is small, so it is read here, and everything else is refused by name:
 *     superblock       versions 0 to 3, addresses and lengths of 8 bytes, any user block
 *     object headers   version 1, and 2 (libver "latest", track_order)
 *     groups           symbol tables, or links in the header; hard links are followed, no others
 *     arrays, attributes   integers, IEEE floats, bf16, fixed-length texts
 *     storage          contiguous or compact, as many bytes as type and shape need
 * (HDF5 File Format Specification 3.0). Checksums of version 2 are not verified: nothing that they
 * guard is believed.
 *
 * Memory and time: what describes the arrays is read a few times at most, whatever it says, and
 * values only into the caller's memory. A file is never mapped, so that one that is cut short
 * meanwhile is an error. No message names the file: the caller does. */
#ifndef BASE_HDF5_H5IN_H
#define BASE_HDF5_H5IN_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Holds no memory and needs no closing; the descriptor is the caller's and must stay open. */
struct h5_in {
    int fd;
    uint64_t base; /* where the HDF5 part begins in the file; addresses count from there */
    uint64_t end;  /* the address at which it ends */
    uint64_t root; /* the header of / */
    uint64_t left; /* bytes of description that may still be read */
};

/* Finds the HDF5 part of an open regular file. */
bool h5_in_start(struct h5_in *f, int fd, struct err *e);

/* ---- groups ---- */

struct h5_link {
    const char *name;
    const char *kind; /* NULL: hard; else what it is instead, e.g. "a soft link" */
    uint64_t header;  /* of a hard link's object */
};
struct h5_links {
    struct h5_link *link; /* [n] in the order of their names, no name twice */
    size_t n, cap;
    char *text; /* of the names */
    size_t len, cap_text;
};

/* What a group holds; the caller frees it. *links is zeroed on failure. */
bool h5_in_links(struct h5_in *f, uint64_t group, struct h5_links *links, struct err *e);
void h5_links_free(struct h5_links *l); /* fine on a zeroed struct */

/* The header of the object that a hard link of this name leads to. */
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
    uint64_t size; /* bytes of one value; of integers 1, 2, 4 or 8, of floats 4 or 8 */
    bool big_endian;
    int rank; /* 0: a single value */
    uint64_t dims[H5_IN_RANK];
    uint64_t count; /* the product of dims */
    uint64_t at;    /* address of the values; count * size bytes of the file are there */
};

bool h5_in_array(struct h5_in *f, uint64_t header, struct h5_values *v, struct err *e);

/* An attribute of the object. One that is not there is no error: *there says so; nor is one of a
 * kind that is not read, H5_KIND_OTHER, which has no values for h5_in_integers and h5_in_text. */
bool h5_in_attribute(struct h5_in *f, uint64_t header, const char *name, struct h5_values *v,
                     bool *there, struct err *e);

/* The values [first, first + n) as they lie in the file; `to` has room for n * v->size bytes. */
bool h5_in_read(const struct h5_in *f, const struct h5_values *v, uint64_t first, uint64_t n,
                void *to, struct err *e);

/* All v->count values, which must be integers; what is over INT64_MAX becomes INT64_MAX. */
bool h5_in_integers(const struct h5_in *f, const struct h5_values *v, int64_t *to, struct err *e);

/* A single text as a string. Fails where it is none, or longer than size - 1. */
bool h5_in_text(const struct h5_in *f, const struct h5_values *v, char *to, size_t size,
                struct err *e);

#endif
