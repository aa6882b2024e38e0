/* import_write.c - questions as samples, one a line, and the pictures that were inside of a table:
 * each once, under a name that follows from its bytes. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/slots.h"
#include "data/picture/image.h"
#include "base/base64.h"
#include "data/template.h"
#include "datasets/import.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A cell of up to so many characters names another row: no picture is that small. */
enum { REFERENCE = 64 };

/* Which row has which picture. A row may refer to one that comes later: its sample then waits for
 * the end. */
struct row_picture {
    char *id, *name;
};
struct waiting {
    char *row;   /* whose picture it takes */
    cJSON *line; /* the sample, without its picture */
};
struct pictures_seen {
    struct row_picture *row;
    size_t n, cap;
    struct slots slots;
    struct waiting *waits;
    size_t n_waits, cap_waits;
};

/* ---- pictures ---- */

/* The name of a row's picture, NULL: none is known. */
static const char *picture_of(const struct pictures_seen *s, const char *id)
{
    const uint64_t hash = hash_fnv(id, strlen(id));
    uint64_t step = 0;
    int64_t i;

    while ((i = slots_next(&s->slots, hash, &step)) >= 0)
        if (strcmp(s->row[i].id, id) == 0) return s->row[i].name;
    return NULL;
}

static bool note_picture(struct pictures_seen *s, const char *id, const char *name, struct err *e)
{
    struct row_picture *to;

    if (!mem_grow(&s->row, &s->cap, s->n + 1, sizeof *s->row, e) ||
        !slots_reserve(&s->slots, (int64_t)s->n + 1, e))
        return false;
    to = &s->row[s->n];
    to->id = mem_strdup(id, e);
    to->name = to->id ? mem_strdup(name, e) : NULL;
    if (!to->name) {
        free(to->id);
        return false;
    }
    slots_put(&s->slots, hash_fnv(id, strlen(id)), (int64_t)s->n++);
    return true;
}

/* What a file begins with, and the ending of its name; the content counts, not a name. */
static const char *ending(const uint8_t *p, size_t n)
{
    static const struct {
        const char *magic;
        size_t at, n;
        const char *end;
    } kinds[] = {{"\xff\xd8\xff", 0, 3, "jpg"},
                 {"\x89PNG", 0, 4, "png"},
                 {"WEBP", 8, 4, "webp"},
                 {"GIF8", 0, 4, "gif"},
                 {"BM", 0, 2, "bmp"}};

    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (n >= kinds[i].at + kinds[i].n && !memcmp(p + kinds[i].at, kinds[i].magic, kinds[i].n))
            return kinds[i].end;
    return NULL;
}

/* Writes a picture, unless its bytes have been written before. */
static bool put_picture(struct import *im, const uint8_t *bytes, size_t n, char name[64])
{
    const char *end = ending(bytes, n);
    struct sha256 sum;
    char hex[65], *path;
    bool ok;

    if (!end) return err_set(im->e, "the picture is neither PNG, JPEG, WebP, GIF nor BMP");
    sha256_init(&sum);
    sha256_add(&sum, bytes, n);
    sha256_hex(&sum, hex);
    snprintf(name, 64, "%.32s.%s", hex, end);
    path = aside_picture(&im->aside, name, im->e);
    ok = path && (access(path, F_OK) == 0 || file_write(path, bytes, n, im->e));
    free(path);
    return ok;
}

/* The picture in a cell. *name NULL: another row has it, which has not come yet. */
static bool picture_inside(struct import *im, const struct record *r, const struct question *q,
                           const char **name)
{
    struct pictures_seen *s = im->seen;
    uint8_t *bytes;
    size_t n;
    char own[64];
    bool ok;

    *name = NULL;
    if (q->inside.n <= REFERENCE) {
        *name = picture_of(s, q->inside.s);
        return !*name || note_picture(s, q->id, *name, im->e);
    }
    if (!base64_decode(q->inside.s, q->inside.n, &bytes, &n, im->e))
        return import_fail(im, r, "\"image\": %s", im->e->msg);
    ok = put_picture(im, bytes, n, own) ||
         (!im->e->machine && import_fail(im, r, "\"image\": %s", im->e->msg));
    free(bytes);
    ok = ok && note_picture(s, q->id, own, im->e);
    if (ok) *name = s->row[s->n - 1].name;
    return ok;
}

/* Whether the picture's file is there. */
static bool look_for(struct import *im, const char *name, bool *there)
{
    char *path = file_join(im->images, name, im->e);

    if (!path) return false;
    *there = access(path, R_OK) == 0;
    free(path);
    return true;
}

/* ---- samples ---- */

