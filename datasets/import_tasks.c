/* import_tasks.c - what a record of each benchmark asks: its fields under the names of the original
 * files and of the published tables, and lmms-eval's `default` prompt (docs/scores.md). */
#include "data/metric/metric.h"
#include "datasets/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool gqa(struct import *im, const struct record *r)
{
    const char *text = import_member(im, r, "question");

    return import_question(
        im, r,
        &(struct question){.id = r->key ? r->key : import_member(im, r, "id"),
                           .prompt = text ? import_text(im, "%s" IMPORT_ASK_WORD, text) : NULL,
                           .answer = import_member(im, r, "answer"),
                           .picture = field_picture(im, r, "image|imageId", ".jpg")});
}

/* Each kind of question has a file; their question_ids repeat. */
static bool pope(struct import *im, const struct record *r)
{
    static const char *const kinds[] = {"random", "popular", "adversarial"};
    const char *text = text_stripped(im, import_member(im, r, "text|question"));
    const char *id = import_member(im, r, "question_id|id");
    const char *kind = import_member(im, r, "category");

    for (int i = 0; i < 3 && !kind; i++)
        if (strstr(path_base(r->file), kinds[i])) kind = kinds[i];
    return import_question(
        im, r,
        &(struct question){.id = id && kind ? import_text(im, "%s/%s", kind, id) : id,
                           .prompt = text ? import_text(im, "%s" IMPORT_ASK_WORD, text) : NULL,
                           .answer = import_member(im, r, "label|answer"),
                           .category = {kind},
                           .picture = field_picture(im, r, "image", "")});
}

static bool realworldqa(struct import *im, const struct record *r)
{
    const char *name = field_picture(im, r, "image", ""),
               *id = import_member(im, r, "id|question_id");

    if (!id && name) id = path_base(name);
    if (id && import_check_known(im, id))
        id = import_text(im, "%s/%lld", id, (long long)im->records);
    return import_question(
        im, r,
        &(struct question){.id = id,
                           .prompt = text_stripped(im, import_member(im, r, "question")),
                           .answer = import_member(im, r, "answer"),
                           .picture = name});
}

static bool chartqa(struct import *im, const struct record *r)
{
    const char *kind = import_member(im, r, "type"), *text = import_member(im, r, "query|question");
    const cJSON *answer = field(r, "answer");

    if (!kind && strstr(path_base(r->file), "human")) kind = "human_test";
    if (!kind && strstr(path_base(r->file), "augmented")) kind = "augmented_test";
    if (!kind)
        return import_fail(im, r,
                           "is the question human or augmented? Neither its \"type\" says "
                           "so nor the file's name, as test_human.json's does");
    return import_question(
        im, r,
        &(struct question){.id = import_text(im, "%s/%lld", kind, (long long)im->records - 1),
                           .prompt = text ? import_text(im,
                                                        "%s\nAnswer the question with a "
                                                        "single word.",
                                                        text)
                                          : NULL,
                           .answer = cJSON_IsArray(answer) && cJSON_IsString(answer->child)
                                         ? answer->child->valuestring
                                         : import_member(im, r, "label|answer"),
                           .category = {kind},
                           .picture = field_picture(im, r, "imgname|image", "")});
}

/* ---- several people's answers ---- */

/* How the benchmarks spell it. */
struct listed {
    const char *id, *picture, *ending; /* members, as import_member's and field_picture's */
    const char *ask;                   /* behind the question */
    bool capital;                      /* the question is capitalised */
};

/* Strings, or objects with "answer". NULL, with *im->e set, where they are neither. */
static cJSON *listed_answers(struct import *im, const struct record *r, const cJSON *from)
{
    cJSON *list = cJSON_CreateArray();
    const cJSON *item;
    bool ok = list;

    if (from && !cJSON_IsArray(from)) ok = ok && import_fail(im, r, "\"answers\" must be a list");
    cJSON_ArrayForEach(item, from)
    {
        const cJSON *a =
            cJSON_IsObject(item) ? cJSON_GetObjectItemCaseSensitive(item, "answer") : item;
        if (ok && !cJSON_IsString(a))
            ok = import_fail(im, r,
                             "\"answers\" must be a list of strings, or of objects with "
                             "\"answer\"");
        ok = ok && cJSON_AddItemToArray(list, cJSON_CreateString(a->valuestring));
    }
    if (ok) return list;
    cJSON_Delete(list);
    if (!im->e->msg[0]) err_set(im->e, "out of memory for answers");
    return NULL;
}

static bool ask_listed(struct import *im, const struct record *r, const struct listed *k,
                       const char *picture, const cJSON *from)
{
    const char *text = import_member(im, r, "question");
    cJSON *answers = listed_answers(im, r, from);
    bool ok;

    if (!answers) return false;
    if (k->capital) text = text_capitalized(im, text);
    ok = import_question(
        im, r,
        &(struct question){.id = import_member(im, r, k->id),
                           .prompt = text ? import_text(im, "%s%s", text, k->ask) : NULL,
                           .answer = answers->child ? answers->child->valuestring : NULL,
                           .answers = answers,
                           .picture = picture});
    cJSON_Delete(answers);
    return ok;
}

