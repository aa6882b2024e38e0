/* text.c - text that remembers, for each byte, the range of the original that it stands for; and
 * the normalizers, each of which writes such a text from another. */
#include "base/mem.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static bool text_reserve(struct aligned_text *t, size_t more, struct err *e)
{
    if (more > t->max || t->n > t->max - more)
        return err_set(e, "makes more than %zu bytes of a text", t->max);
    return mem_grow(&t->s, &t->scap, t->n + more, 1, e) &&
           mem_grow(&t->a, &t->acap, t->n + more, sizeof *t->a, e);
}

/* Appends original bytes [begin, end) of `s`, which are their own origin. */
static bool add_original(struct aligned_text *t, const char *s, size_t begin, size_t end,
                         struct err *e)
{
    if (!text_reserve(t, end - begin, e)) return false;
    for (size_t i = begin, len; i < end; i += len) {
        struct align origin;

        utf8_get(s + i, &len);
        origin = (struct align){(uint32_t)i, (uint32_t)(i + len)}; /* under 2^30 */
        for (size_t k = 0; k < len; k++, t->n++) {
            t->s[t->n] = s[i + k];
            t->a[t->n] = origin;
        }
    }
    return true;
}

bool text_add_part(struct aligned_text *t, const struct aligned_text *from, size_t begin,
                   size_t end, struct err *e)
{
    if (begin == end) return true;
    if (!text_reserve(t, end - begin, e)) return false;
    memcpy(t->s + t->n, from->s + begin, end - begin);
    memcpy(t->a + t->n, from->a + begin, (end - begin) * sizeof *t->a);
    t->n += end - begin;
    return true;
}

bool text_add_new(struct aligned_text *t, const char *s, size_t n, struct align origin,
                  struct err *e)
{
    if (n == 0) return true;
    if (!text_reserve(t, n, e)) return false;
    memcpy(t->s + t->n, s, n);
    for (size_t i = 0; i < n; i++)
        t->a[t->n + i] = origin;
    t->n += n;
    return true;
}

void text_free(struct aligned_text *t)
{
    free(t->s);
    free(t->a);
    *t = (struct aligned_text){0};
}

bool pieces_add(struct pieces *p, size_t begin, size_t end, int32_t id, struct err *e)
{
    if (!mem_grow(&p->v, &p->cap, p->n + 1, sizeof *p->v, e)) return false;
    p->v[p->n++] = (struct piece){begin, end, id};
    return true;
}

/* ---- normalisation forms ---- */

/* Whether no character before c can combine or change places with it: c decomposes into something
 * that begins with a starter that is not a mark, nor a vowel or tail of a Hangul syllable. */
static bool is_boundary(int32_t c, utf8proc_option_t form)
{
    utf8proc_int32_t d[32];
    const utf8proc_property_t *p;
    int last = 0;

    if (c < 0x300 || !unicode_normalizes(c)) return true;
    if (utf8proc_decompose_char(c, d, 32, form, &last) < 1) return false;
    if (d[0] >= 0x1160 && d[0] <= 0x11ff) return false;
    p = utf8proc_get_property(d[0]);
    return p->combining_class == 0 && p->category != UTF8PROC_CATEGORY_MN &&
           p->category != UTF8PROC_CATEGORY_MC && p->category != UTF8PROC_CATEGORY_ME;
}

/* Whether a character that forms a run by itself is left unchanged. */
static bool never_changes(int32_t c, utf8proc_option_t form)
{
    bool hangul = c >= 0xac00 && c <= 0xd7a3; /* decomposed by formula, not by table */

    return utf8proc_get_property(c)->decomp_seqindex == UINT16_MAX &&
           (!hangul || (form & UTF8PROC_COMPOSE));
}

