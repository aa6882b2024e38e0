/* mmmu.c - MMMU's questions of several options. Shapes in turn, of which the first counts that some
 * letter has: "(A)", "A ", "A."; then, in more than five words, the text of an option. Where
 * several letters have it: the last one by "(A)", by " A " (for both of the other shapes) or by
 * text. The published code draws a letter where there is none; that is wrong here. */
#include "data/metric/metric_parts.h"

static const char stripped[] = ",.!?;:'";

enum { SHAPES = 3 };
static const char *const shapes[SHAPES] = {"(*)", "* ", "*."}; /* *: the letter */
static const char *const places[SHAPES] = {"(*)", " * ", " * "};

/* Where `shape` of this letter is last; -1: nowhere. */
static int64_t last_shape(struct points p, const char *shape, int32_t letter)
{
    int32_t v[4];
    size_t n = 0;

    for (; shape[n]; n++)
        v[n] = shape[n] == '*' ? letter : shape[n];
    return points_rfind(p, (struct points){v, n});
}

/* The option of the shape that is last by `place`; of several without a place, the first. -1: no
 * letter has the shape. */
static int64_t by_shape(struct points p, size_t options, int s)
{
    int64_t best = -1, at = -1;

    for (size_t k = 0; k < options; k++) {
        int32_t letter = 'A' + (int32_t)k;
        int64_t place = last_shape(p, places[s], letter);
        if (last_shape(p, shapes[s], letter) < 0 || (best >= 0 && place <= at)) continue;
        best = (int64_t)k;
        at = place;
    }
    return best;
}

static int64_t by_text(struct work *w, struct points p, const struct inputs *in)
{
    struct points low = points_lower(w, p);
    int64_t best = -1, at = -1;

    for (size_t k = 0; k < in->n_choices; k++) {
        int64_t place = in->choices[k].v ? points_rfind(low, points_lower(w, in->choices[k])) : -1;
        if (place <= at) continue;
        best = (int64_t)k;
        at = place;
    }
    return best;
}

static struct points option_chosen(struct work *w, const struct inputs *in)
{
    struct points part[3] = {points_utf8(w, ""), points_strip(in->answer), points_utf8(w, "")}, p;
    int64_t k = -1;

    for (const char *c = stripped; *c; c++)
        part[1] = points_strip_of(part[1], *c);
    p = points_join(w, (struct words){part, 3});
    for (int s = 0; s < SHAPES && k < 0; s++)
        k = by_shape(p, in->n_choices, s);
    if (k < 0 && points_split(w, p).n > 5) k = by_text(w, p, in);
    if (k < 0) return (struct points){0};
    return points_letter(w, 'A' + (int32_t)k);
}

const struct metric_rule mmmu_rule = {.extract = option_chosen};
