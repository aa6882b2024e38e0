/* test_install.c - `make install`: what lies where, that it runs there, and that the manual pages
 * say what the programs' own help says. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tmpdir.h"

#include "tests/serve_run.h"

/* Every option (--name) or command of a help text is in the page as mdoc writes it. */
static void check_page(void *const *state, const char *words, const char *page)
{
    char *text = slurp(page, NULL), *list, *word, *rest, find[80];
    int n = 0;

    must_run(state, words);
    list = output(state);
    for (word = strtok_r(list, "\n", &rest); word; word = strtok_r(NULL, "\n", &rest), n++) {
        if (strncmp(word, "--", 2) == 0)
            snprintf(find, sizeof find, "\n.It Fl -%s", word + 2);
        else
            snprintf(find, sizeof find, "\n.It Cm %s\n", word);
        if (!strstr(text, find)) fail_msg("%s: lacks %s", page, word);
    }
    assert_true(n > 3);
    free(list);
    free(text);
}

static void test_manual_pages(void **state)
{
    check_page(state,
               "$B/mha2mla-train --help | grep -o '^  --[a-z-]*\\(, --[a-z-]*\\)*' | tr -d ' ' | "
               "tr , '\\n'",
               "docs/man/mha2mla-train.1");
    check_page(state,
               "$B/mha2mla-chat --help | grep -o '^  --[a-z-]*\\(, --[a-z-]*\\)*' | tr -d ' ' | "
               "tr , '\\n'",
               "docs/man/mha2mla-chat.1");
    if (has_server())
        check_page(state,
                   "$B/mha2mla-serve --help | grep -o '^  --[a-z-]*\\(, --[a-z-]*\\)*' | tr -d ' ' "
                   "| tr , '\\n'",
                   "docs/man/mha2mla-serve.1");
    check_page(state, "$B/mha2mla-data --help | sed -n 's/^  \\([a-z]*\\) .*/\\1/p'",
               "docs/man/mha2mla-data.1");
}

static void test_install(void **state)
{
    must_run(state, "make -s install BUILD=$B DESTDIR=$T/d PREFIX=/opt/x");
    must_run(state, "cd $T/d && find . -type f | sort > $T/files && cat $T/files");
    must_run(state, "grep -qx ./opt/x/share/man/man1/mha2mla-train.1 $T/files && "
                    "grep -qx ./opt/x/share/mha2mla/configs/quickstart.json $T/files && "
                    "grep -qx ./opt/x/share/mha2mla/configs/quickstart/model/model.safetensors "
                    "$T/files && test $(find $T/d -perm -111 -type f | wc -l) = "
                    "$(ls $B/mha2mla-train $B/mha2mla-data $B/mha2mla-chat $B/mha2mla-serve "
                    "2>/dev/null | wc -l)");
    must_run(state, "cd / && $T/d/opt/x/bin/mha2mla-train --version && "
                    "$T/d/opt/x/bin/mha2mla-chat --version && "
                    "$T/d/opt/x/bin/mha2mla-data shapes --out $T/set --train 3 --test 2");
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_manual_pages), program_test(test_install)};

    return cmocka_run_group_tests_name("install", tests, NULL, NULL);
}
