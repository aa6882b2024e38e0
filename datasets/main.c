/* main.c - mha2mla-data: makes the data sets, and the small tokenizer, for training without a
 * published checkpoint; scores answers. */
#include "base/limits.h"
#include "base/log.h"
#include "base/watch.h"
#include "datasets/tool.h"

#include <stdio.h>
#include <string.h>

static const struct tool_command *const commands[] = {&tool_shapes,    &tool_scenes, &tool_augment,
                                                      &tool_tokenizer, &tool_score,  &tool_import};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *fp)
{
    fprintf(fp, "usage: mha2mla-data COMMAND [OPTION ...]\n\ncommands:\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(fp, "  %-12s%s\n", commands[i]->name, commands[i]->about);
    fprintf(fp, "\nmha2mla-data COMMAND --help says more.\n");
}

static bool run(int argc, char **argv, struct err *e)
{
    struct err changed;

    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        print_usage(stdout);
        return true;
    }
    for (int i = 0; argc > 1 && i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i]->name) != 0) continue;
        bool ok = commands[i]->run(argc - 1, argv + 1, e);
        return watch_check(&changed) ? ok : err_set(e, "%s", changed.msg);
    }
    if (argc > 1) return err_set(e, "no command '%s': see mha2mla-data --help", argv[1]);
    print_usage(stderr);
    return false;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    bool ok;

    log_to_stderr();
    ok = limits_stack(&e) && run(argc, argv, &e);

    if (ok && (fflush(stdout) != 0 || ferror(stdout)))
        ok = err_set(&e, "standard output: cannot be written");
    if (ok) return 0;
    limits_name(&e);
    log_progress_end();
    if (e.msg[0]) fprintf(stderr, "mha2mla-data: error: %s\n", e.msg);
    return 1;
}
