/* hash.h - SHA-256 (FIPS 180-4), for what is found by its content (images, towers, data sets) and
 * for the checksum of checkpoints; and a quick hash for tables in memory. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Between sha256_init and sha256_hex it holds memory of libcrypto. */
struct sha256 {
    struct evp_md_ctx_st *state;
};
void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *data, size_t len);
void sha256_hex(struct sha256 *s, char hex[65]); /* ends the sum; hex is terminated */

/* Adds what an open file holds from byte `from` to its end; *bytes is how much that was. The
 * message does not name the file. go_on, where given, is asked as it reads: false ends
 * the reading. */
bool sha256_add_file(struct sha256 *s, int fd, uint64_t from, uint64_t *bytes,
                     bool (*go_on)(struct err *e), struct err *e);

uint64_t hash_fnv(const void *data, size_t len); /* 64-bit FNV-1a */

#endif
