/* table.c - the table of all families. */
#include "model/family/family.h"
#include "data/dataset.h"

const struct family *const families[] = {&family_llava, &family_llava_next, &family_qwen2_5_vl,
                                         &family_llama, &family_mistral,    &family_qwen2,
                                         NULL};

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
