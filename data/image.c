/* image.c - which decoder a file needs, EXIF orientation, alpha, and size limits. The decoders see
 * the file mapped into memory. */
#include "data/image.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/jpeg.h"
#include "data/png.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* One row per format that is read, told apart by its first bytes. */
struct codec {
    const char *magic;
    size_t magic_len;
    bool (*header)(const char *path, const uint8_t *data, size_t size, int64_t *width,
                   int64_t *height, struct err *e);
    bool (*decode)(const char *path, const uint8_t *data, size_t size, struct image *img,
                   struct err *e);
    const uint8_t *(*exif)(const uint8_t *data, size_t size, size_t *len);
};

static const struct codec codecs[] = {
    {"\x89PNG\r\n\x1a\n", 8, png_file_header, png_file_decode, png_file_exif},
    {"\xff\xd8\xff", 3, jpeg_file_header, jpeg_file_decode, jpeg_file_exif},
};

/* Formats that people do have, for the message. */
static const struct {
    const char *magic, *name;
} others[] = {
    {"RIFF", "WebP"},    {"GIF8", "GIF"}, {"BM", "BMP"}, {"II*", "TIFF"}, {"MM", "TIFF"},
    {"<?xml", "an XML"}, {"<svg", "SVG"}, {"<", "HTML"}, {"%PDF", "PDF"},
};

/* EXIF orientation 1..8: where out(x, y) comes from. (a, b) is (x, y), or (y, x) with swap; then
 * the source column is a, or width-1-a with flip_x, and the row likewise. */
static const struct orientation {
    bool swap, flip_x, flip_y;
} orientations[9] = {
    [2] = {false, true, false}, [3] = {false, true, true}, [4] = {false, false, true},
    [5] = {true, false, false}, [6] = {true, false, true}, [7] = {true, true, true},
    [8] = {true, true, false},
};

bool image_check_size(const char *path, int64_t w, int64_t h, struct err *e)
{
    if (w < 1 || h < 1)
        return err_set(e, "%s: picture of %" PRId64 "x%" PRId64 " pixels", path, w, h);
    if (w > IMAGE_MAX_SIDE || h > IMAGE_MAX_SIDE || w * h > IMAGE_MAX_PIXELS)
        return err_set(e,
                       "%s: picture of %" PRId64 "x%" PRId64 " pixels, at most %" PRId64
                       " pixels and %" PRId64 " a side are allowed",
                       path, w, h, IMAGE_MAX_PIXELS, IMAGE_MAX_SIDE);
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
    img->px = mem_new((size_t)(w * h), (size_t)channels, "a picture", e);
    if (!img->px) return false;
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

static bool find_codec(const char *path, const struct file_map *m, const struct codec **codec,
                       struct err *e)
{
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        *codec = &codecs[i];
        if (m->size >= codecs[i].magic_len &&
            memcmp(m->data, codecs[i].magic, codecs[i].magic_len) == 0)
            return true;
    }
    if (m->size == 0) return err_set(e, "%s: empty, a PNG or JPEG picture is needed", path);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        size_t n = strlen(others[i].magic);

        if (m->size >= n && memcmp(m->data, others[i].magic, n) == 0)
            return err_set(e, "%s: looks like a %s file, a PNG or JPEG picture is needed", path,
                           others[i].name);
    }
    return err_set(e, "%s: neither PNG nor JPEG", path);
}

static uint32_t exif_int(const uint8_t *p, int bytes, bool big)
{
    uint32_t v = 0;

    for (int i = 0; i < bytes; i++)
        v = v << 8 | p[big ? i : bytes - 1 - i];
    return v;
}

/* The Orientation tag (0x112) of the first directory of an EXIF block, 1 where there is none. EXIF
 * is a TIFF: byte order (4 bytes), the directory's offset (4); a directory is a count (2 bytes) and
 * entries of 12: tag (2), type (2), number of values (4), value (4). */
