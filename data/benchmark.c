/* benchmark.c - see benchmark.h. */
#include "data/benchmark.h"
#include "base/hash.h"
#include "base/mem.h"
#include "data/template.h"

#include <math.h>
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
        if (!m->measured) n += (size_t)snprintf(out + n, BENCHMARK_NAMES - n, ", %s", m->name);
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

/* ---- choices ---- */

static bool read_label(const struct source *s, struct benchmark *b)
{
    const cJSON *item = find(s, "label");

    if (!item) return jsonc_fail(s->doc, s->object, s->e, "\"label\" is missing: the right choice");
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) ||
        item->valuedouble >= (double)b->n_choices ||
        item->valuedouble != (double)(int64_t)item->valuedouble)
        return jsonc_fail(s->doc, item, s->e,
                          "\"label\" must be the number of the right one of %zu choices, from 0",
                          b->n_choices);
    b->label = (int64_t)item->valuedouble;
    return true;
}

/* As many copies of the continuation as there are contexts. */
static bool repeat_choice(const struct source *s, struct benchmark *b)
{
    const cJSON *item = find(s, "continuation");

    if (!cJSON_IsString(item))
        return jsonc_fail(s->doc, item ? item : s->object, s->e,
                          "\"contexts\" needs \"continuation\", a string");
    b->choices = mem_new(b->n_contexts, sizeof *b->choices, "choices", s->e);
    for (; b->choices && b->n_choices < b->n_contexts; b->n_choices++)
        if (!read_text(s, item, &b->choices[b->n_choices])) return false;
    return b->choices;
}

static bool read_context(const struct source *s, struct benchmark *b)
{
    const cJSON *context = find(s, "context"), *question = find(s, "question");
    const cJSON *one = context ? context : question;

    if (find(s, "contexts")) {
        if (one)
            return jsonc_fail(s->doc, one, s->e, "has both \"contexts\" and \"%s\"", one->string);
        return read_list(s, "contexts", false, &b->contexts, &b->n_contexts) && repeat_choice(s, b);
    }
    if (context && question)
        return jsonc_fail(s->doc, question, s->e, "has both \"context\" and \"question\"");
    if (!cJSON_IsString(one))
        return jsonc_fail(s->doc, one ? one : s->object, s->e,
                          "choices need a \"context\" or \"question\", a string");
    b->contexts = mem_new(1, sizeof *b->contexts, "a context", s->e);
    b->n_contexts = 1;
    return b->contexts && read_text(s, one, b->contexts) &&
           read_list(s, "choices", false, &b->choices, &b->n_choices);
}

static bool read_logp(const struct source *s, struct benchmark *b)
{
    const cJSON *list = find(s, "logp"), *item;
    size_t n = 0;

    if (!read_list(s, "choices", false, &b->choices, &b->n_choices)) return false;
    if (!cJSON_IsArray(list) || (size_t)cJSON_GetArraySize(list) != b->n_choices)
        return jsonc_fail(s->doc, list ? list : s->object, s->e,
                          "\"logp\" must be a list of %zu numbers, one for each of \"choices\"",
                          b->n_choices);
    b->logp = mem_new(b->n_choices, sizeof *b->logp, "choices", s->e);
    cJSON_ArrayForEach(item, list)
    {
        if (!b->logp) break;
        if (!cJSON_IsNumber(item))
            return jsonc_fail(s->doc, item, s->e, "\"logp\" must be a list of numbers");
        b->logp[n++] = item->valuedouble;
    }
    return b->logp;
}

static bool check_choices(const struct source *s, const struct benchmark *b)
{
    const cJSON *metric = find(s, "metric");

    if (metric && (!cJSON_IsString(metric) || strcmp(metric->valuestring, "choice") != 0))
        return jsonc_refuse(s->doc, metric, s->e, "\"metric\"", "choice, where there is a context");
    if (b->n_choices < 2 || b->n_choices > BENCHMARK_CHOICES)
        return jsonc_fail(s->doc, s->object, s->e, "has %zu choices: from 2 to %d are read",
                          b->n_choices, BENCHMARK_CHOICES);
    for (size_t i = 0; i < b->n_choices; i++)
        if (!b->choices[i].n) return jsonc_fail(s->doc, s->object, s->e, "choice %zu is empty", i);
    return true;
}

