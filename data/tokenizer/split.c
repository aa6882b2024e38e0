/* split.c - pre-tokenizers: they cut the pieces of the scratch text into words, and some modify the
 * text first. Added tokens pass through untouched. */
#include "base/mem.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

/* GPT-2's words; ByteLevel's own pattern if use_regex is set. */
#define GPT2_WORDS                                                                                 \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

static const char *const behavior_names[] = {
    [SPLIT_REMOVED] = "Removed",
    [SPLIT_ISOLATED] = "Isolated",
    [SPLIT_PREVIOUS] = "MergedWithPrevious",
    [SPLIT_NEXT] = "MergedWithNext",
    [SPLIT_CONTIGUOUS] = "Contiguous",
};
static const char *const prepend_names[] = {
    [PREPEND_ALWAYS] = "always",
    [PREPEND_FIRST] = "first",
    [PREPEND_NEVER] = "never",
};

/* *out = the index of member `key` among `names`; if absent, *out is unchanged. */
static bool load_choice(const struct load *load, const cJSON *json, const char *key,
                        const char *const *names, size_t n, unsigned *out)
{
    const char *s = NULL;

    if (!load_string(load, json, key, &s)) return false;
    if (!s) return true;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(names[i], s) != 0) continue;
        *out = (unsigned)i;
        return true;
    }
    return load_fail(load, json, "\"%s\": \"%s\" is not known to this reader", key, s);
}

/* Joins each match to the text before it or, with_next, after it; of consecutive matches only the
 * nearest is joined. with_next walks backwards and fills the list from its end. */
static void merge_hits(struct matches *m, bool with_next)
{
    size_t kept = 0;
    bool last_hit = false;

    for (size_t k = 0; k < m->n; k++) {
        struct match now = m->v[with_next ? m->n - 1 - k : k];

        if (now.hit && !last_hit && kept > 0) {
            if (with_next)
                m->v[m->n - kept].begin = now.begin;
            else
                m->v[kept - 1].end = now.end;
        } else {
            m->v[with_next ? m->n - 1 - kept : kept] = now;
            kept++;
        }
        last_hit = now.hit;
    }
    if (with_next && kept > 0) memmove(m->v, m->v + (m->n - kept), kept * sizeof *m->v);
    m->n = kept;
}

/* Joins consecutive matches, and consecutive texts between matches (which occur with `invert`). */
static void merge_contiguous(struct matches *m)
{
    size_t kept = 0;
    bool last_hit = false;

    for (size_t k = 0; k < m->n; k++) {
        struct match now = m->v[k];

        if (kept > 0 && now.hit == last_hit)
            m->v[kept - 1].end = now.end;
        else
            m->v[kept++] = now;
        last_hit = now.hit;
    }
    m->n = kept;
}

/* Cuts all pieces by a pattern. With `invert`, matches and the text between them swap roles. */
static bool cut_pieces(struct tokenizer_scratch *sc, const struct pattern *p,
                       enum behavior behavior, bool invert, struct err *e)
{
    struct pieces *out = &sc->spare_pieces, swap;
    struct matches *m = &sc->matches;

    out->n = 0;
    for (size_t i = 0; i < sc->pieces.n; i++) {
        struct piece at = sc->pieces.v[i];

        if (at.id >= 0) {
            if (!pieces_add(out, at.begin, at.end, at.id, e)) return false;
            continue;
        }
        if (!pattern_matches(p, &sc->matcher, sc->text.s + at.begin, at.end - at.begin, m, e))
            return false;
        for (size_t k = 0; invert && k < m->n; k++)
            m->v[k].hit = !m->v[k].hit;
        if (behavior == SPLIT_PREVIOUS || behavior == SPLIT_NEXT)
            merge_hits(m, behavior == SPLIT_NEXT);
        if (behavior == SPLIT_CONTIGUOUS) merge_contiguous(m);
        for (size_t k = 0; k < m->n; k++) {
            if (m->v[k].begin == m->v[k].end || (behavior == SPLIT_REMOVED && m->v[k].hit))
                continue;
            if (!pieces_add(out, at.begin + m->v[k].begin, at.begin + m->v[k].end, -1, e))
                return false;
        }
    }
    swap = sc->pieces;
    sc->pieces = *out;
    *out = swap;
    return true;
}

static bool split_by_pattern(const struct step *step, struct tokenizer_scratch *sc, struct err *e)
{
    return cut_pieces(sc, &step->pattern, step->behavior, step->invert, e);
}

/* Copies the text piece by piece to sc->spare and makes that the text: blanks become step->text if
 * `blanks` is set, and step->text is prepended to pieces that do not begin with it. */
static bool rewrite_pieces(const struct step *step, struct tokenizer_scratch *sc, bool blanks,
                           struct err *e)
{
    struct aligned_text *in = &sc->text, *out = &sc->spare, swap;

