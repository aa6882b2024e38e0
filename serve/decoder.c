/* decoder.c - see decoder.h. */
#include "serve/decoder.h"

#include <string.h>

static void *work(void *arg)
{
    struct decoder *d = arg;
    struct pixels p;

    pthread_mutex_lock(d->lock);
    for (;;) {
        while (!d->ends && (!d->img || d->is_done))
            pthread_cond_wait(&d->work, d->lock);
        if (d->ends) break;
        pthread_mutex_unlock(d->lock);
        d->read(&p, d->r, d->img); /* nobody changes img until it is done */
        pthread_mutex_lock(d->lock);
        d->pixels = p;
        d->is_done = true;
        pthread_cond_signal(d->done);
    }
    pthread_mutex_unlock(d->lock);
    return NULL;
}

bool decoder_open(struct decoder *d, const struct run *r, struct err *e)
{
    int rc;

    d->r = r;
    CHECK(pthread_cond_init(&d->work, NULL) == 0);
    rc = pthread_create(&d->thread, NULL, work, d);
    d->runs = rc == 0;
    return d->runs || err_system(e, rc, "a thread for pictures cannot be started");
}

void decoder_close(struct decoder *d)
{
    if (!d->r) return;
    if (d->runs) {
        pthread_mutex_lock(d->lock);
        d->ends = true;
        pthread_cond_signal(&d->work);
        pthread_mutex_unlock(d->lock);
        pthread_join(d->thread, NULL);
    }
    pthread_cond_destroy(&d->work);
    pixels_free(&d->pixels);
}

void decoder_ask(struct decoder *d, const struct dataset_image *img)
{
    pthread_mutex_lock(d->lock);
    if (!d->img) {
        d->img = img;
        pthread_cond_signal(&d->work);
    }
    pthread_mutex_unlock(d->lock);
}

bool decoder_take(struct decoder *d, const struct dataset_image *img, struct pixels *p)
{
    bool taken;

    pthread_mutex_lock(d->lock);
    taken = d->img == img && d->is_done;
    if (taken) {
        *p = d->pixels;
        d->pixels = (struct pixels){.values = NULL};
        d->img = NULL;
        d->is_done = false;
    }
    pthread_mutex_unlock(d->lock);
    return taken;
}

bool decoder_has(struct decoder *d, const struct dataset_image *img)
{
    bool has;

    pthread_mutex_lock(d->lock);
    has = d->img == img;
    pthread_mutex_unlock(d->lock);
    return has;
}
