/* augment.c - mha2mla-data augment: lists every sample of LLaVA JSON several more times, each
 * time with an altered picture (alter.h), so that a small set lasts for many epochs and a model
 * learns what is shown rather than how. Questions and answers stay; optionally their order and
 * selection are drawn too. */
#include "base/file.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/rng.h"
#include "base/text.h"
#include "data/json_scan.h"
#include "datasets/alter.h"
#include "datasets/aside.h"
#include "datasets/tool.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TURNS = 64, NAME_ROOM = 128 };
static const char usual_name[] = "train";
static const char marker[] = "<image>";

struct options {
    const char *out, *images, *name;
    int64_t copies, size, longest, seed, turns, flip, strength, outline, original;
};

/* The list being written, and the number of its samples so far. */
struct writer {
    const struct options *o;
    char before[NAME_ROOM]; /* starts the pictures' names: "NAME-", or nothing for the usual one */
    struct aside aside;
    struct file_out out;
    int64_t samples, pictures;
};

/* A string, or what jsonc_keep_spelling made of one; NULL if none. */
static const cJSON *text_of(const cJSON *o, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(o, key);

    return cJSON_IsString(item) || (cJSON_IsRaw(item) && item->valuestring[0] == '"') ? item : NULL;
}

/* The characters of a string or a number; the caller frees them. */
static bool take_text(const cJSON *item, struct text *out, struct err *e)
{
    const struct jsonc_rules rules = {.plain = true, .zeros = true};
    struct jsonc doc;

    if (cJSON_IsString(item) || item->valuestring[0] != '"') {
        *out = (struct text){mem_strdup(item->valuestring, e), strlen(item->valuestring)};
        return out->s;
    }
    if (!jsonc_parse_as(&doc, "a text", item->valuestring, strlen(item->valuestring), &rules, e))
        return false;
    out->s = jsonc_string(&doc, doc.root, &out->n, e);
    jsonc_close(&doc);
    return out->s;
}

/* Sets a text member of an object, adding or replacing it. */
static bool set_text(cJSON *o, const char *key, const char *s, size_t n, struct err *e)
{
    cJSON *item = jsonc_new_string(s, n);
    bool there = cJSON_GetObjectItemCaseSensitive(o, key);

    /* if out of memory, a replacing value can end up without its key (cJSON 1.7.15) */
    return (item &&
            (there ? cJSON_ReplaceItemInObjectCaseSensitive(o, key, item)
                   : cJSON_AddItemToObject(o, key, item)) &&
            item->string) ||
           err_set(e, "out of memory");
}

/* Removes the image mark and the adjacent line break from a text. */
static void drop_marker(struct text *t)
{
    char *at = memmem(t->s, t->n, marker, strlen(marker)), *end = t->s + t->n, *after;

    if (!at) return;
    after = at + strlen(marker);
    if (after < end && *after == '\n')
        after++;
    else if (at > t->s && at[-1] == '\n')
        at--;
    memmove(at, after, (size_t)(end - after));
    t->n -= (size_t)(after - at);
}

/* Sets the question of a turn, with the image mark in front if it comes first in a
 * sample with a picture. */
static bool set_question(cJSON *message, bool marked, struct err *e)
{
    const size_t front = strlen(marker) + 1;
    struct text t = {0};
    char *text = NULL;
    bool ok = take_text(text_of(message, "value"), &t, e);

    if (ok) {
        drop_marker(&t);
        text = mem_new(front + t.n, 1, "a question", e);
        ok = text;
    }
    if (ok) {
        memcpy(text, marker, front - 1);
        text[front - 1] = '\n';
        memcpy(text + front, t.s, t.n);
        ok =
            set_text(message, "value", marked ? text : text + front, marked ? front + t.n : t.n, e);
    }
    free(text);
    free(t.s);
    return ok;
}

