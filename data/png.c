/* png.c - PNG files in. Our own walk over the chunks decides what is read and what is refused, as
 * Pillow does: every checksum before the pixels must be right and none behind them is looked at, no
 * IEND is needed, and what has come once the last row is complete is taken. libpng, which is
 * stricter, gets a clean header made from what the walk has found, then the compressed bytes; it
 * decompresses, undoes filters and expands samples. It reads by its progressive functions: the rows
 * of an interlaced file come pass by pass, so that no second copy of the picture is needed.
 *
 * libpng reports errors by longjmp: what must outlive the jump lives in struct job.
 *
 * A chunk is length (4 bytes, big end first), name (4), content, CRC of name and content (4). */
#include "data/png.h"

#include <inttypes.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Bytes that are decompressed at a time. Pillow's number: it decides whether the checksum at the
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
    int type, depth, samples; /* depth: bits a sample; samples of a pixel, 0 before IHDR */
    bool interlaced;
    bool trns;               /* there is a tRNS chunk that counts */
    uint8_t palette[256][3]; /* entries that the file lacks are black */
    uint8_t key[6];          /* tRNS of gray and RGB: the samples that are transparent */
    uint8_t alpha[256];      /* tRNS of a palette */
    png_structp png;
    png_infop info;
    struct upright *out;
    int64_t left; /* pixels that have not come yet */
};

struct chunk {
    const uint8_t *name, *body;
    size_t length; /* of the body, as the file says: it may end outside of the file */
};

static bool fail(const struct job *j, const char *what)
{
    return err_set(j->e, "%s: PNG: %s", j->path, what);
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
    c->length = png_get_uint_32(j->data + j->pos);
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
    return crc32_z(crc32_z(0, NULL, 0), c->name, c->length + 4) ==
           png_get_uint_32(c->body + c->length);
}

static bool read_ihdr(struct job *j, const struct chunk *c)
{
    /* By colour type: samples of a pixel, and the bits that each may have, added up. */
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
        return err_set(j->e, "%s: PNG: colour type %d with %d bits a sample", j->path, type, depth);
    if (c->body[11] != 0) return fail(j, "unknown filter method");
    j->width = png_get_uint_32(c->body);
    j->height = png_get_uint_32(c->body + 4);
    j->interlaced = c->body[12] != 0;
    j->type = type;
    j->depth = depth;
    j->samples = types[type].samples;
    return true;
}

static bool read_plte(struct job *j, const struct chunk *c)
{
    size_t n = c->length / 3;

    if (j->type != PNG_COLOR_TYPE_PALETTE) return true; /* a suggestion for few colours */
    if (n > 256) return fail(j, "a palette of more than 256 colours");
    memcpy(j->palette, c->body, 3 * n);
    return true;
}

/* Samples of the colour that tRNS makes transparent in gray and RGB. */
static int key_samples(const struct job *j)
{
    return j->type == PNG_COLOR_TYPE_GRAY || j->type == PNG_COLOR_TYPE_RGB ? j->samples : 0;
}

static bool read_trns(struct job *j, const struct chunk *c)
{
    size_t n = 2 * (size_t)key_samples(j);

    if (c->length < n) return fail(j, "tRNS is too short");
    for (size_t i = 0; i < n; i += 2) { /* only as many bits count as a sample has */
        j->key[i] = j->depth == 16 ? c->body[i] : 0;
        j->key[i + 1] = (uint8_t)(c->body[i + 1] & ((1 << j->depth) - 1));
    }
    if (j->type == PNG_COLOR_TYPE_PALETTE)
        memcpy(j->alpha, c->body, c->length < 256 ? c->length : 256);
    j->trns = n > 0 || j->type == PNG_COLOR_TYPE_PALETTE;
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

    memset(j->alpha, 255, sizeof j->alpha);
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
    return j->samples > 0 || fail(j, "the file has no IHDR");
}

static bool read_header(struct job *j)
{
    if (!read_chunks(j)) return false;
    /* The most pixels that a byte of this format can hold: */
    const int64_t dense = DEFLATE_MOST * 8 / (j->samples * j->depth);

    return image_check_size(j->path, j->width, j->height, j->size, dense, j->e);
}

static int channels(const struct job *j)
{
    return (j->type & PNG_COLOR_MASK_ALPHA) || j->trns ? 4 : 3;
}

bool png_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};

    if (!read_header(&j)) return false;
    info->width = j.width;
    info->height = j.height;
    /* libpng has two rows, with all their bits. */
    info->memory = j.width * (j.height + (j.depth == 16 ? 4 : 2)) * channels(&j);
    return true;
}

_Noreturn static void on_error(png_structp png, png_const_charp msg)
{
    const struct job *j = png_get_error_ptr(png);

    fail(j, msg);
    png_longjmp(png, 1);
}

/* That the compressed data are damaged is a warning, too: there are pixels left then. */
static void on_warning(png_structp png, png_const_charp msg)
{
    (void)png;
    (void)msg;
}

