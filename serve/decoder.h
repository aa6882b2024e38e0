/* decoder.h - the thread that decodes the pictures of requests, so that answers go on meanwhile.
 * One picture at a time: one's pixels are in memory, however many requests have some. */
#ifndef SERVE_DECODER_H
#define SERVE_DECODER_H

#include "talk/answer.h"

#include <pthread.h>

struct decoder {
    pthread_mutex_t *lock; /* of all that follows; its owner's */
    pthread_cond_t *done;  /* signalled when a picture is done; its owner's */
    pthread_cond_t work;
    const struct run *r;
    /* pixels_read; a test has another, which waits for what is to happen meanwhile. */
    void (*read)(struct pixels *p, const struct run *r, const struct dataset_image *img);
    const struct dataset_image *img; /* being decoded, or done and not taken yet; NULL: none */
    bool is_done, ends;
    struct pixels pixels; /* is_done */
    pthread_t thread;
    bool runs;
};

/* Starts the thread. d->lock, done and read are set; the run outlives it. */
bool decoder_open(struct decoder *d, const struct run *r, struct err *e);
void decoder_close(
    struct decoder *d); /* nothing is being decoded; fine on one that was not opened */

/* Begins to decode a picture, which stays until decoder_take, unless another is there. */
void decoder_ask(struct decoder *d, const struct dataset_image *img);
/* Hands over a picture that is done; false: it is not. */
bool decoder_take(struct decoder *d, const struct dataset_image *img, struct pixels *p);
/* Whether it was asked for that picture. */
bool decoder_has(struct decoder *d, const struct dataset_image *img);

#endif
