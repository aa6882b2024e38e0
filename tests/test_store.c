/* test_store.c - the cache of what was computed from pictures: entries come back; whatever happens
 * to its files (cut, bits flipped, false content, a full disk, a killed writer) is detected or
 * harmless; and it belongs to one tower, one processor, one picture. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/rng.h"
#include "base/log.h"
#include "data/store.h"
#include "data/store_part.h"
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

    must(store_open(s, dir, ABOUT, write, &e), &e);
}

/* Appends the entries [from, to) as one part. */
static void add(const char *dir, int from, int to)
{
    struct store s;
    struct err e;
    float row[WIDTH];

    open_store(&s, dir, true);
    for (; from < to; from++) {
        row_of(from, row);
        must(store_put(&s, key_of(from), row, WIDTH, &e), &e);
    }
    must(store_close(&s, &e), &e);
}

/* Whether entry i is there; if it is, it must be right. */
static bool has(struct store *s, int i)
{
    int64_t at = store_find(s, key_of(i));
    struct err e;
    float want[WIDTH], got[WIDTH];

    if (at < 0) return false;
    row_of(i, want);
    must(store_get(s, at, got, WIDTH, &e), &e);
    assert_memory_equal(got, want, sizeof want);
    return true;
}

/* Begins recording the log for log_text(): it also goes to a file. */
static void log_start(void *const *state)
{
    struct err e;

    unlink(tmpdir_path(state, "log"));
    must(log_open(tmpdir_path(state, "log"), &e), &e);
}

static char *log_text(void *const *state)
{
    struct err e;

    must(log_close(&e), &e);
    return slurp(tmpdir_path(state, "log"), NULL);
}

/* The only part is not used: a line says why, which file, and what happens to it. A reader leaves
 * it in place, a writer removes it. */
