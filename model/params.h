/* params.h - declaring the parameters of a model and giving them memory: for those who make models. */
#ifndef MODEL_PARAMS_H
#define MODEL_PARAMS_H

#include "model/model.h"

/* Adds a parameter of the file's shape [rows, cols] or [n], of the name that fmt makes. */
struct param *param_matrix(struct model *m, enum param_kind kind, int64_t rows, int64_t cols,
                           const char *fmt, ...) __attribute__((format(printf, 5, 6)));
struct param *param_vector(struct model *m, enum param_kind kind, int64_t n, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Narrows p to the rows [row0, row0 + rows) of the file's tensor (elements, for a vector): several
 * parameters may be rows of one tensor, declared in their order. */
struct param *param_part(struct param *p, int64_t row0, int64_t rows);

/* Fills params, layers and tower from cfg, layout, state, method, rope_dim and latent; no memory for
 * values yet. A pointer to a param stays valid until params is freed. */
bool params_declare(struct model *m, struct err *e);

/* The tensor of that name in the directory, or in the base that it names; NULL: none. */
const struct st_tensor *model_find_tensor(const struct model *m, const char *name);

/* The tensor that a parameter's values are read from: of its name; of the head where embeddings are
 * tied and only that is there. NULL: none. */
const struct st_tensor *model_param_tensor(const struct model *m, const struct param *p);

/* Finds the layout that the files' names are of, and whether the head is the embeddings:
 * config.json has no word where it says so and the files hold two that differ. */
bool model_choose_names(struct model *m, struct err *e);

/* Fails where parameters have no tensor, or tensors no parameter, and names and counts them. Needs
 * the parameters. */
bool model_check_tensors(struct model *m, struct err *e);

/* Whether all values of t are +0. */
bool model_is_zero(const struct st_tensor *t);

/* Adds a line to m->notes. */
bool model_note(struct model *m, struct err *e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Fails where a setting contradicts the tensors, and names both. Needs the layout. */
bool model_check_settings(const struct model *m, struct err *e);

/* A setting, and the tensor one of whose dims it gives: `value` itself, or `makes` where another
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

/* Whether the setting at `path` is the number of the tensors' layers, PREFIXN.*. */
bool model_check_layers(const struct model *m, const char *path, int64_t layers, const char *prefix,
                        struct err *e);

/* What a setting says about a tensor that is there or is not: "SECTIONKEY SAYS". A bias of zeros
 * that it does not want is as good as none. */
struct presence_rule {
    const char *section, *key, *says;
    bool wanted;
    const char *prefix, *tensor;
};
bool model_check_presence(const struct model *m, const struct presence_rule *r, struct err *e);
const char *model_truth(bool is); /* "true", "false" */
#define OTHER_MODEL "config.json and the tensors must be of the same model"

/* "440, 32" */
void shape_text(const int64_t *dim, int n, char *text, size_t size);

/* Gives p zeroed memory of its own. */
bool param_alloc(struct param *p, enum dtype dtype, struct err *e);
/* Fills q_pairs from pairs. */
bool model_set_query_pairs(struct model *m, struct err *e);
void params_free(struct param *params, int64_t n);

#endif
