/* pattern.c - patterns for cutting and searching texts: classes of characters, plain strings, and
 * regular expressions, which PCRE2 compiles after regex.c has translated them.
 *
 * An expression may backtrack exponentially ("(?:a+)+b"), or scan the whole rest of the text from
 * each position ("a*?x|a"). So it only sees a window of the text, and PCRE2 reports when it would
 * look beyond (PCRE2_PARTIAL_HARD); only then does the window grow, at that one position, and
 * likewise the number of PCRE2's steps if it was too small. One step may walk through the whole
 * window; the total cost of all steps is limited to a multiple of the text. */
#include "base/mem.h"
#include "data/tokenizer/tokenizer_parts.h"
#include "data/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>

#define JIT_STACK_MAX ((size_t)8 << 20)
#ifndef WINDOW
#define WINDOW 256 /* bytes; few words are longer */
#endif
#define NEAR_STEPS 64   /* from one position in the first window; enough for a word's characters */
#define COST_STEPS 1024 /* so many steps cost as much as one byte of a window: 1 */
#define COST_A_BYTE 64  /* budget per byte of text; real expressions need 2 to 5 */
#define COST_FREE 2000000

/* The JIT of PCRE2 10.42 backtracks into repeated atomic groups: in "aab" it finds "ab" with
 * "(?>c?.+|a){2}", which its interpreter and Oniguruma do not. */
static bool has_atomic_group(const char *regex)
{
    return strstr(regex, "(?>") || strstr(regex, ")++") || strstr(regex, ")*+") ||
           strstr(regex, ")?+");
}

bool pattern_regex(struct pattern *p, const char *regex, struct err *e)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    struct strings to = {0};
    PCRE2_SIZE at = 0;
    int code = 0;
    PCRE2_UCHAR why[160];
    bool ok = false;

    *p = (struct pattern){.name = mem_strdup(regex, e)};
    if (!context) err_set(e, "out of memory for a regular expression");
    if (!p->name || !context || !regex_translate(regex, &to, e)) goto out;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    /* In Ruby's syntax ^ and $ always match at line ends. */
    p->code = pcre2_compile((PCRE2_SPTR)to.s, to.n - 1,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_USE_OFFSET_LIMIT, &code,
                            &at, context);
    if (!p->code) {
        pcre2_get_error_message(code, why, sizeof why);
        err_set(e, "the regular expression \"%.200s\" does not compile: %s", regex,
                (const char *)why);
        goto out;
    }
    /* Without JIT (some hardened systems refuse it) matching is slower but gives
     * the same results. */
    p->jit = !has_atomic_group(regex) &&
             pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD) == 0;
    ok = true;
out:
    pcre2_compile_context_free(context);
    free(to.s);
    free(to.end);
    return ok;
}

bool pattern_literal(struct pattern *p, const char *text, struct err *e)
{
    if (!*text) return err_set(e, "an empty pattern");
    *p = (struct pattern){.literal = mem_strdup(text, e), .literal_len = strlen(text)};
    return p->literal;
}

void pattern_free(struct pattern *p)
{
    pcre2_code_free(p->code);
    free(p->literal);
    free(p->name);
    *p = (struct pattern){0};
}

bool matcher_init(struct matcher *m, struct err *e)
{
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(32768, JIT_STACK_MAX, NULL);
    if (!m->data || !m->context) {
        matcher_free(m);
        return err_set(e, "out of memory for a regular expression");
    }
    if (m->stack) pcre2_jit_stack_assign(m->context, NULL, m->stack);
    return true;
}

void matcher_free(struct matcher *m)
{
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    *m = (struct matcher){0};
}

static bool add_match(struct matches *out, size_t begin, size_t end, bool hit, struct err *e)
{
    if (!mem_grow(&out->v, &out->cap, out->n + 1, sizeof *out->v, e)) return false;
    out->v[out->n++] = (struct match){begin, end, hit};
    return true;
}

/* Every character of the class is a separate match. */
static bool class_matches(const struct pattern *p, const char *s, size_t n, struct matches *out,
                          struct err *e)
{
    size_t done = 0, len;

    for (size_t i = 0; i < n; i += len) {
        if (!p->is(utf8_get(s + i, &len))) continue;
        if (done < i && !add_match(out, done, i, false, e)) return false;
        if (!add_match(out, i, i + len, true, e)) return false;
        done = i + len;
    }
    return done == n || add_match(out, done, n, false, e);
}

static bool literal_matches(const struct pattern *p, const char *s, size_t n, struct matches *out,
                            struct err *e)
{
    size_t done = 0;
    const char *at;

    while (done < n && (at = memmem(s + done, n - done, p->literal, p->literal_len))) {
        size_t begin = (size_t)(at - s);

        if (done < begin && !add_match(out, done, begin, false, e)) return false;
        done = begin + p->literal_len;
        if (!add_match(out, begin, done, true, e)) return false;
    }
    return done >= n || add_match(out, done, n, false, e);
}

/* ---- regular expressions ---- */

struct search {
    const struct pattern *p;
    struct matcher *m;
    const char *s;
    size_t n;
    size_t cost; /* budget left */
    struct err *e;
};

