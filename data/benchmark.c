/* benchmark.c - see benchmark.h. */
#include "data/benchmark.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool benchmark_metric(const char *name, const struct metric **m)
{
    *m = metric_find(name);
    return *m || strcmp(name, "plain") == 0;
}

void benchmark_names(char out[BENCHMARK_NAMES])
{
    size_t n = (size_t)snprintf(out, BENCHMARK_NAMES, "plain");

    for (const struct metric *m = metrics; m->name; m++)
        n += (size_t)snprintf(out + n, BENCHMARK_NAMES - n, ", %s", m->name);
    CHECK(n < BENCHMARK_NAMES);
}

/* ---- reading ---- */

/* The object being read. */
struct source {
    const struct jsonc *doc;
    const cJSON *object;
    struct err *e;
};

static const cJSON *find(const struct source *s, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(s->object, key);

    return cJSON_IsNull(item) ? NULL : item;
}

static bool read_text(const struct source *s, const cJSON *item, struct text *out)
{
    out->s = jsonc_string(s->doc, item, &out->n, s->e);
    return out->s;
}

/* A string, or a number as it is spelled. */
static bool read_name(const struct source *s, const char *key, struct text *out)
{
    const cJSON *item = find(s, key);

    if (!item) return true;
    if (cJSON_IsString(item)) return read_text(s, item, out);
    if (!cJSON_IsNumber(item))
        return jsonc_fail(s->doc, item, s->e, "\"%s\" must be a string or a number", key);
    out->s = jsonc_spelling(s->doc, item, s->e);
    out->n = out->s ? strlen(out->s) : 0;
    return out->s;
}

/* A list of strings; `gaps`: or of nulls. */
static bool read_list(const struct source *s, const char *key, bool gaps, struct text **out,
                      size_t *n)
{
    const cJSON *list = find(s, key), *item;
    const size_t size = (size_t)cJSON_GetArraySize(list);

    if (!list) return true;
    if (!cJSON_IsArray(list))
        return jsonc_fail(s->doc, list, s->e, "\"%s\" must be a list of strings", key);
    *out = mem_new(size, sizeof **out, "answers and choices", s->e);
    if (!*out) return false;
    *n = size;
    size_t i = 0;
    cJSON_ArrayForEach(item, list)
    {
        struct text *to = &(*out)[i++];
        if (gaps && cJSON_IsNull(item)) continue;
        if (!cJSON_IsString(item))
            return jsonc_fail(s->doc, item, s->e, "\"%s\" must be a list of strings%s", key,
                              gaps ? ", or null where an option is missing" : "");
        if (!read_text(s, item, to)) return false;
    }
    return true;
}

static bool read_categories(const struct source *s, struct benchmark *b)
{
    const cJSON *category = find(s, "category"), *item;

    if (!category) return true;
    if (cJSON_IsString(category)) return read_text(s, category, &b->category[b->n_categories++]);
    if (!cJSON_IsArray(category) || cJSON_GetArraySize(category) > BENCHMARK_CATEGORIES)
        return jsonc_fail(s->doc, category, s->e,
                          "\"category\" must be a string or a list of up to %d",
                          BENCHMARK_CATEGORIES);
    cJSON_ArrayForEach(item, category)
    {
        if (!cJSON_IsString(item))
            return jsonc_fail(s->doc, item, s->e, "\"category\" must be a list of strings");
        if (!read_text(s, item, &b->category[b->n_categories++])) return false;
    }
    return true;
}

static bool read_metric(const struct source *s, const char *instead, struct benchmark *b)
{
    const cJSON *item = find(s, "metric");
    char names[BENCHMARK_NAMES];

    if (instead) {
        CHECK(benchmark_metric(instead, &b->metric));
        return true;
    }
    if (!item) return true;
    if (cJSON_IsString(item) && benchmark_metric(item->valuestring, &b->metric)) return true;
    benchmark_names(names);
    return jsonc_refuse(s->doc, item, s->e, "\"metric\"", "%s", names);
}

bool benchmark_read(struct benchmark *b, const struct jsonc *doc, const cJSON *object,
                    const char *instead, struct err *e)
{
    const struct source s = {doc, object, e};

    memset(b, 0, sizeof *b);
    if (!read_metric(&s, instead, b)) return false;
    if (!b->metric) return true;
    if (read_list(&s, "answers", false, &b->answers, &b->n_answers) &&
        read_list(&s, "choices", true, &b->choices, &b->n_choices) && read_categories(&s, b) &&
        read_name(&s, "group", &b->group) && read_name(&s, "question_id", &b->question_id) &&
        read_name(&s, "question", &b->question))
        return true;
    benchmark_free(b);
    return false;
}

/* ---- from the turns ---- */

static bool copy(struct text *to, struct text from, struct err *e)
{
    to->n = from.n;
    to->s = mem_strndup(from.s ? from.s : "", from.n, e);
    return to->s;
}

/* Without the marks of pictures, and the line break behind each. */
static void drop_marks(struct text *t)
{
    const size_t mark = strlen(IMAGE_MARK);
    char *at;

    while ((at = memmem(t->s, t->n, IMAGE_MARK, mark)) != NULL) {
        const char *end = t->s + t->n;
        char *from = at + mark;
        if (from < end && *from == '\n') from++;
        memmove(at, from, (size_t)(end - from));
        t->n -= (size_t)(from - at);
    }
}

