/* convo.h - one sample of a LLaVA JSON list, and the list file being written. */
#ifndef DATASETS_CONVO_H
#define DATASETS_CONVO_H

#include "base/file.h"
#include "base/rng.h"

#include <stdint.h>

enum { CONVO_TURNS = 4, CONVO_PICTURES = 4 };

/* One question with its answer. `kind` names the kind of question, for scores per kind. */
struct turn {
    const char *kind;
    char ask[256], answer[512];
};

/* printf into ask or answer; a text that does not fit is a bug of the caller and aborts. */
void turn_ask(struct turn *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void turn_answer(struct turn *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct convo {
    char id[64], image[CONVO_PICTURES][64];
    bool marker_last; /* "Q\n<image>" instead of "<image>\nQ" */
    int images;       /* 0..CONVO_PICTURES; 0: a text-only sample */
    int turns;        /* 1..CONVO_TURNS */
    struct turn turn[CONVO_TURNS];
};

/* The list `dir`/`name`, which appears complete, when `out` is committed after convo_list_end, or
 * not at all. */
struct convo_list {
    struct file_out out;
    int64_t samples, turns;
};
bool convo_list_open(struct convo_list *l, const char *dir, const char *name, struct err *e);
bool convo_list_add(struct convo_list *l, const struct convo *c, struct err *e);
void convo_list_end(struct convo_list *l);
void convo_list_abort(struct convo_list *l); /* fine on a zeroed or committed list */

#endif
