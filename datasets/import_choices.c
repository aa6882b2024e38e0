/* import_choices.c - benchmarks of texts, whose choices are scored by likelihood: contexts and
 * choices as the task files of lm-evaluation-harness 0.4.13 make them of a record, without examples
 * before it. Records have the fields of the original files, or of the hub's rows
 * where these differ. */
#include "base/mem.h"
#include "datasets/import.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a record asks; texts as in struct question. */
struct ask {
    const char *id, *context, *category;
    const char
        *contexts[IMPORT_CHOICES]; /* [n_contexts], which `context` then continues: winogrande */
    int n_contexts;
    const char *choice[IMPORT_CHOICES];
    int choices, label; /* label -1: there is none */
};

static bool add_list(cJSON *o, const char *key, const char *const *v, int n)
{
    return cJSON_AddItemToObject(o, key, cJSON_CreateStringArray(v, n));
}

static cJSON *line_of(const struct import *im, const struct ask *a)
{
    char id[300];
    cJSON *o = cJSON_CreateObject();
    bool ok;

    snprintf(id, sizeof id, "%s/%s", im->task->name, a->id);
    ok = o && cJSON_AddStringToObject(o, "id", id);
    if (ok && a->n_contexts)
        ok = add_list(o, "contexts", a->contexts, a->n_contexts) &&
             cJSON_AddStringToObject(o, "continuation", a->context);
    else if (ok)
        ok = cJSON_AddStringToObject(o, "context", a->context) &&
             add_list(o, "choices", a->choice, a->choices);
    if (ok && cJSON_AddNumberToObject(o, "label", a->label) &&
        (!a->category || cJSON_AddStringToObject(o, "category", a->category)))
        return o;
    cJSON_Delete(o);
    err_set(im->e, "out of memory for a sample");
    return NULL;
}

static bool check(struct import *im, const struct record *r, const struct ask *a)
{
    const int n = a->n_contexts ? a->n_contexts : a->choices;

    if (!a->context) return import_fail(im, r, "the question has no text");
    if (n < 2) return import_fail(im, r, "has %d choices: at least 2 are needed", n);
    for (int i = 0; i < a->choices; i++)
        if (!*a->choice[i]) return import_fail(im, r, "choice %d is empty", i);
    if (a->label < 0)
        return import_fail(
            im, r,
            "no choice is its answer: where the answers of a part are not published, "
            "as of most \"test\" parts, nothing can be scored here");
    CHECK(a->label < n);
    return import_check_id(im, r, a->id);
}

static bool put(struct import *im, const struct record *r, struct ask *a)
{
    cJSON *o;
    char *text;

    if (im->e->msg[0]) return false;
    if (!a->id) /* the records of most of these have none */
        a->id = import_text(im, "%lld", (long long)im->records);
    if (!a->id || !check(im, r, a)) return false;
    o = line_of(im, a);
    text = o ? jsonc_print(o, false, im->e) : NULL;
    cJSON_Delete(o);
    if (!text) return false;
    fprintf(im->list.fp, "%s\n", text); /* commit checks it */
    free(text);
    im->written++;
    return true;
}

/* The right one of n choices, of which the first has the number `first`: a number, or its digits in
 * a string. Where answers are not published, it is missing, empty or -1. */
static bool take_number(struct import *im, const struct record *r, const char *name, int first,
                        int n, struct ask *a)
{
    const char *text = import_member(im, r, name);
    char *end;
    long v;

    a->label = -1;
    if (!text || !*text || strcmp(text, "-1") == 0) return !im->e->msg[0];
    v = strtol(text, &end, 10);
    if (*end == '.') end += 1 + strspn(end + 1, "0"); /* 1.0, as tables of floats have it */
    if (!strchr("0123456789", *text) || *end || v < first || v >= first + n)
        return import_fail(im, r, "\"%s\" is \"%.40s\": a whole number from %d to %d is needed",
                           name, text, first, first + n - 1);
    a->label = (int)v - first;
    return true;
}

static bool take_list(struct import *im, const struct record *r, const cJSON *list, struct ask *a)
{
    const cJSON *item;

    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > IMPORT_CHOICES)
        return import_fail(im, r, "the choices must be a list of up to %d", IMPORT_CHOICES);
    cJSON_ArrayForEach(item, list)
    {
        if (!cJSON_IsString(item)) return import_fail(im, r, "a choice is no string");
        a->choice[a->choices++] = item->valuestring;
    }
    return true;
}

/* Which label is the key. */
static bool take_key(struct import *im, const struct record *r, const char *const *label,
                     struct ask *a)
{
    const char *key = import_member(im, r, "answerKey");

