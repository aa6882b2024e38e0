/* test_watch.c - files that change while they are mapped: what is detected, with which message a
 * process ends that would read missing data, and what a run leaves in that case. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/signals.h"
#include "tests/sanitized.h"
#include "tests/tmpdir.h"

#include "tests/program.h"
#include "tests/tiny_run.h"

enum { BYTES = 100000 };

static const char *make_file(void *const *state, const char *name, char fill)
{
    const char *path = tmpdir_path(state, name);
    char *bytes = malloc(BYTES);

    memset(bytes, fill, BYTES);
    spill(path, bytes, BYTES);
    free(bytes);
    return path;
}

static void map(struct file_map *m, const char *path)
{
    struct err e;

    if (!file_map_open(m, path, &e)) fail_msg("%s", e.msg);
    sleep_ms(30); /* a later time for the next write, even with a coarse clock */
}

/* One byte in the middle of the file, in place. */
static void write_into(const char *path)
{
    int fd = open(path, O_WRONLY);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, BYTES / 2), 1);
    assert_int_equal(close(fd), 0);
}

static void touch(const char *path)
{
    sleep_ms(30);
    assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
}

static void expect_changed(const char *path, const char *how)
{
    struct err e = {0};
    char text[2000];

    snprintf(text, sizeof text,
             "%s: was changed while it was in use: %s; put it back as it was and start again", path,
             how);
    assert_false(watch_check(&e));
    assert_string_equal(e.msg, text);
}

static void expect_unchanged(void)
{
    struct err e;

    if (!watch_check(&e)) fail_msg("%s", e.msg);
}

static void test_written(void **state)
{
    const char *path = make_file(state, "a", 'a'), *other = make_file(state, "b", 'b');
    static const char how[] = "it was written again, with as many bytes as before";
    struct file_map m, n;

    map(&n, other);
    map(&m, path);
    expect_unchanged();
    write_into(path);
    expect_changed(path, how);
    expect_changed(path, how); /* as long as it is mapped */
    file_map_close(&m);
    expect_changed(path, how); /* and again after that */
    expect_unchanged();
    map(&m, path); /* its present state is fine */
    expect_unchanged();
    file_map_close(&m);
    file_map_close(&n);
    expect_unchanged();
}

static void test_size(void **state)
{
    const char *path = make_file(state, "a", 'a');
    struct file_map m;

    map(&m, path);
    assert_int_equal(truncate(path, 17), 0);
    expect_changed(path, "it had 100000 bytes and has 17 now");
    assert_int_equal(truncate(path, BYTES + 1), 0);
    file_map_close(&m);
    expect_changed(path, "it had 100000 bytes and has 100001 now");
}

/* The mapping has the bytes of the file that was opened, whichever file has its name now. */
static void test_replaced(void **state)
{
    const char *path = make_file(state, "a", 'a'), *other = make_file(state, "b", 'b');
    struct file_map m;

    map(&m, path);
    assert_int_equal(rename(other, path), 0);
    expect_unchanged();
    assert_int_equal(m.data[BYTES - 1], 'a');
    assert_int_equal(unlink(path), 0);
    expect_unchanged();
    assert_int_equal(m.data[BYTES - 1], 'a');
    file_map_close(&m);
    expect_unchanged();
}

/* Of a file whose contents are not known, another time is a change. */
static void test_touched(void **state)
{
    const char *path = make_file(state, "a", 'a'), *later = make_file(state, "b", 'b');
    struct file_map m, n;
    struct err e;

    map(&m, path);
    touch(path);
    expect_changed(path, "it was written again, with as many bytes as before");
    assert_true(watch_sum_mapped(&e)); /* too late: this is not what was opened */
    expect_changed(path, "it was written again, with as many bytes as before");
    file_map_close(&m);
    assert_false(watch_check(&e));
    map(&n, later);
    assert_true(watch_sum_mapped(&e));
    touch(later);
    expect_unchanged();
    write_into(later);
    expect_changed(later, "it was written again, with as many bytes as before");
    file_map_close(&n);
    assert_false(watch_check(&e));
}

