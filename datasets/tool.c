/* tool.c - one reader for the options of all subcommands: the table gives getopt_long its names,
 * the help its lines, and each number its range. */
#include "datasets/tool.h"
#include "base/log.h"
#include "base/path.h"
#include "base/text.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void tool_say(const char *fmt, ...)
{
    char *line = NULL, *plain;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&line, fmt, ap) < 0) err_no_memory("a line");
    va_end(ap);
    plain = text_plain_new(line, strlen(line));
    log_progress_end();
    if (plain)
        puts(plain);
    else
        err_no_memory("a line");
    free(plain);
    free(line);
}

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

/* Texts are paths or names. An empty one names nothing: a shell's variable that is not set. */
static bool take_value(const struct tool_option *o, const char *text, const char *command,
                       struct err *e)
{
    if (o->text && !*text)
        return err_set(e, "%s: --%s is empty: a %s is needed", command, o->name, o->value);
    if (o->text && !path_check(text, e))
        return err_context(e, "%s: --%s %s", command, o->name, text);
    if (o->text) *o->text = text;
    return !o->num || set_number(o, text, e) || err_context(e, "%s", command);
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
    optind = 0; /* glibc: restart, since a process may read several command lines */
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
        if (given[c - 256]) return err_set(e, "%s: --%s is given twice", argv[0], o->name);
        given[c - 256] = true;
        if (!take_value(o, optarg, argv[0], e)) return false;
    }
    for (int i = 0; i < n; i++)
        if (options[i].required && !given[i])
            return err_set(e, "%s: --%s %s is needed (see mha2mla-data %s --help)", argv[0],
                           options[i].name, options[i].value, argv[0]);
    for (int i = optind; i < argc; i++)
        if (!*argv[i]) return err_set(e, "%s: a file's name is empty", argv[0]);
    *rest = optind;
    return true;
}

bool tool_same_file(const char *a, const char *b)
{
    struct stat sa, sb;

    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
           sa.st_ino == sb.st_ino;
}

bool tool_keep_inputs(const char *out, char *const *inputs, int n, struct err *e)
{
    for (int i = 0; i < n; i++)
        if (tool_same_file(out, inputs[i]))
            return err_set(e, "%s: would be replaced by what is made of it: choose another place",
                           inputs[i]);
    return true;
}

bool tool_read_image(struct image *img, const char *path, struct err *e)
{
    struct err note; /* keeps whatever the path contains on one line */

    if (!image_read(img, path, e)) return false;
    if (img->damage) {
        err_set(&note, "%s is damaged: %s", path, img->damage);
        fprintf(stderr, "mha2mla-data: %s\n", note.msg);
    }
    return true;
}
