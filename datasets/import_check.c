/* import_check.c - what would make a set's score another than the benchmark's, or none: refused
 * here, where the file and the record are known, and not after hours of answers. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/slots.h"
#include "data/metric/metric.h"
#include "data/template.h"
#include "datasets/import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Questions by id, and what counts together by its name. */
struct known {
    char *name, *where; /* "FILE:LINE" of the first */
    int64_t rows, options;
    bool question; /* of turned rows: the one that is not */
};
struct known_list {
    struct known *v; /* [n] */
    size_t n, cap;
    struct slots slots;
};
struct import_checks {
    struct known_list ids, groups;
};

static struct known *find(const struct known_list *l, const char *name)
{
    const uint64_t hash = hash_fnv(name, strlen(name));
    uint64_t step = 0;
    int64_t i;

    while ((i = slots_next(&l->slots, hash, &step)) >= 0)
        if (strcmp(l->v[i].name, name) == 0) return &l->v[i];
    return NULL;
}

static char *where(const struct record *r, struct err *e)
{
    struct jsonc_place at;

    if (!r->doc) return mem_printf(e, "%s:%" PRId64, r->file, r->line);
    at = jsonc_item_place(r->doc, r->o);
    return mem_printf(e, "%s:%" PRId64 ":%" PRId64, r->file, at.line, at.col);
}

/* A new entry; NULL: out of memory. */
static struct known *add(struct known_list *l, const char *name, const struct record *r,
                         struct err *e)
{
    struct known *k;

    if (!mem_grow(&l->v, &l->cap, l->n + 1, sizeof *l->v, e) ||
        !slots_reserve(&l->slots, (int64_t)l->n + 1, e))
        return NULL;
    k = &l->v[l->n];
    *k = (struct known){.name = mem_strdup(name, e), .where = where(r, e)};
    slots_put(&l->slots, hash_fnv(name, strlen(name)), (int64_t)l->n++);
    return k->name && k->where ? k : NULL;
}

static bool open_checks(struct import *im)
{
    if (!im->checks) im->checks = mem_new(1, sizeof *im->checks, "what is known", im->e);
    return im->checks;
}

static void free_list(struct known_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->v[i].name);
        free(l->v[i].where);
    }
    free(l->v);
    slots_free(&l->slots);
}

void import_check_close(struct import *im)
{
    if (!im->checks) return;
    free_list(&im->checks->ids);
    free_list(&im->checks->groups);
    free(im->checks);
    im->checks = NULL;
}

bool import_check_known(const struct import *im, const char *id)
{
    return im->checks && find(&im->checks->ids, id);
}

/* ---- one question ---- */

bool import_check_id(struct import *im, const struct record *r, const char *id)
{
    const struct known *before;

    if (!id) return import_fail(im, r, "the question has no id");
    if (strlen(id) > 200) return import_fail(im, r, "the question's id is longer than 200 bytes");
    if (metric_find(im->task->metric)->index && (!*id || id[strspn(id, "0123456789")]))
        return import_fail(im, r, "\"index\" is \"%.40s\": it must be the row's number", id);
    if (!open_checks(im)) return false;
    before = find(&im->checks->ids, id);
    if (before)
        return import_fail(im, r, "question \"%s\" is there twice, first at %s", id, before->where);
    return add(&im->checks->ids, id, r, im->e);
}

/* A picture's mark is read as one wherever it stands. */
static bool check_text(struct import *im, const struct record *r, const struct question *q)
{
    if (!q->prompt) return import_fail(im, r, "question \"%s\" has no text", q->id);
    return !strstr(q->prompt, IMAGE_MARK) ||
           import_fail(im, r,
                       "question \"%s\" has \"" IMAGE_MARK
                       "\" in its text, which would be read as one more picture",
                       q->id);
}

static bool is_below(const char *name)
{
    if (*name == '/') return false;
    for (;;) {
        const size_t n = strcspn(name, "/");
        if (n == 2 && memcmp(name, "..", 2) == 0) return false;
        if (!name[n]) return true;
        name += n + 1;
    }
}

/* A set must not reach for files elsewhere. */
static bool check_path(struct import *im, const struct record *r, const char *name)
{
    if (!*name) return import_fail(im, r, "the picture's name is empty");
    if (strlen(name) > 500)
        return import_fail(im, r, "the picture's name is longer than 500 bytes");
    return is_below(name) ||
           import_fail(im, r, "picture \"%.200s\": a path below --images is needed", name);
}

