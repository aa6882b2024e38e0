/* hash.h - SHA-256 (FIPS 180-4) for content addressing (images, towers, data sets) and checkpoint
 * checksums; a fast checksum for large files; and a fast hash for tables in memory. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Owns libcrypto memory between sha256_init and sha256_hex. */
struct sha256 {
    struct evp_md_ctx_st *state;
};
void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);
void sha256_hex(struct sha256 *s, char hex[65]); /* hex is NUL-terminated; releases the state */

/* Hashes an open file from byte `from` to its end; *bytes is the number read. The message does not
 * name the file. go_on, unless NULL, is polled while reading: false stops it. */
bool sha256_add_file(struct sha256 *s, int fd, uint64_t from, uint64_t *bytes,
                     bool (*go_on)(struct err *e), struct err *e);

/* The sum of a whole file, and a message that names it. */
bool sha256_path(const char *path, bool (*go_on)(struct err *e), char hex[65], struct err *e);

/* XXH64 with seed 0 of an open file from its begin: memory's speed where SHA-256 takes ten times as
 * long. For files of gigabytes that may have been damaged or swapped by accident; nobody forges
 * them. The message does not name the file. */
bool sum64_file(int fd, uint64_t *sum, bool (*go_on)(struct err *e), struct err *e);
/* The same of a whole file in hex, and a message that names it. */
bool sum64_path(const char *path, bool (*go_on)(struct err *e), char hex[17], struct err *e);

uint64_t hash_fnv(const void *data, size_t len); /* 64-bit FNV-1a */

#endif
