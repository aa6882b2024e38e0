/* report_answers.c - the report's sample answers, from the answers.jsonl next to each score. Half
 * of them, if there are enough, are questions that some model got wrong; each half is spread evenly
 * over the file, so that the same run always shows the same ones. */
#include "base/json/jsonc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "train/report/report_parts.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 200, PICTURE_PIXELS = 96 };

/* Writes one character of n bytes (or an invalid byte). */
static void put_character(FILE *fp, const char *s, size_t n)
{
    char plain[16];

    if (strchr("\n\r\t", *s) && *s) {
        fputc(' ', fp);
        return;
    }
    text_plain(plain, sizeof plain, s, n);
    for (const char *p = plain; *p; p++) {
        if (strchr("\\`*_{}[]<>#|&~", *p)) fputc('\\', fp);
        fputc(*p, fp);
    }
}

void report_text(FILE *fp, const char *text, size_t n)
{
    for (size_t at = 0, len; at < n; at += len) {
        len = text_utf8_len(text + at, n - at);
        if (len == 0) len = 1;
        if (at >= TEXT_BYTES) {
            fputs("…", fp);
            return;
        }
        put_character(fp, text + at, len);
    }
}

/* One answers.jsonl: its lines, and what they are worth. */
struct answers {
    const struct report_result *from;
    const char *name; /* of the column */
    char *path;
    struct file_map map;
    size_t *begin; /* [n + 1] */
    double *worth; /* [n] */
    size_t n, cap_begin, cap_worth;
};

static bool answer_at(const struct answers *a, size_t i, struct jsonc *line, struct err *e)
{
    const struct jsonc_rules rules = {.line = (int64_t)i + 1, .plain = true, .zeros = true};

    return jsonc_parse_as(line, a->path, (const char *)a->map.data + a->begin[i],
                          a->begin[i + 1] - a->begin[i], &rules, e) ||
           (!e->machine && err_set(e, "%s: delete it and scores.json, and resume", e->msg));
}

/* A line's text for a key, "" if there is none; the caller frees it. */
static bool member(const struct jsonc *line, const char *key, struct text *out, struct err *e)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(line->root, key);

    out->n = 0;
    out->s = cJSON_IsString(item) ? jsonc_string(line, item, &out->n, e) : mem_strdup("", e);
    return out->s;
}

/* 1: right; of a text, its tokens that are. */
static double worth_of(const cJSON *line)
{
    const cJSON *score = cJSON_GetObjectItemCaseSensitive(line, "score");
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(line, "right_tokens");

    if (cJSON_IsNumber(tokens)) return tokens->valuedouble;
    if (cJSON_IsNumber(score)) return score->valuedouble;
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(line, "right"));
}

static bool add_line(struct answers *a, size_t begin, size_t end, struct err *e)
{
    struct jsonc line;

    if (!mem_grow(&a->begin, &a->cap_begin, a->n + 2, sizeof *a->begin, e) ||
        !mem_grow(&a->worth, &a->cap_worth, a->n + 1, sizeof *a->worth, e))
        return false;
    a->begin[a->n] = begin;
    a->begin[a->n + 1] = end;
    if (!answer_at(a, a->n, &line, e)) return false;
    a->worth[a->n++] = worth_of(line.root);
    jsonc_close(&line);
    return true;
}

static bool answers_open(struct answers *a, const struct run *r, const struct report_result *from,
                         const char *name, struct err *e)
{
    bool there, ok;

    *a = (struct answers){.from = from, .name = name};
    a->path = run_path(r, e, "%s/answers.jsonl", from->dir);
    if (!a->path || !file_there(a->path, &there, e)) return false;
    if (from->there && !there)
        log_line("%s: is not there: the report shows none of its answers; --resume with "
                 "\"evaluate\" in run.steps makes it again",
                 a->path);
    if (!from->there || !there) return true;
    ok = file_map_open(&a->map, a->path, e);
    for (size_t at = 0, next; ok && at < a->map.size; at = next) {
        const uint8_t *end = memchr(a->map.data + at, '\n', a->map.size - at);
        next = end ? (size_t)(end - a->map.data) + 1 : a->map.size;
        ok = add_line(a, at, next, e);
    }
    return ok;
}

