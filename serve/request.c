/* request.c - see request.h. */
#include "serve/request.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/text.h"
#include "serve/request_parts.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool fault_set(struct fault *f, int status, const char *param, const char *fmt, ...)
{
    char msg[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    f->status = status;
    text_plain(f->param, sizeof f->param, param, strlen(param)); /* cut between characters */
    return err_set(&f->why, "%s%s%s", param, *param ? ": " : "", msg);
}

bool fault_of_machine(struct fault *f)
{
    f->status = 500;
    return false;
}

/* ---- plain fields ---- */

struct limits {
    double min, max;
    bool whole;
};

static bool number(const cJSON *item, struct limits l, double *out, struct fault *f)
{
    const double v = cJSON_IsNumber(item) ? item->valuedouble : NAN;

    if (!(v >= l.min && v <= l.max) || (l.whole && v != floor(v)))
        return fault_set(f, 400, item->string, "a %snumber from %.16g to %.16g is needed",
                         l.whole ? "whole " : "", l.min, l.max);
    *out = v;
    return true;
}

static bool boolean(const cJSON *item, bool *out, struct fault *f)
{
    *out = cJSON_IsTrue(item);
    return cJSON_IsBool(item) || fault_set(f, 400, item->string, "true or false is needed");
}

static bool read_model(struct request *q, const cJSON *item, struct fault *f)
{
    if (!cJSON_IsString(item)) return fault_set(f, 400, item->string, "a text is needed");
    free(q->model);
    q->model = mem_strdup(item->valuestring, &f->why);
    return q->model || fault_of_machine(f);
}

static bool read_max(struct request *q, const cJSON *item, struct fault *f)
{
    double v = 0;

    if (!number(item, (struct limits){1, 1 << 20, true}, &v, f)) return false;
    if (q->max_new && q->max_new != (int64_t)v)
        return fault_set(f, 400, item->string,
                         "max_tokens and max_completion_tokens mean the same, and differ");
    q->max_new = (int64_t)v;
    return true;
}

static bool read_temperature(struct request *q, const cJSON *item, struct fault *f)
{
    return number(item, (struct limits){0, 2, false}, &q->temperature, f);
}

static bool read_top_p(struct request *q, const cJSON *item, struct fault *f)
{
    return number(item, (struct limits){0, 1, false}, &q->top_p, f);
}

static bool read_seed(struct request *q, const cJSON *item, struct fault *f)
{
    double v = 0;

    if (!number(item, (struct limits){0, 9007199254740991.0, true}, &v, f)) return false;
    q->seed = (int64_t)v;
    return true;
}

static bool add_stop(struct request *q, const cJSON *item, struct fault *f)
{
    if (q->n_stops == REQUEST_STOPS)
        return fault_set(f, 400, "stop", "at most %d texts", REQUEST_STOPS);
    if (!cJSON_IsString(item) || !*item->valuestring)
        return fault_set(f, 400, "stop", "a text that is not empty, or a list of such");
    q->stops[q->n_stops] = mem_strdup(item->valuestring, &f->why);
    return q->stops[q->n_stops] ? ++q->n_stops > 0 : fault_of_machine(f);
}

static bool read_stop(struct request *q, const cJSON *item, struct fault *f)
{
    const cJSON *each;

    if (!cJSON_IsArray(item)) return add_stop(q, item, f);
    cJSON_ArrayForEach(each, item)
    {
        if (!add_stop(q, each, f)) return false;
    }
    return true;
}

static bool read_stream(struct request *q, const cJSON *item, struct fault *f)
{
    return boolean(item, &q->stream, f);
}

static bool read_stream_options(struct request *q, const cJSON *item, struct fault *f)
{
    const cJSON *each;

    if (!cJSON_IsObject(item)) return fault_set(f, 400, item->string, "an object is needed");
    cJSON_ArrayForEach(each, item)
    {
        if (strcmp(each->string, "include_usage") != 0)
            return fault_set(f, 400, "stream_options", "\"%.40s\" is not known", each->string);
        if (!boolean(each, &q->usage, f)) return false;
    }
    return true;
}

static const struct field {
    const char *name;
    bool (*read)(struct request *q, const cJSON *item, struct fault *f);
} fields[] = {
    {"model", read_model},
    {"messages", request_messages},
    {"max_tokens", read_max},
    {"max_completion_tokens", read_max},
    {"temperature", read_temperature},
    {"top_p", read_top_p},
    {"seed", read_seed},
    {"stop", read_stop},
    {"stream", read_stream},
    {"stream_options", read_stream_options},
};

/* ---- fields that are not implemented ---- */

static bool is_false(const cJSON *item)
{
    return cJSON_IsFalse(item);
}

static bool is_zero(const cJSON *item)
{
    return cJSON_IsNumber(item) && item->valuedouble == 0;
}

static bool is_one(const cJSON *item)
{
    return cJSON_IsNumber(item) && item->valuedouble == 1;
}

static bool is_empty(const cJSON *item)
{
    return (cJSON_IsArray(item) || cJSON_IsObject(item)) && !item->child;
}

static bool is_text(const cJSON *item)
{
    return cJSON_IsString(item) && strcmp(item->valuestring, "text") == 0;
}

static bool is_text_format(const cJSON *item)
{
    return cJSON_IsObject(item) && item->child && !item->child->next &&
           is_text(cJSON_GetObjectItem(item, "type"));
}

static bool is_text_list(const cJSON *item)
{
    return cJSON_IsArray(item) && item->child && !item->child->next && is_text(item->child);
}

static bool is_none(const cJSON *item)
{
    return cJSON_IsString(item) && strcmp(item->valuestring, "none") == 0;
}

static bool is_anything(const cJSON *item)
{
    (void)item;
    return true;
}

/* What such a field may be: it asks for nothing then. */
static const struct neutral {
    const char *name;
    bool (*is)(const cJSON *item);
} neutrals[] = {
    {"n", is_one},
    {"logprobs", is_false},
    {"top_logprobs", is_zero},
    {"presence_penalty", is_zero},
    {"frequency_penalty", is_zero},
    {"logit_bias", is_empty},
    {"response_format", is_text_format},
    {"modalities", is_text_list},
    {"tools", is_empty},
    {"tool_choice", is_none},
    {"functions", is_empty},
    {"function_call", is_none},
    {"user", is_anything},
    {"metadata", is_anything},
    {"store", is_anything},
    {"service_tier", is_anything},
    {"safety_identifier", is_anything},
    {"prompt_cache_key", is_anything},
    {"parallel_tool_calls", is_anything},
};

static bool read_field(struct request *q, const cJSON *item, struct fault *f)
{
    if (cJSON_IsNull(item)) return true;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(item->string, fields[i].name) == 0) return fields[i].read(q, item, f);
    for (size_t i = 0; i < sizeof neutrals / sizeof *neutrals; i++) {
        if (strcmp(item->string, neutrals[i].name) != 0) continue;
        return neutrals[i].is(item) ||
               fault_set(f, 400, item->string, "is not supported: leave it out");
    }
    return fault_set(f, 400, item->string, "is not a known field");
}

