/* metric_parts.h - shared by the metrics' files, and private to them. They follow Python's strings,
 * so texts are arrays of code points here, and functions of Python have their names.
 *
 *   metric.c   the table, one answer     yes_no.c       pope, pope-official, mme
 *   figures.c  figures of a set          mmbench.c      mmbench
 *   error.c    means, standard errors    letter.c       a letter in running text
 *   compare.c  a figure's error, and of two models
 *   points.c   code points               realworldqa.c  realworldqa
 *   lower.c    lower and upper case      relaxed.c      relaxed
 *   number.c   Python's float            anls.c         anls
 *   exact.c    exact, ai2d, seed,        vqa.c          vqa, vqav2
 *              scienceqa                 mmmu.c         mmmu
 *   measured.c choice, tokens: by likelihood */
#ifndef DATA_METRIC_METRIC_PARTS_H
#define DATA_METRIC_METRIC_PARTS_H

#include "data/metric/metric.h"

#include <stddef.h>

/* ---- memory of one call: freed together at its end, so that a rule reads like its definition.
 * After a failure (`failed`, *e says why) functions return nothing of use, and no harm. ---- */

struct work {
    struct block *blocks;
    struct err *e;
    bool failed;
};
void *work_new(struct work *w, size_t n, size_t size); /* zeroed; NULL: failed */
void work_free(struct work *w);

/* ---- code points; borrowed from the work's memory ---- */

struct points {
    const int32_t *v; /* [n]; NULL: there is no text, which is not an empty one */
    size_t n;
};
struct words {
    struct points *v;
    size_t n;
};

struct points points_of(struct work *w, const char *s, size_t n);
struct points points_utf8(struct work *w, const char *s); /* a literal */
struct points points_letter(struct work *w, int32_t c);
bool points_text(struct points p, struct text *out, struct err *e); /* the caller frees out->s */

bool points_equal(struct points a, struct points b);
bool points_are(struct points p, const char *ascii);
struct points points_part(struct points p, size_t begin, size_t end); /* no further than p's end */

/* Where `what` begins in p at or after `from`, or its last place; -1: nowhere. An empty text is
 * everywhere. */
int64_t points_find(struct points p, size_t from, struct points what);
int64_t points_rfind(struct points p, struct points what);
bool points_have(struct points p, struct points what);

struct points points_strip(struct points p);                 /* white space at both ends */
struct points points_strip_of(struct points p, int32_t c);   /* one character instead */
struct points points_rstrip_of(struct points p, int32_t c);  /* at the end only */
struct words points_split(struct work *w, struct points p);  /* at white space, without it */
struct points points_join(struct work *w, struct words all); /* with one blank between */
struct points points_without(struct work *w, struct points p, bool (*drop)(int32_t c));
/* Each c becomes a blank, or nothing if `by` is 0. */
struct points points_replace(struct work *w, struct points p, int32_t c, int32_t by);
struct points points_lower(struct work *w, struct points p);
size_t points_upper_length(struct points p); /* of p in upper case: "ss" for sharp s */

/* Python's classes of characters. */
bool point_is_space(int32_t c); /* also 0x1c to 0x1f */
bool point_is_alpha(int32_t c);
bool point_is_upper(int32_t c);
bool point_is_word(int32_t c); /* \w: letters, numbers, '_', no marks */
bool point_is_digit(int32_t c);
bool point_is_ascii_punctuation(int32_t c);

/* float(p): false where Python raises ValueError. */
bool points_float(struct work *w, struct points p, double *out);

/* ---- rules ---- */

struct inputs {
    struct points answer; /* as given: metrics that strip do so themselves */
    const struct points *references, *choices;
    size_t n_references, n_choices;
    struct points question;
};

struct metric_rule {
    /* What is compared; v NULL: the answer says nothing. */
    struct points (*extract)(struct work *w, const struct inputs *in);
    /* The score against one reference; NULL: 1 if both are equal. */
    double (*compare)(struct work *w, struct points extracted, struct points reference);
    /* If set, instead: against all of them. */
    double (*compare_all)(struct work *w, struct points extracted, const struct inputs *in);
    /* If references are yes or no: one as it is compared. */
    struct points (*reference)(struct work *w, struct points reference);
};
extern const struct metric_rule exact_rule, ai2d_rule, seed_rule, scienceqa_rule,
    scienceqa_letter_rule, realworldqa_rule, realworldqa_letter_rule, pope_rule, pope_official_rule,
    mme_rule, mmbench_rule, mmbench_static_rule, relaxed_rule, anls_rule, vqa_rule, vqav2_rule,
    mmmu_rule;

struct points answer_stripped(struct work *w, const struct inputs *in); /* an `extract` */
double exact_equal(struct work *w, struct points a, struct points b);   /* a `compare` */

/* The letter that a running text chooses, as lmms-eval's shared extractor reads it; v NULL:
 * none. */
struct points letter_chosen(struct work *w, struct points text, const int32_t *letters, size_t n);

/* ---- figures ---- */

extern const struct metric_figure exact_figures[], seed_figures[], pope_figures[], mme_figures[],
    mmbench_figures[], relaxed_figures[], anls_figures[], mmmu_figures[], choice_figures[],
    tokens_figures[];

/* Elements of a list, to be put in groups. */
struct member {
    const char *kind; /* NULL: none */
    int64_t key;
    size_t at, first; /* its place in the list; that of the first of its group */
};
/* Groups members of equal kind and key: groups by their first member, members by place. */
void members_group(struct member *m, size_t n);

#endif
