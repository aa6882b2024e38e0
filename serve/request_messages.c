/* request_messages.c - the messages of a request: an optional system message, then questions and
 * answers in turn, a question last. A message's parts are joined as they come, a picture as a mark
 * in its place; where pictures go in the end is the template's rule. */
#include "base/base64.h"
#include "base/mem.h"
#include "base/path.h"
#include "serve/request_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Where in the request one is. */
struct place {
    char at[64]; /* "messages[3].content[1]" */
    struct request *q;
    struct fault *f;
};

/* A message's text so far, and the first of its pictures. */
struct content {
    char *text; /* [n], terminated; owned */
    size_t n, cap;
    int64_t first;
};

static bool add_text(struct content *c, const char *text, const struct place *p)
{
    const size_t n = strlen(text);

    if (!mem_grow(&c->text, &c->cap, c->n + n + 1, 1, &p->f->why)) return fault_of_machine(p->f);
    memcpy(c->text + c->n, text, n + 1);
    c->n += n;
    return true;
}

static bool add_written(struct content *c, const cJSON *item, const struct place *p)
{
    if (!cJSON_IsString(item)) return fault_set(p->f, 400, p->at, "a text is needed");
    if (strstr(item->valuestring, IMAGE_MARK))
        return fault_set(p->f, 400, p->at,
                         "has \"" IMAGE_MARK "\", with which prompts mark a picture: write it "
                         "in another way");
    return add_text(c, item->valuestring, p);
}

/* ---- pictures ---- */

/* The base64 in a data URL of a picture; NULL: it is another URL, and is refused. */
static const char *base64_of(const char *url, const struct place *p)
{
    const char *comma = strchr(url, ',');

    if (strncasecmp(url, "data:image/", 11) == 0 && comma && comma - url >= 7 &&
        strncasecmp(comma - 7, ";base64", 7) == 0)
        return comma + 1;
    if (strncasecmp(url, "data:", 5) == 0)
        fault_set(p->f, 400, p->at, "a data URL of a picture begins with data:image/TYPE;base64,");
    else if (strncasecmp(url, "file:", 5) == 0)
        fault_set(p->f, 400, p->at, "file:// pictures are refused: no file is opened for a client");
    else if (path_is_address(url))
        fault_set(p->f, 400, p->at,
                  "%.*s pictures are refused: nothing is fetched; send it as a data URL",
                  (int)strcspn(url, "/") + 2 < 20 ? (int)strcspn(url, "/") + 2 : 20, url);
    else
        fault_set(p->f, 400, p->at, "a path is refused: no file is opened; send a data URL");
    return NULL;
}

static bool check_size(const struct dataset_file *file, const struct place *p)
{
    struct image_info look;

    if (!image_look_at("a picture", file->data, file->size, &look, &p->f->why))
        return p->f->why.machine ? fault_of_machine(p->f)
                                 : fault_set(p->f, 400, p->at, "%s", p->f->why.msg);
    if (look.width <= REQUEST_SIDE && look.height <= REQUEST_SIDE &&
        look.width * look.height <= REQUEST_PIXELS)
        return true;
    return fault_set(p->f, 400, p->at,
                     "a picture of %lldx%lld pixels, at most %d a side and %d in all are read",
                     (long long)look.width, (long long)look.height, REQUEST_SIDE, REQUEST_PIXELS);
}

static bool add_picture(struct content *c, const cJSON *url, const struct place *p)
{
    struct request *q = p->q;
    struct dataset_file *file = &q->pictures[q->n_pictures];
    const char *digits;
    uint8_t *bytes;

    if (!cJSON_IsString(url))
        return fault_set(p->f, 400, p->at, "image_url must be an object with a \"url\"");
    if (q->n_pictures == REQUEST_PICTURES)
        return fault_set(p->f, 400, p->at, "at most %d pictures in a request", REQUEST_PICTURES);
    digits = base64_of(url->valuestring, p);
    if (!digits) return false;
    if (!base64_decode(digits, strlen(digits), &bytes, &file->size, &p->f->why))
        return p->f->why.machine ? fault_of_machine(p->f)
                                 : fault_set(p->f, 400, p->at, "%s", p->f->why.msg);
    file->data = bytes;
    snprintf(q->places[q->n_pictures++], sizeof q->places[0], "%s", p->at);
    return check_size(file, p) && add_text(c, IMAGE_MARK, p);
}

/* ---- messages ---- */

/* Whether an object has these keys alone; `unless`: it is not looked at. */
static bool only(const cJSON *o, const char *const *keys, const struct place *p)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, o)
    {
        const char *const *k = keys;
        while (*k && strcmp(*k, item->string) != 0)
            k++;
        if (!*k && !cJSON_IsNull(item))
            return fault_set(p->f, 400, p->at, "\"%.40s\" is not supported", item->string);
    }
    return true;
}

