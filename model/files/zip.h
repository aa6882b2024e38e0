/* zip.h - the members of a zip archive in memory, as written by torch.save: stored, not
 * compressed, so that each member is a part of the archive. Archives of more than 4 GB
 * (zip64) are supported. */
#ifndef MODEL_FILES_ZIP_H
#define MODEL_FILES_ZIP_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* A piece of memory owned by somebody else. */
struct bytes {
    const uint8_t *p;
    size_t n;
};

struct zip_member {
    struct bytes name; /* in the archive, not terminated */
    uint64_t at, size; /* offset of its own header; size of its contents */
    uint32_t crc;
    bool stored;
};

struct zip {
    struct bytes file;         /* borrowed */
    struct zip_member *member; /* [count], sorted by name */
    size_t count;
};

/* Reads the directory at the archive's end. Fails if there is none or it is damaged; the message
 * does not name the file. Memory is proportional to the directory. */
bool zip_open(struct zip *z, struct bytes file, struct err *e);
void zip_close(struct zip *z); /* fine on a zeroed struct */

/* The member of that name, NULL if there is none. */
const struct zip_member *zip_find(const struct zip *z, const char *name);

/* The first member whose name ends in `end`. */
const struct zip_member *zip_find_end(const struct zip *z, const char *end);

/* A member's contents. Fails for compressed ones, and if they extend beyond the archive. */
bool zip_contents(const struct zip *z, const struct zip_member *m, struct bytes *out,
                  struct err *e);

/* The same, and verifies their checksum, for which they are read once. */
bool zip_checked(const struct zip *z, const struct zip_member *m, struct bytes *out, struct err *e);

#endif
