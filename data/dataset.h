/* dataset.h - conversations about images, or plain text, as token samples. Each file is indexed
 * once by byte ranges (it is mapped, never loaded whole); indexing tokenises every sample to check
 * it, so that unusable ones are known, counted and reported before any training, and sample lengths
 * are known when a run is planned. For the JSON spellings see conversation.h.
 *
 * A sample that cannot be used is dropped: it is never trained on as it is, and never truncated:
 *     no labels          no token of it would be trained on
 *     image missing      the file does not exist or is not an image
 *     image mismatch     the numbers of <image> marks and of images differ
 *     too long           more than max_length tokens (an error with too_long_is_error)
 *     unread             it has unsupported content: video, sound, tools
 *     broken             not JSON, or neither a conversation nor text
 * Memory is bounded by the sample's size and max_length: marks and lengths are counted before
 * images are expanded into their places. */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "base/file.h"
#include "base/slots.h"
#include "base/text.h"
#include "data/batch.h"
#include "data/conversation.h"
#include "data/lost.h"
#include "data/picture/image.h"
#include "data/sample.h"
#include "data/tokenizer/tokenizer.h"
#include "data/unusual.h"

/* A picture's file in memory, borrowed. */
struct dataset_file {
    const uint8_t *data;
    size_t size;
};

struct dataset_source {
    const char *path;   /* JSON: an array of samples, or one sample a line */
    const char *images; /* directory that image paths are relative to; NULL: the file's own */
    int64_t limit;      /* use the first so many usable samples; 0: all */
    const struct text
        *memory; /* the JSON itself, borrowed, and `path` only names it; NULL: a file */
    /* The files that its pictures are, borrowed: they are named "1", "2" ... in its JSON, and no
     * other file is opened. NULL: the names are paths. */
    const struct dataset_file *inside; /* [n_inside] */
    int64_t n_inside;
};

struct processor; /* data/picture/processor.h */

struct dataset_options {
    const struct tokenizer *tokenizer;
    const struct chat_template *chat;
    struct picture_places pictures;
    int64_t max_length;     /* tokens */
    const char *limited_by; /* what sets max_length, for messages: a setting, or a key of a file */
    bool too_long_is_error; /* else such samples are dropped */
    const struct processor *processor; /* what reads the pictures; NULL: nothing does */
    /* Answers will be asked for: reject samples without a question, and read how each is scored
     * (data/benchmark.h). */
    bool asked;
    bool open; /* with asked: the last answer is yet to be made, and only its prompt must fit */
    int64_t window, stride; /* texts of more than `window` tokens are scored in windows of so many,
                             * `stride` apart, and may be of any length; 0: none is */
    bool choices;           /* with asked: reject samples without options to choose from */
    const char *metric;     /* with asked: of all, instead of the samples' own; NULL: these */
};

extern const char *const drop_names[DROPS];

struct dataset_image {
    char *path;
    char key[65]; /* SHA-256 of the file; "" until first needed */
    bool bad;
    bool used; /* some sample that will be drawn has it: train/picture_use.h */
    char *why; /* bad: one line that names it; owned */
    struct picture_shape shape;
    struct dataset_file inside; /* data NULL: the file is at `path` */
};
/* What reading it would return, from the header alone. */
bool dataset_look(const struct dataset_image *img, struct image_info *info, struct err *e);

/* What reading one holds at most, as its header says. */
struct dataset_reading {
    int64_t bytes, image, width, height;
};

struct dataset_entry {
    int32_t source;
    int64_t begin, end;     /* bytes of the source */
    int64_t line;           /* where it begins, from 1 */
    int64_t col;            /* its column, from 1 */
    int32_t tokens, labels; /* after image expansion */
    int32_t sequences;      /* that it is scored as: 1, or one for each of its choices or windows */
    int32_t longest;        /* tokens of the longest of these */
    int64_t first_image;    /* into `refs` */
    int32_t images;
    uint64_t group;     /* hash of what groups it, where the metric needs whole groups */
    int64_t unit;       /* from 0: what a choice of samples takes as a whole; else its place */
    int32_t options;    /* of its benchmark that are not missing */
    bool by_letter;     /* the expected answer is an option's letter */
    bool first_of_line; /* no sample before it begins on its line */
    int64_t behind;     /* of a unit's first: usable samples of the unit that the limit cuts off */
};

struct dataset {
    struct dataset_options o;
    struct dataset_source *sources;
    struct file_map *maps;
    int64_t n_sources;
    struct dataset_entry *entries; /* [n] usable samples, in the order of the files */
    int64_t n;
    const struct metric *metric; /* of all samples; NULL: plain, or none is read */
    int64_t units;               /* n, where the metric needs no whole groups */
    uint64_t *behind;            /* [n_behind] the groups of what the limit cuts off, if it does */
    size_t n_behind, cap_behind;
    size_t cap_entries;
    struct dataset_image *images; /* each image once */
    int64_t n_images;
    size_t cap_images;
    struct dataset_reading largest; /* of the pictures; zeroed where there are none */
    int32_t *refs;                  /* the entries' images, end to end */
    size_t n_refs, cap_refs;
    struct slots slots; /* of images, by path */
    int64_t dropped[DROPS];
    char first_dropped[DROPS][2048]; /* where, what: the first of each kind */
    char *left_out;                  /* all of them, "kind: where: what" and the id, a line each */
    size_t left_out_len, cap_left_out;
    struct unused unused;   /* keys and roles of samples that nothing reads */
    struct unusual unusual; /* what is read, and may not be meant */
    struct lost lost;       /* characters that the tokenizer does not know */
    int64_t tokens, labels, longest, longest_entry;
    char hash[65]; /* SHA-256 of the sources' bytes */
    struct tokenizer_scratch *scratch;
};

/* Indexes the sources. The pointers in options and sources must outlive the data set. */
bool dataset_open(struct dataset *d, const struct dataset_source *sources, int64_t n,
                  const struct dataset_options *o, struct err *e);
void dataset_close(struct dataset *d); /* fine on a zeroed struct */

/* Marks a picture as bad for the reason that `why` has, and goes on. */
bool dataset_mark_bad(struct dataset_image *img, const struct err *why, struct err *e);
/* Drops every entry that uses an image marked bad, counting it as DROP_IMAGE. */
bool dataset_drop_bad_images(struct dataset *d, struct err *e);

/* "LINE", or "LINE:COL" where the line alone does not say which sample it is: a name for it. */
#define DATASET_PLACE 48
const char *dataset_place(const struct dataset_entry *entry, char out[DATASET_PLACE]);

/* The sample of an entry; the caller frees it. */
bool dataset_sample(const struct dataset *d, int64_t entry, struct sample *s, struct err *e);

/* Choice k of a sample of choices (s) behind its context as a sample of its own, of which the
 * choice is trained, and nothing is set but tokens; the caller frees it. The cut is
 * lm-evaluation-harness's: the context has as many tokens as it has alone. */
bool dataset_choice(const struct dataset *d, int64_t entry, const struct sample *s, size_t k,
                    struct sample *out, struct err *e);

/* The tokens of a text as the answer to the sample's last question, without what ends a turn; s is
 * the sample. The caller frees out->ids. Fails where the prompt's last tokens
 * depend on the answer. */
bool dataset_continuation(const struct dataset *d, int64_t entry, const struct sample *s,
                          struct text answer, struct continuation *out, struct err *e);

#endif
