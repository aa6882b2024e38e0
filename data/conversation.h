/* conversation.h - one sample of a data set, from its JSON: turns or plain text, and images. Data
 * sets spell the same things differently; these spellings are equivalent:
 *
 *     the turns     "conversations" or "messages"
 *     a turn        "from" or "role", "value" or "content"
 *     its author    human user | gpt assistant model chatgpt bot | system developer
 *     its text      a string, or a list of {"type": "text", "text"} and {"type": "image", ...} or
 *                   {"type": "image_url", ...}, whose image is a path under "image", "image_url",
 *                   "path" or "url", or the next of the sample's images
 *     images        "image" or "images": a path or a list of paths
 *     system        "system" next to the turns, or a turn
 *     plain text    "text", if there are no turns
 *     choices       "choices" or "contexts", if there are neither, where samples are scored:
 *                   benchmark.h. The text is then the longest choice behind its context
 *     its scoring   see benchmark.h; read only of samples that are scored
 *
 * Absent may also be spelled null, "" or an empty list. A sample where two spellings disagree
 * cannot be used; nor can one with unsupported content: video, sound, tools, turns marked as not
 * to be learnt. Keys in none of the tables here are counted as unused. */
#ifndef DATA_CONVERSATION_H
#define DATA_CONVERSATION_H

#include "base/json/jsonc.h"
#include "base/text.h"
#include "data/benchmark.h"
#include "data/template.h"
#include "data/unused.h"

/* Why a sample cannot be used; DROPS: not the sample's fault (out of memory). */
enum drop_reason {
    DROP_NO_LABELS,
    DROP_IMAGE,
    DROP_MISMATCH,
    DROP_TOO_LONG,
    DROP_UNREAD,
    DROP_BROKEN,
    DROPS
};

/* Larger samples are refused before they cost memory: images are separate files. */
#define CONVERSATION_BYTES ((size_t)64 << 20)
#define CONVERSATION_VALUES ((size_t)1 << 20) /* about 100 MB when parsed */

struct conversation {
    struct jsonc doc;
    struct message *messages; /* [n] */
    size_t n, cap;
    struct text answer;  /* of the last assistant turn, borrowed; {NULL, 0} if none */
    struct text plain;   /* of a plain text sample, or of choices; s is NULL if it has turns */
    size_t context;      /* of choices (by.contexts): where the choice begins in `plain` */
    struct text id;      /* a string or a number, as spelled; s is NULL if none */
    const char **images; /* [n_images] paths as given in the sample */
    size_t n_images, cap_images;
    struct benchmark by; /* of a sample that is scored */
    char **strings;      /* texts above that are not in `doc` */
    size_t n_strings, cap_strings;
};

/* The sample's bytes and their position in the file. */
struct conversation_source {
    const char *path, *json;
    size_t len;
    int64_t line, col;
    const char *image_mark; /* the model's own image mark, which is not refused; or NULL */
    bool scored;            /* reads `by` */
    const char *metric;     /* the name of a metric to use instead of the sample's; NULL: its own */
};

/* On failure *reason is the kind of failure, the message begins with "FILE:LINE:COL: ", and nothing
 * of *c is valid but its id; it is to be freed. `unused` may be NULL. */
bool conversation_read(struct conversation *c, const struct conversation_source *from,
                       struct unused *unused, enum drop_reason *reason, struct err *e);
void conversation_free(struct conversation *c); /* fine on a zeroed struct; zeroes it */

#endif
