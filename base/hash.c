/* hash.c - SHA-256 through libcrypto, which uses the processor's instructions for it; FNV-1a. */
#include "base/hash.h"

#include "base/err.h"

#include <openssl/evp.h>
#include <stdio.h>

/* The calls below fail on broken use only, but for the context of some hundred bytes, without which
 * no caller could go on. */
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

uint64_t hash_fnv(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint64_t h = 0xcbf29ce484222325u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}