    out->n = 0;
    out->max = in->max;
    for (size_t i = 0; i < sc->pieces.n; i++) {
        struct piece *at = &sc->pieces.v[i];
        size_t begin = out->n, k = at->begin, n = step->text_len; /* no piece is empty */
        bool has = at->end - k >= n && memcmp(in->s + k, step->text, n) == 0;
        bool add = step->prepend == PREPEND_ALWAYS ||
                   (step->prepend == PREPEND_FIRST && in->a[k].begin == 0);

        if (blanks && in->s[k] == ' ') has = true;
        if (at->id < 0 && add && !has && !text_add_new(out, step->text, n, in->a[k], e))
            return false;
        for (size_t j = k; at->id < 0 && blanks && j < at->end; j++) {
            if (in->s[j] != ' ') continue;
            if (!text_add_part(out, in, k, j, e) || !text_add_new(out, step->text, n, in->a[j], e))
                return false;
            k = j + 1;
        }
        if (!text_add_part(out, in, k, at->end, e)) return false;
        at->begin = begin;
        at->end = out->n;
    }
    swap = *in;
    *in = *out;
    *out = swap;
    return true;
}

/* ---- ByteLevel ---- */

static bool parse_byte_level(const struct load *load, const cJSON *json, struct step *step)
{
    step->prefix_space = step->use_regex = true;
    if (!load_bool(load, json, "add_prefix_space", &step->prefix_space) ||
        !load_bool(load, json, "use_regex", &step->use_regex))
        return false;
    step->behavior = SPLIT_ISOLATED;
    step->prepend = step->prefix_space ? PREPEND_ALWAYS : PREPEND_NEVER;
    return step_text(load, step, " ") && pattern_regex(&step->pattern, GPT2_WORDS, load->e);
}

/* The bytes themselves are unchanged: merging works on them, not on their spelling. */
static bool split_byte_level(const struct step *step, struct tokenizer_scratch *sc, struct err *e)
{
    if (step->prefix_space && !rewrite_pieces(step, sc, false, e)) return false;
    return !step->use_regex || split_by_pattern(step, sc, e);
}

/* ---- Metaspace ---- */

bool parse_metaspace(const struct load *load, const cJSON *json, struct step *step)
{
    const char *mark = "▁";
    bool prefix = true;
    unsigned prepend = PREPEND_ALWAYS;
    size_t len;

    step->split = true;
    if (!load_string(load, json, "replacement", &mark) ||
        !load_choice(load, json, "prepend_scheme", prepend_names, 3, &prepend) ||
        !load_bool(load, json, "add_prefix_space", &prefix) ||
        !load_bool(load, json, "split", &step->split))
        return false;
    if (!*mark || (utf8_get(mark, &len), mark[len]))
        return load_fail(load, json, "\"replacement\": \"%s\" is not one character", mark);
    if (!prefix && prepend != PREPEND_NEVER && cJSON_HasObjectItem(json, "prepend_scheme"))
        return load_fail(load, json, "\"add_prefix_space\" and \"prepend_scheme\" disagree");
    step->prepend = prefix ? (enum prepend)prepend : PREPEND_NEVER;
    step->behavior = SPLIT_NEXT;
    return step_text(load, step, mark) && pattern_literal(&step->pattern, mark, load->e);
}

static bool split_metaspace(const struct step *step, struct tokenizer_scratch *sc, struct err *e)
{
    return rewrite_pieces(step, sc, true, e) && (!step->split || split_by_pattern(step, sc, e));
}

/* ---- the others ---- */

static bool parse_split(const struct load *load, const cJSON *json, struct step *step)
{
    unsigned behavior = SPLIT_ISOLATED;

    if (!load_choice(load, json, "behavior", behavior_names, 5, &behavior) ||
        !load_bool(load, json, "invert", &step->invert))
        return false;
    step->behavior = (enum behavior)behavior;
    return load_pattern(load, json, &step->pattern);
}

static bool parse_digits(const struct load *load, const cJSON *json, struct step *step)
{
    bool each = false;

    if (!load_bool(load, json, "individual_digits", &each)) return false;
    step->pattern.is = unicode_is_number;
    step->behavior = each ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS;
    return true;
}

static bool parse_punctuation(const struct load *load, const cJSON *json, struct step *step)
{
    unsigned behavior = SPLIT_ISOLATED;

    if (!load_choice(load, json, "behavior", behavior_names, 5, &behavior)) return false;
    step->behavior = (enum behavior)behavior;
    step->pattern.is = unicode_is_punctuation;
    return true;
}

static bool parse_whitespace(const struct load *load, const cJSON *json, struct step *step)
{
    (void)json;
    step->invert = true;
    step->behavior = SPLIT_REMOVED;
    return pattern_regex(&step->pattern, "\\p{Rust_Word}+|[^\\p{Rust_Word}\\s]+", load->e);
}

static bool parse_whitespace_split(const struct load *load, const cJSON *json, struct step *step)
{
    (void)load;
    (void)json;
    step->behavior = SPLIT_REMOVED;
    step->pattern.is = unicode_is_space;
    return true;
}

const struct component pre_tokenizer_table[] = {
    {.name = "ByteLevel", .parse = parse_byte_level, .split = split_byte_level},
    {.name = "Metaspace", .parse = parse_metaspace, .split = split_metaspace},
    {.name = "Split", .parse = parse_split, .split = split_by_pattern},
    {.name = "Digits", .parse = parse_digits, .split = split_by_pattern},
    {.name = "Punctuation", .parse = parse_punctuation, .split = split_by_pattern},
    {.name = "Whitespace", .parse = parse_whitespace, .split = split_by_pattern},
    {.name = "WhitespaceSplit", .parse = parse_whitespace_split, .split = split_by_pattern},
    {0},
};
