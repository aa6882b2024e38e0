/* decode.c - ids to text: the tokens' spellings go through the chain of decoders as a list of
 * strings, which is joined at the end. */
#include "base/mem.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"      /* U+FFFD */
#define DECODED_MAX ((size_t)256 << 20) /* bytes of all spellings together */

bool strings_put(struct strings *l, const char *s, size_t n, struct err *e)
{
    if (n == 0) return true;
    if (l->max > 0 && (n > l->max || l->n > l->max - n))
        return err_set(e, "makes more than %zu bytes of a text", l->max);
    if (!mem_grow(&l->s, &l->cap, l->n + n, 1, e)) return false;
    memcpy(l->s + l->n, s, n);
    l->n += n;
    return true;
}

/* Ends the open string. */
static bool strings_close(struct strings *l, struct err *e)
{
    if (!mem_grow(&l->end, &l->end_cap, l->count + 1, sizeof *l->end, e)) return false;
    l->end[l->count++] = l->n;
    return true;
}

static void strings_free(struct strings *l)
{
    free(l->s);
    free(l->end);
}

/* String i of the list; *s is NULL or dangling if *n is 0. */
static void strings_get(const struct strings *l, size_t i, const char **s, size_t *n)
{
    size_t begin = i > 0 ? l->end[i - 1] : 0;

    *s = l->s ? l->s + begin : "";
    *n = l->end[i] - begin;
}

/* ---- decoders ---- */

/* Appends bytes, replacing invalid UTF-8 by U+FFFD. */
static bool put_lossy(struct strings *out, const char *s, size_t n, struct err *e)
{
    for (size_t i = 0, len; i < n; i += len) {
        bool valid;

        len = utf8_sequence(s + i, n - i, &valid);
        if (valid ? !strings_put(out, s + i, len, e) : !strings_put(out, REPLACEMENT, 3, e))
            return false;
    }
    return true;
}

/* Appends the bytes that a token stands for; a token with any other character in it stands for
 * its own spelling. */
static bool put_token_bytes(struct strings *out, const char *s, size_t n, struct err *e)
{
    size_t start = out->n, len;

    for (size_t i = 0; i < n; i += len) {
        int byte = char_to_byte(utf8_get(s + i, &len));
        char b = (char)byte;

        if (byte < 0) {
            out->n = start;
            return strings_put(out, s, n, e);
        }
        if (!strings_put(out, &b, 1, e)) return false;
    }
    return true;
}

static bool decode_byte_level(const struct step *step, struct matcher *m, const struct strings *in,
                              struct strings *out, struct err *e)
{
    struct strings bytes = {0};
    bool ok = true;

    (void)step;
    (void)m;
    for (size_t i = 0; i < in->count && ok; i++) {
        const char *s;
        size_t n;

        strings_get(in, i, &s, &n);
        ok = put_token_bytes(&bytes, s, n, e);
    }
    ok = ok && put_lossy(out, bytes.s, bytes.n, e) && strings_close(out, e);
    strings_free(&bytes);
    return ok;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The byte of "<0xNN>", -1 for other tokens. Rust's from_str_radix also accepts "+N". */
static int fallback_byte(const char *s, size_t n)
{
    int high, low;

    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>') return -1;
    high = s[3] == '+' ? 0 : hex_digit(s[3]);
    low = hex_digit(s[4]);
    return high < 0 || low < 0 ? -1 : high << 4 | low;
}

/* A run of byte tokens that is not valid UTF-8 as a whole becomes one U+FFFD per byte. */
static bool put_byte_run(struct strings *out, const struct strings *bytes, struct err *e)
{
    if (bytes->n == 0) return true;
    if (utf8_check(bytes->s, bytes->n) == bytes->n)
        return strings_put(out, bytes->s, bytes->n, e) && strings_close(out, e);
    for (size_t i = 0; i < bytes->n; i++)
        if (!strings_put(out, REPLACEMENT, 3, e) || !strings_close(out, e)) return false;
    return true;
}

static bool decode_byte_fallback(const struct step *step, struct matcher *m,
                                 const struct strings *in, struct strings *out, struct err *e)
{
    struct strings run = {0};
    bool ok = true;

    (void)step;
    (void)m;
    for (size_t i = 0; i < in->count && ok; i++) {
        const char *s;
        size_t n;
        int byte;
        char b;

        strings_get(in, i, &s, &n);
        byte = fallback_byte(s, n);
        b = (char)byte;
        if (byte >= 0) {
            ok = strings_put(&run, &b, 1, e);
            continue;
        }
        ok = put_byte_run(out, &run, e) && strings_put(out, s, n, e) && strings_close(out, e);
        run.n = 0;
    }
    ok = ok && put_byte_run(out, &run, e);
    strings_free(&run);
    return ok;
}

static bool decode_fuse(const struct step *step, struct matcher *m, const struct strings *in,
                        struct strings *out, struct err *e)
{
    (void)step;
    (void)m;
    return strings_put(out, in->s, in->n, e) && strings_close(out, e);
}

static bool decode_replace(const struct step *step, struct matcher *m, const struct strings *in,
                           struct strings *out, struct err *e)
{
    struct matches found = {0};
    bool ok = true;

