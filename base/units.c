/* units.c - counts with commas, byte sizes, durations, percentages. */
#include "base/units.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *unit_count(char out[UNIT_TEXT], double n)
{
    char digits[UNIT_TEXT];
    int len = snprintf(digits, sizeof digits, "%.0f", n), used = 0;

    if (!(fabs(n) < 1e15)) { /* commas would not help here */
        snprintf(out, UNIT_TEXT, "%g", n);
        return out;
    }
    for (int i = 0; i < len; i++) {
        if (i && digits[i - 1] != '-' && (len - i) % 3 == 0) out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

const char *unit_bytes(char out[UNIT_TEXT], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;

    for (; u + 1 < sizeof units / sizeof *units && bytes >= 1024; u++)
        bytes /= 1024;
    snprintf(out, UNIT_TEXT, u ? "%.2f %s" : "%.0f %s", bytes, units[u]);
    return out;
}

const char *unit_seconds(char out[UNIT_TEXT], double seconds)
{
    long long s = llround(seconds);

    if (seconds < 59.95)
        snprintf(out, UNIT_TEXT, "%.1f s", seconds);
    else if (s < 3600)
        snprintf(out, UNIT_TEXT, "%lldm %02llds", s / 60, s % 60);
    else
        snprintf(out, UNIT_TEXT, "%lldh %02lldm", s / 3600, s % 3600 / 60);
    return out;
}

const char *unit_percent(char out[UNIT_TEXT], double share)
{
    if (isnan(share))
        snprintf(out, UNIT_TEXT, "-");
    else
        snprintf(out, UNIT_TEXT, "%.2f %%", 100 * share);
    return out;
}
