/* letter.c - the letter that a running text chooses, as lmms-eval's shared extractor reads it.
 * Every shape in which a letter stands somewhere has a rank: the highest wins, of equal ones the
 * last place. Reasoning that ends in its answer is read well; "Apple" is an A all the same. */
#include "data/metric/metric_parts.h"

/* White space, then each of these once, in this order, is taken from both ends. */
static const char stripped[] = ",.!?;:'\"";

/* A letter's last place in each shape. */
static const struct {
    const char *before, *after;
    int rank;
} shapes[] = {{"(", ")", 6}, {"", ".", 5}, {"", ":", 4}, {"", ")", 3}, {"", " ", 2}};
enum { SHAPES = sizeof shapes / sizeof *shapes, PHRASE = 7, END = 9, START = 10 };

/* A letter's first place behind the first place of each phrase; that of a longer phrase may be a
 * later one, so they all count. */
static const char *const phrases[] = {"the answer is",
                                      "answer is",
                                      "the correct answer is",
                                      "correct answer is",
                                      "the best answer is",
                                      "best answer is",
                                      "the correct option is",
                                      "correct option is",
                                      "the best option is",
                                      "best option is",
                                      "the choice is",
                                      "choice is",
                                      "the correct choice is",
                                      "correct choice is",
                                      "i choose",
                                      "i select",
                                      "i pick",
                                      "my answer is",
                                      "my choice is",
                                      "옵션",
                                      "정답은",
                                      "답은",
                                      "답:",
                                      "答案是",
                                      "答案为",
                                      "选",
                                      "答えは"};
enum { PHRASES = sizeof phrases / sizeof *phrases };

struct best {
    int rank;
    int64_t at;
    int32_t letter; /* 0: none yet */
};

static void offer(struct best *b, int rank, int64_t at, int32_t letter)
{
    if (at < 0) return;
    if (!b->letter || rank > b->rank || (rank == b->rank && at > b->at))
        *b = (struct best){rank, at, letter};
}

static void offer_shapes(struct best *b, struct points text, int32_t letter)
{
    for (int i = 0; i < SHAPES; i++) {
        int32_t shape[3];
        size_t n = 0;
        if (*shapes[i].before) shape[n++] = *shapes[i].before;
        shape[n++] = letter;
        shape[n++] = *shapes[i].after;
        offer(b, shapes[i].rank, points_rfind(text, (struct points){shape, n}), letter);
    }
}

/* `after[PHRASES]`: where each phrase ends, or -1. */
static void offer_phrases(struct best *b, struct points text, const int64_t *after, int32_t letter)
{
    for (int i = 0; i < PHRASES; i++)
        if (after[i] >= 0)
            offer(b, PHRASE, points_find(text, (size_t)after[i], (struct points){&letter, 1}),
                  letter);
}

/* A letter that is no part of a word. */
static void offer_ends(struct best *b, struct points text, int32_t letter)
{
    struct points p = points_strip(text);

    if (p.n == 0) return;
    if (p.v[0] == letter && (p.n == 1 || !point_is_alpha(p.v[1]))) offer(b, START, 0, letter);
    if (p.v[p.n - 1] == letter && (p.n == 1 || !point_is_alpha(p.v[p.n - 2])))
        offer(b, END, (int64_t)text.n - 1, letter);
}

static void find_phrases(struct work *w, struct points text, int64_t *after)
{
    struct points low = points_lower(w, text);

    for (int i = 0; i < PHRASES; i++) {
        struct points phrase = points_utf8(w, phrases[i]);
        after[i] = points_find(low, 0, phrase);
        if (after[i] >= 0) after[i] += (int64_t)phrase.n;
    }
}

/* The text without what is around it, between two blanks. */
static struct points padded(struct work *w, struct points text)
{
    struct points part[3] = {points_utf8(w, ""), points_strip(text), points_utf8(w, "")};

    for (const char *c = stripped; *c; c++)
        part[1] = points_strip_of(part[1], *c);
    return points_join(w, (struct words){part, 3});
}

struct points letter_chosen(struct work *w, struct points text, const int32_t *letters, size_t n)
{
    struct best best = {0};
    int64_t after[PHRASES];

    text = padded(w, text);
    find_phrases(w, text, after);
    for (size_t i = 0; i < n; i++) {
        offer_shapes(&best, text, letters[i]);
        offer_phrases(&best, text, after, letters[i]);
        offer_ends(&best, text, letters[i]);
    }
    for (size_t i = 0; i < n && best.rank == 0; i++)
        offer(&best, 0, points_rfind(text, (struct points){&letters[i], 1}), letters[i]);
    return best.letter ? points_letter(w, best.letter) : (struct points){0};
}
