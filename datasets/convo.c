/* convo.c - LLaVA JSON, one sample per line, so that diff and head show whole samples. */
#include "datasets/convo.h"
#include "base/json/jsonc.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void say(char *to, size_t size, const char *fmt, va_list ap)
{
    int n = vsnprintf(to, size, fmt, ap);

    CHECK(n >= 0 && (size_t)n < size);
}

void turn_ask(struct turn *t, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(t->ask, sizeof t->ask, fmt, ap);
    va_end(ap);
}

void turn_answer(struct turn *t, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(t->answer, sizeof t->answer, fmt, ap);
    va_end(ap);
}

bool convo_list_open(struct convo_list *l, const char *dir, const char *name, struct err *e)
{
    char *path = file_join(dir, name, e);
    bool ok;

    memset(l, 0, sizeof *l);
    if (!path) return false;
    ok = file_out_open(&l->out, path, e);
    free(path);
    if (ok) fputs("[", l->out.fp);
    return ok;
}

static bool add_message(cJSON *list, const char *from, const char *text)
{
    cJSON *m = cJSON_CreateObject();

    if (!m || !cJSON_AddStringToObject(m, "from", from) ||
        !cJSON_AddStringToObject(m, "value", text)) {
        cJSON_Delete(m);
        return false;
    }
    return cJSON_AddItemToArray(list, m);
}

/* A path, or a list of several. */
static bool add_images(cJSON *o, const struct convo *c)
{
    cJSON *list;

    if (c->images <= 1)
        return c->images == 0 || cJSON_AddStringToObject(o, "image", c->image[0]) != NULL;
    list = cJSON_AddArrayToObject(o, "image");
    for (int i = 0; list && i < c->images; i++)
        if (!cJSON_AddItemToArray(list, cJSON_CreateString(c->image[i]))) return false;
    return list;
}

/* The image marks are only in the first question, before or after its text. */
static bool add_turns(cJSON *list, const struct convo *c)
{
    for (int i = 0; i < c->turns; i++) {
        char before[CONVO_PICTURES * 8 + 1] = "", after[CONVO_PICTURES * 8 + 1] = "";
        char ask[sizeof c->turn[0].ask + sizeof before];
        for (int k = 0; i == 0 && k < c->images; k++)
            strcat(c->marker_last ? after : before, c->marker_last ? "\n<image>" : "<image>\n");
        snprintf(ask, sizeof ask, "%s%s%s", before, c->turn[i].ask, after);
        if (!add_message(list, "human", ask) || !add_message(list, "gpt", c->turn[i].answer))
            return false;
    }
    return true;
}

bool convo_list_add(struct convo_list *l, const struct convo *c, struct err *e)
{
    cJSON *o = cJSON_CreateObject(), *list = NULL;
    char *text = NULL;

    CHECK(c->turns >= 1 && c->turns <= CONVO_TURNS && c->images <= CONVO_PICTURES);
    if (o && cJSON_AddStringToObject(o, "id", c->id) && add_images(o, c))
        list = cJSON_AddArrayToObject(o, "conversations");
    if (list && add_turns(list, c))
        text = jsonc_print(o, false, e);
    else
        err_set(e, "out of memory");
    cJSON_Delete(o);
    if (!text) return err_context(e, "%s: sample %s", l->out.path, c->id);
    fprintf(l->out.fp, "%s\n%s", l->samples ? "," : "", text);
    free(text);
    l->samples++;
    l->turns += c->turns;
    return true;
}

void convo_list_end(struct convo_list *l)
{
    fputs("\n]\n", l->out.fp);
}

void convo_list_abort(struct convo_list *l)
{
    file_out_abort(&l->out);
}
