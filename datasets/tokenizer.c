/* tokenizer.c - mha2mla-data tokenizer: a byte-level BPE learnt from a data set, in the format
 * of Hugging Face's tokenizer.json (words.c: text to words, bpe.c: merges). The vocabulary is,
 * in this order: the special tokens, the 256 bytes by the code points of their printable
 * stand-ins, the merges. */
#include "base/file.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/plural.h"
#include "datasets/bpe.h"
#include "datasets/own.h"
#include "datasets/tool.h"
#include "datasets/words.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* GPT-2's alphabet: a printable byte stands for itself, the others for code points from 256 up. */
static void byte_alphabet(int specials, int code[256], int32_t id[256])
{
    int next = 256, rank = specials;

    for (int b = 0; b < 256; b++) {
        bool shown = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        code[b] = shown ? b : next++;
    }
    for (int c = 0; c < next; c++)
        for (int b = 0; b < 256; b++)
            if (code[b] == c) id[b] = rank++;
}

/* For code points below 2048 only. */
static char *utf8(int c, struct err *e)
{
    char s[3] = {(char)c, '\0', '\0'};

    if (c >= 0x80) {
        s[0] = (char)(0xc0 | c >> 6);
        s[1] = (char)(0x80 | (c & 0x3f));
    }
    return mem_strdup(s, e);
}

/* The tokens' texts by id, and their number. */
struct vocabulary {
    char **text;
    int32_t count;
};

static void vocabulary_free(struct vocabulary *v)
{
    for (int32_t i = 0; v->text && i < v->count; i++)
        free(v->text[i]);
    free(v->text);
}

static bool vocabulary_make(struct vocabulary *v, const struct words_template *t,
                            const struct bpe *b, const int code[256], const int32_t id[256],
                            struct err *e)
{
    const int bytes = t->specials + 256;
    bool ok;

    v->count = (int32_t)((size_t)bytes + b->merges); /* at most --vocab */
    v->text = mem_new((size_t)v->count, sizeof *v->text, "the vocabulary", e);
    ok = v->text != NULL;
    for (int i = 0; ok && i < t->specials; i++)
        ok = (v->text[i] = mem_strdup(t->special[i].text, e)) != NULL;
    for (int i = 0; ok && i < 256; i++)
        ok = (v->text[id[i]] = utf8(code[i], e)) != NULL;
    for (size_t i = 0; ok && i < b->merges; i++) {
        struct bpe_merge m = b->merge[i];
        char *text = mem_printf(e, "%s%s", v->text[m.left], v->text[m.right]);
        v->text[(size_t)bytes + i] = text;
        ok = text != NULL;
    }
    return ok;
}

/* cJSON's functions return NULL if out of memory; the callers below add to `into` and check
 * one flag at the end. */
static bool add_json(cJSON *into, const char *key, const char *json)
{
    cJSON *o = cJSON_Parse(json);

    return key ? cJSON_AddItemToObject(into, key, o) : cJSON_AddItemToArray(into, o);
}

/* "added_tokens" is a list with ids inside, "added_tokens_decoder" an object by id. */
static bool add_specials(cJSON *into, const struct words_template *t, bool by_id)
{
    bool ok = into != NULL;

    for (int i = 0; ok && i < t->specials; i++) {
        cJSON *o = cJSON_CreateObject();
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        ok = o && (by_id || cJSON_AddNumberToObject(o, "id", i)) &&
             cJSON_AddStringToObject(o, "content", t->special[i].text) &&
             cJSON_AddFalseToObject(o, "single_word") && cJSON_AddFalseToObject(o, "lstrip") &&
             cJSON_AddFalseToObject(o, "rstrip") && cJSON_AddFalseToObject(o, "normalized") &&
             cJSON_AddTrueToObject(o, "special") &&
             (by_id ? cJSON_AddItemToObject(into, key, o) : cJSON_AddItemToArray(into, o));
    }
    return ok;
}

/* Words are cut by the pattern, then spelled in the byte alphabet. */
static bool add_pre_tokenizer(cJSON *root)
{
    cJSON *seq = cJSON_AddObjectToObject(root, "pre_tokenizer"), *list, *split, *pattern;

    if (!seq || !cJSON_AddStringToObject(seq, "type", "Sequence")) return false;
    list = cJSON_AddArrayToObject(seq, "pretokenizers");
    split = cJSON_CreateObject();
    if (!list || !split || !cJSON_AddItemToArray(list, split)) return false;
    cJSON_AddStringToObject(split, "type", "Split");
    pattern = cJSON_AddObjectToObject(split, "pattern");
    return pattern && cJSON_AddStringToObject(pattern, "Regex", words_pattern) &&
           cJSON_AddStringToObject(split, "behavior", "Isolated") &&
           cJSON_AddFalseToObject(split, "invert") &&
           add_json(list, NULL,
                    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,"
                    "\"use_regex\":false}");
}

