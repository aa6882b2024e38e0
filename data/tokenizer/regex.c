/* regex.c - translates an expression in Ruby's syntax for Oniguruma, which the `tokenizers`
 * library uses, into one for PCRE2 that matches the same. What both read alike is copied;
 * what they read differently is rewritten where that is simple; anything else is refused by
 * name, not guessed at. */
#include "base/mem.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/utf8.h"

#include <stdio.h>
#include <string.h>

#define GROUPS_MAX 64 /* nesting */

struct regex {
    const char *all, *p; /* the expression; what is still to be read */
    struct strings *out;
    struct err *e;
    bool in_class;
    size_t open[GROUPS_MAX]; /* where the groups begin in `out` */
    int depth;
};

static bool refuse(const struct regex *r, const char *what)
{
    return err_set(r->e, "\"%s\": %s, at byte %td, is not known to this reader", r->all, what,
                   r->p - r->all);
}

static bool put(struct regex *r, const char *s, size_t n)
{
    if (!strings_put(r->out, s, n, r->e)) return false;
    r->p += n;
    return true;
}

static bool put_new(struct regex *r, const char *s)
{
    return strings_put(r->out, s, strlen(s), r->e);
}

/* ---- classes of characters ---- */

/* A class in PCRE2's syntax, and the categories (or script) of newer characters
 * that belong to it. */
struct char_class {
    const char *name, *members, *newer;
};

/* \p{name}. PCRE2 adds characters of other scripts to some scripts, hence "sc:". */
static const struct char_class properties[] = {
    {"L", "\\p{L}", "L"},
    {"Lu", "\\p{Lu}", "Lu"},
    {"Ll", "\\p{Ll}", "Ll"},
    {"Lt", "\\p{Lt}", "Lt"},
    {"Lm", "\\p{Lm}", "Lm"},
    {"Lo", "\\p{Lo}", "Lo"},
    {"M", "\\p{M}", "M"},
    {"Me", "\\p{Me}", "Me"},
    {"N", "\\p{N}", "N"},
    {"Nd", "\\p{Nd}", "Nd"},
    {"Nl", "\\p{Nl}", "Nl"},
    {"No", "\\p{No}", "No"},
    {"P", "\\p{P}", "P"},
    {"Pc", "\\p{Pc}", "Pc"},
    {"Pd", "\\p{Pd}", "Pd"},
    {"Pe", "\\p{Pe}", "Pe"},
    {"Pf", "\\p{Pf}", "Pf"},
    {"Pi", "\\p{Pi}", "Pi"},
    {"Po", "\\p{Po}", "Po"},
    {"Ps", "\\p{Ps}", "Ps"},
    {"S", "\\p{S}", "S"},
    {"Sc", "\\p{Sc}", "Sc"},
    {"Sk", "\\p{Sk}", "Sk"},
    {"Sm", "\\p{Sm}", "Sm"},
    {"So", "\\p{So}", "So"},
    {"Z", "\\p{Z}", "Z"},
    {"Zl", "\\p{Zl}", "Zl"},
    {"Zp", "\\p{Zp}", "Zp"},
    {"Zs", "\\p{Zs}", "Zs"},
    {"Cc", "\\p{Cc}", "Cc"},
    {"Cf", "\\p{Cf}", "Cf"},
    {"Arabic", "\\p{sc:Arabic}", "Arabic"},
    {"Cyrillic", "\\p{sc:Cyrillic}", "Cyrillic"},
    {"Devanagari", "\\p{sc:Devanagari}", "Devanagari"},
    {"Greek", "\\p{sc:Greek}", "Greek"},
    {"Han", "\\p{sc:Han}", "Han"},
    {"Hangul", "\\p{sc:Hangul}", "Hangul"},
    {"Hebrew", "\\p{sc:Hebrew}", "Hebrew"},
    {"Hiragana", "\\p{sc:Hiragana}", "Hiragana"},
    {"Katakana", "\\p{sc:Katakana}", "Katakana"},
    {"Latin", "\\p{sc:Latin}", "Latin"},
    {"Thai", "\\p{sc:Thai}", "Thai"},
    /* Rust's \w; only our own expressions use it */
    {"Rust_Word", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}", "L M Nd Pc"},
};

