/* bpe.h - byte-pair encoding learnt from words and their counts (Sennrich et al., 2016), starting
 * from single bytes.
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

/* Merge i joins two adjacent tokens into token first + i. No two merges spell the same
 * token: between two boundaries that no token crosses, the same bytes are always
 * joined in the same way. */
struct bpe_merge {
    int32_t left, right;
};

struct bpe {
    struct bpe_word *word; /* distinct words, in order of first occurrence */
    size_t words, word_cap;
    size_t *slot; /* hash table of word: index + 1, 0 = free; its size is a power of two */
    size_t slots;
    struct bpe_merge *merge;
    size_t merges, merge_cap;
};

/* Counts one occurrence of a word of len >= 1 bytes, which are copied. */
bool bpe_add(struct bpe *b, const char *bytes, size_t len, struct err *e);

/* Learns at most `most` merges; byte_id[256] are the tokens of single bytes, `first` is the first
 * merge's token. Each merge joins the pair of neighbours that is most frequent over all words; ties
 * go to the smaller left token, then the smaller right one. Fewer than `most` merges mean that
 * every word has become a single token. */
bool bpe_learn(struct bpe *b, const int32_t byte_id[256], int32_t first, size_t most,
               struct err *e);

void bpe_free(struct bpe *b); /* fine on a zeroed struct, also after a failure */

#endif
