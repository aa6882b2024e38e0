/* pngwalk.c - see pngwalk.h. Accepts and refuses what Pillow does: every checksum before the pixels
 * must be right and none after them is checked, unknown critical chunks are skipped, no IEND is
 * needed, and the picture is taken as it is once the last row is complete.
 *
 * A chunk is length (4 bytes, big-endian), name (4), content, CRC of name and content (4). */
#include "data/picture/pngwalk.h"

#include <png.h>
#include <string.h>
#include <zlib.h>

/* Deflate codes at best 258 bytes in 2 bits. */
#define DEFLATE_MOST 1032

struct chunk {
    const uint8_t *name, *body;
    size_t length; /* of the body, as the file says: it may extend beyond the file */
};

static bool fail(const struct pngwalk *w, const char *what)
{
    return err_set(w->e, "%s: PNG: %s", w->path, what);
}

static bool is_chunk(const struct chunk *c, const char *name)
{
    return memcmp(c->name, name, 4) == 0;
}

static bool name_fits(const uint8_t *name)
{
    for (int i = 0; i < 4; i++) {
        int c = name[i] | 0x20;

        if (!(c >= 'a' && c <= 'z') && !(name[i] >= '0' && name[i] <= '9') && name[i] != '_')
            return false;
    }
    return true;
}

/* The chunk at w->pos; false if its length and name are incomplete, or the name is invalid. */
static bool look_at_chunk(const struct pngwalk *w, struct chunk *c)
{
    if (w->pos > w->size || w->size - w->pos < 8) return false;
    c->length = png_get_uint_32(w->data + w->pos);
    c->name = w->data + w->pos + 4;
    c->body = c->name + 4;
    return name_fits(c->name);
}

/* How many bytes of the body, or of body and CRC (4 more), are in the file. */
static size_t there(const struct pngwalk *w, const struct chunk *c, size_t want)
{
    size_t left = w->size - (size_t)(c->body - w->data);

    return want < left ? want : left;
}

static bool crc_fits(const struct pngwalk *w, const struct chunk *c)
{
    if (there(w, c, c->length + 4) < c->length + 4) return false;
    return crc32_z(crc32_z(0, NULL, 0), c->name, c->length + 4) ==
           png_get_uint_32(c->body + c->length);
}

static bool read_ihdr(struct pngwalk *w, const struct chunk *c)
{
    /* By colour type: samples per pixel, and the bit depths allowed, added up. */
    static const struct {
        int samples, depths;
    } types[] = {
        [PNG_COLOR_TYPE_GRAY] = {1, 1 | 2 | 4 | 8 | 16}, [PNG_COLOR_TYPE_RGB] = {3, 8 | 16},
        [PNG_COLOR_TYPE_PALETTE] = {1, 1 | 2 | 4 | 8},   [PNG_COLOR_TYPE_GRAY_ALPHA] = {2, 8 | 16},
        [PNG_COLOR_TYPE_RGB_ALPHA] = {4, 8 | 16},
    };
    int depth = c->body[8], type = c->body[9];

    if (type > PNG_COLOR_TYPE_RGB_ALPHA || !(types[type].depths & depth) ||
        (depth & (depth - 1)) != 0)
        return err_set(w->e, "%s: PNG: colour type %d with %d bits a sample", w->path, type, depth);
    if (c->body[11] != 0) return fail(w, "unknown filter method");
    w->width = png_get_uint_32(c->body);
    w->height = png_get_uint_32(c->body + 4);
    w->interlaced = c->body[12] != 0;
    w->type = type;
    w->depth = depth;
    w->samples = types[type].samples;
    w->trns_bytes = 0;
    return true;
}

static bool read_plte(struct pngwalk *w, const struct chunk *c)
{
    size_t n = c->length / 3;

    if (w->type != PNG_COLOR_TYPE_PALETTE) return true; /* only a suggested palette */
    if (n > 256) return fail(w, "a palette of more than 256 colours");
    memcpy(w->palette, c->body, 3 * n);
    return true;
}

