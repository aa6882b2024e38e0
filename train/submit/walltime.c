/* walltime.c - see walltime.h. */
#include "train/submit/walltime.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { DAY = 86400, HOUR = 3600, MINUTE = 60, PARTS = 3 };

/* Numbers of at most 9 digits with colons between them, nothing after them. Their count; 0 if the
 * text is another. */
static int split(const char *text, int64_t part[PARTS])
{
    for (int n = 0; n < PARTS; n++) {
        int digits = 0;
        part[n] = 0;
        for (; isdigit((unsigned char)*text); text++, digits++)
            if (digits < 9) part[n] = 10 * part[n] + (*text - '0');
        if (digits == 0 || digits > 9) return 0;
        if (!*text) return n + 1;
        if (*text++ != ':') return 0;
    }
    return 0;
}

bool walltime_parse(const char *text, int64_t *seconds)
{
    /* What the parts are worth: without days the first is minutes or, of three, hours. */
    static const int64_t alone[PARTS][PARTS] = {{MINUTE}, {MINUTE, 1}, {HOUR, MINUTE, 1}};
    static const int64_t after_days[PARTS] = {HOUR, MINUTE, 1};
    const char *dash = strchr(text, '-');
    int64_t part[PARTS], days[PARTS] = {0};
    char head[16];
    int n = split(dash ? dash + 1 : text, part);

    if (n == 0) return false;
    if (dash) {
        snprintf(head, sizeof head, "%.*s", (int)(dash - text), text);
        if (split(head, days) != 1) return false;
    }
    *seconds = days[0] * DAY;
    for (int i = 0; i < n; i++)
        *seconds += part[i] * (dash ? after_days[i] : alone[n - 1][i]);
    return *seconds > 0;
}

const char *walltime_text(char out[WALLTIME_TEXT], int64_t seconds)
{
    int used = 0;

    if (seconds >= DAY) used = snprintf(out, WALLTIME_TEXT, "%lld-", (long long)(seconds / DAY));
    snprintf(out + used, (size_t)(WALLTIME_TEXT - used), "%d:%02d:%02d",
             (int)(seconds % DAY / HOUR), (int)(seconds % HOUR / MINUTE), (int)(seconds % MINUTE));
    return out;
}
