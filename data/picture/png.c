/* png.c - reads and writes PNG through libpng, which reports errors by longjmp: whatever must
 * survive the jump is in struct job.
 *
 * libpng and Pillow differ in which damaged files they accept, so libpng does not see the file:
 * pngwalk.c decides, and libpng gets a header built from its findings, then the compressed
 * bytes. libpng decompresses, undoes filters and expands samples. Its progressive interface is
 * used: the rows of an interlaced file arrive pass by pass, so that no second copy of the
 * picture is needed. */
#include "data/picture/png.h"
#include "data/picture/pngwalk.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

/* Bytes decompressed at a time. Pillow's number: it determines whether the checksum at the end of
 * the compressed data is seen before the last row is complete. */
#define FEED ((size_t)65536)

struct job {
    const char *path;
    struct err *e;
    png_structp png;
    png_infop info;
    struct pngwalk walk; /* for reading only, like these: */
    struct upright *out;
    int64_t left;            /* pixels still to come */
    const struct image *img; /* for writing only */
    bool no_memory;
};

_Noreturn static void on_error(png_structp png, png_const_charp msg)
{
    const struct job *j = png_get_error_ptr(png);

    err_set(j->e, "%s: PNG: %s", j->path, msg);
    png_longjmp(png, 1);
}

/* Allocates for libpng and its zlib: in mid-data, libpng would skip over a failed allocation as
 * if it were damage. */
static png_voidp take(png_structp png, png_alloc_size_t n)
{
    struct job *j = png_get_mem_ptr(png);
    void *p = malloc(n);

    if (!p) j->no_memory = true;
    return p;
}

static void give_back(png_structp png, png_voidp p)
{
    (void)png;
    free(p);
}

/* Nothing is lost by ignoring warnings: damaged compressed data, for which libpng may only warn,
 * leaves pixels missing. */
static void on_warning(png_structp png, png_const_charp msg)
{
    (void)png;
    (void)msg;
}

/* Pillow's I;16 to RGB: 16-bit gray above 255 becomes 255. Alpha is 0 or 65535 here. */
static void narrow_gray16(png_structp png, png_row_infop row, png_bytep px)
{
    (void)png;
    for (size_t i = 0; i < row->rowbytes / 2; i++)
        px[i] = px[2 * i] ? 255 : px[2 * i + 1];
}

/* Runs `step`; also false if libpng jumped. */
static bool guarded(struct job *j, bool (*step)(struct job *j))
{
    if (setjmp(png_jmpbuf(j->png))) return false;
    return step(j);
}

/* Called by libpng before the first row. */
static void on_header(png_structp png, png_infop info)
{
    const struct job *j = png_get_progressive_ptr(png);
    const struct pngwalk *w = &j->walk;

    png_set_expand(png);      /* palette to RGB, tRNS to alpha, gray to 8 bits */
    png_set_gray_to_rgb(png); /* no effect on colour */
    if (w->type == PNG_COLOR_TYPE_GRAY && w->depth == 16) {
        png_set_read_user_transform_fn(png, narrow_gray16);
        png_set_user_transform_info(png, NULL, 8, pngwalk_channels(w));
    } else {
        png_set_strip_16(png);
    }
    png_read_update_info(png, info);
    CHECK(png_get_rowbytes(png, info) == (size_t)(w->width * pngwalk_channels(w)));
}

static void on_row(png_structp png, png_bytep px, png_uint_32 row, int pass)
{
    struct job *j = png_get_progressive_ptr(png);
    const int64_t width = j->walk.width;
    struct upright_row at = {.y = row, .step = 1, .n = width};

    if (j->walk.interlaced)
        at = (struct upright_row){.y = PNG_ROW_FROM_PASS_ROW((int64_t)row, pass),
                                  .x = PNG_PASS_START_COL(pass),
                                  .step = 1 << PNG_PASS_COL_SHIFT(pass),
                                  .n = PNG_PASS_COLS(width, pass)};
    upright_put(j->out, &at, px);
    j->left -= at.n;
}

/* Feeds libpng a chunk. It ignores checksums: any 4 bytes will do. */
static void feed(const struct job *j, const char *name, const void *body, size_t n)
{
    png_byte head[8], crc[4] = {0};

    png_save_uint_32(head, (png_uint_32)n);
    memcpy(head + 4, name, 4);
    png_process_data(j->png, j->info, head, 8);
    if (n > 0) png_process_data(j->png, j->info, (png_bytep)(uintptr_t)body, n); /* only read */
    png_process_data(j->png, j->info, crc, 4);
}

