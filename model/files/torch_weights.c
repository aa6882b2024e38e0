/* torch_weights.c - pytorch_model.bin and similar files as a file of tensors: as with safetensors,
 * each tensor is a pointer into the mapping. */
#include "base/mem.h"
#include "model/files/torch_archive.h"

#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

/* One entry of the state_dict. */
static bool read_entry(struct st_tensor *t, const struct torch_archive *a,
                       const struct pickle_value *v, struct err *e)
{
    struct torch_shape s;
    struct bytes data;
    const char *why;

    if (!torch_read_shape(a, v, &s, &why))
        return err_set(e,
                       "\"%s\" %s: only tensors by name can be read, as model.state_dict() has "
                       "them",
                       t->name, why);
    if (!s.contiguous)
        return err_set(e,
                       "tensor %s: is a view with gaps or turned axes; save it again with "
                       ".contiguous()",
                       t->name);
    if (!torch_values(a, &s, false, &data, e)) return err_context(e, "tensor %s", t->name);
    t->dtype = s.dtype;
    t->ndim = s.ndim;
    memcpy(t->dim, s.dim, sizeof t->dim);
    t->data = data.p;
    t->bytes = data.n;
    t->aligned = (uintptr_t)data.p % st_dtypes[s.dtype].align == 0;
    return true;
}

/* Names and tensors of the dictionary `dict`; the names are copied and NUL-terminated. */
static bool read_dict(struct st_file *f, const struct torch_archive *a,
                      const struct pickle_value *dict, struct err *e)
{
    const struct pickle *p = &a->pickle;
    size_t room = 0;
    char *name;

    for (uint32_t at = dict->first; at; at = p->cell[p->cell[at].next].next) {
        const struct pickle_value *key = &p->value[p->cell[at].value];
        if (p->value[p->cell[p->cell[at].next].value].kind == PICKLE_DICT) {
            const int n = (int)(key->text.n < 64 ? key->text.n : 64);
            const char *text = (const char *)(n ? key->text.p : NULL);
            return err_set(e,
                           "\"%.*s\" is a dictionary: a training program's checkpoint; in Python "
                           "torch.save(torch.load(OLD)[\"%.*s\"], NEW) saves only that",
                           n, text, n, text);
        }
        room += key->text.n + 1;
    }
    if (room > a->text + dict->count) /* a name referenced over and over */
        return err_set(e, "a tensor's name is there twice");
    f->tensors = mem_new(dict->count / 2, sizeof *f->tensors, "the tensors of a file", e);
    name = f->names = f->tensors ? mem_new(room, 1, "the names of tensors", e) : NULL;
    if (!name) return false;
    for (uint32_t at = dict->first; at; at = p->cell[p->cell[at].next].next) {
        const struct pickle_value *key = &p->value[p->cell[at].value];
        struct st_tensor *t = &f->tensors[f->count];
        if (key->kind != PICKLE_TEXT || memchr(key->text.p, '\0', key->text.n))
            return err_set(e, "a key of its dictionary is not a tensor's name");
        memcpy(name, key->text.p, key->text.n);
        t->name = name;
        t->file = f->path;
        if (!st_name_is_plain(name))
            return err_set(e, "a tensor's name is empty or has control characters");
        if (!read_entry(t, a, &p->value[p->cell[p->cell[at].next].value], e)) return false;
        name += key->text.n + 1;
        f->count++;
    }
    return true;
}

static bool read_archive(struct st_file *f, struct err *e)
{
    struct torch_archive a;
    const struct pickle_value *root;
    bool ok;

    if (!torch_archive_open(&a, (struct bytes){f->map.data, f->map.size}, e)) return false;
    root = &a.pickle.value[a.pickle.root];
    ok = root->kind == PICKLE_DICT
             ? read_dict(f, &a, root, e)
             : err_set(e, "holds no dictionary of tensors by name: save model.state_dict()");
    torch_archive_close(&a);
    if (ok && f->count) qsort(f->tensors, f->count, sizeof *f->tensors, by_name);
    for (size_t i = 1; ok && i < f->count; i++)
        if (by_name(&f->tensors[i - 1], &f->tensors[i]) == 0)
            ok = err_set(e, "tensor %s: is there twice", f->tensors[i].name);
    return ok;
}

bool torch_weights_open(struct st_file *f, const char *path, struct err *e)
{
    memset(f, 0, sizeof *f);
    f->path = mem_strdup(path, e);
    if (f->path && file_map_open(&f->map, path, e)) {
        if (read_archive(f, e)) return true;
        err_context(e, "%s", path);
    }
    st_close(f);
    return false;
}
