/* mmbench.c - the option that an answer chooses, by MMBench's rules before its judge is asked:
 *   1. one of A to E, and no other of them, is a word; but an A among more than three words may be
 *      an article;
 *   2. for each shape in turn: one letter, and no other, has a word of that shape;
 *   3. lowered: the text of one option, and of no other, is in the answer.
 * Else it is undecided, and wrong here; mmbench-static then takes letter_chosen instead, as later
 * versions of lmms-eval do without a judge. */
#include "data/metric/metric_parts.h"

#include <string.h>

enum { LETTERS = 5, OPTIONS = 4 }; /* E means none of the options */

static const char *const shapes[][2] = {{"", ""},   {"", "."},  {"", ","},   {"", ":"}, {"", ")"},
                                        {"", ")."}, {"(", ")"}, {"(", ")."}, {":", ""}, {":", ","},
                                        {":", "."}, {":", ")"}, {":", ")."}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static bool has_shape(struct points word, const char *const shape[2], int32_t letter)
{
    size_t before = strlen(shape[0]), after = strlen(shape[1]);

    if (word.n != before + 1 + after) return false;
    return points_are(points_part(word, 0, before), shape[0]) && word.v[before] == letter &&
           points_are(points_part(word, before + 1, word.n), shape[1]);
}

/* The letter that has a word of this shape; 0 if none or several have. */
static int32_t only_letter(struct words words, const char *const shape[2])
{
    int32_t only = 0;

    for (int32_t c = 'A'; c < 'A' + LETTERS; c++) {
        bool there = false;
        for (size_t i = 0; i < words.n && !there; i++)
            there = has_shape(words.v[i], shape, c);
        if (there && only) return 0;
        if (there) only = c;
    }
    return only;
}

/* The letter of the only option whose text is there; 0: none, or several. */
static int32_t only_option(struct work *w, const struct inputs *in)
{
    struct points answer = points_lower(w, points_strip(in->answer));
    int32_t only = 0;

    for (size_t k = 0; k < in->n_choices && k < OPTIONS; k++) {
        if (!in->choices[k].v || !points_have(answer, points_lower(w, in->choices[k]))) continue;
        if (only) return 0;
        only = 'A' + (int32_t)k;
    }
    return only;
}

static struct points by_rules(struct work *w, const struct inputs *in)
{
    struct words words = points_split(w, in->answer);
    int32_t c = 0;

    for (int i = 0; i < SHAPES && !c; i++) {
        c = only_letter(words, shapes[i]);
        if (i == 0 && c == 'A' && words.n > 3) c = 0;
    }
    if (!c) c = only_option(w, in);
    return c ? points_letter(w, c) : (struct points){0};
}

const struct metric_rule mmbench_rule = {.extract = by_rules};

static struct points by_rules_or_letter(struct work *w, const struct inputs *in)
{
    struct points letter = by_rules(w, in);
    int32_t letters[8];
    size_t n = 0;

    if (letter.v) return letter;
    for (size_t k = 0; k < in->n_choices && k < OPTIONS; k++)
        if (in->choices[k].v) letters[n++] = 'A' + (int32_t)k;
    if (!n) /* the extractor's default: A to H */
        for (; n < 8; n++)
            letters[n] = 'A' + (int32_t)n;
    return letter_chosen(w, in->answer, letters, n);
}

const struct metric_rule mmbench_static_rule = {.extract = by_rules_or_letter};
