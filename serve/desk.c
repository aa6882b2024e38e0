/* desk.c - see desk.h. */
#include "serve/desk.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum { PATIENCE = 50 }; /* ms in which a signal is seen where nothing is to be done */

static void until(struct timespec *at, long ms)
{
    clock_gettime(CLOCK_REALTIME, at);
    at->tv_nsec += ms % 1000 * 1000000;
    at->tv_sec += ms / 1000 + at->tv_nsec / 1000000000;
    at->tv_nsec %= 1000000000;
}

void desk_open(struct desk *d, int64_t queue_size)
{
    memset(d, 0, sizeof *d);
    CHECK(queue_size <= DESK_QUEUE);
    d->queue_size = queue_size;
    CHECK(pthread_mutex_init(&d->lock, NULL) == 0 && pthread_cond_init(&d->work, NULL) == 0);
    CHECK(pthread_mutex_init(&d->reading, NULL) == 0);
    d->decoder = (struct decoder){.lock = &d->lock, .done = &d->work, .read = pixels_read};
}

bool desk_load(struct desk *d, const char *dir, const struct talker_options *how, struct err *e)
{
    CHECK(how->seats <= DESK_SEATS);
    if (!talker_open(&d->talker, dir, how, NULL, e)) return false;
    if (!answer_fits(&d->talker, e)) return false; /* else every request would fail */
    d->talker.o.limited_by = "the model's limit";  /* clients need not know its files */
    for (int64_t i = 0; i < d->talker.seats; i++)
        if (!choose_open(&d->seats[i].choose, &how->sampling, 0, d->talker.choose.vocab, e))
            return false;
    if (!decoder_open(&d->decoder, &d->talker.r, e)) return false;
    atomic_store(&d->loaded, true);
    return true;
}

void desk_close(struct desk *d)
{
    decoder_close(&d->decoder);
    for (int i = 0; i < DESK_SEATS; i++)
        choose_close(&d->seats[i].choose);
    talker_close(&d->talker);
    pthread_mutex_destroy(&d->lock);
    pthread_mutex_destroy(&d->reading);
    pthread_cond_destroy(&d->work);
}

/* ---- who waits ---- */

/* What a prompt was refused for, without the place in the JSON that the client has not written. */
static const char *without_place(const char *msg)
{
    static const char name[] = "conversation:";
    const char *at = msg + sizeof name - 1;

    if (strncmp(msg, name, sizeof name - 1) != 0) return msg;
    at += strspn(at, "0123456789:");
    return *at == ' ' ? at + 1 : msg;
}

static bool make_prompt(struct desk *d, struct job *job)
{
    const struct talker *t = &d->talker;
    struct fault *f = &job->fault;
    struct err why = {0};

    if (talk_prompt(&job->request.talk, &t->o, &job->prompt, &why)) {
        if (job->prompt.sample.prompt < t->o.max_length) return true;
        err_set(&why, "%lld tokens leave no room for an answer, %s is %lld",
                (long long)job->prompt.sample.prompt, t->o.limited_by, (long long)t->o.max_length);
    }
    if (why.machine) {
        f->why = why;
        f->status = 500;
        return false;
    }
    fault_set(f, 400, "messages", "%s", without_place(why.msg));
    if (strstr(why.msg, t->o.limited_by)) f->code = "context_length_exceeded";
    return false;
}

bool desk_read(struct desk *d, struct job *job, const char *body, size_t n)
{
    const struct talker_options *how = d->talker.how;
    const struct request *q = &job->request;
    bool ok;

    memset(job, 0, sizeof *job);
    CHECK(pthread_cond_init(&job->news, NULL) == 0);
    pthread_mutex_lock(&d->reading);
    ok = request_parse(&job->request, body, n, &job->fault) && make_prompt(d, job);
    pthread_mutex_unlock(&d->reading);
    job->how = (struct sampling){.penalty = 1, .temperature = q->temperature, .top_p = q->top_p};
    job->max_new = q->max_new ? q->max_new : how->max_new;
    job->seed = (uint64_t)q->seed;
    if (q->seed < 0 && getrandom(&job->seed, sizeof job->seed, 0) < 0)
        job->seed = (uint64_t)clock();
    return ok;
}

bool desk_put(struct desk *d, struct job *job)
{
    bool closing, room;

    pthread_mutex_lock(&d->lock);
    closing = atomic_load(&d->closing);
    room = d->waiting < d->queue_size && !closing;
    if (room) d->queue[d->waiting++] = job;
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->lock);
    return room || fault_set(&job->fault, 503, "",
                             closing ? "the server is about to end"
                                     : "%lld requests wait already: try again later",
                             (long long)d->queue_size);
}

bool desk_wait(struct desk *d, struct job *job, size_t seen, long ms)
{
    struct timespec at;
    bool news;
    int rc = 0;

    until(&at, ms);
    pthread_mutex_lock(&d->lock);
    while (!(news = job->n > seen || job->state == JOB_DONE) && rc == 0)
        rc = pthread_cond_timedwait(&job->news, &d->lock, &at);
    pthread_mutex_unlock(&d->lock);
    return news;
}