/* A mark for each picture, then the text; NULL: out of memory. */
static char *asked(const struct question *q)
{
    int pictures = q->picture || q->inside.s;
    char marks[16 * IMPORT_PICTURES] = "", *text = NULL;

    while (pictures && pictures < IMPORT_PICTURES && q->more[pictures - 1])
        pictures++;
    for (int i = 0; i < pictures; i++)
        strcat(marks, IMAGE_MARK "\n");
    return asprintf(&text, "%s%s", marks, q->prompt) < 0 ? NULL : text;
}

static bool add_turns(cJSON *o, const struct question *q)
{
    cJSON *list = cJSON_AddArrayToObject(o, "conversations"), *ask = cJSON_CreateObject();
    cJSON *answer = cJSON_CreateObject();
    char *text = asked(q);
    bool ok = list && ask && answer && text && cJSON_AddStringToObject(ask, "from", "human") &&
              cJSON_AddStringToObject(ask, "value", text) &&
              cJSON_AddStringToObject(answer, "from", "gpt") &&
              cJSON_AddStringToObject(answer, "value", q->answer);

    free(text);
    if (!ok) {
        cJSON_Delete(ask);
        cJSON_Delete(answer);
        return false;
    }
    return cJSON_AddItemToArray(list, ask) && cJSON_AddItemToArray(list, answer);
}

/* A path, or a list of several. */
static bool add_pictures(cJSON *o, const struct question *q)
{
    cJSON *list;

    if (!q->picture) return true;
    if (!q->more[0]) return cJSON_AddStringToObject(o, "image", q->picture);
    list = cJSON_AddArrayToObject(o, "images");
    if (!list || !cJSON_AddItemToArray(list, cJSON_CreateString(q->picture))) return false;
    for (int i = 0; i < IMPORT_PICTURES - 1 && q->more[i]; i++)
        if (!cJSON_AddItemToArray(list, cJSON_CreateString(q->more[i]))) return false;
    return true;
}

static bool add_strings(cJSON *o, const char *key, const char *const *v, int n)
{
    cJSON *list = n ? cJSON_AddArrayToObject(o, key) : NULL;

    for (int i = 0; list && i < n; i++)
        if (!cJSON_AddItemToArray(list, v[i] ? cJSON_CreateString(v[i]) : cJSON_CreateNull()))
            return false;
    return list || !n;
}

static bool add_scoring(struct import *im, cJSON *o, const struct question *q)
{
    int categories = 0;

    while (categories < IMPORT_CATEGORIES && q->category[categories])
        categories++;
    return cJSON_AddStringToObject(o, "metric", im->task->metric) &&
           (!q->answers ||
            cJSON_AddItemToObject(o, "answers", cJSON_Duplicate(q->answers, true))) &&
           add_strings(o, "choices", q->choice, q->choices) &&
           add_strings(o, "category", q->category, categories) &&
           (!q->group || cJSON_AddStringToObject(o, "group", q->group)) &&
           cJSON_AddStringToObject(o, "question_id", q->id);
}

static cJSON *sample(struct import *im, const struct question *q)
{
    char id[300];
    cJSON *o = cJSON_CreateObject();
    bool ok;

    snprintf(id, sizeof id, "%s/%s", im->task->name, q->id);
    ok = o && cJSON_AddStringToObject(o, "id", id) && add_turns(o, q) && add_pictures(o, q) &&
         add_scoring(im, o, q);
    if (ok) return o;
    cJSON_Delete(o);
    err_set(im->e, "out of memory for a sample");
    return NULL;
}

/* inside: the name of a picture from the table; NULL: it has none, or has its pictures already. */
static bool put_line(struct import *im, cJSON *o, const char *inside)
{
    char path[80], *text;

    snprintf(path, sizeof path, "images/%s", inside ? inside : "");
    if (inside && !cJSON_AddStringToObject(o, "image", path))
        return err_set(im->e, "out of memory for a sample");
    text = jsonc_print(o, false, im->e);
    if (!text) return false;
    fprintf(im->list.fp, "%s\n", text); /* commit checks it */
    free(text);
    im->written++;
    return true;
}

/* Keeps a sample until the row has come whose picture it takes; takes *o over. */
static bool wait_for(struct import *im, const char *row, cJSON **o)
{
    struct pictures_seen *s = im->seen;

    if (!mem_grow(&s->waits, &s->cap_waits, s->n_waits + 1, sizeof *s->waits, im->e)) return false;
    s->waits[s->n_waits] = (struct waiting){mem_strdup(row, im->e), *o};
    if (!s->waits[s->n_waits].row) return false;
    s->n_waits++;
    *o = NULL;
    return true;
}

