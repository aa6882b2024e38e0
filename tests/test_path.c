/* test_path.c - what lies below a directory (base/path.h), by whatever name. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "base/path.h"

#include <sys/stat.h>

static void test_within(void **state)
{
    static const struct {
        const char *path, *dir;
        bool within;
    } cases[] = {
        {"a", "a", true},        {"a/b", "a", true},        {"a/b/not/there", "a", true},
        {"a/../c", "a", false},  {"ab", "a", false},        {"a", "a/b", false},
        {"link/x", "a/b", true}, {"a/b/..", "a", true},     {"a/file/x", "a", true},
        {"nowhere", "a", false}, {"a/b", "nowhere", false}, {"a/b/../../link", "a/b", true},
    };
    char path[1300], dir[1300];

    mkdir(tmpdir_path(state, "a"), 0777);
    mkdir(tmpdir_path(state, "a/b"), 0777);
    mkdir(tmpdir_path(state, "ab"), 0777);
    spill(tmpdir_path(state, "a/file"), "x", 1);
    assert_int_equal(symlink("a/b", tmpdir_path(state, "link")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(path, sizeof path, "%s", tmpdir_path(state, cases[i].path));
        snprintf(dir, sizeof dir, "%s", tmpdir_path(state, cases[i].dir));
        if (path_within(path, dir) != cases[i].within)
            fail_msg("%s in %s: not %d", cases[i].path, cases[i].dir, cases[i].within);
    }
    /* a path that begins here */
    assert_int_equal(chdir(*state), 0);
    assert_true(path_within("a/b/x", "a") && path_within("x", ".") && !path_within("x", "a"));
    assert_int_equal(chdir("/"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_within, tmpdir_make, tmpdir_remove),
    };

    return cmocka_run_group_tests_name("path", tests, NULL, NULL);
}
