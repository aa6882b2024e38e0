/* test_pictures.c - the program and its pictures: one that changes under its name is detected when
 * a run is resumed, and a damaged cache costs nothing but time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <glob.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/tmpdir.h"

#include "tests/program.h"

#define TRAIN "$B/mha2mla-train --config $C "
#define TWO_STEPS TRAIN "--set 'run.steps=[\"baseline\",\"rank\"]' --set baseline.steps=4 "
#define PICTURE "$T/s/images/train-000003.png"
#define OTHER "$T/s/images/train-000004.png"

/* The pictures of a run are listed as by sha256sum, and compared when it is resumed. */
static void test_changed_picture(void **state)
{
    must_run(state, TWO_STEPS);
    must_run(state, "cd / && sha256sum --strict -c $T/run/pictures.sha256 && "
                    "test $(wc -l < $T/run/pictures.sha256) -ge $(ls $T/s/images | wc -l)");
    must_run(state, TWO_STEPS "--resume");
    must_run(state, "cp " PICTURE " $T/kept && cp " OTHER " " PICTURE);
    must_fail(state, TWO_STEPS "--resume",
              "train-000003.png has changed since this run began: put back what was there");
    must_run(state, "rm " PICTURE);
    must_fail(state, TWO_STEPS "--resume --set data.max_bad=9",
              "train-000003.png cannot be read any more, as it was when this run began");
    must_run(state, "mv $T/kept " PICTURE " && " TWO_STEPS "--resume");
}

/* A run that was refused because of its pictures before it made anything can be started again. */
static void test_mended_picture(void **state)
{
    must_run(state,
             "cp " PICTURE " $T/kept && head -c 100 " PICTURE " > $T/cut && mv $T/cut " PICTURE);
    must_fail(state, TWO_STEPS "--set data.max_bad=0", "data.max_bad allows 0");
    must_run(state, "mv $T/kept " PICTURE " && " TWO_STEPS "--resume --set data.max_bad=0");
    must_run(state, "cd / && sha256sum --strict -c $T/run/pictures.sha256");
}

/* Calls hurt(path) for every part of the cache. */
static void hurt_cache(void *const *state, void (*hurt)(const char *path))
{
    glob_t g;

    assert_int_equal(glob(tmpdir_path(state, "cache/*/part-*.h5"), 0, NULL, &g), 0);
    assert_true(g.gl_pathc >= 1);
    for (size_t i = 0; i < g.gl_pathc; i++)
        hurt(g.gl_pathv[i]);
    globfree(&g);
}

/* Flips a high bit about every 3000 bytes: in some of the rows, not in the metadata. */
static void flip(const char *path)
{
    size_t len;
    char *file = slurp(path, &len);

    for (size_t at = 4000; at + 12000 < len; at += 2999)
        file[at] ^= 64;
    spill(path, file, len);
    free(file);
}

static void age(const char *path) /* back to the format without sums */
{
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);

    assert_true(H5Ldelete(file, "sums", H5P_DEFAULT) >= 0);
    H5Fclose(file);
}

static void cut(const char *path)
{
    size_t len;
    char *file = slurp(path, &len);

    spill(path, file, len / 2);
    free(file);
}

/* Whether the program says `what` when run from the start with the existing cache. */
static bool run_says(void *const *state, const char *what)
{
    must_run(state, "rm -rf $T/run && " TRAIN);
    return says(state, what);
}

/* An unusable part is rebuilt: one message, and the result is as if it had not existed. */
static void test_damaged_parts(void **state)
{
    must_repeat(state);
    for (int i = 0; i < 2; i++) {
        hurt_cache(state, i ? cut : age);
        assert_true(
            run_says(state, i ? "is cut short: " : "has no `sums`: deleted, its entries are"));
        must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
        assert_false(run_says(state, "cache: "));
        must_run(state, FINGERPRINT("$T/run") " | diff $T/sums -");
    }
}

/* All values of the cache's one part, in new memory. */
static float *values(void *const *state, size_t *n)
{
    const char *part = NULL;
    float *v;
    hid_t file, set;
    glob_t g;

    assert_int_equal(glob(tmpdir_path(state, "cache/features-*/part-*.h5"), 0, NULL, &g), 0);
    assert_int_equal(g.gl_pathc, 1);
    part = g.gl_pathv[0];
    file = H5Fopen(part, H5F_ACC_RDONLY, H5P_DEFAULT);
    set = H5Dopen2(file, "values", H5P_DEFAULT);
    *n = (size_t)H5Dget_storage_size(set) / sizeof *v;
    v = calloc(*n, sizeof *v);
    assert_non_null(v);
    assert_true(H5Dread(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, v) >= 0);
    H5Dclose(set);
    H5Fclose(file);
    globfree(&g);
    return v;
}

/* Damaged rows are computed again when they are read: this is reported, and the cache is right
 * afterwards. Right up to rounding: the tower takes one picture instead of 32, and a product may
 * add in a different order for a different number of rows. 1e-4 is 800 times fp32's epsilon, for
 * values of about 1 that are sums of 32 and 48 products over two layers; a flipped bit that remains
 * changes half of them by far more. */
static void test_damaged_rows(void **state)
{
    size_t n, same, changed = 0;
    float *was, *is;

    must_run(state, TRAIN);
    was = values(state, &n);
    hurt_cache(state, flip);
    is = values(state, &same);
    assert_int_equal(same, n);
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(is[i] - was[i]) <= 1e-4f * (1 + fabsf(was[i])))) changed++;
    assert_true(changed > 3);
    free(is);
    assert_true(run_says(state, "its checksum is wrong: "));
    assert_false(run_says(state, "cache: "));
    is = values(state, &same);
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(is[i] - was[i]) <= 1e-4f * (1 + fabsf(was[i]))))
            fail_msg("value %zu: %g, was %g", i, (double)is[i], (double)was[i]);
    free(was);
    free(is);
}

/* Two runs fill one cache at the same time: both finish, with the same bits. */
static void test_shared_cache(void **state)
{
    must_run(state, TRAIN "--set run.dir=$T/quiet & " TRAIN "&& wait $!");
    must_run(state,
             FINGERPRINT("$T/quiet") " > $T/sums; " FINGERPRINT("$T/run") " | diff $T/sums -");
    must_run(state, "! ls $T/cache/*/*.tmp");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_changed_picture), program_test(test_mended_picture),
        program_test(test_damaged_parts), program_test(test_damaged_rows),
        program_test(test_shared_cache)};

    return cmocka_run_group_tests_name("pictures", tests, NULL, NULL);
}
