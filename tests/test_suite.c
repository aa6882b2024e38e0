/* test_suite.c - tests/run.sh counts what passes, fails, crashes and is skipped, of several
 * programs at a time. The programs are small scripts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "tests/tmpdir.h"

#include "tests/program.h"

#define SUITE "cd $T && RUNNER= sh $OLDPWD/tests/run.sh "

/* DIR/test_NAME, a test program. */
static void script(void *const *state, const char *name, const char *body)
{
    char file[80], command[120], text[400];

    snprintf(file, sizeof file, "test_%s", name);
    snprintf(text, sizeof text, "#!/bin/sh\n%s\n", body);
    spill(tmpdir_path(state, file), text, strlen(text));
    snprintf(command, sizeof command, "chmod +x $T/%s", file);
    must_run(state, command);
}

/* The last line of what the command printed. */
static void must_end(void *const *state, const char *line)
{
    char *out = output(state), *end = out + strlen(out) - 1;

    assert_true(end > out && *end == '\n');
    *end = '\0';
    end = strrchr(out, '\n');
    assert_string_equal(end ? end + 1 : out, line);
    free(out);
}

static void test_counts(void **state)
{
    static const char table[] = "# a row\nONE=1 TWO=2 : row good\nONE=1 : good\n";

    script(state, "good", "echo 'ok 1 - a'; echo 'ok 2 - b'");
    script(state, "bad", "echo 'ok 1 - a'; echo 'not ok 2 - b'; echo 'what was wrong'; exit 1");
    script(state, "crash", "echo 'ok 1 - a'; kill -SEGV $$");
    script(state, "none", "echo 'nothing to do'");
    script(state, "killer", "kill -KILL $PPID");
    script(state, "skip", "echo 'not ok 1 - a # SKIP'; echo '# skipped: no picture'");
    script(state, "row", "[ \"$ONE$TWO\" = 12 ] && echo 'ok 1 - a'");
    spill(tmpdir_path(state, "table"), table, sizeof table - 1);

    must_run(state, SUITE "table ./test_good ./test_skip");
    must_end(state, "7 passed, 0 failed, 1 skipped");
    must_say(state, "# skipped: no picture");
    must_say(state, " s  ONE=1 TWO=2\n");
    assert_int_equal(run(state, SUITE "/dev/null ./test_good ./test_bad ./test_skip"), 1);
    must_end(state, "3 passed, 1 failed, 1 skipped");
    must_say(state, "not ok 2 - b\nwhat was wrong\n");
    assert_int_equal(run(state, SUITE "/dev/null ./test_crash"), 1);
    must_end(state, "1 passed, 1 failed, 0 skipped");
    assert_int_equal(run(state, SUITE "/dev/null ./test_none ./test_good"), 1);
    must_end(state, "2 passed, 1 failed, 0 skipped");
    must_say(state, "nothing to do\nno test ran\n");
    assert_int_equal(run(state, "export JOBS=1; " SUITE "/dev/null ./test_good ./test_killer"), 1);
    must_end(state, "2 passed, 1 failed, 0 skipped");
}

/* Two that need each other, and JOBS=1 for those that must not meet. */
static void test_at_a_time(void **state)
{
    must_run(state, "mkfifo $T/pipe");
    script(state, "writer", "timeout 60 sh -c 'echo > pipe' && echo 'ok 1 - a'");
    script(state, "reader", "timeout 60 cat pipe && echo 'ok 1 - a'");
    must_run(state, "export JOBS=2; " SUITE "/dev/null ./test_writer ./test_reader");
    must_end(state, "2 passed, 0 failed, 0 skipped");

    script(state, "first", "touch here; sleep 0.3; rm here; echo 'ok 1 - a'");
    script(state, "second", "[ -e here ] || echo 'ok 1 - a'");
    must_run(state, "export JOBS=1; " SUITE "/dev/null ./test_first ./test_second");
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_counts), tmpdir_test(test_at_a_time)};

    return cmocka_run_group_tests_name("suite", tests, NULL, NULL);
}
