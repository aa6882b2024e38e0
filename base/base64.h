/* base64.h - base64 (RFC 4648, section 4); read strictly: with padding, without blanks. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* Decodes n characters into newly allocated memory of *len bytes. The message says at which
 * character it fails. */
bool base64_decode(const char *s, size_t n, uint8_t **out, size_t *len, struct err *e);

/* n bytes as a text in new memory. */
char *base64_encode(const uint8_t *data, size_t n, struct err *e);

#endif
