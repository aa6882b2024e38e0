/* bpe.c - byte pair encoding of one word: its characters (or bytes) are looked up, then the pair
 * whose merge has the lowest rank is joined, leftmost first, until none merges. Short words are
 * scanned; long ones (without a pre-tokenizer the whole text is one word) use a heap. Both give the
 * same order: ranks are unique, and joining never shortens a symbol. */
#include "base/mem.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCAN_MAX 32         /* symbols; above that, the heap is faster */
#define CACHED_WORD_MAX 128 /* bytes */
#define CACHE_SLOTS 32768   /* half of them are used before the cache is cleared */

/* ---- symbols ---- */

static bool add_symbol(struct tokenizer_scratch *sc, int32_t id, size_t begin, size_t end,
                       struct err *e)
{
    struct symbol *s;
    int32_t at = (int32_t)sc->n_symbols; /* at most one per byte, under 2^30 */

    if (!mem_grow(&sc->symbols, &sc->symbols_cap, sc->n_symbols + 1, sizeof *sc->symbols, e))
        return false;
    s = &sc->symbols[sc->n_symbols++];
    *s = (struct symbol){id, (uint32_t)begin, (uint32_t)end, at - 1, -1};
    if (at > 0) s[-1].next = at;
    return true;
}

/* An unknown character not yet added: with fuse_unk the next one may join it. */
struct unknown {
    bool waiting;
    size_t begin, end;
};

static bool flush_unknown(const struct tokenizer *tk, struct tokenizer_scratch *sc,
                          struct unknown *u, struct err *e)
{
    if (!u->waiting) return true;
    u->waiting = false;
    return add_symbol(sc, tk->unk, u->begin, u->end, e);
}

/* Notes a character without a token; of a byte level it is the byte. */
static void note_lost(const struct tokenizer *tk, struct tokenizer_lost *lost, struct str spelled)
{
    char name[LOST_NAME];
    size_t len;

    if (tk->byte_level)
        snprintf(name, sizeof name, "<0x%02X>",
                 (unsigned)char_to_byte(utf8_get(spelled.s, &len)) & 255);
    else
        snprintf(name, sizeof name, "%.*s", (int)spelled.len, spelled.s);
    lost->n++;
    tokenizer_lost_name(lost, name);
}

/* A character that is not a token: its bytes if all of them are tokens, else <unk>, else nothing.
 * As in the library, a pending <unk> comes after such bytes. `spelled` is the character in the
 * vocabulary's spelling, `at` its place in the word. */
static bool add_missing(const struct tokenizer *tk, struct tokenizer_scratch *sc,
                        struct str spelled, const struct unknown *at, struct unknown *u,
                        struct err *e)
{
    bool all = tk->byte_fallback;

    for (size_t i = 0; i < spelled.len && all; i++)
        all = tk->fallback_id[(unsigned char)spelled.s[i]] >= 0;
    if (all) {
        for (size_t i = 0; i < spelled.len; i++)
            if (!add_symbol(sc, tk->fallback_id[(unsigned char)spelled.s[i]], at->begin, at->end,
                            e))
                return false;
        return true;
    }
    note_lost(tk, &sc->lost, spelled);
    if (tk->unk < 0) return true;
    if (u->waiting && tk->fuse_unk) {
        u->end = at->end;
        return true;
    }
    if (!flush_unknown(tk, sc, u, e)) return false;
    *u = *at;
    return true;
}

/* The word as symbols, one per character that is a token; offsets are bytes of the word. */
static bool word_symbols(const struct tokenizer *tk, struct tokenizer_scratch *sc, const char *s,
                         size_t n, struct err *e)
{
    struct unknown unknown = {0};
    size_t len;
    char spelled[4];

    sc->n_symbols = 0;
    for (size_t i = 0; i < n; i += len) {
        int32_t id;

        if (tk->byte_level) {
            len = 1;
            id = tk->byte_id[(unsigned char)s[i]];
        } else {
            utf8_get(s + i, &len);
            id = table_get(&tk->by_piece, tk->piece, s + i, len);
            if (id >= 0 && !tk->of_model[id]) id = -1;
        }
        if (id >= 0) {
            if (!flush_unknown(tk, sc, &unknown, e) || !add_symbol(sc, id, i, i + len, e))
                return false;
        } else {
            const struct unknown at = {true, i, i + len};
            struct str own = {spelled, (uint32_t)len};

            if (tk->byte_level)
                own.len = (uint32_t)utf8_put(spelled, byte_to_char((unsigned char)s[i]));
            else
                memcpy(spelled, s + i, len);
            if (!add_missing(tk, sc, own, &at, &unknown, e)) return false;
        }
    }
    return flush_unknown(tk, sc, &unknown, e);
}