/* Entries are reused; each belongs to its own file. */
static void test_many(void **state)
{
    enum { FILES = 40 };
    struct file_map m[FILES] = {0};
    char name[32];

    for (int round = 0; round < 3; round++) {
#pragma omp parallel for
        for (int i = 0; i < FILES; i++) {
            char path[1300];
            struct err e;
            snprintf(path, sizeof path, "%s/f%d", (const char *)*state, i);
            spill(path, "some bytes", 10);
            if (!file_map_open(&m[i], path, &e)) abort();
        }
        sleep_ms(30);
        expect_unchanged();
        snprintf(name, sizeof name, "f%d", 7 * round);
        spill(tmpdir_path(state, name), "other", 5);
        expect_changed(tmpdir_path(state, name), "it had 10 bytes and has 5 now");
        for (int i = 0; i < FILES; i++)
            file_map_close(&m[i]);
        expect_changed(tmpdir_path(state, name), "it had 10 bytes and has 5 now");
        expect_unchanged();
    }
}

/* ---- files that are opened again ---- */

/* Touched, or replaced by a copy: its mapping and its name are fine as long as the bytes are. */
static void check_same_bytes(void **state, const char *a)
{
    const char *copy = make_file(state, "copy", 'a');
    struct file_map m;
    struct err e = {0};

    map(&m, a);
    touch(a);
    expect_unchanged();
    touch(a); /* now noticed by its name first */
    assert_true(watch_kept(&e));
    expect_unchanged();
    assert_int_equal(rename(copy, a), 0);
    assert_true(watch_kept(&e));
    expect_unchanged();
    file_map_close(&m);
    map(&m, a);
    touch(a);
    file_map_close(&m);
    expect_unchanged();
    assert_true(watch_kept(&e));
}

/* Another file of the same size that was given the same time (cp -p). */
static void check_same_time(void **state, const char *a)
{
    const char *keep = tmpdir_path(state, "keep"), *other = make_file(state, "other", 'o');
    struct err e = {0};
    struct stat st;

    assert_int_equal(stat(a, &st), 0);
    assert_int_equal(utimensat(AT_FDCWD, other, (struct timespec[]){st.st_atim, st.st_mtim}, 0), 0);
    assert_int_equal(rename(a, keep), 0);
    assert_int_equal(rename(other, a), 0);
    assert_false(watch_kept(&e));
    assert_non_null(strstr(e.msg, "/a: was changed while it was in use: it was written again"));
    assert_int_equal(rename(keep, a), 0);
    assert_true(watch_kept(&e));
}

static void test_kept(void **state)
{
    const char *a = make_file(state, "a", 'a'), *b = make_file(state, "b", 'b');
    struct err e = {0};

    assert_true(watch_keep(tmpdir_path(state, "none"), &e)); /* nothing to remember */
    assert_true(watch_keep(a, &e) && watch_keep(a, &e));
    assert_true(watch_kept(&e));
    check_same_bytes(state, a);
    check_same_time(state, a);
    sleep_ms(30);
    write_into(a);
    assert_true(watch_keep(a, &e)); /* the first time counts */
    assert_false(watch_kept(&e));
    assert_non_null(strstr(e.msg, "/a: was changed while it was in use: it was written again"));
    assert_int_equal(rename(b, a), 0);
    assert_false(watch_kept(&e));
    assert_non_null(strstr(e.msg, "/a: was changed while it was in use: it was written again"));
    assert_int_equal(unlink(a), 0);
    assert_false(watch_kept(&e));
    assert_non_null(strstr(e.msg, "/a: is gone"));
}

/* ---- data that is gone when it is read ---- */

static void read_all(const char *data)
{
    volatile char sum = 0;

    for (int i = 0; i < BYTES; i += 100)
        sum = (char)(sum + data[i]);
}

static void cut_and_read(const char *path)
{
    struct file_map m;

    map(&m, path);
    if (truncate(path, 0) == 0) read_all((const char *)m.data);
}

static void cut_and_read_in_threads(const char *path)
{
    struct file_map m;

    map(&m, path);
    if (truncate(path, 4096) != 0) return;
#pragma omp parallel num_threads(4)
    {
        signals_own_stack();
        read_all((const char *)m.data); /* all threads: one message */
    }
}

