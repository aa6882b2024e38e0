/* stored.h - a batch in a safetensors file, so that two programs can work on the same one: ids,
 * modality (0 text, 1 image) [T], begin [samples + 1], label_rows, label_ids [labels], features
 * [image tokens, tower width]. */
#ifndef BENCH_LIB_STORED_H
#define BENCH_LIB_STORED_H

#include "data/batch.h"
#include "model/forward.h"

struct stored_batch {
    struct st_file file;
    struct batch batch;
    struct tensor features; /* a leaf; without rows if there are no pictures */
    int32_t *positions;
    struct span *spans, *places;
};

bool stored_write(const char *path, const struct batch *b, const float *features, int64_t width,
                  struct err *e);
bool stored_open(struct stored_batch *s, const char *path, struct err *e);
void stored_close(struct stored_batch *s); /* fine on a zeroed struct */

#endif