    for (size_t i = 0; i < in->count && ok; i++) {
        const char *s;
        size_t n;

        strings_get(in, i, &s, &n);
        found.n = 0;
        if (n > 0) ok = pattern_matches(&step->pattern, m, s, n, &found, e);
        for (size_t k = 0; k < found.n && ok; k++) {
            const struct match *at = &found.v[k];

            ok = at->hit ? strings_put(out, step->text, step->text_len, e)
                         : strings_put(out, s + at->begin, at->end - at->begin, e);
        }
        ok = ok && strings_close(out, e);
    }
    free(found.v);
    return ok;
}

/* The first token loses the mark that encoding prepends. */
static bool decode_metaspace(const struct step *step, struct matcher *m, const struct strings *in,
                             struct strings *out, struct err *e)
{
    (void)m;
    for (size_t i = 0; i < in->count; i++) {
        bool drop = i == 0 && step->prepend != PREPEND_NEVER;
        const char *s;
        size_t n;

        strings_get(in, i, &s, &n);
        for (size_t k = 0, len; k < n; k += len) {
            utf8_get(s + k, &len);
            if (len != step->text_len || memcmp(s + k, step->text, len) != 0) {
                if (!strings_put(out, s + k, len, e)) return false;
            } else if (!drop && !strings_put(out, " ", 1, e)) {
                return false;
            }
        }
        if (!strings_close(out, e)) return false;
    }
    return true;
}

static bool parse_strip_decoder(const struct load *load, const cJSON *json, struct step *step)
{
    const char *s = NULL;

    if (!load_string(load, json, "content", &s) || !load_count(load, json, "start", &step->start) ||
        !load_count(load, json, "stop", &step->stop))
        return false;
    if (!s || !*s) return load_fail(load, json, "Strip without \"content\"");
    return step_text(load, step, s);
}

static bool decode_strip(const struct step *step, struct matcher *m, const struct strings *in,
                         struct strings *out, struct err *e)
{
    size_t w = step->text_len;

    (void)m;
    for (size_t i = 0; i < in->count; i++) {
        const char *s;
        size_t n;

        strings_get(in, i, &s, &n);
        for (size_t k = 0; k < step->start && n >= w && memcmp(s, step->text, w) == 0; k++) {
            s += w;
            n -= w;
        }
        for (size_t k = 0; k < step->stop && n >= w && memcmp(s + n - w, step->text, w) == 0; k++)
            n -= w;
        if (!strings_put(out, s, n, e) || !strings_close(out, e)) return false;
    }
    return true;
}

const struct component decoder_table[] = {
    {.name = "ByteLevel", .parse = parse_nothing, .decode = decode_byte_level},
    {.name = "Metaspace", .parse = parse_metaspace, .decode = decode_metaspace},
    {.name = "Replace", .parse = parse_replace, .decode = decode_replace},
    {.name = "ByteFallback", .parse = parse_nothing, .decode = decode_byte_fallback},
    {.name = "Fuse", .parse = parse_nothing, .decode = decode_fuse},
    {.name = "Strip", .parse = parse_strip_decoder, .decode = decode_strip},
    {0},
};

/* ---- the whole ---- */

/* What the decoders see of a token: an added token that is matched in normalised text has that
 * spelling, so that the decoders undo it. */
static struct str shown(const struct tokenizer *tk, int32_t id)
{
    if (id < 0 || id >= tk->size) return (struct str){0};
    return tk->shown ? tk->shown[id] : tk->piece[id];
}

/* As in the library, skipping goes by this spelling: "▁<s>" is not the special token "<s>". */
static bool is_skipped(const struct tokenizer *tk, struct str s)
{
    int32_t id = table_get(&tk->by_piece, tk->piece, s.s, s.len);

    return id >= 0 && tk->special[id];
}

/* The spellings of the ids; without decoders they are joined by blanks. */
static bool list_tokens(const struct tokenizer *tk, const int32_t *ids, size_t n, bool skip_special,
                        struct strings *out, struct err *e)
{
    for (size_t i = 0; i < n; i++) {
        struct str s = shown(tk, ids[i]);

        if (!s.s || (skip_special && is_skipped(tk, s))) continue;
        if (tk->decoders.n == 0 && out->count > 0 && !strings_put(out, " ", 1, e)) return false;
        if (!strings_put(out, s.s, s.len, e) || !strings_close(out, e)) return false;
    }
    return true;
}

char *tokenizer_decode(const struct tokenizer *tk, const int32_t *ids, size_t n, bool skip_special,
                       size_t *len, struct err *e)
{
    struct strings list[2] = {{.max = DECODED_MAX}, {0}}, *now = &list[0], *next = &list[1];
    struct matcher m = {0};
    char *text = NULL;
    bool ok = matcher_init(&m, e) && list_tokens(tk, ids, n, skip_special, now, e);

    now->max = next->max = grown_max(now->n);
    for (size_t i = 0; i < tk->decoders.n && ok; i++) {
        const struct step *step = &tk->decoders.v[i];
        struct strings *swap = now;

        next->n = next->count = 0;
        ok = step->kind->decode(step, &m, now, next, e) || err_context(e, "%s", step->place);
        now = next;
        next = swap;
    }
    if (ok) text = mem_strndup(now->s ? now->s : "", now->n, e);
    if (text && len) *len = now->n;
    strings_free(&list[0]);
    strings_free(&list[1]);
    matcher_free(&m);
    return text;
}
