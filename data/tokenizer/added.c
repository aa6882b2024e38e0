/* added.c - added tokens: whole strings that are cut out of a text before anything else, some
 * before normalisation and some after. Of overlapping ones the first is taken, and of those that
 * begin at the same place the longest. */
#include "base/mem.h"
#include "data/tokenizer/form.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- cutting a text ---- */

/* Whether the character at s is a word character. */
static bool is_word_char(const struct tokenizer *tk, struct matcher *m, const char *s)
{
    size_t len;

    utf8_get(s, &len);
    return pcre2_match(tk->word_char.code, (PCRE2_SPTR)s, len, 0, PCRE2_NO_UTF_CHECK, m->data,
                       m->context) >= 0;
}

struct cut {
    const struct tokenizer *tk;
    struct matcher *m;
    const char *s;
    size_t n, done;              /* done: where the last token ended */
    size_t blank_from, blank_to; /* the run of white space scanned last */
    struct pieces *out;
};

/* Where white space starting at `at` ends. */
static size_t blank_end(struct cut *c, size_t at)
{
    size_t end = at, len;

    if (at >= c->blank_from && at < c->blank_to) return c->blank_to;
    while (end < c->n && unicode_is_space(utf8_get(c->s + end, &len)))
        end += len;
    c->blank_from = at;
    c->blank_to = end;
    return end;
}

/* Where white space ending at `at` begins, but not before `done`. */
static size_t blank_begin(const struct cut *c, size_t at)
{
    size_t len;

    while (at > c->done) {
        size_t last = utf8_last(c->s, at);

        if (!unicode_is_space(utf8_get(c->s + last, &len))) break;
        at = last;
    }
    return at;
}

/* Emits the token at [begin, end), with the white space that lstrip and rstrip absorb. As in the
 * library, a token that the previous one absorbed as white space (rstrip) still counts, and text
 * continues from its own end. If it has lstrip too, nothing is left of it: there the library
 * panics; here the token is dropped. */
static bool cut_token(struct cut *c, const struct added *a, size_t begin, size_t end, struct err *e)
{
    if (a->is.lstrip) begin = begin < c->done ? c->done : blank_begin(c, begin);
    if (a->is.rstrip) end = blank_end(c, end);
    if (c->done < begin && !pieces_add(c->out, c->done, begin, -1, e)) return false;
    c->done = end;
    return begin >= end || pieces_add(c->out, begin, end, a->id, e);
}

bool added_split(const struct tokenizer *tk, const struct trie *trie, struct tokenizer_scratch *sc,
                 const char *s, size_t n, struct pieces *out, struct err *e)
{
    struct cut c = {.tk = tk, .m = &sc->matcher, .s = s, .n = n, .out = out};
    size_t taken = 0; /* where the last match ended, even one that was not taken */

    out->n = 0;
    if (!trie_find(trie, s, n, &sc->hits, e)) return false;
    for (size_t k = sc->hits.n; k-- > 0;) { /* they are listed back to front */
        size_t begin = sc->hits.v[k].at, end;
        const struct added *a = &tk->added[sc->hits.v[k].added];

        if (begin < taken) continue;
        taken = end = begin + a->len;
        if (a->is.single_word && ((begin > 0 && is_word_char(tk, c.m, s + utf8_last(s, begin))) ||
                                  (end < n && is_word_char(tk, c.m, s + end))))
            continue;
        if (!cut_token(&c, a, begin, end, e)) return false;
    }
    return c.done >= n || pieces_add(out, c.done, n, -1, e);
}

/* ---- from the files ---- */

bool added_read(const struct load *load, const cJSON *item, struct added_spec *out)
{
    const cJSON *id = load_member(item, "id");

    *out = (struct added_spec){.load = load, .item = item, .id = -1};
    if (!cJSON_IsObject(item) || !load_string(load, item, "content", &out->content) ||
        !out->content || !*out->content)
        return load_fail(load, item, "an added token needs a \"content\" and an \"id\"");
    if (id && !load_id(load, id, out->content, &out->id)) return false;
    if (!load_bool(load, item, "special", &out->is.special)) return false;
    out->is.normalized = !out->is.special;
    return load_bool(load, item, "normalized", &out->is.normalized) &&
           load_bool(load, item, "lstrip", &out->is.lstrip) &&
           load_bool(load, item, "rstrip", &out->is.rstrip) &&
           load_bool(load, item, "single_word", &out->is.single_word);
}