/* Takes it out of the queue, which has room for another then; under the lock. */
static bool unqueue(struct desk *d, const struct job *job)
{
    int64_t i = 0;

    while (i < d->waiting && d->queue[i] != job)
        i++;
    if (i == d->waiting) return false;
    d->waiting--;
    memmove(d->queue + i, d->queue + i + 1, (size_t)(d->waiting - i) * sizeof *d->queue);
    return true;
}

void desk_drop(struct desk *d, struct job *job)
{
    atomic_store(&job->gone, true);
    pthread_mutex_lock(&d->lock);
    if (job->state == JOB_WAITS && unqueue(d, job)) job->state = JOB_DONE;
    while (job->state != JOB_DONE)
        pthread_cond_wait(&job->news, &d->lock);
    pthread_mutex_unlock(&d->lock);
}

void job_free(struct job *job)
{
    talk_prompt_free(&job->prompt);
    request_free(&job->request);
    answer_free(&job->answer);
    free(job->text);
    pthread_cond_destroy(&job->news);
}

/* ---- the worker ---- */

static bool still_wanted(void *arg)
{
    const struct job *job = arg;

    return !atomic_load(&job->gone);
}

/* The job has ended, well or by its fault. */
static void finish(struct desk *d, struct job *job)
{
    pthread_mutex_lock(&d->lock);
    job->state = JOB_DONE;
    pthread_cond_broadcast(&job->news);
    pthread_mutex_unlock(&d->lock);
}

/* The machine's fault or the model's, but for a picture that cannot be decoded (NULL: none). */
static void fail(struct job *job, const struct dataset_image *picture, const struct err *why)
{
    const struct request *q = &job->request;
    struct fault *f = &job->fault;

    f->why = *why;
    f->status = 500;
    for (int64_t i = 0; picture && i < q->n_pictures; i++)
        if (q->pictures[i].data == picture->inside.data)
            fault_set(f, 400, q->places[i], "%s", why->msg);
}

/* Frees a seat; why: what went wrong, NULL: nothing. */
static void leave(struct desk *d, struct seat *s, const struct err *why)
{
    struct job *job = s->job;
    struct err e = {0};

    if (!why && !making_end(&s->making, &job->answer, &e)) why = &e;
    if (!why && job->answer.finish == FINISH_INTERRUPTED)
        fault_set(&job->fault, 503, "", "the server is about to end");
    if (why) {
        fail(job, s->making.refused, why);
        log_line("an answer has failed: %s", why->msg);
    }
    making_free(&s->making);
    s->job = NULL;
    finish(d, job);
}

/* Lets the one who waits see what is certain of the answer. */
static bool publish(struct desk *d, struct seat *s, struct err *e)
{
    const struct stream *from = &s->making.stream;
    struct job *job = s->job;
    bool ok;

    if (from->written <= job->n) return true;
    pthread_mutex_lock(&d->lock);
    ok = mem_grow(&job->text, &job->cap, from->written, 1, e);
    if (ok) {
        memcpy(job->text + job->n, from->text + job->n, from->written - job->n);
        job->n = from->written;
        pthread_cond_broadcast(&job->news);
    }
    pthread_mutex_unlock(&d->lock);
    return ok;
}

/* After a step of its answer. */
static void note_step(struct desk *d, struct seat *s, bool ok, struct err *e)
{
    ok = ok && publish(d, s, e);
    if (!ok || s->making.g.ended) leave(d, s, ok ? NULL : e);
}

/* The free seat whose cache has the most of the prompt; of several, that which was free longest. */
static struct seat *best_seat(struct desk *d, const struct job *job)
{
    struct seat *best = NULL;
    int64_t most = -1, n = 0;
    struct err unused;

    for (int64_t i = 0; i < d->talker.seats; i++) {
        struct seat *s = &d->seats[i];
        if (s->job) continue;
        if (!making_common(&d->talker, i, &job->prompt, &n, &unused)) n = 0;
        if (n < most || (n == most && s->used > best->used)) continue;
        best = s;
        most = n;
    }
    return best;
}

static void take(struct desk *d, struct seat *s, struct job *job)
{
    struct err e = {0};

    s->job = job;
    s->used = ++d->taken;
    s->turn = ++d->turns;
    s->choose.how = job->how;
    rng_seed(&s->choose.rng, job->seed, 0);
    s->asking = (struct asking){.prompt = &job->prompt,
                                .choose = &s->choose,
                                .max_new = job->max_new,
                                .stops = (const char *const *)job->request.stops,
                                .n_stops = job->request.n_stops,
                                .go_on = still_wanted,
                                .arg = job};
    if (making_begin(&s->making, &d->talker, s - d->seats, &s->asking, &e)) return;
    leave(d, s, &e);
}

/* The first job of the queue; NULL if there is none, after a while where nothing
 * else is to be done. */
static struct job *next_job(struct desk *d, bool idle)
{
    struct job *job = NULL;
    struct timespec at;

