/* talk.c - see talk.h. */
#include "talk/talk.h"
#include "base/hash.h"
#include "base/json/jsonc.h"
#include "base/mem.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static bool no_memory(struct err *e)
{
    return err_set(e, "out of memory for the conversation");
}

static bool add_turn(struct talk *t, const char *from, const char *text, struct err *e)
{
    cJSON *turn = cJSON_CreateObject();

    if (turn && cJSON_AddStringToObject(turn, "from", from) &&
        cJSON_AddStringToObject(turn, "value", text) && cJSON_AddItemToArray(t->turns, turn))
        return true;
    cJSON_Delete(turn);
    return no_memory(e);
}

bool talk_begin(struct talk *t, const char *system, struct err *e)
{
    *t = (struct talk){.json = cJSON_CreateObject()};
    if (t->json && cJSON_AddStringToObject(t->json, "id", "chat") &&
        (t->images = cJSON_AddArrayToObject(t->json, "image")) &&
        (t->turns = cJSON_AddArrayToObject(t->json, "conversations")))
        return !system || add_turn(t, "system", system, e);
    return no_memory(e);
}

void talk_end(struct talk *t)
{
    cJSON_Delete(t->json);
    memset(t, 0, sizeof *t);
}

/* The place of a picture, which means the same wherever it is read; as given if there is none. */
static bool add_image(struct talk *t, const char *path, struct err *e)
{
    char *whole = t->inside ? NULL : realpath(path, NULL);
    cJSON *item = cJSON_CreateString(whole ? whole : path);

    free(whole);
    if (item && cJSON_AddItemToArray(t->images, item)) return true;
    cJSON_Delete(item);
    return no_memory(e);
}

bool talk_ask(struct talk *t, const char *text, const char *const *images, size_t n, struct err *e)
{
    const size_t marks = strstr(text, IMAGE_MARK) ? 0 : n, width = strlen(IMAGE_MARK "\n");
    char *all = mem_new(marks * width + strlen(text) + 1, 1, "a question", e);
    bool ok = all;

    for (size_t i = 0; ok && i < marks; i++)
        memcpy(all + i * width, IMAGE_MARK "\n", width);
    if (ok) strcpy(all + marks * width, text);
    for (size_t i = 0; ok && i < n; i++)
        ok = add_image(t, images[i], e);
    ok = ok && add_turn(t, "human", all, e);
    free(all);
    return ok;
}

bool talk_answer(struct talk *t, const char *text, struct err *e)
{
    return add_turn(t, "gpt", text, e);
}

struct talk_mark talk_mark(const struct talk *t)
{
    return (struct talk_mark){cJSON_GetArraySize(t->turns), cJSON_GetArraySize(t->images)};
}

static void cut(cJSON *list, int n)
{
    while (cJSON_GetArraySize(list) > n)
        cJSON_DeleteItemFromArray(list, cJSON_GetArraySize(list) - 1);
}

void talk_back(struct talk *t, struct talk_mark to)
{
    cut(t->turns, to.turns);
    cut(t->images, to.images);
}

bool talk_forget_answer(struct talk *t)
{
    const int n = cJSON_GetArraySize(t->turns);
    const cJSON *last = n ? cJSON_GetArrayItem(t->turns, n - 1) : NULL;
    const char *from = cJSON_GetStringValue(cJSON_GetObjectItem(last, "from"));

    if (!from || strcmp(from, "gpt") != 0) return false;
    cut(t->turns, n - 1);
    return true;
}

/* Why the sample cannot be used. */
static bool refuse(const struct dataset *d, struct err *e)
{
    for (int i = 0; i < DROPS; i++)
        if (d->dropped[i]) return err_set(e, "%s", d->first_dropped[i]);
    CHECK(!"a sample is used, or dropped for a reason");
    return false;
}

static bool print(const struct talk *t, struct text *out, struct err *e)
{
    struct talk with = *t; /* the answer to be made is added for a moment */
    const struct talk_mark mark = talk_mark(t);

    if (!add_turn(&with, "gpt", "", e)) return false;
    out->s = jsonc_print(t->json, false, e);
    out->n = out->s ? strlen(out->s) : 0;
    talk_back(&with, mark);
    return out->s;
}

/* Its key: the sum of its bytes. */
static bool name_picture(struct dataset_image *img, struct err *e)
{
    struct sha256 sum;

    if (!img->inside.data) return sha256_path(img->path, NULL, img->key, e);
    sha256_init(&sum);
    sha256_add(&sum, img->inside.data, img->inside.size);
    sha256_hex(&sum, img->key);
    return true;
}

bool talk_prompt(const struct talk *t, const struct dataset_options *o, struct talk_prompt *p,
                 struct err *e)
{
    const struct dataset_source source = {.path = "conversation",
                                          .images = ".",
                                          .memory = &p->json,
                                          .inside = t->inside,
                                          .n_inside = t->n_inside};
    struct dataset_options asked = *o;
    bool ok;

    memset(p, 0, sizeof *p);
    asked.asked = asked.open = true;
    ok = print(t, &p->json, e) && dataset_open(&p->data, &source, 1, &asked, e) &&
         (p->data.n == 1 || refuse(&p->data, e)) && dataset_sample(&p->data, 0, &p->sample, e);
    for (int64_t i = 0; ok && i < p->data.n_images; i++)
        ok = name_picture(&p->data.images[i], e);
    if (ok && !t->quiet) lost_log(&p->data.lost, "conversation", o->tokenizer);
    if (!ok) talk_prompt_free(p);
    return ok;
}

void talk_prompt_free(struct talk_prompt *p)
{
    sample_free(&p->sample);
    dataset_close(&p->data);
    free(p->json.s);
    memset(p, 0, sizeof *p);
}

bool talk_save(const struct talk *t, const char *path, struct err *e)
{
    bool there, ok;
    char *sample = NULL, *list = NULL;

    if (!file_named(path, &there, e)) return false;
    if (there) return err_set(e, "%s: is there already: give a new name", path);
    if (cJSON_GetArraySize(t->turns) == 0) return err_set(e, "/save: nothing has been asked");
    sample = jsonc_print(t->json, false, e);
    list = sample ? mem_printf(e, "[%s]\n", sample) : NULL;
    ok = list && file_write(path, list, strlen(list), e);
    free(sample);
    free(list);
    return ok;
}
