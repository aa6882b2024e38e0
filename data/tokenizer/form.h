/* form.h - the tokenizer that a directory's files stand for, while it is loaded: its class, where
 * its components are, and its added tokens. */
#ifndef DATA_TOKENIZER_FORM_H
#define DATA_TOKENIZER_FORM_H

#include "data/tokenizer/tokenizer_parts.h"

/* An added token as given in a file, in the order in which they are added: a later one of the same
 * content overrides its flags. */
struct added_spec {
    const struct load *load; /* where `item` is from */
    const cJSON *item;
    const char *content; /* borrowed from the document */
    int32_t id;          /* as given in the file, -1: none */
    struct added_flags is;
    int batch;   /* each batch numbers on from the end of the previous; 0: tokenizer.json's */
    bool if_new; /* no effect if that content is already there */
    bool named;  /* a special token, whatever its flag says */
};
struct added_list {
    struct added_spec *v;
    size_t n, cap;
};
/* *out from an object; false if it is not an object, or has no content. */
bool added_read(const struct load *load, const cJSON *item, struct added_spec *out);
bool added_same(const struct added_flags *a, const struct added_flags *b);
bool added_put(struct added_list *list, const struct added_spec *a, struct err *e);

/* What a class of transformers builds: the table is in form.c. */
struct form_class {
    const char *name;
    const char *chains;     /* normalizer, pre_tokenizer and decoder, as JSON */
    bool marks;             /* blanks become marks, unknown characters bytes; else ByteLevel */
    bool file_alone;        /* unk_token and added tokens come from tokenizer.json only */
    bool special_again;     /* special tokens are added again, with only the special flag set */
    const char *special[4]; /* defaults for unk, bos, eos, pad */
};
struct form {                      /* the tokenizer that a directory's files stand for */
    const struct form_class *kind; /* NULL: tokenizer.json as it is */
    char why[200];
    bool legacy, prefix;   /* from tokenizer_config.json */
    int64_t vocab_size;    /* rows of the model's embedding, 0: any number */
    struct load chains;    /* those of `kind` */
    struct load config;    /* tokenizer_config.json */
    struct load map, more; /* special_tokens_map.json, added_tokens.json */
    struct added_list added;
};
/* dir may be NULL unless o->form is TOKENIZER_AUTO. form_close releases what a failure leaves. */
bool form_open(struct form *f, const struct load *file, const char *dir,
               const struct tokenizer_options *o);
void form_close(struct form *f);
/* Where normalizer, pre_tokenizer and decoder are defined. */
const struct load *form_chains(const struct form *f, const struct load *file);
void form_options(const struct form *f, struct tokenizer *tk); /* adjusts the model's options */
void form_prefix(const struct form *f, struct tokenizer *tk);  /* and those of the chains */
/* The added tokens named by files other than tokenizer.json. */
bool config_tokens(struct form *f, const struct load *file, const char *dir);
/* Notes which form it is, and what in the files is not used. */
bool form_notes(const struct form *f, const struct load *file, struct tokenizer *tk);

/* Assigns each added token its id, by the library's rules, and its entry in the vocabulary; `bytes`
 * as for put_piece, `vocab`: number of the model's tokens. Tokens from outside tokenizer.json that
 * would get an id of vocab_size or more are dropped and noted. */
bool added_number(struct tokenizer *tk, const struct form *f, size_t vocab, char **bytes,
                  struct err *e);

#endif