    a->label = -1;
    while (key && *key == ' ') /* as openbookqa's task does */
        key++;
    for (int i = 0; i < a->choices; i++) {
        for (int k = 0; k < i; k++)
            if (strcmp(label[k], label[i]) == 0)
                return import_fail(im, r, "two choices have the label \"%.40s\"", label[i]);
        if (key && strcmp(label[i], key) == 0) a->label = i;
    }
    if (key && *key && a->choices && a->label < 0)
        return import_fail(im, r, "\"answerKey\" is \"%.40s\", which is no choice's label", key);
    return true;
}

static bool take_columns(struct import *im, const struct record *r, const cJSON *texts,
                         const cJSON *labels, struct ask *a)
{
    const char *label[IMPORT_CHOICES];
    const cJSON *item;
    int n = 0;

    if (!take_list(im, r, texts, a)) return false;
    if (!cJSON_IsArray(labels) || cJSON_GetArraySize(labels) != a->choices)
        return import_fail(im, r, "has %d choices and %d labels", a->choices,
                           cJSON_IsArray(labels) ? cJSON_GetArraySize(labels) : 0);
    cJSON_ArrayForEach(item, labels)
    {
        if (!cJSON_IsString(item)) return import_fail(im, r, "a choice's label is no string");
        label[n++] = item->valuestring;
    }
    return take_key(im, r, label, a);
}

/* Choices that have labels, of which one is the key: {"text": [], "label": []}, or a list of
 * {"text", "label"}. */
static bool take_labelled(struct import *im, const struct record *r, const cJSON *choices,
                          struct ask *a)
{
    const cJSON *texts = cJSON_GetObjectItemCaseSensitive(choices, "text"), *item;
    const cJSON *labels = cJSON_GetObjectItemCaseSensitive(choices, "label");
    const char *label[IMPORT_CHOICES];

    if (texts) return take_columns(im, r, texts, labels, a);
    cJSON_ArrayForEach(item, choices)
    {
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(item, "text");
        const cJSON *of = cJSON_GetObjectItemCaseSensitive(item, "label");
        if (!cJSON_IsString(text) || !cJSON_IsString(of) || a->choices == IMPORT_CHOICES)
            return import_fail(im, r, "a choice needs \"text\" and \"label\", up to %d of them",
                               IMPORT_CHOICES);
        label[a->choices] = of->valuestring;
        a->choice[a->choices++] = text->valuestring;
    }
    return take_key(im, r, label, a);
}

/* The question's text, by `name`, or the "stem" of an object under "question", which then has the
 * choices too. */
static bool take_stem(struct import *im, const struct record *r, const char *name, struct ask *a)
{
    const cJSON *question = field(r, "question"), *choices = field(r, "choices"), *stem;

    a->id = import_member(im, r, "id");
    if (cJSON_IsObject(question)) {
        stem = cJSON_GetObjectItemCaseSensitive(question, "stem");
        a->context = cJSON_IsString(stem) ? stem->valuestring : NULL;
        choices = cJSON_GetObjectItemCaseSensitive(question, "choices");
    } else {
        a->context = import_member(im, r, name);
    }
    return take_labelled(im, r, choices, a);
}

/* ---- the benchmarks ---- */

/* Without [...] on one line, " [title]" as the end of a sentence, and of two blanks one. */
static const char *hellaswag_text(struct import *im, const char *s)
{
    static const char title[] = " [title]";
    const struct text t = text_trimmed((struct text){(char *)(uintptr_t)s, s ? strlen(s) : 0});
    char *to = s ? mem_new(t.n + 1, 1, "a question", im->e) : NULL, *at = to;
    const char *out;

    for (size_t i = 0; to && i < t.n;) {
        if (t.n - i >= sizeof title - 1 && memcmp(t.s + i, title, sizeof title - 1) == 0) {
            *at++ = '.';
            *at++ = ' ';
            i += sizeof title - 1;
        } else {
            *at++ = t.s[i++];
        }
    }
    for (char *open = to; open && (open = strchr(open, '[')) != NULL;) {
        const size_t n = strcspn(open, "]\n");
        if (open[n] == ']')
            memmove(open, open + n + 1, strlen(open + n + 1) + 1);
        else
            open++;
    }
    for (char *two = to; two && (two = strstr(two, "  ")) != NULL; two++)
        memmove(two, two + 1, strlen(two + 1) + 1);
    out = to ? import_text(im, "%s", to) : NULL;
    free(to);
    return out;
}

