/* conversation_parts.h - inside conversation.c and its neighbours: the words of data sets, as
 * tables (conversation_keys.c), and what reads a sample by them. */
#ifndef DATA_CONVERSATION_PARTS_H
#define DATA_CONVERSATION_PARTS_H

#include "data/conversation.h"

/* What a key is to us. */
enum key_use {
    KEY_UNKNOWN,  /* counted and named */
    KEY_HARMLESS, /* names or describes a sample: nothing that a model sees or learns */
    KEY_UNREAD,   /* a sample that has it means something else without it: left out */
    KEY_LEARNT,   /* whether an answer is to be learnt: false is not read */
    KEY_TURNS,
    KEY_PLAIN,
    KEY_PICTURES,
    KEY_SYSTEM,
    KEY_ID,
    KEY_ROLE,
    KEY_TEXT,
    KEY_TYPE,
    KEY_USES
};

struct key {
    const char *name; /* NULL ends a table */
    enum key_use use;
};
extern const struct key sample_keys[], turn_keys[], part_keys[], picture_keys[];

/* Who speaks. */
struct speaker {
    const char *name;
    enum role role;
    bool unread; /* tools: their turns mean nothing without what they are */
};
extern const struct speaker speakers[]; /* a NULL name ends it */

/* What other programs put something else for, which the model would see spelt out. All begin with
 * '<'. A NULL ends the list. */
extern const char *const unread_marks[];

enum key_use key_use(const struct key *keys, const char *name);

/* A sample being read. */
struct reader {
    struct conversation *c;
    const struct conversation_source *from;
    struct unused *unused;
    enum drop_reason reason;
    struct err *e;
};

/* The members of one object by their use; two where two spellings of one thing are there. */
struct members {
    const cJSON *of[KEY_USES][2];
};

/* "FILE:LINE:COL: message" about an item, and false. */
bool reader_refuse(struct reader *r, enum drop_reason reason, const cJSON *item, const char *fmt,
                   ...) __attribute__((format(printf, 4, 5)));

/* Counts a name as unused. */
bool reader_note(struct reader *r, enum unused_kind kind, const char *name, const cJSON *at);

/* A string's characters; they live as long as the conversation. */
bool reader_take(struct reader *r, const cJSON *item, struct text *out);

/* An object's members by the table; those that are absent are not among them. Unknown ones are
 * counted as `kind`, unread ones refused. */
bool reader_sort(struct reader *r, const cJSON *object, const struct key *keys,
                 enum unused_kind kind, struct members *m);

/* The one member of a use, NULL where there is none. */
bool reader_only(struct reader *r, const struct members *m, enum key_use use, const cJSON **out);

/* Adds a picture: a path, or an object that has one in it; `key` is for messages. */
bool reader_picture(struct reader *r, const char *key, const cJSON *item);
bool reader_pictures(struct reader *r, const cJSON *from); /* the same, or a list of them */

/* The pictures from `before` on say again what those before them say, or there are none of one. */
bool reader_agree(struct reader *r, size_t before, const cJSON *item);

#endif
