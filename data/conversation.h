/* conversation.h - one sample of a data set, from its JSON: turns or a plain text, and pictures.
 * Data sets spell the same things differently; these are read alike:
 *
 *     the turns     "conversations" or "messages"
 *     a turn        "from" or "role", "value" or "content"
 *     its author    human user | gpt assistant model chatgpt bot | system developer
 *     its text      a string, or a list of {"type": "text", "text"} and {"type": "image", ...} or
 *                   {"type": "image_url", ...}, whose picture is a path under "image", "image_url",
 *                   "path" or "url", or the next of the sample's pictures
 *     pictures      "image" or "images": a path or a list of paths
 *     the system's  "system" beside the turns, or a turn
 *     plain text    "text", where there are no turns
 *
 * What is absent may also be null, "" or an empty list. Where two of them are there and do not say
 * the same, the sample cannot be used; nor can one that has what is not read: video, sound, tools,
 * turns that are not to be learnt. Keys that are in no table here are counted as unused. */
#ifndef DATA_CONVERSATION_H
#define DATA_CONVERSATION_H

#include "base/jsonc.h"
#include "base/text.h"
#include "data/template.h"
#include "data/unused.h"

/* Why a sample cannot be used; DROPS: not the sample's fault (memory). */
enum drop_reason {
    DROP_NO_LABELS,
    DROP_IMAGE,
    DROP_MISMATCH,
    DROP_TOO_LONG,
    DROP_UNREAD,
    DROP_BROKEN,
    DROPS
};

/* Larger samples are refused before they cost memory: pictures are files, not part of a sample. */
#define CONVERSATION_BYTES ((size_t)64 << 20)
#define CONVERSATION_VALUES ((size_t)1 << 20) /* about 100 MB when parsed */

struct conversation {
    struct jsonc doc;
    struct message *messages; /* [n] */
    size_t n, cap;
    struct text answer;  /* of the last assistant turn, borrowed; {NULL, 0}: none */
    struct text plain;   /* of a sample that is plain text; s is NULL where it has turns */
    struct text id;      /* a string or a number, as it is written; s is NULL where there is none */
    const char **images; /* [n_images] paths as the sample has them */
    size_t n_images, cap_images;
    char **strings; /* texts above that are not in `doc` */
    size_t n_strings, cap_strings;
};

/* The sample's bytes, and where they stand. */
struct conversation_source {
    const char *path, *json;
    size_t len;
    int64_t line, col;
    const char *image_mark; /* the model's own, which is no unread one; or NULL */
};

/* On failure *reason says of what kind it is, the message begins with "FILE:LINE:COL: ", and *c is
 * good for nothing but its id, and to be freed. `unused` may be NULL. */
bool conversation_read(struct conversation *c, const struct conversation_source *from,
                       struct unused *unused, enum drop_reason *reason, struct err *e);
void conversation_free(struct conversation *c); /* fine on a zeroed struct; leaves one */

#endif