static const struct orientation *exif_orientation(const uint8_t *p, size_t size)
{
    size_t dir, count;
    bool big;

    if (size >= 6 && memcmp(p, "Exif\0\0", 6) == 0) { /* some writers put it into eXIf too */
        p += 6;
        size -= 6;
    }
    if (size < 8) return &orientations[1];
    big = memcmp(p, "MM\0*", 4) == 0;
    if (!big && memcmp(p, "II*\0", 4) != 0) return &orientations[1];
    dir = exif_int(p + 4, 4, big);
    if (dir > size - 2) return &orientations[1];
    count = exif_int(p + dir, 2, big);
    for (size_t i = 0; i < count && dir + 2 + (i + 1) * 12 <= size; i++) {
        const uint8_t *entry = p + dir + 2 + i * 12;
        uint32_t type = exif_int(entry + 2, 2, big), v;

        if (exif_int(entry, 2, big) != 0x112) continue;
        v = exif_int(entry + 8, type == 4 ? 4 : 2, big); /* LONG, else SHORT */
        return &orientations[(type == 3 || type == 4) && v >= 1 && v <= 8 ? v : 1];
    }
    return &orientations[1];
}

static const struct orientation *find_orientation(const struct codec *c, const struct file_map *m)
{
    size_t len;
    const uint8_t *exif = c->exif(m->data, m->size, &len);

    return exif ? exif_orientation(exif, len) : &orientations[1];
}

static bool orient(struct image *img, const struct orientation *o, struct err *e)
{
    const size_t ch = (size_t)img->channels;
    struct image out;
    uint8_t *to;

    if (!o->swap && !o->flip_x && !o->flip_y) return true;
    if (!image_new(&out, o->swap ? img->height : img->width, o->swap ? img->width : img->height,
                   img->channels, e))
        return false;
    to = out.px;
    for (int64_t y = 0; y < out.height; y++) {
        for (int64_t x = 0; x < out.width; x++, to += ch) {
            int64_t a = o->swap ? y : x, b = o->swap ? x : y;
            int64_t col = o->flip_x ? img->width - 1 - a : a;
            int64_t row = o->flip_y ? img->height - 1 - b : b;

            memcpy(to, img->px + (size_t)(row * img->width + col) * ch, ch);
        }
    }
    image_free(img);
    *img = out;
    return true;
}

bool image_read(struct image *img, const char *path, struct err *e)
{
    const struct codec *codec;
    struct file_map m;
    bool ok = false;

    memset(img, 0, sizeof *img);
    if (!file_map_open(&m, path, e)) return false;
    if (!find_codec(path, &m, &codec, e)) goto out;
    if (!codec->decode(path, m.data, m.size, img, e)) goto out;
    ok = orient(img, find_orientation(codec, &m), e);
    if (!ok) image_free(img);
out:
    file_map_close(&m);
    return ok;
}

bool image_size(const char *path, int64_t *width, int64_t *height, struct err *e)
{
    const struct codec *codec;
    struct file_map m;
    int64_t w, h;
    bool ok;

    if (!file_map_open(&m, path, e)) return false;
    ok = find_codec(path, &m, &codec, e) && codec->header(path, m.data, m.size, &w, &h, e);
    if (ok) {
        bool swap = find_orientation(codec, &m)->swap;

        *width = swap ? h : w;
        *height = swap ? w : h;
    }
    file_map_close(&m);
    return ok;
}

/* round((a * c + (255 - a) * 255) / 255); equals Pillow's alpha_composite on white. */
static uint8_t over_white(unsigned c, unsigned a)
{
    return (uint8_t)((a * c + (255 - a) * 255 + 127) / 255);
}

bool image_flatten(struct image *img, enum alpha_mode mode, struct err *e)
{
    struct image out;
    int64_t n = img->width * img->height;

    if (img->channels == 3) return true;
    if (!image_new(&out, img->width, img->height, 3, e)) return false;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *from = img->px + 4 * i;
        uint8_t *to = out.px + 3 * i;

        for (int c = 0; c < 3; c++)
            to[c] = mode == ALPHA_WHITE ? over_white(from[c], from[3]) : from[c];
    }
    image_free(img);
    *img = out;
    return true;
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
