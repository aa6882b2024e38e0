/* tool.h - what the subcommands of mha2mla-data share: the table's row, and options read from one
 * table that also prints the help. A subcommand writes plain files only (PNG, JSON), so that the
 * trainer needs to know nothing of where a data set came from. */
#ifndef DATA_TOOL_TOOL_H
#define DATA_TOOL_TOOL_H

#include "data/image.h"

#include <stdint.h>

struct tool_command {
    const char *name, *about;
    /* argv[0] is the subcommand's name. Prints its own summary line to stdout. */
    bool (*run)(int argc, char **argv, struct err *e);
};
extern const struct tool_command tool_shapes, tool_scenes, tool_augment, tool_tokenizer;

/* One long option. `text` or `num` says where its value goes and holds the default before; a
 * number outside lo..hi is an error. A list of options ends with a NULL name. */
struct tool_option {
    const char *name, *value, *help;
    const char **text;
    int64_t *num, lo, hi;
    bool required;
};

#define TOOL_OPTIONS 16 /* at most, in one subcommand */

/* Reads argv by `options`. *rest is the index of the first plain argument (getopt_long moves them
 * to the end). Where --help was given, prints the usage, the about text and the options, and sets
 * *help: the caller then returns true at once. Strings stay argv's; an empty one is an error: it
 * names nothing. */
bool tool_options(const struct tool_option *options, const char *usage, const char *about, int argc,
                  char **argv, int *rest, bool *help, struct err *e);

/* Fails where the file `out`, which is about to be replaced, is one of the n inputs too. */
bool tool_keep_inputs(const char *out, char *const *inputs, int n, struct err *e);

/* image_read, and a line on stderr where the file is damaged. */
bool tool_read_image(struct image *img, const char *path, struct err *e);

#endif
