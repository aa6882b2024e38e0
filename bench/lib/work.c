/* work.c - arguments and facts of a work. */
#include "bench/lib/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *work_text(const struct work_args *a, const char *key, const char * or)
{
    size_t len = strlen(key);

    for (int i = 0; i < a->n; i++)
        if (strncmp(a->word[i], key, len) == 0 && a->word[i][len] == '=')
            return a->word[i] + len + 1;
    CHECK(or);
    return or ;
}

int64_t work_number(const struct work_args *a, const char *key, int64_t or)
{
    const char *text = work_text(a, key, or ? "" : NULL);

    return *text ? atoll(text) : or ;
}

void work_fact(const char *name, double value)
{
    printf("fact %s %.17g\n", name, value);
}
