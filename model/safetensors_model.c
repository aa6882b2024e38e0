/* safetensors_model.c - a model's directory as one table of tensors, whether it is one file or
 * shards under an index. */
#include "base/mem.h"
#include "model/safetensors.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INDEX = 100000000 }; /* bytes, as for a header */

/* A row of the index's weight_map. */
struct mapped {
    const char *tensor, *file;
};

static int by_file(const void *a, const void *b)
{
    const struct mapped *x = a, *y = b;
    int c = strcmp(x->file, y->file);

    return c ? c : strcmp(x->tensor, y->tensor);
}

static int by_pointed_name(const void *a, const void *b)
{
    return strcmp((*(const struct st_tensor *const *)a)->name,
                  (*(const struct st_tensor *const *)b)->name);
}

/* Opens each shard once and looks its tensors up. `rows` is sorted by file. */
static bool open_shards(struct st_model *m, const char *dir, const char *index,
                        const struct mapped *rows, size_t n, struct err *e)
{
    size_t files = 0;

    for (size_t i = 0; i < n; i++)
        files += i == 0 || strcmp(rows[i].file, rows[i - 1].file) != 0;
    m->files = mem_new(files, sizeof *m->files, "the shards of a model", e);
    m->tensors = m->files ? mem_new(n, sizeof *m->tensors, "the tensors of a model", e) : NULL;
    if (!m->tensors) return false;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(rows[i].file, rows[i - 1].file) != 0) {
            char *path = file_join(dir, rows[i].file, e);
            bool there, ok = path && file_there(path, &there, e);
            if (ok && !there)
                ok = err_set(e, "%s: is not there, but %s puts tensor %s in it", path, index,
                             rows[i].tensor);
            ok = ok && st_open(&m->files[m->file_count], path, e);
            free(path);
            if (!ok) return false;
            m->file_count++;
        }
        m->tensors[i] = st_find(&m->files[m->file_count - 1], rows[i].tensor);
        if (!m->tensors[i])
            return err_set(e,
                           "%s: tensor %s: is not in %s, where the index puts it: one of the two "
                           "is of another model",
                           index, rows[i].tensor, rows[i].file);
        m->count++;
    }
    return true;
}

/* Fills rows[] from the weight_map; each file must be a plain name in the same directory. */
static bool read_weight_map(struct mapped *rows, const cJSON *map, const char *index, struct err *e)
{
    size_t n = 0;
    const cJSON *item;

    cJSON_ArrayForEach(item, map)
    {
        if (!st_name_is_plain(item->string))
            return err_set(e, "%s: a tensor's name is empty or has control characters", index);
        if (!cJSON_IsString(item) || !st_name_is_plain(item->valuestring))
            return err_set(e, "%s: tensor %s: no file name", index, item->string);
        if (strchr(item->valuestring, '/') || strcmp(item->valuestring, "..") == 0 ||
            strcmp(item->valuestring, ".") == 0)
            return err_set(e,
                           "%s: tensor %s: file \"%.128s\" is not a plain name in the same "
                           "directory",
                           index, item->string, item->valuestring);
        rows[n++] = (struct mapped){item->string, item->valuestring};
    }
    return true;
}

static bool open_index(struct st_model *m, const char *dir, const char *index, struct err *e)
{
    char *text = NULL;
    cJSON *json = NULL;
    struct mapped *rows = NULL;
    const cJSON *map;
    size_t len, n;
    bool ok = false;

    if (!file_read(index, MAX_INDEX, &text, &len, e)) goto out;
    json = st_parse_object(text, len, index, e);
    if (!json) goto out;
    map = cJSON_GetObjectItemCaseSensitive(json, "weight_map");
    if (!cJSON_IsObject(map) || !map->child) {
        err_set(e, "%s: no \"weight_map\" of tensors", index);
        goto out;
    }
    n = (size_t)cJSON_GetArraySize(map);
    rows = mem_new(n, sizeof *rows, "a weight map", e);
    if (!rows || !read_weight_map(rows, map, index, e)) goto out;
    qsort(rows, n, sizeof *rows, by_file);
    if (!open_shards(m, dir, index, rows, n, e)) goto out;
    qsort(m->tensors, m->count, sizeof *m->tensors, by_pointed_name);
    for (size_t i = 1; i < n; i++) {
        if (strcmp(m->tensors[i - 1]->name, m->tensors[i]->name) == 0) {
            err_set(e, "%s: tensor %s: is there twice", index, m->tensors[i]->name);
            goto out;
        }
    }
    ok = true;
out:
    free(rows);
    cJSON_Delete(json);
    free(text);
    return ok;
}

static bool open_single(struct st_model *m, const char *path, struct err *e)
{
    m->files = mem_new(1, sizeof *m->files, "a model's file", e);
    if (!m->files || !st_open(m->files, path, e)) return false;
    m->file_count = 1;
    m->tensors = mem_new(m->files->count, sizeof *m->tensors, "the tensors of a model", e);
    if (!m->tensors) return false;
    m->count = m->files->count;
    for (size_t i = 0; i < m->count; i++)
        m->tensors[i] = &m->files->tensors[i];
    return true;
}

/* What is there instead, and what can be done about it. */
static bool no_weights(const char *dir, struct err *e)
{
    static const char *const others[][2] = {
        {"pytorch_model.bin", "save the model as safetensors (save_pretrained of transformers)"},
        {"pytorch_model.bin.index.json",
         "save the model as safetensors (save_pretrained of transformers)"},
        {"adapter_model.safetensors", "merge the adapter into its model and save that"},
    };
    bool found = false;

    for (size_t i = 0; !found && i < sizeof others / sizeof *others; i++) {
        char *path = file_join(dir, others[i][0], e);
        bool ok = path && file_there(path, &found, e);
        if (ok && found) err_set(e, "%s: cannot be read: %s", path, others[i][1]);
        free(path);
        if (!ok) return false;
    }
    return !found &&
           err_set(e, "%s: holds no model.safetensors and no model.safetensors.index.json", dir);
}

bool st_model_open(struct st_model *m, const char *dir, struct err *e)
{
    char *single = file_join(dir, "model.safetensors", e);
    char *index = single ? file_join(dir, "model.safetensors.index.json", e) : NULL;
    bool one, many, ok = index && file_there(single, &one, e) && file_there(index, &many, e);

    memset(m, 0, sizeof *m);
    if (ok)
        ok = one    ? open_single(m, single, e)
             : many ? open_index(m, dir, index, e)
                    : no_weights(dir, e);
    free(single);
    free(index);
    if (!ok) st_model_close(m);
    return ok;
}

void st_model_close(struct st_model *m)
{
    for (size_t i = 0; i < m->file_count; i++)
        st_close(&m->files[i]);
    free(m->files);
    free(m->tensors);
    memset(m, 0, sizeof *m);
}

const struct st_tensor *st_model_find(const struct st_model *m, const char *name)
{
    struct st_tensor key = {.name = name};
    const struct st_tensor *want = &key, **found;

    if (m->count == 0) return NULL;
    found = bsearch(&want, m->tensors, m->count, sizeof *m->tensors, by_pointed_name);
    return found ? *found : NULL;
}
