/* test_rankfile.c - rank files, good and bad. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"
#include "model/files/rankfile.h"
#include "tests/full_disk.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FL = 2, FG = 3, FDH = 8, FP = 4, FN = FL * FG * FDH };
static const struct rank_dims file_dims = {FL, 6, FG, FDH};

struct folder {
    char dir[64], path[96];
};

static int folder_make(void **state)
{
    static struct folder f;
    const char *tmp = getenv("TMPDIR");

    snprintf(f.dir, sizeof f.dir, "%.40s/rank.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(f.dir)) return -1;
    snprintf(f.path, sizeof f.path, "%s/r.h5", f.dir);
    *state = &f;
    return 0;
}

static int folder_remove(void **state)
{
    struct folder *f = *state;

    unlink(f->path);
    return rmdir(f->dir); /* fails, and so does the test, if a .tmp remains */
}

static void good_ranks(int32_t *mirrored)
{
    for (int j = 0; j < FN; j++)
        mirrored[j] = (j / FDH + j % FP * 3) % FP;
}

/* A file whose rank dataset is `dims` of a type, with the given int32 values. */
static void write_h5(const char *path, const char *name, int ndim, const hsize_t *dims, hid_t type,
                     const int32_t *v)
{
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t space = H5Screate_simple(ndim, dims, NULL);
    const hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(set >= 0);
    if (v) assert_true(H5Dwrite(set, H5T_NATIVE_INT32, H5S_ALL, H5S_ALL, H5P_DEFAULT, v) >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Fclose(file);
}

static void expect_refused(const char *path, const char *const words[3])
{
    int32_t rank[FN / 2];
    struct err e = {0};

    assert_false(rankfile_read(path, &file_dims, rank, NULL, &e));
    assert_non_null(strstr(e.msg, path));
    assert_null(strchr(e.msg, '\n'));
    for (int j = 0; j < 3 && words[j]; j++)
        if (!strstr(e.msg, words[j])) fail_msg("\"%s\" is not in: %s", words[j], e.msg);
}

static void test_file_round_trip(void **state)
{
    const struct folder *f = *state;
    const struct rankfile_info info = {"mkl-mask", 512, 12345678901};
    int32_t mirrored[FN], rank[FN / 2], back[FN / 2];
    double scores[FN / 2];
    struct rankfile_info got;
    struct err e;

    good_ranks(mirrored);
    for (int j = 0; j < FN / 2; j++) {
        rank[j] = mirrored[j / FP * FDH + j % FP];
        scores[j] = j * 0.5;
    }
    for (int with = 0; with < 2; with++) {
        assert_true(rankfile_write(f->path, &file_dims, rank, with ? scores : NULL, &info, &e));
        memset(back, -1, sizeof back);
        assert_true(rankfile_read(f->path, &file_dims, back, &got, &e));
        assert_memory_equal(back, rank, sizeof rank);
        assert_string_equal(got.strategy, "mkl-mask");
        assert_int_equal(got.samples, 512);
        assert_int_equal(got.tokens, 12345678901);
    }
    char *text;
    size_t len;
    assert_true(file_read(f->path, 1 << 20, &text, &len, &e));
    /* Cut anywhere, it is refused or, beyond the last byte of data, read in full; it never
     * crashes. */
    for (size_t cut = 0; cut < len; cut += 97) {
        assert_true(file_write(f->path, text, cut, &e));
        if (rankfile_read(f->path, &file_dims, back, NULL, &e))
            assert_memory_equal(back, rank, sizeof rank);
    }
    free(text);
    assert_false(rankfile_write("/nowhere/at/all.h5", &file_dims, rank, NULL, &info, &e));
    assert_non_null(strstr(e.msg, "/nowhere/at/all.h5"));
}

static const struct rankfile_info file_info = {"mkl", 8, 900};

/* 0 if the write fails with a one-line message, leaves no .tmp, and keeps the old file intact. */
static int full_disk_child(const char *path, rlim_t room)
{
    int32_t mirrored[FN], rank[FN / 2] = {0}, back[FN / 2];
    struct err e = {0};
    char tmp[128];
    bool done;

    limit_files(room);
    done = rankfile_write(path, &file_dims, rank, NULL, &file_info, &e);
    limit_files(RLIM_INFINITY);
    if (done) return 1;
    if (!strstr(e.msg, "r.h5: cannot be written: File too large") || strchr(e.msg, '\n')) return 2;
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    if (access(tmp, F_OK) == 0) return 3;
    if (!rankfile_read(path, &file_dims, back, NULL, &e)) return 4;
    good_ranks(mirrored);
    for (int j = 0; j < FN / 2; j++)
        if (back[j] != mirrored[j / FP * FDH + j % FP]) return 5;
    return 0;
}

static void test_full_disk(void **state)
{
    const struct folder *f = *state;
    int32_t mirrored[FN], rank[FN / 2];
    struct err e;
    char *text;
    size_t len;

    good_ranks(mirrored);
    for (int j = 0; j < FN / 2; j++)
        rank[j] = mirrored[j / FP * FDH + j % FP];
    assert_true(rankfile_write(f->path, &file_dims, rank, NULL, &file_info, &e));
    assert_true(file_read(f->path, 1 << 20, &text, &len, &e));
    free(text);
    for (rlim_t room = 0; room < len; room += 331)
        full_disk_try(f->path, room, full_disk_child);
}

static void test_bad_files(void **state)
{
    const struct folder *f = *state;
    const hsize_t good[3] = {FL, FG, FDH}, swapped[3] = {FG, FL, FDH}, huge[3] = {1 << 20, FG, FDH};
    const hsize_t half[3] = {FL, FG, FP}, flat[1] = {FN};
    struct err e;
    int32_t v[FN];

    expect_refused(f->path, (const char *[3]){": No such file"});
    assert_true(file_write(f->path, "rank", 4, &e));
    expect_refused(f->path, (const char *[3]){"HDF5"});
    good_ranks(v);
    write_h5(f->path, "ranks", 3, good, H5T_STD_I32LE, v);
    expect_refused(f->path, (const char *[3]){"has no `rank`"});
    write_h5(f->path, "chosen", 3, good, H5T_STD_I32LE, v);
    expect_refused(f->path, (const char *[3]){"rank.strategy \"logit\" has measured"});
    write_h5(f->path, "scale", 3, good, H5T_STD_I32LE, v);
    expect_refused(f->path, (const char *[3]){"rank.basis \"cross\" has measured"});
    write_h5(f->path, "rank", 3, swapped, H5T_STD_I32LE, v);
    expect_refused(f->path, (const char *[3]){"[3, 2, 8]", "[2, 3, 8]"});
    write_h5(f->path, "rank", 3, half, H5T_STD_I32LE, v);
    expect_refused(f->path, (const char *[3]){"[2, 3, 4]"});
    write_h5(f->path, "rank", 3, huge, H5T_STD_I32LE, NULL);
    expect_refused(f->path, (const char *[3]){"never written"});
    write_h5(f->path, "rank", 1, flat, H5T_STD_I32LE, v);
    expect_refused(f->path, (const char *[3]){"1 dimensions"});
    write_h5(f->path, "rank", 3, good, H5T_IEEE_F32LE, v);
    expect_refused(f->path, (const char *[3]){"not integers"});
}

static void test_bad_heads(void **state)
{
    static const struct {
        int at;
        int32_t value;
        const char *word;
    } cases[] = {{0, -1, "rank -1"},
                 {2, FP, "rank 4"},
                 {1, INT32_MAX, "rank 2147483647"},
                 {FP + 2, 77, "both halves"},
                 {3, -2, "rank -2"}};
    const struct folder *f = *state;
    const hsize_t good[3] = {FL, FG, FDH};
    int32_t v[FN];

    for (int j = 0; j < 5; j++) {
        good_ranks(v);
        v[(1 * FG + 2) * FDH + cases[j].at] = cases[j].value;
        write_h5(f->path, "rank", 3, good, H5T_STD_I32LE, v);
        expect_refused(f->path, (const char *[3]){"layer 1", "kv head 2", cases[j].word});
    }
    good_ranks(v);
    v[(0 * FG + 1) * FDH] = v[(0 * FG + 1) * FDH + 1];
    v[(0 * FG + 1) * FDH + FP] = v[(0 * FG + 1) * FDH];
    write_h5(f->path, "rank", 3, good, H5T_STD_I32LE, v);
    expect_refused(f->path, (const char *[3]){"layer 0", "kv head 1", "twice"});
}

/* Rank files damaged by a fuzzer: libhdf5 1.10.8 follows the link, crashes, or asks for gigabytes.
 * other.h5 is intact; the link points to it. */
static void test_fuzzed(void **state)
{
    static const struct {
        const char *name, *says;
    } cases[] = {{"external-link", "`rank` is an external link"},
                 {"layout-form", "stored as HDF5 before 1.6.3 did"},
                 {"attribute-cut", "an attribute is cut short"},
                 {"attribute-name", "an attribute has no name"},
                 {"attribute-values", "1 values of 8 bytes in 0 bytes of storage"},
                 {"base-address", "its base address is wrong"},
                 {"header-end-1", "beyond the end of the file"},
                 {"header-end-2", "beyond the end of the file"},
                 {"header-end-3", "beyond the end of the file"},
                 {"integer-width", "integers of an unusual width"},
                 {"messages", "a header has 17 messages, it speaks of 5"},
                 {"storage-size", "32 values of 4 bytes in 1099511627904 bytes of storage"}};
    const struct rank_dims n = {2, 2, 2, 8};
    int32_t rank[16];
    struct err e;

    (void)state;
    assert_true(rankfile_read("tests/data/h5/other.h5", &n, rank, NULL, &e));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[100];

        snprintf(path, sizeof path, "tests/data/h5/%s.h5", cases[i].name);
        assert_false(rankfile_read(path, &n, rank, NULL, &e));
        if (!strstr(e.msg, path) || !strstr(e.msg, cases[i].says) || strchr(e.msg, '\n'))
            fail_msg("%s: %s", cases[i].name, e.msg);
    }
}

