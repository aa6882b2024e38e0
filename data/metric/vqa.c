/* vqa.c - the VQA score of an answer among people's: both normalised as EvalAI's scripts do, it is
 * the mean over the people of min(1, those among the others who said the same / 3). vqav2 leaves
 * people's answers as they are where they all agree. */
#include "data/metric/metric_parts.h"

#include <math.h>
#include <string.h>

/* ---- normalising ---- */

/* What is deleted where a blank stands beside some of it or a comma between digits, else made a
 * blank. */
static const char marks[] = ";/[]\"{}()=+\\_-><@`,?!";

/* Whether a comma, or a run of them, stands between digits. */
static bool has_digit_comma(struct points p)
{
    for (size_t i = 1, end; i < p.n; i = end + 1) {
        for (end = i; end < p.n && p.v[end] == ',';)
            end++;
        if (end > i && end < p.n && point_is_digit(p.v[i - 1]) && point_is_digit(p.v[end]))
            return true;
    }
    return false;
}

static bool beside_blank(struct points p, int32_t c)
{
    for (size_t i = 0; i + 1 < p.n; i++)
        if ((p.v[i] == c && p.v[i + 1] == ' ') || (p.v[i] == ' ' && p.v[i + 1] == c)) return true;
    return false;
}

/* The published code deletes no more than 32 full stops: a flag stands where a count belongs. */
enum { FULL_STOPS = 32 };

static struct points without_full_stops(struct work *w, struct points p)
{
    int32_t *out = work_new(w, p.n, sizeof *out);
    struct points left = {.v = out};
    int gone = 0;

    for (size_t i = 0; out && i < p.n; i++) {
        bool decimal = i + 1 < p.n && point_is_digit(p.v[i + 1]);
        if (p.v[i] == '.' && !decimal && gone < FULL_STOPS)
            gone++;
        else
            out[left.n++] = p.v[i];
    }
    return left;
}

static struct points punctuation(struct work *w, struct points p)
{
    bool comma = has_digit_comma(p);
    struct points out = p;

    for (const char *c = marks; *c; c++)
        out = points_replace(w, out, *c, comma || beside_blank(p, *c) ? 0 : ' ');
    return without_full_stops(w, out);
}

static const char *const numbers[][2] = {
    {"none", "0"}, {"zero", "0"}, {"one", "1"},   {"two", "2"},   {"three", "3"}, {"four", "4"},
    {"five", "5"}, {"six", "6"},  {"seven", "7"}, {"eight", "8"}, {"nine", "9"},  {"ten", "10"}};

/* A word that is one of these without one of its apostrophes becomes it. */
static const char contractions[] =
    "'ow's'at 'twas ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't "
    "hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am "
    "might've mightn't mightn't've must've mustn't needn't not've o'clock oughtn't shan't she'd've "
    "should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've "
    "someone'll someone's something'd something'd've something'll that's there'd there'd've "
    "there're there's they'd they'd've they'll they're they've wasn't we'd've we've weren't "
    "what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's "
    "who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've y'all'll "
    "you'd "
    "you'd've you'll you're you've ";

/* Whether `word` is s[n] without one apostrophe. */
static bool is_without_apostrophe(struct points word, const char *s, size_t n)
{
    size_t same = 0;

    if (word.n + 1 != n) return false;
    while (same < word.n && word.v[same] == s[same])
        same++;
    if (s[same] != '\'') return false;
    for (size_t i = same; i < word.n; i++)
        if (word.v[i] != s[i + 1]) return false;
    return true;
}

static struct points contraction(struct work *w, struct points word)
{
    if (points_are(word, "somebody'd")) return points_utf8(w, "somebodyd"); /* sic */
    for (const char *s = contractions, *end; (end = strchr(s, ' ')); s = end + 1)
        if (is_without_apostrophe(word, s, (size_t)(end - s)))
            return points_of(w, s, (size_t)(end - s));
    return word;
}

static struct points number_word(struct work *w, struct points word)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (points_are(word, numbers[i][0])) return points_utf8(w, numbers[i][1]);
    return word;
}

