/* talker.h - a model that is talked to: opened as a run opens it, without a run's directory, with its
 * conversation and the KV cache of it. */
#ifndef CHAT_TALKER_H
#define CHAT_TALKER_H

#include "chat/choose.h"
#include "chat/talk.h"
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
    struct kv_cache cache; /* of one sequence; zeroed before the first answer */
    uint64_t *held;        /* [cache.length[0]] what is cached: answer.c's tags */
    size_t cap_held;
    struct batch_buffer batch;
};

/* `with`: a talker whose threads and tape are used, and that is closed later; NULL: none. The pointers
 * must outlive the talker. On failure *t is to be closed too. */
bool talker_open(struct talker *t, const char *dir, const struct talker_options *how,
                 const struct talker *with, struct err *e);
void talker_close(struct talker *t); /* fine on a zeroed struct */

/* Begins a new conversation; nothing stays cached. */
bool talker_clear(struct talker *t, struct err *e);

#endif
