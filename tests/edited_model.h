/* edited_model.h - modified copies of a model's directory. Include after tiny_model.h
 * (or what it includes) and tmpdir.h. */
#ifndef TESTS_EDITED_MODEL_H
#define TESTS_EDITED_MODEL_H

#include "base/file.h"
#include "model/files/safetensors.h"
#include "tests/tiny_model.h"

/* How a copy of a model's directory differs from it. */
struct edit {
    bool layout;                /* use the names written by transformers since 4.52 */
    const char *skip, *twist;   /* tensors to leave out, and to store transposed */
    const char *more, *like;    /* a tensor to add, with the values of another (NULL: the last) */
    const char *whole;          /* a tensor to store as I8 */
    uint64_t shard;             /* bytes per shard; 0: a single file */
    const char *find, *replace; /* in config.json */
};

static inline void new_name(const char *old, char *name, size_t size)
{
    static const char *const prefixes[][2] = {
        {"language_model.model.", "model.language_model."},
        {"language_model.lm_head.", "lm_head."},
        {"vision_tower.", "model.vision_tower."},
        {"multi_modal_projector.", "model.multi_modal_projector."}};

    for (int i = 0; i < 4; i++) {
        size_t n = strlen(prefixes[i][0]);
        if (strncmp(old, prefixes[i][0], n) != 0) continue;
        snprintf(name, size, "%s%s", prefixes[i][1], old + n);
        return;
    }
    fail_msg("%s has no known prefix", old);
}

static inline void copy_config(const char *from, const char *to, const struct edit *edit)
{
    char path[1400], *text, *out, *at;

    snprintf(path, sizeof path, "%s/config.json", from);
    text = slurp(path, NULL);
    out = calloc(1, strlen(text) + 200);
    assert_non_null(out);
    at = edit->find ? strstr(text, edit->find) : text;
    assert_non_null(at);
    memcpy(out, text, (size_t)(at - text));
    strcat(out, edit->find ? edit->replace : "");
    strcat(out, at + (edit->find ? strlen(edit->find) : 0));
    snprintf(path, sizeof path, "%s/config.json", to);
    spill(path, out, strlen(out));
    free(text);
    free(out);
}

static inline void copy_edited(const char *from, const char *to, const struct edit *edit)
{
    struct st_model in;
    struct st_writer w = {0};
    struct st_spec specs[128];
    char names[128][200];
    const struct st_tensor *source[128];
    struct err e = {0};
    size_t n = 0;

    must(file_mkdirs(to, &e) && st_model_open(&in, from, &e), &e);
    for (size_t i = 0; i < in.count; i++) {
        const struct st_tensor *t = in.tensors[i];
        if (edit->skip && strcmp(t->name, edit->skip) == 0) continue;
        snprintf(names[n], sizeof names[n], "%s", t->name);
        if (edit->layout) new_name(t->name, names[n], sizeof names[n]);
        specs[n] = (struct st_spec){.name = names[n], .dtype = t->dtype, .ndim = t->ndim};
        memcpy(specs[n].dim, t->dim, sizeof t->dim);
        if (edit->twist && strcmp(t->name, edit->twist) == 0) {
            specs[n].dim[0] = t->dim[1];
            specs[n].dim[1] = t->dim[0];
        }
        if (edit->whole && strcmp(t->name, edit->whole) == 0) specs[n].dtype = ST_I8; /* from F32 */
        source[n++] = t;
    }
    if (edit->more) {
        size_t like = n - 1;
        while (edit->like && strcmp(specs[like].name, edit->like) != 0)
            assert_true(like-- > 0);
        specs[n] = specs[like];
        specs[n].name = edit->more;
        source[n] = source[like];
        n++;
    }
    must(st_write_model_begin(&w, to, specs, n, NULL, edit->shard, &e), &e);
    for (size_t i = 0; i < n; i++) /* an I8 tensor has fewer bytes */
        must(st_write_raw(&w, i, source[i]->data,
                          source[i]->bytes / (specs[i].dtype == source[i]->dtype ? 1 : 4), &e),
             &e);
    must(st_write_end(&w, &e), &e);
    copy_config(from, to, edit);
    st_model_close(&in);
}

#endif
