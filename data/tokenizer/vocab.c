/* vocab.c - the hash tables of tokens and of merges, and the byte-level alphabet. */
#include "base/mem.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- hash tables ---- */

uint32_t hash_bytes(const char *s, size_t n)
{
    uint64_t h = n * 0x9e3779b97f4a7c15u, w;

    for (; n >= 8; s += 8, n -= 8) {
        memcpy(&w, s, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    for (w = 0; n > 0; n--)
        w = w << 8 | (unsigned char)s[n - 1];
    h = (h ^ w) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
    return (uint32_t)(h * 0xc4ceb9fe1a85ec53u >> 32);
}

/* The power of two that n entries fill to at most half. */
static size_t slots_for(size_t n)
{
    size_t slots = 16;

    while (slots < 2 * n)
        slots *= 2;
    return slots;
}

bool table_init(struct table *t, size_t n, struct err *e)
{
    size_t slots = slots_for(n);

    t->slot = mem_new(slots, sizeof *t->slot, "vocabulary table", e);
    if (!t->slot) return false;
    t->mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        t->slot[i].id = -1;
    return true;
}

/* The slot of a key, or the empty slot where it belongs. */
static size_t table_slot(const struct table *t, const struct str *strings, const char *s, size_t n,
                         uint32_t hash)
{
    size_t i = hash & t->mask;

    for (; t->slot[i].id >= 0; i = (i + 1) & t->mask) {
        const struct str *at = &strings[t->slot[i].id];

        if (t->slot[i].hash == hash && at->len == n && memcmp(at->s, s, n) == 0) break;
    }
    return i;
}

int32_t table_put(struct table *t, const struct str *strings, int32_t id)
{
    const struct str *key = &strings[id];
    uint32_t hash = hash_bytes(key->s, key->len);
    size_t i = table_slot(t, strings, key->s, key->len, hash);

    if (t->slot[i].id >= 0) return t->slot[i].id;
    t->slot[i].hash = hash;
    t->slot[i].id = id;
    return -1;
}

int32_t table_get(const struct table *t, const struct str *strings, const char *s, size_t n)
{
    return t->slot[table_slot(t, strings, s, n, hash_bytes(s, n))].id;
}

bool merges_init(struct merges *m, size_t n, struct err *e)
{
    size_t slots = slots_for(n);

    m->slot = mem_new(slots, sizeof *m->slot, "table of merges", e);
    if (!m->slot) return false;
    m->mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        m->slot[i].left = -1;
    return true;
}

void merges_put(struct merges *m, struct merge merge)
{
    const struct merge *there = merges_get(m, merge.left, merge.right);
    uint64_t h = ((uint64_t)(uint32_t)merge.left << 32 | (uint32_t)merge.right) * MERGE_HASH;
    size_t i = (size_t)(h >> 32) & m->mask;

    if (there) { /* a pair listed twice: like the library, keep the later one */
        m->slot[there - m->slot] = merge;
        return;
    }
    while (m->slot[i].left >= 0)
        i = (i + 1) & m->mask;
    m->slot[i] = merge;
}

/* ---- the byte-level alphabet ---- */

/* Printable Latin-1 bytes spell themselves, the others are U+0100 and up, in order. */
static bool spells_itself(int32_t b)
{
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xff && b != 0xad);
}

int32_t byte_to_char(unsigned char byte)
{
    int32_t next = 0x100;

    if (spells_itself(byte)) return byte;
    for (int32_t b = 0; b < byte; b++)
        next += !spells_itself(b);
    return next;
}

int char_to_byte(int32_t c)
{
    if (c < 0x100) return spells_itself(c) ? c : -1;
    c -= 0x100;
    if (c <= 0x20) return c;               /* 0x00 to 0x20 */
    if (c <= 0x42) return c - 0x21 + 0x7f; /* 0x7f to 0xa0 */
    return c == 0x43 ? 0xad : -1;
}
