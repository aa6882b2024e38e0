/* hash.c - SHA-256 through libcrypto, which uses the processor's instructions for it; XXH64 by its
 * specification (xxHash's doc/xxhash_spec.md); FNV-1a. */
#include "base/hash.h"
#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* ---- XXH64 ---- */

static const uint64_t prime[5] = {0x9e3779b185ebca87u, 0xc2b2ae3d27d4eb4fu, 0x165667b19e3779f9u,
                                  0x85ebca77c2b2ae63u, 0x27d4eb2f165667c5u};

static uint64_t rotated(uint64_t v, int by)
{
    return v << by | v >> (64 - by);
}

/* Numbers are little-endian in files and on every processor that this runs on. */
static uint64_t word_at(const unsigned char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v;
}

static uint64_t round64(uint64_t lane, uint64_t word)
{
    return rotated(lane + word * prime[1], 31) * prime[0];
}

static void take_stripe(uint64_t lane[4], const unsigned char *p)
{
    for (int i = 0; i < 4; i++)
        lane[i] = round64(lane[i], word_at(p + 8 * i));
}

void sum64_init(struct sum64 *s)
{
    *s = (struct sum64){.lane = {prime[0] + prime[1], prime[1], 0, 0 - prime[0]}};
}

void sum64_add(struct sum64 *s, const void *data, size_t len)
{
    const unsigned char *p = data;
    size_t held = s->bytes % 32, room = 32 - held;
    uint64_t lane[4];

    s->bytes += len;
    if (held && len >= room) {
        memcpy(s->rest + held, p, room);
        take_stripe(s->lane, s->rest);
        p += room;
        len -= room;
        held = 0;
    }
    memcpy(lane, s->lane, sizeof lane); /* in registers */
    for (; !held && len >= 32; p += 32, len -= 32)
        take_stripe(lane, p);
    memcpy(s->lane, lane, sizeof lane);
    memcpy(s->rest + held, p, len);
}

static uint64_t merged(const uint64_t lane[4])
{
    uint64_t h =
        rotated(lane[0], 1) + rotated(lane[1], 7) + rotated(lane[2], 12) + rotated(lane[3], 18);

    for (int i = 0; i < 4; i++)
        h = (h ^ round64(0, lane[i])) * prime[0] + prime[3];
    return h;
}

uint64_t sum64_end(const struct sum64 *s)
{
    uint64_t h = (s->bytes < 32 ? prime[4] : merged(s->lane)) + s->bytes;
    const unsigned char *p = s->rest, *end = p + s->bytes % 32;
    uint32_t half;

    for (; end - p >= 8; p += 8)
        h = rotated(h ^ round64(0, word_at(p)), 27) * prime[0] + prime[3];
    for (; end - p >= 4; p += 4) {
        memcpy(&half, p, sizeof half);
        h = rotated(h ^ half * prime[0], 23) * prime[1] + prime[2];
    }
    for (; p < end; p++)
        h = rotated(h ^ *p * prime[4], 11) * prime[0];
    h = (h ^ h >> 33) * prime[1];
    h = (h ^ h >> 29) * prime[2];
    return h ^ h >> 32;
}

bool sum64_file(int fd, uint64_t *sum, bool (*go_on)(struct err *e), struct err *e)
{
    enum { STEP = 1 << 18 };
    unsigned char *buf = mem_new(STEP, 1, "reading a file", e);
    struct sum64 s;
    ssize_t got = 0;
    bool ok = buf;

    sum64_init(&s);
    while (ok && (ok = !go_on || go_on(e))) {
        got = pread(fd, buf, STEP, (off_t)s.bytes);
        if (got > 0)
            sum64_add(&s, buf, (size_t)got);
        else if (got == 0 || errno != EINTR)
            break;
    }
    if (ok && got < 0) ok = err_system(e, errno, "cannot be read");
    *sum = sum64_end(&s);
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
