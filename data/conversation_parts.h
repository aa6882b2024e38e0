/* conversation_parts.h - internal to conversation*.c: the vocabulary of data sets as tables
 * (conversation_keys.c), and the reader that applies them. */
#ifndef DATA_CONVERSATION_PARTS_H
#define DATA_CONVERSATION_PARTS_H

#include "data/conversation.h"

/* What a key means to us. */
enum key_use {
    KEY_UNKNOWN,  /* counted and reported */
    KEY_HARMLESS, /* identifies or describes a sample: nothing that a model sees or learns */
    KEY_UNREAD,   /* changes the meaning of the sample and is not supported: drop the sample */
    KEY_LEARNT,   /* whether to train on an answer; false is not supported */
    KEY_TURNS,
    KEY_PLAIN,
    KEY_PICTURES,
    KEY_SYSTEM,
    KEY_ID,
    KEY_SCORED, /* data/benchmark.h: of samples that are scored by a metric */
    KEY_ROLE,
    KEY_TEXT,
    KEY_TYPE,
    KEY_USES
};

struct key {
    const char *name; /* NULL ends the table */
    enum key_use use;
};
extern const struct key sample_keys[], turn_keys[], part_keys[], picture_keys[];

/* Who is speaking. */
struct speaker {
    const char *name;
    enum role role;
    bool unread; /* tools: their turns make no sense without the tools' definitions */
};
extern const struct speaker speakers[]; /* a NULL name ends the table */

/* Placeholders that other programs replace and that the model would see literally. All begin with
 * '<'. NULL ends the list. */
extern const char *const unread_marks[];

enum key_use key_use(const struct key *keys, const char *name);

/* The sample being read. */
struct reader {
    struct conversation *c;
    const struct conversation_source *from;
    struct unused *unused;
    enum drop_reason reason;
    struct err *e;
};

/* The members of one object by use; two of them where both spellings of one thing occur. */
struct members {
    const cJSON *of[KEY_USES][2];
};

/* Hands a string over to the conversation; frees it on failure. */
bool reader_own(struct reader *r, char *s);
/* conversation_choices.c: whether an object is a sample of choices, and reading it. */
bool reader_has_choices(const cJSON *sample);
bool reader_choices(struct reader *r, const cJSON *sample);

/* Sets "FILE:LINE:COL: message" about an item; returns false. */
bool reader_refuse(struct reader *r, enum drop_reason reason, const cJSON *item, const char *fmt,
                   ...) __attribute__((format(printf, 4, 5)));

/* A string's characters; they live as long as the conversation. */
bool reader_take(struct reader *r, const cJSON *item, struct text *out);

/* Sorts an object's members by the table, leaving out absent ones. Unknown members are counted as
 * `kind`, unsupported ones refused. */
bool reader_sort(struct reader *r, const cJSON *object, const struct key *keys,
                 enum unused_kind kind, struct members *m);

/* The single member of a use, NULL if there is none. */
bool reader_only(struct reader *r, const struct members *m, enum key_use use, const cJSON **out);

/* Adds an image: a path, or an object that contains one; `key` is for messages. */
bool reader_picture(struct reader *r, const char *key, const cJSON *item);
bool reader_pictures(struct reader *r, const cJSON *from); /* the same, or a list of images */

/* Fails unless the images from `before` on repeat those before them (they are then dropped), or one
 * of the two lists is empty. */
bool reader_agree(struct reader *r, size_t before, const cJSON *item);

#endif
