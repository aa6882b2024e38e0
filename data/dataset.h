/* dataset.h - conversations about pictures, or plain text, as token samples. A file is indexed once
 * by byte ranges (it is mapped, never loaded whole); every sample is checked there by being
 * tokenised, so that what cannot be used is known, counted and named before anything is trained,
 * and lengths are known for the plan of a run. How samples are spelt: conversation.h.
 *
 * A sample that cannot be used is left out, never trained on as it is and never cut:
 *     no labels          no token of it would be trained
 *     image missing      the file is not there or is not a picture
 *     image mismatch     <image> marks and pictures do not agree in number
 *     too long           more than max_length tokens (an error where too_long asks for that)
 *     unread             it has video, sound, tools: what is not read
 *     broken             not JSON, or neither a conversation nor text
 * Memory is bounded by the sample's size and max_length: marks and lengths are counted before
 * pictures take their places. */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "base/file.h"
#include "base/rng.h"
#include "base/text.h"
#include "data/batch.h"
#include "data/conversation.h"
#include "data/template.h"
#include "data/tokenizer.h"
#include "data/unusual.h"

struct dataset_source {
    const char *path;   /* JSON: an array of samples, or one sample a line */
    const char *images; /* directory that image paths are relative to; NULL: the file's own */
    int64_t limit;      /* use the first so many usable samples; 0: all */
};

struct dataset_options {
    const struct tokenizer *tokenizer;
    const struct chat_template *chat;
    int32_t image_id;       /* the token of an image's places; -1: a model without pictures */
    int64_t image_tokens;   /* how many places a picture takes */
    int64_t max_length;     /* tokens */
    const char *limited_by; /* what sets max_length, for messages: a setting, or a key of a file */
    bool too_long_is_error; /* else it is left out */
    bool asked;             /* questions are to be answered: what has none will not do */
};

extern const char *const drop_names[DROPS];

struct dataset_image {
    char *path;
    char key[65]; /* SHA-256 of the file; "" until somebody needed it */
    bool bad;
    char *why; /* it is bad: one line that names it; owned */
};

struct dataset_entry {
    int32_t source;
    int64_t begin, end;     /* bytes of the source */
    int64_t line;           /* of its begin, from 1 */
    int64_t col;            /* of its begin, from 1 */
    int32_t tokens, labels; /* after images have taken their places */
    int64_t first_image;    /* into `refs` */
    int32_t images;
    bool first_of_line; /* no sample before it begins on its line */
};

struct dataset {
    struct dataset_options o;
    struct dataset_source *sources;
    struct file_map *maps;
    int64_t n_sources;
    struct dataset_entry *entries; /* [n] usable samples, in the order of the files */
    int64_t n;
    size_t cap_entries;
    struct dataset_image *images; /* every picture once */
    int64_t n_images;
    size_t cap_images;
    int32_t *refs; /* images of the entries, behind each other */
    size_t n_refs, cap_refs;
    int64_t *slots; /* hash of image paths */
    int64_t n_slots;
    int64_t dropped[DROPS];
    char first_dropped[DROPS][2048]; /* where, what: the first of each kind */
    char *left_out;                  /* all of them, "kind: where: what" and the id, a line each */
    size_t left_out_len, cap_left_out;
    struct unused unused;   /* what samples hold that is not read */
    struct unusual unusual; /* what is read, and may not be meant */
    int64_t tokens, labels, longest, longest_entry;
    char hash[65]; /* SHA-256 of the sources' bytes */
    struct tokenizer_scratch *scratch;
};

/* Indexes the sources. The options' and sources' pointers must outlive the set. */
bool dataset_open(struct dataset *d, const struct dataset_source *sources, int64_t n,
                  const struct dataset_options *o, struct err *e);
void dataset_close(struct dataset *d); /* fine on a zeroed struct */

/* Marks a picture as bad for the reason that `why` has, and goes on. */
bool dataset_mark_bad(struct dataset_image *img, const struct err *why, struct err *e);
/* Leaves out every entry that uses an image marked bad, counting it as DROP_IMAGE. */
bool dataset_drop_bad_images(struct dataset *d, struct err *e);

/* "LINE", or "LINE:COL" where the line alone does not say which sample it is: a name for it. */
#define DATASET_PLACE 48
const char *dataset_place(const struct dataset_entry *entry, char out[DATASET_PLACE]);

/* A sample as tokens. The last assistant turn apart, for scoring: its text and where its prompt
 * ends. */
struct sample {
    struct text id; /* as the file spells it, or "line PLACE" */
    int64_t n;
    int32_t *ids;             /* [n] */
    uint8_t *trained;         /* [n] the token is one that the model must produce */
    uint8_t *modality;        /* [n] enum modality */
    int64_t prompt;           /* tokens before the last assistant turn */
    struct text answer;       /* the last assistant turn's text; "" where there is none */
    struct rendered rendered; /* what was tokenised, and which bytes of it are trained */
    int64_t images;
    const int32_t *image; /* indices into d->images, borrowed */
};
bool dataset_sample(const struct dataset *d, int64_t entry, struct sample *s, struct err *e);
void sample_free(struct sample *s); /* fine on a zeroed struct */

/* A batch that owns its memory and is filled again and again. */
struct batch_buffer {
    struct batch batch;
    int32_t *ids, *positions, *label_rows, *label_ids, *image; /* image: of all samples, in order */
    int64_t *begin;
    struct span *spans;
    size_t cap_ids, cap_positions, cap_rows, cap_labels, cap_begin, cap_spans, cap_image;
};
/* prompts: the samples end where the last answer would begin, and there are no labels. */
bool batch_fill(struct batch_buffer *b, const struct sample *samples, int64_t n, bool prompts,
                struct err *e);
void batch_free(struct batch_buffer *b); /* fine on a zeroed struct */

/* The sample at place `at` of an endless stream: each epoch is a permutation of 0..n-1 drawn from
 * (seed, epoch), so that a place says everything about what comes next. *cache holds the last
 * epoch's permutation between calls. */
struct order {
    uint64_t seed;
    int64_t n, epoch; /* of `order`; -1 before the first call */
    int64_t *order;
};
bool order_init(struct order *o, uint64_t seed, int64_t n, struct err *e);
void order_free(struct order *o);
int64_t order_at(struct order *o, int64_t at);

#endif
