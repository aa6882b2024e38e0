/* h5in_group.c - the links of a group, from its symbol table (a tree of nodes whose names lie in a
 * heap) or from the group's own header. */
#include "base/hdf5/h5in_parts.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

/* A link's name is kept as an offset into the text until all are known, because the text may move
 * as it grows. */
struct entry {
    uint64_t name;
    struct h5_link link;
};

struct gather {
    struct h5_in *f;
    struct h5_links *out;
    struct entry *entries;
    size_t n, cap;
    uint64_t tree, heap; /* of the symbol table */
    bool has_table;
    uint64_t room; /* bytes of names that may still be read: the names in a heap do not overlap */
};

static bool add_link(struct gather *g, uint64_t name, const char *kind, uint64_t header,
                     struct err *e)
{
    if (!mem_grow(&g->entries, &g->cap, g->n + 1, sizeof *g->entries, e)) return false;
    g->entries[g->n++] = (struct entry){name, {.kind = kind, .header = header}};
    return true;
}

/* ---- symbol tables ---- */

/* Appends the heap's names to the text. */
static bool read_heap(struct gather *g, struct err *e)
{
    uint8_t *head = h5_in_take(g->f, g->heap, 32, "a heap of names", e), *names = NULL;
    struct h5_links *out = g->out;
    uint64_t size = 0;
    bool ok = head;

    if (ok && (memcmp(head, "HEAP", 4) != 0 || head[4] != 0))
        ok = err_set(e, "is damaged: a group has no heap of names");
    if (ok) {
        size = h5_get(head + 8, 8);
        names = h5_in_take(g->f, h5_get(head + 24, 8), size, "a heap of names", e);
    }
    ok = ok && names && mem_grow(&out->text, &out->cap_text, out->len + size + 1, 1, e);
    if (ok) {
        memcpy(out->text + out->len, names, size);
        out->text[out->len + size] = '\0';
        out->len += size + 1;
        g->room = size;
    }
    free(head);
    free(names);
    return ok;
}

/* A 40-byte entry: name, header address, cache type (2: a soft link), reserved, cache. */
static bool take_symbol(struct gather *g, const uint8_t *p, struct err *e)
{
    const uint64_t name = h5_get(p, 8);
    uint64_t len;

    if (name + 1 >= g->out->len || name > g->out->len)
        return err_set(e, "is damaged: a name is not in its heap");
    len = strlen(g->out->text + name) + 1;
    if (len > g->room) return err_set(e, "is damaged: its names overlap");
    g->room -= len;
    return add_link(g, name, h5_get(p + 16, 4) == 2 ? "a soft link" : NULL, h5_get(p + 8, 8), e);
}

/* A leaf: signature, version, reserved, number of symbols (2 bytes), the symbols. */
static bool read_symbols(struct gather *g, uint64_t at, struct err *e)
{
    uint8_t *head = h5_in_take(g->f, at, 8, "a group's symbols", e), *p = NULL;
    uint64_t n = 0;
    bool ok = head;

    if (ok && (memcmp(head, "SNOD", 4) != 0 || head[4] != 1))
        ok = err_set(e, "is damaged: a group's symbols are not where they should be");
    if (ok) {
        n = h5_get(head + 6, 2);
        p = h5_in_take(g->f, at + 8, n * 40, "a group's symbols", e);
        ok = p;
    }
    for (uint64_t i = 0; ok && i < n; i++)
        ok = take_symbol(g, p + i * 40, e);
    free(head);
    free(p);
    return ok;
}

/* A node: signature, type 0, level, number of children, two siblings; then 8-byte keys and children
 * alternately. The children of a level 0 node are symbol nodes; `level` is the level that the
 * parent requires, -1 at the root. */
static bool read_tree(struct gather *g, uint64_t at, int level, struct err *e)
{
    uint8_t *head = h5_in_take(g->f, at, 24, "a group's tree", e), *p = NULL;
    uint64_t n = 0;
    bool ok = head;

    if (ok && (memcmp(head, "TREE", 4) != 0 || head[4] != 0 || (level >= 0 && head[5] != level)))
        ok = err_set(e, "is damaged: a group's tree is not one");
    if (ok) {
        n = h5_get(head + 6, 2);
        level = head[5];
        p = h5_in_take(g->f, at + 24, n * 16 + 8, "a group's tree", e);
        ok = p;
    }
    for (uint64_t i = 0; ok && i < n; i++) {
        const uint64_t child = h5_get(p + i * 16 + 8, 8);
        ok = level ? read_tree(g, child, level - 1, e) : read_symbols(g, child, e);
    }
    free(head);
    free(p);
    return ok;
}

/* ---- links in the header ---- */

/* Version, flags; then the fields that the flags announce: link type, creation order, character
 * set; the name with its length; the target. */
