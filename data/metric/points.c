/* points.c - texts as code points: see metric_parts.h. */
#include "base/mem.h"
#include "data/metric/metric_parts.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct block {
    struct block *next;
    max_align_t v[];
};

void *work_new(struct work *w, size_t n, size_t size)
{
    struct block *b = NULL;
    size_t bytes;

    if (w->failed) return NULL;
    if (size_mul(&bytes, n, size) && size_add(&bytes, bytes, sizeof *b))
        b = mem_new(1, bytes, "scoring an answer", w->e);
    else
        err_set(w->e, "out of memory for scoring an answer");
    if (!b) {
        w->failed = true;
        return NULL;
    }
    b->next = w->blocks;
    w->blocks = b;
    return b->v;
}

void work_free(struct work *w)
{
    while (w->blocks) {
        struct block *next = w->blocks->next;
        free(w->blocks);
        w->blocks = next;
    }
}

/* ---- to and from UTF-8 ---- */

struct points points_of(struct work *w, const char *s, size_t n)
{
    int32_t *out = work_new(w, n, sizeof *out);
    struct points p = {.v = out};

    for (size_t i = 0, len; out && i < n; i += len) {
        bool valid;
        len = utf8_sequence(s + i, n - i, &valid);
        out[p.n++] = valid ? utf8_get(s + i, &len) : 0xfffd;
    }
    return p;
}

struct points points_utf8(struct work *w, const char *s)
{
    return points_of(w, s, strlen(s));
}

struct points points_letter(struct work *w, int32_t c)
{
    int32_t *out = work_new(w, 1, sizeof *out);

    if (!out) return (struct points){0};
    *out = c;
    return (struct points){out, 1};
}

bool points_text(struct points p, struct text *out, struct err *e)
{
    size_t n;

    *out = (struct text){0};
    if (!p.v) return true;
    if (!size_mul(&n, p.n, 4) || !size_add(&n, n, 1))
        return err_set(e, "out of memory for an extracted answer");
    out->s = mem_new(n, 1, "an extracted answer", e);
    for (size_t i = 0; out->s && i < p.n; i++)
        out->n += utf8_put(out->s + out->n, p.v[i]);
    return out->s;
}

/* ---- comparing and finding ---- */

bool points_equal(struct points a, struct points b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.v, b.v, a.n * sizeof *a.v) == 0);
}

bool points_are(struct points p, const char *ascii)
{
    if (strlen(ascii) != p.n) return false;
    for (size_t i = 0; i < p.n; i++)
        if (p.v[i] != ascii[i]) return false;
    return true;
}

struct points points_part(struct points p, size_t begin, size_t end)
{
    if (end > p.n) end = p.n;
    if (begin >= end || !p.v) return (struct points){p.v, 0};
    return (struct points){p.v + begin, end - begin};
}

static bool is_at(struct points p, size_t at, struct points what)
{
    return what.n == 0 || memcmp(p.v + at, what.v, what.n * sizeof *what.v) == 0;
}

int64_t points_find(struct points p, size_t from, struct points what)
{
    for (size_t i = from; what.n <= p.n && i <= p.n - what.n; i++)
        if (is_at(p, i, what)) return (int64_t)i;
    return -1;
}

int64_t points_rfind(struct points p, struct points what)
{
    for (size_t i = p.n + 1; i-- > what.n;)
        if (is_at(p, i - what.n, what)) return (int64_t)(i - what.n);
    return -1;
}

bool points_have(struct points p, struct points what)
{
    return points_find(p, 0, what) >= 0;
}

/* ---- cutting and joining ---- */

struct points points_strip(struct points p)
{
    size_t begin = 0, end = p.n;

    while (begin < end && point_is_space(p.v[begin]))
        begin++;
    while (begin < end && point_is_space(p.v[end - 1]))
        end--;
    return points_part(p, begin, end);
}

struct points points_rstrip_of(struct points p, int32_t c)
{
    while (p.n && p.v[p.n - 1] == c)
        p.n--;
    return p;
}

struct points points_strip_of(struct points p, int32_t c)
{
    size_t begin = 0;

    while (begin < p.n && p.v[begin] == c)
        begin++;
    return points_rstrip_of(points_part(p, begin, p.n), c);
}

struct words points_split(struct work *w, struct points p)
{
    struct words all = {.v = work_new(w, p.n / 2 + 1, sizeof *all.v)};

    for (size_t i = 0, end; all.v && i < p.n; i = end) {
        end = i + 1;
        if (point_is_space(p.v[i])) continue;
        while (end < p.n && !point_is_space(p.v[end]))
            end++;
        all.v[all.n++] = points_part(p, i, end);
    }
    return all;
}

struct points points_join(struct work *w, struct words all)
{
    size_t n = all.n;
    int32_t *out;

    for (size_t i = 0; i < all.n; i++)
        n += all.v[i].n;
    out = work_new(w, n, sizeof *out);
    if (!out) return (struct points){0};
    n = 0;
    for (size_t i = 0; i < all.n; i++) {
        if (i) out[n++] = ' ';
        for (size_t k = 0; k < all.v[i].n; k++)
            out[n++] = all.v[i].v[k];
    }
    return (struct points){out, n};
}

struct points points_without(struct work *w, struct points p, bool (*drop)(int32_t c))
{
    int32_t *out = work_new(w, p.n, sizeof *out);
    struct points left = {.v = out};

    for (size_t i = 0; out && i < p.n; i++)
        if (!drop(p.v[i])) out[left.n++] = p.v[i];
    return left;
}

struct points points_replace(struct work *w, struct points p, int32_t c, int32_t by)
{
    int32_t *out = work_new(w, p.n, sizeof *out);
    struct points new = {.v = out};

    for (size_t i = 0; out && i < p.n; i++)
        if (p.v[i] != c || by) out[new.n++] = p.v[i] == c ? by : p.v[i];
    return new;
}

/* ---- classes ---- */

bool point_is_space(int32_t c)
{
    return unicode_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

bool point_is_alpha(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);

    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool point_is_upper(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_LU;
}

bool point_is_word(int32_t c)
{
    return c == '_' || point_is_alpha(c) || unicode_is_number(c);
}

bool point_is_digit(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_ND;
}

bool point_is_ascii_punctuation(int32_t c)
{
    return c < 0x80 && unicode_is_punctuation(c);
}