static void left_out(void *const *state, const char *about, const char *says)
{
    for (int write = 0; write < 2; write++) {
        struct store s;
        struct err e = {0};
        char *said;

        log_start(state);
        must(store_open(&s, *state, about, write, &e), &e);
        assert_int_equal(s.n, 0);
        must(store_close(&s, &e), &e);
        said = log_text(state);
        if (!strstr(said, says) || !strstr(said, "/part-00000.h5: ") ||
            !strstr(said, write ? ": deleted, its entries are computed again" : ": not used"))
            fail_msg("'%s' lacks '%s'", said, says);
        assert_ptr_equal(strchr(said, '\n') + 1, strchr(said, '\0')); /* one line */
        assert_int_equal(is_there(tmpdir_path(state, "part-00000.h5")), !write);
        free(said);
    }
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
        must(store_put(&s, key_of(i), row, WIDTH, &e), &e);
        assert_true(has(&s, i)); /* before it is on disk */
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

/* A part is written as soon as 64 MiB are there, not when the writer ends. */
static void test_parts_are_written_on_the_way(void **state)
{
    const int64_t width = 8 << 20; /* two rows are 64 MiB */
    float *row = calloc((size_t)width, sizeof *row);
    struct store s;
    struct err e;

    assert_non_null(row);
    must(store_open(&s, *state, ABOUT, true, &e), &e);
    for (int i = 0; i < 3; i++) {
        assert_false(is_there(tmpdir_path(state, "part-00000.h5")));
        row[0] = row[width - 1] = (float)(i + 1);
        must(store_put(&s, key_of(i), row, width, &e), &e);
    }
    assert_true(is_there(tmpdir_path(state, "part-00000.h5")));
    for (int i = 2; i >= 0; i--) { /* from memory, then from the file */
        assert_int_equal(store_find(&s, key_of(i)), i);
        must(store_get(&s, i, row, width, &e), &e);
        assert_true(row[0] == (float)(i + 1) && row[width - 1] == (float)(i + 1));
    }
    must(store_close(&s, &e), &e);
    free(row);
}

/* Deleting a part loses only its entries, and no later part is overwritten. */
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

/* Entries of different lengths in two parts and in memory; reading one with another length
 * fails. */
static void test_lengths(void **state)
{
    enum { MOST = 40, TWICE = 2 * MOST };
    float row[MOST], got[MOST];
    struct store s;
    struct err e;

    for (int i = 0; i < MOST; i++)
        row[i] = (float)i + 0.25f;
    for (int part = 0; part < 2; part++) {
        open_store(&s, *state, true);
        for (int i = part * MOST; i < part * MOST + MOST; i++)
            must(store_put(&s, key_of(i), row, 1 + i % MOST, &e), &e);
        for (int i = 0; i < part * MOST + MOST; i++) {
            memset(got, 0, sizeof got);
            must(store_get(&s, store_find(&s, key_of(i)), got, 1 + i % MOST, &e), &e);
            assert_memory_equal(got, row, (size_t)(1 + i % MOST) * sizeof *row);
        }
        must(store_close(&s, &e), &e);
    }
    open_store(&s, *state, false);
    assert_int_equal(s.n, TWICE);
    assert_false(store_get(&s, 7, got, 9, &e));
    assert_non_null(strstr(e.msg, "part-00000.h5: entry 7: has 8 values, needed are 9"));
    assert_false(store_mend(&s, MOST + 3, row, 5, &e));
    assert_non_null(strstr(e.msg, "part-00001.h5: has 4 values, needed are 5"));
    must(store_close(&s, &e), &e);
}

static void test_about_something_else(void **state)
{
    add(*state, 0, 2);
    left_out(state, "features of another tower",
             "is about \"" ABOUT "\", needed is \"features of another tower\"");
}

/* ---- damage ---- */

/* A test of thousands of damaged files would fill the terminal with log lines. */
static void hush(bool on)
{
    static int terminal = -1;

    fflush(stdout);
    if (on) {
        terminal = dup(1);
        assert_non_null(freopen("/dev/null", "w", stdout));
    } else {
        assert_true(dup2(terminal, 1) >= 0);
        close(terminal);
    }
}

static void test_truncated(void **state)
{
    struct store s;
    struct err e;
    size_t len;
    char *file;

    add(*state, 0, 40);
    file = slurp(tmpdir_path(state, "part-00000.h5"), &len);
    for (size_t cut = 0; cut < len; cut += cut + 100 < len ? 61 : 1) {
        spill(tmpdir_path(state, "part-00000.h5"), file, cut);
        left_out(state, ABOUT, cut ? "is cut short" : "is empty");
    }
    add(*state, 0, 1); /* and all is well again */
    open_store(&s, *state, false);
    assert_int_equal(s.n, 1);
    must(store_close(&s, &e), &e);
    free(file);
}

/* With any byte of the file wrong the part is not used, or an entry is missing, or it is reported
 * as damaged, or the byte does not matter. A wrong row is never returned. */
static void test_flipped(void **state)
{
    int wrong = 0, gone = 0, out = 0;
    struct rng r;
    size_t len;
    char *file;

    rng_seed(&r, 11, 0);
    add(*state, 0, 3);
    file = slurp(tmpdir_path(state, "part-00000.h5"), &len);
    hush(true);
    for (size_t at = 0; at < len; at++) {
        const char was = file[at];
        struct store s;
        struct err e;

        file[at] = (char)(was ^ (char)(1 + rng_below(&r, 255)));
        spill(tmpdir_path(state, "part-00000.h5"), file, len);
        open_store(&s, *state, false);
        out += s.n == 0;
        for (int i = 0; i < 3 && s.n; i++) {
            int64_t k = store_find(&s, key_of(i));
            float want[WIDTH], got[WIDTH];

            row_of(i, want);
            gone += k < 0;
            if (k < 0) continue;
            if (store_get(&s, k, got, WIDTH, &e))
                assert_memory_equal(got, want, sizeof want);
            else if (strstr(e.msg, "part-00000.h5: entry ") && strstr(e.msg, "checksum is wrong"))
                wrong++;
            else
                fail_msg("%s", e.msg);
        }
        must(store_close(&s, &e), &e);
        file[at] = was;
    }
    hush(false);
    /* every byte of a key, of a row and of a sum, and many of the rest */
    assert_true(gone >= 3 * 64 && wrong >= 3 * (WIDTH * 4 + 4) && out > 300);
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

static void put_counts(hid_t file, hsize_t n, const uint64_t *counts)
{
    hid_t set;

    put_set(file, "counts", H5T_STD_U64LE, 1, &n, false);
    set = H5Dopen2(file, "counts", H5P_DEFAULT);
    assert_true(H5Dwrite(set, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, counts) >= 0);
    H5Dclose(set);
}

static void test_lies(void **state)
{
    static const struct {
        hsize_t abouts, values, entries, keys, sums; /* 0: no such list */
        uint64_t counts[4];
        bool integers, chunked;
        const char *says; /* NULL: nothing is wrong */
    } cases[] = {
        {1, 24, 4, 4, 4, {6, 6, 6, 6}, false, false, NULL},
        {1, 24, 4, 4, 4, {1, 2, 3, 18}, false, false, NULL},
        {8, 24, 4, 4, 4, {6, 6, 6, 6}, false, false, "is about"},
        {1, 24, 4, 3, 4, {6, 6, 6, 6}, false, false, "keys are of another kind or number"},
        {1, 24, 4, 5, 4, {6, 6, 6, 6}, false, false, "keys are of another kind or number"},
        {1, 24, 4, 4, 3, {6, 6, 6, 6}, false, false, "sums are of another kind or number"},
        {1, 24, 3, 3, 3, {6, 6, 6}, false, false, "its counts are not those of its values"},
        {1, 24, 4, 4, 4, {6, 6, 6, 7}, false, false, "its counts are not those of its values"},
        {1, 24, 4, 4, 4, {12, 0, 6, 6}, false, false, "its counts are not those of its values"},
        {1, 24, 4, 4, 4, {6, 7, ~UINT64_C(0), 12}, false, false, "counts are not those of its"},
        {1, 24, 4, 4, 4, {6, 6, 6, 6}, true, false, "values are of another kind or number"},
        {1, 24, 4, 4, 4, {6, 6, 6, 6}, false, true, "values: its values are stored in chunks"},
        {1, 24, 0, 4, 4, {0}, false, false, "is of an older form, or damaged: has no `counts`"},
        {1, 24, 4, 4, 0, {6, 6, 6, 6}, false, false, "is of an older form, or damaged: has no `s"},
    };
    struct store s;
    struct err e;
    hid_t key = H5Tcopy(H5T_C_S1), file;

    H5Tset_size(key, 64);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        file = make_part(state, cases[i].abouts);
        put_set(file, "values", cases[i].integers ? H5T_STD_I32LE : H5T_IEEE_F32LE, 1,
                &cases[i].values, cases[i].chunked);
        if (cases[i].entries) put_counts(file, cases[i].entries, cases[i].counts);
        put_set(file, "keys", key, 1, &cases[i].keys, false);
        if (cases[i].sums) put_set(file, "sums", H5T_STD_U32LE, 1, &cases[i].sums, false);
        H5Fclose(file);
        if (cases[i].says) {
            left_out(state, ABOUT, cases[i].says);
        } else {
            open_store(&s, *state, false);
            assert_int_equal(s.n, 4);
            must(store_close(&s, &e), &e);
        }
    }
    H5Tclose(key);
    H5Fclose(make_part(state, 1)); /* an empty part */
    left_out(state, ABOUT, "has no `values`");
    spill(tmpdir_path(state, "part-00000.h5"), "not HDF5", 8);
    left_out(state, ABOUT, "is not an HDF5 file");
}

/* A file that is unreadable for another reason than damage is not deleted. */
static void test_unreadable(void **state)
{
    const char *part = tmpdir_path(state, "part-00000.h5");
    struct store s;
    struct err e = {0};

    assert_int_equal(symlink("part-00000.h5", part), 0); /* a cycle */
    assert_false(store_open(&s, *state, ABOUT, true, &e));
    assert_non_null(strstr(e.msg, "part-00000.h5: Too many levels of symbolic links"));
}

/* A damaged entry is mended: it is right in this store and in the next one opened, whether the row,
 * the sum, or half of the file was damaged. */
static void test_mend(void **state)
{
    const char *path = tmpdir_path(state, "part-00000.h5");
    float row[WIDTH], got[WIDTH];
    struct store s;
    struct err e;
    uint32_t sum;
    size_t len;
    char *file;

    add(*state, 0, 3);
    file = slurp(path, &len);
    row_of(1, row);
    sum = store_sum(key_of(1), row, WIDTH);
    for (int c = 0; c < 2; c++) {
        const void *what = c ? (const void *)&sum : row;
        char *at = memmem(file, len, what, c ? sizeof sum : sizeof row);

        assert_non_null(at);
        *at ^= 1;
        spill(path, file, len);
        *at ^= 1;
        for (int round = 0; round < 2; round++) {
            const int64_t k = 1;
            open_store(&s, *state, false);
            assert_true(has(&s, 0) && has(&s, 2));
            if (round == 0) {
                assert_int_equal(store_find(&s, key_of(1)), k);
                assert_false(store_get(&s, k, got, WIDTH, &e));
                assert_non_null(strstr(e.msg, "part-00000.h5: entry 1: its checksum is wrong"));
                must(store_mend(&s, k, row, WIDTH, &e), &e);
            }
            assert_true(has(&s, 1));
            must(store_close(&s, &e), &e);
        }
        free(file);
        file = slurp(path, &len); /* the bytes are the same again */
    }
    free(file);
}

/* If two rows have changed places, neither is returned. */
static void test_exchanged(void **state)
{
    const char *path = tmpdir_path(state, "part-00000.h5");
    float a[WIDTH], b[WIDTH], got[WIDTH];
    char *file, *at_a, *at_b;
    struct store s;
    struct err e;
    size_t len;

    add(*state, 0, 3);
    file = slurp(path, &len);
    row_of(0, a);
    row_of(2, b);
    at_a = memmem(file, len, a, sizeof a);
    at_b = memmem(file, len, b, sizeof b);
    assert_true(at_a && at_b);
    memcpy(at_a, b, sizeof b);
    memcpy(at_b, a, sizeof a);
    spill(path, file, len);
    open_store(&s, *state, false);
    assert_false(store_get(&s, 0, got, WIDTH, &e) || store_get(&s, 2, got, WIDTH, &e));
    assert_true(has(&s, 1));
    must(store_close(&s, &e), &e);
    free(file);
}

/* More parts than files may be open, and parts that are removed or replaced while in use: an open
 * part can still be read, opening it again fails with a message. */
static void test_many_parts(void **state)
{
    enum { PARTS = STORE_OPEN + 20 };
    float got[WIDTH], other[WIDTH] = {0};
    const int64_t count = WIDTH;
    char keys[64];
    struct store s;
    struct err e;

    for (int i = 0; i < PARTS; i++)
        add(*state, i, i + 1);
    open_store(&s, *state, false);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < PARTS; i++)
            assert_true(has(&s, i));
    assert_int_equal(unlink(tmpdir_path(state, "part-00147.h5")), 0); /* in use */
    assert_true(has(&s, 147));
    assert_int_equal(unlink(tmpdir_path(state, "part-00000.h5")), 0); /* closed at the moment */
    assert_false(store_get(&s, 0, got, WIDTH, &e));
    assert_non_null(strstr(e.msg, "part-00000.h5: entry 0: No such file"));
    memcpy(keys, key_of(0), sizeof keys);
    must(part_write(tmpdir_path(state, "part-00000.h5"), ABOUT,
                    &(struct part_entries){keys, other, &count, 1}, &e),
         &e);
    assert_false(store_get(&s, 0, got, WIDTH, &e));
    assert_non_null(strstr(e.msg, "part-00000.h5: entry 0: its checksum is wrong"));
    must(store_close(&s, &e), &e);
}

