/* stream.c - see stream.h. All tokens are decoded each time: how a token is spelled may depend on
 * those before it, and a character may need several. */
#include "talk/stream.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes that are not UTF-8, or not yet, are decoded as this. */
static const char broken[] = "\xef\xbf\xbd";
enum { BROKEN = sizeof broken - 1 };

/* Without characters that tokens to come may complete. */
static size_t whole(const char *text, size_t n)
{
    while (n >= BROKEN && memcmp(text + n - BROKEN, broken, BROKEN) == 0)
        n -= BROKEN;
    return n;
}

/* Ends the text where the first stop text begins, if one is in it. */
static void find_stop(struct stream *s)
{
    for (size_t i = 0; i < s->n_stops; i++) {
        const char *at = memmem(s->text, s->n, s->stops[i], strlen(s->stops[i]));
        if (!at) continue;
        s->n = (size_t)(at - s->text);
        s->stopped = true;
    }
}

/* Whether a stop text begins with the n bytes at `at`. */
static bool may_begin(const struct stream *s, const char *at, size_t n)
{
    for (size_t i = 0; i < s->n_stops; i++)
        if (strncmp(s->stops[i], at, n) == 0) return true;
    return false;
}

/* How many of the first n bytes no stop text can still reach. */
static size_t certain(const struct stream *s, size_t n)
{
    for (size_t from = s->written; from < n; from++)
        if (may_begin(s, s->text + from, n - from)) return from;
    return n;
}

/* White space before an answer is none of it. */
static void trim_begin(struct stream *s)
{
    size_t begin = 0;

    while (begin < s->n && isspace((unsigned char)s->text[begin]))
        begin++;
    s->n -= begin;
    memmove(s->text, s->text + begin, s->n + 1); /* with the zero at its end */
}

static size_t without_space(const struct stream *s, size_t n)
{
    while (n > s->written && isspace((unsigned char)s->text[n - 1]))
        n--;
    return n;
}

/* A terminal gets no control characters but line breaks and tabs. */
static void put(const char *text, size_t n, FILE *out)
{
    const bool terminal = isatty(fileno(out));

    for (size_t i = 0; i < n; i++)
        if (!terminal || text[i] == '\n' || text[i] == '\t' || !iscntrl((unsigned char)text[i]))
            fputc(text[i], out);
}

static bool write_up_to(struct stream *s, size_t n, struct err *e)
{
    if (n <= s->written) return true;
    if (s->out) put(s->text + s->written, n - s->written, s->out);
    s->written = n;
    return !s->out || (fflush(s->out) == 0 && !ferror(s->out)) ||
           err_system(e, errno, "standard output: cannot be written");
}

bool stream_grow(struct stream *s, const int32_t *ids, int64_t n, struct err *e)
{
    size_t sure;

    free(s->text);
    s->text = tokenizer_decode(s->tokenizer, ids, (size_t)n, true, &s->n, e);
    if (!s->text) return false;
    trim_begin(s);
    find_stop(s);
    sure = s->stopped ? s->n : certain(s, whole(s->text, s->n));
    return write_up_to(s, without_space(s, sure), e);
}

bool stream_end(struct stream *s, struct err *e)
{
    if (!s->text) return (s->text = mem_strdup("", e)) != NULL;
    s->n = without_space(s, s->n);
    if (!write_up_to(s, s->n, e)) return false;
    s->text[s->n] = '\0';
    return true;
}

void stream_free(struct stream *s)
{
    free(s->text);
    memset(s, 0, sizeof *s);
}
