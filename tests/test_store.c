/* test_store.c - the cache of what was computed from pictures: entries come back, whatever happens
 * to its files (cut, bits flipped, lies, a full disk, a killed writer) is found or harmless, and it
 * is about one tower, one processor, one picture. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "data/store.h"
#include "tests/full_disk.h"
#include "tests/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <sys/file.h>
#include <time.h>

#include "tests/tiny_run.h"

#define ABOUT "features of nothing"

enum { WIDTH = 6 };

static void must(bool ok, const struct err *e)
{
    if (!ok) fail_msg("%s", e->msg);
}

static const char *key_of(int i)
{
    static char key[65];

    snprintf(key, sizeof key, "%064d", i);
    return key;
}

static void row_of(int i, float row[WIDTH])
{
    for (int k = 0; k < WIDTH; k++)
        row[k] = (float)(100 * i + k) + 0.5f;
}

static void open_store(struct store *s, const char *dir, bool write)
{
    struct err e;

    must(store_open(s, dir, ABOUT, WIDTH, write, &e), &e);
}

/* Appends the entries [from, to) in one part. */
static void add(const char *dir, int from, int to)
{
    struct store s;
    struct err e;
    float row[WIDTH];

    open_store(&s, dir, true);
    for (; from < to; from++) {
        row_of(from, row);
        must(store_put(&s, key_of(from), row, &e), &e);
    }
    must(store_close(&s, &e), &e);
}

/* Whether entry i is there; if so it must be right. */
static bool has(const struct store *s, int i)
{
    int64_t at = store_find(s, key_of(i));
    float want[WIDTH], got[WIDTH];

    if (at < 0) return false;
    row_of(i, want);
    store_get(s, at, got);
    assert_memory_equal(got, want, sizeof want);
    return true;
}

/* The store cannot be opened, and one line says why, which file, and that it may go. */
static void refused(const char *dir, const char *about, int64_t width, const char *says)
{
    struct store s;
    struct err e = {""};

    assert_false(store_open(&s, dir, about, width, false, &e));
    if (!strstr(e.msg, says) || !strstr(e.msg, "/part-00000.h5: ") ||
        !strstr(e.msg, "; delete it") || strchr(e.msg, '\n'))
        fail_msg("'%s' lacks '%s'", e.msg, says);
}

static void test_round_trip(void **state)
{
    struct store s;
    struct err e;
    float row[WIDTH];

    open_store(&s, *state, true);
    for (int i = 0; i < 1000; i++) { /* the list of keys grows a few times */
        assert_false(has(&s, i));
        row_of(i, row);
        must(store_put(&s, key_of(i), row, &e), &e);
        assert_true(has(&s, i)); /* before it is on the disk */
    }
    assert_true(has(&s, 0) && !has(&s, 1000));
    must(store_close(&s, &e), &e);
    add(*state, 1000, 1003);
    add(*state, 0, 0); /* nothing new: no file */
    assert_true(is_there(tmpdir_path(state, "part-00001.h5")));
    assert_false(is_there(tmpdir_path(state, "part-00002.h5")));
    assert_false(is_there(tmpdir_path(state, "part-00000.h5.tmp")));
    open_store(&s, *state, false);
    assert_int_equal(s.n, 1003);
    for (int i = 1002; i >= 0; i--)
        assert_true(has(&s, i));
    assert_false(has(&s, 1003));
    must(store_close(&s, &e), &e);
}

/* A part is written when 64 MiB are there, not when the writer ends. */
static void test_parts_are_written_on_the_way(void **state)
{
    const int64_t width = 8 << 20; /* two rows are 64 MiB */
    float *row = calloc((size_t)width, sizeof *row);
    struct store s;
    struct err e;

    assert_non_null(row);
    must(store_open(&s, *state, ABOUT, width, true, &e), &e);
    for (int i = 0; i < 3; i++) {
        assert_false(is_there(tmpdir_path(state, "part-00000.h5")));
        row[0] = row[width - 1] = (float)(i + 1);
        must(store_put(&s, key_of(i), row, &e), &e);
    }
    assert_true(is_there(tmpdir_path(state, "part-00000.h5")));
    for (int i = 2; i >= 0; i--) { /* from memory, then from the file */
        assert_int_equal(store_find(&s, key_of(i)), i);
        store_get(&s, i, row);
        assert_true(row[0] == (float)(i + 1) && row[width - 1] == (float)(i + 1));
    }
    must(store_close(&s, &e), &e);
    free(row);
}