static void remove_and_cut(const char *path)
{
    int fd = open(path, O_RDWR);
    struct file_map m;

    map(&m, path);
    if (unlink(path) == 0 && ftruncate(fd, 0) == 0) read_all((const char *)m.data);
}

static void scratch(const char *path)
{
    int fd = open(path, O_RDWR);
    void *data = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
    struct err e;

    watch_add(data, BYTES, "/some/dir", -1, &e);
    if (ftruncate(fd, 0) == 0) read_all(data);
}

/* Not one of our files: the process ends as it would without us. */
static void cut_another(const char *path)
{
    int fd = open(path, O_RDWR);
    const char *data = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
    struct file_map m;

    map(&m, path);
    file_map_close(&m);
    if (ftruncate(fd, 0) == 0) read_all(data);
}

static void sent(const char *path)
{
    struct file_map m;

    map(&m, path);
    raise(SIGBUS);
}

static const struct {
    const char *name;
    void (*body)(const char *path);
    const char *text; /* printed if the status is 1; NULL: the process is killed by SIGBUS */
} bus_errors[] = {
    {"cut", cut_and_read,
     "mapped: was changed while it was in use: it had 100000 bytes and has 0 now; put it back as "
     "it "
     "was and start again\n"},
    {"threads", cut_and_read_in_threads,
     "mapped: was changed while it was in use: it had 100000 bytes and has 4096 now; put it back "
     "as "
     "it was and start again\n"},
    {"removed", remove_and_cut,
     "mapped: was changed while it was in use: it had 100000 bytes and has 0 now; put it back as "
     "it "
     "was and start again\n"},
    {"scratch", scratch,
     "/some/dir: the scratch file there cannot be used any more: is the disk full?\n"},
    {"another", cut_another, NULL},
    {"sent", sent, NULL},
};

/* Runs this program again, because cmocka handles SIGBUS itself. Its standard error in `text`. */
static int as_program(void *const *state, const char *name, char **text)
{
    const char *path = make_file(state, "mapped", 'm');
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        int fd = open(tmpdir_path(state, "err"), O_WRONLY | O_CREAT | O_TRUNC, 0666);
        dup2(fd, STDERR_FILENO);
        execl("/proc/self/exe", "test_watch", name, path, (char *)NULL);
        _exit(98);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    *text = slurp(tmpdir_path(state, "err"), NULL);
    return status;
}

static int be_program(const char *name, const char *path)
{
    for (size_t i = 0; i < sizeof bus_errors / sizeof *bus_errors; i++)
        if (strcmp(bus_errors[i].name, name) == 0) bus_errors[i].body(path);
    return 99;
}

static void test_bus_error(void **state)
{
    for (size_t i = 0; i < sizeof bus_errors / sizeof *bus_errors; i++) {
        const char *end = bus_errors[i].text;
        char *text;
        int status = as_program(state, bus_errors[i].name, &text);
        size_t n = strlen(text), want = end ? strlen(end) : 0;
        bool right =
            !end && SANITIZED ? strstr(text, "AddressSanitizer") && !strstr(text, "was changed")
            : !end            ? WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS && n == 0
                              : WIFEXITED(status) && WEXITSTATUS(status) == 1 && n > want &&
                         strcmp(text + n - want, end) == 0 && strchr(text, '\n') == text + n - 1 &&
                         strncmp(text, "test_watch: error: /", 20) == 0;
        if (!right) fail_msg("%s: status %x: %s", bus_errors[i].name, (unsigned)status, text);
        free(text);
    }
}

/* ---- a run ---- */

/* A training from T/model, with its end near or far. */
#define TRAIN                                                                                      \
    "$B/mha2mla-train --config $C --set model.path=$T/model "                                      \
    "--set 'run.steps=[\"rank\",\"stage1\"]' "
#define FAR "--set stage1.steps=1000000 "
#define NEAR "--set stage1.steps=400 "
#define STAGE1 "run/rope4/stage1"

static void make_model(void *const *state)
{
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' "
                    "--set run.dir=$T/made && cp -r $T/made/baseline/model $T/model && "
                    "cp -r $T/model $T/keep && cp $T/s/train.json $T/keep.json");
}

static void fail_with_output(void *const *state, pid_t pid, const char *what)
{
    kill(pid, SIGKILL);
    finish(pid);
    fail_msg("%s:\n%s", what, output(state));
}

