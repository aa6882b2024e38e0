/* exact.c - metrics that compare words or letters:
 *   exact             both lowered and without ASCII punctuation are equal
 *   ai2d              the letter of an answer that begins with "B.", else the answer; then exact
 *   seed              the answer's first character, whatever it is, lowered
 *   scienceqa         both lowered are equal
 *   scienceqa-letter  or, as later versions of lmms-eval have it, the letter of "B. ..." is */
#include "data/metric/metric_parts.h"

struct points answer_stripped(struct work *w, const struct inputs *in)
{
    (void)w;
    return points_strip(in->answer);
}

static struct points bare(struct work *w, struct points p)
{
    return points_without(w, points_lower(w, p), point_is_ascii_punctuation);
}

double exact_equal(struct work *w, struct points a, struct points b)
{
    return points_equal(bare(w, a), bare(w, b));
}

const struct metric_rule exact_rule = {.extract = answer_stripped, .compare = exact_equal};

/* ^\s*([A-Z])\. */
static struct points leading_letter(struct work *w, const struct inputs *in)
{
    struct points p = in->answer;
    size_t i = 0;

    (void)w;
    while (i < p.n && point_is_space(p.v[i]))
        i++;
    if (i + 1 < p.n && p.v[i] >= 'A' && p.v[i] <= 'Z' && p.v[i + 1] == '.')
        return points_part(p, i, i + 1);
    return points_strip(p);
}

const struct metric_rule ai2d_rule = {.extract = leading_letter, .compare = exact_equal};

static struct points first_character(struct work *w, const struct inputs *in)
{
    (void)w;
    return points_part(points_strip(in->answer), 0, 1);
}

static double equal_lowered(struct work *w, struct points a, struct points b)
{
    return points_equal(points_strip(points_lower(w, a)), points_strip(points_lower(w, b)));
}

const struct metric_rule seed_rule = {.extract = first_character, .compare = equal_lowered};
const struct metric_rule scienceqa_rule = {.extract = answer_stripped, .compare = equal_lowered};

static double equal_or_letter(struct work *w, struct points a, struct points b)
{
    if (equal_lowered(w, a, b) > 0) return 1;
    if (a.n < 2 || a.v[1] != '.' || !point_is_upper(a.v[0])) return 0;
    return equal_lowered(w, points_part(a, 0, 1), b);
}

const struct metric_rule scienceqa_letter_rule = {.extract = answer_stripped,
                                                  .compare = equal_or_letter};