/* ---- merging ---- */

/* Looks at all pairs for each merge: faster than any queue for a few symbols. */
static void merge_scan(const struct tokenizer *tk, struct symbol *s, size_t *count)
{
    const struct merge *pair[SCAN_MAX]; /* of symbols i and i + 1; NULL if they do not merge */
    size_t n = *count;

    for (size_t i = 0; i + 1 < n; i++)
        pair[i] = merges_get(&tk->merges, s[i].id, s[i + 1].id);
    while (n > 1) {
        const struct merge *best = NULL;
        size_t at = 0;

        for (size_t i = 0; i + 1 < n; i++) {
            if (!pair[i] || (best && pair[i]->rank >= best->rank)) continue;
            best = pair[i];
            at = i;
        }
        if (!best) break;
        s[at].id = best->made;
        s[at].end = s[at + 1].end;
        memmove(s + at + 1, s + at + 2, (n - at - 2) * sizeof *s);
        if (at + 2 < n) memmove(pair + at + 1, pair + at + 2, (n - at - 2) * sizeof *pair);
        n--;
        if (at > 0) pair[at - 1] = merges_get(&tk->merges, s[at - 1].id, s[at].id);
        if (at + 1 < n) pair[at] = merges_get(&tk->merges, s[at].id, s[at + 1].id);
    }
    *count = n;
}

/* A heap entry is rank << 32 | index of the left symbol: the smallest merges next. */
static bool heap_push(struct tokenizer_scratch *sc, uint32_t rank, int32_t place, struct err *e)
{
    uint64_t key = (uint64_t)rank << 32 | (uint32_t)place;
    size_t i = sc->n_heap;

    if (!mem_grow(&sc->heap, &sc->heap_cap, i + 1, sizeof *sc->heap, e)) return false;
    sc->n_heap++;
    for (; i > 0 && sc->heap[(i - 1) / 2] > key; i = (i - 1) / 2)
        sc->heap[i] = sc->heap[(i - 1) / 2];
    sc->heap[i] = key;
    return true;
}

static uint64_t heap_pop(struct tokenizer_scratch *sc)
{
    uint64_t top = sc->heap[0], last = sc->heap[--sc->n_heap];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < sc->n_heap) {
        if (child + 1 < sc->n_heap && sc->heap[child + 1] < sc->heap[child]) child++;
        if (sc->heap[child] >= last) break;
        sc->heap[i] = sc->heap[child];
        i = child;
    }
    sc->heap[i] = last;
    return top;
}

/* Pushes the merge of symbol `left` with its successor, if they merge. */
static bool push_pair(const struct tokenizer *tk, struct tokenizer_scratch *sc, int32_t left,
                      struct err *e)
{
    const struct symbol *s = sc->symbols;
    const struct merge *m;

    if (left < 0 || s[left].next < 0) return true;
    m = merges_get(&tk->merges, s[left].id, s[s[left].next].id);
    return !m || heap_push(sc, m->rank, left, e);
}

/* Merged symbols stay in place as a linked list, so that indices in the heap remain valid; entries
 * whose pair has changed since are recognised by their rank and dropped. */
static bool merge_heap(const struct tokenizer *tk, struct tokenizer_scratch *sc, struct err *e)
{
    struct symbol *s = sc->symbols;
    size_t kept = 0;

    sc->n_heap = 0;
    for (size_t i = 0; i + 1 < sc->n_symbols; i++)
        if (!push_pair(tk, sc, (int32_t)i, e)) return false;
    while (sc->n_heap > 0) {
        uint64_t top = heap_pop(sc);
        int32_t at = (int32_t)(uint32_t)top, right = s[at].next;
        const struct merge *m;

        if (s[at].id < 0 || right < 0) continue;
        m = merges_get(&tk->merges, s[at].id, s[right].id);
        if (!m || m->rank != (uint32_t)(top >> 32)) continue; /* one of the two has changed */
        s[at].id = m->made;
        s[at].end = s[right].end;
        s[at].next = s[right].next;
        s[right].id = -1;
        if (s[at].next >= 0) s[s[at].next].prev = at;
        if (!push_pair(tk, sc, s[at].prev, e) || !push_pair(tk, sc, at, e)) return false;
    }
    for (size_t i = 0; i < sc->n_symbols; i++)
        if (s[i].id >= 0) s[kept++] = s[i];
    sc->n_symbols = kept;
    return true;
}

