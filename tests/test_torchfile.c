/* test_torchfile.c - integers in files of torch.save (made by tests/data/torchfile/make_golden.py):
 * every type, what is refused and how, files cut short or damaged, and our own writing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "model/files/torchfile.h"
#include "tests/tmpdir.h"

#define DIR "tests/data/torchfile/"

enum { COUNT = 24 };
static const int64_t shape[3] = {2, 3, 4};

static void check_values(const struct torch_tensor *t, int64_t first)
{
    for (int i = 0; i < 3; i++)
        assert_int_equal(t->dim[i], shape[i]);
    for (int64_t i = 0; i < COUNT; i++)
        assert_true(t->values[i] == (i ? i : first));
}

static void test_types(void **state)
{
    static const struct {
        const char *path;
        int64_t first;
    } files[] = {{DIR "u8.pth", 0},          {DIR "i8.pth", INT8_MIN},   {DIR "i16.pth", INT16_MIN},
                 {DIR "i32.pth", INT32_MIN}, {DIR "i64.pth", INT64_MIN}, {DIR "ours.pth", 0}};

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct torch_tensor t;
        struct err e = {0};
        if (!torchfile_read(&t, files[i].path, COUNT, &e)) fail_msg("%s: %s", files[i].path, e.msg);
        check_values(&t, files[i].first);
        free(t.values);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *path, *said;
    } files[] = {{DIR "f32.pth", "something else than one integer tensor"},
                 {DIR "flat.pth", "something else than one integer tensor"},
                 {DIR "dict.pth", "something else than one integer tensor"},
                 {DIR "view.pth", "a view of another"},
                 {DIR "legacy.pth", "is a PyTorch file in the form before 1.6"},
                 {DIR "make_golden.py", "is text (\"\"\"\"Files of torch.save"},
                 {DIR "none.pth", "is not there"}};
    struct torch_tensor t;
    struct err e = {0};

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_false(torchfile_read(&t, files[i].path, COUNT, &e));
        assert_null(t.values);
        if (!strstr(e.msg, files[i].said)) fail_msg("%s: %s", files[i].path, e.msg);
        assert_null(strchr(e.msg, '\n'));
    }
    assert_false(torchfile_read(&t, DIR "u8.pth", COUNT - 1, &e));
    assert_non_null(strstr(e.msg, "[2, 3, 4], needed are 23"));
}

static bool read_bytes(const char *path, const char *bytes, size_t n, struct torch_tensor *t)
{
    struct err e = {0};

    assert_true(file_write(path, bytes, n, &e));
    return torchfile_read(t, path, COUNT, &e);
}

/* Cut anywhere or with any byte changed, a file is refused or read correctly: everything that
 * matters in it has a checksum. */
static void test_damaged(void **state)
{
    static const char *const files[] = {DIR "u8.pth", DIR "ours.pth"};
    const char *path = tmpdir_path(state, "r.pth");
    int refused = 0;

    for (int i = 0; i < 2; i++) {
        struct torch_tensor t;
        struct err e = {0};
        size_t n;
        char *text;
        assert_true(file_read(files[i], 1 << 16, &text, &n, &e));
        for (size_t k = 0; k < n; k++)
            assert_false(read_bytes(path, text, k, &t));
        for (size_t k = 0; k < 2 * n; k++) {
            const char was = text[k / 2];
            text[k / 2] = (char)(was ^ (k % 2 ? 255 : 1 << k / 2 % 8));
            if (read_bytes(path, text, n, &t))
                check_values(&t, 0);
            else
                refused++;
            free(t.values);
            text[k / 2] = was;
        }
        free(text);
    }
    assert_true(refused > 500); /* most bytes of our file; the values and the pickle of torch's */
}

/* The exact bytes that torch has been seen to read. */
static void test_writing(void **state)
{
    const char *path = tmpdir_path(state, "w.pth");
    char *got, *want;
    size_t n, wanted;
    int16_t v[COUNT];
    struct err e = {0};

    for (int i = 0; i < COUNT; i++)
        v[i] = (int16_t)i;
    assert_true(torchfile_write(path, v, shape, &e));
    assert_true(file_read(path, 1 << 16, &got, &n, &e));
    assert_true(file_read(DIR "ours.pth", 1 << 16, &want, &wanted, &e));
    assert_int_equal(n, wanted);
    assert_memory_equal(got, want, n);
    free(got);
    free(want);
    assert_false(torchfile_write("/nowhere/at/all.pth", v, shape, &e));
    assert_non_null(strstr(e.msg, "/nowhere/at/all.pth"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_types), cmocka_unit_test(test_refused),
                                       tmpdir_test(test_damaged), tmpdir_test(test_writing)};

    return cmocka_run_group_tests_name("torchfile", tests, NULL, NULL);
}