static bool take_link(struct gather *g, const struct h5_message *m, struct err *e)
{
    enum { WIDTH_BITS = 3, ORDER = 4, KIND = 8, ENCODING = 16 };
    static const char *const kinds[] = {NULL, "a soft link", "an external link"};
    const uint8_t *p = m->body, *const end = p + m->size;
    struct h5_links *out = g->out;
    unsigned flags, kind;
    uint64_t len = 0;
    size_t width;

    if (m->size < 2 || p[0] != 1) return err_set(e, "is damaged: a link of no known form");
    flags = p[1];
    width = (size_t)1 << (flags & WIDTH_BITS);
    p += 2;
    kind = flags & KIND && p < end ? *p : 0;
    p += (flags & KIND ? 1 : 0) + (flags & ORDER ? 8 : 0) + (flags & ENCODING ? 1 : 0);
    if (p < end && (size_t)(end - p) >= width) len = h5_get(p, width);
    if (len == 0 || len > (size_t)(end - p) - width)
        return err_set(e, "is damaged: a link without a name");
    p += width;
    if (memchr(p, 0, len)) return err_set(e, "is damaged: a link's name has a NUL in it");
    if (kind == 0 && (size_t)(end - p) - len < 8)
        return err_set(e, "is damaged: a link leads nowhere");
    if (!mem_grow(&out->text, &out->cap_text, out->len + len + 1, 1, e)) return false;
    memcpy(out->text + out->len, p, len);
    out->text[out->len + len] = '\0';
    out->len += len + 1;
    return add_link(g, out->len - len - 1,
                    kind == 0                             ? NULL
                    : kind == 64                          ? kinds[2]
                    : kind < sizeof kinds / sizeof *kinds ? kinds[kind]
                                                          : "a link of a user's own kind",
                    kind ? 0 : h5_get(p + len, 8), e);
}

/* Version, flags, where bit 0 announces 8 more bytes; then the address of the heap, for a group
 * with many links. */
static bool check_link_info(const struct h5_message *m, struct err *e)
{
    const size_t at = m->size >= 2 && m->body[1] & 1 ? 10 : 2;

    if (m->size < at + 8) return err_set(e, "is damaged: a group of no known form");
    return h5_get(m->body + at, 8) == H5_NOWHERE ||
           err_set(e, "keeps the many links of a group in a form that is not read: libver "
                      "'earliest' writes the one that is");
}

static bool visit_group(void *arg, const struct h5_message *m, struct err *e)
{
    struct gather *g = arg;

    if (m->type == H5_MESSAGE_LINK) return take_link(g, m, e);
    if (m->type == H5_MESSAGE_LINK_INFO) return check_link_info(m, e);
    if (m->type != H5_MESSAGE_TABLE) return true;
    if (m->size < 16 || g->has_table) return err_set(e, "is damaged: a group of no known form");
    g->has_table = true;
    g->tree = h5_get(m->body, 8);
    g->heap = h5_get(m->body + 8, 8);
    return true;
}

static int by_name(const void *a, const void *b)
{
    const struct h5_link *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static bool sort_links(struct gather *g, struct err *e)
{
    struct h5_links *out = g->out;

    if (!mem_grow(&out->link, &out->cap, g->n, sizeof *out->link, e)) return false;
    for (; out->n < g->n; out->n++) {
        out->link[out->n] = g->entries[out->n].link;
        out->link[out->n].name = out->text + g->entries[out->n].name;
    }
    if (out->n) qsort(out->link, out->n, sizeof *out->link, by_name);
    for (size_t i = 1; i < out->n; i++)
        if (by_name(&out->link[i - 1], &out->link[i]) == 0)
            return err_set(e, "has two links named `%.100s`", out->link[i].name);
    return true;
}

bool h5_in_links(struct h5_in *f, uint64_t group, struct h5_links *links, struct err *e)
{
    struct gather g = {.f = f, .out = links};
    bool ok;

    *links = (struct h5_links){0};
    ok = h5_in_walk(f, group, visit_group, &g, e);
    if (ok && g.has_table && g.n) ok = err_set(e, "is damaged: a group has links of both forms");
    if (ok && g.has_table) ok = read_heap(&g, e) && read_tree(&g, g.tree, -1, e);
    ok = ok && sort_links(&g, e);
    free(g.entries);
    if (!ok) h5_links_free(links);
    return ok;
}

void h5_links_free(struct h5_links *l)
{
    free(l->link);
    free(l->text);
    *l = (struct h5_links){0};
}

bool h5_links_find(const struct h5_links *l, const char *name, uint64_t *header, struct err *e)
{
    const struct h5_link key = {.name = name}, *found = NULL;

    if (l->n) found = bsearch(&key, l->link, l->n, sizeof key, by_name);
    if (!found) return err_set(e, "has no `%s`", name);
    if (found->kind)
        return err_set(e, "`%s` is %s; what it leads to must lie in the file under that name", name,
                       found->kind);
    *header = found->header;
    return true;
}
