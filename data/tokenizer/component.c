/* component.c - reads the chains of normalizers, pre-tokenizers and decoders, and
 * the post-processor. Each component's members are documented next to its code; here
 * is what they share. */
#include "base/file.h"
#include "base/mem.h"
#include "data/tokenizer/tokenizer_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NESTED_MAX 16                 /* nested Sequences */
#define BESIDE_MAX ((size_t)16 << 20) /* bytes of tokenizer_config.json with its templates */
#define STEPS_MAX 64                  /* in a chain */
#define TEMPLATE_MAX 1024             /* members and ids in a template; real ones have 3 */

bool load_fail(const struct load *load, const cJSON *item, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return jsonc_fail(&load->doc, item, load->e, "%s", msg);
}

bool load_read(struct load *load, const char *path, size_t limit)
{
    static const struct jsonc_rules rules = {.plain = true};

    return jsonc_read_as(&load->doc, path, limit, &rules, load->e) &&
           (cJSON_IsObject(load->doc.root) ||
            load_fail(load, load->doc.root, "the whole must be an object"));
}

/* Prepends the place to a message set by a deeper function. */
static bool load_at(const struct load *load, const cJSON *item)
{
    struct err deeper = *load->e;

    return load_fail(load, item, "%s", deeper.msg);
}

bool load_beside(struct load *load, const char *dir, const char *name, struct err *e)
{
    char *path = file_join(dir, name, e);
    bool there, ok;

    load->e = e;
    ok = path && file_there(path, &there, e) && (!there || load_read(load, path, BESIDE_MAX));
    free(path);
    return ok;
}

const cJSON *load_member(const cJSON *json, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(json, key);

    return item && !cJSON_IsNull(item) ? item : NULL;
}

bool load_bool(const struct load *load, const cJSON *json, const char *key, bool *out)
{
    const cJSON *item = load_member(json, key);

    if (!item) return true;
    if (!cJSON_IsBool(item)) return load_fail(load, item, "\"%s\" must be true or false", key);
    *out = cJSON_IsTrue(item);
    return true;
}

bool load_count(const struct load *load, const cJSON *json, const char *key, size_t *out)
{
    const cJSON *item = load_member(json, key);

    if (!item) return true;
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= INT32_MAX) ||
        item->valuedouble != (double)(int32_t)item->valuedouble)
        return load_fail(load, item, "\"%s\" must be a count", key);
    *out = (size_t)item->valuedouble;
    return true;
}

bool load_string(const struct load *load, const cJSON *json, const char *key, const char **out)
{
    const cJSON *item = load_member(json, key);

    if (!item) return true;
    if (!cJSON_IsString(item)) return load_fail(load, item, "\"%s\" must be a string", key);
    *out = item->valuestring;
    return true;
}

bool load_pattern(const struct load *load, const cJSON *json, struct pattern *out)
{
    const cJSON *pattern = load_member(json, "pattern");
    const char *literal = NULL, *regex = NULL;

    if (!cJSON_IsObject(pattern))
        return load_fail(load, json, "\"pattern\" must be {\"String\": ...} or {\"Regex\": ...}");
    if (!load_string(load, pattern, "String", &literal) ||
        !load_string(load, pattern, "Regex", &regex))
        return false;
    if (!literal == !regex)
        return load_fail(load, pattern, "\"pattern\" needs one of \"String\" and \"Regex\"");
    if (literal ? !pattern_literal(out, literal, load->e) : !pattern_regex(out, regex, load->e))
        return load_at(load, pattern);
    return true;
}

bool step_text(const struct load *load, struct step *step, const char *text)
{
    step->text = mem_strdup(text, load->e);
    step->text_len = strlen(text);
    return step->text;
}

bool parse_nothing(const struct load *load, const cJSON *json, struct step *step)
{
    (void)load;
    (void)json;
    (void)step;
    return true;
}

