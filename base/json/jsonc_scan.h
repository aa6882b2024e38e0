/* jsonc_scan.h - what jsonc.c needs of the scan; nobody else includes it. */
#ifndef BASE_JSON_JSONC_SCAN_H
#define BASE_JSON_JSONC_SCAN_H

#include "base/json/jsonc.h"

/* Blanks the comments of doc->text[0..len) (text[len] is NUL) in place and checks it by the rules.
 * doc->pos gets one note per value, a parent before its children, in the text's order, with no item
 * yet, and a zeroed one behind them; the caller frees it. On failure fills *e; pos is not touched
 * then. */
bool jsonc_scan(struct jsonc *doc, size_t len, const struct jsonc_rules *rules, struct err *e);

/* The place of the byte at offset `at`. */
struct jsonc_place jsonc_place_at(const struct jsonc *doc, size_t at);

#endif
