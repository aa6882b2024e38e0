/* units.h - numbers for human readers, in tables and reports. Each function writes to `out` and
 * returns it. */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

enum { UNIT_TEXT = 40 };

const char *unit_count(char out[UNIT_TEXT], double n);         /* 1,234,567 */
const char *unit_bytes(char out[UNIT_TEXT], double bytes);     /* 1.50 GiB */
const char *unit_seconds(char out[UNIT_TEXT], double seconds); /* 4.2 s, 3m 07s, 2h 05m */
const char *unit_percent(char out[UNIT_TEXT], double share);   /* 93.10 %; a dash for NaN */

#endif
