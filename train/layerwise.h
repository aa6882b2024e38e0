/* layerwise.h - the calibration samples taken through the decoder one layer at a time: all of them
 * through layer 0, then through layer 1. So each layer's weights are read once, whatever the
 * number of samples, and only one layer's statistics need memory. The hidden states between two
 * layers, tokens x hidden_size in fp32, lie in a nameless file of the run's directory. */
#ifndef TRAIN_LAYERWISE_H
#define TRAIN_LAYERWISE_H

#include "train/run.h"

/* Tokens that make a graph worth its matrix products; a longer sample is a graph of its own. */
enum { LAYERWISE_TOKENS = 1024 };

struct layerwise {
    struct run *r;
    struct model *m;
    int64_t samples, tokens, next; /* next: the layer to come */
    struct sample *sample;         /* [samples] */
    int64_t *begin;                /* [samples + 1] rows of the hidden states */
    struct file_scratch hidden;    /* float [tokens, d] */
    struct batch_buffer batch;
    struct taps taps;
    uint8_t *modality;
    size_t cap;
};

/* What is looked at in a layer, of the samples of one batch. */
enum { LOOK_X = 1, LOOK_QK = 2 };
struct layer_look {
    const struct batch *batch;
    const uint8_t *modality;    /* [T] */
    const float *x;             /* LOOK_X: the input of the k/v projections [T, d] */
    const float *q, *k;         /* LOOK_QK: before rotation [T, H*dh], [T, G*dh] */
    const struct tensor *table; /* cos, then sin [T, dh] */
};
typedef bool layer_looker(void *arg, const struct layer_look *look, struct err *e);

/* Draws `samples` of the training samples (or as many as there are) and embeds them. */
bool layerwise_open(struct layerwise *w, struct run *r, struct model *m, int64_t samples,
                    unsigned looks, struct err *e);
void layerwise_close(struct layerwise *w); /* fine on a zeroed struct */

/* Whether any of the samples that would be drawn has a picture. */
bool layerwise_sees_pictures(const struct run *r, int64_t samples, bool *sees, struct err *e);

/* Takes them through the next layer, showing batch after batch to look(arg); of the last layer
 * nothing is computed but what is looked at. `what` is said on the terminal. Stops at a signal. */
bool layerwise_next(struct layerwise *w, const char *what, layer_looker *look, void *arg,
                    struct err *e);

#endif
