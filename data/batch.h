/* batch.h - the tokens of some samples, one behind the other, without padding: the plain struct
 * that the model takes. Who fills it owns the memory (dataset.c, generate.c). */
#ifndef DATA_BATCH_H
#define DATA_BATCH_H

#include "base/modality.h"

#include <stdint.h>

struct batch {
    int64_t tokens;           /* T */
    const int32_t *ids;       /* [T]; an image's places hold the image token's id */
    const int32_t *positions; /* [T], from 0 in each sample */
    int64_t samples;
    const int64_t *begin; /* [samples + 1] rows: sample s is [begin[s], begin[s + 1]) */
    int64_t n_spans;
    const struct span *spans; /* cover [0, T) in order; never across samples */
    int64_t labels;           /* rows whose next token is trained or scored */
    const int32_t *label_rows,
        *label_ids;       /* [labels], ascending rows, and the token that follows */
    int64_t images;       /* pictures in stream order */
    int64_t image_tokens; /* rows of modality IMAGE */
};

#endif
