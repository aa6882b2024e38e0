/* checkpoint.h - named arrays in an HDF5 file with a checksum, and a directory of such files of
 * which the newest complete one counts. What several processes save is a directory in that, with a
 * file of each: step-00000120/part-0-of-2.h5, step-00000120/part-1-of-2.h5.
 *
 * A file starts with 512 bytes of text (HDF5 calls them the user block), then comes plain HDF5:
 *     mha2mla checkpoint 1\n  bytes N\n  sha256 HEX\n  zeros up to 512
 *     /items/NAME   one contiguous dataset [rows, cols] per item, little-endian
 *     /meta         the caller's JSON, as bytes
 * N is the size of the whole file, HEX the SHA-256 of everything after the block: names, types,
 * shapes and data. It is verified before anything else is read, but nothing depends on that: the
 * rest is read as a file that anybody may have made (base/hdf5/h5in.h). To check one by hand:
 * tail -c +513 FILE | sha256sum. The same items and meta give the same bytes. */
#ifndef TRAIN_RECORD_CHECKPOINT_H
#define TRAIN_RECORD_CHECKPOINT_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum ckpt_type { CKPT_F32, CKPT_F64, CKPT_I64, CKPT_U8, CKPT_BF16, CKPT_TYPES };

struct ckpt_item {
    const char *name; /* unique; dots are fine, slashes are not */
    enum ckpt_type type;
    int64_t rows, cols; /* a vector is 1 x n; 0 rows or columns are fine, data may be NULL then */
    void *data;         /* rows * cols elements: read by a save, filled by a load */
    int64_t from, n; /* of a load, where n is not 0: the elements [from, from + n) alone go to data;
                         * where data is NULL, none */
};

/* Writes PATH atomically: on failure the old file is unchanged. The items' data is
 * written without a copy. */
bool checkpoint_save(const char *path, const struct ckpt_item *items, size_t n,
                     const char *meta_json, struct err *e);

/* Fills every item. The file must have exactly these names, types and shapes; the first difference
 * is reported. Checksum and shapes are verified before any item's memory is written: only if the
 * disk fails in between can *e be set with items partly filled. The caller frees *meta_json
 * (may be NULL); NULL on failure. */
bool checkpoint_load(const char *path, const struct ckpt_item *items, size_t n, char **meta_json,
                     struct err *e);

/* Saves DIR/step-00000120.h5, creating DIR (not those above) if needed, and then deletes all but
 * the newest `keep` (at least 1) checkpoints. Files of later steps are deleted too: they were
 * abandoned by resuming from an earlier step. Only one run at a time may write to a directory.
 * Several processes (cluster.h) save together, each its own items: all of them are there, or
 * none is. */
bool checkpoint_dir_save(const char *dir, int64_t step, const struct ckpt_item *items, size_t n,
                         const char *meta_json, int keep, struct err *e);

struct ckpt_found {
    int64_t step;  /* -1: the directory holds no checkpoint (or does not exist),
                    * nothing was loaded */
    char *meta;    /* as saved; NULL if step is -1 */
    char *warning; /* NULL, or why newer ones were skipped: a line for the log */
};

/* Items, and the memory of their names. */
struct ckpt_list {
    struct ckpt_item *items;
    size_t n;
    char *names;
};
void ckpt_list_free(struct ckpt_list *l); /* fine on a zeroed struct */

/* What the training knows of its checkpoints. fits: whether a whole file, named as one of
 * `step`, has the meta that one of that step must have: it may be another's, renamed or copied.
 * The message need not name it. list: what is in the file of process `part` of `parts`, and
 * where this process wants it. */
struct ckpt_check {
    bool (*fits)(const void *arg, int64_t step, const char *meta, struct err *e);
    bool (*list)(const void *arg, int part, int parts, struct ckpt_list *l, struct err *e);
    const void *arg;
};

/* Loads the newest checkpoint accepted by checkpoint_load and by `check` (NULL: none), and
 * removes leftovers of a killed save. `items` are those of a single file; what several processes
 * saved, however many, is found by check->list. If there are checkpoints but none can be loaded,
 * that is an error: silently starting over would throw the run away. The items' contents are
 * undefined then. */
bool checkpoint_dir_latest(const char *dir, const struct ckpt_item *items, size_t n,
                           const struct ckpt_check *check, struct ckpt_found *found, struct err *e);
void ckpt_found_free(struct ckpt_found *f); /* fine on a zeroed struct */

#endif
