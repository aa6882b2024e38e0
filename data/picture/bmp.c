/* bmp.c - our own BMP reader. What it accepts, and how it interprets it, follows Pillow, also where
 * the format leaves a choice or a file breaks it.
 *
 * A file is "BM", 8 ignored bytes, the offset of the pixels (4), and the header: its size (4), and
 * in the long form width (4), height (4), planes (2), bits per pixel (2), compression (4), 12
 * ignored bytes, number of colours (4), and more from 52 bytes on: masks of red, green, blue, and
 * from 56 on alpha. The short form of 12 bytes ends after the bits and has 2-byte sizes. Then the
 * palette: blue, green, red, and in the long form a zero byte. Everything is little-endian. Rows go
 * bottom up, padded to multiples of 4 bytes. */
#include "data/picture/bmp.h"
#include "base/mem.h"
#include "data/picture/bmprow.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { RAW = 0, RLE8 = 1, RLE4 = 2, BITFIELDS = 3 };
enum { FILE_HEADER = 14, SHORT_HEADER = 12, MASKS = 40 }; /* MASKS: their offset in a header */

/* Most pixels per byte: four bytes of RLE can skip 255 rows. The format itself
 * sets no such limit. */
enum { DENSE = 8192 };

struct job {
    const char *path;
    struct err *e;
    const uint8_t *data;
    size_t size;
    int64_t width, height;
    bool down; /* the first row in the file is the top one */
    int64_t bits;
    uint32_t compression;
    size_t pixels; /* their offset */
    const struct bmprow_layout *layout;
    struct bmprow_palette palette;
};

static bool fail(const struct job *j, const char *what)
{
    return err_set(j->e, "%s: BMP: %s", j->path, what);
}

static bool cut_short(const struct job *j)
{
    return fail(j, "the file is cut short");
}

static uint32_t le(const uint8_t *p, int bytes)
{
    uint32_t v = 0;

    for (int i = bytes; i-- > 0;)
        v = v << 8 | p[i];
    return v;
}

/* The header's fields; masks and palette follow it or are part of it. */
struct header {
    uint32_t size, colours;
    uint32_t mask[4];
    size_t end; /* of header and masks */
};

static bool read_long(struct job *j, struct header *h)
{
    const uint8_t *p = j->data + FILE_HEADER;
    const int in = h->size >= 56 ? 4 : h->size >= 52 ? 3 : 0; /* number of masks in the header */

    if (h->size != 40 && h->size != 52 && h->size != 56 && h->size != 64 && h->size != 108 &&
        h->size != 124)
        return err_set(j->e, "%s: BMP: unknown header of %" PRIu32 " bytes", j->path, h->size);
    if (j->size - FILE_HEADER < h->size) return cut_short(j);
    j->down = p[11] == 0xff; /* a small negative number */
    j->width = (int32_t)le(p + 4, 4);
    j->height = (int32_t)le(p + 8, 4);
    if (j->down) j->height = -j->height;
    j->bits = le(p + 14, 2);
    j->compression = le(p + 16, 4);
    h->colours = le(p + 32, 4);
    if (j->compression != BITFIELDS) return true;
    if (!in) h->end += 12;
    if (j->size < h->end) return cut_short(j);
    for (int i = 0; i < (in ? in : 3); i++)
        h->mask[i] = le(p + MASKS + 4 * i, 4);
    return true;
}

static bool read_short(struct job *j)
{
    const uint8_t *p = j->data + FILE_HEADER;

    if (j->size < FILE_HEADER + SHORT_HEADER) return cut_short(j);
    j->width = le(p + 4, 2);
    j->height = le(p + 6, 2);
    j->bits = le(p + 10, 2);
    j->compression = RAW;
    return true;
}

static bool find_layout(struct job *j, const struct header *h)
{
    j->layout = bmprow_find(j->bits, j->compression == BITFIELDS ? h->mask : NULL);
    return j->layout || err_set(j->e,
                                "%s: BMP: %" PRId64 " bits with masks %" PRIx32 " %" PRIx32
                                " %" PRIx32 " %" PRIx32 " are not read",
                                j->path, j->bits, h->mask[0], h->mask[1], h->mask[2], h->mask[3]);
}