bool added_put(struct added_list *list, const struct added_spec *a, struct err *e)
{
    if (!mem_grow(&list->v, &list->cap, list->n + 1, sizeof *list->v, e)) return false;
    list->v[list->n++] = *a;
    return true;
}

/* What is reported about tokens defined only outside tokenizer.json. */
struct tally {
    size_t n;
    const char *first;
    int32_t id;
};

struct numbering {
    const struct form *f;
    int32_t *at; /* [tk->size]: 1 + the index of an id's added token, 0: none */
    bool *loose; /* [tk->size]: added by name only, so the next name may change it */
    int32_t vocab, next, highest;
    int batch;
    struct tally added, changed, left_out;
};

static void count(struct tally *t, const struct added_spec *a, int32_t id)
{
    if (t->n++ > 0) return;
    t->first = a->content;
    t->id = id;
}

bool added_same(const struct added_flags *a, const struct added_flags *b)
{
    return a->special == b->special && a->normalized == b->normalized && a->lstrip == b->lstrip &&
           a->rstrip == b->rstrip && a->single_word == b->single_word;
}

/* Sets the flags of a token whose id is settled. */
static void set_flags(struct tokenizer *tk, struct numbering *n, const struct added_spec *a,
                      int32_t id)
{
    bool known = n->at[id] > 0;
    struct added_flags is = a->is;
    struct added *now;

    if (known && a->if_new && !n->loose[id]) return;
    is.special |= a->named;
    if (!known) n->at[id] = (int32_t)++tk->n_added; /* at most one per id */
    now = &tk->added[n->at[id] - 1];
    if (known && !added_same(&now->is, &is)) count(&n->changed, a, id);
    now->id = id;
    now->is = is;
    now->shown_normal |= is.normalized;
    n->loose[id] = a->if_new;
    tk->special[id] |= now->is.special; /* once special, always special */
    if (id > n->highest) n->highest = id;
}

static bool number_one(struct tokenizer *tk, struct numbering *n, const struct added_spec *a,
                       char **bytes)
{
    int32_t known = tokenizer_id(tk, a->content), id;

    if (a->batch != n->batch) {
        n->next = n->highest >= n->vocab ? n->highest + 1 : n->vocab;
        n->batch = a->batch;
    }
    id = known >= 0 ? known : n->next;
    if (a->id >= 0 && a->id != id)
        return load_fail(a->load, a->item,
                         known >= 0 ? "added token \"%.80s\" has id %d here and %d in \"vocab\""
                                    : "added token \"%.80s\" has id %d here, but added tokens are "
                                      "numbered on from the vocabulary's: %d",
                         a->content, (int)a->id, (int)id);
    if (known < 0 && a->batch > 0 && n->f->vocab_size > 0 && id >= n->f->vocab_size) {
        count(&n->left_out, a, id);
        return true;
    }
    if (known >= 0 && n->at[id] > 0 && a->batch == 0)
        return load_fail(a->load, a->item, "two added tokens are spelled \"%.80s\"", a->content);
    if (known < 0) {
        if (!put_piece(a->load, a->item, tk, id, a->content, bytes)) return false;
        if (a->batch > 0) count(&n->added, a, id);
        n->next++;
    }
    set_flags(tk, n, a, id);
    return true;
}

