/* answer.h - a model's answers to the last questions of conversations: one, or several that are
 * made together, each in a sequence of the model's KV cache, and that begin and end
 * between any two steps. */
#ifndef TALK_ANSWER_H
#define TALK_ANSWER_H

#include "model/generate.h"
#include "talk/stream.h"
#include "talk/talker.h"

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
void answer_free(struct answer *a); /* fine on a zeroed struct */

/* Whether the memory limit leaves room for the cache of a part of a prompt and the longest answer,
 * in each seat: of a talker with several. */
bool answer_fits(const struct talker *t, struct err *e);

/* Answers the talker's own conversation: generates, writes to `out` (NULL: does not) as it comes,
 * and adds it to the conversation. SIGINT ends it early: no failure, and what is there is the
 * answer. After a failure the conversation is as it was. */
bool answer_make(struct talker *t, FILE *out, struct answer *a, struct err *e);

/* Of the tokens after the first, which the prompt brings; 0 without any. */
double answer_speed(const struct answer *a);

/* ---- several at a time ---- */

/* What is asked, and how it is answered; all of it outlives the answer. */
struct asking {
    const struct talk_prompt *prompt;
    struct choose *choose; /* this answer's alone */
    int64_t max_new;
    const char *const *stops; /* [n_stops] */
    size_t n_stops;
    FILE *out; /* NULL: the text is only kept */
    /* Asked between the nodes of a prompt's graph, and after each token; false ends the answer, as
     * a signal does. NULL: signals alone do. */
    bool (*go_on)(void *arg);
    void *arg;
};

/* A picture for the tower, or why there is none. May be made on any thread. */
struct pixels {
    bool ok;
    float *values;      /* [shape.inputs, the processor's input_width], owned */
    const char *damage; /* as decode_picture's */
    struct err why;     /* not ok */
};
void pixels_read(struct pixels *p, const struct run *r, const struct dataset_image *img);
void pixels_free(struct pixels *p); /* fine on a zeroed struct */

/* An answer that is being made. */
struct making {
    const struct asking *q;
    struct talker *t;
    int64_t seq;          /* of the cache */
    struct stream stream; /* its text, of which the first `written` bytes are certain */
    struct generation g;  /* g.ended: nothing is left to do */
    struct generator how;
    struct chooser chooser;
    uint64_t *tags;  /* [prompt tokens]: see answer.c */
    int64_t *inside; /* [prompt tokens]: how many of its picture's places lie before it */
    float *rows;     /* [n_rows, width] features of the next part's first `seen` pictures */
    size_t cap_rows;
    int64_t n_rows, seen;
    int64_t kept, at;    /* tokens of the prompt that were cached before, and are now */
    double begin, first; /* clock_seconds: of the turn, of the first token */
    bool broken;         /* the stream failed, as *e says */
    bool interrupted;    /* go_on said so, or a signal came */
    const struct dataset_image
        *refused; /* the prompt's picture that cannot be decoded; NULL: none */
    struct err *e;
};

/* How many tokens of a prompt sequence `seq` has already. */
bool making_common(const struct talker *t, int64_t seq, const struct talk_prompt *p, int64_t *n,
                   struct err *e);
/* Begins one in a sequence that no other is made in. making_free is to follow in any case. */
bool making_begin(struct making *m, struct talker *t, int64_t seq, const struct asking *q,
                  struct err *e);
/* The first of the next part's pictures that making_see has not had; NULL: there is none. What
 * making_see has not had making_prompt decodes by itself. */
const struct dataset_image *making_wants(const struct making *m);
/* Has the tower look at that picture. False where it could not be decoded, too. */
bool making_see(struct making *m, const struct pixels *p, struct err *e);
/* Whether nobody has ended it. */
bool making_goes_on(struct making *m);
/* Computes the next part of the prompt; with the last one (m->at is its length then) comes the
 * first token. True with g.ended where it was interrupted. */
bool making_prompt(struct making *m, struct err *e);
/* The next token of each of n answers, whose prompts are computed and that have not ended. After a
 * failure all of them have failed. */
bool making_step(struct talker *t, struct making *const *m, int64_t n, struct err *e);
/* Ends it, wherever it is: the rest of its text, and its figures. */
bool making_end(struct making *m, struct answer *a, struct err *e);
void making_free(struct making *m); /* fine on a zeroed struct */

#endif
