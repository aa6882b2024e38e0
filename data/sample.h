/* sample.h - a conversation or a text as tokens, with its pictures' places among them. */
#ifndef DATA_SAMPLE_H
#define DATA_SAMPLE_H

#include "base/text.h"
#include "data/benchmark.h"
#include "data/picture/shape.h"
#include "data/template.h"

#include <stdint.h>

struct sample;

/* How pictures appear in a model's token stream. */
struct picture_places {
    int32_t id;        /* the token that fills a picture's places; -1: a model without pictures */
    int32_t around[2]; /* tokens before and after each picture; -1: none */
    struct picture_rule rule;
    int axes; /* axes of positions: 1 (or 0), or 3 */
    /* Fills the positions of the sample's first n tokens, out[axis * stride + token], and returns
     * the next one. NULL: positions are 0, 1, 2 ... */
    int32_t (*positions)(const struct sample *s, int64_t n, int32_t *out, int64_t stride);
};

/* A sample as tokens; for scoring, also the text of the last assistant turn and
 * where its prompt ends. */
struct sample {
    struct text id; /* as spelled in the file, or "line PLACE" */
    int64_t n;
    int32_t *ids;             /* [n] */
    uint8_t *trained;         /* [n] whether the model must produce this token */
    uint8_t *kind;            /* [n] enum token_kind */
    int64_t prompt;           /* tokens before the last assistant turn */
    struct text answer;       /* text of the last assistant turn; "" if there is none */
    struct benchmark by;      /* how it is scored, where the data set is */
    struct rendered rendered; /* the text tokenised, and the bytes trained on */
    int64_t images;
    const int32_t *image;               /* [images] indices into d->images, borrowed */
    struct picture_shape *shape;        /* [images] */
    const struct picture_places *rules; /* borrowed; NULL: positions are 0, 1, 2 ... */
};
/* Tokens that may follow a sample's prompt. */
struct continuation {
    int32_t *ids; /* [n], owned */
    int64_t n;    /* 0: there is none */
};

void sample_free(struct sample *s); /* fine on a zeroed struct */

#endif