static bool add_model(cJSON *root, const struct vocabulary *v, const struct bpe *b)
{
    cJSON *model = cJSON_AddObjectToObject(root, "model"), *vocab, *merges;
    struct err e;
    bool ok = model && cJSON_AddStringToObject(model, "type", "BPE") &&
              cJSON_AddNullToObject(model, "dropout") &&
              cJSON_AddNullToObject(model, "unk_token") &&
              cJSON_AddNullToObject(model, "continuing_subword_prefix") &&
              cJSON_AddNullToObject(model, "end_of_word_suffix") &&
              cJSON_AddFalseToObject(model, "fuse_unk") &&
              cJSON_AddFalseToObject(model, "byte_fallback") &&
              cJSON_AddFalseToObject(model, "ignore_merges");

    vocab = ok ? cJSON_AddObjectToObject(model, "vocab") : NULL;
    for (int32_t i = 0; vocab && ok && i < v->count; i++)
        ok = cJSON_AddNumberToObject(vocab, v->text[i], i) != NULL;
    merges = vocab ? cJSON_AddArrayToObject(model, "merges") : NULL;
    for (size_t i = 0; merges && ok && i < b->merges; i++) {
        struct bpe_merge m = b->merge[i];
        char *pair = mem_printf(&e, "%s %s", v->text[m.left], v->text[m.right]);
        ok = pair && cJSON_AddItemToArray(merges, cJSON_CreateString(pair));
        free(pair);
    }
    return ok && merges;
}

/* Puts the template's first token before each text. */
static bool add_first(cJSON *root, const struct words_template *t)
{
    char json[512];
    int id = 0;

    if (!t->first) return cJSON_AddNullToObject(root, "post_processor") != NULL;
    while (strcmp(t->first, t->special[id].text) != 0)
        id++;
    snprintf(json, sizeof json,
             "{\"type\":\"TemplateProcessing\","
             "\"single\":[{\"SpecialToken\":{\"id\":\"%s\",\"type_id\":0}},"
             "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
             "\"pair\":[{\"SpecialToken\":{\"id\":\"%s\",\"type_id\":0}},"
             "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
             "{\"SpecialToken\":{\"id\":\"%s\",\"type_id\":1}},"
             "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],"
             "\"special_tokens\":{\"%s\":{\"id\":\"%s\",\"ids\":[%d],"
             "\"tokens\":[\"%s\"]}}}",
             t->first, t->first, t->first, t->first, t->first, id, t->first);
    return add_json(root, "post_processor", json);
}

static cJSON *tokenizer_json(const struct words_template *t, const struct vocabulary *v,
                             const struct bpe *b)
{
    cJSON *root = cJSON_CreateObject();
    bool ok = root && cJSON_AddStringToObject(root, "version", "1.0") &&
              cJSON_AddNullToObject(root, "truncation") && cJSON_AddNullToObject(root, "padding") &&
              add_specials(cJSON_AddArrayToObject(root, "added_tokens"), t, false) &&
              cJSON_AddNullToObject(root, "normalizer") && add_pre_tokenizer(root) &&
              add_first(root, t) &&
              add_json(root, "decoder",
                       "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
                       "\"use_regex\":true}") &&
              add_model(root, v, b);

    if (ok) return root;
    cJSON_Delete(root);
    return NULL;
}

static bool add_roles(cJSON *o, const struct words_template *t)
{
    bool ok = o != NULL;

    for (int i = 0; ok && i < t->specials; i++)
        ok = !t->special[i].role ||
             cJSON_AddStringToObject(o, t->special[i].role, t->special[i].text) != NULL;
    return ok;
}

static cJSON *config_json(const struct words_template *t)
{
    cJSON *o = cJSON_CreateObject();
    bool ok = add_roles(o, t) &&
              add_specials(cJSON_AddObjectToObject(o, "added_tokens_decoder"), t, true) &&
              cJSON_AddBoolToObject(o, "add_bos_token", t->first != NULL) &&
              cJSON_AddFalseToObject(o, "add_eos_token") &&
              cJSON_AddFalseToObject(o, "clean_up_tokenization_spaces") &&
              cJSON_AddStringToObject(o, "chat_template", t->jinja) &&
              cJSON_AddStringToObject(o, "tokenizer_class", "PreTrainedTokenizerFast");

    if (ok) return o;
    cJSON_Delete(o);
    return NULL;
}

static cJSON *map_json(const struct words_template *t)
{
    cJSON *o = cJSON_CreateObject();

    if (add_roles(o, t)) return o;
    cJSON_Delete(o);
    return NULL;
}

/* tokenizer.json comes last: if it is there, all files are. */
static const char *const file_names[] = {"tokenizer_config.json", "special_tokens_map.json",
                                         "tokenizer.json"};
enum { FILES = sizeof file_names / sizeof *file_names };

