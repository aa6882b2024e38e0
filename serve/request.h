/* request.h - the body of a chat completion: JSON of a client, checked field by field, as a
 * conversation with its pictures in memory. Nothing is fetched, and no file is opened for it.
 *
 * Limits: nesting of 32, 65,536 values, 8 pictures of up to 40 megapixels and 16384 pixels a side,
 * as their headers say. Refused are fields that would change the answer and are not implemented,
 * and fields that are not known; fields that change nothing are ignored:
 * request.c has the tables. */
#ifndef SERVE_REQUEST_H
#define SERVE_REQUEST_H

#include "talk/talk.h"

enum { REQUEST_BYTES = 32 << 20, REQUEST_PICTURES = 8, REQUEST_STOPS = 4, REQUEST_DEPTH = 32 };
enum { REQUEST_VALUES = 1 << 16, REQUEST_SIDE = 16384, REQUEST_PIXELS = 40000000 };

struct request {
    char *model; /* as given: any; "" if it was not */
    struct talk talk;
    struct dataset_file pictures[REQUEST_PICTURES]; /* of the talk; owned */
    int64_t n_pictures;
    char places[REQUEST_PICTURES][64]; /* where they are given: "messages[0].content[1]" */
    int64_t max_new;                   /* 0: not given */
    double temperature, top_p;
    int64_t seed; /* below 0: not given */
    char *stops[REQUEST_STOPS];
    size_t n_stops;
    bool stream, usage;
};

/* What is wrong with a request, and where. */
struct fault {
    int status;       /* of HTTP */
    const char *code; /* a word for programs, or NULL */
    char param[80];   /* the field, as "messages[0].content"; "" for none */
    struct err why;
};
/* Fills it; returns false. */
bool fault_set(struct fault *f, int status, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Reads n bytes. On failure *f is filled; request_free is to follow in any case. *q must stay where
 * it is until then. */
bool request_parse(struct request *q, const char *text, size_t n, struct fault *f);
void request_free(struct request *q); /* fine on a zeroed struct */

#endif
