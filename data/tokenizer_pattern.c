/* tokenizer_pattern.c - what texts are cut and searched by: classes of characters, plain strings
 * and regular expressions, which PCRE2 compiles after tokenizer_regex.c has translated them. */
#include "base/mem.h"
#include "data/tokenizer_parts.h"
#include "data/tokenizer_utf8.h"

#include <stdlib.h>
#include <string.h>

#define JIT_STACK_MAX ((size_t)8 << 20)

/* `shown` is what the file has, for messages. */
static bool compile(struct pattern *p, const char *shown, const char *text, size_t len,
                    uint32_t options, struct err *e)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    PCRE2_SIZE at = 0;
    int code = 0;
    PCRE2_UCHAR why[160];

    *p = (struct pattern){0};
    if (!context) return err_set(e, "out of memory for a regular expression");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    p->code = pcre2_compile((PCRE2_SPTR)text, len, PCRE2_UTF | options, &code, &at, context);
    pcre2_compile_context_free(context);
    if (!p->code) {
        pcre2_get_error_message(code, why, sizeof why);
        return err_set(e, "the regular expression \"%s\" does not compile: %s", shown,
                       (const char *)why);
    }
    /* Without JIT (refused by some hardened systems) matching is slower, and the same. */
    (void)pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE);
    return true;
}

bool pattern_regex(struct pattern *p, const char *regex, struct err *e)
{
    struct strings to = {0};
    /* In Ruby's syntax ^ and $ always match at line ends. */
    bool ok = regex_translate(regex, &to, e) &&
              compile(p, regex, to.s, to.n - 1, PCRE2_UCP | PCRE2_MULTILINE, e);

    free(to.s);
    free(to.end);
    return ok;
}

bool pattern_literal(struct pattern *p, const char *text, struct err *e)
{
    if (!*text) return err_set(e, "an empty pattern");
    return compile(p, text, text, strlen(text), PCRE2_LITERAL, e);
}

void pattern_free(struct pattern *p)
{
    pcre2_code_free(p->code);
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

/* Every character of the class is a match of its own. */
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

bool pattern_matches(const struct pattern *p, struct matcher *m, const char *s, size_t n,
                     struct matches *out, struct err *e)
{
    size_t from = 0, done = 0, len;
    bool any = false; /* a match has ended at `done` */

    out->n = 0;
    if (p->is) return class_matches(p, s, n, out, e);
    while (from <= n) {
        int got =
            pcre2_match(p->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK, m->data, m->context);
        const PCRE2_SIZE *at = pcre2_get_ovector_pointer(m->data);

        if (got == PCRE2_ERROR_NOMATCH) break;
        if (got < 0) {
            PCRE2_UCHAR why[160];

            pcre2_get_error_message(got, why, sizeof why);
            return err_set(e, "the tokenizer's regular expression failed on the text: %s",
                           (const char *)why);
        }
        if (at[0] < done || at[1] < at[0])
            return err_set(e, "the tokenizer's regular expression matches backwards");
        if (at[0] == at[1] && any && at[0] == done) { /* empty, right behind the last match */
            if (from >= n) break;
            utf8_get(s + from, &len);
            from += len;
            continue;
        }
        if (done < at[0] && !add_match(out, done, at[0], false, e)) return false;
        if (!add_match(out, at[0], at[1], true, e)) return false;
        from = done = at[1];
        any = true;
    }
    return done == n || add_match(out, done, n, false, e);
}
