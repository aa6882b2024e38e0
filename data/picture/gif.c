/* gif.c - our own GIF reader. giflib accepts codes that are in no table and refuses code sizes over
 * 8; Pillow does the opposite, and is the reference for the pixels of a damaged file.
 *
 * A file is "GIF87a" or "GIF89a", the screen (7 bytes: width, height, flags, background, aspect), a
 * palette if the flags say so, and then blocks: extensions ("!", label, sub-blocks), pictures (",",
 * x, y, width, height, flags, a palette, code size, sub-blocks) and the end (";"). Numbers are 2
 * bytes, little-endian; sub-blocks are a length byte and as many bytes, up to one of length 0. */
#include "data/picture/gif.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { HAS_PALETTE = 0x80, INTERLACED = 0x40, HAS_TRANSPARENT = 1 };
enum { LABEL_CONTROL = 0xf9, LABEL_COMMENT = 0xfe };
enum { MAX_CODE_SIZE = 12, CODES = 1 << MAX_CODE_SIZE };

/* Most pixels per byte: a code of 12 bits can stand for 4,096. */
enum { DENSE = 8 * CODES / MAX_CODE_SIZE };

struct job {
    const char *path;
    struct err *e;
    const uint8_t *data;
    size_t size, pos;
    int64_t width, height;       /* of the screen */
    int64_t x, y, columns, rows; /* of the picture on the screen */
    bool interlaced;
    int transparent;         /* index of the transparent colour, or -1 */
    int code_size;           /* bits of a pixel's index */
    uint8_t palette[256][4]; /* RGBA */
};

static bool fail(const struct job *j, const char *what)
{
    return err_set(j->e, "%s: GIF: %s", j->path, what);
}

static bool cut_short(const struct job *j)
{
    return fail(j, "the file is cut short");
}

/* The next n bytes, or NULL. */
static const uint8_t *take(struct job *j, size_t n)
{
    const uint8_t *p = j->data + j->pos;

    if (n > j->size - j->pos) return NULL;
    j->pos += n;
    return p;
}

static int64_t le16(const uint8_t *p)
{
    return p[0] | p[1] << 8;
}

/* A palette of 2 << (flags & 7) colours; the rest are black. One that maps each index to the same
 * gray counts as none: if it is a picture's own, the file's stays in force, as in Pillow. */
static bool read_palette(struct job *j, int flags)
{
    size_t n = 2u << (flags & 7);
    const uint8_t *p = take(j, 3 * n);
    bool grays = true;

    if (!p) return cut_short(j);
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < 3; c++)
            grays = grays && p[3 * i + c] == i;
    for (size_t i = 0; i < 256 && !grays; i++)
        for (size_t c = 0; c < 3; c++)
            j->palette[i][c] = i < n ? p[3 * i + c] : 0;
    return true;
}

/* Skips sub-blocks, including the final one of length 0; false if the file ends first. */
static bool skip_blocks(struct job *j)
{
    const uint8_t *n;

    while ((n = take(j, 1)) != NULL && *n)
        if (!take(j, *n)) j->pos = j->size;
    return n != NULL;
}

/* The transparent colour is set by the last extension before the picture that has one. After an
 * empty first sub-block Pillow looks for further ones, except in comments. */
static bool read_extension(struct job *j)
{
    const uint8_t *p = take(j, 2), *block;

    if (!p) return cut_short(j);
    block = take(j, p[1]);
    if (!block) return cut_short(j);
    if (p[0] == LABEL_COMMENT && p[1] == 0) return true;
    if (p[0] == LABEL_CONTROL && p[1] != 0) {
        if (p[1] < 3 || ((block[0] & HAS_TRANSPARENT) && p[1] < 4))
            return fail(j, "a control extension is too short");
        if (block[0] & HAS_TRANSPARENT) j->transparent = block[3];
    }
    return skip_blocks(j) || cut_short(j);
}

