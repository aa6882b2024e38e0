/* tool_run.h - runs the subcommands of mha2mla-data in a test's process, and reads their lists.
 * Include cmocka's headers and tmpdir.h first. */
#ifndef TESTS_TOOL_RUN_H
#define TESTS_TOOL_RUN_H

#include "datasets/tool.h"

#include <cjson/cJSON.h>

enum { TOOL_RUN_WORDS = 24 };

/* Runs a command line given as words separated by '|'. */
static inline bool run(const struct tool_command *c, struct err *e, const char *line)
{
    char text[8192], *argv[TOOL_RUN_WORDS + 1], *rest = text;
    int argc = 0;

    memset(e, 0, sizeof *e);
    snprintf(text, sizeof text, "%s|%s", c->name, line);
    while (argc < TOOL_RUN_WORDS && (argv[argc] = strsep(&rest, "|")))
        argc++;
    argv[argc] = NULL;
    return c->run(argc, argv, e);
}

/* The same, with "@" replaced by the test's directory. */
static inline bool run_in(void **state, const struct tool_command *c, struct err *e,
                          const char *line)
{
    char text[4096] = "";
    size_t n = 0;

    for (; *line; line++) {
        if (*line != '@')
            text[n++] = *line;
        else
            n += (size_t)snprintf(text + n, sizeof text - n, "%s", (const char *)*state);
        text[n] = '\0';
        assert_true(n + 300 < sizeof text);
    }
    return run(c, e, text);
}

static inline void assert_error(const struct err *e, const char *part)
{
    if (!strstr(e->msg, part)) fail_msg("'%s' is not in: %s", part, e->msg);
}

static inline cJSON *read_json(const char *path)
{
    char *text = slurp(path, NULL);
    cJSON *root = cJSON_Parse(text);

    free(text);
    assert_non_null(root);
    return root;
}

static inline const char *text_of(const cJSON *o, const char *key)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
}

static inline const char *said(const cJSON *sample, int message)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(sample, "conversations");

    return text_of(cJSON_GetArrayItem(list, message), "value");
}

static inline void assert_same_file(const char *a, const char *b)
{
    size_t la, lb;
    char *ta = slurp(a, &la), *tb = slurp(b, &lb);

    assert_int_equal(la, lb);
    assert_memory_equal(ta, tb, la);
    free(ta);
    free(tb);
}

#endif
