/* words.h - the words of LLaVA JSON files as a tokenizer sees them: conversations rendered by a
 * chat template, cut at special tokens, then by the pre-tokenizer's pattern. */
#ifndef DATASETS_WORDS_H
#define DATASETS_WORDS_H

#include "datasets/bpe.h"

/* The pattern of Llama 3's tokenizer, for both PCRE2 and Hugging Face's "Split". */
extern const char words_pattern[];

/* Special tokens, with ids from 0 up; Llama's configs assume <s> 1 and </s> 2. The role is the name
 * in special_tokens_map.json. */
enum { WORDS_SPECIALS = 5 };
extern const struct words_special {
    const char *text, *role;
} words_specials[WORDS_SPECIALS];

struct words_template {
    const char *name;
    const char *ask, *answer; /* precede a question and an answer */
    const char *jinja;        /* the same, for Hugging Face's apply_chat_template */
};

/* On failure returns NULL, with an error that lists the names. */
const struct words_template *words_template_find(const char *name, struct err *e);

/* Adds the words of every conversation in the file. */
bool words_of_file(const char *path, const struct words_template *t, struct bpe *b, struct err *e);

#endif
