/* form.c - which tokenizer a directory of files stands for. For some models transformers (5.24)
 * uses tokenizer.json as it is; for others it takes only the vocabulary, the merges and the
 * post-processor, and builds the rest itself, according to the class named by tokenizer_config.json
 * or the model's class. The two give different ids, so the form in use is noted with its reason. */
#include "base/mem.h"
#include "data/tokenizer/form.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what classes build ---- */

#define SPACES_BACK                                                                                \
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK   \
    "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"                      \
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"
#define QWEN2_WORDS                                                                                \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}|"               \
    " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"

static const struct form_class classes[] = {
    {.name = "LlamaTokenizer",
     .chains = "{\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"" MARK
               "\",\"split\":false},\"decoder\":" SPACES_BACK "}",
     .marks = true,
     .special = {"<unk>", "<s>", "</s>"}},
    {.name = "Qwen2Tokenizer",
     .chains = "{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"Sequence\","
               "\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" QWEN2_WORDS "\"},"
               "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"use_regex\":false}]},"
               "\"decoder\":{\"type\":\"ByteLevel\"}}",
     .special_again = true,
     .special = {"<|endoftext|>", NULL, "<|endoftext|>", "<|endoftext|>"}},
    {.name = "GPT2Tokenizer",
     .chains = "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"ByteLevel\"}}",
     .special = {"<|endoftext|>", "<|endoftext|>", "<|endoftext|>"}},
};

/* What sentencepiece did when LLaVA was trained: a mark before every text between special tokens,
 * even one that begins with a blank. */
static const struct form_class sentencepiece = {
    .name = "sentencepiece",
    .chains = "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
              "\"prepend\":\"" MARK "\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
              "\"content\":\"" MARK "\"}]},\"decoder\":" SPACES_BACK "}",
    .marks = true,
    .file_alone = true};

/* The tokenizer classes of transformers' models. */
static const struct model_class {
    const char *model_type, *name; /* name NULL: tokenizer.json as it is */
    bool forced; /* overrides tokenizer_config.json, which is wrong in published models */
} model_classes[] = {
    {"llava", NULL, true},
    {"llava_next", NULL, true},
    {"qwen2", "Qwen2Tokenizer", true},
    {"qwen2_vl", "Qwen2Tokenizer", false},
    {"qwen2_5_vl", "Qwen2Tokenizer", false},
};

static const struct model_class *class_of_model(const char *model_type)
{
    for (size_t i = 0; model_type && i < sizeof model_classes / sizeof *model_classes; i++)
        if (strcmp(model_classes[i].model_type, model_type) == 0) return &model_classes[i];
    return NULL;
}

/* By a name without "Fast"; NULL if the class is not known. */
static const struct form_class *find_class(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strlen(classes[i].name) == n && memcmp(classes[i].name, name, n) == 0)
            return &classes[i];
    return NULL;
}

/* Whether the class of that name uses tokenizer.json as it is. */
static bool is_plain(const char *name)
{
    return strcmp(name, "PreTrainedTokenizerFast") == 0 ||
           strcmp(name, "PreTrainedTokenizer") == 0 || strcmp(name, "TokenizersBackend") == 0;
}

/* ---- the choice ---- */

static void because(struct form *f, const char *before, const char *what, const char *after)
{
    snprintf(f->why, sizeof f->why, "%s%.100s%s", before, what, after);
}

/* Chooses as AutoTokenizer.from_pretrained does; f->kind stays NULL for tokenizer.json as it is. */
static bool choose(struct form *f, const struct load *file, const char *model_type)
{
    const struct model_class *m = class_of_model(model_type);
    bool bytes = strstr(file->doc.text, "\"ByteLevel\"");
    const char *name = NULL;
    size_t n;

    if (!load_string(&f->config, f->config.doc.root, "tokenizer_class", &name)) return false;
    because(f, name ? "tokenizer_class is " : "no tokenizer_class is named", name ? name : "", "");
    if (m && (m->forced || !name)) {
        name = m->name;
        because(f, "transformers does so for model_type ", model_type, "");
    }
    if (!name) return true;
    n = strlen(name);
    if (n > 4 && strcmp(name + n - 4, "Fast") == 0) n -= 4;
    f->kind = find_class(name, n);
    if (!f->kind && !is_plain(name))
        because(f, "tokenizer_class ", name, ", which may build another, is not known here");
    if (f->kind && f->kind->marks == bytes) {
        f->kind = NULL;
        because(f, "it is not a vocabulary for a ", name, "");
    }
    return true;
}

