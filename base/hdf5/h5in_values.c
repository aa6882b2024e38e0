/* h5in_values.c - an array or attribute: its type, shape and storage. */
#include "base/hdf5/h5in_parts.h"

#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An array whose header is being read; its messages come in any order. */
struct array {
    struct h5_values *v;
    bool has_type, has_space, has_layout, has_filters, external;
    unsigned layout; /* enum below */
    unsigned filter; /* id of the first */
    uint64_t stored; /* bytes */
    const char *odd; /* describes the type, if it is not supported */
};

/* ---- type ---- */

enum { TYPE_HEAD = 8 }; /* class and version, three bytes of flags, 4-byte size */

/* False if the class matches but not in a supported form. */
typedef bool take_class(struct h5_values *v, const uint8_t *p, size_t n);

static bool take_integer(struct h5_values *v, const uint8_t *p, size_t n)
{
    enum { BIG_ENDIAN_BIT = 1, SIGNED = 8 };

    v->kind = p[1] & SIGNED ? H5_KIND_INT : H5_KIND_UINT;
    v->big_endian = p[1] & BIG_ENDIAN_BIT;
    return n >= TYPE_HEAD + 4 && h5_get(p + 8, 2) == 0 && /* bit offset and precision */
           h5_get(p + 10, 2) == 8 * v->size &&
           (v->size == 1 || v->size == 2 || v->size == 4 || v->size == 8);
}

/* bf16 is not a type of HDF5: it is stored as the upper half of an fp32. */
static bool take_float(struct h5_values *v, const uint8_t *p, size_t n)
{
    /* As in the file, from the second flag byte on: position of the sign; size; bit offset and
     * precision; position and width of exponent and mantissa; exponent bias. */
    static const struct {
        uint8_t bytes[18];
        enum h5_kind kind;
    } known[] = {{{31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0}, H5_KIND_FLOAT},
                 {{63, 0, 8, 0, 0, 0, 0, 0, 64, 0, 52, 11, 0, 52, 255, 3, 0, 0}, H5_KIND_FLOAT},
                 {{15, 0, 2, 0, 0, 0, 0, 0, 16, 0, 7, 8, 0, 7, 127, 0, 0, 0}, H5_KIND_BF16}};
    enum { ORDER_BIT = 1, NORMALISED = 0x20, PADDING_BITS = 0x0E };

    v->big_endian = p[1] & ORDER_BIT;
    for (size_t i = 0; i < sizeof known / sizeof *known && n >= 2 + sizeof known->bytes; i++)
        if (memcmp(p + 2, known[i].bytes, sizeof known->bytes) == 0 &&
            (p[1] & ~(ORDER_BIT | PADDING_BITS)) == NORMALISED) {
            v->kind = known[i].kind;
            return true;
        }
    return false;
}

static bool take_text(struct h5_values *v, const uint8_t *p, size_t n)
{
    (void)p, (void)n;
    v->kind = H5_KIND_TEXT;
    return true;
}

static bool take_type(struct array *a, const struct h5_message *m, struct err *e)
{
    static const struct {
        const char *odd; /* how to describe it where it is not supported */
        take_class *take;
    } classes[] = {{"integers of an unusual width", take_integer},
                   {"floats of an unusual form", take_float},
                   {"times", NULL},
                   {"texts", take_text},
                   {"bit fields", NULL},
                   {"opaque bytes", NULL},
                   {"compounds", NULL},
                   {"references", NULL},
                   {"enumerated", NULL},
                   {"of variable length", NULL},
                   {"arrays", NULL},
                   {"complex numbers", NULL}};
    const unsigned class = m->size < TYPE_HEAD ? UINT8_MAX : m->body[0] & 15;

    if (class >= sizeof classes / sizeof *classes)
        return err_set(e, "is damaged: its values have no known type");
    a->v->size = h5_get(m->body + 4, 4);
    if (a->v->size == 0) return err_set(e, "is damaged: its values have no size");
    if (!classes[class].take || !classes[class].take(a->v, m->body, m->size)) {
        a->odd = classes[class].odd;
        a->v->kind = H5_KIND_OTHER;
    }
    return true;
}

/* ---- shape ---- */

/* Version, rank, flags; 5 more bytes in version 1, the kind in version 2; the dims. The maximum
 * dims that may follow do not matter. */