bool parse_replace(const struct load *load, const cJSON *json, struct step *step)
{
    const char *s = NULL;

    if (!load_string(load, json, "content", &s)) return false;
    if (!s) return load_fail(load, json, "Replace without \"content\"");
    return step_text(load, step, s) && load_pattern(load, json, &step->pattern);
}

void step_free(struct step *step)
{
    pattern_free(&step->pattern);
    free(step->text);
    free(step->place);
}

void chain_free(struct chain *c)
{
    for (size_t i = 0; i < c->n; i++)
        step_free(&c->v[i]);
    free(c->v);
    *c = (struct chain){0};
}

/* ---- chains ---- */

struct chain_kind {
    const char *key, *list_key; /* in the root; in a Sequence's members */
    const struct component *table;
};

/* "FILE:LINE:COL: KEY NAME", in new memory. */
static char *place(const struct load *load, const cJSON *json, const char *key, const char *name)
{
    struct err at;

    jsonc_fail(&load->doc, json, &at, "%s %s", key, name);
    return mem_strdup(at.msg, load->e);
}

/* Fails, listing the names in the table. */
static bool unknown_component(const struct load *load, const cJSON *json,
                              const struct chain_kind *kind, const char *type)
{
    char names[512] = "Sequence";
    size_t n = strlen(names);

    for (const struct component *c = kind->table; c->name && n < sizeof names; c++)
        n += (size_t)snprintf(names + n, sizeof names - n, ", %s", c->name);
    return load_fail(load, json, "%s \"%s\" is not known to this reader, which has %s", kind->key,
                     type, names);
}

static bool add_component(const struct load *load, const cJSON *json, const struct chain_kind *kind,
                          int depth, struct chain *chain)
{
    const struct component *c = kind->table;
    const char *type = NULL;
    struct step *step;

    if (!cJSON_IsObject(json)) return load_fail(load, json, "%s must be an object", kind->key);
    if (!load_string(load, json, "type", &type)) return false;
    if (!type) return load_fail(load, json, "%s without \"type\"", kind->key);
    if (strcmp(type, "Sequence") == 0) {
        const cJSON *list = load_member(json, kind->list_key), *item;

        if (!cJSON_IsArray(list))
            return load_fail(load, json, "Sequence without a list \"%s\"", kind->list_key);
        if (depth >= NESTED_MAX) return load_fail(load, json, "too many Sequences in Sequences");
        cJSON_ArrayForEach(item, list)
        {
            if (!add_component(load, item, kind, depth + 1, chain)) return false;
        }
        return true;
    }
    while (c->name && strcmp(c->name, type) != 0)
        c++;
    if (!c->name) return unknown_component(load, json, kind, type);
    if (chain->n == STEPS_MAX)
        return load_fail(load, json, "%s has more than %d parts", kind->key, STEPS_MAX);
    if (!mem_grow(&chain->v, &chain->cap, chain->n + 1, sizeof *chain->v, load->e)) return false;
    step = &chain->v[chain->n++];
    *step = (struct step){.kind = c, .place = place(load, json, kind->key, type)};
    return step->place && c->parse(load, json, step);
}

bool load_chain(const struct load *load, const char *key, const struct component *table,
                const char *list_key, struct chain *chain)
{
    struct chain_kind kind = {key, list_key, table};
    const cJSON *json = load_member(load->doc.root, key);

    return !json || add_component(load, json, &kind, 0, chain);
}

/* ---- the post-processor ---- */

struct template_ids {
    int32_t *v[2]; /* before and after the text */
    size_t n[2], cap[2];
    size_t cost; /* members and ids read so far: a small file can ask for many */
    bool seen;   /* the text's place */
};

static bool template_cost(const struct load *load, const cJSON *item, struct template_ids *ids)
{
    return ids->cost++ < TEMPLATE_MAX ||
           load_fail(load, item, "post_processor puts more than %d tokens around a text",
                     TEMPLATE_MAX);
}

