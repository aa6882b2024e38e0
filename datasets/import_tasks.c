/* import_tasks.c - what a record of each benchmark asks: its fields under the names of the original
 * files and of the published tables, and lmms-eval's `default` prompt (docs/scores.md). */
#include "base/mem.h"
#include "datasets/import.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define ASK_LETTER "\nAnswer with the option's letter from the given choices directly."
#define ASK_WORD "\nAnswer the question using a single word or phrase."

/* ---- fields ---- */

static const cJSON *member(const struct record *r, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(r->o, name);
}

/* A picture's path: "image", a string or the first of a list; else a name that lacks its ending. */
static const char *picture(struct import *im, const struct record *r, const char *names,
                           const char *end)
{
    const cJSON *list = member(r, "image");
    const char *name = cJSON_IsArray(list) && cJSON_IsString(list->child)
                           ? list->child->valuestring
                           : import_member(im, r, names);

    return name && !list && *end ? import_text(im, "%s%s", name, end) : name;
}

/* Without white space at the ends. */
static const char *stripped(struct import *im, const char *s)
{
    const struct text t = text_trimmed((struct text){(char *)(uintptr_t)s, s ? strlen(s) : 0});

    return s ? import_text(im, "%.*s", (int)t.n, t.s) : NULL;
}

static bool take_choices(struct import *im, const struct record *r, const cJSON *list,
                         struct question *q)
{
    const cJSON *item;

    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > IMPORT_CHOICES)
        return import_fail(im, r, "the options must be a list of up to %d", IMPORT_CHOICES);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item)) return import_fail(im, r, "an option is no string");
        q->choice[q->choices++] = item->valuestring;
    }
    return true;
}

/* "QUESTION\nA. one\nB. two": missing options are left out. */
static const char *with_choices(struct import *im, const char *question, const struct question *q)
{
    for (int i = 0; question && i < q->choices; i++)
        if (q->choice[i]) question = import_text(im, "%s\n%c. %s", question, 'A' + i, q->choice[i]);
    return question;
}

/* The letter of an option's number, which begins at 0. */
static bool take_number(struct import *im, const struct record *r, const char *names,
                        struct question *q)
{
    const char *number = import_member(im, r, names);
    char *end;
    const long n = number ? strtol(number, &end, 10) : 0;

    if (!number) return !im->e->msg[0];
    if (end == number || *end || n < 0 || n >= q->choices)
        return import_fail(im, r, "the answer is option %.20s, of %d (the first is 0)", number,
                           q->choices);
    q->answer = import_text(im, "%c", 'A' + (int)n);
    return q->answer;
}

/* The last part of a path. */
static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* ---- the benchmarks ---- */

static bool ai2d_one(struct import *im, const struct record *r, struct question *q,
                     const char *text, const cJSON *options)
{
    if (!take_choices(im, r, options, q) || !take_number(im, r, "correctAnswer|answer", q))
        return false;
    q->prompt = import_text(im, "%s" ASK_LETTER, with_choices(im, text, q));
    return import_question(im, r, q);
}

/* A file for each picture, with an object of its questions; or a row for each question. */
static bool ai2d(struct import *im, const struct record *r)
{
    const cJSON *all = member(r, "questions"), *item;
    const char *name = import_member(im, r, "imageName|image");

    if (!all)
        return ai2d_one(
            im, r,
            &(struct question){.picture = name, .id = import_text(im, "%lld", (long long)r->line)},
            import_member(im, r, "question"), member(r, "options"));
    cJSON_ArrayForEach(item, all)
    {
        const struct record one = {r->doc, item, item->string, r->file, r->line};
        struct question q = {.picture = name, .id = import_member(im, &one, "questionId")};
        im->letters += cJSON_IsTrue(member(&one, "abcLabel"));
        if (!ai2d_one(im, &one, &q, item->string, member(&one, "answerTexts"))) return false;
    }
    return true;
}

static bool gqa(struct import *im, const struct record *r)
{
    const char *text = import_member(im, r, "question");

    return import_question(
        im, r,
        &(struct question){.id = r->key ? r->key : import_member(im, r, "id"),
                           .prompt = text ? import_text(im, "%s" ASK_WORD, text) : NULL,
                           .answer = import_member(im, r, "answer"),
                           .picture = picture(im, r, "image|imageId", ".jpg")});
}