static bool take_space(struct array *a, const struct h5_message *m, struct err *e)
{
    enum { NO_VALUES = 2 };
    const uint8_t *p = m->body;
    const size_t head = m->size && p[0] == 1 ? 8 : 4;
    struct h5_values *v = a->v;

    if (m->size < head || (p[0] != 1 && p[0] != 2) || p[1] > H5_IN_RANK ||
        (m->size - head) / 8 < p[1])
        return err_set(e, "is damaged: its shape has no known form");
    v->rank = p[1];
    v->count = p[0] == 2 && p[3] == NO_VALUES ? 0 : 1;
    for (int i = 0; i < v->rank; i++) {
        v->dims[i] = h5_get(p + head + 8 * i, 8);
        if (!size_mul(&v->count, v->count, v->dims[i]))
            return err_set(e, "is damaged: its shape has more than 2^64 values");
    }
    return true;
}

/* ---- storage ---- */

enum { COMPACT, CONTIGUOUS, CHUNKED, VIRTUAL };

/* Version, class; then size and the bytes themselves, or address and size. */
static bool take_layout(struct array *a, const struct h5_message *m, struct err *e)
{
    const uint8_t *p = m->body;

    if (m->size < 2) return err_set(e, "is damaged: its storage has no known form");
    if (p[0] != 3 && p[0] != 4)
        return err_set(e,
                       "its values are stored as HDF5 before 1.6.3 did (form %u), which is not "
                       "read",
                       p[0]);
    a->layout = p[1];
    if (a->layout == COMPACT && m->size >= 4) {
        a->v->at = m->at + 4;
        a->stored = h5_get(p + 2, 2);
        return a->stored <= m->size - 4 || err_set(e, "is damaged: its values are cut short");
    }
    if (a->layout == CONTIGUOUS && m->size >= 18) {
        a->v->at = h5_get(p + 2, 8);
        a->stored = h5_get(p + 10, 8);
        return true;
    }
    return a->layout == CHUNKED || a->layout == VIRTUAL ||
           err_set(e, "is damaged: its storage has no known form");
}

/* Version, count, 6 more bytes in version 1; then the first one's id. */
static bool take_filters(struct array *a, const struct h5_message *m, struct err *e)
{
    const size_t at = m->size && m->body[0] == 1 ? 8 : 2;

    if (m->size < at + 2) return err_set(e, "is damaged: its filters have no known form");
    a->filter = (unsigned)h5_get(m->body + at, 2);
    return true;
}

static bool take_external(struct array *a, const struct h5_message *m, struct err *e)
{
    (void)m, (void)e;
    a->external = true;
    return true;
}

static bool visit_array(void *arg, const struct h5_message *m, struct err *e)
{
    struct array *a = arg;
    bool *const has[] = {&a->has_type, &a->has_space, &a->has_layout, &a->has_filters,
                         &a->external};
    static const struct {
        unsigned type;
        bool (*take)(struct array *a, const struct h5_message *m, struct err *e);
    } known[] = {{H5_MESSAGE_TYPE, take_type},
                 {H5_MESSAGE_SPACE, take_space},
                 {H5_MESSAGE_LAYOUT, take_layout},
                 {H5_MESSAGE_FILTERS, take_filters},
                 {H5_MESSAGE_EXTERNAL, take_external}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (m->type != known[i].type) continue;
        if (*has[i]) return err_set(e, "is damaged: it says twice what it is");
        *has[i] = true;
        return known[i].take(a, m, e);
    }
    return true;
}

/* The file must hold exactly as many bytes of values as type and shape require. */
static bool check_stored(const struct h5_in *f, const struct array *a, struct err *e)
{
    const struct h5_values *v = a->v;
    size_t bytes;

    if (!size_mul(&bytes, v->count, v->size) || bytes != a->stored)
        return err_set(e,
                       "is damaged: %" PRIu64 " values of %" PRIu64 " bytes in %" PRIu64
                       " bytes of storage",
                       v->count, v->size, a->stored);
    if (bytes && v->at == H5_NOWHERE) return err_set(e, "its values were never written");
    if (bytes && (v->at > f->end || bytes > f->end - v->at))
        return err_set(e, "is damaged or cut short: its values extend beyond the end of the file");
    return true;
}

static bool check_plain(const struct array *a, struct err *e)
{
    static const char *const filters[] = {"?",    "gzip", "shuffle",    "fletcher32",
                                          "szip", "nbit", "scaleoffset"};
    const bool named = a->filter && a->filter < sizeof filters / sizeof *filters;
    char filter[40] = "";

    if (!a->has_type || !a->has_space || !a->has_layout) return err_set(e, "is not an array");
    if (a->odd)
        return err_set(e, "its values are %s; integers, floats and texts of fixed length are read",
                       a->odd);
    if (a->external || a->layout == VIRTUAL)
        return err_set(e, "its values lie in another file; they must be in this one");
    if (a->has_filters && named)
        snprintf(filter, sizeof filter, ", packed by %s", filters[a->filter]);
    else if (a->has_filters)
        snprintf(filter, sizeof filter, ", packed by filter %u", a->filter);
    if (a->layout == CHUNKED || a->has_filters)
        return err_set(e,
                       "its values are stored in chunks%s: write it without chunks and "
                       "compression",
                       filter);
    return true;
}