static void answers_close(struct answers *a)
{
    file_map_close(&a->map);
    free(a->path);
    free(a->begin);
    free(a->worth);
}

/* ---- choosing the questions ---- */

/* Marks `take` of the questions whose `wrong` equals `wanted`, evenly spaced. */
static void choose(const bool *wrong, size_t n, bool wanted, size_t count, size_t take,
                   bool *chosen)
{
    size_t seen = 0, taken = 0;

    for (size_t i = 0; i < n && taken < take; i++) {
        if (wrong[i] != wanted) continue;
        if (seen++ != taken * count / take) continue;
        chosen[i] = true;
        taken++;
    }
}

static bool choose_examples(const struct answers *a, size_t n_files, size_t examples, bool *chosen,
                            struct err *e)
{
    size_t n = a[0].n, n_wrong = 0;
    bool *wrong = mem_new(n, sizeof *wrong, "sample answers", e);

    if (!wrong) return false;
    for (size_t i = 0; i < n; i++) {
        for (size_t f = 0; f < n_files; f++)
            wrong[i] |= i < a[f].n && a[f].worth[i] < 1;
        n_wrong += wrong[i];
    }
    size_t n_right = n - n_wrong, from_wrong = examples / 2 < n_wrong ? examples / 2 : n_wrong;
    size_t from_right = examples - from_wrong < n_right ? examples - from_wrong : n_right;
    from_wrong = examples - from_right < n_wrong ? examples - from_right : n_wrong;
    choose(wrong, n, true, n_wrong, from_wrong, chosen);
    choose(wrong, n, false, n_right, from_right, chosen);
    free(wrong);
    return true;
}

/* ---- showing them ---- */

/* The last occurrence of `what` in text[0..end), or NULL; `what` may be NULL or "". */
static const char *last_of(const char *text, const char *end, const char *what)
{
    size_t n = what ? strlen(what) : 0;

    for (const char *p = end; n && (size_t)(p - text) >= n; p--)
        if (memcmp(p - n, what, n) == 0) return p - n;
    return NULL;
}

/* The last question of the rendered conversation: between the last user and assistant marks.
 * Part of `prompt`. */
static struct text question_of(const struct text *prompt, const struct chat_template *chat)
{
    const char *text = prompt->s, *end = text + prompt->n, *found, *stop;
    size_t mark = strlen(IMAGE_MARK);

    found = last_of(text, end, chat->assistant.open);
    if (found) end = found;
    found = last_of(text, end, chat->user.open);
    if (found) text = found + strlen(chat->user.open);
    stop = last_of(text, end, chat->user.close);
    if (stop && stop + strlen(chat->user.close) == end) end = stop;
    /* The image marks around it say nothing here. */
    for (;; text += mark) {
        while (text < end && isspace((unsigned char)*text))
            text++;
        if ((size_t)(end - text) < mark || memcmp(text, IMAGE_MARK, mark) != 0) break;
    }
    for (;; end -= mark) {
        while (text < end && isspace((unsigned char)end[-1]))
            end--;
        if ((size_t)(end - text) < mark || memcmp(end - mark, IMAGE_MARK, mark) != 0) break;
    }
    return (struct text){(char *)(uintptr_t)text, (size_t)(end - text)};
}

/* `to` relative to the directory `from`, both absolute; percent-encoded. */
static void relative_path(FILE *fp, const char *from, const char *to)
{
    size_t common = 0, i;

    for (i = 0; from[i] && from[i] == to[i]; i++)
        if (from[i] == '/') common = i + 1;
    if (!from[i] && to[i] == '/') common = i + 1; /* it is below */
    for (i = common; i < strlen(from); i++)
        if (i == common || from[i] == '/') fputs("../", fp);
    for (to += common; *to; to++)
        fprintf(fp, isalnum((unsigned char)*to) || strchr("/._-~", *to) ? "%c" : "%%%02X",
                (unsigned char)*to);
}

/* Shows nothing if the picture no longer exists. */
static bool show_picture(const struct report *rep, FILE *fp, const char *image, struct err *e)
{
    char *from = realpath(rep->r->c.run.dir, NULL), *to = from ? realpath(image, NULL) : NULL;
    bool ok =
        (from && to) || errno == ENOENT || errno == ENOTDIR || err_system(e, errno, "%s", image);

    if (from && to) {
        fprintf(fp, "<img src=\"");
        relative_path(fp, from, to);
        fprintf(fp, "\" width=\"%d\"><br>", PICTURE_PIXELS);
    }
    free(from);
    free(to);
    return ok;
}

