/* reply.c - see reply.h. */
#include "serve/reply.h"
#include "base/json/jsonc.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

void reply_begin(struct reply *r, const char *model)
{
    unsigned char bytes[12] = {0};

    if (getrandom(bytes, sizeof bytes, 0) < 0) /* a name need not be unguessable */
        memcpy(bytes, &(struct timespec){.tv_nsec = clock()}, sizeof bytes);
    *r = (struct reply){.id = "chatcmpl-", .created = time(NULL), .model = model};
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(r->id + strlen(r->id), 3, "%02x", bytes[i]);
}

/* ---- parts ---- */

struct figure {
    const char *key;
    double v;
};

static bool add_figures(cJSON *o, const struct figure *rows, size_t n)
{
    for (size_t i = 0; o && i < n; i++)
        if (!cJSON_AddNumberToObject(o, rows[i].key, rows[i].v)) return false;
    return o;
}

static bool add_usage(cJSON *o, const struct answer *a)
{
    const struct figure rows[] = {{"prompt_tokens", (double)a->prompt_tokens},
                                  {"completion_tokens", (double)a->new_tokens},
                                  {"total_tokens", (double)(a->prompt_tokens + a->new_tokens)}};
    const struct figure kept = {"cached_tokens", (double)a->kept_tokens};
    cJSON *usage = cJSON_AddObjectToObject(o, "usage");

    return add_figures(usage, rows, 3) &&
           add_figures(cJSON_AddObjectToObject(usage, "prompt_tokens_details"), &kept, 1);
}

static double rate(double n, double seconds)
{
    return seconds > 0 ? n / seconds : 0;
}

/* What it took, in the words of llama.cpp's server: of the tokens that were computed. */
static bool add_timings(cJSON *o, const struct answer *a)
{
    const double prompt = (double)(a->prompt_tokens - a->kept_tokens);
    const struct figure rows[] = {
        {"cache_n", (double)a->kept_tokens},
        {"prompt_n", prompt},
        {"prompt_ms", 1e3 * a->prefill_seconds},
        {"prompt_per_second", rate(prompt, a->prefill_seconds)},
        {"predicted_n", (double)a->new_tokens},
        {"predicted_ms", 1e3 * a->decode_seconds},
        {"predicted_per_second", answer_speed(a)},
    };
    const struct figure bytes[] = {{"bytes", (double)a->cache_bytes},
                                   {"original_bytes", (double)a->original_bytes}};
    cJSON *cache;

    return add_figures(cJSON_AddObjectToObject(o, "timings"), rows, sizeof rows / sizeof *rows) &&
           (cache = cJSON_AddObjectToObject(o, "cache")) && add_figures(cache, bytes, 2) &&
           cJSON_AddStringToObject(cache, "format", a->cache_format);
}

static const char *finish(const struct answer *a)
{
    return finish_names[a->finish == FINISH_STOP ? FINISH_STOP : FINISH_LENGTH];
}

static cJSON *begin(const struct reply *r, const char *object)
{
    cJSON *o = cJSON_CreateObject();

    if (o && cJSON_AddStringToObject(o, "id", r->id) &&
        cJSON_AddStringToObject(o, "object", object) &&
        cJSON_AddNumberToObject(o, "created", (double)r->created) &&
        cJSON_AddStringToObject(o, "model", r->model))
        return o;
    cJSON_Delete(o);
    return NULL;
}

/* Its one choice, {"index": 0, NAME: {}, "finish_reason": ...}; *in: the object called NAME. */
static bool add_choice(cJSON *o, const char *name, const char *ended, cJSON **in)
{
    cJSON *list = cJSON_AddArrayToObject(o, "choices"), *choice = cJSON_CreateObject();

    if (!list || !choice || !cJSON_AddItemToArray(list, choice)) {
        cJSON_Delete(choice);
        return false;
    }
    return cJSON_AddNumberToObject(choice, "index", 0) &&
           (*in = cJSON_AddObjectToObject(choice, name)) &&
           (ended ? cJSON_AddStringToObject(choice, "finish_reason", ended)
                  : cJSON_AddNullToObject(choice, "finish_reason"));
}

static bool add_said(cJSON *o, const char *text, size_t n)
{
    cJSON *item = jsonc_new_string(text, n);

    if (item && cJSON_AddItemToObject(o, "content", item)) return true;
    cJSON_Delete(item);
    return false;
}