/* ---- cache ---- */

bool word_cache_init(struct word_cache *c, struct err *e)
{
    c->slot = mem_new(CACHE_SLOTS, sizeof *c->slot, "word cache", e);
    c->mask = CACHE_SLOTS - 1;
    return c->slot != NULL;
}

void word_cache_free(struct word_cache *c)
{
    free(c->slot);
    free(c->keys);
    free(c->tokens);
    *c = (struct word_cache){0};
}

/* The slot of a word, or the empty slot where it belongs. */
static struct cached *cache_slot(struct word_cache *c, const char *s, size_t n, uint32_t hash)
{
    size_t i = hash & c->mask;

    while (c->slot[i].len > 0 && !(c->slot[i].hash == hash && c->slot[i].len == n &&
                                   memcmp(c->keys + c->slot[i].key, s, n) == 0))
        i = (i + 1) & c->mask;
    return &c->slot[i];
}

static bool cache_store(struct word_cache *c, const char *s, size_t n, uint32_t hash,
                        const struct word_tokens *word, struct err *e)
{
    struct cached *slot;

    if (c->n >= CACHE_SLOTS / 2) { /* also keeps keys and tokens under 2^21 entries */
        memset(c->slot, 0, CACHE_SLOTS * sizeof *c->slot);
        c->n = c->n_keys = c->n_tokens = 0;
    }
    if (!mem_grow(&c->keys, &c->keys_cap, c->n_keys + n, 1, e) ||
        !mem_grow(&c->tokens, &c->tokens_cap, c->n_tokens + word->n, sizeof *c->tokens, e))
        return false;
    slot = cache_slot(c, s, n, hash);
    *slot = (struct cached){hash, (uint32_t)n, (uint32_t)c->n_keys, (uint32_t)c->n_tokens,
                            (uint32_t)word->n};
    memcpy(c->keys + c->n_keys, s, n);
    if (word->n > 0) memcpy(c->tokens + c->n_tokens, word->v, word->n * sizeof *word->v);
    c->n_keys += n;
    c->n_tokens += word->n;
    c->n++;
    return true;
}

/* ---- one word ---- */

static bool merge_word(const struct tokenizer *tk, struct tokenizer_scratch *sc, const char *s,
                       size_t n, struct err *e)
{
    if (tk->ignore_merges) { /* a word that is itself a token */
        const struct table *t = tk->raw ? &tk->by_raw : &tk->by_piece;
        int32_t id = table_get(t, tk->raw ? tk->raw : tk->piece, s, n);

        sc->n_symbols = 0;
        if (id >= 0 && tk->of_model[id]) return add_symbol(sc, id, 0, n, e);
    }
    if (!word_symbols(tk, sc, s, n, e)) return false;
    if (sc->n_symbols > SCAN_MAX) return merge_heap(tk, sc, e);
    merge_scan(tk, sc->symbols, &sc->n_symbols);
    return true;
}

bool bpe_word(const struct tokenizer *tk, struct tokenizer_scratch *sc, const char *s, size_t n,
              struct word_tokens *out, struct err *e)
{
    struct word_cache *c = &sc->cache;
    const int64_t lost = sc->lost.n;
    bool cached = n <= CACHED_WORD_MAX;
    uint32_t hash = cached ? hash_bytes(s, n) : 0;

    if (cached) {
        const struct cached *at = cache_slot(c, s, n, hash);

        if (at->len > 0) {
            out->v = at->n_token > 0 ? c->tokens + at->token : NULL; /* may be none yet */
            out->n = at->n_token;
            return true;
        }
    }
    if (!merge_word(tk, sc, s, n, e) ||
        !mem_grow(&sc->found, &sc->found_cap, sc->n_symbols + 1, sizeof *sc->found, e))
        return false;
    for (size_t i = 0; i < sc->n_symbols; i++)
        sc->found[i] =
            (struct word_token){sc->symbols[i].id, sc->symbols[i].begin, sc->symbols[i].end};
    *out = (struct word_tokens){sc->found, sc->n_symbols};
    cached = cached && sc->lost.n == lost; /* else it is to be noted again */
    return !cached || cache_store(c, s, n, hash, out, e);
}
