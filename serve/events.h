/* events.h - a streamed answer as server-sent events, in the order in which they come: the role,
 * text as it becomes certain, the end, the usage if it was asked for, [DONE]; or an error. */
#ifndef SERVE_EVENTS_H
#define SERVE_EVENTS_H

#include "serve/desk.h"
#include "serve/reply.h"

/* What comes next. */
enum events_stage { EVENTS_ROLE, EVENTS_TEXT, EVENTS_USAGE, EVENTS_DONE, EVENTS_OVER };

struct events {
    enum events_stage stage;
    const struct reply *reply;
    size_t sent; /* bytes of the job's text that are in events */
    char *out;   /* [n] the event that is being sent, from `at` on; owned */
    size_t n, at;
    double last;     /* clock_seconds: when something was sent */
    double patience; /* seconds without an event after which a comment is sent */
};

/* Bytes of events, up to `most` of them, to `to`; 0 where nothing is new within some time, below 0
 * at the end. */
enum { EVENTS_FAILED = -2, EVENTS_ENDED = -1 };
long events_read(struct events *v, struct desk *d, struct job *job, char *to, size_t most);
void events_free(struct events *v);

#endif
