/* tensorboard.h - event files for TensorBoard: scalars and texts over steps.
 *
 * A file is a sequence of TFRecords, integers little-endian:
 *     u64 length | u32 masked CRC-32C of the length | data | u32 masked CRC-32C of the data
 * and the data is one Event message of tensorflow/core/util/event.proto, encoded here. */
#ifndef TRAIN_RECORD_TENSORBOARD_H
#define TRAIN_RECORD_TENSORBOARD_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct tb {
    FILE *fp;
    char *path;
};

/* Starts a new event file in dir, which is created if missing; its name sorts after the existing
 * ones. first_step is the first step that this file will hold: 0, or where a resumed run continues.
 * TensorBoard then ignores whatever earlier files in dir have from that step on; so every series
 * that starts again at step 0 needs a directory of its own. wall_time is in seconds since 1970. On
 * failure *tb is zeroed. */
bool tb_open(struct tb *tb, const char *dir, int64_t first_step, double wall_time, struct err *e);

/* Adds a point to the series `tag`; a slash in the tag makes a section ("train/loss"). The value is
 * stored as fp32. The record has been handed to the system on return. */
bool tb_scalar(struct tb *tb, const char *tag, int64_t step, double wall_time, double value,
               struct err *e);

void tb_close(struct tb *tb); /* fine on a zeroed struct */

/* CRC-32C (Castagnoli), as in RFC 3720 B.4. */
uint32_t tb_crc32c(const void *data, size_t len);

#endif
