/* hash.c - SHA-256 through libcrypto, which uses the processor's instructions for it; XXH64 through
 * libxxhash; FNV-1a. */
#include "base/hash.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define XXH_STATIC_LINKING_ONLY /* for the state on the stack */
#include <xxhash.h>

/* The calls below fail only on misuse, except for allocating a context of a few hundred bytes,
 * without which no caller could continue. */
void sha256_init(struct sha256 *s)
{
    s->state = EVP_MD_CTX_new();
    if (!s->state || !EVP_DigestInit_ex(s->state, EVP_sha256(), NULL)) err_no_memory("a checksum");
}

void sha256_add(struct sha256 *s, const void *data, size_t len)
{
    CHECK(EVP_DigestUpdate(s->state, data, len));
}

void sha256_hex(struct sha256 *s, char hex[65])
{
    unsigned char sum[32];

    CHECK(EVP_DigestFinal_ex(s->state, sum, NULL));
    EVP_MD_CTX_free(s->state);
    s->state = NULL;
    for (int i = 0; i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
}

bool sha256_add_file(struct sha256 *s, int fd, uint64_t from, uint64_t *bytes,
                     bool (*go_on)(struct err *e), struct err *e)
{
    enum { STEP = 1 << 16 };
    uint8_t buf[STEP];
    ssize_t got;

    *bytes = 0;
    do {
        if (go_on && !go_on(e)) return false;
        got = pread(fd, buf, STEP, (off_t)(from + *bytes));
        if (got <= 0) continue;
        sha256_add(s, buf, (size_t)got);
        *bytes += (uint64_t)got;
    } while (got > 0 || (got < 0 && errno == EINTR));
    return got == 0 || err_system(e, errno, "cannot be read");
}

bool sha256_path(const char *path, bool (*go_on)(struct err *e), char hex[65], struct err *e)
{
    struct sha256 sum;
    uint64_t bytes;
    int fd = file_open(path, e);
    bool ok;

    if (fd < 0) return err_context(e, "%s", path);
    sha256_init(&sum);
    ok = sha256_add_file(&sum, fd, 0, &bytes, go_on, e) || err_context(e, "%s", path);
    sha256_hex(&sum, hex);
    close(fd);
    return ok;
}

bool sum64_file(int fd, uint64_t *sum, bool (*go_on)(struct err *e), struct err *e)
{
    enum { STEP = 1 << 18 };
    unsigned char *buf = mem_new(STEP, 1, "reading a file", e);
    XXH64_state_t s;
    off_t at = 0;
    ssize_t got = 0;
    bool ok = buf;

    XXH64_reset(&s, 0);
    while (ok && (ok = !go_on || go_on(e))) {
        got = pread(fd, buf, STEP, at);
        if (got > 0) {
            XXH64_update(&s, buf, (size_t)got);
            at += got;
        } else if (got == 0 || errno != EINTR)
            break;
    }
    if (ok && got < 0) ok = err_system(e, errno, "cannot be read");
    *sum = XXH64_digest(&s);
    free(buf);
    return ok;
}

bool sum64_path(const char *path, bool (*go_on)(struct err *e), char hex[17], struct err *e)
{
    uint64_t sum;
    int fd = file_open(path, e);
    bool ok = fd >= 0 && sum64_file(fd, &sum, go_on, e);

    if (fd >= 0) close(fd);
    if (!ok) return err_context(e, "%s", path);
    snprintf(hex, 17, "%016llx", (unsigned long long)sum);
    return true;
}

uint64_t hash_fnv(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}