static bool add_part(struct content *c, const cJSON *part, bool pictures, const struct place *p)
{
    static const char *const text[] = {"type", "text", NULL};
    static const char *const image[] = {"type", "image_url", NULL};
    static const char *const url[] = {"url", "detail", NULL};
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(part, "type"));
    const cJSON *of;

    if (!type) return fault_set(p->f, 400, p->at, "a part is an object with a \"type\"");
    if (strcmp(type, "text") == 0)
        return only(part, text, p) &&
               add_written(c, cJSON_GetObjectItemCaseSensitive(part, "text"), p);
    if (strcmp(type, "image_url") != 0)
        return fault_set(p->f, 400, p->at, "a part of type \"%.40s\" is not supported", type);
    if (!pictures) return fault_set(p->f, 400, p->at, "pictures stand in messages of the user");
    of = cJSON_GetObjectItemCaseSensitive(part, "image_url");
    return only(part, image, p) && (!cJSON_IsObject(of) || only(of, url, p)) &&
           add_picture(c, cJSON_GetObjectItemCaseSensitive(of, "url"), p);
}

static bool read_content(struct content *c, const cJSON *content, bool pictures, struct place *p)
{
    const size_t n = strlen(p->at);
    const cJSON *part;
    int i = 0;

    c->first = p->q->n_pictures;
    if (!add_text(c, "", p)) return false;
    if (!cJSON_IsArray(content)) return add_written(c, content, p);
    cJSON_ArrayForEach(part, content)
    {
        snprintf(p->at + n, sizeof p->at - n, "[%d]", i++);
        if (!add_part(c, part, pictures, p)) return false;
    }
    p->at[n] = '\0';
    return i > 0 || fault_set(p->f, 400, p->at, "is empty");
}

/* Adds the question with its pictures, by the names that they have: "1", "2" ... */
static bool ask(struct request *q, const struct content *c, struct err *e)
{
    char names[REQUEST_PICTURES][12];
    const char *name[REQUEST_PICTURES];
    size_t n = 0;

    for (int64_t i = c->first; i < q->n_pictures; i++, n++) {
        snprintf(names[n], sizeof names[n], "%d", (int)i + 1);
        name[n] = names[n];
    }
    return talk_ask(&q->talk, c->text, name, n, e);
}

static bool begin(struct request *q, const char *system, struct err *e)
{
    if (!talk_begin(&q->talk, system, e)) return false;
    q->talk.inside = q->pictures;
    q->talk.quiet = true;
    return true;
}

static const char *const roles[] = {"system", "user", "assistant"};
enum { SYSTEM, USER, ASSISTANT, ROLES };

/* The role of message i, if it may stand there. */
static int role_of(const cJSON *message, int i, bool system, const struct place *p)
{
    static const char *const keys[] = {"role", "content", "name", NULL};
    const char *name = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "role"));
    int role = 0;

    if (!only(message, keys, p)) return -1;
    while (role < ROLES && (!name || strcmp(name, roles[role]) != 0))
        role++;
    if (role == ROLES)
        fault_set(p->f, 400, p->at, "\"role\" must be system, user or assistant");
    else if (role == SYSTEM && i > 0)
        fault_set(p->f, 400, p->at, "a system message must be the first");
    else if (role != SYSTEM && role != ((i - system) % 2 ? ASSISTANT : USER))
        fault_set(p->f, 400, p->at, "user and assistant take turns, and the user begins");
    else
        return role;
    return -1;
}

static bool add_message(struct request *q, const cJSON *message, int role, struct place *p)
{
    struct content c = {NULL};
    struct err *e = &p->f->why;
    const size_t n = strlen(p->at);
    bool ok;

    snprintf(p->at + n, sizeof p->at - n, ".content");
    ok = read_content(&c, cJSON_GetObjectItemCaseSensitive(message, "content"), role == USER, p);
    if (ok && !q->talk.json) ok = begin(q, role == SYSTEM ? c.text : NULL, e);
    if (ok && role == USER) ok = ask(q, &c, e);
    if (ok && role == ASSISTANT) ok = talk_answer(&q->talk, c.text, e);
    free(c.text);
    return ok;
}

bool request_messages(struct request *q, const cJSON *item, struct fault *f)
{
    struct place p = {.q = q, .f = f};
    const cJSON *message;
    bool system = false;
    int i = 0, role = SYSTEM;

    if (!cJSON_IsArray(item)) return fault_set(f, 400, "messages", "a list is needed");
    cJSON_ArrayForEach(message, item)
    {
        snprintf(p.at, sizeof p.at, "messages[%d]", i);
        role = role_of(message, i, system, &p);
        system |= role == SYSTEM;
        if (role < 0 || !add_message(q, message, role, &p)) return false;
        i++;
    }
    q->talk.n_inside = q->n_pictures;
    return role == USER || fault_set(f, 400, "messages", "the last message must be the user's");
}
