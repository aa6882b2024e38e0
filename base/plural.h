/* plural.h - the end of a counted noun: "%lld sample%s", n, plural(n). */
#ifndef BASE_PLURAL_H
#define BASE_PLURAL_H

#include <stdint.h>

static inline const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

#endif