static bool check_pictures(struct import *im, const struct record *r, const struct question *q)
{
    if (!q->picture && !q->inside.s && !im->task->text)
        return import_fail(im, r, "question \"%s\" names no picture", q->id);
    if (q->picture && !check_path(im, r, q->picture)) return false;
    for (int i = 0; i < IMPORT_PICTURES - 1 && q->more[i]; i++)
        if (!check_path(im, r, q->more[i])) return false;
    im->beside = im->beside || q->picture;
    im->inside = im->inside || q->inside.s;
    return !im->beside || !im->inside ||
           import_fail(im, r,
                       "some pictures are in a table and others lie beside it: make two sets");
}

/* The answer to a question with options is the letter of one. */
static bool check_letter(struct import *im, const struct record *r, const struct question *q)
{
    const int k = q->answer[0] - 'A';
    char letters[2 * IMPORT_CHOICES + 1] = "";
    size_t n = 0;

    if (!q->choices) return true;
    if (!q->answer[1] && k >= 0 && k < q->choices && q->choice[k]) return true;
    for (int i = 0; i < q->choices; i++)
        if (q->choice[i]) n += (size_t)sprintf(letters + n, " %c", 'A' + i);
    return import_fail(im, r, "question \"%s\": its answer is \"%.40s\", and its options are%s",
                       q->id, q->answer, n ? letters : " missing");
}

static bool check_answers(struct import *im, const struct record *r, const struct question *q)
{
    const cJSON *item;

    if (!q->answer || (!*q->answer && !q->answers))
        return import_fail(im, r,
                           "question \"%s\" has no answer: where the answers of a part are not "
                           "published, as of most \"test\" parts, nothing can be scored here",
                           q->id);
    cJSON_ArrayForEach(item, q->answers)
    {
        if (!cJSON_IsString(item))
            return import_fail(im, r, "question \"%s\": an answer is no string", q->id);
    }
    return check_letter(im, r, q);
}

static struct text borrowed(const char *s)
{
    return (struct text){(char *)(uintptr_t)s, strlen(s)};
}

/* Scored once: the metric says what it cannot take, such as a reference that is neither yes nor
 * no. */
static bool check_metric(struct import *im, const struct record *r, const struct question *q)
{
    const int n = q->answers ? cJSON_GetArraySize(q->answers) : 1;
    struct text *all = mem_new((size_t)n, sizeof *all, "answers", im->e);
    struct text choices[IMPORT_CHOICES] = {{0}};
    struct metric_result result = {0};
    const cJSON *item;
    int i = 0;
    bool ok;

    if (!all) return false;
    all[0] = borrowed(q->answer);
    cJSON_ArrayForEach(item, q->answers)
    {
        all[i++] = borrowed(item->valuestring);
    }
    for (i = 0; i < q->choices; i++)
        if (q->choice[i]) choices[i] = borrowed(q->choice[i]);
    const struct metric_sample s = {.answer = all[0],
                                    .references = all,
                                    .n_references = (size_t)n,
                                    .choices = choices,
                                    .n_choices = (size_t)q->choices,
                                    .question = borrowed(q->prompt)};
    ok = metric_score(metric_find(im->task->metric), &s, &result, im->e);
    if (!ok && !im->e->machine)
        import_fail(im, r, "question \"%s\", answer \"%.40s\": %s", q->id, q->answer, im->e->msg);
    metric_result_free(&result);
    free(all);
    return ok;
}

bool import_check(struct import *im, const struct record *r, const struct question *q)
{
    return import_check_id(im, r, q->id) && check_text(im, r, q) && check_pictures(im, r, q) &&
           check_answers(im, r, q) && check_metric(im, r, q);
}

/* ---- what counts together ---- */

bool import_check_written(struct import *im, const struct record *r, const struct question *q)
{
    const bool index = metric_find(im->task->metric)->index;
    struct known *k;

    if (!q->group) return true;
    k = find(&im->checks->groups, q->group);
    if (!k) k = add(&im->checks->groups, q->group, r, im->e);
    if (!k) return false;
    k->rows++;
    k->options = 0;
    for (int i = 0; i < q->choices; i++)
        k->options += q->choice[i] != NULL;
    k->question = k->question || (index && strtoll(q->id, NULL, 10) < METRIC_TURN);
    return true;
}

bool import_check_set(struct import *im)
{
    const struct metric *m = metric_find(im->task->metric);

    for (size_t i = 0; im->checks && i < im->checks->groups.n; i++) {
        const struct known *k = &im->checks->groups.v[i];
        if (m->pairs && k->rows != 2)
            return err_set(im->e,
                           "%s: \"%s\" has %" PRId64 " question%s: two about each picture are "
                           "scored together, are all files and lines there?",
                           k->where, k->name, k->rows, plural(k->rows));
        if (m->index && !k->question)
            return err_set(im->e,
                           "%s: a row of question %s with its options turned, and the row with "
                           "index %s is not there: they are scored together",
                           k->where, k->name, k->name);
        im->few_rows += m->index && k->rows < k->options;
    }
    return true;
}