/* Questions and answers must alternate if some are to be drawn. */
static bool check_turns(const cJSON *list, struct err *e)
{
    const cJSON *m;
    int n = 0;

    cJSON_ArrayForEach(m, list)
    {
        const cJSON *from = text_of(m, "from");
        if (!from || strcmp(from->valuestring, n % 2 ? "gpt" : "human") != 0 ||
            !text_of(m, "value"))
            return err_set(
                e, "message %d: --turns needs human and gpt in turn, each with a \"value\"", n);
        n++;
    }
    return (n >= 2 && n % 2 == 0 && n <= 2 * TURNS) ||
           err_set(e, "%d message%s: --turns needs 1 to %d questions with an answer each", n,
                   plural(n), TURNS);
}

/* Keeps `keep` of the questions, in a random order. */
static bool draw_turns(cJSON *sample, int64_t keep, bool picture, struct rng *r, struct err *e)
{
    cJSON *list = cJSON_GetObjectItemCaseSensitive(sample, "conversations"), *part[2 * TURNS];
    int64_t order[TURNS], turns;

    if (!check_turns(list, e)) return false;
    turns = cJSON_GetArraySize(list) / 2;
    for (int i = 0; i < 2 * turns; i++)
        part[i] = cJSON_DetachItemFromArray(list, 0);
    rng_permutation(r, order, turns);
    bool ok = true;
    for (int64_t i = 0; i < turns; i++) {
        cJSON *ask = part[2 * order[i]], *answer = part[2 * order[i] + 1];
        if (i < keep) {
            ok = ok && set_question(ask, i == 0 && picture, e);
            cJSON_AddItemToArray(list, ask); /* our own items: cannot fail */
            cJSON_AddItemToArray(list, answer);
        } else {
            cJSON_Delete(ask);
            cJSON_Delete(answer);
        }
    }
    return ok;
}

/* Whether left or right are mentioned: then the picture must not be mirrored. */
static bool says_side(const cJSON *sample)
{
    const cJSON *m;

    cJSON_ArrayForEach(m, cJSON_GetObjectItemCaseSensitive(sample, "conversations"))
    {
        const cJSON *item = text_of(m, "value");
        const char *said = item ? item->valuestring : ""; /* or its spelling */
        if (strstr(said, "left") || strstr(said, "right") || strstr(said, "clockwise")) return true;
    }
    return false;
}

/* A side's length: --size, or with --longest drawn from there to it. */
static int64_t draw_side(const struct options *o, struct rng *r)
{
    return o->longest ? o->size + (int64_t)rng_below(r, (uint64_t)(o->longest - o->size + 1))
                      : o->size;
}

/* Writes picture number `copy`; *name is relative to the list. */
static bool write_picture(const struct writer *w, const struct image *im, bool sided, int64_t copy,
                          struct rng *r, const char *name, struct err *e)
{
    const struct options *o = w->o;
    bool mirror = rng_below(r, 100) < (uint64_t)o->flip && !sided;
    const int64_t width = draw_side(o, r), height = draw_side(o, r);
    struct alter a = {width, height, o->strength, o->outline, mirror};
    char *path = aside_picture(&w->aside, strchr(name, '/') + 1, e);
    struct image out = {0};
    bool ok = path != NULL;

    if (ok && copy < o->original)
        ok = alter_nothing(im, width, height, &out, e);
    else if (ok)
        ok = alter_picture(im, &a, r, &out, e);
    ok = ok && image_write_png(&out, path, e);
    image_free(&out);
    free(path);
    return ok;
}

/* Replaces the id by "COPY/ID". */
static bool set_id(cJSON *s, int64_t copy, struct err *e)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(s, "id");
    struct text id = {0};
    char number[32];
    size_t front = (size_t)snprintf(number, sizeof number, "%" PRId64 "/", copy);
    char *text = NULL;
    bool known = cJSON_IsString(item) || cJSON_IsRaw(item), ok = !known || take_text(item, &id, e);

    if (ok) text = mem_new(front + id.n, 1, "an id", e);
    if (text) {
        memcpy(text, number, front);
        if (id.n) memcpy(text + front, id.s, id.n);
    }
    ok = text && set_text(s, "id", text, front + id.n, e);
    free(text);
    free(id.s);
    return ok;
}

