/* words.c - from conversations to the words that the tokenizer is learnt from. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "datasets/words.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/conversation.h"
#include "data/json_scan.h"
#include "data/template.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

const char words_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static const struct words_template templates[] = {
    /* LLaVA-1.5's conversation without its system sentence: "USER: Q ASSISTANT: A</s>USER: ...".
     * Llama's configs assume <s> 1 and </s> 2. */
    {.name = "vicuna",
     .ask = "USER: ",
     .answer = " ASSISTANT: ",
     .jinja = "{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }} "
              "ASSISTANT:{% elif m['role'] == 'assistant' %} {{ m['content'] }}</s>{% endif %}"
              "{% endfor %}",
     .first = "<s>",
     .specials = 5,
     .special = {{"<unk>", "unk_token"},
                 {"<s>", "bos_token"},
                 {"</s>", "eos_token"},
                 {"<image>", "image_token"},
                 {"<pad>", "pad_token"}}},
    /* Qwen2.5-VL's, with its system sentence. */
    {.name = "qwen2_vl",
     .system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
     .ask = "<|im_start|>user\n",
     .answer = "<|im_end|>\n<|im_start|>assistant\n",
     .jinja = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful "
              "assistant.<|im_end|>\n{% endif %}{% for m in messages %}<|im_start|>{{ m['role'] }}"
              "\n{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}"
              "<|im_start|>assistant\n{% endif %}",
     .specials = 6,
     .special = {{"<|endoftext|>", "pad_token"},
                 {"<|im_start|>", NULL},
                 {"<|im_end|>", "eos_token"},
                 {"<|vision_start|>", NULL},
                 {"<|vision_end|>", NULL},
                 {"<|image_pad|>", NULL}}},
};

const struct words_template *words_template_find(const char *name, struct err *e)
{
    char names[256] = "";

    for (size_t i = 0; i < sizeof templates / sizeof templates[0]; i++) {
        if (!strcmp(name, templates[i].name)) return &templates[i];
        strncat(names, i ? ", " : "", sizeof names - strlen(names) - 1);
        strncat(names, templates[i].name, sizeof names - strlen(names) - 1);
    }
    err_set(e, "no chat template '%s'; there are: %s", name, names);
    return NULL;
}

struct cutter {
    pcre2_code *code;
    pcre2_match_data *match;
    const struct words_template *t;
    struct bpe *to;
};

static bool cutter_open(struct cutter *c, const struct words_template *t, struct bpe *to,
                        struct err *e)
{
    PCRE2_SIZE at;
    int code;

    c->t = t;
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

/* Text without special tokens. The pattern matches everywhere, so that no byte is lost. */
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

/* The length of what is no word at the start of the text, a special token or a picture's mark; or
 * 0. */
static size_t special_at(const struct words_template *t, const char *text, size_t n)
{
    for (int i = 0; i <= t->specials; i++) {
        const char *special = i < t->specials ? t->special[i].text : IMAGE_MARK;
        size_t len = strlen(special);
        if (len <= n && memcmp(text, special, len) == 0) return len;
    }
    return 0;
}

static bool cut_at_specials(struct cutter *c, const char *text, size_t n, struct err *e)
{
    const char *from = text, *end = text + n;

    while (text < end) {
        size_t len = *text == '<' ? special_at(c->t, text, (size_t)(end - text)) : 0;
        if (len && !cut_words(c, from, (size_t)(text - from), e)) return false;
        text += len ? len : 1;
        if (len) from = text;
    }
    return cut_words(c, from, (size_t)(text - from), e);
}

/* Text being assembled. */
struct buffer {
    char *s;
    size_t n, cap;
};

static bool put(struct buffer *b, const char *s, size_t n, struct err *e)
{
    if (!mem_grow(&b->s, &b->cap, b->n + n + 1, 1, e)) return false;
    memcpy(b->s + b->n, s, n);
    b->n += n;
    return true;
}

/* A question and its answer form one text, ended by </s>. A system text precedes the
 * question unchanged. */
static bool cut_conversation(struct cutter *c, const struct conversation *from, struct err *e)
{
    const char *system = c->t->system;
    struct buffer b = {0};
    bool ok = put(&b, from->plain.s ? from->plain.s : "", from->plain.n, e);

    if (ok && system && from->n && from->messages[0].role != ROLE_SYSTEM)
        ok = put(&b, system, strlen(system), e);
    for (size_t i = 0; ok && i < from->n; i++) {
        const struct message *m = &from->messages[i];
        bool answer = m->role == ROLE_ASSISTANT;
        const char *mark = answer ? c->t->answer : m->role == ROLE_USER ? c->t->ask : "";
        ok = put(&b, mark, strlen(mark), e) && put(&b, m->text, m->len, e) &&
             (!answer || cut_at_specials(c, b.s, b.n, e));
        if (answer) b.n = 0;
    }
    ok = ok && cut_at_specials(c, b.s, b.n, e); /* a final question without an answer */
    free(b.s);
    return ok;
}

static bool cut_file(struct cutter *c, const struct file_map *map, const char *path, struct err *e)
{
    struct json_scan scan;
    size_t begin, end;
    bool found = true, ok = json_scan_open(&scan, map->data, map->size, path, e);

    while (ok && (ok = json_scan_next(&scan, &begin, &end, &found, e)) && found) {
        struct conversation_source source = {.path = path,
                                             .json = (const char *)map->data + begin,
                                             .len = end - begin,
                                             .line = scan.place.line,
                                             .col = scan.place.col};
        struct conversation talk;
        enum drop_reason reason;
        ok = conversation_read(&talk, &source, NULL, &reason, e);
        if (ok && !cut_conversation(c, &talk, e))
            ok = err_context(e, "%s:%lld:%lld", path, (long long)scan.place.line,
                             (long long)scan.place.col);
        conversation_free(&talk);
    }
    return ok;
}

bool words_of_file(const char *path, const struct words_template *t, struct bpe *b, struct err *e)
{
    struct cutter c = {0};
    struct file_map map = {0};
    bool ok =
        file_map_open(&map, path, e) && cutter_open(&c, t, b, e) && cut_file(&c, &map, path, e);

    cutter_close(&c);
    file_map_close(&map);
    return ok;
}
