/* copied.c - the files beside a model's weights that a saved model gets too. Few of them are read
 * here; one that is broken would be found by whoever opens what was saved, months later. */
#include "base/file.h"
#include "base/filekind.h"
#include "base/jsonc.h"
#include "model/model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { JSON_MAX = 256 << 20 };

static const struct copied {
    const char *name;
    bool json, tokenizer; /* tokenizer: of the directory model.tokenizer where that is given */
} copied[] = {{"tokenizer.json", true, true},
              {"tokenizer_config.json", true, true},
              {"special_tokens_map.json", true, true},
              {"added_tokens.json", true, true},
              {"generation_config.json", true, false},
              {"preprocessor_config.json", true, false},
              {"processor_config.json", true, false},
              {"chat_template.jinja", false, false},
              {"chat_template.json", true, false},
              {"tokenizer.model", false, false},
              {"vocab.json", true, false},
              {"merges.txt", false, false}};

enum { COPIED = sizeof copied / sizeof *copied };

static bool copy(const struct copied *c, const char *from, const char *to, bool exact,
                 struct err *e)
{
    char *src = file_join(from, c->name, e), *dst = src ? file_join(to, c->name, e) : NULL;
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
        if (!copy(&copied[i], from, to, false, e)) return false;
    return true;
}

bool model_copy_tokenizer(const char *from, const char *to, struct err *e)
{
    for (size_t i = 0; i < COPIED; i++)
        if (copied[i].tokenizer && !copy(&copied[i], from, to, true, e)) return false;
    return true;
}

bool model_keep_copied(const char *dir, struct err *e)
{
    bool ok = true;

    for (size_t i = 0; ok && i < COPIED; i++) {
        char *path = file_join(dir, copied[i].name, e);
        ok = path && watch_keep(path, e);
        free(path);
    }
    return ok;
}

static bool check_file(const struct copied *c, const char *path, struct err *e)
{
    static const struct jsonc_rules rules = {.plain = true, .zeros = true};
    struct file_map m = {0};
    struct jsonc doc = {0};
    bool ok = c->json ? jsonc_read_as(&doc, path, JSON_MAX, &rules, e)
                      : file_map_open(&m, path, e) && file_kind_check(path, m.data, m.size, e);

    jsonc_close(&doc);
    file_map_close(&m);
    return ok || e->machine ||
           err_set(e, "%s; a saved model gets a copy of this file: fetch it again, or remove it",
                   e->msg);
}

/* *path: of that file in `dir`, in new memory; NULL where it is not there, or dir is NULL. */
static bool look(const struct copied *c, const char *dir, char **path, struct err *e)
{
    bool there = false, ok;

    *path = dir ? file_join(dir, c->name, e) : NULL;
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
        const struct copied *c = &copied[i];
        bool replaced = c->tokenizer && tokenizer;
        char *path;

        ok = look(c, replaced ? tokenizer : dir, &path, e);
        if (ok && !path && !replaced) ok = look(c, tokenizer, &path, e);
        if (ok && path) ok = check_file(c, path, e);
        free(path);
    }
    return ok;
}
