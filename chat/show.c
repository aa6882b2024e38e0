/* show.c - see show.h. */
#include "chat/show.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/units.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <string.h>

char *show_line(const struct answer *a, const char *who, struct err *e)
{
    const double share = a->original_bytes ? (double)a->cache_bytes / (double)a->original_bytes : 0;
    char kept[60] = "", pictures[60] = "", t[3][UNIT_TEXT];

    if (a->image_tokens)
        snprintf(pictures, sizeof pictures, " (%lld of pictures)", (long long)a->image_tokens);
    if (a->kept_tokens)
        snprintf(kept, sizeof kept, ", %lld of them cached,", (long long)a->kept_tokens);
    return mem_printf(e,
                      "%s%s%lld tokens in%s%s %.1f s, %lld out %.1f tokens/s, cache %s of %s (%s), "
                      "%s",
                      who ? who : "", who ? ": " : "", (long long)a->prompt_tokens, pictures, kept,
                      a->prefill_seconds, (long long)a->new_tokens, answer_speed(a),
                      unit_bytes(t[0], (double)a->cache_bytes),
                      unit_bytes(t[1], (double)a->original_bytes), unit_percent(t[2], share),
                      a->cache_format);
}

static bool add_numbers(cJSON *o, const struct answer *a)
{
    const struct {
        const char *key;
        double v;
    } rows[] = {{"prompt_tokens", (double)a->prompt_tokens},
                {"image_tokens", (double)a->image_tokens},
                {"kept_tokens", (double)a->kept_tokens},
                {"completion_tokens", (double)a->new_tokens},
                {"prefill_s", a->prefill_seconds},
                {"decode_s", a->decode_seconds},
                {"tokens_per_s", answer_speed(a)},
                {"cache_bytes", (double)a->cache_bytes},
                {"cache_bytes_original", (double)a->original_bytes}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!cJSON_AddNumberToObject(o, rows[i].key, rows[i].v)) return false;
    return true;
}

char *show_json(const struct answer *a, const char *model, struct err *e)
{
    cJSON *o = cJSON_CreateObject();
    char *text = NULL;

    if (o && cJSON_AddStringToObject(o, "model", model) &&
        cJSON_AddItemToObject(o, "answer", jsonc_new_string(a->text, strlen(a->text))) &&
        cJSON_AddStringToObject(o, "finish_reason", finish_names[a->finish]) && add_numbers(o, a) &&
        cJSON_AddStringToObject(o, "cache_format", a->cache_format))
        text = jsonc_print(o, false, e);
    else
        err_set(e, "out of memory for an answer");
    cJSON_Delete(o);
    return text;
}