/* Appends the ids of special token `name`, which must be listed in "special_tokens". */
static bool template_token(const struct load *load, const cJSON *json, const cJSON *piece,
                           const struct tokenizer *tk, struct template_ids *ids)
{
    const cJSON *tokens = load_member(json, "special_tokens"), *list, *item;
    const char *name = NULL;
    size_t id, side = ids->seen ? 1 : 0;

    if (!load_string(load, piece, "id", &name)) return false;
    list = name ? load_member(load_member(tokens, name), "ids") : NULL;
    if (!cJSON_IsArray(list))
        return load_fail(load, piece, "\"special_tokens\" has no ids for \"%s\"", name ? name : "");
    cJSON_ArrayForEach(item, list)
    {
        if (!template_cost(load, item, ids)) return false;
        if (!cJSON_IsNumber(item) ||
            !(item->valuedouble >= 0 && item->valuedouble < (double)tk->size) ||
            !tokenizer_piece(tk, (int32_t)item->valuedouble))
            return load_fail(load, item, "\"%s\": an id that is not a token", name);
        id = (size_t)item->valuedouble;
        if (!mem_grow(&ids->v[side], &ids->cap[side], ids->n[side] + 1, sizeof(int32_t), load->e))
            return false;
        ids->v[side][ids->n[side]++] = (int32_t)id;
    }
    return true;
}

static bool template_processing(const struct load *load, const cJSON *json,
                                const struct tokenizer *tk, struct template_ids *ids)
{
    const cJSON *single = load_member(json, "single"), *item;

    if (!cJSON_IsArray(single))
        return load_fail(load, json, "TemplateProcessing without a list \"single\"");
    if (ids->seen) return load_fail(load, json, "two TemplateProcessing");
    cJSON_ArrayForEach(item, single)
    {
        const cJSON *special = load_member(item, "SpecialToken"),
                    *text = load_member(item, "Sequence");
        const char *which = NULL;

        if (!template_cost(load, item, ids)) return false;
        if (special) {
            if (!template_token(load, json, special, tk, ids)) return false;
            continue;
        }
        if (text && !load_string(load, text, "id", &which)) return false;
        if (!which || strcmp(which, "A") != 0 || ids->seen)
            return load_fail(load, item, "\"single\" must hold special tokens and sequence A once");
        ids->seen = true;
    }
    return ids->seen || load_fail(load, single, "\"single\" lacks sequence A");
}

static bool add_post_processor(const struct load *load, const cJSON *json, int depth,
                               const struct tokenizer *tk, struct template_ids *ids)
{
    const char *type = NULL;

    if (!cJSON_IsObject(json)) return load_fail(load, json, "post_processor must be an object");
    if (!load_string(load, json, "type", &type)) return false;
    if (!type) return load_fail(load, json, "post_processor without \"type\"");
    if (strcmp(type, "ByteLevel") == 0) return true; /* it only trims offsets */
    if (strcmp(type, "TemplateProcessing") == 0) return template_processing(load, json, tk, ids);
    if (strcmp(type, "Sequence") == 0 && depth < NESTED_MAX) {
        const cJSON *list = load_member(json, "processors"), *item;

        if (!cJSON_IsArray(list))
            return load_fail(load, json, "Sequence without a list \"processors\"");
        cJSON_ArrayForEach(item, list)
        {
            if (!add_post_processor(load, item, depth + 1, tk, ids)) return false;
        }
        return true;
    }
    return load_fail(load, json,
                     "post_processor \"%s\" is not known to this reader, which has Sequence, "
                     "ByteLevel, TemplateProcessing",
                     type);
}

bool load_post_processor(const struct load *load, struct tokenizer *tk)
{
    const cJSON *json = load_member(load->doc.root, "post_processor");
    struct template_ids ids = {0};
    bool ok = !json || add_post_processor(load, json, 0, tk, &ids);

    tk->before = ids.v[0]; /* freed with the tokenizer, also after a failure */
    tk->after = ids.v[1];
    tk->n_before = ids.n[0];
    tk->n_after = ids.n[1];
    return ok;
}