/* Each kind of question has a file; their question_ids repeat. */
static bool pope(struct import *im, const struct record *r)
{
    static const char *const kinds[] = {"random", "popular", "adversarial"};
    const char *text = stripped(im, import_member(im, r, "text|question"));
    const char *id = import_member(im, r, "question_id|id");
    const char *kind = import_member(im, r, "category");

    for (int i = 0; i < 3 && !kind; i++)
        if (strstr(base_name(r->file), kinds[i])) kind = kinds[i];
    return import_question(
        im, r,
        &(struct question){.id = id && kind ? import_text(im, "%s/%s", kind, id) : id,
                           .prompt = text ? import_text(im, "%s" ASK_WORD, text) : NULL,
                           .answer = import_member(im, r, "label|answer"),
                           .category = {kind},
                           .picture = picture(im, r, "image", "")});
}

/* The name of a question's type, by its number. */
static const char *seed_type(struct import *im, const struct record *r)
{
    const char *id = import_member(im, r, "question_type_id");
    const cJSON *types = cJSON_GetObjectItemCaseSensitive(r->doc->root, "question_type"), *item;

    cJSON_ArrayForEach(item, types)
    {
        if (id && cJSON_IsNumber(item) && item->valuedouble == strtod(id, NULL))
            return item->string;
    }
    return id;
}

static bool seedbench(struct import *im, const struct record *r)
{
    static const char *const names[] = {"choice_a", "choice_b", "choice_c", "choice_d"};
    const char *type = import_member(im, r, "data_type"), *id = import_member(im, r, "question_id");
    const char *text = import_member(im, r, "question");
    struct question q = {.id = id,
                         .answer = import_member(im, r, "answer"),
                         .choices = 4,
                         .category = {"image", seed_type(im, r)},
                         .picture = picture(im, r, "data_id", "")};

    if (type && strcmp(type, "image") != 0) return import_skip(im, SKIP_VIDEO, id);
    for (int i = 0; i < 4; i++)
        q.choice[i] = import_member(im, r, names[i]);
    if (text) q.prompt = import_text(im, "%s" ASK_LETTER, with_choices(im, text, &q));
    return import_question(im, r, &q);
}

static bool realworldqa(struct import *im, const struct record *r)
{
    const char *name = picture(im, r, "image", ""), *id = import_member(im, r, "id|question_id");

    return import_question(
        im, r,
        &(struct question){.id = id     ? id
                                 : name ? base_name(name)
                                        : NULL,
                           .prompt = stripped(im, import_member(im, r, "question")),
                           .answer = import_member(im, r, "answer"),
                           .picture = name});
}

static bool is_nan(const char *s)
{
    return !s || strcmp(s, "nan") == 0;
}

/* Row i + k * 1000000 is question i with its options turned k times. */
static bool mmbench(struct import *im, const struct record *r)
{
    static const char *const letters[] = {"A", "B", "C", "D", "E"};
    const char *hint = import_member(im, r, "hint"), *text = import_member(im, r, "question");
    const cJSON *image = member(r, "image");
    struct question q = {.id = import_member(im, r, "index"),
                         .answer = import_member(im, r, "answer"),
                         .category = {import_member(im, r, "category"),
                                      import_member(im, r, "l2-category|L2-category")}};

    for (int i = 0; i < 5; i++) {
        q.choice[i] = import_member(im, r, letters[i]);
        if (is_nan(q.choice[i]) || !*q.choice[i]) q.choice[i] = NULL;
        if (q.choice[i]) q.choices = i + 1;
    }
    if (is_nan(q.answer)) q.answer = NULL;
    if (text && !is_nan(hint)) text = import_text(im, "%s %s", hint, text);
    if (text) text = import_text(im, "%s There are several options:", text);
    if (text) q.prompt = import_text(im, "%s\n" ASK_LETTER, with_choices(im, text, &q));
    if (q.id) q.group = import_text(im, "%lld", strtoll(q.id, NULL, 10) % 1000000);
    if (r->doc)
        q.picture = picture(im, r, "image", "");
    else if (cJSON_IsString(image))
        q.inside = (struct text){image->valuestring, strlen(image->valuestring)};
    if (!r->doc && !q.inside.s) return import_skip(im, SKIP_PICTURE, q.id);
    return import_question(im, r, &q);
}

