/* yes_no.c - questions whose answer is yes or no:
 *   pope           the whole answer, lowered, is one of them
 *   pope-official  of the first sentence without commas, "No", "no" or "not" is a word: no; else
 *   yes mme            the whole, lowered and without full stops; a single y or n; else "yes", then
 *                  "no", in its first four characters */
#include "data/metric/metric_parts.h"

static struct points lowered(struct work *w, struct points reference)
{
    return points_strip(points_lower(w, reference));
}

static struct points whole(struct work *w, const struct inputs *in)
{
    return lowered(w, in->answer);
}

const struct metric_rule pope_rule = {.extract = whole, .reference = lowered};

/* Words are what stands between blanks; other white space is part of them. */
static struct points first_sentence(struct work *w, const struct inputs *in)
{
    struct points p = points_strip(in->answer);
    size_t end = 0;

    while (end < p.n && p.v[end] != '.')
        end++;
    p = points_replace(w, points_part(p, 0, end), ',', 0);
    for (size_t i = 0; i < p.n; i = end + 1) {
        for (end = i; end < p.n && p.v[end] != ' ';)
            end++;
        struct points word = points_part(p, i, end);
        if (points_are(word, "No") || points_are(word, "no") || points_are(word, "not"))
            return points_utf8(w, "no");
    }
    return points_utf8(w, "yes");
}

const struct metric_rule pope_official_rule = {.extract = first_sentence, .reference = lowered};

static struct points undotted(struct work *w, struct points p)
{
    return points_replace(w, lowered(w, p), '.', 0);
}

static struct points by_prefix(struct work *w, const struct inputs *in)
{
    struct points p = undotted(w, points_strip(in->answer)), start = points_part(p, 0, 4);

    if (points_are(p, "yes") || points_are(p, "no")) return p;
    if (p.n == 1) return points_utf8(w, *p.v == 'y' ? "yes" : *p.v == 'n' ? "no" : "other");
    if (points_have(start, points_utf8(w, "yes"))) return points_utf8(w, "yes");
    return points_utf8(w, points_have(start, points_utf8(w, "no")) ? "no" : "other");
}

const struct metric_rule mme_rule = {.extract = by_prefix, .reference = undotted};
