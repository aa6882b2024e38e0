/* reply.h - the JSON of replies, each in new memory; NULL with *e set where memory ran out. */
#ifndef SERVE_REPLY_H
#define SERVE_REPLY_H

#include "serve/request.h"
#include "talk/answer.h"

enum { REPLY_ID = 40 };

/* What all that is said about one answer has in common. */
struct reply {
    char id[REPLY_ID]; /* "chatcmpl-..." */
    long long created; /* seconds since 1970 */
    const char *model; /* as the request has it */
};
void reply_begin(struct reply *r, const char *model); /* by a new id, now */

/* A whole answer: "chat.completion". */
char *reply_answer(const struct reply *r, const struct answer *a, struct err *e);

/* Parts of one, each with its line breaks, as an event: its role; more of its text; how it ended,
 * with timings and cache; its usage, with no choices. */
char *reply_role(const struct reply *r, struct err *e);
char *reply_text(const struct reply *r, const char *text, size_t n, struct err *e);
char *reply_end(const struct reply *r, const struct answer *a, struct err *e);
char *reply_usage(const struct reply *r, const struct answer *a, struct err *e);

/* {"error": ...}, and the same as an event. */
char *reply_error(const struct fault *f, struct err *e);
char *reply_error_event(const struct fault *f, struct err *e);

/* {"object": "list", "data": [...]} of the one model, with what its cache holds values in. */
char *reply_models(const char *model, const char *cache, long long created, struct err *e);

#endif
