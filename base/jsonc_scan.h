/* jsonc_scan.h - what jsonc.c needs of the scan; nobody else includes it. */
#ifndef BASE_JSONC_SCAN_H
#define BASE_JSONC_SCAN_H

#include "base/jsonc.h"

/* Blanks the comments of text[0..len) (text[len] is NUL) in place and checks it. *pos gets one note
 * per value, a parent before its children, in the text's order, with no item yet; the caller frees
 * it. On failure fills *e; *pos is not touched then. */
bool jsonc_scan(const char *name, char *text, size_t len, struct jsonc_pos **pos, size_t *npos,
                struct err *e);

/* The line, from 1, that the byte offset `at` is in. */
int jsonc_line_at(const char *text, size_t at);

#endif
