/* template.c - see template.h. The strings equal what the models' published Jinja templates give;
 * tests/data/template/make_golden.py renders those. */
#include "data/template.h"
#include "base/mem.h"
#include "data/tokenizer/tokenizer.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VICUNA_MARKS                                                                               \
    .system = {"", " "}, .user = {"USER: ", " "}, .assistant = {"ASSISTANT:", "</s>"}, .gap = " ", \
    .stop = "</s>"
#define LLAMA3_MARKS                                                                               \
    .bos = "<|begin_of_text|>",                                                                    \
    .system = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},                    \
    .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},                        \
    .assistant = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"},              \
    .stop = "<|eot_id|>", .trim = true
#define CHATML_MARKS                                                                               \
    .system = {"<|im_start|>system\n", "<|im_end|>\n"},                                            \
    .user = {"<|im_start|>user\n", "<|im_end|>\n"},                                                \
    .assistant = {"<|im_start|>assistant\n", "<|im_end|>"}, .after = "\n", .stop = "<|im_end|>"

static const struct chat_template templates[] = {
    {.name = "vicuna", VICUNA_MARKS},
    {.name = "vicuna_v1",
     .default_system =
         "A chat between a curious user and an artificial intelligence assistant. The assistant "
         "gives helpful, detailed, and polite answers to the user's questions.",
     VICUNA_MARKS},
    {.name = "vicuna_v16",
     .default_system =
         "A chat between a curious human and an artificial intelligence assistant. The assistant "
         "gives helpful, detailed, and polite answers to the human's questions.",
     VICUNA_MARKS},
    {.name = "mistral",
     .system = {"<<SYS>>\n", "\n<</SYS>>\n\n"},
     .user = {"[INST] ", " [/INST]"},
     .assistant = {"", " </s>"},
     .gap = " ",
     .stop = "</s>",
     .system_in_user = true},
    {.name = "llama3", LLAMA3_MARKS},
    {.name = "llama3_llava",
     .default_system =
         "You are a helpful language and vision assistant. You are able to understand the visual "
         "content that the user provides, and assist the user with a variety of tasks using "
         "natural language.",
     LLAMA3_MARKS},
    {.name = "chatml",
     .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
     CHATML_MARKS},
    {.name = "smollm2",
     .default_system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
     CHATML_MARKS},
    {.name = "qwen2_vl",
     .default_system = "You are a helpful assistant.",
     CHATML_MARKS,
     .image = IMAGE_AS_WRITTEN},
    {.name = "plain", .assistant = {"", "\n"}, .stop = "\n", .image = IMAGE_ALONE},
};

#define N_TEMPLATES (sizeof templates / sizeof *templates)

const struct chat_template *template_find(const char *name, struct err *e)
{
    char names[256] = "";
    size_t n = 0;

    for (size_t i = 0; i < N_TEMPLATES; i++) {
        if (strcmp(templates[i].name, name) == 0) return &templates[i];
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i > 0 ? ", " : "",
                              templates[i].name);
        CHECK(n < sizeof names);
    }
    err_set(e, "no chat template is named \"%.80s\"; there are %s", name, names);
    return NULL;
}

/* Checks the special tokens of one mark, "<...>" each; "<<SYS>>" is text. */
static bool check_mark(const struct chat_template *t, const char *mark, const struct tokenizer *tk,
                       struct err *e)
{
    char text[64];

    while (mark && (mark = strchr(mark, '<')) != NULL) {
        const char *end = strchr(mark, '>');
        CHECK(end);
        snprintf(text, sizeof text, "%.*s", (int)(end + 1 - mark), mark);
        if (mark[1] != '<' && tokenizer_id(tk, text) < 0)
            return err_set(e,
                           "the tokenizer has no token \"%s\", which the chat template %s needs: "
                           "see data.template",
                           text, t->name);
        mark = end + 1;
    }
    return true;
}

bool template_check(const struct chat_template *t, const struct tokenizer *tk, struct err *e)
{
    const char *const marks[] = {t->bos,        t->system.open,    t->system.close,    t->user.open,
                                 t->user.close, t->assistant.open, t->assistant.close, t->stop,
                                 t->picture};

    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (!check_mark(t, marks[i], tk, e)) return false;
    return true;
}

void rendered_free(struct rendered *r)
{
    free(r->text);
    free(r->trained);
    *r = (struct rendered){0};
}

static bool put(struct rendered *r, const char *s, size_t n, struct err *e)
{
    if (!mem_grow(&r->text, &r->cap, r->len + n + 1, 1, e)) return false;
    memcpy(r->text + r->len, s, n);
    r->len += n;
    r->text[r->len] = '\0';
    return true;
}

/* Appends a part of a template; NULL is "". */
static bool put_mark(struct rendered *r, const char *mark, struct err *e)
{
    return !mark || put(r, mark, strlen(mark), e);
}

