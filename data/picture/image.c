/* image.c - chooses the decoder, handles alpha and enforces size limits. The decoders see the file
 * mapped into memory. */
#include "data/picture/image.h"
#include "base/file.h"
#include "base/filekind.h"
#include "data/picture/bmp.h"
#include "data/picture/gif.h"
#include "data/picture/jpeg.h"
#include "data/picture/png.h"
#include "data/picture/pngwalk.h"
#include "data/picture/webp.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* One row per supported format, recognised by the first bytes, and WebP also by those at 8. */
struct codec {
    const char *magic;
    size_t magic_len;
    const char *at_8; /* NULL: anything */
    bool (*header)(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                   struct err *e);
    bool (*decode)(const char *path, const uint8_t *data, size_t size, struct upright *out,
                   struct err *e);
    const uint8_t *(*exif)(const uint8_t *data, size_t size, size_t *len); /* NULL: none */
};

static const struct codec codecs[] = {
    {"\x89PNG\r\n\x1a\n", 8, NULL, png_file_header, png_file_decode, pngwalk_exif},
    {"\xff\xd8\xff", 3, NULL, jpeg_file_header, jpeg_file_decode, jpeg_file_exif},
    {"RIFF", 4, "WEBP", webp_file_header, webp_file_decode, webp_file_exif},
    {"GIF8", 4, NULL, gif_file_header, gif_file_decode, NULL},
    {"BM", 2, NULL, bmp_file_header, bmp_file_decode, NULL},
};

bool image_check_size(const char *path, int64_t w, int64_t h, size_t bytes, int64_t dense,
                      struct err *e)
{
    if (w < 1 || h < 1)
        return err_set(e, "%s: picture of %" PRId64 "x%" PRId64 " pixels", path, w, h);
    if (w > IMAGE_MAX_PIXELS / h)
        return err_set(e,
                       "%s: picture of %" PRId64 "x%" PRId64 " pixels, at most %" PRId64
                       " pixels are allowed (Pillow's limit)",
                       path, w, h, IMAGE_MAX_PIXELS);
    if (w * h > IMAGE_TRUSTED_PIXELS && (size_t)(w * h / dense) > bytes)
        return err_set(e,
                       "%s: picture of %" PRId64 "x%" PRId64
                       " pixels, but the file's %zu bytes can hold no more than %zu",
                       path, w, h, bytes, bytes * (size_t)dense);
    return true;
}

bool image_new(struct image *img, int64_t w, int64_t h, int channels, struct err *e)
{
    memset(img, 0, sizeof *img);
    CHECK(w >= 1 && h >= 1 && (channels == 3 || channels == 4));
    if (w > IMAGE_MAX_PIXELS / h)
        return err_set(
            e, "picture of %" PRId64 "x%" PRId64 " pixels, at most %" PRId64 " pixels are allowed",
            w, h, IMAGE_MAX_PIXELS);
    /* Not mem_new, which would touch pages that a damaged file never fills. */
    img->px = calloc((size_t)(w * h), (size_t)channels);
    if (!img->px)
        return err_set(e, "out of memory: a picture of %" PRId64 "x%" PRId64 " pixels", w, h);
    img->width = w;
    img->height = h;
    img->channels = channels;
    return true;
}

void image_free(struct image *img)
{
    free(img->px);
    memset(img, 0, sizeof *img);
}

static bool fits(const struct codec *c, const uint8_t *data, size_t size)
{
    if (size < c->magic_len || memcmp(data, c->magic, c->magic_len) != 0) return false;
    if (!c->at_8) return true;
    return size >= 8 + strlen(c->at_8) && memcmp(data + 8, c->at_8, strlen(c->at_8)) == 0;
}

#define FORMATS "PNG, JPEG, WebP, GIF, BMP"

static const struct codec *find_codec(const char *path, const uint8_t *data, size_t size,
                                      struct err *e)
{
    const char *kind = file_kind(data, size);

    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++)
        if (fits(&codecs[i], data, size)) return &codecs[i];
    if (!kind)
        err_set(e, "%s: is no picture of a format that is read: " FORMATS, path);
    else if (strchr(kind, ':')) /* says itself what to do */
        err_set(e, "%s: is %s", path, kind);
    else
        err_set(e, "%s: is %s; pictures that are read: " FORMATS, path, kind);
    return NULL;
}

static void find_upright(struct upright *u, struct image *img, const struct codec *c,
                         const uint8_t *data, size_t size)
{
    size_t len = 0;
    const uint8_t *exif = c->exif ? c->exif(data, size, &len) : NULL;

    upright_init(u, img, exif, len);
}

bool image_decode(struct image *img, const char *path, const uint8_t *data, size_t size,
                  struct err *e)
{
    const struct codec *codec = find_codec(path, data, size, e);
    struct upright out;

    memset(img, 0, sizeof *img);
    if (!codec) return false;
    find_upright(&out, img, codec, data, size);
    if (!codec->decode(path, data, size, &out, e)) return false;
    if (out.lost && !img->damage)
        img->damage = "its EXIF block cannot be read, so it is not turned upright";
    return true;
}

bool image_read(struct image *img, const char *path, struct err *e)
{
    struct file_map m;
    bool ok;

    memset(img, 0, sizeof *img);
    if (!file_map_open(&m, path, e)) return false;
    ok = image_decode(img, path, m.data, m.size, e);
    file_map_close(&m);
    return ok;
}

bool image_look_at(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                   struct err *e)
{
    const struct codec *codec = find_codec(path, data, size, e);
    struct upright u;

    memset(info, 0, sizeof *info);
    if (!codec || !codec->header(path, data, size, info, e)) return false;
    find_upright(&u, NULL, codec, data, size);
    if (u.swap) {
        int64_t width = info->width;

        info->width = info->height;
        info->height = width;
    }
    return true;
}

bool image_look(const char *path, struct image_info *info, struct err *e)
{
    struct file_map m;
    bool ok;

    memset(info, 0, sizeof *info);
    if (!file_map_open(&m, path, e)) return false;
    ok = image_look_at(path, m.data, m.size, info, e);
    file_map_close(&m);
    return ok;
}

/* round((a * c + (255 - a) * 255) / 255); equals Pillow's alpha_composite on white. */
static uint8_t over_white(unsigned c, unsigned a)
{
    return (uint8_t)((a * c + (255 - a) * 255 + 127) / 255);
}

void image_flatten(struct image *img, enum alpha_mode mode)
{
    const int64_t n = img->width * img->height;
    uint8_t *to = img->px; /* never ahead of the pixel being read */
    void *less;

    if (img->channels == 3) return;
    for (const uint8_t *from = img->px, *end = from + 4 * n; from < end; from += 4, to += 3) {
        const unsigned a = from[3];

        for (int c = 0; c < 3; c++)
            to[c] = mode == ALPHA_WHITE ? over_white(from[c], a) : from[c];
    }
    img->channels = 3;
    less = realloc(img->px, (size_t)(3 * n));
    if (less) img->px = less;
}

bool image_write_png(const struct image *img, const char *path, struct err *e)
{
    struct file_out out = {0};

    if (!file_out_open(&out, path, e)) return false;
    if (!png_file_encode(path, out.fp, img, e)) {
        file_out_abort(&out);
        return false;
    }
    return file_out_commit(&out, e);
}