/* 0 if closing fails with a one-line message that names the file, and all is as before. */
static int full_disk_child(const char *dir, rlim_t room)
{
    struct store s;
    struct err e = {0};
    float row[WIDTH];
    char tmp[1300];
    bool done;

    open_store(&s, dir, true);
    for (int i = 2; i < 40; i++) {
        row_of(i, row);
        if (!store_put(&s, key_of(i), row, WIDTH, &e)) return 1;
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

/* Killed at any moment, a writer leaves whole parts, and the next writer continues. */
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
        while (!is_there(tmpdir_path(state, name))) /* its first part; then somewhere in the next */
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

/* The second writer waits for the first one, then sees what it wrote. A reader never waits. */
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
        if (!store_put(&s, key_of(1), row, WIDTH, &e) || write(ready[1], "x", 1) != 1) _exit(1);
        sleep_ms(150);
        _exit(store_close(&s, &e) ? 0 : 2);
    }
    assert_true(pid > 0);
    assert_int_equal(read(ready[0], &byte, 1), 1); /* the other one holds the lock now */
    open_store(&reader, *state, false);
    assert_true(has(&reader, 0) && !has(&reader, 1));
    open_store(&s, *state, true);
    assert_true(has(&s, 1));
    row_of(2, row);
    must(store_put(&s, key_of(2), row, WIDTH, &e) && store_close(&s, &e), &e);
    assert_true(has(&reader, 0)); /* what was there when it was opened */
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
    int64_t seed;        /* for the tower's weights */
    double mean;         /* the processor's */
    const char *alpha;   /* the setting */
    const char *picture; /* c.png's content; a.png is gray1.png */
    bool pixels;         /* keep these instead of features */
};
static const struct cause plain = {1, 0.5, "data.alpha=white", "gray1.png", false};