static bool read_fields(struct request *q, const cJSON *root, struct fault *f)
{
    const cJSON *item;

    if (!cJSON_IsObject(root)) return fault_set(f, 400, "", "the body must be an object");
    cJSON_ArrayForEach(item, root)
    {
        if (!read_field(q, item, f)) return false;
    }
    if (!q->talk.json) return fault_set(f, 400, "messages", "is missing");
    if (q->usage && !q->stream)
        return fault_set(f, 400, "stream_options", "is for a stream, and stream is false");
    if (q->model) return true;
    q->model = mem_strdup("", &f->why);
    return q->model || fault_of_machine(f);
}

bool request_parse(struct request *q, const char *text, size_t n, struct fault *f)
{
    const struct jsonc_rules rules = {
        .plain = true, .max_values = REQUEST_VALUES, .max_depth = REQUEST_DEPTH};
    struct jsonc doc;
    bool ok;

    *q = (struct request){.top_p = 1, .seed = -1};
    *f = (struct fault){0};
    if (n > REQUEST_BYTES)
        return fault_set(f, 413, "", "a body of %zu bytes, at most %d are read", n, REQUEST_BYTES);
    if (!jsonc_parse_as(&doc, "body", text, n, &rules, &f->why)) {
        f->status = f->why.machine ? 500 : 400;
        return false;
    }
    ok = read_fields(q, doc.root, f);
    jsonc_close(&doc);
    if (!ok && f->why.machine) f->status = 500;
    return ok;
}

void request_free(struct request *q)
{
    talk_end(&q->talk);
    for (int64_t i = 0; i < q->n_pictures; i++)
        free((uint8_t *)(uintptr_t)q->pictures[i].data);
    for (size_t i = 0; i < q->n_stops; i++)
        free(q->stops[i]);
    free(q->model);
    memset(q, 0, sizeof *q);
}