/* What Jinja's trim removes: Python's white space, i.e. Unicode's and four control characters. */
static bool is_trimmed(int32_t c)
{
    return unicode_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

/* s[0..n) without surrounding white space. */
static const char *trimmed(const char *s, size_t *n)
{
    size_t len, last;

    while (*n > 0 && is_trimmed(utf8_get(s, &len))) {
        s += len;
        *n -= len;
    }
    while (*n > 0 && (last = utf8_last(s, *n), is_trimmed(utf8_get(s + last, &len))))
        *n = last;
    return s;
}

/* The first image mark of s..end, or NULL. */
static const char *find_mark(const char *s, const char *end)
{
    return memmem(s, (size_t)(end - s), IMAGE_MARK, strlen(IMAGE_MARK));
}

static const char *picture_of(const struct chat_template *t)
{
    return t->picture ? t->picture : IMAGE_MARK;
}

/* A text of a message, with what stands for pictures in the places of its marks. */
static bool put_text(const struct chat_template *t, struct rendered *r, const char *s, size_t n,
                     struct err *e)
{
    const char *end, *at;

    if (t->trim) s = trimmed(s, &n);
    for (end = s + n; (at = find_mark(s, end)) != NULL; s = at + strlen(IMAGE_MARK))
        if (!put(r, s, (size_t)(at - s), e) || !put_mark(r, picture_of(t), e)) return false;
    return put(r, s, (size_t)(end - s), e);
}

static bool put_turn(const struct chat_template *t, struct rendered *r,
                     const struct turn_marks *marks, const char *text, size_t n, struct err *e)
{
    return put_mark(r, marks->open, e) && put_text(t, r, text, n, e) &&
           put_mark(r, marks->close, e);
}

/* Everything since `begin` is trained on. */
static bool mark_trained(struct rendered *r, size_t begin, struct err *e)
{
    if (!mem_grow(&r->trained, &r->trained_cap, r->n_trained + 1, sizeof *r->trained, e))
        return false;
    r->trained[r->n_trained++] = (struct byte_range){begin, r->len};
    return true;
}

static bool put_answer(const struct chat_template *t, struct rendered *r, const struct message *m,
                       struct err *e)
{
    size_t begin;

    if (!put_mark(r, t->assistant.open, e)) return false;
    begin = r->len;
    return put_mark(r, t->gap, e) && put_text(t, r, m->text, m->len, e) &&
           put_mark(r, t->assistant.close, e) && mark_trained(r, begin, e) &&
           put_mark(r, t->after, e);
}

/* A user's text with its image marks moved to the front, or the marks alone. */
static bool put_images(const struct chat_template *t, struct rendered *r, const struct message *m,
                       struct err *e)
{
    const bool alone = t->image == IMAGE_ALONE;
    const size_t mark = strlen(IMAGE_MARK);
    const char *text = m->text, *end = text + m->len, *at;
    size_t begin, n;

    for (at = text; (at = find_mark(at, end)) != NULL; at += mark)
        if (!put_mark(r, picture_of(t), e) || !put_mark(r, alone ? "" : "\n", e)) return false;
    if (alone) return true;
    for (begin = r->len; (at = find_mark(text, end)) != NULL; text = at + mark)
        if (!put(r, text, (size_t)(at - text), e)) return false;
    if (!put(r, text, (size_t)(end - text), e)) return false;
    n = r->len - begin;
    at = trimmed(r->text + begin, &n);
    memmove(r->text + begin, at, n);
    r->len = n > 0 ? begin + n : begin - 1; /* no line break if nothing follows it */
    r->text[r->len] = '\0';
    return true;
}

/* system: placed at the beginning of the turn; or NULL. */
static bool put_question(const struct chat_template *t, struct rendered *r, const struct message *m,
                         const struct message *system, struct err *e)
{
    if (!put_mark(r, t->user.open, e)) return false;
    if (system && system->len && !put_turn(t, r, &t->system, system->text, system->len, e))
        return false;
    if (t->image == IMAGE_AS_WRITTEN || !find_mark(m->text, m->text + m->len))
        return put_text(t, r, m->text, m->len, e) && put_mark(r, t->user.close, e);
    return put_images(t, r, m, e) && put_mark(r, t->user.close, e);
}

static bool check_utf8(const char *text, size_t n, struct err *e)
{
    size_t bad = utf8_check(text, n);

    return bad == n || err_set(e, "text is not UTF-8 at byte %zu", bad);
}

static bool put_message(const struct chat_template *t, const struct message *m, size_t i,
                        struct rendered *r, struct err *e)
{
    if (!check_utf8(m->text, m->len, e)) return false;
    if (m->role == ROLE_ASSISTANT) return put_answer(t, r, m, e);
    if (m->role == ROLE_USER)
        return put_question(
            t, r, m, t->system_in_user && i == 1 && m[-1].role == ROLE_SYSTEM ? &m[-1] : NULL, e);
    if (i > 0) return err_set(e, "a system message may only be the first one");
    if (t->system_in_user) return true; /* goes into the user's turn */
    return put_turn(t, r, &t->system, m->text, m->len, e);
}

bool template_render(const struct chat_template *t, const struct message *m, size_t n, bool prompt,
                     struct rendered *r, struct err *e)
{
    CHECK(n > 0);
    r->len = r->n_trained = 0;
    r->add_special = !t->bos;
    if (!put(r, "", 0, e) || !put_mark(r, t->bos, e)) return false;
    if (t->default_system && m[0].role != ROLE_SYSTEM &&
        !put_turn(t, r, &t->system, t->default_system, strlen(t->default_system), e))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!put_message(t, &m[i], i, r, e)) return err_context(e, "message %zu", i + 1);
    return !prompt || put_mark(r, t->assistant.open, e);
}

bool template_plain_text(const char *text, size_t n, struct rendered *r, struct err *e)
{
    r->len = r->n_trained = 0;
    r->add_special = true;
    return check_utf8(text, n, e) && put(r, text, n, e) && mark_trained(r, 0, e);
}