/* The tokens of tokenizer.json; `raw`: all of them are matched before normalisation. */
static bool file_tokens(struct form *f, const struct load *file, bool raw)
{
    const cJSON *list = load_member(file->doc.root, "added_tokens"), *item;

    if (list && !cJSON_IsArray(list))
        return load_fail(file, list, "\"added_tokens\" must be a list");
    cJSON_ArrayForEach(item, list)
    {
        struct added_spec a;

        if (!added_read(file, item, &a)) return false;
        if (a.id < 0) return load_fail(file, item, "an added token needs an \"id\"");
        if (raw) a.is.normalized = false;
        if (!added_put(&f->added, &a, file->e)) return false;
    }
    return true;
}

/* Reads tokenizer_config.json, and its settings for the chosen class. */
static bool read_config(struct form *f, const struct load *file, const char *dir,
                        const char *model_type)
{
    if (!load_beside(&f->config, dir, "tokenizer_config.json", file->e) ||
        !choose(f, file, model_type))
        return false;
    f->prefix = f->kind && f->kind->marks;
    return load_bool(&f->config, f->config.doc.root, "legacy", &f->legacy) &&
           load_bool(&f->config, f->config.doc.root, "add_prefix_space", &f->prefix);
}

bool form_open(struct form *f, const struct load *file, const char *dir,
               const struct tokenizer_options *o)
{
    struct err *e = file->e;

    f->vocab_size = o->vocab_size;
    f->chains.e = e;
    because(f, "as model.tokenizer_form says; others may read the files otherwise", "", "");
    if (o->form == TOKENIZER_SENTENCEPIECE) {
        if (strstr(file->doc.text, "\"ByteLevel\""))
            return load_fail(file, file->doc.root,
                             "is ByteLevel, which model.tokenizer_form sentencepiece cannot read");
        f->kind = &sentencepiece;
        f->prefix = true;
    }
    if (o->form == TOKENIZER_AUTO && !read_config(f, file, dir, o->model_type)) return false;
    if (f->kind &&
        !jsonc_parse(&f->chains.doc, f->kind->name, f->kind->chains, strlen(f->kind->chains), e))
        return false;
    if ((!f->kind || f->kind->file_alone) && !file_tokens(f, file, f->kind)) return false;
    return o->form != TOKENIZER_AUTO || config_tokens(f, file, dir);
}

void form_close(struct form *f)
{
    jsonc_close(&f->chains.doc);
    jsonc_close(&f->config.doc);
    jsonc_close(&f->map.doc);
    jsonc_close(&f->more.doc);
    free(f->added.v);
}

const struct load *form_chains(const struct form *f, const struct load *file)
{
    return f->kind ? &f->chains : file;
}

void form_options(const struct form *f, struct tokenizer *tk)
{
    if (!f->kind) return;
    tk->fuse_unk = tk->byte_fallback = f->kind->marks;
    tk->ignore_merges = false;
    if (!f->kind->file_alone) tk->unk = -1;
}

/* LlamaTokenizer prepends a mark to the text by default; the other classes do not. */
void form_prefix(const struct form *f, struct tokenizer *tk)
{
    struct chain *pre = &tk->pre_tokenizers;
    struct step *last = pre->n > 0 ? &pre->v[pre->n - 1] : NULL;

    if (!f->kind || !last) return;
    last->prefix_space = f->prefix;
    last->prepend = !f->prefix                     ? PREPEND_NEVER
                    : f->kind->marks && !f->legacy ? PREPEND_FIRST
                                                   : PREPEND_ALWAYS;
    if (f->kind->marks && !f->prefix) step_free(&tk->decoders.v[--tk->decoders.n]); /* Strip */
}
