/* batch.h - the tokens of some samples, back to back without padding: the plain struct that the
 * model takes, and a buffer that makes it of samples. */
#ifndef DATA_BATCH_H
#define DATA_BATCH_H

#include "base/err.h"
#include "base/modality.h"
#include "data/picture/shape.h"

#include <stddef.h>
#include <stdint.h>

struct batch {
    int64_t tokens;           /* T */
    const int32_t *ids;       /* [T]; an image's places hold the image token's id */
    int axes;                 /* of positions: 1, or 3 (time, height, width) */
    const int32_t *positions; /* [axes, T], counted from 0 in each sample */
    const int32_t *next;      /* [samples] position, on all axes, of the token after the sample;
                               * NULL: its number of tokens */
    int64_t samples;
    const int64_t *begin; /* [samples + 1]: sample s is rows [begin[s], begin[s + 1]) */
    int64_t n_spans;
    const struct span *spans; /* cover [0, T) in order; none crosses a sample boundary */
    int64_t labels;           /* rows whose next token is trained on or scored */
    const int32_t *label_rows,
        *label_ids; /* [labels]: rows, ascending, and the token that follows each */
    int64_t n_places;
    const struct span *places;          /* runs of rows filled by pictures, in order */
    int64_t image_tokens;               /* rows in these runs */
    int64_t images;                     /* in stream order */
    const struct picture_shape *shapes; /* [images] */
};

struct sample; /* data/sample.h */

/* A batch that owns its memory and is filled repeatedly. */
struct batch_buffer {
    struct batch batch;
    int32_t *ids, *positions, *next, *label_rows, *label_ids;
    int32_t *image; /* all samples', in order */
    int64_t *begin;
    struct span *spans, *places;
    struct picture_shape *shapes;
    size_t cap_ids, cap_positions, cap_next, cap_rows, cap_labels, cap_begin, cap_spans, cap_places;
    size_t cap_image, cap_shapes;
};
/* prompts: samples end where the last answer would begin, and there are no labels. */
bool batch_fill(struct batch_buffer *b, const struct sample *samples, int64_t n, bool prompts,
                struct err *e);
/* Leaves out the first skip[s] tokens of each sample s, fewer than it has: they are cached already,
 * and their labels go with them. The others keep their positions. No picture is cut: it is among
 * those left out, or behind them. */
void batch_skip(struct batch_buffer *b, const int64_t *skip);
void batch_free(struct batch_buffer *b); /* fine on a zeroed struct */

#endif