static int by_key(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* Sorts consecutive marks by combining class, stably. (utf8proc's own sort is quadratic, which a
 * hostile text could exploit.) */
static bool order_marks(struct tokenizer_scratch *sc, size_t n, struct err *e)
{
    for (size_t i = 0, end; i < n; i = end + 1) {
        bool sorted = true;
        int last = 0;

        for (end = i; end < n; end++) {
            int ccc = utf8proc_get_property(sc->codes[end])->combining_class;

            if (ccc == 0) break;
            sorted = sorted && ccc >= last;
            last = ccc;
        }
        if (sorted) continue;
        if (!mem_grow(&sc->keys, &sc->keys_cap, end - i, sizeof *sc->keys, e)) return false;
        for (size_t k = i; k < end; k++) /* class, place, character: 8, 32 and 21 bits */
            sc->keys[k - i] = (uint64_t)utf8proc_get_property(sc->codes[k])->combining_class << 53 |
                              (uint64_t)(k - i) << 21 | (uint64_t)sc->codes[k];
        qsort(sc->keys, end - i, sizeof *sc->keys, by_key);
        for (size_t k = i; k < end; k++)
            sc->codes[k] = (int32_t)(sc->keys[k - i] & 0x1fffff);
    }
    return true;
}

/* in[begin, end) decomposed and in canonical order, as sc->codes[0..*n). */
static bool decompose(struct tokenizer_scratch *sc, const struct aligned_text *in, size_t begin,
                      size_t end, utf8proc_option_t form, size_t *n, struct err *e)
{
    int last = 0;

    *n = 0;
    for (size_t i = begin, len; i < end; i += len) {
        int32_t c = utf8_get(in->s + i, &len);
        utf8proc_ssize_t got;

        /* at most 18 characters, for U+FDFA */
        if (!mem_grow(&sc->codes, &sc->codes_cap, *n + 32, sizeof *sc->codes, e)) return false;
        got = utf8proc_decompose_char(c, sc->codes + *n, 32, form, &last);
        CHECK(got >= 0 && got <= 32);
        *n += (size_t)got;
    }
    return order_marks(sc, *n, e);
}

/* Normalises in[begin, end), a run independent of its surroundings. Bytes that come out unchanged
 * keep their origins, otherwise the whole run is the origin. */
static bool normalize_run(struct tokenizer_scratch *sc, const struct aligned_text *in, size_t begin,
                          size_t end, utf8proc_option_t form, struct aligned_text *out,
                          struct err *e)
{
    struct align origin = {in->a[begin].begin, in->a[end - 1].end};
    size_t from = out->n, n;
    utf8proc_ssize_t kept;
    char c[4];

    if (!decompose(sc, in, begin, end, form, &n, e)) return false;
    kept = utf8proc_normalize_utf32(sc->codes, (utf8proc_ssize_t)n, form);
    CHECK(kept >= 0);
    for (utf8proc_ssize_t i = 0; i < kept; i++)
        if (!text_add_new(out, c, utf8_put(c, sc->codes[i]), origin, e)) return false;
    if (out->n - from == end - begin && memcmp(out->s + from, in->s + begin, end - begin) == 0)
        memcpy(out->a + from, in->a + begin, (end - begin) * sizeof *out->a);
    return true;
}

/* Processes runs that begin at a boundary; runs of ASCII, and single characters that never
 * change, are copied. */
static bool normalize_form(const struct step *step, struct tokenizer_scratch *sc,
                           const struct aligned_text *in, struct aligned_text *out, struct err *e)
{
    utf8proc_option_t form = (utf8proc_option_t)step->form;
    size_t i = 0, j, len;

    while (i < in->n) {
        int32_t c;
        bool known;

        for (j = i; j < in->n && (unsigned char)in->s[j] < 0x80; j++)
            continue;
        if (j < in->n && j > i) j--; /* the last ASCII character may take a mark */
        if (!text_add_part(out, in, i, j, e)) return false;
        if (j == in->n) break;
        i = j;
        c = utf8_get(in->s + i, &len);
        known = unicode_normalizes(c);
        for (j = i + len; j < in->n && known; j += len)
            if (is_boundary(utf8_get(in->s + j, &len), form)) break;
        utf8_get(in->s + i, &len);
        if (!known || (j == i + len && never_changes(c, form))) {
            if (!text_add_part(out, in, i, j, e)) return false;
        } else if (!normalize_run(sc, in, i, j, form, out, e)) {
            return false;
        }
        i = j;
    }
    return true;
}

static bool parse_form(const struct load *load, const cJSON *json, struct step *step)
{
    (void)load;
    (void)json;
    step->form = step->kind->option;
    return true;
}

/* ---- the other normalizers ---- */

static bool parse_prepend(const struct load *load, const cJSON *json, struct step *step)
{
    const char *s = NULL;

    if (!load_string(load, json, "prepend", &s)) return false;
    if (!s) return load_fail(load, json, "Prepend without \"prepend\"");
    return step_text(load, step, s);
}

static bool normalize_prepend(const struct step *step, struct tokenizer_scratch *sc,
                              const struct aligned_text *in, struct aligned_text *out,
                              struct err *e)
{
    (void)sc;
    if (in->n == 0) return true;
    return text_add_new(out, step->text, step->text_len, in->a[0], e) &&
           text_add_part(out, in, 0, in->n, e);
}

/* As in the library, the replacement stands for the last character that it replaces. */
static bool normalize_replace(const struct step *step, struct tokenizer_scratch *sc,
                              const struct aligned_text *in, struct aligned_text *out,
                              struct err *e)
{
    struct matches *m = &sc->matches;

    if (!pattern_matches(&step->pattern, &sc->matcher, in->s, in->n, m, e)) return false;
    for (size_t i = 0; i < m->n; i++) {
        size_t begin = m->v[i].begin, end = m->v[i].end, last = end > 0 ? end - 1 : 0;

        if (!m->v[i].hit ? !text_add_part(out, in, begin, end, e)
                         : !text_add_new(out, step->text, step->text_len, in->a[last], e))
            return false;
    }
    return true;
}

static bool normalize_lowercase(const struct step *step, struct tokenizer_scratch *sc,
                                const struct aligned_text *in, struct aligned_text *out,
                                struct err *e)
{
    (void)step;
    (void)sc;
    for (size_t i = 0, len, n; i < in->n; i += len) {
        int32_t c = utf8_get(in->s + i, &len);
        char low[4];

        /* the only character whose lower case is two: dotted I becomes "i" and a combining dot */
        if (c == 0x130) {
            if (!text_add_new(out, "i\xcc\x87", 3, in->a[i], e)) return false;
            continue;
        }
        n = utf8_put(low, unicode_lower(c));
        if (!text_add_new(out, low, n, in->a[i], e)) return false;
    }
    return true;
}

static bool parse_strip(const struct load *load, const cJSON *json, struct step *step)
{
    return load_bool(load, json, "strip_left", &step->left) &&
           load_bool(load, json, "strip_right", &step->right);
}

static bool normalize_strip(const struct step *step, struct tokenizer_scratch *sc,
                            const struct aligned_text *in, struct aligned_text *out, struct err *e)
{
    size_t begin = 0, end = in->n, len;

    (void)sc;
    while (step->left && begin < end && unicode_is_space(utf8_get(in->s + begin, &len)))
        begin += len;
    while (step->right && end > begin) {
        size_t last = utf8_last(in->s, end);

        if (!unicode_is_space(utf8_get(in->s + last, &len))) break;
        end = last;
    }
    return text_add_part(out, in, begin, end, e);
}

#define FORM (UTF8PROC_STABLE | UTF8PROC_DECOMPOSE)
#define COMPOSED (UTF8PROC_STABLE | UTF8PROC_COMPOSE)

const struct component normalizer_table[] = {
    {.name = "NFC", .parse = parse_form, .normalize = normalize_form, .option = COMPOSED},
    {.name = "NFD", .parse = parse_form, .normalize = normalize_form, .option = FORM},
    {.name = "NFKC",
     .parse = parse_form,
     .normalize = normalize_form,
     .option = COMPOSED | UTF8PROC_COMPAT},
    {.name = "NFKD",
     .parse = parse_form,
     .normalize = normalize_form,
     .option = FORM | UTF8PROC_COMPAT},
    {.name = "Prepend", .parse = parse_prepend, .normalize = normalize_prepend},
    {.name = "Replace", .parse = parse_replace, .normalize = normalize_replace},
    {.name = "Lowercase", .parse = parse_nothing, .normalize = normalize_lowercase},
    {.name = "Strip", .parse = parse_strip, .normalize = normalize_strip},
    {0},
};

bool normalize_piece(const struct tokenizer *tk, struct tokenizer_scratch *sc, const char *s,
                     size_t begin, size_t end, const struct aligned_text **out, struct err *e)
{
    struct aligned_text *now = &sc->normal[0], *next = &sc->normal[1], *swap;

    now->n = 0;
    now->max = next->max = grown_max(end - begin);
    if (!add_original(now, s, begin, end, e)) return false;
    for (size_t i = 0; i < tk->normalizers.n && now->n > 0; i++) {
        const struct step *step = &tk->normalizers.v[i];

        next->n = 0;
        if (!step->kind->normalize(step, sc, now, next, e))
            return err_context(e, "%s", step->place);
        swap = now;
        now = next;
        next = swap;
    }
    *out = now;
    return true;
}
