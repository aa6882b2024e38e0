/* number.c - see number.h. */
#include "talk/number.h"

#include <math.h>
#include <stdlib.h>

bool number_read(const struct number *n, const char *text, bool *given, double *value,
                 struct err *e)
{
    char *end;
    const double v = strtod(text, &end);

    if (*given) return err_set(e, "%s is given twice", n->name);
    if (!*text || *end || !(v >= n->min && v <= n->max) || (n->whole && v != floor(v)))
        return err_set(e, "%s: a %snumber from %.16g to %.16g is needed, found \"%.60s\"", n->name,
                       n->whole ? "whole " : "", n->min, n->max, text);
    *value = v;
    *given = true;
    return true;
}
