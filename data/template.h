/* template.h - chat templates: a conversation as one text, and which bytes of it are trained on.
 *
 * The assistant's turns are trained on: from the first byte after the prompt that the model gets
 * (for `vicuna` the prompt ends in "ASSISTANT:", so the blank before the answer is included) to the
 * end of what the model must write to stop. Nothing else is: no role name, no line break after the
 * stop token. Hence the prompt for generation is the rendered text up to where a range begins.
 *
 * The beginning-of-text token is added in one place only: if template->bos is set, the text already
 * contains it and is encoded with add_special = false; otherwise the tokenizer's post-processor
 * adds it, with add_special = true. struct rendered says which.
 *
 *   name       from                                         stops at
 *   vicuna     LLaVA-1.5 without a system sentence, as      </s>
 *              llava-hf/llava-1.5-7b-hf prompts it
 *   vicuna_v1  LLaVA-1.5 with the sentence it was           </s>
 *              trained with
 *   vicuna_v16 LLaVA-NeXT on Vicuna, as it was trained      </s>
 *   mistral    LLaVA-NeXT on Mistral, Mistral-Instruct      </s>
 *   llama3     Llama-3-Instruct, LLaVA-NeXT-8B              <|eot_id|>
 *   llama3_llava  the same with LLaVA-NeXT-8B's own system  <|eot_id|>
 *              sentence
 *   chatml     Qwen2.5                                      <|im_end|>
 *   smollm2    SmolLM2-Instruct                             <|im_end|>
 *   qwen2_vl   Qwen2, Qwen2-VL, Qwen2.5-VL                  <|im_end|>
 *   plain      no roles at all: image, caption (LLaVA's     a line break
 *              first stage)
 *
 * chatml, smollm2 and qwen2_vl differ in the default system sentence.
 *
 * "<image>" marks in a user's turn go before its text, each followed by a line break, and white
 * space around the text is dropped, wherever the data set has the marks: LLaVA trains that way, and
 * its templates on the Hugging Face Hub render the images first. Two templates differ: qwen2_vl
 * leaves the text as it is, plain keeps only the marks. */
#ifndef DATA_TEMPLATE_H
#define DATA_TEMPLATE_H

#include "base/err.h"

#include <stddef.h>

/* In the table's order; also the config's enum. */
#define TEMPLATE_NAMES                                                                             \
    "vicuna", "vicuna_v1", "vicuna_v16", "mistral", "llama3", "llama3_llava", "chatml", "smollm2", \
        "qwen2_vl", "plain"

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT };

struct message {
    enum role role;
    const char *text; /* [len] UTF-8, with the data set's "<image>" marks */
    size_t len;
};

#define IMAGE_MARK "<image>"

enum image_place { IMAGE_FIRST, IMAGE_AS_WRITTEN, IMAGE_ALONE };

struct turn_marks { /* what surrounds one role's text */
    const char *open, *close;
};

struct chat_template {
    const char *name;
    const char *bos;            /* precedes everything; or NULL */
    const char *default_system; /* used unless the first message is a system message; or NULL */
    struct turn_marks system, user, assistant;
    const char *after;   /* follows the assistant's close; not trained on */
    const char *gap;     /* between the assistant's open and its text; trained on */
    const char *stop;    /* spelling of the stop token: the last id of its encoding */
    bool trim;           /* strip white space around the texts */
    bool system_in_user; /* a system message goes at the beginning of the first user's turn */
    enum image_place image;
    /* What stands for an image mark in the model's texts; NULL, as in all that template_find gives:
     * the mark itself. */
    const char *picture;
};

/* On failure returns NULL and *e lists the known names. */
const struct chat_template *template_find(const char *name, struct err *e);

/* Checks that the tokenizer has a token for each special text of the template ("</s>",
 * "<|im_end|>"). Otherwise a model would be trained to spell them out, and would never stop. */
struct tokenizer;
bool template_check(const struct chat_template *t, const struct tokenizer *tk, struct err *e);

struct byte_range {
    size_t begin, end;
};

struct rendered { /* {0} before the first use; rendering again reuses the memory */
    char *text;   /* [len], followed by a NUL */
    size_t len, cap;
    struct byte_range *trained; /* one per assistant turn, in order */
    size_t n_trained, trained_cap;
    bool add_special; /* encode with the tokenizer's post-processor */
};
void rendered_free(struct rendered *r);

/* A text of n bytes as it is, all of it trained on; to be encoded with the tokenizer's
 * post-processor. */
bool template_plain_text(const char *text, size_t n, struct rendered *r, struct err *e);

/* Renders n > 0 messages: at most one system message, which must be the first. With `prompt` the
 * text ends where the assistant's answer begins. On failure the contents of *r are undefined. */
bool template_render(const struct chat_template *t, const struct message *m, size_t n, bool prompt,
                     struct rendered *r, struct err *e);

#endif