/* Its text, as a body or as an event; the object goes. */
static char *print(cJSON *o, bool ok, bool event, struct err *e)
{
    char *json = ok ? jsonc_print(o, false, e) : NULL, *text = json;

    if (!ok) err_set(e, "out of memory for a reply");
    if (json) text = mem_printf(e, event ? "data: %s\n\n" : "%s\n", json);
    free(json);
    cJSON_Delete(o);
    return text;
}

/* ---- replies ---- */

char *reply_answer(const struct reply *r, const struct answer *a, struct err *e)
{
    cJSON *o = begin(r, "chat.completion"), *message = NULL;
    const bool ok = o && add_choice(o, "message", finish(a), &message) &&
                    cJSON_AddStringToObject(message, "role", "assistant") &&
                    add_said(message, a->text, strlen(a->text)) && add_usage(o, a) &&
                    add_timings(o, a);

    return print(o, ok, false, e);
}

static const char chunk[] = "chat.completion.chunk";

char *reply_role(const struct reply *r, struct err *e)
{
    cJSON *o = begin(r, chunk), *delta = NULL;
    const bool ok = o && add_choice(o, "delta", NULL, &delta) &&
                    cJSON_AddStringToObject(delta, "role", "assistant") && add_said(delta, "", 0);

    return print(o, ok, true, e);
}

char *reply_text(const struct reply *r, const char *text, size_t n, struct err *e)
{
    cJSON *o = begin(r, chunk), *delta = NULL;
    const bool ok = o && add_choice(o, "delta", NULL, &delta) && add_said(delta, text, n);

    return print(o, ok, true, e);
}

char *reply_end(const struct reply *r, const struct answer *a, struct err *e)
{
    cJSON *o = begin(r, chunk), *delta = NULL;
    const bool ok = o && add_choice(o, "delta", finish(a), &delta) && add_timings(o, a);

    return print(o, ok, true, e);
}

char *reply_usage(const struct reply *r, const struct answer *a, struct err *e)
{
    cJSON *o = begin(r, chunk);
    const bool ok = o && cJSON_AddArrayToObject(o, "choices") && add_usage(o, a);

    return print(o, ok, true, e);
}

/* ---- errors ---- */

static const char *type_of(int status)
{
    static const struct {
        int status;
        const char *type;
    } types[] = {{401, "authentication_error"},
                 {403, "permission_error"},
                 {404, "not_found_error"},
                 {500, "server_error"},
                 {503, "unavailable_error"}};

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].status == status) return types[i].type;
    return "invalid_request_error";
}

static cJSON *error_object(const struct fault *f)
{
    cJSON *o = cJSON_CreateObject(), *in = o ? cJSON_AddObjectToObject(o, "error") : NULL;

    if (in && cJSON_AddStringToObject(in, "message", f->why.msg) &&
        cJSON_AddStringToObject(in, "type", type_of(f->status)) &&
        (f->param[0] ? cJSON_AddStringToObject(in, "param", f->param)
                     : cJSON_AddNullToObject(in, "param")) &&
        (f->code ? cJSON_AddStringToObject(in, "code", f->code)
                 : cJSON_AddNumberToObject(in, "code", f->status)))
        return o;
    cJSON_Delete(o);
    return NULL;
}

char *reply_error(const struct fault *f, struct err *e)
{
    cJSON *o = error_object(f);

    return print(o, o, false, e);
}

char *reply_error_event(const struct fault *f, struct err *e)
{
    cJSON *o = error_object(f);

    return print(o, o, true, e);
}

char *reply_models(const char *model, const char *cache, long long created, struct err *e)
{
    cJSON *o = cJSON_CreateObject(), *list = NULL, *one = cJSON_CreateObject();
    bool ok = o && one && cJSON_AddStringToObject(o, "object", "list") &&
              (list = cJSON_AddArrayToObject(o, "data")) &&
              cJSON_AddStringToObject(one, "id", model) &&
              cJSON_AddStringToObject(one, "object", "model") &&
              cJSON_AddNumberToObject(one, "created", (double)created) &&
              cJSON_AddStringToObject(one, "owned_by", "mha2mla") &&
              cJSON_AddStringToObject(one, "cache", cache);

    if (ok && cJSON_AddItemToArray(list, one)) one = NULL;
    ok = ok && !one;
    cJSON_Delete(one);
    return print(o, ok, false, e);
}