static bool chartqa(struct import *im, const struct record *r)
{
    const char *kind = import_member(im, r, "type"), *text = import_member(im, r, "query|question");
    const cJSON *answer = member(r, "answer");

    if (!kind && strstr(base_name(r->file), "human")) kind = "human_test";
    if (!kind && strstr(base_name(r->file), "augmented")) kind = "augmented_test";
    if (!kind)
        return import_fail(im, r,
                           "is the question human or augmented? Neither its \"type\" says "
                           "so nor the file's name, as test_human.json's does");
    return import_question(
        im, r,
        &(struct question){
            .id = import_text(im, "%s/%lld", kind, (long long)(im->written + im->skipped[0])),
            .prompt = text ? import_text(im,
                                         "%s\nAnswer the question with a "
                                         "single word.",
                                         text)
                           : NULL,
            .answer = cJSON_IsArray(answer) && cJSON_IsString(answer->child)
                          ? answer->child->valuestring
                          : import_member(im, r, "label|answer"),
            .category = {kind},
            .picture = picture(im, r, "imgname|image", "")});
}

/* The first of a list of answers; NULL if there is none. */
static const char *first_of(const cJSON *list)
{
    return cJSON_IsArray(list) && cJSON_IsString(list->child) ? list->child->valuestring : NULL;
}

static bool docvqa(struct import *im, const struct record *r)
{
    const char *text = import_member(im, r, "question");
    const cJSON *answers = member(r, "answers");

    return import_question(
        im, r,
        &(struct question){.id = import_member(im, r, "questionId"),
                           .prompt = text ? import_text(im, "%s" ASK_WORD, text) : NULL,
                           .answer = first_of(answers),
                           .answers = answers,
                           .picture = picture(im, r, "image", "")});
}

/* As Python's str.capitalize: the first character in title case, all others lower. */
static const char *capitalized(struct import *im, const char *s)
{
    const size_t n = s ? strlen(s) : 0;
    char *to = s ? mem_new(2 * n + 8, 1, "a question", im->e) : NULL;
    const char *out;
    size_t used = 0;

    for (size_t at = 0; to && at < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t len =
            utf8proc_iterate((const utf8proc_uint8_t *)s + at, (utf8proc_ssize_t)(n - at), &c);
        if (len <= 0) break; /* JSON's strings are UTF-8 */
        c = at ? utf8proc_tolower(c) : utf8proc_totitle(c);
        used += (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)to + used);
        at += (size_t)len;
    }
    out = to ? import_text(im, "%s", to) : NULL;
    free(to);
    return out;
}

static bool textvqa(struct import *im, const struct record *r)
{
    const char *text = capitalized(im, import_member(im, r, "question"));
    const cJSON *answers = member(r, "answers");

    return import_question(
        im, r,
        &(struct question){.id = import_member(im, r, "question_id"),
                           .prompt = text ? import_text(im, "%s" ASK_WORD, text) : NULL,
                           .answer = first_of(answers),
                           .answers = answers,
                           .picture = picture(im, r, "image|image_id", ".jpg")});
}

/* Rows only: the original has its answers in a file of their own. */
static bool vqav2(struct import *im, const struct record *r)
{
    cJSON *answers = cJSON_CreateArray(), *item;
    bool ok = answers;

    cJSON_ArrayForEach(item, member(r, "answers"))
    {
        const cJSON *a = cJSON_GetObjectItemCaseSensitive(item, "answer");
        ok = ok && cJSON_IsString(a) &&
             cJSON_AddItemToArray(answers, cJSON_CreateString(a->valuestring));
    }
    ok = ok || import_fail(im, r, "\"answers\" must be a list of objects with \"answer\"");
    ok = ok && import_question(im, r,
                               &(struct question){.id = import_member(im, r, "question_id"),
                                                  .prompt = import_member(im, r, "question"),
                                                  .answer = first_of(answers),
                                                  .answers = answers,
                                                  .picture = picture(im, r, "image", "")});
    cJSON_Delete(answers);
    return ok;
}

