/* tool.c - one reader for every subcommand's options: the table gives getopt_long its names, the
 * help its lines, and each number its range. */
#include "data/tool/tool.h"
#include "base/path.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool set_number(const struct tool_option *o, const char *text, struct err *e)
{
    char *end;
    long long v;

    errno = 0;
    v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < o->lo || v > o->hi)
        return err_set(e, "--%s %s: a whole number from %" PRId64 " to %" PRId64 " is needed",
                       o->name, text, o->lo, o->hi);
    *o->num = v;
    return true;
}

static void print_help(const struct tool_option *options, const char *usage, const char *about)
{
    printf("usage: mha2mla-data %s\n\n%s\n\noptions:\n", usage, about);
    for (const struct tool_option *o = options; o->name; o++) {
        int used = printf("  --%s %s", o->name, o->value);
        printf("%*s%s", used < 20 ? 20 - used : 1, "", o->help);
        if (o->required)
            printf(" (needed)");
        else if (o->num)
            printf(" (default %" PRId64 ")", *o->num);
        else if (*o->text)
            printf(" (default %s)", *o->text);
        printf("\n");
    }
    printf("  --help            this text\n");
}

bool tool_options(const struct tool_option *options, const char *usage, const char *about, int argc,
                  char **argv, int *rest, bool *help, struct err *e)
{
    struct option longs[TOOL_OPTIONS + 2] = {0};
    bool given[TOOL_OPTIONS] = {false};
    int n = 0, c;

    *help = false;
    for (; options[n].name; n++) {
        CHECK(n < TOOL_OPTIONS);
        longs[n] = (struct option){options[n].name, required_argument, NULL, 256 + n};
    }
    longs[n] = (struct option){"help", no_argument, NULL, 'h'};
    optind = 0; /* glibc: start afresh, a process may read several command lines */
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
        if (c == 'h') {
            *help = true;
            print_help(options, usage, about);
            return true;
        }
        if (c == ':') return err_set(e, "%s: option %s needs a value", argv[0], argv[optind - 1]);
        if (c < 256)
            return err_set(e, "%s: unknown option %s (see mha2mla-data %s --help)", argv[0],
                           argv[optind - 1], argv[0]);
        const struct tool_option *o = &options[c - 256];
        given[c - 256] = true;
        if (o->text) *o->text = optarg;
        if (o->text && !path_check(optarg, e))
            return err_context(e, "%s: --%s %s", argv[0], o->name, optarg);
        if (o->num && !set_number(o, optarg, e)) return err_context(e, "%s", argv[0]);
    }
    for (int i = 0; i < n; i++)
        if (options[i].required && !given[i])
            return err_set(e, "%s: --%s %s is needed (see mha2mla-data %s --help)", argv[0],
                           options[i].name, options[i].value, argv[0]);
    *rest = optind;
    return true;
}

bool tool_read_image(struct image *img, const char *path, struct err *e)
{
    struct err note; /* puts what the path may hold on one line */

    if (!image_read(img, path, e)) return false;
    if (img->damage) {
        err_set(&note, "%s is damaged: %s", path, img->damage);
        fprintf(stderr, "mha2mla-data: %s\n", note.msg);
    }
    return true;
}
