/* zip.h - the members of a zip archive that lies in memory, as torch.save writes one: stored, not
 * compressed, so that a member is a stretch of the archive. Archives of more than 4 GB
 * (zip64) too. */
#ifndef MODEL_FILES_ZIP_H
#define MODEL_FILES_ZIP_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* A stretch of memory that somebody else owns. */
struct bytes {
    const uint8_t *p;
    size_t n;
};

struct zip_member {
    struct bytes name; /* in the archive, not terminated */
    uint64_t at, size; /* where its own header begins; bytes of the contents */
    uint32_t crc;
    bool stored;
};

struct zip {
    struct bytes file;         /* borrowed */
    struct zip_member *member; /* [count], sorted by name */
    size_t count;
};

/* Reads the directory at the archive's end. Fails where there is none or where it is damaged; the
 * message does not name the file. Memory is in proportion to the directory. */
bool zip_open(struct zip *z, struct bytes file, struct err *e);
void zip_close(struct zip *z); /* fine on a zeroed struct */

/* The member of that name, NULL where there is none. */
const struct zip_member *zip_find(const struct zip *z, const char *name);

/* The first member whose name ends in `end`. */
const struct zip_member *zip_find_end(const struct zip *z, const char *end);

/* A member's contents. Fails for compressed ones, and where they leave the archive. */
bool zip_contents(const struct zip *z, const struct zip_member *m, struct bytes *out,
                  struct err *e);

/* The same, and holds them against their checksum, for which they are read once. */
bool zip_checked(const struct zip *z, const struct zip_member *m, struct bytes *out, struct err *e);

#endif
