/* tokenizer_added.c - added tokens: whole strings that are cut out of a text before all else, some
 * before normalisation and some after, each by a trie that finds the longest. */
#include "base/mem.h"
#include "data/tokenizer_parts.h"
#include "data/tokenizer_unicode.h"
#include "data/tokenizer_utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- the trie ---- */

/* The child of `node` for a byte, or -1. */
static int32_t trie_child(const struct trie *t, int32_t node, unsigned char byte)
{
    int32_t at = t->v[node].child;

    while (at >= 0 && t->v[at].byte != byte)
        at = t->v[at].sibling;
    return at;
}

static bool trie_node(struct trie *t, unsigned char byte, struct err *e)
{
    if (!mem_grow(&t->v, &t->cap, t->n + 1, sizeof *t->v, e)) return false;
    t->v[t->n++] = (struct trie_node){-1, -1, -1, byte};
    return true;
}

/* Adds one token; false where another has the same pattern. */
static bool trie_add(struct trie *t, const char *pattern, int32_t added, struct err *e)
{
    int32_t node = 0;

    if (t->n == 0 && !trie_node(t, 0, e)) return false;
    for (const char *p = pattern; *p; p++) {
        unsigned char byte = (unsigned char)*p;
        int32_t next = trie_child(t, node, byte);

        if (next < 0) {
            if (t->n >= INT32_MAX || !trie_node(t, byte, e))
                return err_set(e, "the added tokens need too much memory");
            next = (int32_t)t->n - 1;
            t->v[next].sibling = t->v[node].child;
            t->v[node].child = next;
        }
        node = next;
    }
    if (t->v[node].added >= 0) return err_set(e, "two added tokens are spelled \"%s\"", pattern);
    t->v[node].added = added;
    t->first[(unsigned char)pattern[0]] = true;
    return true;
}

/* The longest token at s[i..n); *end is where it ends. -1: none. */
static int32_t trie_longest(const struct trie *t, const char *s, size_t n, size_t i, size_t *end)
{
    int32_t node = 0, best = -1;

    for (; i < n; i++) {
        node = trie_child(t, node, (unsigned char)s[i]);
        if (node < 0) break;
        if (t->v[node].added < 0) continue;
        best = t->v[node].added;
        *end = i + 1;
    }
    return best;
}

/* Whether the character at s is one of a word. */
static bool is_word_char(const struct tokenizer *tk, struct matcher *m, const char *s)
{
    size_t len;

    utf8_get(s, &len);
    return pcre2_match(tk->word_char.code, (PCRE2_SPTR)s, len, 0, PCRE2_NO_UTF_CHECK, m->data,
                       m->context) >= 0;
}

/* Widens [*begin, *end) over the white space that lstrip and rstrip take in, not before `done`. */
static void strip_around(const struct added *a, const char *s, size_t n, size_t done, size_t *begin,
                         size_t *end)
{
    size_t len, at;

    while (a->lstrip && *begin > done) {
        at = utf8_last(s, *begin);
        if (!unicode_is_space(utf8_get(s + at, &len))) break;
        *begin = at;
    }
    while (a->rstrip && *end < n && unicode_is_space(utf8_get(s + *end, &len)))
        *end += len;
}

bool added_split(const struct tokenizer *tk, const struct trie *trie, struct matcher *m,
                 const char *s, size_t n, struct pieces *out, struct err *e)
{
    size_t done = 0, i = 0;

    out->n = 0;
    while (trie->n > 0 && i < n) {
        size_t begin = i, end = i;
        const struct added *a;
        int32_t k = -1;

        if (trie->first[(unsigned char)s[i]]) k = trie_longest(trie, s, n, i, &end);
        if (k < 0) {
            i++;
            continue;
        }
        a = &tk->added[k];
        i = end; /* matches do not overlap, even those that are not taken */
        if (a->single_word && ((begin > 0 && is_word_char(tk, m, s + utf8_last(s, begin))) ||
                               (end < n && is_word_char(tk, m, s + end))))
            continue;
        strip_around(a, s, n, done, &begin, &end);
        /* rstrip of the token before may have passed this one's begin: white space only */
        if (begin < done) begin = done;
        if (end < begin) end = begin;
        if (done < begin && !pieces_add(out, done, begin, -1, e)) return false;
        if (!pieces_add(out, begin, end, a->id, e)) return false;
        done = end;
    }
    return done >= n || pieces_add(out, done, n, -1, e);
}

/* ---- from the file ---- */

/* Gives the token its id: the model's where the model has it, else a free one. */
static bool put_added(const struct load *load, const cJSON *item, struct tokenizer *tk,
                      const struct added *a, const char *content, char **bytes)
{
    int32_t known = tokenizer_id(tk, content);

    if (known < 0) return put_piece(load, item, tk, a->id, content, bytes);
    if (known != a->id)
        return load_fail(load, item, "added token \"%.80s\" has id %d here and %d in \"vocab\"",
                         content, (int)a->id, (int)known);
    return true;
}

static bool load_one_added(const struct load *load, const cJSON *item, struct tokenizer *tk,
                           struct tokenizer_scratch *sc, char **bytes)
{
    struct added *a = &tk->added[tk->n_added];
    const char *content = cJSON_GetObjectItemCaseSensitive(item, "content")->valuestring,
               *pattern = content;
    size_t n = strlen(content);
    struct trie *trie;

    *a = (struct added){.id = (int32_t)cJSON_GetObjectItemCaseSensitive(item, "id")->valuedouble,
                        .normalized = true};
    if (!load_bool(load, item, "special", &a->special)) return false;
    a->normalized = !a->special;
    if (!load_bool(load, item, "normalized", &a->normalized) ||
        !load_bool(load, item, "lstrip", &a->lstrip) ||
        !load_bool(load, item, "rstrip", &a->rstrip) ||
        !load_bool(load, item, "single_word", &a->single_word) ||
        !put_added(load, item, tk, a, content, bytes))
        return false;
    if (a->normalized && tk->normalizers.n > 0) {
        const struct text *text;

        if (!normalize_piece(tk, sc, content, 0, n, &text, load->e)) return false;
        pattern = text->s;
        n = text->n;
    }
    if (n == 0)
        return load_fail(load, item, "added token \"%.80s\" normalises to nothing", content);
    a->pattern = mem_strndup(pattern, n, load->e);
    if (!a->pattern) return false;
    tk->special[a->id] = a->special;
    tk->respelled |= strcmp(a->pattern, content) != 0;
    if (a->single_word && !tk->word_char.code &&
        !pattern_regex(&tk->word_char, "\\p{Rust_Word}", load->e))
        return false;
    trie = a->normalized ? &tk->normal_trie : &tk->raw_trie;
    tk->n_added++;
    return trie_add(trie, a->pattern, (int32_t)tk->n_added - 1, load->e) ||
           err_context(load->e, "%s:%d", load->path, jsonc_item_line(&load->doc, item));
}

bool load_added(const struct load *load, struct tokenizer *tk, const cJSON *added, char **bytes)
{
    struct tokenizer_scratch *sc = tokenizer_scratch_new(tk, load->e);
    bool ok = sc != NULL;

    if (added && ok) {
        size_t n = (size_t)cJSON_GetArraySize(added);

        tk->added = mem_new(n, sizeof *tk->added, "added tokens", load->e);
        ok = tk->added != NULL;
    }
    for (const cJSON *item = added ? added->child : NULL; item && ok; item = item->next)
        ok = load_one_added(load, item, tk, sc, bytes);
    tokenizer_scratch_free(sc);
    return ok;
}
