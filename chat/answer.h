/* answer.h - a model's answer to the last question of its conversation. */
#ifndef CHAT_ANSWER_H
#define CHAT_ANSWER_H

#include "chat/talker.h"

#include <stdio.h>

enum finish { FINISH_STOP, FINISH_LENGTH, FINISH_INTERRUPTED };
extern const char *const finish_names[]; /* "stop" ... */

struct answer {
    char *text; /* without white space at its ends; owned */
    enum finish finish;
    int64_t prompt_tokens, image_tokens;    /* of the whole conversation; of these, its pictures' */
    int64_t kept_tokens;                    /* of the prompt: were cached already */
    int64_t new_tokens;                     /* with the stop token, if one came */
    int64_t cached_tokens;                  /* at the end */
    double prefill_seconds, decode_seconds; /* until the first token; after it */
    size_t cache_bytes, original_bytes;     /* of the cached tokens; what the original would hold */
    char cache_format[CACHE_KIND_TEXT];     /* how they are held */
};

/* Generates it, writes it to `out` (NULL: does not) as it comes, and adds it to the conversation.
 * SIGINT ends it early: no failure, and what is there is the answer. After a failure the conversation
 * is as it was. */
bool answer_make(struct talker *t, FILE *out, struct answer *a, struct err *e);
void answer_free(struct answer *a); /* fine on a zeroed struct */

/* Of the tokens after the first, which the prompt brings; 0 without any. */
double answer_speed(const struct answer *a);

#endif
