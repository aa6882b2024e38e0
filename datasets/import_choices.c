/* import_choices.c - benchmarks of texts, whose choices are scored by likelihood: contexts and choices as
 * the task files of lm-evaluation-harness 0.4.13 make them of a record, without examples before it. Records
 * have the fields of the original files, or of the hub's rows where these differ. */
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

    if (a->id)
        snprintf(id, sizeof id, "%s/%s", im->task->name, a->id);
    else /* the records of most of these have none */
        snprintf(id, sizeof id, "%s/%lld", im->task->name, (long long)im->records);
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

static bool put(struct import *im, const struct record *r, const struct ask *a)
{
    const int n = a->n_contexts ? a->n_contexts : a->choices;
    cJSON *o;
    char *text;

    if (im->e->msg[0]) return false;
    if (!a->context) return import_fail(im, r, "the question has no text");
    if (a->id && strlen(a->id) > 200)
        return import_fail(im, r, "the question's id is longer than 200 bytes");
    if (n < 2) return import_fail(im, r, "has %d choices: at least 2 are needed", n);
    for (int i = 0; i < a->choices; i++)
        if (!*a->choice[i]) return import_fail(im, r, "choice %d is empty", i);
    if (a->label < 0 || a->label >= n)
        return import_fail(
            im, r,
            "no choice is its answer: where the answers of a part are not published, "
            "as of most \"test\" parts, nothing can be scored here");
    o = line_of(im, a);
    text = o ? jsonc_print(o, false, im->e) : NULL;
    cJSON_Delete(o);
    if (!text) return false;
    fprintf(im->list.fp, "%s\n", text); /* commit checks it */
    free(text);
    im->written++;
    return true;
}

/* A number, or its digits in a string; -1: neither. */
static int number_of(const cJSON *item)
{
    char *end;
    long n;

    if (cJSON_IsNumber(item)) return item->valueint;
    if (!cJSON_IsString(item) || !*item->valuestring) return -1;
    n = strtol(item->valuestring, &end, 10);
    return *end || n < 0 || n > IMPORT_CHOICES ? -1 : (int)n;
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

/* Choices that have labels, of which one is the key: {"text": [], "label": []}, or a list of {"text",
 * "label"}. */
static bool take_labelled(struct import *im, const struct record *r, const cJSON *choices,
                          struct ask *a)
{
    const cJSON *texts = cJSON_GetObjectItemCaseSensitive(choices, "text"), *item;
    const cJSON *label = cJSON_GetObjectItemCaseSensitive(choices, "label");
    const char *key = import_member(im, r, "answerKey");

    if (texts && !take_list(im, r, texts, a)) return false;
    a->label = -1;
    label = texts ? (label ? label->child : NULL) : NULL;
    while (key && *key == ' ') /* as openbookqa's task does */
        key++;
    for (int i = 0; texts && label; label = label->next, i++)
        if (key && cJSON_IsString(label) && strcmp(label->valuestring, key) == 0 && a->label < 0)
            a->label = i;
    if (texts) return true;
    cJSON_ArrayForEach(item, choices)
    {
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(item, "text");
        label = cJSON_GetObjectItemCaseSensitive(item, "label");
        if (!cJSON_IsString(text) || !cJSON_IsString(label) || a->choices == IMPORT_CHOICES)
            return import_fail(im, r, "a choice needs \"text\" and \"label\", up to %d of them",
                               IMPORT_CHOICES);
        if (key && a->label < 0 && strcmp(label->valuestring, key) == 0) a->label = a->choices;
        a->choice[a->choices++] = text->valuestring;
    }
    return true;
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
    struct ask q = {.id = import_member(im, r, "ind"), .label = number_of(field(r, "label"))};

    if (!take_list(im, r, field(r, "endings"), &q)) return false;
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
                    .choices = 2,
                    .label = number_of(field(r, "label"))};

    if (!q.choice[0] || !q.choice[1]) return import_fail(im, r, "\"sol1\" or \"sol2\" is missing");
    if (goal) q.context = import_text(im, "Question: %s\nAnswer:", goal);
    return put(im, r, &q);
}

/* Each option in the gap makes a context; what follows the gap is scored behind both. */
bool import_winogrande(struct import *im, const struct record *r)
{
    const char *sentence = import_member(im, r, "sentence");
    const char *gap = sentence ? strchr(sentence, '_') : NULL;
    const char *option[] = {import_member(im, r, "option1"), import_member(im, r, "option2")};
    struct ask q = {.id = import_member(im, r, "qID"),
                    .n_contexts = 2,
                    .label = number_of(field(r, "answer")) - 1};
    struct text rest;

    if (!option[0] || !option[1])
        return import_fail(im, r, "\"option1\" or \"option2\" is missing");
    if (!gap) return import_fail(im, r, "\"sentence\" has no gap, which is \"_\"");
    for (int i = 0; i < 2; i++) {
        q.contexts[i] = import_text(im, "%.*s%s", (int)(gap - sentence), sentence, option[i]);
        if (!q.contexts[i]) return false;
    }
    rest = text_trimmed((struct text){(char *)(uintptr_t)gap + 1, strlen(gap + 1)});
    q.context = import_text(im, "%.*s", (int)rest.n, rest.s);
    return put(im, r, &q);
}

bool import_mmlu(struct import *im, const struct record *r)
{
    static const char *const letters[] = {"A", "B", "C", "D"};
    const char *question = import_member(im, r, "question");
    const char *subject = import_member(im, r, "subject");
    struct ask q = {.id = import_member(im, r, "id"),
                    .category = subject,
                    .label = number_of(field(r, "answer"))};
    struct text t;
    char *plain;

    if (!question || !subject) return import_fail(im, r, "has no \"question\" or \"subject\"");
    if (!take_list(im, r, field(r, "choices"), &q)) return false;
    if (q.choices != 4) return import_fail(im, r, "has %d choices, and not 4", q.choices);
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
