/* family.h - what one family of models has of its own: how config.json and the tensors are read, and
 * what pictures are to it. A family is a file of this directory and a row of the table in table.c;
 * nobody else knows one by its name. */
#ifndef MODEL_FAMILY_FAMILY_H
#define MODEL_FAMILY_FAMILY_H

#include "data/picture/processor.h"
#include "model/config/hfconfig_parts.h"
#include "model/forward.h"

/* The prefixes of the parts of a model in its files, and the names of its head and of LLaVA-NeXT's
 * line break of pictures. */
struct name_layout {
    const char *text, *head, *vision, *projector, *newline;
};

struct sha256;
struct sample;

struct family {
    const char *model_type;
    const struct name_layout *layouts; /* ends with a row of NULLs; new models have the first */
    /* Fills c from the whole of config.json. */
    bool (*read)(const struct hf_reader *r, const cJSON *obj, struct hf_config *c);

    /* What follows is NULL in families without pictures. */
    const char *place;   /* the token of a picture's places */
    const char *picture; /* what stands for one in a text; NULL: "<image>" */
    const char *marker;  /* a tensor that every tower has, behind its prefix */
    /* Declares the parameters of tower and projector, of which *m->tower tells. */
    bool (*declare)(struct model *m, struct err *e);
    /* Fails where a setting contradicts the tensors, and names both. */
    bool (*check)(const struct model *m, struct err *e);
    /* Adds the settings that features depend on, beside the tower's weights. */
    void (*hash)(const struct hf_config *c, struct sha256 *s);
    /* The processor of a new model; and whether one from a file makes what the tower takes: else
     * the message says what it makes. */
    void (*new_processor)(const struct hf_config *c, struct processor *p);
    bool (*check_processor)(const struct hf_config *c, const struct processor *p, struct err *e);
    /* Fills in what becomes of a picture that the processor has shaped: rows, tokens, and how they
     * lie. */
    void (*shape)(const struct hf_config *c, struct picture_shape *s);
    /* struct picture_places' positions; NULL: 0, 1, 2 ... */
    int32_t (*positions)(const struct sample *s, int64_t n, int32_t *out, int64_t stride);
    /* Values of a row of the tower's input and of its features. */
    int64_t (*input_width)(const struct hf_config *c);
    int64_t (*feature_width)(const struct hf_config *c);
    /* model_vision: the tower, which is frozen but where a baseline is trained, so that features are
     * kept from one run to the next. */
    struct tensor *(*features)(struct model *m, struct tape *t, struct tensor *pixels,
                               const struct picture_shape *shapes, int64_t n);
    /* What lies between features and text: the embeddings of the pictures' places, [image_tokens,
     * d], from f->features. */
    struct tensor *(*project)(struct model *m, struct tape *t, const struct forward *f);
};
extern const struct family *const families[]; /* NULL at the end */

/* What the model makes of pictures and the tokens around them, but for the rule of their shapes. */
struct picture_places;
void family_places(const struct hf_config *c, struct picture_places *p);

extern const struct family family_llava, family_llava_next, family_qwen2_5_vl;
extern const struct family family_llama, family_mistral, family_qwen2;

#endif
