/* words.h - the words of LLaVA JSON files as a tokenizer sees them: conversations written out by a
 * chat template, cut at the special tokens, then by the pre-tokenizer's pattern. */
#ifndef DATASETS_WORDS_H
#define DATASETS_WORDS_H

#include "datasets/bpe.h"

/* The pattern of Llama 3's tokenizer, for PCRE2 and for Hugging Face's "Split" alike. */
extern const char words_pattern[];

/* Tokens of their own, by id from 0 on; <s> 1 and </s> 2 are what Llama's configs take for granted.
 * The role is the name in special_tokens_map.json. */
enum { WORDS_SPECIALS = 5 };
extern const struct words_special {
    const char *text, *role;
} words_specials[WORDS_SPECIALS];

struct words_template {
    const char *name;
    const char *ask, *answer; /* what stands before a question and before an answer */
    const char *jinja;        /* the same for Hugging Face's apply_chat_template */
};

/* NULL, and an error that lists the names, where there is none. */
const struct words_template *words_template_find(const char *name, struct err *e);

/* Adds the words of every conversation in the file. */
bool words_of_file(const char *path, const struct words_template *t, struct bpe *b, struct err *e);

#endif
