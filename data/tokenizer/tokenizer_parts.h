/* tokenizer_parts.h - shared by the tokenizer's files, and private to them.
 *
 *   text --added tokens--> pieces --normalizers--> --added tokens--> pieces --pre-tokenizers-->
 *   words --BPE--> ids --post-processor--> tokens
 *
 *   tokenizer.c  the pipeline above      text.c       text and normalizers
 *   load.c       the file                pattern.c    what texts are cut by
 *   form.c       transformers' variants  regex.c      regular expressions
 *   config.c     tokenizer_config.json   split.c      pre-tokenizers
 *   component.c  components of the file  bpe.c        merging, word cache
 *   added.c      added tokens            decode.c     decoders
 *   trie.c       finding them in a text  unicode.c    characters
 *   vocab.c      hash tables             tables.c     written by a script
 *   utf8.c       UTF-8 */
#ifndef DATA_TOKENIZER_TOKENIZER_PARTS_H
#define DATA_TOKENIZER_TOKENIZER_PARTS_H

#include "base/json/jsonc.h"
#include "data/tokenizer/tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* ---- text that remembers its origin ---- */

struct align { /* bytes of the original text; 32 bits suffice: a text is at most 1 GiB */
    uint32_t begin, end;
};

#define TEXT_MAX ((size_t)1 << 30) /* bytes: offsets in texts are 32 bits */

/* Limit on what a file's components may make of a text of n bytes; more is refused, since a
 * few Replace steps in a row can produce terabytes. Unicode's own longest expansion,
 * U+FDFA, is elevenfold. */
static inline size_t grown_max(size_t n)
{
    return n < TEXT_MAX / 128 ? 64 * n + 256 : TEXT_MAX;
}

struct aligned_text {
    char *s;         /* [n], UTF-8 */
    struct align *a; /* [n]: for each byte */
    size_t n, scap, acap, max;
};
/* Append: bytes of another text; new bytes that all stand for one range. */
bool text_add_part(struct aligned_text *t, const struct aligned_text *from, size_t begin,
                   size_t end, struct err *e);
bool text_add_new(struct aligned_text *t, const char *s, size_t n, struct align origin,
                  struct err *e);
void text_free(struct aligned_text *t);

struct piece { /* bytes [begin, end) of a text */
    size_t begin, end;
    int32_t id; /* an added token, or -1 */
};
struct pieces {
    struct piece *v;
    size_t n, cap;
};
bool pieces_add(struct pieces *p, size_t begin, size_t end, int32_t id, struct err *e);

/* ---- patterns ---- */

struct strings { /* a list of strings, end to end */
    char *s;
    size_t n, cap;
    size_t *end; /* [count]: where each one ends */
    size_t count, end_cap;
    size_t max; /* bytes; 0: no limit */
};
bool strings_put(struct strings *l, const char *s, size_t n,
                 struct err *e); /* appends to the open string */

struct pattern { /* one of the three is set */
    pcre2_code *code;
    bool jit;      /* `code` is compiled to machine code */
    char *literal; /* [literal_len] */
    size_t literal_len;
    bool (*is)(int32_t c); /* a class of characters */
    char *name;            /* of `code`: the expression as spelled in the file */
};
/* Appends, with a NUL, the PCRE2 equivalent of `regex`, which is written for Oniguruma. */
bool regex_translate(const char *regex, struct strings *out, struct err *e);
/* `regex` is written for Oniguruma, which the library uses. The caller frees the pattern,
 * also after a failure. */
bool pattern_regex(struct pattern *p, const char *regex, struct err *e);
bool pattern_literal(struct pattern *p, const char *text, struct err *e);
void pattern_free(struct pattern *p);

struct matcher { /* what PCRE2 writes to while it matches */
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};
bool matcher_init(struct matcher *m, struct err *e);
void matcher_free(struct matcher *m);

struct match {
    size_t begin, end;
    bool hit; /* false: text between two matches */
};
struct matches {
    struct match *v;
    size_t n, cap;
};
/* Cuts s[0..n) into matches and the text between them, in order and without gaps. */
bool pattern_matches(const struct pattern *p, struct matcher *m, const char *s, size_t n,
                     struct matches *out, struct err *e);

/* ---- components: one step of a chain of normalizers, pre-tokenizers or decoders ---- */

enum behavior { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_PREVIOUS, SPLIT_NEXT, SPLIT_CONTIGUOUS };
enum prepend { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER };

struct step;
struct load;
struct component { /* a row of one of the three tables; has `parse` and one of the others */
    const char *name;
    bool (*parse)(const struct load *load, const cJSON *json, struct step *step);
    bool (*normalize)(const struct step *step, struct tokenizer_scratch *sc,
                      const struct aligned_text *in, struct aligned_text *out, struct err *e);
    bool (*split)(const struct step *step, struct tokenizer_scratch *sc, struct err *e);
    bool (*decode)(const struct step *step, struct matcher *m, const struct strings *in,
                   struct strings *out, struct err *e);
    int option; /* for `parse`: tells apart rows that share functions */
};
extern const struct component normalizer_table[], pre_tokenizer_table[], decoder_table[];