/* The number at the end of the question's id; -1 if there is none that is small enough. */
static int64_t row_index(const struct benchmark *b)
{
    const struct text *t = &b->question_id;
    int64_t index = 0;
    size_t at = t->n;

    while (at && t->s[at - 1] >= '0' && t->s[at - 1] <= '9')
        at--;
    if (at == t->n || t->n - at > 15) return -1;
    for (; at < t->n; at++)
        index = 10 * index + (t->s[at] - '0');
    return index;
}

/* An answer shows whether references and options are what the metric can take. */
static bool check(const struct benchmark *b, struct err *e)
{
    struct metric_result r;

    if (b->metric->index && row_index(b) < 0)
        return err_set(e,
                       "metric \"%s\": \"question_id\" (or the id) must end in the row's index, a "
                       "number",
                       b->metric->name);
    if (b->metric->pairs && !b->group.s)
        return err_set(e,
                       "metric \"%s\": \"group\" is missing: what the questions of one picture "
                       "share",
                       b->metric->name);
    if (!benchmark_score(b, b->question, b->question, &r, e)) return false;
    metric_result_free(&r);
    return true;
}

bool benchmark_complete(struct benchmark *b, const struct benchmark_turns *turns, struct err *e)
{
    if (!b->metric) return true;
    if (!b->n_answers && turns->answer.s) {
        free(b->answers);
        b->answers = mem_new(1, sizeof *b->answers, "an answer", e);
        if (!b->answers) return false;
        b->n_answers = 1;
        if (!copy(&b->answers[0], turns->answer, e)) return false;
    }
    if (!b->question_id.s && turns->id.s && !copy(&b->question_id, turns->id, e)) return false;
    if (b->metric->question && !b->n_choices && !b->question.s) {
        if (!copy(&b->question, turns->question, e)) return false;
        drop_marks(&b->question);
    }
    return check(b, e);
}

/* ---- scoring ---- */

bool benchmark_score(const struct benchmark *b, struct text expected, struct text answer,
                     struct metric_result *r, struct err *e)
{
    const struct text got = text_trimmed(answer), want = text_trimmed(expected);
    const struct metric_sample s = {.answer = got,
                                    .references = b->answers,
                                    .n_references = b->n_answers,
                                    .choices = b->choices,
                                    .n_choices = b->n_choices,
                                    .question = b->question};

    if (b->metric) return metric_score(b->metric, &s, r, e);
    *r = (struct metric_result){.score = got.n == want.n && memcmp(got.s, want.s, want.n) == 0};
    return true;
}

const struct metric *benchmark_figures(const struct metric *m)
{
    return m ? m : metric_find("exact");
}

struct metric_item benchmark_item(const struct benchmark *b, const struct metric_result *r,
                                  struct text picture, struct text id)
{
    const struct text by = b->group.s ? b->group : picture.n ? picture : id;
    const int64_t cluster = (int64_t)hash_fnv(by.s, by.n);

    return (struct metric_item){.score = r->score,
                                .undecided = !r->extracted.s,
                                .said = r->said,
                                .wanted = r->wanted,
                                .index = row_index(b),
                                .group = cluster,
                                .cluster = cluster,
                                .kind = b->n_categories ? b->category[0].s : NULL};
}

uint64_t benchmark_unit(const struct benchmark *b)
{
    const int64_t question = b->metric && b->metric->index ? row_index(b) % METRIC_TURN : 0;

    if (!b->metric) return 0;
    if (b->metric->index) return hash_fnv(&question, sizeof question);
    return b->metric->pairs ? hash_fnv(b->group.s, b->group.n) : 0;
}

/* ---- writing ---- */

static bool add_text(cJSON *object, const char *key, struct text t)
{
    return !t.s || cJSON_AddItemToObject(object, key, jsonc_new_string(t.s, t.n));
}

static bool add_list(cJSON *object, const char *key, const struct text *v, size_t n)
{
    cJSON *list = n ? cJSON_AddArrayToObject(object, key) : NULL;

    if (n && !list) return false;
    for (size_t i = 0; i < n; i++)
        if (!cJSON_AddItemToArray(list,
                                  v[i].s ? jsonc_new_string(v[i].s, v[i].n) : cJSON_CreateNull()))
            return false;
    return true;
}

bool benchmark_write(const struct benchmark *b, cJSON *object)
{
    if (!b->metric) return true;
    return cJSON_AddStringToObject(object, "metric", b->metric->name) &&
           add_list(object, "answers", b->answers, b->n_answers) &&
           add_list(object, "choices", b->choices, b->n_choices) &&
           add_list(object, "category", b->category, b->n_categories) &&
           add_text(object, "group", b->group) && add_text(object, "question_id", b->question_id) &&
           add_text(object, "question", b->question);
}

static void free_list(struct text *v, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        free(v[i].s);
}

void benchmark_free(struct benchmark *b)
{
    free_list(b->answers, b->n_answers);
    free_list(b->choices, b->n_choices);
    free_list(b->category, b->n_categories);
    free(b->answers);
    free(b->choices);
    free(b->group.s);
    free(b->question_id.s);
    free(b->question.s);
    memset(b, 0, sizeof *b);
}