bool import_hellaswag(struct import *im, const struct record *r)
{
    const char *label = import_member(im, r, "activity_label");
    const char *a = import_member(im, r, "ctx_a");
    const char *b = text_capitalized(im, import_member(im, r, "ctx_b"));
    struct ask q = {.id = import_member(im, r, "ind")};

    if (!take_list(im, r, field(r, "endings"), &q)) return false;
    if (q.choices != 4) return import_fail(im, r, "has %d endings, and not 4", q.choices);
    if (!take_number(im, r, "label", 0, 4, &q)) return false;
    if (label && a && b) q.context = hellaswag_text(im, import_text(im, "%s: %s %s", label, a, b));
    for (int i = 0; i < q.choices; i++) {
        q.choice[i] = hellaswag_text(im, q.choice[i]);
        if (!q.choice[i]) return false;
    }
    return put(im, r, &q);
}

bool import_arc(struct import *im, const struct record *r)
{
    struct ask q = {0};

    if (!take_stem(im, r, "question", &q)) return false;
    if (q.context) q.context = import_text(im, "Question: %s\nAnswer:", q.context);
    return put(im, r, &q);
}

bool import_openbookqa(struct import *im, const struct record *r)
{
    struct ask q = {0};

    return take_stem(im, r, "question_stem", &q) && put(im, r, &q);
}

/* The original has its answers in a file of their own: rows only. */
bool import_piqa(struct import *im, const struct record *r)
{
    const char *goal = import_member(im, r, "goal");
    struct ask q = {.id = import_member(im, r, "id"),
                    .choice = {import_member(im, r, "sol1"), import_member(im, r, "sol2")},
                    .choices = 2};

    if (!q.choice[0] || !q.choice[1]) return import_fail(im, r, "\"sol1\" or \"sol2\" is missing");
    if (goal) q.context = import_text(im, "Question: %s\nAnswer:", goal);
    return take_number(im, r, "label", 0, 2, &q) && put(im, r, &q);
}

/* Each option in the gap makes a context; what follows the gap is scored behind both. */
bool import_winogrande(struct import *im, const struct record *r)
{
    const char *sentence = import_member(im, r, "sentence");
    const char *gap = sentence ? strchr(sentence, '_') : NULL;
    const char *option[] = {import_member(im, r, "option1"), import_member(im, r, "option2")};
    struct ask q = {.id = import_member(im, r, "qID"), .n_contexts = 2};
    struct text rest;

    if (!option[0] || !option[1] || !*option[0] || !*option[1])
        return import_fail(im, r, "\"option1\" or \"option2\" is missing");
    if (!gap) return import_fail(im, r, "\"sentence\" has no gap, which is \"_\"");
    for (int i = 0; i < 2; i++) {
        q.contexts[i] = import_text(im, "%.*s%s", (int)(gap - sentence), sentence, option[i]);
        if (!q.contexts[i]) return false;
    }
    rest = text_trimmed((struct text){(char *)(uintptr_t)gap + 1, strlen(gap + 1)});
    if (!rest.n)
        return import_fail(im, r,
                           "nothing follows the gap in \"sentence\": that is what is scored");
    q.context = import_text(im, "%.*s", (int)rest.n, rest.s);
    return take_number(im, r, "answer", 1, 2, &q) && put(im, r, &q);
}

bool import_mmlu(struct import *im, const struct record *r)
{
    static const char *const letters[] = {"A", "B", "C", "D"};
    const char *question = import_member(im, r, "question");
    const char *subject = import_member(im, r, "subject");
    struct ask q = {.id = import_member(im, r, "id"), .category = subject};
    struct text t;
    char *plain;

    if (!question || !subject || !*question || !*subject)
        return import_fail(im, r, "has no \"question\" or \"subject\"");
    if (!take_list(im, r, field(r, "choices"), &q)) return false;
    if (q.choices != 4) return import_fail(im, r, "has %d choices, and not 4", q.choices);
    if (!take_number(im, r, "answer", 0, 4, &q)) return false;
    plain = mem_strdup(subject, im->e);
    for (char *c = plain; c && *c; c++)
        if (*c == '_') *c = ' ';
    t = text_trimmed((struct text){(char *)(uintptr_t)question, strlen(question)});
    if (plain)
        q.context =
            import_text(im,
                        "The following are multiple choice questions (with answers) about "
                        "%s.\n\n%.*s\nA. %s\nB. %s\nC. %s\nD. %s\nAnswer:",
                        plain, (int)t.n, t.s, q.choice[0], q.choice[1], q.choice[2], q.choice[3]);
    free(plain);
    memcpy(q.choice, letters, sizeof letters);
    return put(im, r, &q);
}