static bool docvqa(struct import *im, const struct record *r)
{
    static const struct listed k = {"questionId", "image", "", IMPORT_ASK_WORD, false};

    return ask_listed(im, r, &k, field_picture(im, r, k.picture, k.ending), field(r, "answers"));
}

static bool textvqa(struct import *im, const struct record *r)
{
    static const struct listed k = {"question_id", "image|image_id", ".jpg", IMPORT_ASK_WORD, true};

    return ask_listed(im, r, &k, field_picture(im, r, k.picture, k.ending), field(r, "answers"));
}

/* COCO_val2014_000000000042.jpg, as the file of questions says by its "data_subtype". */
static const char *coco_picture(struct import *im, const struct record *r)
{
    const char *name = field_picture(im, r, "image", ""), *number;
    const cJSON *part = cJSON_GetObjectItemCaseSensitive(r->doc->root, "data_subtype");
    char *end;
    long long n;

    if (name || im->e->msg[0]) return name;
    number = import_member(im, r, "image_id");
    n = number ? strtoll(number, &end, 10) : -1;
    if (n < 0 || *end || !cJSON_IsString(part)) {
        if (!im->e->msg[0])
            import_fail(im, r,
                        "the picture's name needs \"image_id\", a number, and the file's "
                        "\"data_subtype\"");
        return NULL;
    }
    return import_text(im, "COCO_%s_%012lld.jpg", part->valuestring, n);
}

/* Whether an annotation is of the question's picture; published ones say so. */
static bool check_joined(struct import *im, const struct record *r, const struct jsonc *doc)
{
    const struct record a = {doc, doc->root, NULL, r->file, 0};
    const char *its = import_member(im, &a, "image_id"), *own = import_member(im, r, "image_id");

    if (im->e->msg[0]) return false;
    return !its || !own || strcmp(its, own) == 0 ||
           import_fail(im, r,
                       "the question is about image_id %.40s, and its annotation about %.40s", own,
                       its);
}

/* A row of the hub's, or a question whose answers are in another file. */
static bool vqav2(struct import *im, const struct record *r)
{
    static const struct listed k = {"question_id", "", "", "", false};
    const char *id = import_member(im, r, k.id), *picture = coco_picture(im, r);
    const cJSON *own = field(r, "answers");
    struct jsonc doc = {0};
    bool found = false, ok;

    if (im->e->msg[0]) return false;
    if (own) return ask_listed(im, r, &k, picture, own);
    if (!im->joined)
        return import_fail(im, r,
                           "has no answers: the file of annotations, such as "
                           "v2_mscoco_val2014_annotations.json, is to be named too");
    ok = (id || import_fail(im, r, "the question has no id")) &&
         import_join_find(im, id, &doc, &found) &&
         (found || import_fail(im, r, "question \"%s\" has no annotation", id)) &&
         check_joined(im, r, &doc) &&
         ask_listed(im, r, &k, picture, cJSON_GetObjectItemCaseSensitive(doc.root, "answers"));
    jsonc_close(&doc);
    return ok;
}

/* ---- MME ---- */

static bool check_category(struct import *im, const struct record *r, const char *kind)
{
    const char *const *lists[] = {metric_mme_perception, metric_mme_cognition};
    char names[400];
    size_t n = 0;

    for (int l = 0; l < 2; l++) {
        for (const char *const *k = lists[l]; *k; k++) {
            if (strcmp(*k, kind) == 0) return true;
            n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", n ? ", " : "", *k);
        }
    }
    return import_fail(im, r, "\"%.60s\" is no category of MME; there are: %s", kind, names);
}

/* A file for each category, or rows that name it; two questions for each picture. */
static bool mme(struct import *im, const struct record *r)
{
    static const char drop[] = " Please answer yes or no.";
    const char *name = import_member(im, r, "image"), *text = import_member(im, r, "question");
    const char *kind = import_member(im, r, "category"), *file = path_base(r->file), *at;
    const char *group = import_member(im, r, "question_id");

    if (!kind) kind = import_text(im, "%.*s", (int)strcspn(file, "."), file);
    if (!kind || !check_category(im, r, kind)) return false;
    if (!group) group = import_text(im, "%s/%s", kind, name ? path_base(name) : "");
    if (text && (at = strstr(text, drop)))
        text = import_text(im, "%.*s%s", (int)(at - text), text, at + sizeof drop - 1);
    return import_question(
        im, r,
        &(struct question){.id = import_text(im, "%s/%lld", group, (long long)r->line),
                           .prompt = text ? import_text(im, "%s" IMPORT_ASK_WORD, text) : NULL,
                           .answer = import_member(im, r, "answer"),
                           .category = {kind},
                           .group = group,
                           .picture = name});
}

