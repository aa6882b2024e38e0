/* beside.c - see beside.h. */
#include "train/beside.h"
#include "base/file.h"
#include "base/log.h"
#include "model/export.h"
#include "model/family/family.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 64 << 20 }; /* bytes: a tokenizer's settings may list its tokens */

/* "FILE:LINE:COL: ..." about a key of config.json, as a line and no error. */
#define SAY(cfg, key, ...)                                                                         \
    do {                                                                                           \
        struct err said;                                                                           \
        hf_config_fail(cfg, key, &said, __VA_ARGS__);                                              \
        log_line("%s", said.msg);                                                                  \
    } while (0)

/* ---- config.json ---- */

/* The first name in a list; NULL where the family's class is in it, or none is. */
static const char *other_name(const cJSON *list, const struct family *f)
{
    const char *first = NULL, *text;

    for (const cJSON *item = cJSON_IsArray(list) ? list->child : NULL; item; item = item->next) {
        text = cJSON_GetStringValue(item);
        if (text && (strcmp(text, f->architecture) == 0 || export_is_class(f, text))) return NULL;
        if (!first) first = text;
    }
    return first;
}

static void say_class(const struct hf_config *cfg)
{
    static const char key[] = "architectures";
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(cfg->json, key);

    const char *other = other_name(list, cfg->family);

    if (other)
        SAY(cfg, key, "%s is \"%s\": not used; model_type \"%s\" is read as %s", key, other,
            cfg->family->model_type, cfg->family->architecture);
}

static void say_length(const struct hf_config *cfg)
{
    static const char key[] = "image_seq_length";

    const int64_t rows = cfg->family->rows ? cfg->family->rows(cfg) : 0;

    if (rows && cfg->image_seq_length && cJSON_GetObjectItemCaseSensitive(cfg->json, key) &&
        cfg->image_seq_length != rows)
        SAY(cfg, key, "%s is %lld: not used; the tower makes %lld tokens of a picture", key,
            (long long)cfg->image_seq_length, (long long)rows);
}

/* Blocks of the tower that it does not have. */
static void say_blocks(const struct hf_config *cfg)
{
    static const char key[] = "fullatt_block_indexes";
    const cJSON *vision = cJSON_GetObjectItemCaseSensitive(cfg->json, "vision_config"), *item;

    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(vision, key))
    {
        if (item->valuedouble < (double)cfg->vision.num_hidden_layers) continue;
        SAY(cfg, "vision_config.fullatt_block_indexes",
            "vision_config.%s has %lld: not used; the tower has the blocks 0 to %lld", key,
            (long long)item->valuedouble, (long long)cfg->vision.num_hidden_layers - 1);
        return;
    }
}

/* ---- other files ---- */

/* *path: dir/name, in new memory, where that is there and, where a key is given, has it; else NULL.
 * What cannot be read has been refused by whoever needs it, unless it is the machine that fails. */
static bool find(char **path, const char *dir, const char *name, const char *key, struct err *e)
{
    static const struct jsonc_rules rules = {.plain = true};
    char *file = dir ? file_join(dir, name, e) : NULL;
    bool there = false, ok = !dir || (file && (file_there(file, &there, e) || !e->machine));
    bool has = ok && there;
    struct jsonc doc;

    if (has && key) {
        has = jsonc_read_as(&doc, file, MAX_FILE, &rules, e);
        ok = has || !e->machine;
        if (has) {
            const cJSON *v = cJSON_GetObjectItemCaseSensitive(doc.root, key);
            has = v && !cJSON_IsNull(v);
            jsonc_close(&doc);
        }
    }
    *path = has ? file : NULL;
    if (!has) free(file);
    return ok;
}

static bool say_files(const struct run *r, struct err *e)
{
    static const char key[] = "chat_template";
    const char *model = r->c.model.path;
    const char *tokenizer = r->c.model.tokenizer ? r->c.model.tokenizer : model;
    const struct {
        const char *dir, *name, *key;
    } files[] = {{tokenizer, "chat_template.jinja", NULL},  {tokenizer, "chat_template.json", key},
                 {tokenizer, "tokenizer_config.json", key}, {model, "chat_template.jinja", NULL},
                 {model, "chat_template.json", key},        {model, "processor_config.json", key}};
    char *path = NULL, *adapter = NULL;
    bool ok = find(&adapter, model, "adapter_config.json", NULL, e);

    for (size_t i = 0; ok && !path && i < sizeof files / sizeof *files; i++)
        ok = find(&path, files[i].dir, files[i].name, files[i].key, e);
    if (ok && path)
        log_line("%s: not used: the model's chat template; data.template is %s", path,
                 r->chat.name);
    if (ok && adapter)
        log_line("%s: not used: an adapter (PEFT); the weights beside it are taken as they are",
                 adapter);
    free(path);
    free(adapter);
    return ok;
}

bool beside_say(const struct run *r, const struct hf_config *cfg, struct err *e)
{
    say_class(cfg);
    say_length(cfg);
    say_blocks(cfg);
    return say_files(r, e);
}