/* Any file matching a pattern: old checkpoints are deleted, perhaps before we get to look. */
static bool any_there(const char *pattern)
{
    glob_t found;
    bool any = glob(pattern, 0, NULL, &found) == 0;

    globfree(&found);
    return any;
}

/* Starts a training, changes something once it has saved a checkpoint, and waits for its end. */
static int disturbed(void *const *state, const char *command, const char *change)
{
    char text[2000];
    pid_t pid;
    int tries = 6000; /* 60 s at most */

    must_run(state, "rm -rf $T/run");
    pid = start(*state, command);
    while (!any_there(tmpdir_path(state, STAGE1 "/checkpoints/step-*.h5"))) {
        if (--tries == 0) fail_with_output(state, pid, "no checkpoint");
        sleep_ms(10);
    }
    snprintf(text, sizeof text, "T='%s'; { %s; } 2> /dev/null", (const char *)*state, change);
    if (system(text) != 0) fail_msg("%s", text);
    return finish(pid);
}

/* Resumes from the checkpoint, and reports what has changed. */
static void must_go_on(void *const *state, const char *text)
{
    pid_t pid = start(*state, "exec " TRAIN FAR "--resume");
    char *out = output(state);

    for (int tries = 6000; !strstr(out, "continues from step ") || !strstr(out, text);
         out = output(state)) {
        free(out);
        if (--tries == 0) fail_with_output(state, pid, "does not go on");
        sleep_ms(10);
    }
    free(out);
    kill(pid, SIGKILL);
    finish(pid);
}

/* Changed in place: reported, status 1, and everything saved before is intact. Once the file is
 * restored, the run resumes. */
static void test_run(void **state)
{
    static const struct {
        const char *change, *text;
    } cases[] = {
        {": > $T/model/model.safetensors",
         "model/model.safetensors: was changed while it was in use: it had "},
        {"printf x | dd of=$T/model/model.safetensors bs=1 seek=200000 conv=notrunc",
         "model/model.safetensors: was changed while it was in use: it was written again"},
        {"truncate -s 5000 $T/s/train.json", "s/train.json: was changed while it was in use"},
        {"sed 's/red/two/' $T/s/train.json > $T/x; cat $T/x > $T/s/train.json",
         "s/train.json: was changed while it was in use"},
    };

    make_model(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = disturbed(state, "exec " TRAIN FAR, cases[i].change);
        char *out = output(state), *line = strstr(out, "mha2mla-train: error: ");
        if (rc != 1 || !line || !strstr(line, cases[i].text) || strchr(line, '\n')[1])
            fail_msg("%s: status %d\n%s", cases[i].change, rc, out);
        free(out);
        must_run(state, "test -z \"$(find $T/run -name '*.tmp')\"");
        if (i == 1)
            must_fail(state, TRAIN FAR "--resume",
                      "model.path/model.safetensors has changed since this run began: put it back");
        must_run(state, "cp $T/keep/* $T/model; cat $T/keep.json > $T/s/train.json");
        must_go_on(state, "");
    }
}

/* The same bytes, written again or under the same name: nothing has changed. */
static void check_run_same(void *const *state, const char *sum)
{
    static const char *const changes[] = {
        "cp $T/model/model.safetensors $T/x; mv $T/x $T/model/model.safetensors",
        "touch $T/model/* $T/s/train.json $T/tok/*",
        "cp $T/model/config.json $T/x; mv $T/x $T/model/config.json",
    };

    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        if (disturbed(state, "exec " TRAIN NEAR, changes[i]) != 0)
            fail_msg("%s:\n%s", changes[i], output(state));
        must_say(state, "was written again while it was in use, with the same contents");
        must_run(state, sum);
    }
}

/* Another file under the name of a mapped one: training continues with the bytes it has. A model is
 * not published if the run has to read that name again. */