bool benchmark_read_choices(struct benchmark *b, const struct jsonc *doc, const cJSON *object,
                            bool line, struct err *e)
{
    const struct source s = {doc, object, e};

    memset(b, 0, sizeof *b);
    b->metric = metric_find("choice");
    if ((line ? read_logp(&s, b) : read_context(&s, b)) && check_choices(&s, b) &&
        read_label(&s, b) && read_categories(&s, b) && read_name(&s, "group", &b->group) &&
        read_name(&s, "question_id", &b->question_id))
        return true;
    benchmark_free(b);
    return false;
}

char *benchmark_choice_text(const struct benchmark *b, size_t choice, size_t *n, size_t *begin,
                            struct err *e)
{
    const struct text context = benchmark_context(b, choice), text = b->choices[choice];
    char *all = mem_new(context.n + text.n + 2, 1, "a choice", e);

    if (!all) return NULL;
    memcpy(all, context.s, context.n);
    all[context.n] = ' ';
    memcpy(all + context.n + 1, text.s, text.n);
    *n = context.n + 1 + text.n;
    for (*begin = context.n; *begin && strchr(" \t\n\r\f\v", all[*begin - 1]); --*begin) {
    }
    return all;
}

struct metric_result benchmark_choose(const struct benchmark *b, struct metric_item *item)
{
    const struct metric_choice c = metric_choose(b->logp, b->choices, b->n_choices);
    const size_t label = (size_t)b->label;

    item->by_length = c.by_length == label;
    item->by_bytes = c.by_bytes == label;
    return (struct metric_result){.score = c.taken == label, .extracted = b->choices[c.taken]};
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

    if (b->metric->measured)
        return err_set(e,
                       "metric \"%s\" is none of answers: it is taken by itself, where "
                       "evaluate.score is \"options\" or \"tokens\"",
                       b->metric->name);
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

int benchmark_letter(const struct benchmark *b)
{
    const struct text want = b->n_answers ? text_trimmed(b->answers[0]) : (struct text){0};

    return want.n == 1 && *want.s >= 'A' && *want.s <= 'Z' ? *want.s - 'A' : -1;
}

int32_t benchmark_options(const struct benchmark *b)
{
    int32_t n = 0;

    for (size_t i = 0; i < b->n_choices; i++)
        n += b->choices[i].s != NULL;
    return n;
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

/* Those of choices behind a context with the number of the right one; asked options
 * say it themselves. */
static bool add_likelihoods(cJSON *object, const struct benchmark *b)
{
    cJSON *list = b->logp ? cJSON_AddArrayToObject(object, "logp") : NULL;

    if (!b->logp) return true;
    for (size_t i = 0; list && i < b->n_choices; i++)
        if (!cJSON_AddItemToArray(list, isnan(b->logp[i]) ? cJSON_CreateNull()
                                                          : cJSON_CreateNumber(b->logp[i])))
            return false;
    return list &&
           (!b->metric->measured || cJSON_AddNumberToObject(object, "label", (double)b->label));
}

bool benchmark_write(const struct benchmark *b, cJSON *object)
{
    if (!b->metric) return true;
    return cJSON_AddStringToObject(object, "metric", b->metric->name) &&
           add_list(object, "answers", b->answers, b->n_answers) &&
           add_list(object, "choices", b->choices, b->n_choices) &&
           add_list(object, "category", b->category, b->n_categories) &&
           add_text(object, "group", b->group) && add_text(object, "question_id", b->question_id) &&
           add_text(object, "question", b->question) && add_likelihoods(object, b);
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
    free_list(b->contexts, b->n_contexts);
    free(b->contexts);
    free(b->logp);
    free(b->group.s);
    free(b->question_id.s);
    free(b->question.s);
    memset(b, 0, sizeof *b);
}
