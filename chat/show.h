/* show.h - what is said about an answer: the last line on stderr, and the object of --json. */
#ifndef CHAT_SHOW_H
#define CHAT_SHOW_H

#include "talk/answer.h"

/* "614 tokens in (576 of pictures) 3.1 s, 42 out 7.6 tokens/s, cache 27.50 MiB of 328.00 MiB (8.38
 * %), f32" in new memory; `who`: stands before it, NULL: nothing. */
char *show_line(const struct answer *a, const char *who, struct err *e);

/* The object, one line without its end, in new memory. */
char *show_json(const struct answer *a, const char *model, struct err *e);

#endif
