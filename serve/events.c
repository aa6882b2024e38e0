/* events.c - see events.h. */
#include "serve/events.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { LOOK = 100 }; /* ms between two looks whether the client is still there */

/* The text that is new, as an event; NULL if there is none, or with *e set. */
static char *more_text(struct events *v, struct desk *d, struct job *job, struct err *e)
{
    char *text = NULL, *out;
    size_t n;

    pthread_mutex_lock(&d->lock);
    n = job->n - v->sent;
    if (n) text = mem_strndup(job->text + v->sent, n, e);
    pthread_mutex_unlock(&d->lock);
    if (!text) return NULL;
    v->sent += n;
    out = reply_text(v->reply, text, n, e);
    free(text);
    return out;
}

/* How a job that is done ended. */
static char *end(struct events *v, struct job *job, struct err *e)
{
    v->stage = job->fault.status ? EVENTS_OVER : EVENTS_USAGE;
    return job->fault.status ? reply_error_event(&job->fault, e)
                             : reply_end(v->reply, &job->answer, e);
}

/* The next event; NULL: nothing is new, or *e is set. */
static char *next(struct events *v, struct desk *d, struct job *job, struct err *e)
{
    char *out;

    if (v->stage == EVENTS_ROLE) {
        v->stage = EVENTS_TEXT;
        return reply_role(v->reply, e);
    }
    if (v->stage == EVENTS_TEXT) {
        if (!desk_wait(d, job, v->sent, LOOK))
            return clock_seconds() - v->last < v->patience ? NULL : mem_strdup(": wait\n\n", e);
        out = more_text(v, d, job, e);
        return out || e->msg[0] ? out : end(v, job, e);
    }
    if (v->stage == EVENTS_USAGE && job->request.usage) {
        v->stage = EVENTS_DONE;
        return reply_usage(v->reply, &job->answer, e);
    }
    v->stage = EVENTS_OVER;
    return mem_strdup("data: [DONE]\n\n", e);
}

long events_read(struct events *v, struct desk *d, struct job *job, char *to, size_t most)
{
    struct err e = {0};
    size_t n;

    if (v->at == v->n) {
        if (v->stage == EVENTS_OVER) return EVENTS_ENDED;
        free(v->out);
        v->at = v->n = 0;
        v->out = next(v, d, job, &e);
        if (!v->out) return e.msg[0] ? EVENTS_FAILED : 0;
        v->n = strlen(v->out);
        v->last = clock_seconds();
    }
    n = v->n - v->at < most ? v->n - v->at : most;
    memcpy(to, v->out + v->at, n);
    v->at += n;
    return (long)n;
}

void events_free(struct events *v)
{
    free(v->out);
    memset(v, 0, sizeof *v);
}