static bool note_tallies(struct tokenizer *tk, const struct numbering *n, struct err *e)
{
    const struct tally *t = &n->left_out;

    if (t->n > 0 && !tokenizer_note(tk, e,
                                    "tokens that stand only beside tokenizer.json, left out for "
                                    "want of a row in the model: %zu; the first: \"%.80s\", "
                                    "which would be %d",
                                    t->n, t->first, (int)t->id))
        return false;
    if (n->f->kind) return true; /* the class adds all of them itself */
    t = &n->added;
    if (t->n > 0 && !tokenizer_note(tk, e,
                                    "tokens that stand only beside tokenizer.json: %zu; the first: "
                                    "\"%.80s\", which is %d",
                                    t->n, t->first, (int)t->id))
        return false;
    t = &n->changed;
    return t->n == 0 || tokenizer_note(tk, e,
                                       "tokens with other flags in tokenizer_config.json, which "
                                       "counts, than in tokenizer.json: %zu; the first: \"%.80s\"",
                                       t->n, t->first);
}

bool added_number(struct tokenizer *tk, const struct form *f, size_t vocab, char **bytes,
                  struct err *e)
{
    struct numbering n = {.f = f, .vocab = (int32_t)vocab, .next = (int32_t)vocab, .highest = -1};
    bool ok;

    n.at = mem_new((size_t)tk->size, sizeof *n.at, "added tokens", e);
    n.loose = mem_new((size_t)tk->size, sizeof *n.loose, "added tokens", e);
    tk->added = mem_new(f->added.n, sizeof *tk->added, "added tokens", e);
    ok = n.at && n.loose && tk->added;
    for (size_t i = 0; i < f->added.n && ok; i++)
        ok = number_one(tk, &n, &f->added.v[i], bytes);
    ok = ok && note_tallies(tk, &n, e);
    free(n.at);
    free(n.loose);
    return ok;
}

/* Decoders see the normalised content, so that they can undo it. */
static bool show_normal(struct tokenizer *tk, const struct added *a,
                        const struct aligned_text *normal, struct err *e)
{
    const struct str *content = &tk->piece[a->id];
    char *copy;

    if (normal->n == content->len && memcmp(normal->s, content->s, normal->n) == 0) return true;
    if (!tk->shown) {
        tk->shown = mem_new((size_t)tk->size, sizeof *tk->shown, "added tokens", e);
        if (!tk->shown) return false;
        memcpy(tk->shown, tk->piece, (size_t)tk->size * sizeof *tk->shown);
    }
    copy = mem_strndup(normal->n > 0 ? normal->s : "", normal->n, e);
    tk->shown[a->id] = (struct str){copy, (uint32_t)normal->n}; /* texts are under 2^30 */
    return copy;
}

/* The string to search for: the content, or its normalised form. */
static bool added_pattern(struct tokenizer *tk, struct tokenizer_scratch *sc, struct added *a,
                          struct err *e)
{
    const struct str *content = &tk->piece[a->id];
    const char *pattern = content->s;

    a->len = content->len;
    if (a->shown_normal && tk->normalizers.n > 0) {
        const struct aligned_text *text;

        if (!normalize_piece(tk, sc, content->s, 0, content->len, &text, e) ||
            !show_normal(tk, a, text, e))
            return false;
        if (a->is.normalized) {
            pattern = text->n > 0 ? text->s : "";
            a->len = text->n;
        }
    }
    a->pattern = mem_strndup(pattern, a->len, e);
    return a->pattern;
}

bool added_finish(struct tokenizer *tk, struct err *e)
{
    struct tokenizer_scratch *sc = tokenizer_scratch_new(tk, e);
    bool ok = sc != NULL;

    for (size_t i = 0; i < tk->n_added && ok; i++) {
        struct added *a = &tk->added[i];

        ok = added_pattern(tk, sc, a, e);
        if (ok && a->len > 0) /* else it never matches */
            ok = trie_add(a->is.normalized ? &tk->normal_trie : &tk->raw_trie, a->pattern, a->len,
                          (int32_t)i, e);
        if (ok && a->is.single_word && !tk->word_char.code)
            ok = pattern_regex(&tk->word_char, "\\p{Rust_Word}", e);
    }
    ok = ok && trie_finish(&tk->raw_trie, e) && trie_finish(&tk->normal_trie, e);
    tokenizer_scratch_free(sc);
    return ok;
}
