/* tokenizer.h - text to token ids and back, from a Hugging Face tokenizer.json with a BPE model.
 * Ids and decoded text equal those of the `tokenizers` library (compared with 0.23.3); a file that
 * needs a part this reader lacks is refused, and the message names the part, also where a regular
 * expression has something that the library's engine and ours do not read alike. Read are
 *
 *   model           BPE: merges as strings or pairs, unk_token, fuse_unk, byte_fallback,
 *                   ignore_merges; no dropout, no subword prefix or suffix
 *   normalizer      Sequence NFC NFD NFKC NFKD Prepend Replace Lowercase Strip
 *   pre_tokenizer   Sequence ByteLevel (only as the last) Metaspace Split Digits Punctuation
 *                   Whitespace WhitespaceSplit
 *   post_processor  Sequence ByteLevel TemplateProcessing (its "single" half)
 *   decoder         Sequence ByteLevel Metaspace Replace ByteFallback Fuse Strip
 * The file's truncation and padding are ignored: cutting is the caller's decision.
 *
 * Whatever the file asks for, time and memory stay within a multiple of the text: an expression
 * that backtracks or looks through the text again and again, components that make more than 64
 * bytes of one, and templates of more than 1024 tokens are errors that say where they stand.
 *
 *     struct tokenizer *tk = tokenizer_load("model/tokenizer.json", e);
 *     struct tokens out = {0};
 *     ok = tokenizer_encode(tk, NULL, text, strlen(text), true, &out, e);
 *     ...
 *     tokens_free(&out);
 *     tokenizer_free(tk);
 */
#ifndef DATA_TOKENIZER_TOKENIZER_H
#define DATA_TOKENIZER_TOKENIZER_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct tokenizer;         /* never changes after the load: threads may share it */
struct tokenizer_scratch; /* memory and the word cache of one thread */

/* One token and the bytes [begin, end) of the text given to tokenizer_encode that it covers. Where
 * several tokens share a character (an emoji in byte tokens), each covers all of it. What the
 * tokenizer puts before a text (a "▁") counts to the text's first character; tokens of the
 * post-processor (BOS, EOS) cover nothing: begin == end. White space is never trimmed off, whatever
 * trim_offsets says, and a character that normalisation changed is covered with all its combining
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

/* Reads tokenizer.json alone, as it is. NULL and *e on failure, with "PATH:LINE:COL: " where a
 * place is to blame. */
struct tokenizer *tokenizer_load(const char *path, struct err *e);
void tokenizer_free(struct tokenizer *tk); /* fine on NULL */

/* How the files of a directory are read, in the order of the names. They differ in how a text
 * begins, and goes on behind a special token. */
enum tokenizer_form {
    TOKENIZER_AUTO, /* as transformers' AutoTokenizer reads the directory: tokenizer.json as it is,
                     * or as the class makes it anew that tokenizer_config.json names */
    TOKENIZER_FILE, /* tokenizer.json as it is, and nothing else */
    TOKENIZER_SENTENCEPIECE /* tokenizer.json's vocabulary, as sentencepiece read it when LLaVA was
                             * trained: a blank before each text between special tokens */
};
#define TOKENIZER_FORM_NAMES "auto", "file", "sentencepiece"

struct tokenizer_options {
    enum tokenizer_form form;
    const char *model_type; /* of the model's config.json, which chooses the class too; or NULL */
    int64_t vocab_size;     /* rows of its embedding; 0: any number */
};
/* Reads tokenizer.json of `dir`; with TOKENIZER_AUTO also tokenizer_config.json and, where that
 * lists no added tokens, special_tokens_map.json and added_tokens.json. Failures as above. */
struct tokenizer *tokenizer_open(const char *dir, const struct tokenizer_options *o, struct err *e);

/* Which form it is and why, and what of the files is not used: lines, borrowed. */
const char *tokenizer_notes(const struct tokenizer *tk);

/* Scratch for many calls on one thread; it remembers the tokens of words it has seen. It must go
 * before its tokenizer. */
struct tokenizer_scratch *tokenizer_scratch_new(const struct tokenizer *tk, struct err *e);
void tokenizer_scratch_free(struct tokenizer_scratch *s); /* fine on NULL */

/* Appends the tokens of text[0..len) to *out. `scratch` was made for tk and is used by no other
 * thread meanwhile, or is NULL: slower for many short texts. add_special also applies the
 * post-processor (for LLaVA-1.5 a BOS in front). The text must be UTF-8 (else an error that names
 * the byte: silent repair would hide broken data) of at most 1 GiB. Special tokens written out in
 * the text become those tokens. On failure *out is as before. */
bool tokenizer_encode(const struct tokenizer *tk, struct tokenizer_scratch *scratch,
                      const char *text, size_t len, bool add_special, struct tokens *out,
                      struct err *e);

/* The text of ids, in new memory with a NUL behind that *len (may be NULL) does not count.
 * skip_special leaves out the tokens marked special. Ids that name no token are skipped, as the
 * library does: a model's output layer may be larger than the vocabulary. Bytes that are not UTF-8
 * become U+FFFD. */
char *tokenizer_decode(const struct tokenizer *tk, const int32_t *ids, size_t n, bool skip_special,
                       size_t *len, struct err *e);

/* The id of a token by its exact spelling in the file ("<image>", "Ġthe"), -1 where
 * there is none. */
int32_t tokenizer_id(const struct tokenizer *tk, const char *token);
/* That spelling, borrowed; NULL where the id names no token. */
const char *tokenizer_piece(const struct tokenizer *tk, int32_t id);
bool tokenizer_is_special(const struct tokenizer *tk, int32_t id);
int32_t tokenizer_size(const struct tokenizer *tk); /* the largest id + 1 */

#endif