bool h5_in_array(struct h5_in *f, uint64_t header, struct h5_values *v, struct err *e)
{
    struct array a = {.v = v};

    *v = (struct h5_values){0};
    return h5_in_walk(f, header, visit_array, &a, e) && check_plain(&a, e) &&
           check_stored(f, &a, e);
}

/* ---- attributes ---- */

struct find {
    const char *name;
    struct array a;
    bool there;
};

/* Versions 1 to 3: version, flags (1: none), the sizes of name, type and shape in 2 bytes each, the
 * encoding (3), then these three parts (1: each padded to 8 bytes) and the values. */
static bool visit_attribute(void *arg, const struct h5_message *m, struct err *e)
{
    struct find *find = arg;
    const uint8_t *p = m->body;
    size_t at, size[3];
    struct h5_message part[3];

    if (m->type != H5_MESSAGE_ATTRIBUTE) return true;
    if (m->size < 9 || p[0] < 1 || p[0] > 3)
        return err_set(e, "is damaged: an attribute has no known form");
    at = p[0] == 3 ? 9 : 8;
    for (int i = 0; i < 3; i++) {
        size[i] = (size_t)h5_get(p + 2 + 2 * i, 2);
        part[i] = (struct h5_message){.body = p + at, .size = size[i], .at = m->at + at};
        at += p[0] == 1 ? (size[i] + 7) & ~(size_t)7 : size[i];
        if (at > m->size) return err_set(e, "is damaged: an attribute is cut short");
    }
    if (size[0] == 0 || part[0].body[size[0] - 1])
        return err_set(e, "is damaged: an attribute has no name");
    if (strcmp((const char *)part[0].body, find->name) != 0) return true;
    if (find->there) return err_set(e, "has two attributes `%s`", find->name);
    find->there = true;
    if (p[0] > 1 && p[1]) { /* type or shape is shared, i.e. stored elsewhere */
        find->a.v->kind = H5_KIND_OTHER;
        return true;
    }
    find->a.v->at = m->at + at;
    find->a.stored = m->size - at;
    if (!take_type(&find->a, &part[1], e) || !take_space(&find->a, &part[2], e))
        return err_context(e, "attribute `%s`", find->name);
    return true;
}

bool h5_in_attribute(struct h5_in *f, uint64_t header, const char *name, struct h5_values *v,
                     bool *there, struct err *e)
{
    struct find find = {.name = name, .a.v = v};
    size_t bytes;
    bool ok;

    *v = (struct h5_values){0};
    ok = h5_in_walk(f, header, visit_attribute, &find, e);
    *there = find.there;
    if (!ok || !find.there || v->kind == H5_KIND_OTHER) return ok;
    if (!size_mul(&bytes, v->count, v->size)) bytes = SIZE_MAX;
    if (bytes < find.a.stored && find.a.stored - bytes < 8) find.a.stored = bytes; /* padding */
    return check_stored(f, &find.a, e) || err_context(e, "attribute `%s`", name);
}

/* ---- values ---- */

static int64_t integer_of(const struct h5_values *v, const uint8_t *p)
{
    uint64_t x = 0;

    for (uint64_t i = 0; i < v->size; i++)
        x |= (uint64_t)p[v->big_endian ? v->size - 1 - i : i] << 8 * i;
    if (v->kind == H5_KIND_UINT) return x > INT64_MAX ? INT64_MAX : (int64_t)x;
    return (int64_t)(x << (64 - 8 * v->size)) >> (64 - 8 * v->size); /* sign extension */
}

bool h5_in_integers(const struct h5_in *f, const struct h5_values *v, int64_t *to, struct err *e)
{
    uint8_t *raw;
    bool ok;

    if (v->kind != H5_KIND_INT && v->kind != H5_KIND_UINT)
        return err_set(e, "its values are not integers");
    raw = mem_new(v->count, v->size, "integers", e);
    ok = raw && h5_in_read(f, v, 0, v->count, raw, e);
    for (uint64_t i = 0; ok && i < v->count; i++)
        to[i] = integer_of(v, raw + i * v->size);
    free(raw);
    return ok;
}

bool h5_in_text(const struct h5_in *f, const struct h5_values *v, char *to, size_t size,
                struct err *e)
{
    if (v->kind != H5_KIND_TEXT || v->count != 1)
        return err_set(e, "is not one text of fixed length");
    if (v->size >= size)
        return err_set(e, "is a text of %" PRIu64 " bytes, at most %zu are allowed", v->size,
                       size - 1);
    to[v->size] = '\0';
    return h5_in_read(f, v, 0, 1, to, e);
}
