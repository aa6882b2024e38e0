/* png.c - PNG files in, by zlib and by hand. libpng, which reads and refuses other damaged files
 * than Pillow does, could not be made to follow it: Pillow wants every checksum before the pixels
 * to be right and looks at none behind them, needs no IEND, skips critical chunks that it does not
 * know, and takes what has come once the last row is complete.
 *
 * A chunk is length (4 bytes, big end first), name (4), content, CRC of name and content (4). */
#include "data/png.h"
#include "base/mem.h"
#include "data/pngrow.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Bytes that are given to zlib at a time. Pillow's number: it decides whether the checksum at the
 * end of the compressed data is seen before the last row is complete. */
#define FEED ((size_t)65536)

/* Deflate codes 258 bytes in 2 bits at best. */
#define DEFLATE_MOST 1032

struct job {
    const char *path;
    struct err *e;
    const uint8_t *data;
    size_t size, pos; /* pos: where the next chunk begins */
    int64_t width, height;
    bool interlaced;
    struct pngrow_format format;
};

struct chunk {
    const uint8_t *name, *body;
    size_t length; /* of the body, as the file says: it may end outside of the file */
};

static bool fail(const struct job *j, const char *what)
{
    return err_set(j->e, "%s: PNG: %s", j->path, what);
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
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

/* The chunk at j->pos; false where its length and name are not there, or it has no name. */
static bool look_at_chunk(const struct job *j, struct chunk *c)
{
    if (j->pos > j->size || j->size - j->pos < 8) return false;
    c->length = be32(j->data + j->pos);
    c->name = j->data + j->pos + 4;
    c->body = c->name + 4;
    return name_fits(c->name);
}

/* Bytes of the body, or of body and CRC (4 more), that are in the file. */
static size_t there(const struct job *j, const struct chunk *c, size_t want)
{
    size_t left = j->size - (size_t)(c->body - j->data);

    return want < left ? want : left;
}

static bool crc_fits(const struct job *j, const struct chunk *c)
{
    if (there(j, c, c->length + 4) < c->length + 4) return false;
    return crc32_z(crc32_z(0, NULL, 0), c->name, c->length + 4) == be32(c->body + c->length);
}

static bool read_ihdr(struct job *j, const struct chunk *c)
{
    static const int samples[] = {
        [PNG_GRAY] = 1, [PNG_RGB] = 3, [PNG_INDEX] = 1, [PNG_GRAY_ALPHA] = 2, [PNG_RGB_ALPHA] = 4};
    /* Bits a sample that each colour type may have, one bit set for each. */
    static const int depths[] = {[PNG_GRAY] = 1 | 2 | 4 | 8 | 16,
                                 [PNG_RGB] = 8 | 16,
                                 [PNG_INDEX] = 1 | 2 | 4 | 8,
                                 [PNG_GRAY_ALPHA] = 8 | 16,
                                 [PNG_RGB_ALPHA] = 8 | 16};
    int depth, type;

    if (c->length < 13) return fail(j, "IHDR is too short");
    depth = c->body[8];
    type = c->body[9];
    if (type > PNG_RGB_ALPHA || !(depths[type] & depth) || (depth & (depth - 1)) != 0)
        return err_set(j->e, "%s: PNG: colour type %d with %d bits a sample", j->path, type, depth);
    if (c->body[11] != 0) return fail(j, "unknown filter method");
    j->width = be32(c->body);
    j->height = be32(c->body + 4);
    j->interlaced = c->body[12] != 0;
    j->format.type = type;
    j->format.depth = depth;
    j->format.samples = samples[type];
    return true;
}

static bool read_plte(struct job *j, const struct chunk *c)
{
    size_t n = c->length / 3;

    if (j->format.type != PNG_INDEX) return true; /* a suggestion for those with few colours */
    if (n > 256) return fail(j, "a palette of more than 256 colours");
    for (size_t i = 0; i < n; i++)
        memcpy(j->format.palette[i], c->body + 3 * i, 3);
    return true;
}

static bool read_trns(struct job *j, const struct chunk *c)
{
    struct pngrow_format *f = &j->format;
    int samples = f->type == PNG_GRAY ? 1 : f->type == PNG_RGB ? 3 : 0;

    if (c->length < 2 * (size_t)samples) return fail(j, "tRNS is too short");
    for (int i = 0; i < samples; i++) /* only as many bits count as a sample has */
        f->key[i] = (uint16_t)((c->body[2 * i] << 8 | c->body[2 * i + 1]) & ((1 << f->depth) - 1));
    f->keyed = samples > 0;
    f->clear = f->type == PNG_INDEX;
    for (size_t i = 0; f->clear && i < c->length && i < 256; i++)
        f->palette[i][3] = c->body[i];
    return true;
}

/* What pixels need to be known for, and the least lengths without which Pillow refuses a file. */
static const struct {
    char name[5];
    size_t least;
    bool (*read)(struct job *j, const struct chunk *c);
} chunks[] = {
    {"IHDR", 13, read_ihdr}, {"PLTE", 0, read_plte}, {"tRNS", 0, read_trns},
    {"gAMA", 4, NULL},       {"cHRM", 32, NULL},     {"sRGB", 1, NULL},
    {"pHYs", 9, NULL},       {"acTL", 8, NULL},      {"fcTL", 26, NULL},
};

static bool read_chunk(struct job *j, const struct chunk *c)
{
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        if (!is_chunk(c, chunks[i].name)) continue;
        if (c->length < chunks[i].least)
            return err_set(j->e, "%s: PNG: %s is too short", j->path, chunks[i].name);
        return !chunks[i].read || chunks[i].read(j, c);
    }
    return true;
}

