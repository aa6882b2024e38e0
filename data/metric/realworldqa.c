/* realworldqa.c - an answer to a question that holds its own options:
 *   realworldqa         1. a number word, and nothing else, becomes its digits;  2. punctuation is
 *                       deleted;  3. if the text of an option is in what is left, the answer is its
 *                       letter;  4. exact.
 *   realworldqa-letter  as later versions of lmms-eval have it: a reference A to D is compared with
 *                       the letter that the answer chooses, any other without
 *                       case and full stops */
#include "data/metric/metric_parts.h"

#include <stdio.h>

static const char *const numbers[] = {"zero", "one",   "two",   "three", "four", "five",
                                      "six",  "seven", "eight", "nine",  "ten"};

static struct points number_as_digits(struct work *w, struct points answer)
{
    struct points low = points_lower(w, answer);
    char digits[16];

    for (int i = 0; i < (int)(sizeof numbers / sizeof *numbers); i++) {
        if (!points_are(low, numbers[i])) continue;
        snprintf(digits, sizeof digits, "%d", i);
        return points_utf8(w, digits);
    }
    return answer;
}

/* ---- options ---- */

/* Whether \b[A-Z]\.\s+ matches at p.v[i], and where it ends. */
static bool option_mark(struct points p, size_t i, size_t *end)
{
    if (i + 2 >= p.n || p.v[i] < 'A' || p.v[i] > 'Z' || p.v[i + 1] != '.') return false;
    if (!point_is_space(p.v[i + 2]) || (i && point_is_word(p.v[i - 1]))) return false;
    for (*end = i + 3; *end < p.n && point_is_space(p.v[*end]);)
        ++*end;
    return true;
}

/* What follows each mark on its line. Space after a mark may include line breaks; the n-th is
 * option n, whatever its letter. */
static struct words options_of(struct work *w, const struct inputs *in)
{
    struct points p = in->question;
    struct words all = {.v = work_new(w, in->n_choices + p.n / 3, sizeof *all.v)};

    for (size_t k = 0; all.v && k < in->n_choices; k++)
        all.v[all.n++] = in->choices[k];
    if (all.n) return all;
    for (size_t i = 0, end; all.v && i < p.n; i++) {
        if (!option_mark(p, i, &end)) continue;
        for (i = end; i < p.n && p.v[i] != '\n';)
            i++;
        all.v[all.n++] = points_strip(points_part(p, end, i));
    }
    return all;
}

/* The option whose text is leftmost, of several at one place the first; of options of equal texts
 * that is the last. -1: none is there. */
static int64_t option_in(struct points p, struct words options)
{
    int64_t best = -1, at = 0;

    for (size_t k = 0; k < options.n; k++) {
        int64_t here = options.v[k].v ? points_find(p, 0, options.v[k]) : -1;
        bool same = best >= 0 && points_equal(options.v[k], options.v[best]);
        if (here < 0 || (best >= 0 && here >= at && !same)) continue;
        best = (int64_t)k;
        at = here;
    }
    return best;
}

static bool neither_word_nor_space(int32_t c)
{
    return !point_is_word(c) && !point_is_space(c);
}

static struct points option_or_answer(struct work *w, const struct inputs *in)
{
    struct points p = number_as_digits(w, in->answer);
    int64_t k;

    p = points_strip(points_without(w, p, neither_word_nor_space));
    k = option_in(p, options_of(w, in));
    return k < 0 ? p : points_letter(w, 'A' + (int32_t)k);
}

const struct metric_rule realworldqa_rule = {.extract = option_or_answer, .compare = exact_equal};

/* ---- later versions ---- */

static double letter_or_text(struct work *w, struct points answer, struct points reference)
{
    static const int32_t letters[] = {'A', 'B', 'C', 'D'};
    struct points want = points_lower(w, points_strip(reference));

    if (want.n == 1 && *want.v >= 'a' && *want.v <= 'd') {
        struct points got = letter_chosen(w, answer, letters, 4);
        return got.v && *got.v == *want.v - 'a' + 'A';
    }
    answer = points_strip(points_lower(w, answer));
    return points_equal(points_rstrip_of(answer, '.'), want);
}

const struct metric_rule realworldqa_letter_rule = {.extract = answer_stripped,
                                                    .compare = letter_or_text};
