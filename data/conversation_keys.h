/* conversation_keys.h - the words of data sets, as tables; for conversation.c alone. */
#ifndef DATA_CONVERSATION_KEYS_H
#define DATA_CONVERSATION_KEYS_H

#include "data/template.h"

#include <stddef.h>

/* What a key is to us. */
enum key_use {
    KEY_UNKNOWN,  /* counted and named */
    KEY_HARMLESS, /* names or describes a sample: nothing that a model sees or learns */
    KEY_UNREAD,   /* a sample that has it means something else without it: left out */
    KEY_LEARNT,   /* whether a turn is to be learnt: false is not read */
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

#endif