/* A file for each category, or rows that name it; two questions for each picture. */
static bool mme(struct import *im, const struct record *r)
{
    static const char drop[] = " Please answer yes or no.";
    const char *name = import_member(im, r, "image"), *text = import_member(im, r, "question");
    const char *kind = import_member(im, r, "category"), *file = base_name(r->file), *at;
    const char *group = import_member(im, r, "question_id");

    if (!kind) kind = import_text(im, "%.*s", (int)strcspn(file, "."), file);
    if (!group) group = import_text(im, "%s/%s", kind, name ? base_name(name) : "");
    if (text && (at = strstr(text, drop)))
        text = import_text(im, "%.*s%s", (int)(at - text), text, at + sizeof drop - 1);
    return import_question(
        im, r,
        &(struct question){.id = import_text(im, "%s/%lld", group, (long long)r->line),
                           .prompt = text ? import_text(im, "%s" ASK_WORD, text) : NULL,
                           .answer = import_member(im, r, "answer"),
                           .category = {kind},
                           .group = group,
                           .picture = name});
}

static bool scienceqa(struct import *im, const struct record *r)
{
    const char *split = import_member(im, r, "split"), *hint = import_member(im, r, "hint");
    const char *text = import_member(im, r, "question"), *name = picture(im, r, "image", "");
    struct question q = {.id = r->key ? r->key : import_text(im, "%lld", (long long)r->line),
                         .category = {import_member(im, r, "subject")},
                         .picture = name};

    if (split && im->split && strcmp(split, im->split) != 0)
        return import_skip(im, SKIP_SPLIT, split);
    if (r->key && name) q.picture = import_text(im, "%s/%s", r->key, name);
    if (!take_choices(im, r, member(r, "choices"), &q) || !take_number(im, r, "answer", &q))
        return false;
    if (text && hint && *hint) text = import_text(im, "Context: %s\n%s", hint, text);
    if (text) q.prompt = import_text(im, "%s" ASK_LETTER, with_choices(im, text, &q));
    return import_question(im, r, &q);
}

/* The numbers of questions are those of the published sets. */
const struct import_task import_tasks[] = {
    {"ai2d", "ai2d", IMPORT_WHOLE, NULL, 16, 3088, NULL, ai2d, "questions/*.json"},
    {"gqa", "exact", IMPORT_MAP, NULL, 16, 12578, NULL, gqa, "testdev_balanced_questions.json"},
    {"pope", "pope", IMPORT_JSON, NULL, 128, 9000, NULL, pope, "coco_pope_*.json"},
    {"seedbench", "seed", IMPORT_JSON, "questions", 16, 14233, NULL, seedbench, "SEED-Bench.json"},
    {"realworldqa", "realworldqa", IMPORT_JSON, NULL, 16, 765, NULL, realworldqa,
     "annotations.json"},
    {"mmbench", "mmbench", IMPORT_TABLE, NULL, 16, 4329, NULL, mmbench, "MMBench_DEV_EN.tsv"},
    {"chartqa", "relaxed", IMPORT_JSON, NULL, 16, 2500, NULL, chartqa,
     "test_human.json test_augmented.json"},
    {"docvqa", "anls", IMPORT_JSON, "data", 32, 5349, NULL, docvqa, "val_v1.0.json"},
    {"textvqa", "vqa", IMPORT_JSON, "data", 32, 0, NULL, textvqa, "TextVQA_0.5.1_val.json"},
    {"vqav2", "vqav2", IMPORT_JSON, NULL, 16, 0, NULL, vqav2, "rows.jsonl"},
    {"mme", "mme", IMPORT_PLAIN, NULL, 16, 0, NULL, mme, "existence.txt count.txt ..."},
    {"scienceqa", "scienceqa", IMPORT_MAP, NULL, 16, 0, "test", scienceqa, "problems.json"},
    {0}};

const struct import_task *import_task_find(const char *name)
{
    for (const struct import_task *t = import_tasks; t->name; t++)
        if (strcmp(t->name, name) == 0) return t;
    return NULL;
}
