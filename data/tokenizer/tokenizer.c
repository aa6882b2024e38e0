/* tokenizer.c - from a text to its tokens; parts.h shows the pipeline. */
#include "data/tokenizer/tokenizer.h"
#include "base/mem.h"
#include "base/text.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tokens_free(struct tokens *t)
{
    free(t->v);
    *t = (struct tokens){0};
}

void tokenizer_free(struct tokenizer *tk)
{
    if (!tk) return;
    for (size_t i = 0; i < tk->n_added; i++) {
        const struct added *a = &tk->added[i];

        if (tk->shown && tk->shown[a->id].s != tk->piece[a->id].s) free(tk->shown[a->id].s);
        free(a->pattern);
    }
    free(tk->path);
    free(tk->notes);
    free(tk->shown);
    chain_free(&tk->normalizers);
    chain_free(&tk->pre_tokenizers);
    chain_free(&tk->decoders);
    pattern_free(&tk->word_char);
    free(tk->piece);
    free(tk->special);
    free(tk->of_model);
    free(tk->bytes);
    free(tk->by_piece.slot);
    free(tk->raw);
    free(tk->raw_bytes);
    free(tk->by_raw.slot);
    free(tk->merges.slot);
    free(tk->added);
    free(tk->raw_trie.v);
    free(tk->normal_trie.v);
    free(tk->before);
    free(tk->after);
    free(tk);
}

int32_t tokenizer_id(const struct tokenizer *tk, const char *token)
{
    return table_get(&tk->by_piece, tk->piece, token, strlen(token));
}

const char *tokenizer_piece(const struct tokenizer *tk, int32_t id)
{
    return id >= 0 && id < tk->size ? tk->piece[id].s : NULL;
}

int32_t tokenizer_size(const struct tokenizer *tk)
{
    return tk->size;
}

int32_t tokenizer_unknown(const struct tokenizer *tk)
{
    return tk->unk;
}

const struct tokenizer_lost *tokenizer_lost(const struct tokenizer_scratch *sc)
{
    return &sc->lost;
}

void tokenizer_lost_name(struct tokenizer_lost *l, const char *name)
{
    for (int i = 0; i < l->names; i++)
        if (strcmp(l->name[i], name) == 0) return;
    if (l->names < LOST_NAMES) snprintf(l->name[l->names++], LOST_NAME, "%s", name);
}

bool tokenizer_note(struct tokenizer *tk, struct err *e, const char *fmt, ...)
{
    char line[1024], plain[1024];
    va_list ap;
    size_t n;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    text_plain(plain, sizeof plain, line, strlen(line));
    n = strlen(plain);
    if (!mem_grow(&tk->notes, &tk->notes_cap, tk->n_notes + n + 2, 1, e)) return false;
    memcpy(tk->notes + tk->n_notes, plain, n);
    memcpy(tk->notes + tk->n_notes + n, "\n", 2);
    tk->n_notes += n + 1;
    return true;
}

const char *tokenizer_notes(const struct tokenizer *tk)
{
    return tk->notes ? tk->notes : "";
}

/* ---- scratch ---- */

struct tokenizer_scratch *tokenizer_scratch_new(const struct tokenizer *tk, struct err *e)
{
    struct tokenizer_scratch *sc = mem_new(1, sizeof *sc, "tokenizer scratch", e);

    if (!sc) return NULL;
    sc->tk = tk;
    if (!matcher_init(&sc->matcher, e) || !word_cache_init(&sc->cache, e)) {
        tokenizer_scratch_free(sc);
        return NULL;
    }
    return sc;
}

void tokenizer_scratch_free(struct tokenizer_scratch *sc)
{
    if (!sc) return;
    text_free(&sc->text);
    text_free(&sc->spare);
    text_free(&sc->normal[0]);
    text_free(&sc->normal[1]);
    free(sc->pieces.v);
    free(sc->spare_pieces.v);
    free(sc->cut.v);
    free(sc->cut_normal.v);
    free(sc->hits.v);
    free(sc->matches.v);
    matcher_free(&sc->matcher);
    free(sc->codes);
    free(sc->keys);
    free(sc->symbols);
    free(sc->heap);
    free(sc->found);
    word_cache_free(&sc->cache);
    free(sc);
}

/* ---- encoding ---- */

/* Adds an added token that stands for a range of the original text. */
static bool put_added_piece(struct tokenizer_scratch *sc, struct align origin, int32_t id,
                            struct err *e)
{
    return text_add_new(&sc->text, " ", 1, origin, e) &&
           pieces_add(&sc->pieces, sc->text.n - 1, sc->text.n, id, e);
}

/* text[begin, end) contains no token that is matched before normalisation: normalises it and cuts
 * it at those matched after. */
static bool normal_pieces(const struct tokenizer *tk, struct tokenizer_scratch *sc,
                          const char *text, size_t begin, size_t end, struct err *e)
{
    const struct aligned_text *normal;

    if (!normalize_piece(tk, sc, text, begin, end, &normal, e) ||
        !added_split(tk, &tk->normal_trie, sc, normal->s, normal->n, &sc->cut_normal, e))
        return false;
    for (size_t i = 0; i < sc->cut_normal.n; i++) {
        const struct piece *p = &sc->cut_normal.v[i];
        size_t at = sc->text.n;

        if (p->id >= 0) {
            struct align origin = {normal->a[p->begin].begin, normal->a[p->end - 1].end};

            if (!put_added_piece(sc, origin, p->id, e)) return false;
        } else if (!text_add_part(&sc->text, normal, p->begin, p->end, e) ||
                   !pieces_add(&sc->pieces, at, sc->text.n, -1, e)) {
            return false;
        }
    }
    return true;
}