static struct points plain_words(struct work *w, struct points p)
{
    struct words words = points_split(w, points_lower(w, p));
    size_t n = 0;

    for (size_t i = 0; i < words.n; i++) {
        struct points word = number_word(w, words.v[i]);
        if (points_are(word, "a") || points_are(word, "an") || points_are(word, "the")) continue;
        words.v[n++] = contraction(w, word);
    }
    words.n = n;
    return points_join(w, words);
}

static struct points without_breaks(struct work *w, struct points p)
{
    return points_strip(points_replace(w, points_replace(w, p, '\n', ' '), '\t', ' '));
}

/* "'s" becomes " 's". */
static struct points detached(struct work *w, struct points p)
{
    int32_t *out = work_new(w, p.n, 2 * sizeof *out);
    struct points wide = {.v = out};

    for (size_t i = 0; out && i < p.n; i++) {
        if (p.v[i] == '\'' && i + 1 < p.n && p.v[i + 1] == 's') out[wide.n++] = ' ';
        out[wide.n++] = p.v[i];
    }
    return wide;
}

static struct points punctuation_and_words(struct work *w, struct points p)
{
    return plain_words(w, punctuation(w, p));
}

static struct points normal(struct work *w, struct points p)
{
    p = points_replace(w, points_replace(w, points_lower(w, p), ',', 0), '?', 0);
    return punctuation_and_words(w, without_breaks(w, points_strip(detached(w, p))));
}

/* ---- the score ---- */

/* min(1, same / 3) of doubles, in units of 2^-54. */
static uint64_t part(size_t same)
{
    static const uint64_t parts[] = {0, 6004799503160661, 2 * (uint64_t)6004799503160661};

    return same < 3 ? parts[same] : (uint64_t)1 << 54;
}

/* The mean over n people of whom `same` said the same, rounded once, as Python's statistics.mean
 * does: the sum is exact. The quotient has 9 more bits, cut behind the last: of up to 256 people
 * none is then where it would round to the other side (all were tried). */
static double score(size_t same, size_t n)
{
    uint64_t sum = (same ? same * part(same - 1) : 0) + (n - same) * part(same);

    return ldexp((double)((sum / n) << 9 | ((sum % n) << 9) / n), -63);
}

enum { PEOPLE = 256 }; /* a sum fits 64 bits; there are 10 */

static double score_among(struct work *w, struct points answer, const struct inputs *in,
                          struct points (*form)(struct work *w, struct points p))
{
    size_t same = 0;

    if (in->n_references > PEOPLE) {
        w->failed = !err_set(w->e, "%zu references; allowed: up to %d", in->n_references, PEOPLE);
        return 0;
    }
    for (size_t i = 0; i < in->n_references; i++)
        same += points_equal(answer, form(w, in->references[i]));
    return score(same, in->n_references);
}

static struct points normal_answer(struct work *w, const struct inputs *in)
{
    return normal(w, points_strip(in->answer));
}

static double among_normal(struct work *w, struct points answer, const struct inputs *in)
{
    return score_among(w, answer, in, normal);
}

const struct metric_rule vqa_rule = {.extract = normal_answer, .compare_all = among_normal};

/* ---- vqav2 ---- */

static bool all_agree(struct work *w, const struct inputs *in)
{
    struct points first = without_breaks(w, in->references[0]);

    for (size_t i = 1; i < in->n_references; i++)
        if (!points_equal(first, without_breaks(w, in->references[i]))) return false;
    return true;
}

static struct points normal_person(struct work *w, struct points p)
{
    return punctuation_and_words(w, without_breaks(w, p));
}

static struct points normal_twice(struct work *w, const struct inputs *in)
{
    struct points answer = normal_answer(w, in);

    return all_agree(w, in) ? answer : punctuation_and_words(w, answer);
}

static double among_people(struct work *w, struct points answer, const struct inputs *in)
{
    return score_among(w, answer, in, all_agree(w, in) ? without_breaks : normal_person);
}

const struct metric_rule vqav2_rule = {.extract = normal_twice, .compare_all = among_people};
