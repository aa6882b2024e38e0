/* bpe.h - byte-pair encoding learnt from words and how often each occurs (Sennrich et al., 2016),
 * starting from single bytes.
 *     struct bpe b = {0};
 *     bpe_add(&b, "hello", 5, e); ...
 *     bpe_learn(&b, byte_id, 256, 200, e);   // b.merge[0 .. b.merges - 1]
 *     bpe_free(&b); */
#ifndef DATASETS_BPE_H
#define DATASETS_BPE_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct bpe_word {
    uint8_t *bytes;
    size_t len;
    int64_t count;
};

/* Merge i joins two tokens that stand side by side to token first + i. No two merges spell the same
 * token: between two borders that no token crosses, the same bytes are always joined
 * the same way. */
struct bpe_merge {
    int32_t left, right;
};

struct bpe {
    struct bpe_word *word; /* distinct words, in the order they came */
    size_t words, word_cap;
    size_t *slot; /* hash table over word: index + 1, 0 = free; a power of two of slots */
    size_t slots;
    struct bpe_merge *merge;
    size_t merges, merge_cap;
};

/* Counts one occurrence of a word of len >= 1 bytes, which are copied. */
bool bpe_add(struct bpe *b, const char *bytes, size_t len, struct err *e);

/* Learns at most `most` merges; byte_id[256] are the single bytes' tokens, `first` is the first
 * merge's. Each merge joins the pair of neighbours that is most frequent over all words; among
 * equals the pair with the smaller left token, then the smaller right one. Fewer than `most` merges
 * mean that every word is one token by then. */
bool bpe_learn(struct bpe *b, const int32_t byte_id[256], int32_t first, size_t most,
               struct err *e);

void bpe_free(struct bpe *b); /* fine on a zeroed struct, also after a failure */

#endif
