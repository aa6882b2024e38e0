/* words.h - the words of LLaVA JSON files as a tokenizer sees them: conversations rendered by a
 * chat template, cut at special tokens, then by the pre-tokenizer's pattern. */
#ifndef DATASETS_WORDS_H
#define DATASETS_WORDS_H

#include "datasets/bpe.h"

/* The pattern of Llama 3's tokenizer, for both PCRE2 and Hugging Face's "Split". */
extern const char words_pattern[];

/* A special token. The role is its name in special_tokens_map.json; NULL: none. */
struct words_special {
    const char *text, *role;
};
enum { WORDS_MOST_SPECIALS = 8 };

struct words_template {
    const char *name;
    const char *system;       /* precedes conversations without a system text; NULL: nothing */
    const char *ask, *answer; /* precede a question and an answer */
    const char *jinja;        /* the same, for Hugging Face's apply_chat_template */
    const char *first;        /* the special token that begins each text; NULL: none does */
    int specials;             /* with ids from 0 up */
    struct words_special special[WORDS_MOST_SPECIALS];
};

/* On failure returns NULL, with an error that lists the names. */
const struct words_template *words_template_find(const char *name, struct err *e);

/* Adds the words of every conversation in the file. */
bool words_of_file(const char *path, const struct words_template *t, struct bpe *b, struct err *e);

#endif