static bool read_trns(struct pngwalk *w, const struct chunk *c)
{
    const bool keyed = w->type == PNG_COLOR_TYPE_GRAY || w->type == PNG_COLOR_TYPE_RGB;
    const size_t n = keyed ? 2 * (size_t)w->samples : 0;

    if (c->length < n) return fail(w, "tRNS is too short");
    for (size_t i = 0; i < n; i += 2) { /* only as many bits count as a sample has */
        w->trns[i] = w->depth == 16 ? c->body[i] : 0;
        w->trns[i + 1] = (uint8_t)(c->body[i + 1] & ((1 << w->depth) - 1));
    }
    w->trns_bytes = n;
    if (w->type == PNG_COLOR_TYPE_PALETTE) {
        memset(w->trns, 255, sizeof w->trns);
        memcpy(w->trns, c->body, c->length < sizeof w->trns ? c->length : sizeof w->trns);
        w->trns_bytes = (size_t)1 << w->depth;
    }
    return true;
}

/* The chunks that pixels depend on, with the least lengths that Pillow accepts. */
static const struct {
    char name[5];
    size_t least;
    bool (*read)(struct pngwalk *w, const struct chunk *c);
} chunks[] = {
    {"IHDR", 13, read_ihdr}, {"PLTE", 0, read_plte}, {"tRNS", 0, read_trns},
    {"gAMA", 4, NULL},       {"cHRM", 32, NULL},     {"sRGB", 1, NULL},
    {"pHYs", 9, NULL},       {"acTL", 8, NULL},      {"fcTL", 26, NULL},
};

static bool read_chunk(struct pngwalk *w, const struct chunk *c)
{
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        if (!is_chunk(c, chunks[i].name)) continue;
        if (c->length < chunks[i].least)
            return err_set(w->e, "%s: PNG: %s is too short", w->path, chunks[i].name);
        return !chunks[i].read || chunks[i].read(w, c);
    }
    return true;
}

/* Reads up to the first IDAT, at which w->pos is then. */
static bool read_chunks(struct pngwalk *w)
{
    struct chunk c;

    for (w->pos = 8;; w->pos += c.length + 12) {
        if (!look_at_chunk(w, &c))
            return fail(w, "the file is cut short, or damaged, in its header");
        if (is_chunk(&c, "IDAT")) break;
        if (is_chunk(&c, "IEND")) return fail(w, "the file has no pixels");
        if (there(w, &c, c.length + 4) < c.length + 4) return fail(w, "the file is cut short");
        if (!crc_fits(w, &c))
            return err_set(w->e, "%s: PNG: the checksum of %.4s is wrong", w->path,
                           (const char *)c.name);
        if (!read_chunk(w, &c)) return false;
    }
    return w->samples > 0 || fail(w, "the file has no IHDR");
}

bool pngwalk_header(struct pngwalk *w)
{
    int64_t dense; /* most pixels per byte in this format */

    if (!read_chunks(w)) return false;
    dense = DEFLATE_MOST * 8 / (w->samples * w->depth);
    return image_check_size(w->path, w->width, w->height, w->size, dense, w->e);
}

int pngwalk_channels(const struct pngwalk *w)
{
    return (w->type & PNG_COLOR_MASK_ALPHA) || w->trns_bytes > 0 ? 4 : 3;
}

bool pngwalk_idat(struct pngwalk *w, const uint8_t **body, size_t *n)
{
    struct chunk c;

    if (!look_at_chunk(w, &c) || !is_chunk(&c, "IDAT"))
        return fail(w, "the pixels are cut short, or their compressed data damaged");
    if (!crc_fits(w, &c)) w->damage = "a checksum is wrong, or missing";
    *body = c.body;
    *n = there(w, &c, c.length);
    w->pos += c.length + 12;
    return true;
}

bool pngwalk_end(struct pngwalk *w)
{
    struct chunk c;

    for (;; w->pos += c.length + 12) {
        if (!look_at_chunk(w, &c)) {
            w->damage = "it ends before its end mark (IEND)";
            return true;
        }
        if (is_chunk(&c, "IEND")) return true;
        if (there(w, &c, c.length) < c.length)
            return err_set(w->e, "%s: PNG: the file is cut short in its chunk %.4s", w->path,
                           (const char *)c.name);
        if (!crc_fits(w, &c)) w->damage = "a checksum is wrong, or missing";
    }
}

const uint8_t *pngwalk_exif(const uint8_t *data, size_t size, size_t *len)
{
    struct pngwalk at = {.data = data, .size = size, .pos = 8};
    struct chunk c;

    *len = 0;
    for (; look_at_chunk(&at, &c) && !is_chunk(&c, "IEND"); at.pos += c.length + 12) {
        if (there(&at, &c, c.length) < c.length) return NULL;
        if (!is_chunk(&c, "eXIf")) continue;
        *len = c.length;
        return c.body;
    }
    return NULL;
}
