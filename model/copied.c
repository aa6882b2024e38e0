/* copied.c - the files next to a model's weights that a saved model also gets. Few of them are read
 * here; a broken one would be found by whoever opens the saved model, months later. */
#include "base/file.h"
#include "base/filekind.h"
#include "base/json/jsonc.h"
#include "model/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { JSON_MAX = 256 << 20 };

const char *const model_side_files[] = {"tokenizer.json",
                                        "tokenizer_config.json",
                                        "special_tokens_map.json",
                                        "added_tokens.json",
                                        "generation_config.json",
                                        "preprocessor_config.json",
                                        "processor_config.json",
                                        "chat_template.jinja",
                                        "chat_template.json",
                                        "tokenizer.model",
                                        "vocab.json",
                                        "merges.txt",
                                        NULL};

/* The first ones are taken from the directory model.tokenizer if that is given. */
enum { TOKENIZER_FILES = 4, COPIED = sizeof model_side_files / sizeof *model_side_files - 1 };

/* exact: what is not in `from` is removed from `to`. */
static bool copy(const char *name, const char *from, const char *to, bool exact, struct err *e)
{
    char *src = file_join(from, name, e), *dst = src ? file_join(to, name, e) : NULL;
    bool there, ok = dst && file_there(src, &there, e);

    if (ok && there && strcmp(src, dst) != 0)
        ok = file_copy(src, dst, e);
    else if (ok && !there && exact && unlink(dst) != 0 && errno != ENOENT)
        ok = err_system(e, errno, "%s: cannot be removed", dst);
    free(src);
    free(dst);
    return ok;
}

bool model_copy_files(const char *from, const char *to, struct err *e)
{
    for (size_t i = 0; i < COPIED; i++)
        if (!copy(model_side_files[i], from, to, false, e)) return false;
    return true;
}

bool model_copy_tokenizer(const char *from, const char *to, struct err *e)
{
    for (size_t i = 0; i < TOKENIZER_FILES; i++)
        if (!copy(model_side_files[i], from, to, true, e)) return false;
    return true;
}

bool model_keep_copied(const char *dir, struct err *e)
{
    bool ok = true;

    for (size_t i = 0; ok && i < COPIED; i++) {
        char *path = file_join(dir, model_side_files[i], e);
        ok = path && watch_keep(path, e);
        free(path);
    }
    return ok;
}

static bool check_file(const char *path, struct err *e)
{
    static const struct jsonc_rules rules = {.plain = true, .zeros = true};
    struct file_map m = {0};
    struct jsonc doc = {0};
    const char *end = strrchr(path, '.');
    bool json = end && strcmp(end, ".json") == 0;
    bool ok = json ? jsonc_read_as(&doc, path, JSON_MAX, &rules, e)
                   : file_map_open(&m, path, e) && file_kind_check(path, m.data, m.size, e);

    jsonc_close(&doc);
    file_map_close(&m);
    if (ok || e->machine) return ok;
    return err_set(e, "%s; a saved model gets a copy of this file: fetch it again, or remove it",
                   e->msg);
}

/* *path: that file in `dir`, in new memory; NULL if it is not there or dir is NULL. */
static bool look(const char *name, const char *dir, char **path, struct err *e)
{
    bool there = false, ok;

    *path = dir ? file_join(dir, name, e) : NULL;
    ok = !dir || (*path && file_named(*path, &there, e));
    if (there) return true;
    free(*path);
    *path = NULL;
    return ok;
}

bool model_check_copied(const char *dir, const char *tokenizer, struct err *e)
{
    bool ok = true;

    for (size_t i = 0; ok && i < COPIED; i++) {
        const char *name = model_side_files[i];
        bool replaced = i < TOKENIZER_FILES && tokenizer;
        char *path;

        ok = look(name, replaced ? tokenizer : dir, &path, e);
        if (ok && !path && !replaced) ok = look(name, tokenizer, &path, e);
        if (ok && path) ok = check_file(path, e);
        free(path);
    }
    return ok;
}