static bool is_rle(const struct job *j)
{
    return j->compression == RLE8 || j->compression == RLE4;
}

/* The palette of h->colours entries. One that is black and white, or has all grays in order, counts
 * as no palette in Pillow, which then takes the pixels as 1 or 8 bits, whatever the header says. */
static bool read_palette(struct job *j, const struct header *h)
{
    const size_t entry = h->size == SHORT_HEADER ? 3 : 4, left = j->size - h->end;
    const size_t n = h->colours < left / entry ? h->colours : left / entry;
    const bool two = h->colours <= 2;
    const uint8_t *p = j->data + h->end;
    bool grays = n == h->colours;

    if (h->colours > 65536) return fail(j, "a palette of more than 65536 colours");
    for (size_t i = 0; i < n; i++, p += entry) {
        size_t gray = h->colours == 2 ? 255 * i : i;

        grays = grays && p[0] == gray && p[1] == gray && p[2] == gray;
        for (int c = 0; c < 3 && i < 256; c++)
            j->palette.rgb[i][c] = p[2 - c];
    }
    if (!grays && n > 256) return fail(j, "a palette of more than 256 colours");
    for (int i = 0; i < 256 && grays; i++)
        memset(j->palette.rgb[i], !two ? i : i ? 255 : 0, 3);
    /* Runs are decoded to bytes. */
    j->layout = bmprow_indexed(is_rle(j) ? 8 : !grays ? j->bits : two ? 1 : 8);
    return true;
}

static bool read_format(struct job *j, const struct header *h)
{
    const bool indexed = j->bits == 1 || j->bits == 4 || j->bits == 8;

    if (j->compression != RAW && !(indexed ? is_rle(j) : j->compression == BITFIELDS))
        return err_set(j->e, "%s: BMP: compression %" PRIu32 " of %" PRId64 " bits is not read",
                       j->path, j->compression, j->bits);
    return indexed ? read_palette(j, h) : find_layout(j, h);
}

static size_t row_stride(const struct job *j)
{
    return ((size_t)(j->width * j->bits + 31) >> 3) & ~(size_t)3;
}

/* Whether all rows are there; the last one may lack its padding. */
static bool check_rows(const struct job *j)
{
    const size_t used = ((size_t)(j->width * j->layout->bits) + 7) / 8;

    if (used > row_stride(j)) return fail(j, "its rows are shorter than its pixels");
    if (j->pixels > j->size || j->size - j->pixels < used ||
        (j->size - j->pixels - used) / row_stride(j) < (size_t)j->height - 1)
        return cut_short(j);
    return true;
}

static bool read_header(struct job *j)
{
    struct header h = {0};

    if (j->size < FILE_HEADER + 4) return cut_short(j);
    h.size = le(j->data + FILE_HEADER, 4);
    h.end = FILE_HEADER + (size_t)h.size;
    if (!(h.size == SHORT_HEADER ? read_short(j) : read_long(j, &h))) return false;
    if (!image_check_size(j->path, j->width, j->height, j->size, DENSE, j->e)) return false;
    if (h.colours == 0 && j->bits <= 8) h.colours = 1u << j->bits;
    if (!read_format(j, &h)) return false;
    if (j->bits <= 8) h.end += (size_t)h.colours * (h.size == SHORT_HEADER ? 3 : 4);
    j->pixels = le(j->data + 10, 4);
    if (j->pixels == 0 || (j->bits <= 8 && j->pixels == FILE_HEADER + (size_t)h.size))
        j->pixels = h.end; /* some writers omit part or all of the palette */
    return is_rle(j) || check_rows(j);
}

bool bmp_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};

    if (!read_header(&j)) return false;
    info->width = j.width;
    info->height = j.height;
    info->memory = j.width * (j.height + 1) * (j.layout->alpha ? 4 : 3) + j.width;
    return true;
}

static void put_row(const struct job *j, const struct upright *out, int64_t y, const uint8_t *in,
                    uint8_t *row)
{
    const struct upright_row where = {
        .y = j->down ? y : j->height - 1 - y, .step = 1, .n = j->width};

    j->layout->unpack(j->layout, &j->palette, in, j->width, row);
    upright_put(out, &where, row);
}

