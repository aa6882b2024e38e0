/* choice.c - see choice.h. */
#include "train/score/choice.h"

/* Units that make about so many samples, at least one; 0 samples: `most`. */
static int64_t units_for(int64_t samples, const struct dataset *d, int64_t most)
{
    int64_t n = samples && d->n ? samples * d->units / d->n : most;

    if (n < 1) n = 1;
    return n < most ? n : most;
}

struct choice choice_of(const struct run *r, const struct eval_set *set)
{
    const struct dataset *d = &set->data;
    struct choice c = {.units = d->units};

    c.full = units_for(r->c.evaluate.samples, d, c.units);
    c.curve = units_for(r->c.evaluate.curve_samples, d, c.full);
    return c;
}

/* The i-th of n that are spread over `all` lies at i * all / n: whether `at` is one of these, and
 * which. */
static bool is_spread(int64_t all, int64_t n, int64_t at, int64_t *i)
{
    *i = (at * n + all - 1) / all;
    return *i < n && *i * all / n == at;
}

bool choice_has(const struct choice *c, int64_t unit, bool *curve)
{
    int64_t place, at;

    if (!is_spread(c->units, c->full, unit, &place)) return false;
    *curve = is_spread(c->full, c->curve, place, &at);
    return true;
}

int64_t choice_count(const struct choice *c, const struct dataset *d, bool curve)
{
    int64_t n = 0;
    bool both;

    for (int64_t i = 0; i < d->n; i++)
        n += choice_has(c, d->entries[i].unit, &both) && (both || !curve);
    return n;
}
