/* layerwise.h - takes the calibration samples through the decoder one layer at a time: all of them
 * through layer 0, then through layer 1, and so on. So each layer's weights are read once, whatever
 * the number of samples, and only one layer's statistics need memory. The hidden states between
 * layers, [tokens, d] in fp32, are kept in an unnamed file in the run's directory. */
#ifndef TRAIN_LAYERWISE_H
#define TRAIN_LAYERWISE_H

#include "train/run.h"

/* A graph gets as many samples as fit in this many tokens, to make its matrix products worthwhile;
 * a longer sample is a graph by itself. */
enum { LAYERWISE_TOKENS = 1024 };

struct layerwise {
    struct run *r;
    struct model *m;
    int64_t samples, tokens, next;   /* this process's; the layer to run next */
    int64_t all_samples, all_tokens; /* of all processes */
    struct sample *sample;           /* [samples] */
    int64_t *begin;                  /* [samples + 1]: rows of the hidden states */
    struct file_scratch hidden;      /* float [tokens, d] */
    struct batch_buffer batch;
    struct taps taps;
    uint8_t *modality;
    size_t cap;
};

/* What is inspected in a layer, for the samples of one batch. */
enum { LOOK_X = 1, LOOK_QK = 2, LOOK_A = 4, LOOK_ATTENTION = 8 };
struct layer_look {
    const struct batch *batch;
    const uint8_t *modality; /* [T] */
    const float *x;          /* LOOK_X: the input of the k/v projections [T, d] */
    const float *q, *k;      /* LOOK_QK: before rotation [T, H*dh], [T, G*dh] */
    const float *a, *mid;    /* LOOK_A: the heads' output [T, H*dh], x + o_proj of it [T, d] */
    const struct attention *attention; /* LOOK_ATTENTION: q and k as it takes them, kept */
    const struct tensor *table;        /* cos, then sin [T, dh] */
};
typedef bool layer_looker(void *arg, const struct layer_look *look, struct err *e);

/* Draws `samples` of the training samples (all of them if there are fewer), which go to the
 * processes in turn, and embeds this one's. `looks` is a mask of LOOK_*. */
bool layerwise_open(struct layerwise *w, struct run *r, struct model *m, int64_t samples,
                    unsigned looks, struct err *e);
void layerwise_close(struct layerwise *w); /* fine on a zeroed struct */

/* Visits the samples that would be drawn. */
bool layerwise_each(const struct run *r, int64_t samples, entry_visitor *visit, void *arg,
                    struct err *e);

/* Takes the samples through the next layer and shows each batch to look(arg); in the last layer,
 * only what is inspected is computed. `what` is shown in the progress line. Stops at a signal. */
bool layerwise_next(struct layerwise *w, const char *what, layer_looker *look, void *arg,
                    struct err *e);

/* The same of layer l, for who walks a layer more than once, or takes several models, opened alike,
 * through it side by side: batch by batch, in the order of `walk` [n]. Layers must
 * be passed in order. */
struct layer_walk {
    struct layerwise *w;
    bool pass; /* the output becomes the hidden states; else what is inspected is computed */
    layer_looker *look; /* or NULL */
};
bool layerwise_layer(const char *what, int64_t l, const struct layer_walk *walk, int n, void *arg,
                     struct err *e);

/* ok, of all that was done with layer l; if not, unless a signal has stopped it, *e gets where:
 * "WHAT: layer L: ". */
bool layerwise_done(bool ok, const char *what, int64_t l, struct err *e);

/* `to` gets the hidden states of `from`, which was opened alike. */
void layerwise_copy(struct layerwise *to, const struct layerwise *from);

/* The mean cross entropy of all labels, of the samples of all processes, once the last layer's
 * output is the hidden states. */
bool layerwise_loss(struct layerwise *w, double *loss, struct err *e);

#endif
