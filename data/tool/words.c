/* words.c - from LLaVA JSON to the words that the tokenizer is learnt from. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tool/words.h"
#include "base/file.h"
#include "base/mem.h"

#include <cjson/cJSON.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

const char words_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

const struct words_special words_specials[WORDS_SPECIALS] = {{"<unk>", "unk_token"},
                                                             {"<s>", "bos_token"},
                                                             {"</s>", "eos_token"},
                                                             {"<image>", "image_token"},
                                                             {"<pad>", "pad_token"}};

enum { FILE_LIMIT = 1 << 30 };

static const struct words_template templates[] = {
    /* LLaVA-1.5's conversation without its system sentence: "USER: Q ASSISTANT: A</s>USER: ..." */
    {"vicuna", "USER: ", " ASSISTANT: ",
     "{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }} ASSISTANT:"
     "{% elif m['role'] == 'assistant' %} {{ m['content'] }}</s>{% endif %}{% endfor %}"},
};

const struct words_template *words_template_find(const char *name, struct err *e)
{
    char names[256] = "";

    for (size_t i = 0; i < sizeof templates / sizeof templates[0]; i++) {
        if (!strcmp(name, templates[i].name)) return &templates[i];
        strncat(names, i ? ", " : "", sizeof names - strlen(names) - 1);
        strncat(names, templates[i].name, sizeof names - strlen(names) - 1);
    }
    err_set(e, "no chat template '%s'; there is: %s", name, names);
    return NULL;
}

struct cutter {
    pcre2_code *code;
    pcre2_match_data *match;
    struct bpe *to;
};

static bool cutter_open(struct cutter *c, struct bpe *to, struct err *e)
{
    PCRE2_SIZE at;
    int code;

    c->to = to;
    c->code = pcre2_compile((PCRE2_SPTR)words_pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP,
                            &code, &at, NULL);
    c->match = c->code ? pcre2_match_data_create_from_pattern(c->code, NULL) : NULL;
    return c->match || err_set(e, "out of memory for the words' pattern");
}

static void cutter_close(struct cutter *c)
{
    pcre2_match_data_free(c->match);
    pcre2_code_free(c->code);
}

/* Text without special tokens. The pattern matches at every place, so that no byte is lost. */
static bool cut_words(struct cutter *c, const char *text, size_t len, struct err *e)
{
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(c->match);

    for (size_t at = 0; at < len; at = span[1]) {
        int n = pcre2_match(c->code, (PCRE2_SPTR)text, len, at, 0, c->match, NULL);
        if (n < 0) {
            PCRE2_UCHAR why[160];
            pcre2_get_error_message(n, why, sizeof why);
            return err_set(e, "the text cannot be cut into words: %s", (const char *)why);
        }
        if (!bpe_add(c->to, text + span[0], span[1] - span[0], e)) return false;
    }
    return true;
}

/* The length of the special token at the start of the text, or 0. */
static size_t special_at(const char *text)
{
    for (int i = 0; i < WORDS_SPECIALS; i++) {
        size_t len = strlen(words_specials[i].text);
        if (!strncmp(text, words_specials[i].text, len)) return len;
    }
    return 0;
}

static bool cut_at_specials(struct cutter *c, const char *text, struct err *e)
{
    const char *from = text;

    while (*text) {
        size_t len = *text == '<' ? special_at(text) : 0;
        if (len && !cut_words(c, from, (size_t)(text - from), e)) return false;
        text += len ? len : 1;
        if (len) from = text;
    }
    return cut_words(c, from, (size_t)(text - from), e);
}

/* A question and its answer are one text; </s> ends it. */
static bool cut_conversation(struct cutter *c, const cJSON *list, const struct words_template *t,
                             struct err *e)
{
    const cJSON *message;
    char *text = mem_strdup("", e);
    bool ok = text != NULL;

    cJSON_ArrayForEach(message, list)
    {
        const char *from = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "from"));
        const char *said = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "value"));
        bool answer = from && !strcmp(from, "gpt");
        char *longer;
        if (!ok) break;
        if (!said || !from || (!answer && strcmp(from, "human") != 0)) {
            ok = err_set(e, "a message needs \"from\" (human or gpt) and \"value\", both texts");
            break;
        }
        longer = mem_printf(e, "%s%s%s", text, answer ? t->answer : t->ask, said);
        ok = longer && (!answer || cut_at_specials(c, longer, e));
        free(text);
        text = longer;
        if (ok && answer) text[0] = '\0';
    }
    ok = ok && cut_at_specials(c, text, e); /* a last question without an answer */
    free(text);
    return ok;
}

static bool cut_list(struct cutter *c, const cJSON *root, const struct words_template *t,
                     struct err *e)
{
    const cJSON *sample;
    int at = 0;

    if (!cJSON_IsArray(root)) return err_set(e, "not a JSON list of samples");
    cJSON_ArrayForEach(sample, root)
    {
        const cJSON *list = cJSON_GetObjectItemCaseSensitive(sample, "conversations");
        if (!cJSON_IsArray(list))
            return err_set(e, "sample %d: needs a list \"conversations\"", at);
        if (!cut_conversation(c, list, t, e)) return err_context(e, "sample %d", at);
        at++;
    }
    return true;
}

bool words_of_file(const char *path, const struct words_template *t, struct bpe *b, struct err *e)
{
    struct cutter c = {0};
    char *text = NULL;
    cJSON *root = NULL;
    size_t len;
    bool ok = file_read(path, FILE_LIMIT, &text, &len, e);

    if (ok) {
        root = cJSON_ParseWithLength(text, len);
        ok = root != NULL || err_set(e, "not JSON, or cut short");
        ok = ok && cutter_open(&c, b, e) && cut_list(&c, root, t, e);
        if (!ok) err_context(e, "%s", path);
    }
    cutter_close(&c);
    cJSON_Delete(root);
    free(text);
    return ok;
}
