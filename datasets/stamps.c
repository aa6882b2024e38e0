/* stamps.c - from a list of pairs to named cut-out pictures. */
#include "datasets/stamps.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/plural.h"
#include "data/picture/resize.h"
#include "datasets/tool.h"

#include <stdlib.h>
#include <string.h>

enum { FIELDS = 6, LIST_LIMIT = 64 << 20, VISIBLE = 16 }; /* VISIBLE: the least alpha that counts */

/* Finer groups come after the one that contains them. Left out are groups that people would argue
 * about (is a carrot a plant?) and those with misfits (slugs under insects). */
const struct stamp_group stamp_groups[STAMP_GROUPS] = {
    {"animals", NULL, "an animal", "animals", true},
    {"animals", "birds", "a bird", "birds", false},
    {"animals", "mammals", "a mammal", "mammals", false},
    {"food", "fruit", "a fruit", "fruits", true},
    {"food", "vegetables", "a vegetable", "vegetables", true},
    {"plants", "flowers", "a flower", "flowers", true},
    {"vehicles", NULL, "a vehicle", "vehicles", true},
    {"town", "houses", "a building", "buildings", true},
    {"household", "tools", "a tool", "tools", true},
    {"hobbies", "music", "a musical instrument", "musical instruments", true},
    {"clothes", NULL, "something to wear", "things to wear", true},
    {"animals & nature", NULL, "an animal or a plant", "animals and plants", true},
    {"food & drink", NULL, "something to eat or drink", "things to eat or drink", true},
};

/* Names whose group does not fit them, that include other names (a dove is a bird), or
 * that do not take "a". */
static const char *const misfits[] = {
    "flower", "yellow flower", "bird",          "fish",          "clothespin", "modern clothespin",
    "button", "train sign",    "tractor wheel", "cave entrance", "apple core", "bread",
    "candy",  "cooking",       "ice",           "mate",          "oden",       "rice",
    "sake",   "salt",          "butter",        "ewe",           "fondue",     "jar",
    "spoon",  "sushi",
};

static bool starts_with(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

/* Sets name and article; false if the caption is not a plain name. */
static bool plain_name(const char *caption, struct stamp *s)
{
    const char *from = starts_with(caption, "An ")  ? caption + 3
                       : starts_with(caption, "A ") ? caption + 2
                                                    : caption;
    size_t len = strlen(from);
    int words = 1;

    if (len && from[len - 1] == '.') len--;
    if (len < 2 || len >= sizeof s->name) return false;
    for (size_t i = 0; i < len; i++) {
        words += from[i] == ' ';
        if (from[i] != ' ' && (from[i] < 'a' || from[i] > 'z')) return false;
    }
    if (words > 2 || from[len - 1] == 's') return false; /* usually a plural */
    memcpy(s->name, from, len);
    s->name[len] = '\0';
    strcpy(s->article, strchr("aeiou", from[0]) ? "an" : "a");
    for (size_t i = 0; i < sizeof misfits / sizeof misfits[0]; i++)
        if (!strcmp(s->name, misfits[i])) return false;
    return true;
}

/* Keywords are separated by ';'. */
static bool has_keyword(const char *list, const char *word)
{
    for (; list; list = strchr(list, ';'), list = list ? list + 1 : NULL)
        if (starts_with(list, word)) return true;
    return false;
}

/* False if no group gives the sort. */
static bool find_groups(const char *category, const char *keywords, struct stamp *s)
{
    s->sort = -1;
    for (int8_t g = 0; g < STAMP_GROUPS; g++) {
        const struct stamp_group *group = &stamp_groups[g];
        if (strcmp(category, group->category) != 0) continue;
        if (group->keyword && !has_keyword(keywords, group->keyword)) continue;
        s->groups |= UINT32_C(1) << g;
        s->finest = g;
        if (group->sort) s->sort = g;
    }
    return s->sort >= 0;
}

/* Parses one line, in place. Unusable pictures are skipped. */
static bool read_line(struct stamp_list *l, char *line, const char *root, struct err *e)
{
    char *field[FIELDS];
    struct stamp s = {.path = NULL};

    for (int i = 0; i < FIELDS; i++) {
        field[i] = strsep(&line, "\t");
        if (!field[i])
            return err_set(e,
                           "%d field%s, 6 are needed (image, split, style, category, caption, "
                           "keywords)",
                           i, plural(i));
    }
    if (!plain_name(field[4], &s) || !find_groups(field[3], field[5], &s)) return true;
    s.held_out = strcmp(field[1], "train") != 0;
    if (!mem_grow(&l->stamp, &l->cap, l->count + 1, sizeof *l->stamp, e)) return false;
    s.path = file_join(root, field[0], e);
    if (!s.path) return false;
    l->stamp[l->count++] = s;
    return true;
}

bool stamps_read(struct stamp_list *l, const char *pairs, const char *root, struct err *e)
{
    char *text, *rest;
    size_t len, line = 0;
    bool ok;

    memset(l, 0, sizeof *l);
    ok = file_read(pairs, LIST_LIMIT, &text, &len, e);
    if (ok && strlen(text) != len) ok = err_set(e, "%s: not a text: it holds a NUL byte", pairs);
    for (rest = text; ok && rest && *rest;) {
        ok = read_line(l, strsep(&rest, "\n"), root, e);
        line++;
        if (!ok) err_context(e, "%s: line %zu", pairs, line);
    }
    free(text);
    return ok;
}

void stamps_free(struct stamp_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->stamp[i].path);
        image_free(&l->stamp[i].image);
    }
    free(l->stamp);
    memset(l, 0, sizeof *l);
}

