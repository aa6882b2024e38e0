/* table.c - the table of all families. */
#include "model/family/family.h"
#include "data/sample.h"

#include <math.h>
#include <string.h>

const struct family *const families[] = {
    &family_llava, &family_llava_next, &family_qwen2_vl, &family_qwen2_5_vl,
    &family_llama, &family_mistral,    &family_qwen2,    NULL};

const struct family *family_fresh(int index)
{
    static const char *const names[] = {FRESH_FAMILIES};
    const struct family *const *f = families;

    while (strcmp((*f)->model_type, names[index]) != 0)
        f++;
    CHECK((*f)->fresh);
    return *f;
}

const char *family_chat(const struct hf_config *c)
{
    if (c->family->chat) return c->family->chat;
    for (const struct family *const *f = families; *f; f++)
        if (c->text.model_type && strcmp((*f)->model_type, c->text.model_type) == 0)
            return (*f)->chat;
    return NULL;
}

double fresh_deviation(const struct fresh_shape *s)
{
    return 1 / sqrt((double)s->hidden_size) / 2;
}

void family_places(const struct hf_config *c, struct picture_places *p)
{
    *p = (struct picture_places){.id = -1, .around = {-1, -1}, .axes = 1};
    if (!hf_has_vision(c)) return;
    p->id = (int32_t)c->image_token_index;
    p->around[0] = (int32_t)c->vision_start_token_id;
    p->around[1] = (int32_t)c->vision_end_token_id;
    p->axes = c->text.axes;
    p->positions = c->family->positions;
}