/* With any byte of a rank file wrong it is refused in one line, or the ranks are right. */
static void test_flipped(void **state)
{
    const struct folder *f = *state;
    int32_t mirrored[FN], rank[FN / 2], back[FN / 2];
    size_t len, refused = 0;
    struct err e = {0};
    char *text;

    good_ranks(mirrored);
    for (int j = 0; j < FN / 2; j++)
        rank[j] = mirrored[j / FP * FDH + j % FP];
    assert_true(rankfile_write(f->path, &file_dims, rank, NULL, &file_info, &e));
    assert_true(file_read(f->path, 1 << 20, &text, &len, &e));
    for (size_t at = 0; at < len; at++) {
        const char was = text[at];

        text[at] = (char)(was ^ (1 << at % 8));
        assert_true(file_write(f->path, text, len, &e));
        if (rankfile_read(f->path, &file_dims, back, NULL, &e))
            assert_memory_equal(back, rank, sizeof rank);
        else if (++refused && (!strstr(e.msg, f->path) || strchr(e.msg, '\n')))
            fail_msg("%s", e.msg);
        text[at] = was;
    }
    assert_true(refused > FN); /* each byte of a rank, and much of the metadata */
    free(text);
}

/* torch's uint8 ranks in a safetensors file, in each dtype that is allowed. */
static void test_safetensors(void **state)
{
    static const struct {
        const char *dtype;
        size_t size;
        bool good;
    } cases[] = {{"U8", 1, true}, {"I32", 4, true}, {"I64", 8, true}, {"F32", 4, false}};
    const struct folder *f = *state;
    int32_t mirrored[FN], rank[FN / 2];
    char path[112];
    struct err e;

    snprintf(path, sizeof path, "%s.safetensors", f->path);
    good_ranks(mirrored);
    for (int j = 0; j < 4; j++) {
        char file[1024] = {0};
        const size_t bytes = FN * cases[j].size, head = 128;
        snprintf(file + 8, sizeof file - 8,
                 "{\"r\":{\"dtype\":\"%s\",\"shape\":[%d,%d,%d],\"data_offsets\":[0,%zu]}}",
                 cases[j].dtype, FL, FG, FDH, bytes);
        memset(file + 8 + strlen(file + 8), ' ', head - strlen(file + 8));
        file[0] = (char)head;
        for (int i = 0; i < FN; i++)
            file[8 + head + (size_t)i * cases[j].size] = (char)mirrored[i];
        assert_true(file_write(path, file, 8 + head + bytes, &e));
        const bool ok = rankfile_read(path, &file_dims, rank, NULL, &e);
        if (ok != cases[j].good) fail_msg("%s: %s", cases[j].dtype, e.msg);
        if (!ok) assert_non_null(strstr(e.msg, "F32"));
        for (int i = 0; i < FN / 2 && ok; i++)
            assert_int_equal(rank[i], mirrored[i / FP * FDH + i % FP]);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_file_round_trip, folder_make, folder_remove),
        cmocka_unit_test_setup_teardown(test_full_disk, folder_make, folder_remove),
        cmocka_unit_test_setup_teardown(test_bad_files, folder_make, folder_remove),
        cmocka_unit_test_setup_teardown(test_bad_heads, folder_make, folder_remove),
        cmocka_unit_test(test_fuzzed),
        cmocka_unit_test_setup_teardown(test_flipped, folder_make, folder_remove),
        cmocka_unit_test_setup_teardown(test_safetensors, folder_make, folder_remove),
    };

    return cmocka_run_group_tests_name("rankfile", tests, NULL, NULL);
}