struct kept {
    char dir[1200], about[STORE_ABOUT];
    int64_t n;  /* pictures in the store */
    double sum; /* of all its values */
};

/* Opens the data and pictures of a tiny run, as training does. */
static struct kept keep(void *const *state, const struct cause *c)
{
    const char *const more[] = {c->alpha, NULL};
    struct kept k = {0};
    struct model m = {0};
    struct run r;
    struct err e;
    char path[100], *picture;
    int64_t count;
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
    snprintf(k.about, sizeof k.about, "%s", r.pictures.store.about);
    k.n = r.pictures.store.n;
    count = picture_rows(&r.pictures, &r.train.images[0].shape) * r.pictures.width;
    row = calloc((size_t)count, sizeof *row);
    assert_non_null(row);
    for (int64_t i = 0; i < k.n; i++) {
        must(store_get(&r.pictures.store, i, row, count, &e), &e);
        for (int64_t j = 0; j < count; j++)
            k.sum += (double)row[j] * (double)(j % 7 + 1);
    }
    free(row);
    run_close(&r);
    model_close(&m);
    return k;
}

/* With the same settings the stored features are used, as a value planted in the store shows. */
static void test_hit(void **state)
{
    struct kept a = keep(state, &plain), b;
    float row[16 * 32]; /* tokens of a picture, width of the tower */
    struct store_part p;
    char path[1300], *key;
    struct err e;
    double sum = 0;

    assert_int_equal(a.n, 1); /* a.png and c.png are the same picture */
    snprintf(path, sizeof path, "%s/part-00000.h5", a.dir);
    must(part_open(&p, path, a.about, &key, &e), &e);
    for (int i = 0; i < 16 * 32; i++) {
        row[i] = (float)i;
        sum += i * (i % 7 + 1.0);
    }
    must(part_mend(&p, path, 0, key, row, &e), &e);
    part_close(&p);
    free(key);
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
    /* Another picture under the old name is computed; the earlier features are found again. */
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
        tmpdir_test(test_round_trip),
        tmpdir_test(test_parts_are_written_on_the_way),
        tmpdir_test(test_deleted_part),
        tmpdir_test(test_lengths),
        tmpdir_test(test_about_something_else),
        tmpdir_test(test_truncated),
        tmpdir_test(test_flipped),
        tmpdir_test(test_lies),
        tmpdir_test(test_unreadable),
        tmpdir_test(test_mend),
        tmpdir_test(test_exchanged),
        tmpdir_test(test_many_parts),
        tmpdir_test(test_full_disk),
        tmpdir_test(test_killed_writer),
        tmpdir_test(test_two_writers),
        tmpdir_test(test_hit),
        tmpdir_test(test_key),
    };

    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
