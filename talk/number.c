/* number.c - see number.h. */
#include "talk/number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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

bool option_refuse(const struct refused *r, struct err *e)
{
    bool given = false;
    double unused;

    if (r->c == ':' && r->of < r->n_numbers) /* which says what is allowed */
        return number_read(&r->numbers[r->of], "", &given, &unused, e);
    if (r->c == ':') return err_set(e, "%s: its value is missing; see --help", r->arg);
    if (r->of && strncmp(r->arg, "--", 2) == 0 && strchr(r->arg, '='))
        return err_set(e, "%s: takes no value", r->arg);
    return err_set(e, "%s: unknown option; see --help", r->arg);
}
