/* jsonc_scan.h - the scan, for jsonc.c only. */
#ifndef BASE_JSON_JSONC_SCAN_H
#define BASE_JSON_JSONC_SCAN_H

#include "base/json/jsonc.h"

/* Blanks the comments of doc->text[0..len) (text[len] is NUL) in place and checks the text against
 * the rules. Sets doc->pos to one position per value, a parent before its children, in text order,
 * with no item yet, and a zeroed one after them; the caller frees it. On failure fills *e and
 * leaves pos alone. */
bool jsonc_scan(struct jsonc *doc, size_t len, const struct jsonc_rules *rules, struct err *e);

/* Line and column of the byte at offset `at`. */
struct jsonc_place jsonc_place_at(const struct jsonc *doc, size_t at);

#endif
