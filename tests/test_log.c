/* test_log.c - a log that cannot be written is an error in the end, not lines lost in silence. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/log.h"
#include "tests/tmpdir.h"

static void test_written(void **state)
{
    struct err e;

    assert_true(log_keep(&e));
    log_line("kept for the file");
    assert_true(log_open(tmpdir_path(state, "log"), &e));
    assert_true(log_close(&e));
}

static void test_full_disk(void **state)
{
    struct err e;

    (void)state;
    assert_true(log_open("/dev/full", &e));
    log_line("more than the disk has room for");
    assert_false(log_close(&e));
    assert_non_null(strstr(e.msg, "/dev/full: lacks lines: No space left on device"));
    assert_true(log_close(&e)); /* nothing is left of it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_written),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