/* Up to the first IDAT: that is where j->pos is then. */
static bool read_chunks(struct job *j)
{
    struct chunk c;

    for (int i = 0; i < 256; i++)
        j->format.palette[i][3] = 255;
    for (j->pos = 8;; j->pos += c.length + 12) {
        if (!look_at_chunk(j, &c))
            return fail(j, "the file is cut short, or damaged, in its header");
        if (is_chunk(&c, "IDAT")) break;
        if (is_chunk(&c, "IEND")) return fail(j, "the file has no pixels");
        if (there(j, &c, c.length + 4) < c.length + 4) return fail(j, "the file is cut short");
        if (!crc_fits(j, &c))
            return err_set(j->e, "%s: PNG: the checksum of %.4s is wrong", j->path,
                           (const char *)c.name);
        if (!read_chunk(j, &c)) return false;
    }
    return j->format.samples > 0 || fail(j, "the file has no IHDR");
}

/* Adam7: pass p has the pixels (x0 + i dx, y0 + k dy). The last row is a file without passes. */
static const struct pass {
    int64_t x0, y0, dx, dy;
} passes[] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
              {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}, {0, 0, 1, 1}};
enum { PASSES = 7, NO_PASS = 7 };

static int64_t pass_width(const struct job *j, const struct pass *p)
{
    return (j->width - p->x0 + p->dx - 1) / p->dx;
}

/* How many pixels at most a byte of this file's format can hold. */
static int64_t dense(const struct pngrow_format *f)
{
    return DEFLATE_MOST * 8 / (f->samples * f->depth);
}

static bool read_header(struct job *j)
{
    return read_chunks(j) &&
           image_check_size(j->path, j->width, j->height, j->size, dense(&j->format), j->e);
}

bool png_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};

    if (!read_header(&j)) return false;
    info->width = j.width;
    info->height = j.height;
    info->memory = j.width * (j.height + 1) * pngrow_channels(&j.format) +
                   2 * (int64_t)pngrow_bytes(&j.format, j.width);
    return true;
}

/* The rows as they come out of zlib: each is a filter's number and its bytes. */
struct rows {
    z_stream z;
    struct upright *out;
    uint8_t *row, *prior; /* [1 + bytes of a row] */
    uint8_t *pixels;      /* [width, channels] */
    size_t have;          /* bytes of the row that have come */
    int pass;
    int64_t y;
    bool done;
};

static size_t row_bytes(const struct job *j, const struct rows *r)
{
    return pngrow_bytes(&j->format, pass_width(j, &passes[r->pass]));
}

static void put_row(const struct job *j, const struct rows *r)
{
    const struct pass *p = &passes[r->pass];
    const struct upright_row where = {.y = r->y, .x = p->x0, .step = p->dx, .n = pass_width(j, p)};

    pngrow_expand(&j->format, r->row + 1, where.n, r->pixels);
    upright_put(r->out, &where, r->pixels);
}

/* To the next row that has pixels; r->done where there is none. */
static void next_row(const struct job *j, struct rows *r)
{
    uint8_t *swap = r->prior;

    r->prior = r->row;
    r->row = swap;
    r->have = 0;
    r->y += passes[r->pass].dy;
    while (r->y >= j->height || pass_width(j, &passes[r->pass]) <= 0) {
        if (++r->pass >= PASSES) { /* NO_PASS, too, has none behind it */
            r->done = true;
            return;
        }
        r->y = passes[r->pass].y0;
        memset(r->prior, 0, 1 + pngrow_bytes(&j->format, j->width));
    }
}