static bool too_costly(const struct search *f)
{
    return err_set(
        f->e,
        "the regular expression \"%.200s\" needs too many steps for a text of %zu bytes: it "
        "backtracks, or looks through the text from each place of it",
        f->p->name, f->n);
}

static bool match_failed(const struct search *f, int got)
{
    PCRE2_UCHAR why[160];

    pcre2_get_error_message(got, why, sizeof why);
    return err_set(f->e, "the regular expression \"%.200s\" failed on a text of %zu bytes: %s",
                   f->p->name, f->n, (const char *)why);
}

/* Where a window of `width` bytes starting at `at` ends, without splitting a character. */
static size_t window_end(const struct search *f, size_t at, size_t width)
{
    size_t end = f->n - at <= width ? f->n : at + width;

    while (end < f->n && end > at && ((unsigned char)f->s[end] & 0xc0) == 0x80)
        end--;
    return end;
}

/* PCRE2's result for matches that begin at `at` (only) or later, in s[0..end). */
static int look(const struct search *f, size_t at, size_t end, uint32_t steps, bool only)
{
    pcre2_match_context *c = f->m->context;
    uint32_t options = PCRE2_NO_UTF_CHECK | (end < f->n ? PCRE2_PARTIAL_HARD : 0);
    int got;

    pcre2_set_match_limit(c, steps);
    pcre2_set_offset_limit(c, only ? at : PCRE2_UNSET);
    if (f->p->jit) {
        got = pcre2_jit_match(f->p->code, (PCRE2_SPTR)f->s, end, at, options, f->m->data, c);
        if (got != PCRE2_ERROR_JIT_STACKLIMIT) return got;
    }
    /* heap memory in KiB: a few frames per byte */
    pcre2_set_heap_limit(c, (uint32_t)(1024 + (end - at) / 2));
    return pcre2_match(f->p->code, (PCRE2_SPTR)f->s, end, at, options | PCRE2_NO_JIT, f->m->data,
                       c);
}

/* Tries to match at `at`, in a window as wide as needed; *got is PCRE2's result. Fails if
 * that costs too much. */
static bool look_here(struct search *f, size_t at, int *got)
{
    size_t width = WINDOW, steps = COST_STEPS; /* all of it is charged: under 2^31 */

    for (;;) {
        size_t cost = width + width * (steps / COST_STEPS);

        if (cost > f->cost) return too_costly(f);
        f->cost -= cost;
        *got = look(f, at, window_end(f, at, width), (uint32_t)steps, true);
        if (*got == PCRE2_ERROR_PARTIAL)
            width *= 2;
        else if (*got == PCRE2_ERROR_MATCHLIMIT)
            steps *= 2;
        else
            return true;
    }
}

/* The first match from `from` on: *hit tells whether there is one. */
static bool find(struct search *f, size_t from, struct match *out)
{
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(f->m->data);
    size_t len;

    out->hit = false;
    while (from <= f->n) {
        size_t end = window_end(f, from, WINDOW);
        int got = look(f, from, end, NEAR_STEPS, false);

        if (got >= 0 && at[0] == end && end < f->n) { /* empty, at the edge of what was visible */
            from = end;
            continue;
        }
        if (got == PCRE2_ERROR_PARTIAL || got == PCRE2_ERROR_MATCHLIMIT) {
            if (got == PCRE2_ERROR_PARTIAL) from = at[0];
            if (!look_here(f, from, &got)) return false;
            if (got == PCRE2_ERROR_NOMATCH && from < f->n) {
                utf8_get(f->s + from, &len);
                from += len;
                continue;
            }
        }
        if (got == PCRE2_ERROR_NOMATCH) {
            if (end == f->n) return true;
            from = end;
            continue;
        }
        if (got < 0) return match_failed(f, got);
        *out = (struct match){at[0], at[1], true};
        return true;
    }
    return true;
}

static bool regex_matches(struct search *f, struct matches *out)
{
    size_t from = 0, done = 0, len;
    bool any = false; /* a match has ended at `done` */
    struct match m;

    while (from <= f->n) {
        if (!find(f, from, &m)) return false;
        if (!m.hit) break;
        if (m.begin < done || m.end < m.begin)
            return err_set(f->e, "the regular expression \"%.200s\" matches backwards", f->p->name);
        if (m.begin == m.end && any && m.begin == done) { /* empty, right after the last match */
            if (from >= f->n) break;
            utf8_get(f->s + from, &len);
            from += len;
            continue;
        }
        if (done < m.begin && !add_match(out, done, m.begin, false, f->e)) return false;
        if (!add_match(out, m.begin, m.end, true, f->e)) return false;
        from = done = m.end;
        any = true;
    }
    return done == f->n || add_match(out, done, f->n, false, f->e);
}

bool pattern_matches(const struct pattern *p, struct matcher *m, const char *s, size_t n,
                     struct matches *out, struct err *e)
{
    struct search f = {p, m, s, n, COST_A_BYTE * n + COST_FREE, e};

    out->n = 0;
    if (p->is) return class_matches(p, s, n, out, e);
    if (p->literal) return literal_matches(p, s, n, out, e);
    return regex_matches(&f, out);
}