/* Who deletes a part loses its entries alone, and no later part is written over. */
static void test_deleted_part(void **state)
{
    struct store s;
    struct err e;

    add(*state, 0, 2);
    add(*state, 2, 4);
    add(*state, 4, 6);
    assert_int_equal(unlink(tmpdir_path(state, "part-00001.h5")), 0);
    add(*state, 6, 8);
    open_store(&s, *state, false);
    for (int i = 0; i < 8; i++)
        assert_true(has(&s, i) == (i != 2 && i != 3));
    must(store_close(&s, &e), &e);
    assert_true(is_there(tmpdir_path(state, "part-00003.h5")));
}

static void test_about_something_else(void **state)
{
    add(*state, 0, 2);
    refused(*state, "features of another tower", WIDTH,
            "is about \"" ABOUT "\", needed is \"features of another tower\"");
    refused(*state, ABOUT, WIDTH + 1, "is damaged");
}

/* ---- damage ---- */

/* Opens a store and reads all of it, or is told in one line what is wrong with it. */
static void try_damaged(const char *dir)
{
    struct store s;
    struct err e = {""};

    if (!store_open(&s, dir, ABOUT, WIDTH, false, &e)) {
        if (!strstr(e.msg, "part-00000.h5: ") || strchr(e.msg, '\n')) fail_msg("%s", e.msg);
        return;
    }
    for (int64_t i = 0; i < s.n; i++) {
        float row[WIDTH];
        store_get(&s, i, row);
    }
    must(store_close(&s, &e), &e);
}

static void test_truncated(void **state)
{
    const char *path = tmpdir_path(state, "part-00000.h5");
    struct store s;
    struct err e;
    size_t len;
    char *file;

    add(*state, 0, 40);
    file = slurp(path, &len);
    for (size_t cut = 0; cut < len; cut += cut + 100 < len ? 61 : 1) {
        spill(path, file, cut);
        refused(*state, ABOUT, WIDTH, "is damaged");
    }
    assert_int_equal(unlink(path), 0); /* what the message says */
    add(*state, 0, 1);
    open_store(&s, *state, false);
    assert_int_equal(s.n, 1);
    must(store_close(&s, &e), &e);
    free(file);
}

/* HDF5 asks for the memory that a damaged file speaks of, and copes with not getting it; it also
 * loses some of its own when it gives such a file up. */
const char *__asan_default_options(void);
const char *__lsan_default_suppressions(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5\n";
}

/* A byte of the file wrong: an error or not, never a crash, never a read outside. */
static void test_flipped(void **state)
{
    const char *path = tmpdir_path(state, "part-00000.h5");
    struct rng r;
    size_t len;
    char *file;

    rng_seed(&r, 11, 0);
    add(*state, 0, 3);
    file = slurp(path, &len);
    for (size_t at = 0; at < len; at += 1 + rng_below(&r, 6)) {
        char was = file[at];
        file[at] = (char)(was ^ (char)(1 + rng_below(&r, 255)));
        spill(path, file, len);
        try_damaged(*state);
        file[at] = was;
    }
    free(file);
}

static hid_t make_part(void *const *state, hsize_t about_values)
{
    const char text[8][32] = {ABOUT};
    hid_t file =
        H5Fcreate(tmpdir_path(state, "part-00000.h5"), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &about_values, NULL), attr;

    H5Tset_size(type, sizeof text[0]);
    attr = H5Acreate2(file, "about", type, space, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(attr >= 0 && H5Awrite(attr, type, text) >= 0);
    H5Aclose(attr);
    H5Sclose(space);
    H5Tclose(type);
    return file;
}

static void put_set(hid_t file, const char *name, hid_t type, int rank, const hsize_t *dims,
                    bool chunked)
{
    hid_t space = H5Screate_simple(rank, dims, NULL), dcpl = H5Pcreate(H5P_DATASET_CREATE), set;

    if (chunked) H5Pset_chunk(dcpl, rank, dims);
    H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY);
    set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dclose(set);
    H5Pclose(dcpl);
    H5Sclose(space);
}