struct step {
    const struct component *kind;
    char *place; /* "FILE:LINE:COL: component NAME", for errors while processing texts */
    struct pattern pattern;
    char *text; /* the text to insert or look for */
    size_t text_len;
    int form; /* utf8proc's options for a normalisation form */
    enum behavior behavior;
    enum prepend prepend;
    bool invert, prefix_space, use_regex, split, left, right;
    size_t start, stop; /* the Strip decoder: at most how many */
};

struct chain {
    struct step *v;
    size_t n, cap;
};
void step_free(struct step *step);
void chain_free(struct chain *c);

/* A file being read. Messages begin with "PATH:LINE:COL: ". */
struct load {
    struct jsonc doc;
    struct err *e;
};
/* Reads a file of at most `limit` bytes that must be one JSON object, as written
 * by other programs. */
bool load_read(struct load *load, const char *path, size_t limit);
/* The same for a file of dir that may be missing: its root is NULL then. */
bool load_beside(struct load *load, const char *dir, const char *name, struct err *e);
/* The member, or NULL if absent or null. */
const cJSON *load_member(const cJSON *json, const char *key);
bool load_fail(const struct load *load, const cJSON *item, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Members of a component; if `key` is absent or null, *out is unchanged. */
bool load_bool(const struct load *load, const cJSON *json, const char *key, bool *out);
bool load_count(const struct load *load, const cJSON *json, const char *key, size_t *out);
bool load_string(const struct load *load, const cJSON *json, const char *key, const char **out);
/* The id of `token`. */
bool load_id(const struct load *load, const cJSON *item, const char *token, int32_t *id);
/* "pattern": {"String": ...} or {"Regex": ...}. */
bool load_pattern(const struct load *load, const cJSON *json, struct pattern *out);
/* The chain under `key` of the root, Sequences flattened; null gives an empty one. */
bool load_chain(const struct load *load, const char *key, const struct component *table,
                const char *list_key, struct chain *chain);
bool load_post_processor(const struct load *load, struct tokenizer *tk);
/* Stores a token under its id, its spelling at *bytes, which is advanced; false if the id or the
 * spelling is taken. */
bool put_piece(const struct load *load, const cJSON *item, struct tokenizer *tk, int32_t id,
               const char *s, char **bytes);
bool step_text(const struct load *load, struct step *step, const char *text);
bool parse_nothing(const struct load *load, const cJSON *json, struct step *step);
bool parse_replace(const struct load *load, const cJSON *json, struct step *step);
bool parse_metaspace(const struct load *load, const cJSON *json, struct step *step);

/* ---- vocabulary ---- */

#define TOKENIZER_MAX_ID 0x3fffff /* real vocabularies end near 2^18; keeps a bogus id cheap */

struct str {
    char *s; /* NULL if no token has this id */
    uint32_t len;
};

struct table { /* open addressing; keys are strings[id] */
    struct {
        uint32_t hash;
        int32_t id; /* -1: empty */
    } * slot;
    size_t mask;
};
bool table_init(struct table *t, size_t n, struct err *e);
/* Returns the id already stored under this key, or -1 after storing `id`. */
int32_t table_put(struct table *t, const struct str *strings, int32_t id);
int32_t table_get(const struct table *t, const struct str *strings, const char *s, size_t n);
uint32_t hash_bytes(const char *s, size_t n);

#define MARK "\xe2\x96\x81" /* "▁", how most vocabularies spell a blank */

struct merge {
    int32_t left, right, made; /* ids */
    uint32_t rank;             /* lower merges first */
};
struct merges {
    struct merge *slot; /* left = -1: empty */
    size_t mask;
};
bool merges_init(struct merges *m, size_t n, struct err *e);
void merges_put(struct merges *m, struct merge merge);

#define MERGE_HASH 0x9e3779b97f4a7c15u /* 2^64 / golden ratio */

/* NULL if the two do not merge. */
static inline const struct merge *merges_get(const struct merges *m, int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * MERGE_HASH;

    for (size_t i = (size_t)(h >> 32) & m->mask;; i = (i + 1) & m->mask) {
        const struct merge *at = &m->slot[i];

        if (at->left == left && at->right == right) return at;
        if (at->left < 0) return NULL;
    }
}

struct added_flags {
    bool special, normalized, lstrip, rstrip, single_word;
};
struct added {
    int32_t id;
    struct added_flags is;
    char *pattern; /* [len]: the string to search for: the content, normalised if flagged so */
    size_t len;
    bool shown_normal; /* decoders see the normalised form: it had that flag at some point */
};

/* Sets the strings to search for, once the normalizers are known. */
bool added_finish(struct tokenizer *tk, struct err *e);

struct trie_node {
    int32_t child, sibling, fail, added; /* indices, -1: none */
    unsigned char byte;
};
struct trie { /* node 0 is the root */
    struct trie_node *v;
    size_t n, cap;
    bool last[256]; /* final bytes of the strings */
};
/* Adds one string (n > 0); false if it is already there. */
bool trie_add(struct trie *t, const char *s, size_t n, int32_t added, struct err *e);
bool trie_finish(struct trie *t, struct err *e); /* after the last one */

struct hit {
    uint32_t at; /* where the string begins */
    int32_t added;
};
struct hits {
    struct hit *v;
    size_t n, cap;
};
/* For each position of s[0..n) where strings begin, the longest of them, back to front. */
bool trie_find(const struct trie *t, const char *s, size_t n, struct hits *out, struct err *e);

struct tokenizer {
    struct str *piece; /* [size]: spelling by id */
    bool *special;     /* [size]: whether an added token marks it so */
    struct str *shown; /* [size]: as the decoders see it; NULL: same as `piece` */
    char *bytes;       /* storage of the spellings */
    int32_t size;
    struct table by_piece; /* the model's tokens and the added ones */
    struct str *raw;       /* [size], only with ignore_merges and byte level */
    char *raw_bytes;
    struct table by_raw;      /* the same tokens spelled as the bytes they stand for */
    int32_t byte_id[256];     /* byte level: the token of a byte; -1: none */
    int32_t fallback_id[256]; /* of "<0xNN>", for byte_fallback */
    struct merges merges;
    int32_t unk;    /* -1: none */
    bool *of_model; /* [size]: a token of the model, not just an added one */
    bool byte_level, byte_fallback, fuse_unk, ignore_merges;
    bool marks_cut; /* no merge joins a MARK to a preceding character other than a MARK */
    struct added *added;
    size_t n_added;
    char *path;  /* of tokenizer.json */
    char *notes; /* lines about how the files were read */
    size_t n_notes, notes_cap;
    struct trie raw_trie, normal_trie;
    struct pattern word_char; /* for single_word; set if some token needs it */
    struct chain normalizers, pre_tokenizers, decoders;
    int32_t *before, *after; /* ids from the post-processor */
    size_t n_before, n_after;
};

/* Appends a line to the notes. */
bool tokenizer_note(struct tokenizer *tk, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Cuts s[0..n) at the added tokens of a trie. The pieces of text are disjoint and in order; one
 * added token's white space may overlap another's (rstrip). */
bool added_split(const struct tokenizer *tk, const struct trie *trie, struct tokenizer_scratch *sc,
                 const char *s, size_t n, struct pieces *out, struct err *e);

/* ---- state of one call ---- */

struct word_token { /* bytes of the word */
    int32_t id;
    uint32_t begin, end;
};
struct symbol {
    int32_t id; /* -1: merged into the one to its left */
    uint32_t begin, end;
    int32_t prev, next; /* -1: none */
};

struct cached {
    uint32_t hash, len; /* len 0: an empty slot */
    uint32_t key, token, n_token;
};
struct word_cache {
    struct cached *slot;
    size_t mask, n;
    char *keys;
    size_t n_keys, keys_cap;
    struct word_token *tokens;
    size_t n_tokens, tokens_cap;
};

struct tokenizer_scratch {
    const struct tokenizer *tk;
    /* All pieces, end to end, an added token as one byte that stands for everything it covers;
     * `spare` receives the rewritten form. */
    struct aligned_text text, spare;
    struct aligned_text normal[2]; /* one piece on its way through the normalizers */
    struct pieces pieces, spare_pieces, cut, cut_normal;
    struct hits hits;
    struct matches matches;
    struct matcher matcher;
    int32_t *codes; /* one run of characters in utf8proc's form */
    size_t codes_cap;
    uint64_t *keys; /* marks being sorted */
    size_t keys_cap;
    struct symbol *symbols;
    size_t n_symbols, symbols_cap;
    uint64_t *heap;
    size_t n_heap, heap_cap;
    struct word_token *found; /* the tokens of the last word */
    size_t n_found, found_cap;
    struct word_cache cache;
    struct tokenizer_lost lost; /* of the text */
};

/* The piece s[0..n) after all normalizers; the result is one of sc->normal. `begin` and `end` are
 * its place in the original text. */
bool normalize_piece(const struct tokenizer *tk, struct tokenizer_scratch *sc, const char *s,
                     size_t begin, size_t end, const struct aligned_text **out, struct err *e);

/* The tokens of one word (n > 0); they are valid until the next call. */
struct word_tokens {
    const struct word_token *v;
    size_t n;
};
bool bpe_word(const struct tokenizer *tk, struct tokenizer_scratch *sc, const char *s, size_t n,
              struct word_tokens *out, struct err *e);
bool word_cache_init(struct word_cache *c, struct err *e);
void word_cache_free(struct word_cache *c);

/* The character with which byte-level vocabularies spell a byte (GPT-2's bytes_to_unicode). */
int32_t byte_to_char(unsigned char byte);
int char_to_byte(int32_t c); /* -1: stands for no byte */

#endif
