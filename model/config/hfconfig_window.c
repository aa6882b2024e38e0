/* hfconfig_window.c - sliding window attention as given by a config: Qwen2's layers from
 * max_window_layers on if use_sliding_window is true, or those named by layer_types; all
 * of Mistral's. It is not implemented; as long as no text is longer than the window, it
 * makes no difference. */
#include "model/config/hfconfig_parts.h"

#include <stdio.h>
#include <string.h>

static bool refuse_layer(const struct hf_reader *r, const cJSON *item, int i, const char *allowed)
{
    char key[48];

    snprintf(key, sizeof key, "layer_types[%d]", i);
    return hf_refuse(r, key, item, "%s", allowed);
}

/* *windowed: whether some layer has a window. */
static bool read_layers(const struct hf_reader *r, const cJSON *list, bool switched,
                        bool has_window, bool *windowed)
{
    const cJSON *item;
    int i = 0;

    cJSON_ArrayForEach(item, list)
    {
        const char *type = cJSON_GetStringValue(item);
        bool full = type && strcmp(type, "full_attention") == 0;
        bool slides = switched && type && strcmp(type, "sliding_attention") == 0;

        if (!full && !slides)
            return refuse_layer(r, item, i,
                                switched ? "full_attention, sliding_attention" : "full_attention");
        if (slides && !has_window)
            return refuse_layer(
                r, item, i,
                "full_attention, because use_sliding_window and sliding_window give no "
                "window");
        *windowed |= slides;
        i++;
    }
    return true;
}

bool hf_read_window(const struct hf_reader *r, const cJSON *obj, enum hf_window who,
                    struct text_config *t)
{
    const struct hf_field use = {.key = "use_sliding_window", .kind = HF_BOOL};
    const struct hf_field size = {.key = "sliding_window",
                                  .kind = HF_INT,
                                  .lo = 1,
                                  .hi = 1 << 30,
                                  .def = {4096},
                                  .nullable = true};
    const struct hf_field from = {
        .key = "max_window_layers", .kind = HF_INT, .hi = HF_MAX_COUNT, .def = {28}};
    const cJSON *layers = hf_get(r, obj, "layer_types");
    int64_t window = 0, first = 0;
    bool switched = who == HF_WINDOW_SWITCHED, used = false, windowed = false;

    if (who == HF_WINDOW_ALWAYS) return hf_read_fields(r, obj, &size, 1, 0, &t->window);

    if (cJSON_IsNull(layers)) layers = NULL;
    if (layers && !cJSON_IsArray(layers))
        return hf_refuse(r, "layer_types", layers, "a list with an entry for each layer");
    if (layers && cJSON_GetArraySize(layers) != t->num_hidden_layers)
        return hf_fail(r, obj, "layer_types",
                       "has %d entries; allowed: one for each of num_hidden_layers, which is %lld",
                       cJSON_GetArraySize(layers), (long long)t->num_hidden_layers);
    if (switched) {
        hf_get(r, obj, size.key); /* ignored, and not required, if switched off */
        hf_get(r, obj, from.key);
        if (!hf_read_fields(r, obj, &use, 1, 0, &used)) return false;
    }
    if (used && (!hf_read_fields(r, obj, &size, 1, 0, &window) ||
                 !hf_read_fields(r, obj, &from, 1, 0, &first)))
        return false;
    if (layers && !read_layers(r, layers, switched, window > 0, &windowed)) return false;
    if (!layers) windowed = window > 0 && first < t->num_hidden_layers;
    t->window = windowed ? window : 0;
    return true;
}
