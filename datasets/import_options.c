/* import_options.c - what a record of the benchmarks asks whose questions have options. */
#include "datasets/import.h"

#include <stdlib.h>
#include <string.h>

static bool ai2d_one(struct import *im, const struct record *r, struct question *q,
                     const char *text, const cJSON *options)
{
    if (!field_choices(im, r, options, q) || !field_number(im, r, "correctAnswer|answer", q))
        return false;
    q->prompt = import_text(im, "%s" IMPORT_ASK_LETTER, text_with_choices(im, text, q));
    return import_question(im, r, q);
}

/* A file for each picture, with an object of its questions; or a row for each question. */
bool import_ai2d(struct import *im, const struct record *r)
{
    const cJSON *all = field(r, "questions"), *item;
    const char *name = import_member(im, r, "imageName|image");

    if (!all)
        return ai2d_one(im, r,
                        &(struct question){.picture = name,
                                           .id = import_text(im, "%lld", (long long)im->records)},
                        import_member(im, r, "question"), field(r, "options"));
    cJSON_ArrayForEach(item, all)
    {
        const struct record one = {r->doc, item, item->string, r->file, r->line};
        struct question q = {.picture = name, .id = import_member(im, &one, "questionId")};
        im->letters += cJSON_IsTrue(field(&one, "abcLabel"));
        if (!ai2d_one(im, &one, &q, item->string, field(&one, "answerTexts"))) return false;
    }
    return true;
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

bool import_seedbench(struct import *im, const struct record *r)
{
    static const char *const names[] = {"choice_a", "choice_b", "choice_c", "choice_d"};
    const char *type = import_member(im, r, "data_type"), *id = import_member(im, r, "question_id");
    const char *text = import_member(im, r, "question");
    struct question q = {.id = id,
                         .answer = import_member(im, r, "answer"),
                         .choices = 4,
                         .category = {"image", seed_type(im, r)},
                         .picture = field_picture(im, r, "data_id", "")};

    if (type && strcmp(type, "video") == 0) return import_skip(im, SKIP_VIDEO, id);
    if (type && strcmp(type, "image") != 0)
        return import_fail(im, r, "\"data_type\" is \"%.40s\": image or video is needed", type);
    for (int i = 0; i < 4; i++)
        q.choice[i] = import_member(im, r, names[i]);
    if (text) q.prompt = import_text(im, "%s" IMPORT_ASK_LETTER, text_with_choices(im, text, &q));
    return import_question(im, r, &q);
}

static bool is_nan(const char *s)
{
    return !s || strcmp(s, "nan") == 0;
}

/* Row i + k * 1000000 is question i with its options turned k times. */
bool import_mmbench(struct import *im, const struct record *r)
{
    static const char *const letters[] = {"A", "B", "C", "D", "E"};
    const char *hint = import_member(im, r, "hint"), *text = import_member(im, r, "question");
    const cJSON *image = field(r, "image");
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
    if (text) q.prompt = import_text(im, "%s\n" IMPORT_ASK_LETTER, text_with_choices(im, text, &q));
    if (q.id) q.group = import_text(im, "%lld", strtoll(q.id, NULL, 10) % 1000000);
    if (r->doc)
        q.picture = field_picture(im, r, "image", "");
    else if (cJSON_IsString(image))
        q.inside = (struct text){image->valuestring, strlen(image->valuestring)};
    if (!r->doc && !q.inside.s) return import_skip(im, SKIP_PICTURE, q.id);
    return import_question(im, r, &q);
}

bool import_scienceqa(struct import *im, const struct record *r)
{
    const char *hint = import_member(im, r, "hint");
    const char *text = import_member(im, r, "question"), *name = field_picture(im, r, "image", "");
    struct question q = {.id = r->key ? r->key : import_text(im, "%lld", (long long)im->records),
                         .category = {import_member(im, r, "subject")},
                         .picture = name};

    if (r->key && name) q.picture = import_text(im, "%s/%s", r->key, name);
    if (!field_choices(im, r, field(r, "choices"), &q) || !field_number(im, r, "answer", &q))
        return false;
    if (text && hint && *hint) text = import_text(im, "Context: %s\n%s", hint, text);
    if (text) q.prompt = import_text(im, "%s" IMPORT_ASK_LETTER, text_with_choices(im, text, &q));
    return import_question(im, r, &q);
}

/* ---- MMMU ---- */

/* Which pictures a text names, as "<image 3>": adds bits 1 << 3. */
static bool named_pictures(struct import *im, const struct record *r, const char *text, int *named)
{
    static const char mark[] = "<image ";

    for (; text && (text = strstr(text, mark)); text += sizeof mark - 1) {
        const char *n = text + sizeof mark - 1;
        const int digits = (int)strspn(n, "0123456789");
        if (!digits || n[digits] != '>') continue;
        if (digits > 1 || *n < '1' || *n >= '1' + IMPORT_PICTURES)
            return import_fail(im, r,
                               "the text names <image %.*s>: a question has up to %d pictures",
                               digits < 20 ? digits : 20, n, IMPORT_PICTURES);
        *named |= 1 << (*n - '0');
    }
    return true;
}

/* Those pictures, in the order of their numbers; the marks stay in the text, where they tell which
 * is meant. */
static bool take_pictures(struct import *im, const struct record *r, int named, struct question *q)
{
    int n = 0;

    for (int i = 1; i <= IMPORT_PICTURES; i++) {
        const char *key = import_text(im, "image_%d", i), *name;
        if (!key) return false;
        if (!(named & 1 << i)) continue;
        name = import_member(im, r, key);
        if (!name)
            return !im->e->msg[0] &&
                   import_fail(im, r, "the text names <image %d>, and there is no \"%s\"", i, key);
        *(n ? &q->more[n - 1] : &q->picture) = name;
        n++;
    }
    return true;
}

/* "validation_Art_Theory_1": the subject is what stands between part and number. */
static const char *subject(struct import *im, const char *id)
{
    const char *from = id ? strchr(id, '_') : NULL, *to = id ? strrchr(id, '_') : NULL;

    return from && to > from + 1 ? import_text(im, "%.*s", (int)(to - from - 1), from + 1) : NULL;
}

/* A row of the hub's. Questions without options are open: the metric has no rule for them. */
bool import_mmmu(struct import *im, const struct record *r)
{
    const char *id = import_member(im, r, "id"), *text = import_member(im, r, "question");
    const char *type = import_member(im, r, "question_type");
    struct question q = {.id = id,
                         .answer = import_member(im, r, "answer"),
                         .category = {subject(im, id), import_member(im, r, "subfield")}};
    int named = 0;

    if (type && strcmp(type, "open") == 0) return import_skip(im, SKIP_OPEN, id);
    if (!field_choices(im, r, field(r, "options"), &q)) return false;
    if (!q.choices) return import_skip(im, SKIP_OPEN, id);
    if (!named_pictures(im, r, text, &named)) return false;
    for (int i = 0; i < q.choices; i++)
        if (!named_pictures(im, r, q.choice[i], &named)) return false;
    if (text) q.prompt = import_text(im, "%s\n" IMPORT_ASK_LETTER, text_with_choices(im, text, &q));
    return take_pictures(im, r, named, &q) && import_question(im, r, &q);
}
