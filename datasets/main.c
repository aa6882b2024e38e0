/* main.c - mha2mla-data: makes the data sets, and the small tokenizer, for training without a
 * published checkpoint. */
#include "base/mem.h"
#include "base/watch.h"
#include "datasets/tool.h"

#include <stdio.h>
#include <string.h>

static const struct tool_command *const commands[] = {&tool_shapes, &tool_scenes, &tool_augment,
                                                      &tool_tokenizer};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *fp)
{
    fprintf(fp, "usage: mha2mla-data COMMAND [OPTION ...]\n\ncommands:\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(fp, "  %-12s%s\n", commands[i]->name, commands[i]->about);
    fprintf(fp, "\nmha2mla-data COMMAND --help says more.\n");
}

int main(int argc, char **argv)
{
    struct err e = {0}, changed;

    if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        print_usage(stdout);
        return 0;
    }
    for (int i = 0; argc > 1 && i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i]->name) != 0) continue;
        bool ok = commands[i]->run(argc - 1, argv + 1, &e);
        if (!watch_check(&changed)) ok = err_set(&e, "%s", changed.msg);
        if (ok) return 0;
        mem_name_limit(&e);
        fprintf(stderr, "mha2mla-data: error: %s\n", e.msg);
        return 1;
    }
    if (argc > 1) fprintf(stderr, "mha2mla-data: error: no command '%s'\n", argv[1]);
    print_usage(stderr);
    return 1;
}
