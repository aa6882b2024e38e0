/* tokenizer.h - text to token ids and back, from a Hugging Face tokenizer.json with a BPE model.
 * Ids and decoded text equal those of the `tokenizers` library (compared with 0.23.3). A file that
 * needs an unsupported part is refused, and the message names the part; so is a regular expression
 * that the library's engine and ours would interpret differently. Supported:
 *
 *   model           BPE: merges as strings or pairs, unk_token, fuse_unk, byte_fallback,
 *                   ignore_merges; no dropout, no subword prefix or suffix
 *   normalizer      Sequence NFC NFD NFKC NFKD Prepend Replace Lowercase Strip
 *   pre_tokenizer   Sequence ByteLevel (only as the last) Metaspace Split Digits Punctuation
 *                   Whitespace WhitespaceSplit
 *   post_processor  Sequence ByteLevel TemplateProcessing (its "single" half)
 *   decoder         Sequence ByteLevel Metaspace Replace ByteFallback Fuse Strip
 * The file's truncation and padding are ignored: truncating is the caller's decision.
 *
 * Whatever the file asks for, time and memory stay within a multiple of the text: expressions that
 * backtrack or rescan the text excessively, components that turn one byte into more than 64, and
 * templates of more than 1024 tokens are errors that say where they are.
 *
 *     struct tokenizer *tk = tokenizer_load("model/tokenizer.json", e);
 *     struct tokens out = {0};
 *     ok = tokenizer_encode(tk, NULL, text, strlen(text), true, &out, e);
 *     ...
 *     tokens_free(&out);
 *     tokenizer_free(tk); */
#ifndef DATA_TOKENIZER_TOKENIZER_H
#define DATA_TOKENIZER_TOKENIZER_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct tokenizer;         /* immutable once loaded: threads may share it */
struct tokenizer_scratch; /* memory and word cache of one thread */

/* A token and the bytes [begin, end) that it covers of the text given to tokenizer_encode. If
 * several tokens share a character (an emoji in byte tokens), each covers all of it. What the
 * tokenizer prepends to a text (a "▁") belongs to the text's first character; tokens from the
 * post-processor (BOS, EOS) cover nothing: begin == end. White space is never trimmed off, whatever
 * trim_offsets says, and a character changed by normalisation is covered with all its combining
 * marks; in these two points the ranges are wider than the library's. */
struct token {
    int32_t id;
    int64_t begin, end;
};

struct tokens { /* {0} is an empty list */
    struct token *v;
    size_t n, cap;
};
void tokens_free(struct tokens *t); /* leaves an empty list */

/* Reads tokenizer.json alone, as it is. On failure returns NULL and sets *e, starting with
 * "PATH:LINE:COL: " if a place in the file is at fault. */
struct tokenizer *tokenizer_load(const char *path, struct err *e);
void tokenizer_free(struct tokenizer *tk); /* fine on NULL */

/* How the files of a directory are read, in the order of the names. The forms differ in what
 * precedes a text, and text after a special token. */
enum tokenizer_form {
    TOKENIZER_AUTO, /* as transformers' AutoTokenizer does: tokenizer.json as it is, or rebuilt by
                     * the class that tokenizer_config.json names */
    TOKENIZER_FILE, /* tokenizer.json as it is, and nothing else */
    TOKENIZER_SENTENCEPIECE /* tokenizer.json's vocabulary, as sentencepiece read it when LLaVA was
                             * trained: a blank before each text between special tokens */
};
#define TOKENIZER_FORM_NAMES "auto", "file", "sentencepiece"

struct tokenizer_options {
    enum tokenizer_form form;
    const char *model_type; /* from the model's config.json, also decides the class; or NULL */
    int64_t vocab_size;     /* rows of the model's embedding; 0: any number */
};
/* Reads tokenizer.json of `dir`; with TOKENIZER_AUTO also tokenizer_config.json and, if that lists
 * no added tokens, special_tokens_map.json and added_tokens.json. Errors as above. */
struct tokenizer *tokenizer_open(const char *dir, const struct tokenizer_options *o, struct err *e);

/* Which form it is and why, and what in the files is not used: lines, borrowed. */
const char *tokenizer_notes(const struct tokenizer *tk);

/* Scratch for repeated calls on one thread; it caches the tokens of words. Must be freed
 * before its tokenizer. */
struct tokenizer_scratch *tokenizer_scratch_new(const struct tokenizer *tk, struct err *e);
void tokenizer_scratch_free(struct tokenizer_scratch *s); /* fine on NULL */

/* Appends the tokens of text[0..len) to *out. `scratch` must have been made for tk and not be in
 * use by another thread, or be NULL: slower for many short texts. add_special also applies the
 * post-processor (for LLaVA-1.5, a leading BOS). The text must be at most 1 GiB of valid UTF-8;
 * otherwise the error names the byte: silent repair would hide broken data. Special tokens spelled
 * out in the text become those tokens. On failure *out is unchanged. */
bool tokenizer_encode(const struct tokenizer *tk, struct tokenizer_scratch *scratch,
                      const char *text, size_t len, bool add_special, struct tokens *out,
                      struct err *e);

/* The text of ids, in new memory, followed by a NUL that *len (may be NULL) does not
 * count. skip_special leaves out the tokens marked special. Ids that name no token are
 * skipped, as by the library: a model's output layer may be larger than the vocabulary.
 * Invalid UTF-8 becomes U+FFFD. */
char *tokenizer_decode(const struct tokenizer *tk, const int32_t *ids, size_t n, bool skip_special,
                       size_t *len, struct err *e);

/* The id of a token by its exact spelling in the file ("<image>", "Ġthe"), -1 if there is none. */
int32_t tokenizer_id(const struct tokenizer *tk, const char *token);
/* What stands for a character without a token; -1 if such characters vanish. */
int32_t tokenizer_unknown(const struct tokenizer *tk);
/* A token's spelling, borrowed; NULL if no token has this id. */
const char *tokenizer_piece(const struct tokenizer *tk, int32_t id);
int32_t tokenizer_size(const struct tokenizer *tk); /* the largest id + 1 */

/* The characters of the last text, as normalised, that no token stands for. */
enum { LOST_NAMES = 8, LOST_NAME = 8 };
struct tokenizer_lost {
    int64_t n;
    char name[LOST_NAMES][LOST_NAME]; /* the first different ones; a byte as "<0xNN>" */
    int names;
};
const struct tokenizer_lost *tokenizer_lost(const struct tokenizer_scratch *sc);
/* Adds one to the names unless it is there; past LOST_NAMES it is dropped. */
void tokenizer_lost_name(struct tokenizer_lost *l, const char *name);

#endif
