/* family.h - what is specific to one family of models: how config.json and the tensors are read,
 * and how pictures become rows of text. A family is a file in this directory and a row of the table
 * in table.c; no other code knows a family by name. */
#ifndef MODEL_FAMILY_FAMILY_H
#define MODEL_FAMILY_FAMILY_H

#include "data/picture/processor.h"
#include "model/config/hfconfig_parts.h"
#include "model/family/fresh.h"
#include "model/forward.h"

/* The prefixes of a model's parts in its files, and the names of its head and of
 * LLaVA-NeXT's image_newline. */
struct name_layout {
    const char *text, *head, *vision, *projector, *newline;
};

struct sha256;
struct sample;

struct family {
    const char *model_type;
    const char *architecture;          /* transformers' class */
    const struct name_layout *layouts; /* ends with a row of NULLs; new models use the first */
    const char *chat; /* template of its instruct models; NULL: the tokenizer's tokens tell */
    /* Fills c from config.json's root object. */
    bool (*read)(const struct hf_reader *r, const cJSON *obj, struct hf_config *c);

    /* NULL from here on in families without pictures. */
    const char *place;   /* the token that fills a picture's places */
    const char *picture; /* what stands for a picture in a text; NULL: "<image>" */
    const char *marker;  /* a tensor that every tower has, without its prefix */
    /* transformers' class for pictures and texts; NULL: not written with a new processor */
    const char *processor_class;
    /* Allocates m->tower and declares the parameters of tower and projector. */
    bool (*declare)(struct model *m, struct err *e);
    /* Fails if a setting contradicts the tensors, naming both. */
    bool (*check)(const struct model *m, struct err *e);
    /* Adds the settings that features depend on; the tower's weights are hashed elsewhere. */
    void (*hash)(const struct hf_config *c, struct sha256 *s);
    /* The processor of a new model; and a check that one read from a file produces the tower's
     * input, whose message says what it produces. */
    void (*new_processor)(const struct hf_config *c, struct processor *p);
    bool (*check_processor)(const struct hf_config *c, const struct processor *p, struct err *e);
    /* Fills s->rows and s->tokens, and their layout, for a picture that the processor has
     * shaped. */
    void (*shape)(const struct hf_config *c, struct picture_shape *s);
    /* as struct picture_places.positions; NULL: 0, 1, 2 ... */
    int32_t (*positions)(const struct sample *s, int64_t n, int32_t *out, int64_t stride);
    /* What the tower makes of a picture, where all have one size; else NULL. */
    int64_t (*rows)(const struct hf_config *c);
    /* Values per row of the tower's input, and of its features. */
    int64_t (*input_width)(const struct hf_config *c);
    int64_t (*feature_width)(const struct hf_config *c);
    /* The tower's graph, see model_vision. It is frozen except while a baseline is trained, so
     * features can be cached between runs. */
    struct tensor *(*features)(struct model *m, struct tape *t, struct tensor *pixels,
                               const struct picture_shape *shapes, int64_t n);
    /* From f->features to the embeddings of the rows filled by pictures: [image_tokens, d]. */
    struct tensor *(*project)(struct model *m, struct tape *t, const struct forward *f);
    const struct fresh *fresh; /* new models of it; NULL: there are none */
};
/* The template of the family or, where it has none, of its decoder's; NULL: neither has. */
const char *family_chat(const struct hf_config *c);
extern const struct family *const families[]; /* ends with NULL */

/* The family that `index` of FRESH_FAMILIES names. */
const struct family *family_fresh(int index);

/* How pictures appear in the model's token stream, except for the rule of their shapes. */
struct picture_places;
void family_places(const struct hf_config *c, struct picture_places *p);

extern const struct family family_llava, family_llava_next, family_qwen2_vl, family_qwen2_5_vl;
extern const struct family family_llama, family_mistral, family_qwen2;

#endif