/* The numbers of questions are those of the published sets. */
const struct import_task import_tasks[] = {{.name = "ai2d",
                                            .metric = "ai2d",
                                            .form = IMPORT_WHOLE,
                                            .max_new = 16,
                                            .published = 3088,
                                            .take = import_ai2d,
                                            .files = "questions/*.json"},
                                           {.name = "gqa",
                                            .metric = "exact",
                                            .form = IMPORT_MAP,
                                            .max_new = 16,
                                            .published = 12578,
                                            .take = gqa,
                                            .files = "testdev_balanced_questions.json"},
                                           {.name = "pope",
                                            .metric = "pope",
                                            .form = IMPORT_JSON,
                                            .max_new = 128,
                                            .published = 9000,
                                            .take = pope,
                                            .files = "coco_pope_*.json"},
                                           {.name = "seedbench",
                                            .metric = "seed",
                                            .form = IMPORT_JSON,
                                            .list = "questions",
                                            .max_new = 16,
                                            .published = 14233,
                                            .take = import_seedbench,
                                            .files = "SEED-Bench.json"},
                                           {.name = "realworldqa",
                                            .metric = "realworldqa",
                                            .form = IMPORT_JSON,
                                            .max_new = 16,
                                            .published = 765,
                                            .take = realworldqa,
                                            .files = "annotations.json"},
                                           {.name = "mmbench",
                                            .metric = "mmbench",
                                            .form = IMPORT_TABLE,
                                            .max_new = 16,
                                            .published = 4329,
                                            .take = import_mmbench,
                                            .files = "MMBench_DEV_EN.tsv"},
                                           {.name = "chartqa",
                                            .metric = "relaxed",
                                            .form = IMPORT_JSON,
                                            .max_new = 16,
                                            .published = 2500,
                                            .take = chartqa,
                                            .files = "test_human.json test_augmented.json"},
                                           {.name = "docvqa",
                                            .metric = "anls",
                                            .form = IMPORT_JSON,
                                            .list = "data",
                                            .max_new = 32,
                                            .published = 5349,
                                            .take = docvqa,
                                            .files = "val_v1.0.json"},
                                           {.name = "textvqa",
                                            .metric = "vqa",
                                            .form = IMPORT_JSON,
                                            .list = "data",
                                            .max_new = 32,
                                            .take = textvqa,
                                            .files = "TextVQA_0.5.1_val.json"},
                                           {.name = "vqav2",
                                            .metric = "vqav2",
                                            .form = IMPORT_JSON,
                                            .list = "questions",
                                            .max_new = 16,
                                            .take = vqav2,
                                            .files = "v2_OpenEnded_mscoco_val2014_questions.json "
                                                     "v2_mscoco_val2014_annotations.json",
                                            .join = "annotations"},
                                           {.name = "mme",
                                            .metric = "mme",
                                            .form = IMPORT_PLAIN,
                                            .max_new = 16,
                                            .take = mme,
                                            .files = "existence.txt count.txt ..."},
                                           {.name = "scienceqa",
                                            .metric = "scienceqa",
                                            .form = IMPORT_MAP,
                                            .max_new = 16,
                                            .take = import_scienceqa,
                                            .files = "problems.json",
                                            .split = "test",
                                            .text = true},
                                           {.name = "mmmu",
                                            .metric = "mmmu",
                                            .form = IMPORT_JSON,
                                            .max_new = 16,
                                            .take = import_mmmu,
                                            .files = "rows.jsonl",
                                            .text = true},
                                           {.name = "hellaswag",
                                            .metric = "choice",
                                            .form = IMPORT_JSON,
                                            .published = 10042,
                                            .take = import_hellaswag,
                                            .files = "hellaswag_val.jsonl"},
                                           {.name = "arc",
                                            .metric = "choice",
                                            .form = IMPORT_JSON,
                                            .take = import_arc,
                                            .files = "ARC-Challenge-Test.jsonl"},
                                           {.name = "piqa",
                                            .metric = "choice",
                                            .form = IMPORT_JSON,
                                            .published = 1838,
                                            .take = import_piqa,
                                            .files = "rows.jsonl"},
                                           {.name = "openbookqa",
                                            .metric = "choice",
                                            .form = IMPORT_JSON,
                                            .published = 500,
                                            .take = import_openbookqa,
                                            .files = "test.jsonl"},
                                           {.name = "winogrande",
                                            .metric = "choice",
                                            .form = IMPORT_JSON,
                                            .published = 1267,
                                            .take = import_winogrande,
                                            .files = "dev.jsonl"},
                                           {.name = "mmlu",
                                            .metric = "choice",
                                            .form = IMPORT_JSON,
                                            .published = 14042,
                                            .take = import_mmlu,
                                            .files = "rows.jsonl"},
                                           {0}};

const struct import_task *import_task_find(const char *name)
{
    for (const struct import_task *t = import_tasks; t->name; t++)
        if (strcmp(t->name, name) == 0) return t;
    return NULL;
}