static void test_run_replaced(void **state)
{
    const char *sum = "sha256sum < $T/" STAGE1 "/model/model.safetensors | diff $T/sums -";
    char *out;

    make_model(state);
    must_run(state, TRAIN NEAR);
    must_run(state, "sha256sum < $T/" STAGE1 "/model/model.safetensors > $T/sums");
    if (disturbed(state, "exec " TRAIN NEAR, "sed -i 's/red/two/' $T/s/train.json") != 0)
        fail_msg("%s", output(state));
    must_run(state, sum);
    must_run(state, "cat $T/keep.json > $T/s/train.json");
    check_run_same(state, sum);

    for (int i = 0; i < 2; i++) {
        static const char *const names[] = {"model.safetensors", "config.json"};
        char change[300], text[200];
        snprintf(change, sizeof change,
                 "head -c -1 $T/model/%s > $T/x; printf ' ' >> $T/x; mv $T/x $T/model/%s", names[i],
                 names[i]);
        snprintf(text, sizeof text,
                 "model/%s: was changed while it was in use: it was written again", names[i]);
        int rc = disturbed(state, "exec " TRAIN NEAR, change);
        out = output(state);
        if (rc != 1 || !strstr(out, text)) fail_msg("status %d, no '%s':\n%s", rc, text, out);
        free(out);
        assert_false(is_there(tmpdir_path(state, STAGE1 "/model")));
        must_run(state, "test -z \"$(find $T/run -name '*.tmp')\"");
        must_run(state, "cp $T/keep/* $T/model");
        must_run(state, TRAIN NEAR "--resume");
        must_run(state, sum);
    }
}

/* The run's directory loses its name: nothing is written under that any more, and what was is still
 * good to go on from. */
static void test_run_moved(void **state)
{
    static const char sum[] = "sha256sum < $T/" STAGE1 "/model/model.safetensors | diff $T/sums -";
    static const char *const changes[][2] = {
        {"mv $T/run $T/elsewhere",
         "run: was renamed while the run worked in it: put it back as it "},
        {"mv $T/run $T/elsewhere; mkdir $T/run", "run: was renamed while the run worked in it"},
        {"mv $T/run $T/gone; rm -rf $T/gone", "while the run worked in it: put it back"}};

    make_model(state);
    must_run(state, TRAIN NEAR);
    must_run(state, "sha256sum < $T/" STAGE1 "/model/model.safetensors > $T/sums");
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        int rc = disturbed(state, "exec " TRAIN FAR, changes[i][0]);
        char *out = output(state), *line = strstr(out, "mha2mla-train: error: ");
        if (rc != 1 || !line || !strstr(line, changes[i][1]) || strchr(line, '\n')[1])
            fail_msg("%s: status %d\n%s", changes[i][0], rc, out);
        free(out);
        must_run(state, "test -z \"$(ls $T/run 2> /dev/null)\"");
        if (i == 2) continue;
        must_run(state, "rm -rf $T/run; mv $T/elsewhere $T/run");
        must_go_on(state, "");
    }
    if (disturbed(state, "exec " TRAIN NEAR, "mv $T/run $T/elsewhere") != 1)
        fail_msg("%s", output(state));
    must_run(state, "mv $T/elsewhere $T/run && " TRAIN NEAR "--resume");
    must_run(state, sum);
}

/* A picture that is no longer the one whose sum was taken: otherwise its features would be stored,
 * for all runs, under the sum of another picture. */
static void test_picture(void **state)
{
    const char *const more[] = {"data.eval=[]", NULL};
    struct model m = {0};
    struct run r;
    struct err e = {0};

    tiny_run(&r, state, more);
    if (!make_baseline_model(&r, &m, &e) || !run_open_data(&r, &m.cfg, &e)) fail_msg("%s", e.msg);
    memset(r.train.images[0].key, '0', 64);
    assert_false(run_open_pictures(&r, &m, true, &e));
    assert_non_null(strstr(e.msg, "a.png: was changed while it was in use"));
    model_close(&m);
    run_close(&r);
}

int main(int argc, char **argv)
{
    if (argc == 3) return be_program(argv[1], argv[2]);
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_written),    tmpdir_test(test_size),    tmpdir_test(test_replaced),
        tmpdir_test(test_touched),    tmpdir_test(test_many),    tmpdir_test(test_kept),
        tmpdir_test(test_bus_error),  program_test(test_run),    program_test(test_run_replaced),
        program_test(test_run_moved), tmpdir_test(test_picture),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