static bool read_raw(const struct job *j, const struct upright *out, uint8_t *row)
{
    for (int64_t y = 0; y < j->height; y++)
        put_row(j, out, y, j->data + j->pixels + (size_t)y * row_stride(j), row);
    if ((j->size - j->pixels) / row_stride(j) < (size_t)j->height)
        out->img->damage = "it is cut short after its last pixel";
    return true;
}

/* Run lengths, decoded as one line of colour indices through all rows. */
struct rle {
    const struct job *j;
    const struct upright *out;
    size_t pos;
    uint8_t *row, *line; /* RGB; colour indices */
    int64_t n, all;      /* indices decoded so far; needed in all */
    int64_t x;           /* position in the row as runs count it: see read_run */
};

static void put_colour(struct rle *r, int colour)
{
    const int64_t width = r->j->width;

    r->line[r->n++ % width] = (uint8_t)colour;
    if (r->n % width == 0 && r->n <= r->all)
        put_row(r->j, r->out, r->n / width - 1, r->line, r->row);
}

static void put_zeros(struct rle *r, int64_t n)
{
    for (; n > 0 && r->n < r->all; n--)
        put_colour(r, 0);
}

/* Repeats a byte, or its halves alternately, n times; what does not fit in the row is dropped. */
static void read_run(struct rle *r, int n, int byte)
{
    const bool halves = r->j->compression == RLE4;
    int64_t left = r->j->width - r->x;
    int64_t count = n < left ? n : left > 0 ? left : 0;

    for (int64_t i = 0; i < count; i++)
        put_colour(r, !halves ? byte : i % 2 == 0 ? byte >> 4 : byte & 15);
    r->x += count;
}

/* n literal indices, padded to an even file offset; false if the file ends. */
static bool read_colours(struct rle *r, int n)
{
    const bool halves = r->j->compression == RLE4;
    int64_t left = r->all - r->n, count = n < left ? n : left;
    size_t bytes = (size_t)(halves ? (count + 1) / 2 : count), have = r->j->size - r->pos;
    const uint8_t *p = r->j->data + r->pos;

    if (have < bytes) return false;
    for (int64_t i = 0; i < count; i++)
        put_colour(r, !halves ? p[i] : i % 2 == 0 ? p[i / 2] >> 4 : p[i / 2] & 15);
    r->x += n;
    r->pos += bytes;
    r->pos += r->pos % 2;
    return true;
}

/* What follows a 0 byte; false at the end. */
static bool read_escape(struct rle *r, int code)
{
    const struct job *j = r->j;

    if (code > 2) return read_colours(r, code);
    if (code == 1) return false;
    if (code == 0) { /* end of the row */
        if (r->n % j->width != 0) put_zeros(r, j->width - r->n % j->width);
        r->x = 0;
        return true;
    }
    if (j->size - r->pos < 2) return false;
    put_zeros(r, j->data[r->pos] + j->data[r->pos + 1] * j->width);
    r->pos += 2;
    r->x = r->n % j->width;
    return true;
}

static bool read_rle(const struct job *j, const struct upright *out, uint8_t *row)
{
    struct rle r = {.j = j, .out = out, .row = row, .pos = j->pixels};
    bool more = true;

    r.all = j->width * j->height;
    r.line = mem_new((size_t)j->width, 1, "a row of a picture", j->e);
    if (!r.line) return false;
    while (more && r.n < r.all && r.pos < j->size && j->size - r.pos >= 2) {
        int n = j->data[r.pos], byte = j->data[r.pos + 1];

        r.pos += 2;
        if (n)
            read_run(&r, n, byte);
        else
            more = read_escape(&r, byte);
    }
    free(r.line);
    return r.n >= r.all || fail(j, "its pixels end before its last row");
}

bool bmp_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};
    uint8_t *row = NULL;
    int channels;
    bool ok;

    if (!read_header(&j)) return false;
    channels = j.layout->alpha ? 4 : 3;
    ok = upright_new(out, j.width, j.height, channels, e);
    if (ok) row = mem_new((size_t)j.width, (size_t)channels, "a row of a picture", e);
    ok = row && (is_rle(&j) ? read_rle : read_raw)(&j, out, row);
    free(row);
    if (!ok) image_free(out->img);
    return ok;
}
