/* run.h - a run: its settings, its directory, its data and what all steps share. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "data/dataset.h"
#include "data/processor.h"
#include "data/store.h"
#include "model/forward.h"
#include "train/config.h"
#include "train/metrics.h"

/* What the model sees of pictures: features of the frozen tower, or pixels where the tower itself
 * is trained. A row of the store is one picture. */
enum { PICTURE_GROUP = 32 }; /* pictures decoded, and taken through the tower, at a time */
struct picture_input {
    struct store store;
    bool open, pixels;
    int64_t tokens; /* rows of the graph's tensor a picture has (1 where pixels) */
    int64_t width;  /* of such a row */
    int64_t again;  /* rows that the cache had damaged */
    float *rows;    /* of the current batch */
    size_t cap;
    int64_t damaged;         /* pictures that were read nevertheless */
    char first_damaged[512]; /* path, damage */
};

struct eval_set {
    const char *name;
    struct dataset data;
};

struct run {
    struct config c;
    struct config was;  /* where it is resumed: the settings when it was last at work */
    bool dry;           /* nothing is written */
    bool resumed;       /* the directory held the run already */
    int64_t only_point; /* of the sweep; -1: all */
    int lock;
    size_t memory_limit; /* bytes */
    size_t room;         /* the part of it that a training step's graph is to stay within */
    struct tape *tape;
    struct tokenizer *tokenizer;
    const struct chat_template *chat;
    int32_t *stop; /* ids that end an answer */
    int64_t n_stop;
    char *length_from; /* what sets the samples' greatest length, for messages */
    struct processor processor;
    struct dataset train;
    struct eval_set *eval;
    int64_t n_eval;
    struct picture_input pictures;
    bool pictures_recorded; /* run_record_pictures was here */
    struct metrics metrics;
};

/* Opens what needs no model. A directory that holds a run is taken: locked, its settings compared
 * with these, its log opened. A new run has none until run_record. */
bool run_open(struct run *r, bool resume, struct err *e);
/* Once the data are open and nothing speaks against the run: takes the directory of a new one, so
 * that one that is refused leaves none, and leaves config.json and, for a later --resume,
 * inputs.json: the sums of the samples and of the model that was given (or NULL). Fails where they
 * have changed since the run began. */
bool run_record(struct run *r, const struct model *given, struct err *e);
/* Threads, memory and tape alone: for a dry run, which leaves nothing behind. */
bool run_limits(struct run *r, struct err *e);
void run_close(struct run *r); /* fine on a zeroed struct */

/* "DIR/..." in new memory. */
char *run_path(const struct run *r, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Opens tokenizer, processor and the sets of samples for a model of these settings; logs what was
 * left out, and fails where that is more than data.max_bad. */
bool run_open_data(struct run *r, const struct hf_config *cfg, struct err *e);
void run_close_data(struct run *r);

/* The error of a run that is refused for the samples that were left out. It leaves left_out.txt
 * where there are some, which the message's end says: without it, the samples could not be found.
 * Of a run that has not begun its first step nothing else is left, so that it can be started again.
 */
bool run_refuse(const struct run *r, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Says what was left out of a set, and fails where that is more than data.max_bad. */
bool run_report_drops(const struct run *r, const struct dataset *d, const char *what,
                      struct err *e);

/* Writes left_out.txt into the run's directory: every sample that was left out, a line each.
 * Without any there is no such file. */
bool run_name_left_out(const struct run *r, struct err *e);

/* Gives every picture of all sets its key, the SHA-256 of its file; which cannot be read is marked
 * bad and logged. */
bool run_name_pictures(struct run *r, struct err *e);

/* RUN/pictures.sha256 lists every picture with its key, as sha256sum does: "KEY  PATH" a line, with
 * dashes for the key of one that could not be read. Compares the pictures with it where it is
 * there: the first that is another one now is named. */
bool run_check_pictures(struct run *r, struct err *e);
/* Writes it where it is not there. */
bool run_record_pictures(struct run *r, struct err *e);

/* Makes sure that every picture of all sets is in the store, decoding and, for features, running
 * the tower of `m` where one is missing; samples whose pictures turn out bad are left out. */
bool run_open_pictures(struct run *r, struct model *m, bool pixels, struct err *e);
void run_close_pictures(struct run *r);

/* The graph's input for a batch's pictures: features, or the tower applied to pixels. NULL in
 * *features where the batch has none. What it points to is good until the next call. */
bool run_pictures(struct run *r, struct model *m, const struct dataset *d,
                  const struct batch_buffer *b, struct tensor **features, struct err *e);

bool run_has_step(const struct run *r, enum step step);

#endif
