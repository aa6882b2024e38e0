/* conversation_pictures.c - the images of a sample, wherever it names them. */
#include "base/mem.h"
#include "base/path.h"
#include "data/conversation_parts.h"

#include <string.h>
#include <strings.h>

static bool add_path(struct reader *r, const cJSON *item)
{
    struct conversation *c = r->c;
    struct text path;
    struct err why;

    if (!reader_take(r, item, &path)) return false;
    if (memchr(path.s, '\0', path.n))
        return reader_refuse(r, DROP_IMAGE, item, "a zero character in a picture's path");
    if (strncmp(path.s, "file://", 7) == 0)
        path.s += 7;
    else if (path_is_address(path.s) || strncasecmp(path.s, "data:", 5) == 0)
        return reader_refuse(r, DROP_IMAGE, item,
                             "\"%.60s\" is no file: pictures are read from files alone", path.s);
    if (!path_check(path.s, &why))
        return reader_refuse(r, DROP_IMAGE, item, "\"%.60s\" %s", path.s, why.msg);
    if (!mem_grow(&c->images, &c->cap_images, c->n_images + 1, sizeof *c->images, r->e))
        return false;
    c->images[c->n_images++] = path.s;
    return true;
}

bool reader_picture(struct reader *r, const char *key, const cJSON *item)
{
    const cJSON *outer = item;
    struct members m;

    while (cJSON_IsObject(item)) {
        if (!reader_sort(r, item, picture_keys, UNUSED_PART_KEY, &m) ||
            !reader_only(r, &m, KEY_PICTURES, &item))
            return false;
    }
    return cJSON_IsString(item) ? add_path(r, item)
                                : reader_refuse(r, DROP_BROKEN, outer,
                                                "\"%s\" must be a path or a list of paths", key);
}

bool reader_pictures(struct reader *r, const cJSON *from)
{
    const cJSON *item;

    if (!cJSON_IsArray(from)) return reader_picture(r, from->string, from);
    cJSON_ArrayForEach(item, from)
    {
        if (!reader_picture(r, from->string, item)) return false;
    }
    return true;
}

bool reader_agree(struct reader *r, size_t before, const cJSON *item)
{
    struct conversation *c = r->c;
    size_t n = c->n_images - before;
    bool same = n == before;

    if (before == 0 || n == 0) return true;
    for (size_t i = 0; i < n && same; i++)
        same = strcmp(c->images[i], c->images[before + i]) == 0;
    c->n_images = before;
    return same || reader_refuse(r, DROP_MISMATCH, item,
                                 "names other pictures than the sample does in another place");
}
