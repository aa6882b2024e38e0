/* safetensors_model.c - a model's directory as one table of tensors, whether one file or shards
 * with an index, in safetensors or torch.save format. */
#include "base/mem.h"
#include "model/files/safetensors.h"

#include <stdlib.h>
#include <string.h>

enum {
    MAX_INDEX = 100000000, /* bytes, as for a header */
    MAX_VALUES = 1000000,  /* in an index: one per tensor */
};

/* In the order in which transformers looks for them. */
static const struct form {
    const char *single, *index;
    bool (*open)(struct st_file *f, const char *path, struct err *e);
} forms[] = {
    {"model.safetensors", "model.safetensors.index.json", st_open},
    {"pytorch_model.bin", "pytorch_model.bin.index.json", torch_weights_open},
};

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

/* Rows are sorted by file: whether a row is the first of its file. */
static bool is_first(const struct mapped *rows, size_t i)
{
    return i == 0 || strcmp(rows[i].file, rows[i - 1].file) != 0;
}

/* Fails if files of the index are missing, and counts them. */
static bool check_shards(const struct mapped *rows, size_t n, const char *dir, const char *index,
                         struct err *e)
{
    const struct mapped *first = NULL;
    int files = 0, missing = 0;

    for (size_t i = 0; i < n; i++) {
        char *path = is_first(rows, i) ? file_join(dir, rows[i].file, e) : NULL;
        if (!is_first(rows, i)) continue;
        bool there, ok = path && file_named(path, &there, e);
        free(path);
        if (!ok) return false;
        files++;
        if (!there) {
            if (!first) first = &rows[i];
            missing++;
        }
    }
    return !first ||
           err_set(e,
                   "%s/%s: is not there, but %s puts tensor %s in it (%d of %d files are missing): "
                   "fetch what is missing",
                   dir, first->file, index, first->tensor, missing, files);
}

/* Opens each shard once and checks it against the index. `rows` is sorted by file. */
static bool open_shards(struct st_model *m, const struct form *form, const char *dir,
                        const char *index, const struct mapped *rows, size_t n, struct err *e)
{
    size_t files = 0;

    for (size_t i = 0; i < n; i++)
        files += is_first(rows, i);
    m->files = mem_new(files, sizeof *m->files, "the shards of a model", e);
    if (!m->files) return false;
    for (size_t i = 0; i < n; i++) {
        if (is_first(rows, i)) {
            char *path = file_join(dir, rows[i].file, e);
            bool ok = path && form->open(&m->files[m->file_count], path, e);
            free(path);
            if (!ok) return false;
            m->file_count++;
        }
        if (!st_find(&m->files[m->file_count - 1], rows[i].tensor))
            return err_set(e,
                           "%s: tensor %s: is not in %s, where the index puts it: one of the two "
                           "is of another model",
                           index, rows[i].tensor, rows[i].file);
    }
    return true;
}

/* Fills rows[] from the weight_map; each file must be a valid name in the same directory. */
static bool read_weight_map(struct mapped *rows, const struct jsonc *index, const cJSON *map,
                            struct err *e)
{
    size_t n = 0;
    const cJSON *item;

    cJSON_ArrayForEach(item, map)
    {
        const char *file = cJSON_GetStringValue(item);
        if (!st_name_is_plain(item->string))
            return jsonc_fail(index, item, e, "a tensor's name is empty or has control characters");
        if (!file || !st_name_is_plain(file))
            return jsonc_fail(index, item, e, "tensor %s: no file name", item->string);
        if (strchr(file, '/') || strcmp(file, "..") == 0 || strcmp(file, ".") == 0)
            return jsonc_fail(index, item, e,
                              "tensor %s: file \"%.128s\" is not a plain name in the same "
                              "directory",
                              item->string, file);
        rows[n++] = (struct mapped){item->string, file};
    }
    return true;
}

static bool open_index(struct st_model *m, const struct form *form, const char *dir,
                       const char *path, struct err *e)
{
    static const struct jsonc_rules rules = {.plain = true, .max_values = MAX_VALUES};
    struct jsonc index;
    struct mapped *rows = NULL;
    const cJSON *map;
    size_t n;
    bool ok = false;

    if (!jsonc_read_as(&index, path, MAX_INDEX, &rules, e)) return false;
    map = cJSON_GetObjectItemCaseSensitive(index.root, "weight_map");
    n = (size_t)cJSON_GetArraySize(map);
    if (!cJSON_IsObject(map) || n == 0) {
        jsonc_fail(&index, map ? map : index.root, e, "no \"weight_map\" of tensors");
    } else {
        rows = mem_new(n, sizeof *rows, "a weight map", e);
        ok = rows && read_weight_map(rows, &index, map, e);
    }
    if (ok) qsort(rows, n, sizeof *rows, by_file);
    ok = ok && check_shards(rows, n, dir, path, e) && open_shards(m, form, dir, path, rows, n, e);
    free(rows);
    jsonc_close(&index);
    return ok;
}

/* The tensors of all files, whether the index lists them or not (like transformers). */
static bool list_tensors(struct st_model *m, struct err *e)
{
    size_t n = 0;

    for (size_t i = 0; i < m->file_count; i++)
        n += m->files[i].count;
    m->tensors = mem_new(n, sizeof *m->tensors, "the tensors of a model", e);
    if (!m->tensors) return false;
    for (size_t i = 0; i < m->file_count; i++)
        for (size_t k = 0; k < m->files[i].count; k++)
            m->tensors[m->count++] = &m->files[i].tensors[k];
    qsort(m->tensors, n, sizeof *m->tensors, by_pointed_name);
    for (size_t i = 1; i < n; i++)
        if (by_pointed_name(&m->tensors[i - 1], &m->tensors[i]) == 0)
            return err_set(e, "%s: tensor %s: is in %s too", m->tensors[i]->file,
                           m->tensors[i]->name, m->tensors[i - 1]->file);
    return true;
}

static bool open_form(struct st_model *m, const struct form *form, const char *dir, bool *found,
                      struct err *e)
{
    char *single = file_join(dir, form->single, e);
    char *index = single ? file_join(dir, form->index, e) : NULL;
    bool one = false, many = false;
    bool ok = index && file_named(single, &one, e) && file_named(index, &many, e);

    *found = one || many;
    if (ok && one) {
        m->files = mem_new(1, sizeof *m->files, "a model's file", e);
        ok = m->files && form->open(m->files, single, e);
        m->file_count = ok;
    } else if (ok && many) {
        ok = open_index(m, form, dir, index, e);
    }
    free(single);
    free(index);
    return ok;
}

bool st_model_open(struct st_model *m, const char *dir, struct err *e)
{
    bool ok = true, found = false;

    memset(m, 0, sizeof *m);
    for (size_t i = 0; ok && !found && i < sizeof forms / sizeof *forms; i++)
        ok = open_form(m, &forms[i], dir, &found, e);
    if (ok && !found)
        ok = err_set(e, "%s: holds no weights: no %s, no %s, and no index of either", dir,
                     forms[0].single, forms[1].single);
    ok = ok && list_tensors(m, e);
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
