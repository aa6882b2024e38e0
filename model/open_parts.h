/* open_parts.h - shared by the files that open a model and check what they find (open*.c, finite.c,
 * zeros.c), and by the families that check their own settings and tensors. */
#ifndef MODEL_OPEN_PARTS_H
#define MODEL_OPEN_PARTS_H

#include "model/model.h"

/* The tensor of that name in the directory, or in its base; NULL if none. */
const struct st_tensor *model_find_tensor(const struct model *m, const char *name);

/* The tensor from which a parameter is read: the one of its name, or the head's if embeddings are
 * tied and only that one is present. NULL if none. */
const struct st_tensor *model_param_tensor(const struct model *m, const struct param *p);

/* Finds which layout the tensor names follow, and whether the head is the embeddings: if
 * config.json says so but the files hold two different tensors, the files win. */
bool model_choose_names(struct model *m, struct err *e);

/* Fails if parameters lack a tensor or tensors a parameter, naming and counting them. Needs the
 * parameters declared. */
bool model_check_tensors(struct model *m, struct err *e);

/* The error of a tensor without values where there should be some. */
bool model_refuse_empty(const struct st_tensor *t, struct err *e);

/* Whether all values of t are +0. */
bool model_is_zero(const struct st_tensor *t);

/* Tensors of one kind: how many, and the first. */
struct tensors_found {
    size_t n;
    const struct st_tensor *first;
};
static inline void tensors_count(struct tensors_found *s, const struct st_tensor *t)
{
    if (s->n++ == 0) s->first = t;
}

/* Adds a line to m->notes. */
bool model_note(struct model *m, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Fails if a setting contradicts the tensors, naming both. Needs the layout. */
bool model_check_settings(const struct model *m, struct err *e);

/* A setting, and the tensor one of whose dims it determines: `value` itself, or `makes` if another
 * setting has a part in it. */
struct size_rule {
    const char *section, *key;
    int64_t value;
    const char *with; /* NULL: none */
    int64_t other, makes;
    const char *prefix, *tensor;
    int dim;
};
bool model_check_sizes(const struct model *m, const struct size_rule *rules, size_t n,
                       struct err *e);

/* Checks that the setting at `path` is the number of layers among the tensors, PREFIXN.*. */
bool model_check_layers(const struct model *m, const char *path, int64_t layers, const char *prefix,
                        struct err *e);

/* What a setting says about the presence of a tensor: "SECTIONKEY is SAYS". An unwanted bias of
 * zeros counts as absent. */
struct presence_rule {
    const char *section, *key, *says;
    bool wanted;
    const char *prefix, *tensor;
};
bool model_check_presence(const struct model *m, const struct presence_rule *r, struct err *e);
const char *model_truth(bool is); /* "true", "false" */
#define OTHER_MODEL "config.json and the tensors must be of the same model"

#endif