static void test_lies(void **state)
{
    static const struct {
        hsize_t abouts, values[2], keys;
        bool integers, chunked, opens;
    } cases[] = {
        {1, {4, WIDTH}, 4, false, false, true}, /* as it should be */
        {8, {4, WIDTH}, 4, false, false, false}, {1, {4, WIDTH}, 3, false, false, false},
        {1, {4, WIDTH}, 5, false, false, false}, {1, {4, WIDTH - 1}, 4, false, false, false},
        {1, {4, WIDTH}, 4, true, false, false},  {1, {4, WIDTH}, 4, false, true, false},
    };
    struct store s;
    struct err e;
    hid_t key = H5Tcopy(H5T_C_S1), file;

    H5Tset_size(key, 64);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file = make_part(state, cases[i].abouts);
        put_set(file, "values", cases[i].integers ? H5T_STD_I32LE : H5T_IEEE_F32LE, 2,
                cases[i].values, cases[i].chunked);
        put_set(file, "keys", key, 1, &cases[i].keys, false);
        H5Fclose(file);
        if (store_open(&s, *state, ABOUT, WIDTH, false, &e) != cases[i].opens)
            fail_msg("case %zu", i);
        if (cases[i].opens)
            must(store_close(&s, &e), &e);
        else
            assert_non_null(strstr(e.msg, "; delete it"));
    }
    H5Tclose(key);
    H5Fclose(make_part(state, 1)); /* nothing in it */
    refused(*state, ABOUT, WIDTH, "is damaged");
    spill(tmpdir_path(state, "part-00000.h5"), "not HDF5", 8);
    refused(*state, ABOUT, WIDTH, "is damaged or not HDF5");
}

/* 0 where closing fails in one line that names the file, and all is as before. */
static int full_disk_child(const char *dir, rlim_t room)
{
    struct store s;
    struct err e = {""};
    float row[WIDTH];
    char tmp[1300];
    bool done;

    open_store(&s, dir, true);
    for (int i = 2; i < 40; i++) {
        row_of(i, row);
        if (!store_put(&s, key_of(i), row, &e)) return 1;
    }
    limit_files(room);
    done = store_close(&s, &e);
    limit_files(RLIM_INFINITY);
    if (done) return 2;
    if (!strstr(e.msg, "part-00001.h5: cannot be written: File too large")) return 3;
    if (strchr(e.msg, '\n')) return 4;
    snprintf(tmp, sizeof tmp, "%s/part-00001.h5.tmp", dir);
    if (is_there(tmp)) return 5;
    open_store(&s, dir, false);
    if (s.n != 2 || !has(&s, 0) || !has(&s, 1)) return 6;
    return store_close(&s, &e) ? 0 : 7;
}

static void test_full_disk(void **state)
{
    size_t len;

    add(*state, 0, 2);
    add(*state, 2, 40);
    free(slurp(tmpdir_path(state, "part-00001.h5"), &len));
    assert_int_equal(unlink(tmpdir_path(state, "part-00001.h5")), 0);
    for (rlim_t room = 0; room < len; room += 331)
        full_disk_try(*state, room, full_disk_child);
}

/* ---- other processes ---- */

static void sleep_ms(long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&t, NULL);
}

/* Killed at any moment, a writer leaves whole parts, and the next one goes on. */
static void test_killed_writer(void **state)
{
    struct store s;
    struct err e;
    int64_t before = 0;
    char name[40];

    for (int round = 0; round < 12; round++) {
        pid_t pid = fork();
        if (pid == 0)
            for (int i = (int)before;; i += 3)
                add(*state, i, i + 3);
        assert_true(pid > 0);
        snprintf(name, sizeof name, "part-%05d.h5", (int)before / 3);
        while (
            !is_there(tmpdir_path(state, name))) /* its first part; then, somewhere in the next */
            sleep_ms(1);
        sleep_ms(round);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        open_store(&s, *state, true);
        assert_true(s.n > before && s.n % 3 == 0);
        before = s.n;
        for (int i = 0; i < before; i++)
            assert_true(has(&s, i));
        must(store_close(&s, &e), &e);
    }
}

/* The second writer waits for the first one, then sees what it wrote. A reader waits for nobody. */
static void test_two_writers(void **state)
{
    struct store s, reader;
    struct err e;
    int ready[2];
    char byte;
    pid_t pid;
    float row[WIDTH];

    add(*state, 0, 1);
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        open_store(&s, *state, true);
        row_of(1, row);
        if (!store_put(&s, key_of(1), row, &e) || write(ready[1], "x", 1) != 1) _exit(1);
        sleep_ms(150);
        _exit(store_close(&s, &e) ? 0 : 2);
    }
    assert_true(pid > 0);
    assert_int_equal(read(ready[0], &byte, 1), 1); /* the other one has the lock now */
    open_store(&reader, *state, false);
    assert_true(has(&reader, 0) && !has(&reader, 1));
    open_store(&s, *state, true);
    assert_true(has(&s, 1));
    row_of(2, row);
    must(store_put(&s, key_of(2), row, &e) && store_close(&s, &e), &e);
    assert_true(has(&reader, 0)); /* what was there when it opened */
    must(store_close(&reader, &e), &e);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    open_store(&s, *state, false);
    assert_true(has(&s, 0) && has(&s, 1) && has(&s, 2));
    must(store_close(&s, &e), &e);
    close(ready[0]);
    close(ready[1]);
}

