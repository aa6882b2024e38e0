/* mem.h - overflow-checked sizes, and allocation that reports failure instead of silently returning
 * NULL. Sizes from files go through size_mul; sizes computed by our own code may use mem_new
 * directly. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* *out = a * b, or false on overflow. */
bool size_mul(size_t *out, size_t a, size_t b);
bool size_add(size_t *out, size_t a, size_t b);

/* Zeroed memory for n objects of `size` bytes, aligned to 64 bytes; n = 0 gives one byte. Freed
 * with free(). On failure returns NULL and sets *e to the size and `what`. */
void *mem_new(size_t n, size_t size, const char *what, struct err *e);

/* Grows *array (elements of `size` bytes, capacity *cap) to at least `need` elements. The capacity
 * doubles, so that appending one by one takes linear time. New elements are not zeroed. On failure
 * the array is unchanged. */
bool mem_grow(void *array, size_t *cap, size_t need, size_t size, struct err *e);

/* A copy of s (or of its first n bytes, terminated); the caller frees it. */
char *mem_strdup(const char *s, struct err *e);
char *mem_strndup(const char *s, size_t n, struct err *e);

/* A string formatted as by printf; the caller frees it. */
char *mem_printf(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
