/* talk.h - a conversation as LLaVA JSON, the form in which training reads its samples: so prompts
 * are made by the code that makes those, and a conversation that is saved can be read there. */
#ifndef TALK_TALK_H
#define TALK_TALK_H

#include "data/dataset.h"

#include <cjson/cJSON.h>

struct talk {
    cJSON *json;           /* {"id", "image": [...], "conversations": [...]} */
    cJSON *images, *turns; /* of it */
    /* The pictures that it has in memory, borrowed, in their order: no file is opened then. NULL:
     * their names are paths. */
    const struct dataset_file *inside; /* [n_inside] */
    int64_t n_inside;
    bool quiet; /* nothing that it says is logged */
};

/* A new conversation; system: what stands before it, NULL: what the template has. */
bool talk_begin(struct talk *t, const char *system, struct err *e);
void talk_end(struct talk *t); /* fine on a zeroed struct */

/* Adds a question about the n pictures, beside those before. Unless the text has <image> marks, one
 * is put before it for each picture. */
bool talk_ask(struct talk *t, const char *text, const char *const *images, size_t n, struct err *e);
bool talk_answer(struct talk *t, const char *text, struct err *e);

/* How much has been said: what later is added can be taken back. */
struct talk_mark {
    int turns, images;
};
struct talk_mark talk_mark(const struct talk *t);
void talk_back(struct talk *t, struct talk_mark to);
/* Takes back the last answer; false if there is none. */
bool talk_forget_answer(struct talk *t);

/* The conversation as a data set of one sample with an answer yet to be made: its prompt is what
 * the model is to continue. The pictures are looked at, with their keys. */
struct talk_prompt {
    struct text json;
    struct dataset data;
    struct sample sample;
};
bool talk_prompt(const struct talk *t, const struct dataset_options *o, struct talk_prompt *p,
                 struct err *e);
void talk_prompt_free(struct talk_prompt *p); /* fine on a zeroed struct */

/* Writes it to a new file as a list of one sample. */
bool talk_save(const struct talk *t, const char *path, struct err *e);

#endif