static bool read_descriptor(struct job *j)
{
    const uint8_t *p = take(j, 9), *code_size;

    if (!p) return cut_short(j);
    j->x = le16(p);
    j->y = le16(p + 2);
    j->columns = le16(p + 4);
    j->rows = le16(p + 6);
    j->interlaced = (p[8] & INTERLACED) != 0;
    if ((p[8] & HAS_PALETTE) && !read_palette(j, p[8])) return false;
    code_size = take(j, 1);
    if (!code_size) return cut_short(j);
    j->code_size = *code_size;
    if (j->columns < 1 || j->rows < 1) return fail(j, "its first picture has no pixels");
    if (j->code_size > MAX_CODE_SIZE) return fail(j, "unknown code size");
    if (j->x + j->columns > j->width) j->width = j->x + j->columns;
    if (j->y + j->rows > j->height) j->height = j->y + j->rows;
    return image_check_size(j->path, j->width, j->height, j->size, DENSE, j->e);
}

/* Reads up to the first picture's codes. */
static bool read_header(struct job *j)
{
    const uint8_t *p = take(j, 13), *block;

    if (!p) return cut_short(j);
    if (memcmp(p, "GIF87a", 6) != 0 && memcmp(p, "GIF89a", 6) != 0)
        return fail(j, "unknown version");
    j->width = le16(p + 6);
    j->height = le16(p + 8);
    j->transparent = -1;
    for (int i = 0; i < 256; i++)
        memset(j->palette[i], i, 3);
    if ((p[10] & HAS_PALETTE) && !read_palette(j, p[10])) return false;
    while ((block = take(j, 1)) != NULL && *block != ';') {
        if (*block == ',') return read_descriptor(j);
        if (*block == '!' && !read_extension(j)) return false;
    }
    return fail(j, "the file has no picture");
}

static int channels(const struct job *j)
{
    return j->transparent >= 0 ? 4 : 3;
}

bool gif_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};

    if (!read_header(&j)) return false;
    info->width = j.width;
    info->height = j.height;
    info->memory = j.width * (j.height + 1) * channels(&j);
    return true;
}

/* Where the next pixel goes: rows come in four passes if interlaced. */
struct rows {
    const struct job *j;
    struct upright *out;
    uint8_t *row; /* [screen width, channels], already filled outside the picture */
    int pass;
    int64_t x, y; /* within the picture */
    bool done;
};

static const struct {
    int64_t first, step;
} passes[] = {{0, 8}, {4, 8}, {2, 4}, {1, 2}, {0, 1}};
enum { PASSES = 4, NO_PASS = 4 };

static void set_pixel(const struct rows *r, int64_t x, int colour)
{
    const size_t ch = (size_t)channels(r->j);

    memcpy(r->row + (size_t)x * ch, r->j->palette[colour], ch);
}

static void put_row(const struct rows *r, int64_t y)
{
    const struct upright_row where = {.y = y, .step = 1, .n = r->j->width};

    upright_put(r->out, &where, r->row);
}

static void put_pixel(struct rows *r, int colour)
{
    const struct job *j = r->j;

    set_pixel(r, j->x + r->x, colour);
    if (++r->x < j->columns) return;
    put_row(r, j->y + r->y);
    r->x = 0;
    r->y += passes[r->pass].step;
    while (r->y >= j->rows && !r->done) {
        if (++r->pass < PASSES)
            r->y = passes[r->pass].first;
        else
            r->done = true;
    }
}

/* The table: code c >= clear + 2 stands for the pixels of link[c] followed by `last[c]`. */
struct lzw {
    struct job *j;
    struct rows *rows;
    size_t block_end; /* of the current sub-block */
    uint32_t bits;    /* read but not yet used, the next one lowest */
    int n_bits;
    int clear, next, size; /* the clear code; the next new code; bits per code */
    int before, first;     /* the previous code, or -1, and its first pixel */
    uint16_t link[CODES];
    uint8_t last[CODES];
    uint8_t string[CODES]; /* a code's pixels, last first */
};

