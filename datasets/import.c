/* import.c - mha2mla-data import: the command. */
#include "datasets/import.h"
#include "base/mem.h"
#include "base/plural.h"
#include "datasets/tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const skips[] = {[SKIP_PICTURE] = "their picture is not there",
                                    [SKIP_VIDEO] = "they are about a video",
                                    [SKIP_SPLIT] = "they are of another part (--split)",
                                    [SKIP_OPEN] = "they have no options to choose from"};

/* Options without effect. Without --split, im->split is the task's own. */
static void say_unused(const struct import *im)
{
    const struct import_task *t = im->task;

    if (im->split && im->split != t->split && !im->parts)
        tool_say("note: --split %s is not used: no record names its part", im->split);
    if (im->images_given && !im->beside)
        tool_say("note: --images %s is not used: %s", im->images,
                 im->inside ? "the pictures are in the table" : "no question has a picture");
}

/* What stands in the way of a figure that can be compared with published ones. */
static void say(const struct import *im)
{
    const struct import_task *t = im->task;
    const int64_t unused = import_join_unused(im);
    char images[600] = "", length[50] = "";

    say_unused(im);
    tool_say("%s/%s.jsonl: %" PRId64 " question%s", im->out, t->name, im->written,
             plural(im->written));
    for (int i = 0; i < SKIPS; i++)
        if (im->skipped[i])
            tool_say("left out: %" PRId64 ", for %s; the first: %s", im->skipped[i], skips[i],
                     im->first[i]);
    if (unused)
        tool_say("left out: %" PRId64 " annotation%s without a question", unused, plural(unused));
    if (t->published && im->written != t->published)
        tool_say("note: the published set has %" PRId64 " questions", t->published);
    if (!t->published) tool_say("note: how many questions the published set has is not known here");
    if (im->few_rows)
        tool_say("note: %" PRId64 " question%s fewer rows than options: a figure over all turns of "
                 "the options is easier than the published one",
                 im->few_rows, im->few_rows > 1 ? "s have" : " has");
    if (im->letters)
        tool_say("note: %" PRId64 " questions name letters that must be drawn in their pictures: "
                 "--images needs those pictures",
                 im->letters);
    if (im->beside) snprintf(images, sizeof images, ", \"images\": \"%s\"", im->images);
    if (t->max_new) snprintf(length, sizeof length, ", \"max_new_tokens\": %" PRId64, t->max_new);
    tool_say("in data.eval: {\"path\": \"%s/%s.jsonl\"%s, \"name\": \"%s\"%s}%s", im->out, t->name,
             images, t->name, length, t->max_new ? "" : ", with evaluate.score \"options\"");
}

/* Where records have no ids, a file that is named twice would double the set. */
static bool once_each(char *const *files, int n, struct err *e)
{
    for (int i = 1; i < n; i++)
        for (int k = 0; k < i; k++)
            if (tool_same_file(files[k], files[i]))
                return err_set(e, "%s: is named twice: each file's questions count once", files[i]);
    return true;
}

static bool import_files(struct import *im, char *const *files, int n)
{
    bool ok = once_each(files, n, im->e) && import_join_open(im, files, n) && import_write_open(im);

    for (int i = 0; ok && i < n; i++)
        if (!import_join_has(im, files[i])) ok = import_read(im, files[i]);
    return ok && import_write_close(im, files[0]);
}

static void task_names(char *out, size_t size)
{
    size_t n = 0;

    for (const struct import_task *t = import_tasks; t->name; t++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", n ? ", " : "", t->name);
}

static bool find_task(struct import *im, const char *name)
{
    char names[500];

    task_names(names, sizeof names);
    im->task = import_task_find(name);
    return im->task || err_set(im->e, "import: no benchmark '%s'; there are: %s", name, names);
}

static void about(char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size,
                                "Makes evaluation samples of a benchmark's own files (or of the "
                                "rows.jsonl of datasets/parquet.py):\nDIR/TASK.jsonl, "
                                "docs/data.md. Tasks and their files:\n");

    for (const struct import_task *t = import_tasks; t->name; t++)
        n += (size_t)snprintf(out + n, size - n, "  %-12s %s\n", t->name, t->files);
}

static bool run(int argc, char **argv, struct err *e)
{
    struct import im = {.e = e};
    const struct tool_option options[] = {
        {"out", "DIR", "where it goes", .text = &im.out, .required = true},
        {"images", "DIR", "where the pictures lie; without it: beside the first file",
         .text = &im.images},
        {"split", "NAME", "the part to take, where records name one; without it: scienceqa's test",
         .text = &im.split},
        {0}};
    char text[2000], *images = NULL;
    int rest;
    bool help, ok;

    about(text, sizeof text);
    if (!tool_options(options, "import TASK FILE ... --out DIR [OPTION ...]", text, argc, argv,
                      &rest, &help, e))
        return false;
    if (help) return true;
    if (argc - rest < 2) return err_set(e, "import: a benchmark and its files are needed");
    if (!find_task(&im, argv[rest])) return false;
    im.images_given = im.images;
    if (!im.images) im.images = images = file_dir(argv[rest + 1], e);
    if (!im.split) im.split = im.task->split;
    ok = im.images && import_files(&im, argv + rest + 1, argc - rest - 1);
    if (ok) say(&im);
    import_write_abort(&im);
    free(images);
    return ok;
}

const struct tool_command tool_import = {"import", "evaluation samples of published benchmarks",
                                         run};