/* \s and the like; a capital letter negates. Oniguruma's \w includes Latin-1's superscripts and
 * fractions, its \h is a hexadecimal digit. */
static const struct char_class escapes[] = {
    {"s", "\\p{White_Space}", ""},
    {"w", "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}", "L M Nd Pc"},
    {"d", "\\p{Nd}", "Nd"},
    {"h", "0-9A-Fa-f", ""},
};

/* Whether a word in `list` is a prefix of the category, or is the script. */
static bool is_newer(const struct newer_char *c, const char *list)
{
    size_t n;

    for (; *list; list += n + (list[n] == ' ')) {
        n = strcspn(list, " ");
        if (n <= 2 && strncmp(c->category, list, n) == 0) return true;
        if (c->script && strlen(c->script) == n && strncmp(c->script, list, n) == 0) return true;
    }
    return false;
}

static bool put_class(struct regex *r, const struct char_class *c, bool negated)
{
    char range[40];

    if (!r->in_class && !put_new(r, negated ? "[^" : "[")) return false;
    if (!put_new(r, c->members)) return false;
    for (size_t i = 0; i < n_newer_chars; i++) {
        if (!is_newer(&newer_chars[i], c->newer)) continue;
        snprintf(range, sizeof range, "\\x{%x}-\\x{%x}", (unsigned)newer_chars[i].first,
                 (unsigned)newer_chars[i].last);
        if (!put_new(r, range)) return false;
    }
    /* in PCRE2 a following '-' is literal, in Oniguruma it may begin a range */
    if (r->in_class && r->p[0] == '-' && r->p[1] != ']') return refuse(r, "a '-' after a class");
    return r->in_class || put_new(r, "]");
}

/* \p{name} or \P{name}; r->p is after the letter. */
static bool property(struct regex *r, bool negated)
{
    const char *end = *r->p == '{' ? strchr(r->p, '}') : NULL;

    for (size_t i = 0; end && i < sizeof properties / sizeof *properties; i++) {
        const struct char_class *c = &properties[i];

        if (strlen(c->name) != (size_t)(end - r->p - 1) ||
            strncmp(c->name, r->p + 1, strlen(c->name)) != 0)
            continue;
        if (negated && r->in_class) return refuse(r, "\\P in a class");
        r->p = end + 1;
        return put_class(r, c, negated);
    }
    return refuse(r, "this property");
}

/* ---- escapes ---- */

/* `n` hexadecimal digits, or any number in braces, become \x{...}; r->p is after the letter. */
static bool code_point(struct regex *r, size_t n)
{
    bool braces = n == 2 && *r->p == '{';
    const char *digits = r->p + braces;
    size_t there = strspn(digits, "0123456789abcdefABCDEF");
    char spelled[16];

    if (braces) n = there;
    if (n == 0 || n > 6 || there < n || (braces && digits[n] != '}'))
        return refuse(r, "this number");
    if (n == 2 && !braces && *digits > '7') return refuse(r, "a single byte"); /* not a character */
    snprintf(spelled, sizeof spelled, "\\x{%.*s}", (int)n, digits);
    r->p = digits + n + braces;
    return put_new(r, spelled);
}

static bool escape(struct regex *r)
{
    char c = r->p[1], low = c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;

    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        if (*escapes[i].name != low) continue;
        if (c != low && r->in_class && c != 'S') return refuse(r, "this escape in a class");
        r->p += 2;
        /* no version adds white space, so \S can be written inside a class */
        return c == 'S' && r->in_class ? put_new(r, "\\P{White_Space}")
                                       : put_class(r, &escapes[i], c != low);
    }
    if (c == 'v') {
        r->p += 2;
        return put_new(r, "\\x{0b}");
    }
    if ((c == 'p' || c == 'P' || c == 'x' || c == 'u') && r->p[2]) {
        r->p += 2;
        if (low == 'p') return property(r, c == 'P');
        return code_point(r, c == 'u' ? 4 : 2);
    }
    if (c && strchr(r->in_class ? "tnrfae" : "tnrfaeAz", c)) return put(r, r->p, 2);
    if (!c || (c >= '0' && c <= '9') || (low >= 'a' && low <= 'z')) return refuse(r, "this escape");
    return put(r, r->p, 2); /* a literal character */
}