/* Pillow's I;16 to RGB: 16-bit gray over 255 becomes 255. Alpha is 0 or 65535 here. */
static void narrow_gray16(png_structp png, png_row_infop row, png_bytep px)
{
    (void)png;
    for (size_t i = 0; i < row->rowbytes / 2; i++)
        px[i] = px[2 * i] ? 255 : px[2 * i + 1];
}

/* libpng calls it before the first row. */
static void on_header(png_structp png, png_infop info)
{
    const struct job *j = png_get_progressive_ptr(png);

    png_set_expand(png);      /* palette to RGB, tRNS to alpha, gray to 8 bits */
    png_set_gray_to_rgb(png); /* nothing on colour */
    if (j->type == PNG_COLOR_TYPE_GRAY && j->depth == 16) {
        png_set_read_user_transform_fn(png, narrow_gray16);
        png_set_user_transform_info(png, NULL, 8, channels(j));
    } else {
        png_set_strip_16(png);
    }
    png_read_update_info(png, info);
    CHECK(png_get_rowbytes(png, info) == (size_t)(j->width * channels(j)));
}

static void on_row(png_structp png, png_bytep px, png_uint_32 row, int pass)
{
    struct job *j = png_get_progressive_ptr(png);
    struct upright_row at = {.y = row, .step = 1, .n = j->width};

    if (j->interlaced)
        at = (struct upright_row){.y = PNG_ROW_FROM_PASS_ROW((int64_t)row, pass),
                                  .x = PNG_PASS_START_COL(pass),
                                  .step = 1 << PNG_PASS_COL_SHIFT(pass),
                                  .n = PNG_PASS_COLS(j->width, pass)};
    upright_put(j->out, &at, px);
    j->left -= at.n;
}

/* Gives libpng a chunk. It does not look at checksums: any 4 bytes do. */
static void feed(const struct job *j, const char *name, const void *body, size_t n)
{
    png_byte head[8], crc[4] = {0};

    png_save_uint_32(head, (png_uint_32)n);
    memcpy(head + 4, name, 4);
    png_process_data(j->png, j->info, head, 8);
    if (n > 0) png_process_data(j->png, j->info, (png_bytep)(uintptr_t)body, n); /* not written */
    png_process_data(j->png, j->info, crc, 4);
}

static void feed_header(const struct job *j)
{
    const size_t colours = (size_t)1 << j->depth;
    png_byte magic[8] = "\x89PNG\r\n\x1a\n", ihdr[13] = {0}; /* 0: the only compression, filter */

    png_save_uint_32(ihdr, (png_uint_32)j->width);
    png_save_uint_32(ihdr + 4, (png_uint_32)j->height);
    ihdr[8] = (png_byte)j->depth;
    ihdr[9] = (png_byte)j->type;
    ihdr[12] = j->interlaced;
    png_process_data(j->png, j->info, magic, 8);
    feed(j, "IHDR", ihdr, 13);
    if (j->type == PNG_COLOR_TYPE_PALETTE) {
        feed(j, "PLTE", j->palette, 3 * colours);
        if (j->trns) feed(j, "tRNS", j->alpha, colours);
    } else if (j->trns) {
        feed(j, "tRNS", j->key, 2 * (size_t)key_samples(j));
    }
}

/* The IDAT chunks from j->pos on, until the picture is complete. */
static bool read_pixels(struct job *j)
{
    struct chunk c;

    for (; j->left > 0; j->pos += c.length + 12) {
        size_t n;

        if (!look_at_chunk(j, &c) || !is_chunk(&c, "IDAT"))
            return fail(j, "the pixels are cut short, or their compressed data damaged");
        n = there(j, &c, c.length);
        for (size_t at = 0; at < n && j->left > 0; at += FEED)
            feed(j, "IDAT", c.body + at, n - at < FEED ? n - at : FEED);
        if (!crc_fits(j, &c)) j->out->img->damage = "a checksum is wrong, or missing";
    }
    return true;
}

/* False, too, where libpng jumped. */
static bool read_guarded(struct job *j)
{
    if (setjmp(png_jmpbuf(j->png))) return false;
    png_set_crc_action(j->png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
    png_set_user_limits(j->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* image_check_size decides */
    png_set_progressive_read_fn(j->png, j, on_header, on_row, NULL);
    feed_header(j);
    return read_pixels(j);
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

static bool decode(struct job *j)
{
    bool ok;

    if (!upright_new(j->out, j->width, j->height, channels(j), j->e)) return false;
    j->left = j->width * j->height;
    j->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, j, on_error, on_warning);
    if (j->png) j->info = png_create_info_struct(j->png);
    ok = j->info ? read_guarded(j) : fail(j, "out of memory");
    png_destroy_read_struct(&j->png, &j->info, NULL);
    return ok && read_end(j, j->out->img);
}

bool png_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size, .out = out};

    if (!read_header(&j)) return false;
    if (decode(&j)) return true;
    image_free(out->img);
    return false;
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