/* The next name of group g not yet chosen: the shortest, ties in alphabetical order. */
static const struct stamp *next_name(const struct stamp_list *l, int g)
{
    const struct stamp *best = NULL;

    for (size_t i = 0; i < l->count; i++) {
        const struct stamp *s = &l->stamp[i];
        if (s->held_out || s->named || s->finest != g) continue;
        size_t len = strlen(s->name), least = best ? strlen(best->name) : SIZE_MAX;
        if (len < least || (len == least && strcmp(s->name, best->name) < 0)) best = s;
    }
    return best;
}

int64_t stamps_choose(struct stamp_list *l, int64_t names)
{
    int64_t chosen = 0;

    for (bool more = true; more;) {
        more = false;
        for (int g = 0; g < STAMP_GROUPS && chosen < names; g++) {
            const struct stamp *s = next_name(l, g);
            if (!s) continue;
            for (size_t i = 0; i < l->count; i++)
                if (!strcmp(l->stamp[i].name, s->name)) l->stamp[i].named = true;
            chosen++;
            more = true;
        }
    }
    return chosen;
}

/* The bounding box of the visible part; false if there is none. */
static bool visible_box(const struct image *im, struct image_box *box)
{
    int64_t left = im->width, top = im->height, right = -1, bottom = -1;

    for (int64_t y = 0; y < im->height; y++) {
        for (int64_t x = 0; x < im->width; x++) {
            if (im->px[(y * im->width + x) * 4 + 3] < VISIBLE) continue;
            if (x < left) left = x;
            if (y < top) top = y;
            if (x > right) right = x;
            if (y > bottom) bottom = y;
        }
    }
    *box = (struct image_box){left, top, right - left + 1, bottom - top + 1};
    return right >= 0;
}

bool stamp_fit(const struct image *im, int64_t longest, struct image *fit, struct err *e)
{
    int64_t most = im->width > im->height ? im->width : im->height;
    int64_t w = im->width * longest / most, h = im->height * longest / most;

    return image_resize(im, w > 0 ? w : 1, h > 0 ? h : 1, RESIZE_BICUBIC, fit, e);
}

/* Leaves s->image zeroed if the picture is not a cut-out. */
static bool load(struct stamp *s, int64_t longest, struct err *e)
{
    struct image im, cut = {0};
    struct image_box box;
    bool ok = true;

    if (!tool_read_image(&im, s->path, e)) return false;
    if (im.channels == 4 && visible_box(&im, &box)) ok = image_crop(&im, &box, &cut, e);
    image_free(&im);
    if (cut.width > longest || cut.height > longest) {
        ok = stamp_fit(&cut, longest, &s->image, e);
        image_free(&cut);
    } else {
        s->image = cut;
    }
    return ok;
}

bool stamps_load(struct stamp_list *l, int64_t longest, struct err *e)
{
    size_t kept = 0;

    for (size_t i = 0; i < l->count; i++) {
        if (!load(&l->stamp[i], longest, e)) return false;
        if (!l->stamp[i].image.px) continue;
        struct stamp swap = l->stamp[kept]; /* skipped entries move to the end */
        l->stamp[kept++] = l->stamp[i];
        l->stamp[i] = swap;
    }
    while (l->count > kept)
        free(l->stamp[--l->count].path);
    return true;
}
