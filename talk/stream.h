/* stream.h - an answer's text as it grows: written as soon as it is certain, whole characters only,
 * and ended where a stop text begins. White space at both ends of an answer is left out, as it is
 * where answers are scored. */
#ifndef TALK_STREAM_H
#define TALK_STREAM_H

#include "data/tokenizer/tokenizer.h"

#include <stdio.h>

struct stream {
    const struct tokenizer *tokenizer;
    const char *const *stops; /* [n_stops], none of them empty */
    size_t n_stops;
    FILE *out;      /* NULL: the text is only kept */
    char *text;     /* [n] what all tokens so far say, from its first character on; owned */
    size_t n;       /* up to the stop text, where there is one */
    size_t written; /* bytes of it that are on `out` */
    bool stopped;   /* a stop text came */
};

/* The tokens are ids[n] now. False with *e set on failure. */
bool stream_grow(struct stream *s, const int32_t *ids, int64_t n, struct err *e);
/* No token follows: writes the rest, and leaves in s->text the answer that was written. */
bool stream_end(struct stream *s, struct err *e);
void stream_free(struct stream *s); /* fine on a zeroed struct */

#endif
