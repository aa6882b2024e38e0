/* h5in_parts.h - shared by the files of h5in: little-endian bytes, and the messages of an object
 * header. */
#ifndef BASE_HDF5_H5IN_PARTS_H
#define BASE_HDF5_H5IN_PARTS_H

#include "base/hdf5/h5in.h"

#define H5_NOWHERE UINT64_MAX /* the address of something absent */

static inline uint64_t h5_get(const uint8_t *p, size_t bytes) /* little-endian, up to 8 */
{
    uint64_t v = 0;

    while (bytes--)
        v = v << 8 | p[bytes];
    return v;
}

/* Reads a piece of metadata at an address into new memory; NULL with *e on failure. `what` names it
 * in the message. All such bytes count against f->left. */
uint8_t *h5_in_take(struct h5_in *f, uint64_t at, uint64_t n, const char *what, struct err *e);

/* The message types that are read; others do not matter for reading values. */
enum {
    H5_MESSAGE_SPACE = 0x01,
    H5_MESSAGE_LINK_INFO = 0x02,
    H5_MESSAGE_TYPE = 0x03,
    H5_MESSAGE_LINK = 0x06,
    H5_MESSAGE_EXTERNAL = 0x07,
    H5_MESSAGE_LAYOUT = 0x08,
    H5_MESSAGE_FILTERS = 0x0B,
    H5_MESSAGE_ATTRIBUTE = 0x0C,
    H5_MESSAGE_CONTINUED = 0x10,
    H5_MESSAGE_TABLE = 0x11,
    H5_MESSAGE_LAST_KNOWN = 0x17
};

struct h5_message {
    unsigned type;
    const uint8_t *body; /* valid during the visit */
    size_t size;
    uint64_t at; /* address of the body */
};

/* Calls visit for every message of a header until one call fails. */
typedef bool h5_visit(void *arg, const struct h5_message *m, struct err *e);
bool h5_in_walk(struct h5_in *f, uint64_t header, h5_visit *visit, void *arg, struct err *e);

#endif