/* Whether all of a question's pictures are there; else *missing is the first that is not. */
static bool look_for_all(struct import *im, const struct question *q, const char **missing)
{
    bool there = true;

    *missing = q->picture;
    if (!q->picture) return true;
    if (!look_for(im, q->picture, &there)) return false;
    for (int i = 0; there && i < IMPORT_PICTURES - 1 && q->more[i]; i++) {
        *missing = q->more[i];
        if (!look_for(im, q->more[i], &there)) return false;
    }
    if (there) *missing = NULL;
    return true;
}

bool import_question(struct import *im, const struct record *r, const struct question *q)
{
    const char *inside = NULL, *missing;
    bool ok = !im->e->msg[0] && import_check(im, r, q) && look_for_all(im, q, &missing);
    cJSON *o;

    if (!ok || missing) return ok && import_skip(im, SKIP_PICTURE, missing);
    if ((q->inside.s && !picture_inside(im, r, q, &inside)) || !import_check_written(im, r, q))
        return false;
    o = sample(im, q);
    ok = o;
    if (ok && q->inside.s && !inside)
        ok = wait_for(im, q->inside.s, &o);
    else if (ok)
        ok = put_line(im, o, inside);
    cJSON_Delete(o);
    return ok;
}

bool import_skip(struct import *im, enum import_skip why, const char *what)
{
    if (im->skipped[why]++ == 0)
        snprintf(im->first[why], sizeof im->first[why], "%s", what ? what : "?");
    return true;
}

/* ---- the set ---- */

bool import_write_open(struct import *im)
{
    char name[64], *path;
    bool ok;

    snprintf(name, sizeof name, "%s.jsonl", im->task->name);
    im->seen = mem_new(1, sizeof *im->seen, "pictures", im->e);
    if (!im->seen || !aside_open(&im->aside, im->out, im->e) ||
        !aside_list(&im->aside, name, im->e))
        return false;
    path = file_join(im->out, name, im->e);
    ok = path && file_out_open(&im->list, path, im->e);
    free(path);
    return ok;
}

/* The samples whose pictures came later. */
static bool write_waiting(struct import *im)
{
    struct pictures_seen *s = im->seen;

    for (size_t i = 0; i < s->n_waits; i++) {
        const char *name = picture_of(s, s->waits[i].row);
        const cJSON *id = cJSON_GetObjectItem(s->waits[i].line, "id");
        if (!name)
            return err_set(im->e, "%s: its picture is that of row \"%.64s\", which has none",
                           id->valuestring, s->waits[i].row);
        if (!put_line(im, s->waits[i].line, name)) return false;
    }
    return true;
}

/* Whether the list that is there already, if any, is the one that was written: one of other
 * questions, such as arc's Easy beside Challenge, must not vanish. */
static bool same_set(struct import *im)
{
    const struct file_out *list = &im->list;
    char was[65], now[65];
    bool there = false,
         ok = file_out_flush(&im->list, im->e) && file_there(list->path, &there, im->e);

    if (!ok || !there) return ok;
    return sha256_path(list->path, NULL, was, im->e) && sha256_path(list->tmp, NULL, now, im->e) &&
           (strcmp(was, now) == 0 ||
            err_set(im->e,
                    "%s: another set is there, which would be replaced: delete it, or choose "
                    "another --out",
                    list->path));
}

static bool nothing_left(struct import *im, const char *file)
{
    static const char *const why[SKIPS] = {
        [SKIP_PICTURE] = ": no picture is there, such as ",
        [SKIP_SPLIT] = ": they are of other parts than --split names, such as "};

    for (int i = 0; i < SKIPS; i++)
        if (why[i] && im->skipped[i])
            return err_set(im->e, "%s: no question is left%s%s", file, why[i], im->first[i]);
    return err_set(im->e, "%s: no question is left", file);
}

bool import_write_close(struct import *im, const char *file)
{
    struct file_out *lists[] = {&im->list};

    if (!write_waiting(im)) return false;
    if (!im->written) return nothing_left(im, file);
    if (!import_check_set(im) || !same_set(im)) return false;
    return aside_publish(&im->aside, lists, 1, im->e);
}

void import_write_abort(struct import *im)
{
    struct pictures_seen *s = im->seen;

    file_out_abort(&im->list);
    aside_close(&im->aside);
    import_check_close(im);
    import_join_close(im);
    import_texts_free(im);
    free(im->texts);
    for (size_t i = 0; s && i < s->n; i++) {
        free(s->row[i].id);
        free(s->row[i].name);
    }
    for (size_t i = 0; s && i < s->n_waits; i++) {
        free(s->waits[i].row);
        cJSON_Delete(s->waits[i].line);
    }
    if (s) {
        free(s->row);
        free(s->waits);
        slots_free(&s->slots);
    }
    free(s);
    im->seen = NULL;
}
