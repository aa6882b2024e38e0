/* test_desk.c - the desk without HTTP: a picture is decoded while other answers go on, one at a
 * time, and what becomes of it where its client leaves. Order is forced, not timed: the decoder's
 * `read` waits for what is to happen meanwhile. Answers over a socket are test_serve.c's. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "base/base64.h"
#include "serve/desk.h"
#include "tests/program.h"

#include <stdio.h>
#include <unistd.h>

#define SERVED "configs/quickstart/model"

/* A desk at work, of so many seats. */
struct office {
    struct desk desk;
    struct talker_options how;
    pthread_t worker;
    bool loaded;
};

static void *work(void *arg)
{
    struct office *o = arg;
    struct err e = {0};

    o->loaded = desk_load(&o->desk, SERVED, &o->how, &e);
    if (o->loaded)
        desk_work(&o->desk);
    else
        print_message("%s\n", e.msg);
    return NULL;
}

static void begin(struct office *o, int64_t seats,
                  void (*read)(struct pixels *, const struct run *, const struct dataset_image *))
{
    memset(o, 0, sizeof *o);
    o->how = (struct talker_options){.threads = 1,
                                     .seed = 1,
                                     .max_new = 64,
                                     .seats = seats,
                                     .part = DESK_PART,
                                     .sampling = {.penalty = 1, .top_p = 1}};
    desk_open(&o->desk, 8);
    o->desk.decoder.read = read;
    assert_int_equal(pthread_create(&o->worker, NULL, work, o), 0);
    for (int i = 0; i < 3000 && !atomic_load(&o->desk.loaded); i++)
        usleep(10000);
    assert_true(atomic_load(&o->desk.loaded));
}

static void end(struct office *o)
{
    atomic_store(&o->desk.closing, true);
    assert_int_equal(pthread_join(o->worker, NULL), 0);
    assert_true(o->loaded);
    desk_close(&o->desk);
}

/* A question, about so many pictures. */
static void make_job(void *const *state, struct office *o, struct job *job, int pictures)
{
    char *body, *parts = strdup(""), *more;
    struct err e;
    size_t n;

    for (int i = 0; i < pictures; i++) {
        char name[60];
        snprintf(name, sizeof name, "s/images/test-%06d.png", i);
        char *bytes = slurp(tmpdir_path(state, name), &n);
        char *digits = base64_encode((uint8_t *)bytes, n, &e);
        assert_non_null(digits);
        assert_true(asprintf(&more,
                             "%s{\"type\":\"image_url\",\"image_url\":{\"url\":"
                             "\"data:image/png;base64,%s\"}},",
                             parts, digits) > 0);
        free(bytes);
        free(digits);
        free(parts);
        parts = more;
    }
    assert_true(asprintf(&body,
                         "{\"messages\":[{\"role\":\"user\",\"content\":[%s{\"type\":\"text\","
                         "\"text\":\"What does the picture show?\"}]}]}",
                         parts) > 0);
    if (!desk_read(&o->desk, job, body, strlen(body))) fail_msg("%s", job->fault.why.msg);
    free(parts);
    free(body);
}

static void put(struct office *o, struct job *job)
{
    if (!desk_put(&o->desk, job)) fail_msg("%s", job->fault.why.msg);
}

enum { PATIENCE = 60 * 1000 }; /* ms after which something has gone wrong */

static void wait_seated(struct office *o, struct job *job)
{
    bool seated = false;

    for (int i = 0; i < PATIENCE && !seated; i++, usleep(1000)) {
        pthread_mutex_lock(&o->desk.lock);
        seated = job->state == JOB_RUNS;
        pthread_mutex_unlock(&o->desk.lock);
    }
    assert_true(seated);
}

static void wait_done(struct office *o, struct job *job)
{
    if (!desk_wait(&o->desk, job, SIZE_MAX, PATIENCE)) fail_msg("an answer does not end");
    assert_int_equal(job->fault.status, 0);
}

/* ---- readers ---- */

/* What a reader waits for before it decodes, and how often it was called. */
static struct {
    struct office *o;
    struct job *until; /* done */
    atomic_bool *flag;
    atomic_int inside, most, calls;
    atomic_bool came, late;
    const uint8_t *read[8]; /* the pictures' bytes, of the first calls */
} gate;

static void slow_read(struct pixels *p, const struct run *r, const struct dataset_image *img)
{
    const int now = atomic_fetch_add(&gate.inside, 1) + 1;

    *p = (struct pixels){.values = NULL};
    if (now > atomic_load(&gate.most)) atomic_store(&gate.most, now);
    const int call = atomic_fetch_add(&gate.calls, 1);
    if (call < 8) gate.read[call] = img->inside.data;
    atomic_store(&gate.came, true);
    if (gate.until && !desk_wait(&gate.o->desk, gate.until, SIZE_MAX, PATIENCE))
        atomic_store(&gate.late, true);
    for (int i = 0; gate.flag && !atomic_load(gate.flag); i++, usleep(1000))
        if (i == PATIENCE) return atomic_store(&gate.late, true);
    pixels_read(p, r, img);
    atomic_fetch_sub(&gate.inside, 1);
}

static void set_gate(struct office *o, struct job *until, atomic_bool *flag)
{
    memset(&gate, 0, sizeof gate);
    gate.o = o;
    gate.until = until;
    gate.flag = flag;
}

static void wait_came(void)
{
    for (int i = 0; i < PATIENCE && !atomic_load(&gate.came); i++)
        usleep(1000);
    assert_true(atomic_load(&gate.came));
}

/* What the question about n pictures is answered with alone. */
static char *alone(void *const *state, int pictures)
{
    struct office o;
    struct job job;
    char *text;

    begin(&o, 1, pixels_read);
    make_job(state, &o, &job, pictures);
    put(&o, &job);
    wait_done(&o, &job);
    text = strdup(job.answer.text);
    assert_true(text && *text);
    job_free(&job);
    end(&o);
    return text;
}