/* The compressed data end with a row, but before the last one: the others are 0. */
static void clear_rest(const struct job *j, struct rows *r)
{
    r->out->img->damage = "its last rows are missing, and are taken as 0";
    while (!r->done) {
        memset(r->row, 0, 1 + row_bytes(j, r));
        put_row(j, r);
        next_row(j, r);
    }
}

/* Takes the next n bytes of compressed data. */
static bool feed(struct job *j, struct rows *r, const uint8_t *in, size_t n)
{
    r->z.next_in = (Bytef *)(uintptr_t)in; /* zlib's pointer is not const; it does not write */
    r->z.avail_in = (uInt)n;
    while (r->z.avail_in > 0 && !r->done) {
        size_t full = 1 + row_bytes(j, r);
        int rc;

        r->z.next_out = r->row + r->have;
        r->z.avail_out = (uInt)(full - r->have);
        rc = inflate(&r->z, Z_NO_FLUSH);
        if (rc == Z_MEM_ERROR) return err_set(j->e, "%s: PNG: out of memory", j->path);
        if (rc != Z_OK && rc != Z_STREAM_END)
            return err_set(j->e, "%s: PNG: the compressed data are damaged: %s", j->path,
                           r->z.msg ? r->z.msg : zError(rc));
        r->have = full - r->z.avail_out;
        if (r->have < full) return true;
        if (!pngrow_unfilter(r->row[0], r->row + 1, r->prior + 1, full - 1,
                             pngrow_bytes(&j->format, 1)))
            return err_set(j->e, "%s: PNG: there is no filter %d", j->path, r->row[0]);
        put_row(j, r);
        next_row(j, r);
        if (rc == Z_STREAM_END && !r->done) clear_rest(j, r);
    }
    return true;
}

/* The IDAT chunks from j->pos on, until the picture is complete. */
static bool read_pixels(struct job *j, struct rows *r)
{
    struct chunk c;

    for (; !r->done; j->pos += c.length + 12) {
        size_t n;

        if (!look_at_chunk(j, &c) || !is_chunk(&c, "IDAT"))
            return fail(j, "the pixels are cut short");
        n = there(j, &c, c.length);
        for (size_t at = 0; at < n && !r->done; at += FEED)
            if (!feed(j, r, c.body + at, n - at < FEED ? n - at : FEED)) return false;
        if (!crc_fits(j, &c)) r->out->img->damage = "a checksum is wrong, or missing";
    }
    return true;
}

/* Behind the pixels: chunks must be whole, but may end anywhere. */
static bool read_end(struct job *j, struct image *img)
{
    struct chunk c;

    for (;; j->pos += c.length + 12) {
        if (!look_at_chunk(j, &c)) {
            img->damage = "it ends before its end mark (IEND)";
            return true;
        }
        if (is_chunk(&c, "IEND")) return true;
        if (there(j, &c, c.length) < c.length)
            return err_set(j->e, "%s: PNG: the file is cut short in its chunk %.4s", j->path,
                           (const char *)c.name);
        if (!crc_fits(j, &c)) img->damage = "a checksum is wrong, or missing";
    }
}

static bool decode(struct job *j, struct rows *r)
{
    const size_t full = 1 + pngrow_bytes(&j->format, j->width);
    const int channels = pngrow_channels(&j->format);

    if (full > UINT32_MAX) return fail(j, "rows of 4 GiB and more"); /* zlib counts in 32 bits */
    if (!upright_new(r->out, j->width, j->height, channels, j->e)) return false;
    r->row = mem_new(full, 1, "a row of a picture", j->e);
    r->prior = r->row ? mem_new(full, 1, "a row of a picture", j->e) : NULL;
    r->pixels =
        r->prior ? mem_new((size_t)j->width, (size_t)channels, "a row of a picture", j->e) : NULL;
    if (!r->pixels) return false;
    if (inflateInit(&r->z) != Z_OK) return err_set(j->e, "%s: PNG: out of memory", j->path);
    return read_pixels(j, r) && read_end(j, r->out->img);
}

bool png_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};
    struct rows r = {.out = out};
    bool ok;

    if (!read_header(&j)) return false;
    r.pass = j.interlaced ? 0 : NO_PASS;
    ok = decode(&j, &r);
    inflateEnd(&r.z); /* fine where inflateInit was not reached: there is no state */
    free(r.row);
    free(r.prior);
    free(r.pixels);
    if (!ok) image_free(out->img);
    return ok;
}

const uint8_t *png_file_exif(const uint8_t *data, size_t size, size_t *len)
{
    const struct job j = {.data = data, .size = size, .pos = 8};
    struct job at = j;
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