    until(&at, PATIENCE);
    pthread_mutex_lock(&d->lock);
    if (idle && !d->waiting) pthread_cond_timedwait(&d->work, &d->lock, &at);
    if (d->waiting) {
        job = d->queue[0];
        memmove(d->queue, d->queue + 1, (size_t)--d->waiting * sizeof *d->queue);
        job->state = JOB_RUNS;
    }
    pthread_mutex_unlock(&d->lock);
    return job;
}

/* Gives seats to those who wait, and refuses them once it is closing. */
static int64_t seat_jobs(struct desk *d, int64_t busy)
{
    const bool closing = signals_asked() != 0;
    struct job *job;

    if (closing) {
        pthread_mutex_lock(&d->lock); /* nothing is queued behind it */
        atomic_store(&d->closing, true);
        pthread_mutex_unlock(&d->lock);
    }
    while ((closing || busy < d->talker.seats) && (job = next_job(d, busy == 0 && !closing))) {
        if (closing || atomic_load(&job->gone)) {
            fault_set(&job->fault, 503, "", "the server is about to end");
            finish(d, job);
            continue;
        }
        take(d, best_seat(d, job), job);
        busy++;
    }
    return busy;
}

/* ---- prompts ---- */

/* Whether something can be done for a prompt: the next part's pictures are there, or one more is,
 * or nobody waits for it any longer. The decoder is asked for what is missing; a picture that it is
 * at cannot be left. */
static bool can_go_on(struct desk *d, struct seat *s, struct pixels *p)
{
    const struct dataset_image *img = making_wants(&s->making);

    if (!img || decoder_take(&d->decoder, img, p)) return true;
    if (decoder_has(&d->decoder, img)) return false;
    if (!making_goes_on(&s->making)) return true;
    decoder_ask(&d->decoder, img);
    return false;
}

/* The seat of the next prompt in the order of their last turns, after that of `after`
 * (NULL: the first). */
static struct seat *next_prompt(struct desk *d, const struct seat *after)
{
    struct seat *next = NULL;

    for (int64_t i = 0; i < d->talker.seats; i++) {
        struct seat *s = &d->seats[i];
        if (!s->job || s->making.g.n || !s->making.t) continue;
        if (after && s->turn <= after->turn) continue;
        if (!next || s->turn < next->turn) next = s;
    }
    return next;
}

/* A step of a prompt: it ends, or a picture is looked at, or a part is computed. */
static void step_prompt(struct desk *d, struct seat *s, const struct pixels *p)
{
    struct making *m = &s->making;
    struct err e = {0};
    bool ok = true;

    if (!making_goes_on(m))
        m->g.ended = true;
    else if (making_wants(m))
        ok = making_see(m, p, &e);
    else
        ok = making_prompt(m, &e);
    note_step(d, s, ok, &e);
}

/* A step of the first prompt that can go on, which then waits for the others'
 * turns; false: none can. */
static bool step_prompts(struct desk *d)
{
    struct seat *s = next_prompt(d, NULL);
    struct pixels p = {.values = NULL};

    while (s && !can_go_on(d, s, &p))
        s = next_prompt(d, s);
    if (s) {
        s->turn = ++d->turns;
        step_prompt(d, s, &p);
    }
    pixels_free(&p);
    return s;
}

/* ---- steps ---- */

/* A token of all answers whose prompts are computed; false: there are none. */
static bool step_answers(struct desk *d)
{
    struct making *together[DESK_SEATS];
    struct seat *at[DESK_SEATS];
    struct err e = {0};
    int64_t n = 0;
    bool ok;

    for (int64_t i = 0; i < d->talker.seats; i++) {
        struct seat *s = &d->seats[i];
        if (!s->job || !s->making.g.n) continue;
        at[n] = s;
        together[n++] = &s->making;
    }
    if (n == 0) return false;
    ok = making_step(&d->talker, together, n, &e);
    for (int64_t i = 0; i < n; i++)
        note_step(d, at[i], ok, &e);
    return true;
}

/* All that have a seat wait for a picture: so does the worker, unless somebody
 * else can have one. */
static void rest(struct desk *d, int64_t busy)
{
    struct timespec at;

    until(&at, PATIENCE);
    pthread_mutex_lock(&d->lock);
    if (!d->decoder.is_done && (d->waiting == 0 || busy == d->talker.seats))
        pthread_cond_timedwait(&d->work, &d->lock, &at);
    pthread_mutex_unlock(&d->lock);
}

/* A part of a prompt, or one of its pictures; then a token of all other answers. */
static void step(struct desk *d, int64_t busy)
{
    const bool prompt = step_prompts(d), answers = step_answers(d);

    if (!prompt && !answers) rest(d, busy);
}

void desk_work(struct desk *d)
{
    int64_t busy = 0;

    while (busy || !atomic_load(&d->closing)) {
        busy = seat_jobs(d, busy);
        if (busy) step(d, busy);
        busy = 0;
        for (int64_t i = 0; i < d->talker.seats; i++)
            busy += d->seats[i].job != NULL;
    }
}
