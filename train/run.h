/* run.h - a run: its settings, its directory (run.c), its data (run_data.c), its pictures
 * (pictures.c, picture_sums.c), and whatever all steps share. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "data/dataset.h"
#include "data/picture/processor.h"
#include "data/store.h"
#include "model/forward.h"
#include "train/config.h"
#include "train/outputs.h"
#include "train/record/metrics.h"

/* The model's image input: features of the frozen tower, or pixels if the tower itself is trained.
 * One entry of the store is one picture. */
enum { PICTURE_GROUP = 32 };       /* pictures decoded at a time */
enum { PICTURE_VALUES = 1 << 24 }; /* of their pixels at most, unless a single picture has more */
struct picture_input {
    struct store store;
    bool open, pixels;
    int64_t width; /* of the graph's tensor, of which a picture has picture_rows rows */
    int64_t again; /* entries found damaged in the cache */
    float *rows;   /* [rows, width] of the current batch */
    size_t cap;
    int64_t damaged;         /* pictures that could be read although damaged */
    char first_damaged[512]; /* path, damage */
};

struct eval_set {
    const char *name;
    struct dataset data;
};

struct run {
    struct config c;    /* its own settings, or those of the recipe that is taken: recipes.h */
    struct config was;  /* of a resumed run: the settings with which it last worked */
    bool dry;           /* write nothing */
    bool resumed;       /* the directory already held the run */
    int64_t only_point; /* of the sweep; -1: all */
    bool shares;        /* run.dir with the other points: share.h */
    bool shared_stage1; /* stage 1 is one of the steps that it leaves to them all */
    char own[72]; /* "" or, of a run that shares, "POINT/": where it keeps log, metrics, sums */
    int lock, point_lock;
    int64_t processes;      /* that it has, or that a dry run or a submission plans for */
    size_t memory_limit;    /* bytes, of each process */
    const char *limit_from; /* what sets it, for messages; NULL: run.memory_limit */
    size_t room;            /* the part of it available to a training step's graph */
    struct tape *tape;
    struct tokenizer *tokenizer;
    struct chat_template chat;
    int32_t *stop; /* ids that end an answer */
    int64_t n_stop;
    char *length_from;      /* what sets the maximum sample length, for messages */
    struct hf_config model; /* settings of the model that the data were opened for */
    struct processor processor;
    struct dataset train;
    struct eval_set *eval;
    int64_t n_eval;
    struct picture_input pictures;
    bool pictures_recorded; /* run_record_pictures has been called */
    struct metrics metrics;
    struct outputs outputs; /* what the steps have left, with sums */
    double *rotation;       /* of rank.rotation, [L, H*dc], for these; or NULL */
    int64_t rotation_dim, rotation_recipe;
};

/* Opens everything that does not need the model. A directory that holds a run is locked,
 * its settings are compared with these, and its log is opened. A new run gets no directory
 * until run_record. */
bool run_open(struct run *r, bool resume, struct err *e);
/* Called once the data are open and nothing stands in the way of the run: creates the directory of
 * a new run, so that a refused run leaves none, and writes config.json and, for a later --resume,
 * inputs.json: checksums of the samples and of the given model (or NULL). For a resumed run, fails
 * if they have changed since it began. */
bool run_record(struct run *r, const struct model *given, struct err *e);
/* Sets up only processes (unless r->processes says how many), threads, memory and tape: for a dry
 * run, which leaves nothing behind. */
bool run_limits(struct run *r, struct err *e);
void run_close(struct run *r); /* fine on a zeroed struct */

/* "DIR/..." in new memory. Fails if DIR, where the run works already, was renamed or deleted. */
char *run_path(const struct run *r, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Opens tokenizer, processor and data sets for a model with these settings; logs dropped samples,
 * and fails if they exceed data.max_bad. */
bool run_open_data(struct run *r, const struct hf_config *cfg, struct err *e);
/* What it does first, for a program without sets: the tokenizer, which must be that of the model;
 * then, by it, what makes tokens of a conversation: template, stop ids, processor. *o refers to the
 * run, and has all but `asked`. run_close_data closes these too. */
bool run_open_tokenizer(struct run *r, const struct hf_config *cfg, struct err *e);
bool run_open_prompts(struct run *r, const struct hf_config *cfg, struct dataset_options *o,
                      struct err *e);
void run_close_data(struct run *r);

/* Sets the error of a run that is refused because of dropped samples. Writes left_out.txt if there
 * are any, and says so at the end of the message: otherwise the samples could not be found. A run
 * that has not begun its first step leaves nothing else, so that it can be started again. */
bool run_refuse(const struct run *r, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Tokens at which the answers of eval set i are cut, and the setting that says so. */
int64_t run_max_new(const struct run *r, int64_t i);
const char *run_max_new_key(const struct run *r, int64_t i, char out[64]);

/* Logs what was dropped from a set, and fails if that exceeds data.max_bad. */
bool run_report_drops(const struct run *r, const struct dataset *d, const char *what,
                      struct err *e);

/* Writes left_out.txt to the run's directory: every dropped sample, one per line. If there are
 * none, there is no such file. */
bool run_name_left_out(const struct run *r, struct err *e);

/* Gives every picture of all sets its key, the SHA-256 of its file; unreadable ones are
 * marked bad and logged. */
bool run_name_pictures(struct run *r, struct err *e);
/* Several processes read the files between them; run_name_pictures then finds the keys there. */
bool run_share_names(struct run *r, struct err *e);

/* RUN/pictures.sha256 lists every picture with its key in the format of sha256sum: "KEY  PATH"
 * lines, with dashes as the key of an unreadable one. If it exists, compares the pictures with it:
 * the first that has changed is reported. */
bool run_check_pictures(struct run *r, struct err *e);
/* Writes the list if it does not exist. */
bool run_record_pictures(struct run *r, struct err *e);

/* Where nothing can be written in data.cache: whether all is there that the run will read, as `m`
 * makes it, and the error if not. Reads all pictures then. */
bool run_check_cache(struct run *r, const struct model *m, bool pixels, struct err *e);

/* The store of the features that `m` makes, as it says what it is about. */
enum { PICTURES_ABOUT = PROCESSOR_TEXT + 256 };
bool run_pictures_about(const struct run *r, const struct model *m, char about[PICTURES_ABOUT],
                        struct err *e);

/* Makes sure that every picture that the run's steps will read is in the store, decoding missing
 * ones and, for features, running the tower of `m`; drops samples whose pictures turn out to be
 * bad, whether they will be read or not. */
bool run_open_pictures(struct run *r, struct model *m, bool pixels, struct err *e);
void run_close_pictures(struct run *r);

/* The graph's input for a batch's pictures: features [image tokens of the batch, feature width],
 * from the store or by the tower from stored pixels. *features is NULL if the batch has no
 * pictures. Valid until the next call. */
bool run_pictures(struct run *r, struct model *m, const struct dataset *d,
                  const struct batch_buffer *b, struct tensor **features, struct err *e);

/* A picture's rows in the store, and in the graph's tensor. */
static inline int64_t picture_rows(const struct picture_input *in, const struct picture_shape *s)
{
    return in->pixels ? s->inputs : s->rows;
}

bool run_has_step(const struct run *r, enum step step);

/* Takes the index of a sample that a step will draw. */
typedef void entry_visitor(void *arg, int64_t entry);

#endif