/* Takes over `o`, which may be NULL if out of memory. */
static bool write_json(struct file_out *out, cJSON *o, const char *dir, const char *name,
                       struct err *e)
{
    char *path = file_join(dir, name, e), *text = NULL;
    bool ok = path != NULL;

    if (ok && !o) ok = err_set(e, "%s: out of memory", path);
    if (ok) text = jsonc_print(o, true, e);
    ok = text && file_out_open(out, path, e);
    if (ok) fputs(text, out->fp);
    ok = ok && file_out_flush(out, e);
    cJSON_Delete(o);
    free(text);
    free(path);
    return ok;
}

/* Writes all files before the first takes its name: they belong together. */
static bool write_files(struct own *own, const struct words_template *t, const struct vocabulary *v,
                        const struct bpe *b, struct err *e)
{
    struct file_out out[FILES] = {0};
    const char *dir = own->dir;
    bool ok = write_json(&out[0], config_json(t), dir, file_names[0], e) &&
              write_json(&out[1], map_json(t), dir, file_names[1], e) &&
              write_json(&out[2], tokenizer_json(t, v, b), dir, file_names[2], e);

    for (int i = 0; ok && i < FILES; i++)
        ok = own_claim(own, file_names[i], out[i].tmp, e);
    ok = ok && own_save(own, e);
    for (int i = 0; ok && i < FILES; i++)
        ok = file_out_commit(&out[i], e);
    for (int i = 0; i < FILES; i++)
        file_out_abort(&out[i]);
    return ok;
}

/* Locks the directory; a tokenizer of somebody else's, a model's for example, stays as it is. */
static bool open_dir(struct own *own, const char *dir, struct err *e)
{
    bool ok = own_open(own, dir, e);

    for (int i = 0; ok && i < FILES; i++)
        ok = own_may_begin(own, file_names[i], e);
    return ok;
}

static bool keep_inputs(const char *dir, char **files, int count, struct err *e)
{
    bool ok = true;

    for (int i = 0; ok && i < FILES; i++) {
        char *path = file_join(dir, file_names[i], e);
        ok = path && tool_keep_inputs(path, files, count, e);
        free(path);
    }
    return ok;
}

static bool make(const char *dir, const struct words_template *t, int64_t vocab, char **files,
                 int count, struct err *e)
{
    const int bytes = t->specials + 256;
    struct vocabulary v = {0};
    struct bpe b = {0};
    struct own own = {0};
    int32_t id[256];
    int code[256];
    bool ok = vocab >= bytes || err_set(e, "--vocab: must be at least %d for %s", bytes, t->name);

    byte_alphabet(t->specials, code, id);
    ok = ok && open_dir(&own, dir, e);
    for (int i = 0; ok && i < count; i++)
        ok = words_of_file(files[i], t, &b, e);
    ok = ok && bpe_learn(&b, id, bytes, (size_t)(vocab - bytes), e) &&
         vocabulary_make(&v, t, &b, code, id, e) && write_files(&own, t, &v, &b, e);
    if (ok)
        tool_say("tokenizer: %" PRId32 " tokens (%d special, 256 bytes, %zu merge%s) from %zu "
                 "distinct word%s%s: %s/tokenizer.json",
                 v.count, t->specials, b.merges, plural((int64_t)b.merges), b.words,
                 plural((int64_t)b.words),
                 v.count < vocab ? "; each is one token, so the vocabulary is smaller than asked"
                                 : "",
                 dir);
    own_close(&own);
    vocabulary_free(&v);
    bpe_free(&b);
    return ok;
}

static bool run(int argc, char **argv, struct err *e)
{
    const char *dir = NULL, *name = "vicuna";
    int64_t vocab = 512;
    const struct words_template *t;
    const struct tool_option options[] = {
        {"out", "DIR", "where it all goes", &dir, NULL, 0, 0, true},
        {"vocab", "N", "tokens at most", NULL, &vocab, 256, 65536, false},
        {"template", "NAME", "chat template", &name, NULL, 0, 0, false},
        {.name = NULL},
    };
    bool help;
    int rest;

    if (!tool_options(options, "tokenizer --out DIR [OPTION ...] FILE.json ...",
                      "Learns a byte-level BPE from the conversations of LLaVA JSON files and"
                      " writes DIR/tokenizer.json,\nDIR/tokenizer_config.json and"
                      " DIR/special_tokens_map.json in Hugging Face's layout.",
                      argc, argv, &rest, &help, e))
        return false;
    if (help) return true;
    if (rest == argc) return err_set(e, "tokenizer: no LLaVA JSON file was named");
    t = words_template_find(name, e);
    return t && keep_inputs(dir, argv + rest, argc - rest, e) &&
           make(dir, t, vocab, argv + rest, argc - rest, e);
}

const struct tool_command tool_tokenizer = {"tokenizer", "a small byte-level BPE for a data set",
                                            run};