/* One line of the list. `name`: its picture, NULL if none. */
static bool write_line(struct writer *w, const cJSON *from, int64_t copy, const char *name,
                       struct rng *r, struct err *e)
{
    cJSON *s = cJSON_Duplicate(from, true);
    char *line = NULL;
    bool ok = s || err_set(e, "out of memory");

    ok = ok && set_id(s, copy, e) && (!name || set_text(s, "image", name, strlen(name), e)) &&
         (!w->o->turns || draw_turns(s, w->o->turns, name != NULL, r, e));
    ok = ok && (line = jsonc_print(s, false, e));
    if (ok) fprintf(w->out.fp, "%s\n%s", w->samples++ ? "," : "", line);
    free(line);
    cJSON_Delete(s);
    return ok;
}

/* All copies of one sample; its picture is read once. */
static bool add_sample(struct writer *w, const cJSON *sample, const char *root, struct err *e)
{
    const cJSON *picture = cJSON_GetObjectItemCaseSensitive(sample, "image");
    struct text image = {0};
    struct image im = {0};
    char *path = NULL, name[NAME_ROOM + 64];
    bool ok = true, sided = says_side(sample);

    if (!cJSON_IsArray(cJSON_GetObjectItemCaseSensitive(sample, "conversations")))
        return err_set(e, "needs a list \"conversations\"");
    if (picture && (!text_of(sample, "image") || !take_text(picture, &image, e) ||
                    memchr(image.s, '\0', image.n))) {
        free(image.s);
        return err_set(e, "\"image\" must be the path of one picture");
    }
    if (picture) {
        path = file_join(root, image.s, e);
        ok = path && tool_read_image(&im, path, e);
    }
    for (int64_t copy = 0; ok && copy < w->o->copies; copy++) {
        struct rng r;
        rng_seed(&r, (uint64_t)w->o->seed, ((uint64_t)w->pictures << 16) + (uint64_t)copy);
        snprintf(name, sizeof name, "images/%s%06" PRId64 "-%03" PRId64 ".png", w->before,
                 w->pictures, copy);
        ok = (!picture || write_picture(w, &im, sided, copy, &r, name, e)) &&
             write_line(w, sample, copy, picture ? name : NULL, &r, e);
    }
    w->pictures++; /* text-only samples count too: the number of a sample seeds its random draws */
    image_free(&im);
    free(image.s);
    free(path);
    return ok;
}

static bool add_file(struct writer *w, const char *file, const struct file_map *map,
                     const char *root, struct err *e)
{
    struct json_scan scan;
    size_t begin, end;
    bool found = true, ok = json_scan_open(&scan, map->data, map->size, file, e);

    while (ok && (ok = json_scan_next(&scan, &begin, &end, &found, e)) && found) {
        const struct jsonc_rules rules = {
            .line = scan.place.line, .col = scan.place.col, .plain = true, .zeros = true};
        struct jsonc doc;
        if (!jsonc_parse_as(&doc, file, (const char *)map->data + begin, end - begin, &rules, e))
            return false;
        ok = jsonc_keep_spelling(&doc, e) && add_sample(w, doc.root, root, e);
        if (!ok)
            err_context(e, "%s:%lld:%lld", file, (long long)scan.place.line,
                        (long long)scan.place.col);
        jsonc_close(&doc);
    }
    return ok;
}

static bool add_list(struct writer *w, const char *file, struct err *e)
{
    char *root = w->o->images ? mem_strdup(w->o->images, e) : file_dir(file, e);
    struct file_map map = {0};
    bool ok = root && file_map_open(&map, file, e) && add_file(w, file, &map, root, e);

    file_map_close(&map);
    free(root);
    return ok;
}