/* ---- what a run keeps under which key ---- */

/* What features depend on. */
struct cause {
    int64_t seed;        /* of the tower's weights */
    double mean;         /* of the processor */
    const char *alpha;   /* setting */
    const char *picture; /* c.png's content; a.png is gray1.png */
    bool pixels;         /* keep these instead of features */
};
static const struct cause plain = {1, 0.5, "data.alpha=white", "gray1.png", false};

struct kept {
    char dir[1200];
    int64_t n;  /* pictures in the store */
    double sum; /* of all its values */
};

/* Opens the data and pictures of a tiny run as a training would. */
static struct kept keep(void *const *state, const struct cause *c)
{
    const char *const more[] = {c->alpha, NULL};
    struct kept k = {0};
    struct model m = {0};
    struct run r;
    struct err e;
    char path[100], *picture;
    size_t len;
    float *row;

    tiny_run(&r, state, more);
    snprintf(path, sizeof path, "tests/data/image/%s", c->picture);
    picture = slurp(path, &len);
    spill(tmpdir_path(state, "c.png"), picture, len);
    free(picture);
    r.c.run.seed = c->seed;
    must(make_baseline_model(&r, &m, &e) && run_open_data(&r, &m.cfg, &e), &e);
    r.processor.mean[0] = c->mean;
    must(run_open_pictures(&r, &m, c->pixels, &e), &e);
    snprintf(k.dir, sizeof k.dir, "%s", r.pictures.store.dir);
    k.n = r.pictures.store.n;
    row = calloc((size_t)r.pictures.store.width, sizeof *row);
    assert_non_null(row);
    for (int64_t i = 0; i < k.n; i++) {
        store_get(&r.pictures.store, i, row);
        for (int64_t j = 0; j < r.pictures.store.width; j++)
            k.sum += (double)row[j] * (double)(j % 7 + 1);
    }
    free(row);
    run_close(&r);
    model_close(&m);
    return k;
}

/* The same settings: what is there is used, as a value shows that was put there by hand. */
static void test_hit(void **state)
{
    struct kept a = keep(state, &plain), b;
    char path[1300];
    float row[16 * 32]; /* tokens of a picture, width of the tower */
    hid_t file, set;
    double sum = 0;

    assert_int_equal(a.n, 1); /* a.png and c.png are the same picture */
    snprintf(path, sizeof path, "%s/part-00000.h5", a.dir);
    file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    set = H5Dopen2(file, "values", H5P_DEFAULT);
    assert_int_equal(H5Dget_storage_size(set), sizeof row);
    for (int i = 0; i < 16 * 32; i++) {
        row[i] = (float)i;
        sum += i * (i % 7 + 1.0);
    }
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, row) >= 0);
    H5Dclose(set);
    H5Fclose(file);
    b = keep(state, &plain);
    assert_string_equal(a.dir, b.dir);
    assert_true(b.n == 1 && a.sum != sum && b.sum == sum);
}

static void test_key(void **state)
{
    struct cause other[] = {plain, plain, plain, plain}, changed = plain;
    struct kept a = keep(state, &plain), b;

    other[0].seed = 2;
    other[1].mean = 0.25;
    other[2].alpha = "data.alpha=drop";
    other[3].pixels = true;
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        b = keep(state, &other[i]);
        assert_string_not_equal(a.dir, b.dir);
        assert_int_equal(b.n, 1);
        assert_true(i == 2 || a.sum != b.sum); /* this picture has no alpha */
    }
    /* Another picture under the old name is computed; what was there before is found again. */
    changed.picture = "rgb8.png";
    b = keep(state, &changed);
    assert_string_equal(a.dir, b.dir);
    assert_true(b.n == 2 && a.sum != b.sum);
    b = keep(state, &plain);
    assert_int_equal(b.n, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_round_trip),    tmpdir_test(test_parts_are_written_on_the_way),
        tmpdir_test(test_deleted_part),  tmpdir_test(test_about_something_else),
        tmpdir_test(test_truncated),     tmpdir_test(test_flipped),
        tmpdir_test(test_lies),          tmpdir_test(test_full_disk),
        tmpdir_test(test_killed_writer), tmpdir_test(test_two_writers),
        tmpdir_test(test_hit),           tmpdir_test(test_key),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
