/* tmpdir.h - an empty directory per test, removed with all its content; and what a test does with
 * files there. Include cmocka's headers first. Usage:
 *     cmocka_unit_test_setup_teardown(test_x, tmpdir_make, tmpdir_remove)
 * *state is then the directory's path. */
#ifndef TESTS_TMPDIR_H
#define TESTS_TMPDIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define tmpdir_test(f) cmocka_unit_test_setup_teardown(f, tmpdir_make, tmpdir_remove)

static inline int tmpdir_make(void **state)
{
    const char *base = getenv("TMPDIR");
    char path[1024];

    snprintf(path, sizeof path, "%s/mha2mla-test-XXXXXX", base ? base : "/tmp");
    *state = mkdtemp(path) ? strdup(path) : NULL;
    return *state ? 0 : -1;
}

static inline int tmpdir_remove_one(const char *path, const struct stat *st, int type,
                                    struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static inline int tmpdir_remove(void **state)
{
    int rc = nftw(*state, tmpdir_remove_one, 8, FTW_DEPTH | FTW_PHYS);

    free(*state);
    return rc;
}

/* DIR/name in one of a few buffers that are used in turn. */
static inline const char *tmpdir_path(void *const *state, const char *name)
{
    static char paths[8][1200];
    static int next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof paths[0], "%s/%s", (const char *)*state, name);
    return path;
}

/* The whole file, terminated, in new memory; *len may be NULL. */
static inline char *slurp(const char *path, size_t *len)
{
    FILE *fp = fopen(path, "rb");
    char *text;
    long size;

    assert_non_null(fp);
    assert_int_equal(fseek(fp, 0, SEEK_END), 0);
    size = ftell(fp);
    rewind(fp);
    text = calloc(1, (size_t)size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, (size_t)size, fp), size);
    fclose(fp);
    if (len) *len = (size_t)size;
    return text;
}

static inline void spill(const char *path, const void *data, size_t len)
{
    FILE *fp = fopen(path, "wb");

    assert_non_null(fp);
    assert_int_equal(fwrite(data, 1, len, fp), len);
    assert_int_equal(fclose(fp), 0);
}

static inline int is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

#endif