/* The next code; -1 if the file ends. A sub-block only counts if it is complete. */
static int next_code(struct lzw *z)
{
    struct job *j = z->j;
    int code;

    while (z->n_bits < z->size) {
        if (j->pos == z->block_end) {
            if (j->pos == j->size || j->size - j->pos - 1 < j->data[j->pos]) return -1;
            z->block_end = j->pos + 1 + j->data[j->pos];
            j->pos++;
            continue;
        }
        z->bits |= (uint32_t)j->data[j->pos++] << z->n_bits;
        z->n_bits += 8;
    }
    code = (int)(z->bits & ((1u << z->size) - 1));
    z->bits >>= z->size;
    z->n_bits -= z->size;
    return code;
}

static void empty_table(struct lzw *z)
{
    z->next = z->clear + 2;
    z->size = z->j->code_size + 1;
    z->before = -1;
}

/* A full table stays as it is until the file clears it. */
static void add_code(struct lzw *z, int first)
{
    if (z->next >= CODES) return;
    z->last[z->next] = (uint8_t)first;
    z->link[z->next] = (uint16_t)z->before;
    if (z->next == (1 << z->size) - 1 && z->size < MAX_CODE_SIZE) z->size++;
    z->next++;
}

/* Emits the pixels of a code that is neither clear nor end; false if no table can contain it. */
static bool put_code(struct lzw *z, int code)
{
    int c = code, n = 0;

    if (z->before < 0) {
        if (code > z->clear) return false;
    } else {
        if (code > z->next) return false;
        if (code == z->next) { /* about to be defined: its first pixel again at the end */
            z->string[n++] = (uint8_t)z->first;
            c = z->before;
        }
        for (; c >= z->clear; c = z->link[c]) {
            if (c >= CODES || n == CODES) return false;
            z->string[n++] = z->last[c];
        }
        add_code(z, c);
    }
    z->before = code;
    z->first = c;
    put_pixel(z->rows, c & 0xff);
    while (n > 0 && !z->rows->done)
        put_pixel(z->rows, z->string[--n]);
    return true;
}

static bool read_codes(struct lzw *z)
{
    z->block_end = z->j->pos;
    z->clear = 1 << z->j->code_size;
    empty_table(z);
    while (!z->rows->done) {
        int code = next_code(z);

        if (code < 0) return cut_short(z->j);
        if (code == z->clear)
            empty_table(z);
        else if (code == z->clear + 1)
            return fail(z->j, "its pixels end before its last row");
        else if (!put_code(z, code))
            return fail(z->j, "its codes are wrong");
    }
    return true;
}

static bool decode(struct job *j, struct rows *r, struct lzw *z)
{
    const int fill = j->transparent >= 0 ? j->transparent : 0;

    if (!upright_new(r->out, j->width, j->height, channels(j), j->e)) return false;
    r->row = mem_new((size_t)j->width, (size_t)channels(j), "a row of a picture", j->e);
    if (!r->row) return false;
    for (int64_t x = 0; x < j->width; x++)
        set_pixel(r, x, fill);
    for (int64_t y = 0; y < j->height; y++)
        if (y < j->y || y >= j->y + j->rows) put_row(r, y);
    if (!read_codes(z)) return false;
    j->pos = z->block_end;
    if (!skip_blocks(j))
        r->out->img->damage = "it is cut short after its pixels";
    else if (j->pos == j->size)
        r->out->img->damage = "it ends before its end mark";
    return true;
}

bool gif_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};
    struct rows r = {.j = &j, .out = out};
    struct lzw *z;
    bool ok;

    if (!read_header(&j)) return false;
    for (int i = 0; i < 256; i++)
        j.palette[i][3] = i == j.transparent ? 0 : 255;
    z = mem_new(1, sizeof *z, "a GIF's table", e);
    if (!z) return false;
    z->j = &j;
    z->rows = &r;
    r.pass = j.interlaced ? 0 : NO_PASS;
    ok = decode(&j, &r, z);
    free(r.row);
    free(z);
    if (!ok) image_free(out->img);
    return ok;
}
