/* form.h - the tokenizer that the files of a directory stand for, while it is loaded: its
 * class, where its components stand, and its added tokens. */
#ifndef DATA_TOKENIZER_FORM_H
#define DATA_TOKENIZER_FORM_H

#include "data/tokenizer/parts.h"

/* An added token as a file has it, in the order in which they are added: a later one of the same
 * content has its flags instead. */
struct added_spec {
    const struct load *load; /* where `item` stands */
    const cJSON *item;
    const char *content; /* borrowed from the document */
    int32_t id;          /* that the file says, -1: none */
    struct added_flags is;
    int batch;   /* ids are counted on from where the batch before ended; 0: of tokenizer.json */
    bool if_new; /* it changes nothing where that content is there already */
    bool named;  /* a special token, whatever its flag says */
};
struct added_list {
    struct added_spec *v;
    size_t n, cap;
};
/* *out from an object; false where it is none, or where it has no content. */
bool added_read(const struct load *load, const cJSON *item, struct added_spec *out);
bool added_same(const struct added_flags *a, const struct added_flags *b);
bool added_put(struct added_list *list, const struct added_spec *a, struct err *e);

/* What a class of transformers builds: form.c has the table. */
struct form_class {
    const char *name;
    const char *chains;     /* normalizer, pre_tokenizer and decoder, as JSON */
    bool marks;             /* blanks are marks, unknown characters bytes; else it is ByteLevel */
    bool file_alone;        /* unk_token and added tokens are tokenizer.json's */
    bool special_again;     /* special tokens are added once more, with no flag but special */
    const char *special[4]; /* where no file names one: of unk, bos, eos, pad */
};
struct form {                      /* the tokenizer that the files of a directory stand for */
    const struct form_class *kind; /* NULL: tokenizer.json as it is */
    char why[200];
    bool legacy, prefix;   /* of tokenizer_config.json */
    int64_t vocab_size;    /* rows that the model has, 0: any number */
    struct load chains;    /* those of `kind` */
    struct load config;    /* tokenizer_config.json */
    struct load map, more; /* special_tokens_map.json, added_tokens.json */
    struct added_list added;
};
/* dir may be NULL where o->form is not TOKENIZER_AUTO. What a failure leaves is closed with it. */
bool form_open(struct form *f, const struct load *file, const char *dir,
               const struct tokenizer_options *o);
void form_close(struct form *f);
/* Where normalizer, pre_tokenizer and decoder stand. */
const struct load *form_chains(const struct form *f, const struct load *file);
void form_options(const struct form *f, struct tokenizer *tk); /* changes those of the model */
void form_prefix(const struct form *f, struct tokenizer *tk);  /* and of the chains */
/* The added tokens that the files beside tokenizer.json name. */
bool config_tokens(struct form *f, const struct load *file, const char *dir);
/* Notes which form it is, and what of the files is not used. */
bool form_notes(const struct form *f, const struct load *file, struct tokenizer *tk);

/* Gives each added token its id, by the library's rules, and its place in the vocabulary; `bytes`
 * as for put_piece, `vocab`: how many tokens the model has. Tokens that are not of tokenizer.json
 * and would get an id of vocab_size or more are left out and noted. */
bool added_number(struct tokenizer *tk, const struct form *f, size_t vocab, char **bytes,
                  struct err *e);

#endif