/* One model's answer to the question with that id. */
static bool show_answer(const struct answers *a, size_t i, const struct text *id, FILE *fp,
                        struct err *e)
{
    struct jsonc line = {0};
    struct text own = {0}, answer = {0};
    /* The sets' files cannot change within a run, but somebody may have edited a file here. */
    bool there = i < a->n,
         ok = !there || (answer_at(a, i, &line, e) && member(&line, "id", &own, e) &&
                         member(&line, "answer", &answer, e));

    if (ok && there && own.n == id->n && memcmp(own.s, id->s, id->n) == 0) {
        fputs(a->worth[i] >= 1 ? " " : " ✗ ", fp);
        report_text(fp, answer.s, answer.n);
        fputs(" |", fp);
    } else {
        fputs(" – |", fp);
    }
    free(own.s);
    free(answer.s);
    jsonc_close(&line);
    return ok;
}

static bool show(const struct report *rep, const struct answers *a, size_t n_files, size_t i,
                 FILE *fp, struct err *e)
{
    struct text prompt = {0}, image = {0}, expected = {0}, id = {0}, question;
    struct jsonc line = {0};
    bool ok = answer_at(&a[0], i, &line, e) && member(&line, "prompt", &prompt, e) &&
              member(&line, "image", &image, e) && member(&line, "expected", &expected, e) &&
              member(&line, "id", &id, e);

    if (ok) {
        question = question_of(&prompt, &rep->r->chat);
        fputs("| ", fp);
        if (image.n) ok = show_picture(rep, fp, image.s, e);
        report_text(fp, question.s, question.n);
        fputs(" | ", fp);
        report_text(fp, expected.s, expected.n);
        fputs(" |", fp);
    }
    for (size_t f = 0; ok && f < n_files; f++)
        ok = show_answer(&a[f], i, &id, fp, e);
    fputc('\n', fp);
    free(prompt.s);
    free(image.s);
    free(expected.s);
    free(id.s);
    jsonc_close(&line);
    return ok;
}

static bool show_all(const struct report *rep, const struct answers *a, size_t n_files, FILE *fp,
                     struct err *e)
{
    size_t n = a[0].n, examples = (size_t)rep->r->c.evaluate.examples;
    bool *chosen = mem_new(n, sizeof *chosen, "sample answers", e);
    bool ok = chosen && choose_examples(a, n_files, examples, chosen, e);

    if (ok) {
        fprintf(fp, "## Sample answers\n\nUp to half of them are questions that a model here "
                    "answers wrongly (✗).\n\n| question | expected |");
        for (size_t f = 0; f < n_files; f++)
            fprintf(fp, " %s |", a[f].name);
        fprintf(fp, "\n|---|---|");
        for (size_t f = 0; f < n_files; f++)
            fprintf(fp, "---|");
        fputc('\n', fp);
    }
    for (size_t i = 0; ok && i < n; i++)
        if (chosen[i]) ok = show(rep, a, n_files, i, fp, e);
    free(chosen);
    return ok;
}

bool report_answers(const struct report *rep, FILE *fp, struct err *e)
{
    struct answers *a;
    size_t n = 0;
    bool ok;

    if (!scorer_of(&rep->r->c)->needs_question) return true; /* texts have no answers */
    a = mem_new((size_t)rep->n + 1, sizeof *a, "sample answers", e);
    ok = a;
    for (int64_t i = -1; ok && i < rep->n; i++) {
        const struct report_point *p = i < 0 ? NULL : &rep->points[i];
        ok = answers_open(&a[n], rep->r, p ? &p->result[REPORT_STAGE2] : &rep->base,
                          p ? p->p.name : "base", e);
        if (ok && a[n].n == 0)
            answers_close(&a[n]); /* missing or empty: no column */
        else
            n++; /* include the one that failed: it is closed below */
    }
    if (ok && n && rep->r->c.evaluate.examples) ok = show_all(rep, a, n, fp, e);
    for (size_t i = 0; a && i < n; i++)
        answers_close(&a[i]);
    free(a);
    return ok;
}
