/* bpe.c - pair counts are kept in a hash table and only corrected for the words that a merge
 * changes; the best pair is found by scanning the whole table, which stays small. */
#include "datasets/bpe.h"
#include "base/hash.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* The word's slot, or the free slot where it belongs. */
static size_t find_word(const struct bpe *b, const uint8_t *bytes, size_t len)
{
    size_t at = (size_t)hash_fnv(bytes, len) & (b->slots - 1);

    for (; b->slot[at]; at = (at + 1) & (b->slots - 1)) {
        const struct bpe_word *w = &b->word[b->slot[at] - 1];
        if (w->len == len && memcmp(w->bytes, bytes, len) == 0) break;
    }
    return at;
}

static bool grow_slots(struct bpe *b, struct err *e)
{
    size_t n = b->slots ? b->slots * 2 : 1024, *slot = mem_new(n, sizeof *slot, "words", e);

    if (!slot) return false;
    free(b->slot);
    b->slot = slot;
    b->slots = n;
    for (size_t i = 0; i < b->words; i++)
        b->slot[find_word(b, b->word[i].bytes, b->word[i].len)] = i + 1;
    return true;
}

bool bpe_add(struct bpe *b, const char *bytes, size_t len, struct err *e)
{
    const uint8_t *p = (const uint8_t *)bytes;
    size_t at;

    if (b->words * 2 >= b->slots && !grow_slots(b, e)) return false;
    at = find_word(b, p, len);
    if (!b->slot[at]) {
        if (!mem_grow(&b->word, &b->word_cap, b->words + 1, sizeof *b->word, e)) return false;
        char *copy = mem_strndup(bytes, len, e);
        if (!copy) return false;
        b->word[b->words++] = (struct bpe_word){(uint8_t *)copy, len, 0};
        b->slot[at] = b->words;
    }
    b->word[b->slot[at] - 1].count++;
    return true;
}

void bpe_free(struct bpe *b)
{
    for (size_t i = 0; i < b->words; i++)
        free(b->word[i].bytes);
    free(b->word);
    free(b->slot);
    free(b->merge);
    memset(b, 0, sizeof *b);
}

/* How often each pair of neighbours occurs. */
struct pairs {
    struct pair {
        int32_t left, right; /* left -1: free */
        int64_t count;
    } * slot;
    size_t slots, used; /* slots: a power of two */
};

static struct pair *find_pair(const struct pairs *p, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = (size_t)((key * 0x9e3779b97f4a7c15u) >> 20) & (p->slots - 1);

    while (p->slot[at].left >= 0 && (p->slot[at].left != left || p->slot[at].right != right))
        at = (at + 1) & (p->slots - 1);
    return &p->slot[at];
}

static bool grow_pairs(struct pairs *p, struct err *e)
{
    struct pairs big = {.slots = p->slots ? p->slots * 2 : 4096};

    big.slot = mem_new(big.slots, sizeof *big.slot, "pairs", e);
    if (!big.slot) return false;
    for (size_t i = 0; i < big.slots; i++)
        big.slot[i].left = -1;
    for (size_t i = 0; i < p->slots; i++) {
        if (p->slot[i].left < 0 || p->slot[i].count == 0) continue;
        *find_pair(&big, p->slot[i].left, p->slot[i].right) = p->slot[i];
        big.used++;
    }
    free(p->slot);
    *p = big;
    return true;
}

/* A word as tokens, which become fewer with each merge. */
struct spelling {
    int32_t *token;
    size_t len;
    int64_t count;
};

/* Adds the word's pairs `sign` times. */
static bool count_pairs(struct pairs *p, const struct spelling *s, int64_t sign, struct err *e)
{
    for (size_t i = 0; i + 1 < s->len; i++) {
        if (p->used * 2 >= p->slots && !grow_pairs(p, e)) return false;
        struct pair *at = find_pair(p, s->token[i], s->token[i + 1]);
        if (at->left < 0) {
            *at = (struct pair){s->token[i], s->token[i + 1], 0};
            p->used++;
        }
        at->count += sign * s->count;
    }
    return true;
}

static bool has_pair(const struct spelling *s, struct bpe_merge m)
{
    for (size_t i = 0; i + 1 < s->len; i++)
        if (s->token[i] == m.left && s->token[i + 1] == m.right) return true;
    return false;
}

/* Joins from left to right: "aaa" becomes "aa a". */
static void join_pair(struct spelling *s, struct bpe_merge m, int32_t to)
{
    size_t out = 0;

    for (size_t i = 0; i < s->len; i++) {
        bool joined = i + 1 < s->len && s->token[i] == m.left && s->token[i + 1] == m.right;
        s->token[out++] = joined ? to : s->token[i];
        i += joined;
    }
    s->len = out;
}

static bool best_pair(const struct pairs *p, struct bpe_merge *best)
{
    int64_t count = 0;

    for (size_t i = 0; i < p->slots; i++) {
        const struct pair *c = &p->slot[i];
        if (c->left < 0 || c->count == 0 || c->count < count) continue;
        bool smaller = c->left < best->left || (c->left == best->left && c->right < best->right);
        if (c->count == count && !smaller) continue;
        count = c->count;
        *best = (struct bpe_merge){c->left, c->right};
    }
    return count > 0;
}

/* All words spelled in bytes; their tokens share one block, which the first word's pointer owns. */
static struct spelling *spell(const struct bpe *b, const int32_t byte_id[256], struct err *e)
{
    struct spelling *s = mem_new(b->words, sizeof *s, "words", e);
    int32_t *block;
    size_t bytes = 0;

    for (size_t i = 0; i < b->words; i++)
        bytes += b->word[i].len;
    block = s ? mem_new(bytes, sizeof *block, "the words' tokens", e) : NULL;
    if (!block) {
        free(s);
        return NULL;
    }
    s[0].token = block; /* mem_new gives one element even for no words */
    for (size_t i = 0; i < b->words; i++) {
        const struct bpe_word *w = &b->word[i];
        s[i] = (struct spelling){block, w->len, w->count};
        for (size_t k = 0; k < w->len; k++)
            *block++ = byte_id[w->bytes[k]];
    }
    return s;
}

/* Applies the merge to every word that has the pair. */
static bool apply_merge(struct bpe *b, struct spelling *s, struct pairs *p, struct bpe_merge m,
                        int32_t to, struct err *e)
{
    for (size_t i = 0; i < b->words; i++) {
        if (!has_pair(&s[i], m)) continue;
        if (!count_pairs(p, &s[i], -1, e)) return false;
        join_pair(&s[i], m, to);
        if (!count_pairs(p, &s[i], 1, e)) return false;
    }
    if (!mem_grow(&b->merge, &b->merge_cap, b->merges + 1, sizeof *b->merge, e)) return false;
    b->merge[b->merges++] = m;
    return true;
}

bool bpe_learn(struct bpe *b, const int32_t byte_id[256], int32_t first, size_t most, struct err *e)
{
    struct spelling *s = spell(b, byte_id, e);
    struct pairs p = {0};
    struct bpe_merge m = {0};
    bool ok = s != NULL;

    CHECK(b->merges == 0);
    ok = ok && grow_pairs(&p, e);
    for (size_t i = 0; ok && i < b->words; i++)
        ok = count_pairs(&p, &s[i], 1, e);
    while (ok && b->merges < most && best_pair(&p, &m))
        ok = apply_merge(b, s, &p, m, first + (int32_t)b->merges, e);
    free(p.slot);
    if (s) free(s[0].token);
    free(s);
    return ok;
}