/* Fills sc->text and sc->pieces with words and added tokens. */
static bool cut_into_words(const struct tokenizer *tk, struct tokenizer_scratch *sc,
                           const char *text, size_t len, struct err *e)
{
    sc->text.n = sc->pieces.n = 0;
    sc->text.max = grown_max(len);
    if (!added_split(tk, &tk->raw_trie, sc, text, len, &sc->cut, e)) return false;
    for (size_t i = 0; i < sc->cut.n; i++) {
        struct piece p = sc->cut.v[i];
        struct align origin = {(uint32_t)p.begin, (uint32_t)p.end}; /* under TEXT_MAX */

        if (p.id < 0 ? !normal_pieces(tk, sc, text, p.begin, p.end, e)
                     : !put_added_piece(sc, origin, p.id, e))
            return false;
    }
    for (size_t i = 0; i < tk->pre_tokenizers.n; i++) {
        const struct step *step = &tk->pre_tokenizers.v[i];

        if (!step->kind->split(step, sc, e)) return err_context(e, "%s", step->place);
    }
    return true;
}

static bool put_tokens(struct tokens *out, const struct aligned_text *text, size_t base,
                       const struct word_token *tokens, size_t n, struct err *e)
{
    if (!mem_grow(&out->v, &out->cap, out->n + n, sizeof *out->v, e)) return false;
    for (size_t i = 0; i < n; i++) {
        const struct align *a = text->a + base;

        out->v[out->n++] =
            (struct token){tokens[i].id, a[tokens[i].begin].begin, a[tokens[i].end - 1].end};
    }
    return true;
}

/* How much of s[0..n) can be merged separately from the rest. Without a pre-tokenizer the whole
 * text is one word; if no merge crosses the beginning of a MARK, the parts between marks give the
 * same tokens, and are short enough for the cache. */
static size_t part_end(const struct tokenizer *tk, const char *s, size_t n)
{
    size_t i = 0, w = strlen(MARK);
    const char *next;

    if (!tk->marks_cut) return n;
    while (n - i >= w && memcmp(s + i, MARK, w) == 0)
        i += w;
    next = memmem(s + i, n - i, MARK, w);
    return next ? (size_t)(next - s) : n;
}

static bool put_word(const struct tokenizer *tk, struct tokenizer_scratch *sc, struct piece p,
                     struct tokens *out, struct err *e)
{
    while (p.begin < p.end) {
        const char *s = sc->text.s + p.begin;
        size_t len = part_end(tk, s, p.end - p.begin);
        struct word_tokens word;

        if (!bpe_word(tk, sc, s, len, &word, e) ||
            !put_tokens(out, &sc->text, p.begin, word.v, word.n, e))
            return false;
        p.begin += len;
    }
    return true;
}

static bool put_words(const struct tokenizer *tk, struct tokenizer_scratch *sc, struct tokens *out,
                      struct err *e)
{
    for (size_t i = 0; i < sc->pieces.n; i++) {
        struct piece p = sc->pieces.v[i];
        struct word_token added = {p.id, 0, 1};

        if (p.id < 0 ? !put_word(tk, sc, p, out, e)
                     : !put_tokens(out, &sc->text, p.begin, &added, 1, e))
            return false;
    }
    return true;
}

static bool put_special(struct tokens *out, const int32_t *ids, size_t n, size_t at, struct err *e)
{
    if (!mem_grow(&out->v, &out->cap, out->n + n, sizeof *out->v, e)) return false;
    for (size_t i = 0; i < n; i++)
        out->v[out->n++] = (struct token){ids[i], (int64_t)at, (int64_t)at};
    return true;
}

bool tokenizer_encode(const struct tokenizer *tk, struct tokenizer_scratch *scratch,
                      const char *text, size_t len, bool add_special, struct tokens *out,
                      struct err *e)
{
    struct tokenizer_scratch *sc = scratch;
    size_t n = out->n, bad;
    bool ok;

    if (len > TEXT_MAX)
        return err_set(e, "a text of %zu bytes, the tokenizer takes %zu", len, TEXT_MAX);
    bad = utf8_check(text, len);
    if (bad < len)
        return err_set(e, "text is not UTF-8: byte 0x%02x at byte %zu",
                       (unsigned)(unsigned char)text[bad], bad);
    if (!sc) sc = tokenizer_scratch_new(tk, e);
    if (!sc) return false;
    CHECK(sc->tk == tk);
    sc->lost = (struct tokenizer_lost){0};
    ok = (!add_special || put_special(out, tk->before, tk->n_before, 0, e)) &&
         cut_into_words(tk, sc, text, len, e) && put_words(tk, sc, out, e) &&
         (!add_special || put_special(out, tk->after, tk->n_after, len, e));
    if (!ok) out->n = n;
    if (!scratch) tokenizer_scratch_free(sc);
    return ok;
}
