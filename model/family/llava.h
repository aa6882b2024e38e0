/* llava.h - shared by the families that put a projector after CLIP's tower. */
#ifndef MODEL_FAMILY_LLAVA_H
#define MODEL_FAMILY_LLAVA_H

#include "model/family/clip.h"

struct llava {                                       /* model.tower points to this */
    struct param *proj1, *proj1_b, *proj2, *proj2_b; /* the projector's two layers */
    struct param *newline;                           /* LLaVA-NeXT's image_newline [d]; else NULL */
    struct clip clip;
};

extern const struct name_layout llava_layouts[];

bool llava_read(const struct hf_reader *r, const cJSON *obj, struct hf_config *c);
bool llava_declare(struct model *m, struct err *e); /* all but image_newline */
bool llava_check(const struct model *m, struct err *e);

/* config.json of a new model: with a decoder of the family Llama; `more` are further keys, each
 * with its comma behind it. */
char *llava_json(const struct family *f, const char *more, const struct fresh_shape *s,
                 int64_t vocab, const int32_t id[FRESH_TOKENS], struct err *e);
#define LLAVA_TOKENS                                                                               \
    {                                                                                              \
        [FRESH_BOS] = "<s>", [FRESH_EOS] = "</s>", [FRESH_PLACE] = "<image>"                       \
    }

/* Runs f's features through the projector: [rows, d]. */
struct tensor *llava_project(struct model *m, struct tape *t, const struct forward *f);

#endif