static void feed_header(const struct job *j)
{
    const struct pngwalk *w = &j->walk;
    png_byte magic[8] = "\x89PNG\r\n\x1a\n", ihdr[13] = {0}; /* compression 0, filter 0 */

    png_save_uint_32(ihdr, (png_uint_32)w->width);
    png_save_uint_32(ihdr + 4, (png_uint_32)w->height);
    ihdr[8] = (png_byte)w->depth;
    ihdr[9] = (png_byte)w->type;
    ihdr[12] = w->interlaced;
    png_process_data(j->png, j->info, magic, 8);
    feed(j, "IHDR", ihdr, 13);
    if (w->type == PNG_COLOR_TYPE_PALETTE)
        feed(j, "PLTE", w->palette, sizeof w->palette[0] << w->depth);
    if (w->trns_bytes > 0) feed(j, "tRNS", w->trns, w->trns_bytes);
}

static bool read_pixels(struct job *j)
{
    const uint8_t *body;
    size_t n;

    png_set_crc_action(j->png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
    png_set_user_limits(j->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* image_check_size decides */
    png_set_progressive_read_fn(j->png, j, on_header, on_row, NULL);
    feed_header(j);
    while (j->left > 0) {
        if (!pngwalk_idat(&j->walk, &body, &n)) return false;
        for (size_t at = 0; at < n && j->left > 0; at += FEED)
            feed(j, "IDAT", body + at, n - at < FEED ? n - at : FEED);
    }
    return true;
}

bool png_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                     struct err *e)
{
    struct pngwalk w = {.path = path, .e = e, .data = data, .size = size};

    if (!pngwalk_header(&w)) return false;
    info->width = w.width;
    info->height = w.height;
    /* libpng holds two rows at full depth. */
    info->memory = w.width * (w.height + (w.depth == 16 ? 4 : 2)) * pngwalk_channels(&w);
    return true;
}

static bool decode(struct job *j)
{
    const struct pngwalk *w = &j->walk;
    bool ok;

    if (!upright_new(j->out, w->width, w->height, pngwalk_channels(w), j->e)) return false;
    j->left = w->width * w->height;
    j->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, j, on_error, on_warning, j, take,
                                      give_back);
    if (j->png) j->info = png_create_info_struct(j->png);
    ok = j->info && guarded(j, read_pixels);
    if (!j->info || j->no_memory) ok = err_set(j->e, "%s: PNG: out of memory", j->path);
    png_destroy_read_struct(&j->png, &j->info, NULL);
    return ok && pngwalk_end(&j->walk);
}

bool png_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                     struct err *e)
{
    struct job j = {.path = path,
                    .e = e,
                    .walk = {.path = path, .e = e, .data = data, .size = size},
                    .out = out};

    if (!pngwalk_header(&j.walk)) return false;
    if (!decode(&j)) {
        image_free(out->img);
        return false;
    }
    out->img->damage = j.walk.damage;
    return true;
}

static bool write_pixels(struct job *j)
{
    int type = j->img->channels == 4 ? PNG_COLOR_TYPE_RGB_ALPHA : PNG_COLOR_TYPE_RGB;
    size_t stride = (size_t)j->img->width * (size_t)j->img->channels;

    png_set_user_limits(j->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_IHDR(j->png, j->info, (png_uint_32)j->img->width, (png_uint_32)j->img->height, 8, type,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
    png_write_info(j->png, j->info);
    for (int64_t y = 0; y < j->img->height; y++)
        png_write_row(j->png, j->img->px + (size_t)y * stride);
    png_write_end(j->png, j->info);
    return true;
}

bool png_file_encode(const char *path, FILE *fp, const struct image *img, struct err *e)
{
    struct job j = {.path = path, .e = e, .img = img};
    bool ok = false;

    j.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &j, on_error, on_warning, &j, take,
                                      give_back);
    if (j.png) j.info = png_create_info_struct(j.png);
    if (j.info) {
        png_init_io(j.png, fp);
        ok = guarded(&j, write_pixels);
    }
    if (!j.info || j.no_memory) ok = err_set(e, "%s: PNG: out of memory", path);
    png_destroy_write_struct(&j.png, &j.info);
    return ok;
}