/* ---- the rest ---- */

/* A repetition count: {n}, {n,} or {n,m}. */
static bool interval(struct regex *r)
{
    static const char digits[] = "0123456789";
    size_t n = strspn(r->p + 1, digits) + 1;
    bool exact = r->p[n] != ',';

    if (n == 1) return refuse(r, "this '{' (write \\{ for the character)");
    if (!exact) n += 1 + strspn(r->p + n + 1, digits);
    if (r->p[n] != '}') return refuse(r, "this '{' (write \\{ for the character)");
    if (r->p[n + 1] == '+' || (exact && r->p[n + 1] == '?'))
        return refuse(r, "a sign after '}'"); /* Ruby repeats the whole again */
    return put(r, r->p, n + 1);
}

/* Oniguruma leaves a loop once its body has matched empty; PCRE2 goes on as often as asked. */
static bool check_repeated(struct regex *r, size_t begin)
{
    PCRE2_SIZE at;
    uint32_t empty = 0;
    int code;
    pcre2_code *body = pcre2_compile((PCRE2_SPTR)r->out->s + begin, r->out->n - begin,
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &code, &at, NULL);

    if (!body) return true; /* the whole will not compile either */
    pcre2_pattern_info(body, PCRE2_INFO_MATCHEMPTY, &empty);
    pcre2_code_free(body);
    return !empty || refuse(r, "a repeated group that may be empty");
}

static bool group_ends(struct regex *r)
{
    if (!put(r, r->p, 1)) return false;
    if (r->depth == 0) return true; /* one bracket too many: PCRE2 will report it */
    r->depth--;
    return !*r->p || !strchr("*+{", *r->p) || check_repeated(r, r->open[r->depth]);
}

/* What may follow an opening bracket. In Ruby (?i) inside a group also applies to the alternatives
 * that follow, so it is accepted only where that is all of the expression. */
static bool group(struct regex *r)
{
    static const char *const kinds[] = {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:"};

    if (r->p[1] == '*') return refuse(r, "a verb"); /* PCRE2's (*ACCEPT), Oniguruma's callouts */
    if (r->p == r->all && strncmp(r->p, "(?i)", 4) == 0) return put(r, r->p, 4);
    if (r->depth == GROUPS_MAX) return refuse(r, "a group in 64 others");
    r->open[r->depth++] = r->out->n;
    if (r->p[1] != '?') {
        r->p++;
        return put_new(r, "(?:"); /* nothing refers back to it */
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strncmp(r->p, kinds[i], strlen(kinds[i])) == 0) return put(r, r->p, strlen(kinds[i]));
    return refuse(r, "this group");
}

static bool class_begins(struct regex *r)
{
    size_t n = r->p[1] == '^' ? 2 : 1;

    if (r->p[n] == ']') return refuse(r, "a class that begins with ']'");
    r->in_class = true;
    return put(r, r->p, n);
}

static bool in_class(struct regex *r)
{
    if (*r->p == '[') return refuse(r, "a class inside a class");
    if (r->p[0] == '&' && r->p[1] == '&') return refuse(r, "an intersection");
    r->in_class = *r->p != ']';
    return put(r, r->p, 1);
}

bool regex_translate(const char *regex, struct strings *out, struct err *e)
{
    struct regex r = {.all = regex, .p = regex, .out = out, .e = e};

    while (*r.p) {
        bool ok = *r.p == '\\'  ? escape(&r)
                  : r.in_class  ? in_class(&r)
                  : *r.p == '[' ? class_begins(&r)
                  : *r.p == '(' ? group(&r)
                  : *r.p == ')' ? group_ends(&r)
                  : *r.p == '{' ? interval(&r)
                                : put(&r, r.p, 1);

        if (!ok) return false;
    }
    return strings_put(out, "", 1, e); /* the NUL */
}
