/* anls.c - DocVQA's average normalised Levenshtein similarity. Both texts lowered, white space made
 * single blanks; but their lengths are taken before that, in upper case:
 *     1 - distance / max(length of the reference, length of the answer), below 0.5: 0.
 * The best of the references counts. */
#include "data/metric/metric_parts.h"

static struct points normal(struct work *w, struct points p)
{
    return points_join(w, points_split(w, points_lower(w, p)));
}

static size_t least(size_t a, size_t b, size_t c)
{
    a = a < b ? a : b;
    return a < c ? a : c;
}

/* How many characters must be inserted, deleted or replaced. row[i]: from a's first i characters to
 * those of b that were looked at. */
static size_t levenshtein(struct work *w, struct points a, struct points b)
{
    size_t *row = work_new(w, a.n + 1, sizeof *row);

    if (!row) return 0;
    for (size_t i = 0; i <= a.n; i++)
        row[i] = i;
    for (size_t k = 0; k < b.n; k++) {
        size_t corner = row[0]++; /* the last row's left neighbour */
        for (size_t i = 0; i < a.n; i++) {
            size_t above = row[i + 1];
            row[i + 1] = a.v[i] == b.v[k] ? corner : 1 + least(corner, above, row[i]);
            corner = above;
        }
    }
    return row[a.n];
}

static double similarity(struct work *w, struct points answer, struct points reference)
{
    size_t d = levenshtein(w, normal(w, answer), normal(w, reference));
    size_t a = points_upper_length(answer), r = points_upper_length(reference);
    size_t longer = a > r ? a : r;
    double value = 1 - (longer ? (double)d / (double)longer : 0);

    return value < 0.5 ? 0 : value;
}

const struct metric_rule anls_rule = {.extract = answer_stripped, .compare = similarity};
