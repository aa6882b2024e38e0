/* tool.h - shared by the subcommands of mha2mla-data: their table's row type, and options read from
 * a table that also prints the help. Subcommands write plain files only (PNG, JSON), so that the
 * trainer need not know where a data set came from. */
#ifndef DATASETS_TOOL_H
#define DATASETS_TOOL_H

#include "data/picture/image.h"

#include <stdint.h>

struct tool_command {
    const char *name, *about;
    /* argv[0] is the subcommand's name. Prints its own summary line to stdout. */
    bool (*run)(int argc, char **argv, struct err *e);
};
extern const struct tool_command tool_shapes, tool_scenes, tool_augment, tool_tokenizer, tool_score,
    tool_import;

/* One long option. `text` or `num` points to where its value goes, which initially holds the
 * default; a number outside lo..hi is an error. A NULL name ends a list of options. */
struct tool_option {
    const char *name, *value, *help;
    const char **text;
    int64_t *num, lo, hi;
    bool required;
};

#define TOOL_OPTIONS 16 /* maximum per subcommand */

/* A line on stdout, without the newline; control characters in it, as names of files may have them,
 * are quoted (text_plain). */
void tool_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Parses argv by `options`. *rest is the index of the first positional argument (getopt_long moves
 * them to the end); an option that is given twice is an error. For --help, prints usage, about text
 * and options, and sets *help: the caller then returns true at once. Strings remain argv's; an
 * empty one is an error: it names nothing. */
bool tool_options(const struct tool_option *options, const char *usage, const char *about, int argc,
                  char **argv, int *rest, bool *help, struct err *e);

/* Whether both are there and one file, by whatever names. */
bool tool_same_file(const char *a, const char *b);

/* Fails if the file `out`, which is about to be replaced, is also one of the n inputs. */
bool tool_keep_inputs(const char *out, char *const *inputs, int n, struct err *e);

/* image_read, plus a line on stderr if the file is damaged. */
bool tool_read_image(struct image *img, const char *path, struct err *e);

#endif