/* ---- tests ---- */

/* The picture of the first question is decoded only after the whole answer to a later one: so that
 * was made meanwhile. */
static void test_goes_on(void **state)
{
    struct office o;
    struct job picture, text;
    char *want = alone(state, 1);

    begin(&o, 2, slow_read);
    make_job(state, &o, &picture, 1);
    make_job(state, &o, &text, 0);
    set_gate(&o, &text, NULL);
    put(&o, &picture);
    wait_came();
    put(&o, &text);
    wait_done(&o, &text);
    wait_done(&o, &picture);
    assert_false(atomic_load(&gate.late));
    assert_true(picture.answer.image_tokens > 0 && text.answer.image_tokens == 0);
    assert_string_equal(picture.answer.text, want);
    job_free(&picture);
    job_free(&text);
    end(&o);
    free(want);
}

/* Several requests with several pictures: one is decoded at a time, and all are
 * answered as alone. */
static void test_one_at_a_time(void **state)
{
    enum { JOBS = 3, PICTURES = 2 };
    struct office o;
    struct job jobs[JOBS];
    char *want = alone(state, PICTURES);

    begin(&o, JOBS, slow_read);
    set_gate(&o, NULL, NULL);
    for (int i = 0; i < JOBS; i++) {
        make_job(state, &o, &jobs[i], PICTURES);
        put(&o, &jobs[i]);
    }
    for (int i = 0; i < JOBS; i++) {
        wait_done(&o, &jobs[i]);
        assert_string_equal(jobs[i].answer.text, want);
        job_free(&jobs[i]);
    }
    assert_int_equal(atomic_load(&gate.most), 1);
    assert_int_equal(atomic_load(&gate.calls), JOBS * PICTURES);
    end(&o);
    free(want);
}

/* A request with one picture has its turn behind one of an earlier request that has several. */
static void test_turns(void **state)
{
    enum { PICTURES = 3 };
    struct office o;
    struct job many, one;
    atomic_bool open = false;

    begin(&o, 2, slow_read);
    make_job(state, &o, &many, PICTURES);
    make_job(state, &o, &one, 1);
    set_gate(&o, NULL, &open);
    put(&o, &many);
    wait_came();
    put(&o, &one);
    wait_seated(&o, &one);
    atomic_store(&open, true);
    wait_done(&o, &one);
    wait_done(&o, &many);
    assert_false(atomic_load(&gate.late));
    assert_int_equal(atomic_load(&gate.calls), PICTURES + 1);
    assert_ptr_equal(gate.read[0], many.request.pictures[0].data);
    assert_ptr_equal(gate.read[1], one.request.pictures[0].data);
    assert_ptr_equal(gate.read[2], many.request.pictures[1].data);
    job_free(&many);
    job_free(&one);
    end(&o);
}

/* One whose picture waits for the decoder is given up at once; one whose picture is in it, when
 * that is decoded; and the next is answered. */
static void *drop(void *arg)
{
    desk_drop(&gate.o->desk, arg);
    return NULL;
}

static void test_left(void **state)
{
    struct office o;
    struct job inside, behind, next;
    atomic_bool open = false;
    pthread_t leaves;
    char *want = alone(state, 1);

    begin(&o, 2, slow_read);
    make_job(state, &o, &inside, 1);
    make_job(state, &o, &behind, 1);
    make_job(state, &o, &next, 1);
    set_gate(&o, NULL, &open);
    put(&o, &inside);
    wait_came();
    put(&o, &behind);
    wait_seated(&o, &behind);
    desk_drop(&o.desk, &behind); /* returns although the decoder waits */
    assert_int_equal(atomic_load(&gate.calls), 1);
    put(&o, &next); /* there is a seat for it */
    assert_int_equal(pthread_create(&leaves, NULL, drop, &inside), 0);
    assert_false(desk_wait(&o.desk, &inside, SIZE_MAX, 100)); /* its picture is in use */
    atomic_store(&open, true);
    assert_int_equal(pthread_join(leaves, NULL), 0);
    wait_done(&o, &next);
    assert_false(atomic_load(&gate.late));
    assert_string_equal(next.answer.text, want);
    job_free(&inside);
    job_free(&behind);
    job_free(&next);
    end(&o);
    free(want);
}

static void bad_read(struct pixels *p, const struct run *r, const struct dataset_image *img)
{
    (void)r;
    *p = (struct pixels){.values = NULL};
    err_set(&p->why, "%s: is no picture", img->path);
}

static void broken_read(struct pixels *p, const struct run *r, const struct dataset_image *img)
{
    bad_read(p, r, img);
    p->why.machine = true;
}

/* A picture's fault is the client's, memory that runs out is not. */
static void test_bad(void **state)
{
    static const struct {
        void (*read)(struct pixels *, const struct run *, const struct dataset_image *);
        int status;
        const char *param;
    } rows[] = {{bad_read, 400, "messages[0].content[0]"}, {broken_read, 500, ""}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct office o;
        struct job job;
        begin(&o, 1, rows[i].read);
        make_job(state, &o, &job, 1);
        put(&o, &job);
        assert_true(desk_wait(&o.desk, &job, SIZE_MAX, PATIENCE));
        assert_int_equal(job.fault.status, rows[i].status);
        assert_string_equal(job.fault.param, rows[i].param);
        job_free(&job);
        end(&o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_goes_on), program_test(test_one_at_a_time), program_test(test_turns),
        program_test(test_left),    program_test(test_bad),
    };

    return cmocka_run_group_tests_name("desk", tests, NULL, NULL);
}
