/* talker.h - a model that is talked to: opened as a run opens it, without a run's directory, with
 * the KV cache of as many conversations as it has seats, and a conversation of its own. */
#ifndef TALK_TALKER_H
#define TALK_TALKER_H

#include "model/generate.h"
#include "talk/choose.h"
#include "talk/talk.h"
#include "train/run.h"

/* What all models of a chat have in common. */
struct talker_options {
    const char *chat_template; /* NULL: by the model */
    const char *system;        /* NULL: the template's */
    int64_t threads, seed, max_new;
    double memory_limit; /* GiB; 0: the machine's */
    struct sampling sampling;
    const char *const *stops; /* [n_stops] */
    size_t n_stops;
    const char *cache; /* its kind: model/cache_kind.h; NULL: f32 */
    /* Of a talker that makes several answers at a time (answer.h): how many, 0: one; and about how
     * many tokens of a prompt are computed at a time, 0: all. */
    int64_t seats, part;
};

/* What one sequence of the cache holds: answer.c's tags of its tokens. */
struct held {
    uint64_t *tags; /* [cache.length[sequence]] */
    size_t cap;
};

struct talker {
    const char *dir;
    const struct talker_options *how;
    struct run r;
    bool own_tape; /* else another talker's */
    struct model m;
    struct dataset_options o; /* of its prompts; max_length: the positions that it has */
    struct talk talk;
    struct choose choose;
    struct cache_how how_cached;
    int64_t seats;
    struct kv_cache cache; /* of `seats` sequences; zeroed before the first answer */
    struct held *held;     /* [seats] */
    struct running running;
    struct batch_buffer batch;
};

/* Looks at a --cache before a model is opened: kinds that are for scoring only are refused. */
bool talker_check_cache(const char *name, struct err *e);

/* `with`: a talker whose threads and tape are used, and that is closed later; NULL: none. The
 * pointers must outlive the talker. On failure *t is to be closed too. */
bool talker_open(struct talker *t, const char *dir, const struct talker_options *how,
                 const struct talker *with, struct err *e);
void talker_close(struct talker *t); /* fine on a zeroed struct */

/* Begins a new conversation; nothing stays cached. */
bool talker_clear(struct talker *t, struct err *e);

#endif
