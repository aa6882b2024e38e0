/* mem.c - overflow-checked sizes, and allocation. */
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool size_mul(size_t *out, size_t a, size_t b)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool size_add(size_t *out, size_t a, size_t b)
{
    return !__builtin_add_overflow(a, b, out);
}

enum { HUGE_PAGE = 2 << 20 };

/* What is large is read and written from end to end, by tensors' worth: with pages of 2 MiB the CPU
 * finds them without walking tables. aligned_alloc wants multiples of the alignment; what is added
 * here is never touched. */
static void *aligned_new(size_t bytes)
{
    size_t whole;

    if (bytes < 2 * HUGE_PAGE) return aligned_alloc(64, bytes);
    if (!size_add(&whole, bytes, HUGE_PAGE - 1)) return NULL;
    void *p = aligned_alloc(HUGE_PAGE, whole / HUGE_PAGE * HUGE_PAGE);
    if (p) madvise(p, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* a hint */
    return p;
}

void *mem_new(size_t n, size_t size, const char *what, struct err *e)
{
    size_t bytes;
    void *p = NULL;

    if (!size_mul(&bytes, n ? n : 1, size) || !size_add(&bytes, bytes, 63)) {
        err_set(e, "out of memory: %zu x %zu bytes for %s", n, size, what);
        return NULL;
    }
    bytes &= ~(size_t)63;
    p = aligned_new(bytes);
    if (!p) {
        err_set(e, "out of memory: %zu bytes for %s", bytes, what);
        return NULL;
    }
    return memset(p, 0, bytes);
}

bool mem_grow(void *array, size_t *cap, size_t need, size_t size, struct err *e)
{
    void **slot = array;
    size_t grown = *cap < 16 ? 16 : *cap, bytes;
    void *p;

    if (need <= *cap) return true;
    while (grown < need) {
        if (!size_mul(&grown, grown, 2)) return err_set(e, "out of memory: %zu elements", need);
    }
    if (!size_mul(&bytes, grown, size)) return err_set(e, "out of memory: %zu elements", need);
    p = realloc(*slot, bytes);
    if (!p) return err_set(e, "out of memory: %zu bytes", bytes);
    *slot = p;
    *cap = grown;
    return true;
}

char *mem_strndup(const char *s, size_t n, struct err *e)
{
    char *p = malloc(n + 1);

    if (!p) {
        err_set(e, "out of memory: %zu bytes", n + 1);
        return NULL;
    }
    memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

char *mem_strdup(const char *s, struct err *e)
{
    return mem_strndup(s, strlen(s), e);
}

char *mem_printf(struct err *e, const char *fmt, ...)
{
    va_list ap;
    char *p;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    p = n < 0 ? NULL : malloc((size_t)n + 1);
    if (!p) {
        err_set(e, "out of memory: a string of %d bytes", n);
        return NULL;
    }
    va_start(ap, fmt);
    n = vsnprintf(p, (size_t)n + 1, fmt, ap);
    va_end(ap);
    if (n >= 0) return p;
    free(p); /* a format with many positional arguments allocates memory of its own */
    err_set(e, "out of memory: a string");
    return NULL;
}