/* The existing list must not be an input: it is about to be replaced. */
static bool write_all(struct writer *w, char **files, int count, struct err *e)
{
    char *list = mem_printf(e, "%s/%s.json", w->o->out, w->o->name);
    const char *name = list ? list + strlen(w->o->out) + 1 : NULL;
    struct file_out *out = &w->out;
    bool ok = list && tool_keep_inputs(list, files, count, e) &&
              aside_open(&w->aside, w->o->out, e) && aside_list(&w->aside, name, e) &&
              file_out_open(out, list, e);

    if (ok) fputs("[", w->out.fp);
    for (int i = 0; ok && i < count; i++)
        ok = add_list(w, files[i], e);
    if (ok) fputs("\n]\n", w->out.fp);
    ok = ok && aside_publish(&w->aside, &out, 1, e);
    if (ok)
        tool_say("%s: %" PRId64 " sample%s, %" PRId64 " of each of %" PRId64, list, w->samples,
                 plural(w->samples), w->o->copies, w->pictures);
    file_out_abort(out);
    aside_close(&w->aside);
    free(list);
    return ok;
}

/* Must be UTF-8, since it becomes part of the pictures' names in the list. */
static bool is_name(const char *s)
{
    size_t n = strlen(s), step = 1;

    if (n + 2 > NAME_ROOM || strchr(s, '/')) return false;
    for (; n && step; s += step, n -= step)
        step = (unsigned char)*s < ' ' ? 0 : text_utf8_len(s, n);
    return step;
}

/* One directory may hold several lists: each has its own pictures. */
static bool check_options(const struct options *o, char before[NAME_ROOM], struct err *e)
{
    if (!is_name(o->name))
        return err_set(
            e,
            "augment: --name %s: a name of at most %d bytes of UTF-8 without a slash or a "
            "control character is needed; --out says where it goes",
            o->name, NAME_ROOM - 2);
    if (o->original > o->copies)
        return err_set(e, "augment: --original %" PRId64 " is more than --copies %" PRId64,
                       o->original, o->copies);
    if (o->longest && o->longest < o->size)
        return err_set(e, "augment: --longest %" PRId64 " is less than --size, %" PRId64,
                       o->longest, o->size);
    before[0] = '\0';
    if (strcmp(o->name, usual_name) != 0) snprintf(before, NAME_ROOM, "%s-", o->name);
    return true;
}

static bool run(int argc, char **argv, struct err *e)
{
    struct options o = {NULL, NULL, usual_name, 8, 64, 0, 1, 0, 0, 100, 30, 0};
    const struct tool_option options[] = {
        {"out", "DIR", "where it all goes", &o.out, NULL, 0, 0, true},
        {"images", "DIR", "what image paths are relative to; else each list's own folder",
         &o.images, NULL, 0, 0, false},
        {"name", "NAME", "the new list is DIR/NAME.json", &o.name, NULL, 0, 0, false},
        {"copies", "N", "of every sample", NULL, &o.copies, 1, 999, false},
        {"original", "N", "so many of the copies have the picture as it is", NULL, &o.original, 0,
         999, false},
        {"size", "N", "pixels a side", NULL, &o.size, 8, 1024, false},
        {"longest", "N", "each side has a length of its own, from --size to this; 0: squares", NULL,
         &o.longest, 0, 1024, false},
        {"strength", "PERCENT", "how far place, angle and colours move", NULL, &o.strength, 0, 300,
         false},
        {"outline", "PERCENT", "of the copies, with dark outlines", NULL, &o.outline, 0, 100,
         false},
        {"flip", "PERCENT", "of the copies, mirrored unless left or right is spoken of", NULL,
         &o.flip, 0, 100, false},
        {"turns", "N", "draw up to N questions of a sample, in any order; 0: as they are", NULL,
         &o.turns, 0, TURNS, false},
        {"seed", "N", "another seed, another set", NULL, &o.seed, 0, INT64_MAX, false},
        {.name = NULL},
    };
    struct writer w = {.o = &o};
    bool help;
    int rest;

    if (!tool_options(
            options, "augment --out DIR [OPTION ...] FILE.json ...",
            "Writes every sample of LLaVA JSON lists --copies times, each with its picture"
            " changed at random:\nplace, size, angle, colours, outlines, ground.",
            argc, argv, &rest, &help, e))
        return false;
    if (help) return true;
    if (rest == argc) return err_set(e, "augment: no LLaVA JSON file was named");
    if (!check_options(&o, w.before, e)) return false;
    return write_all(&w, argv + rest, argc - rest, e);
}

const struct tool_command tool_augment = {"augment", "many changed copies of a set's pictures",
                                          run};
