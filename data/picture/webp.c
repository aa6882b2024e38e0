/* webp.c - WebP through libwebp: its demuxer finds the first frame and its position, as in
 * libwebp's own animation player, which Pillow uses for still pictures too. */
#include "data/picture/webp.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <webp/decode.h>
#include <webp/demux.h>

/* Most pixels per byte that are believed. The format sets no limit for lossless files: a single
 * colour takes a few bytes at any size. Lossy ones need about two bits for 256 pixels. */
enum { DENSE = 8192 };

struct job {
    const char *path;
    struct err *e;
    WebPData file;
    WebPDemuxer *demux;
    WebPIterator frame;
    WebPBitstreamFeatures features; /* of the file: Pillow derives its mode from them */
    int64_t width, height;          /* of the canvas */
};

/* libwebp does not always say that memory was short, for the alpha plane among others; errno does,
 * which must be 0 before what fails. */
static bool fail(const struct job *j, const char *what)
{
    return errno == ENOMEM ? err_set(j->e, "%s: WebP: out of memory", j->path)
                           : err_set(j->e, "%s: WebP: %s", j->path, what);
}

static WebPDemuxer *demux(const WebPData *file)
{
    errno = 0;
    return WebPDemux(file);
}

static bool read_header(struct job *j)
{
    j->demux = demux(&j->file);
    if (!j->demux) return fail(j, "the file is cut short or damaged");
    j->width = WebPDemuxGetI(j->demux, WEBP_FF_CANVAS_WIDTH);
    j->height = WebPDemuxGetI(j->demux, WEBP_FF_CANVAS_HEIGHT);
    if (WebPGetFeatures(j->file.bytes, j->file.size, &j->features) != VP8_STATUS_OK)
        return fail(j, "the header is damaged");
    if (!WebPDemuxGetFrame(j->demux, 1, &j->frame)) return fail(j, "the file has no picture");
    return image_check_size(j->path, j->width, j->height, j->file.size, DENSE, j->e);
}

static void close_job(struct job *j)
{
    WebPDemuxReleaseIterator(&j->frame); /* fine on a zeroed struct */
    WebPDemuxDelete(j->demux);
}

static struct job open_job(const char *path, const uint8_t *data, size_t size, struct err *e)
{
    return (struct job){.path = path, .e = e, .file = {data, size}};
}

static int channels(const struct job *j)
{
    return j->features.has_alpha ? 4 : 3;
}

static bool turned(const struct upright *u)
{
    return u->swap || u->flip_x || u->flip_y;
}

/* Lossless pixels, and alpha, are held whole in addition to the canvas; so is a
 * canvas to be turned. */
static int64_t pixel_memory(const struct job *j)
{
    enum { LOSSY = 1 }; /* WebPBitstreamFeatures.format */
    struct upright u;
    size_t len;
    const uint8_t *exif = webp_file_exif(j->file.bytes, j->file.size, &len);

    upright_init(&u, NULL, exif, len);
    return channels(j) * (turned(&u) ? 2 : 1) + (j->features.format != LOSSY ? 4
                                                 : j->frame.has_alpha        ? 2
                                                                             : 0);
}

bool webp_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                      struct err *e)
{
    struct job j = open_job(path, data, size, e);
    bool ok = read_header(&j);

    if (ok) {
        info->width = j.width;
        info->height = j.height;
        info->memory = j.width * j.height * pixel_memory(&j);
    }
    close_job(&j);
    return ok;
}

/* Decodes the frame into its place on a canvas. */
static bool decode_frame(struct job *j, struct image *canvas)
{
    const WebPIterator *f = &j->frame;
    const size_t ch = (size_t)canvas->channels, stride = (size_t)canvas->width * ch;
    const size_t at = (size_t)f->y_offset * stride + (size_t)f->x_offset * ch;
    WebPDecoderConfig config;
    VP8StatusCode status;

    CHECK(WebPInitDecoderConfig(&config));
    config.output.colorspace = ch == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = canvas->px + at;
    config.output.u.RGBA.stride = (int)stride;
    config.output.u.RGBA.size = stride * (size_t)canvas->height - at;
    errno = 0;
    status = WebPDecode(f->fragment.bytes, f->fragment.size, &config);
    if (status == VP8_STATUS_OUT_OF_MEMORY) errno = ENOMEM;
    return status == VP8_STATUS_OK || fail(j, "the compressed data are damaged");
}

static bool decode(struct job *j, struct upright *out)
{
    struct image stored = {0};
    struct upright_row where = {.step = 1};
    bool ok;

    if (!read_header(j)) return false;
    where.n = j->width;
    if (!upright_new(out, j->width, j->height, channels(j), j->e)) return false;
    if (!turned(out)) return decode_frame(j, out->img);
    ok = image_new(&stored, j->width, j->height, channels(j), j->e) && decode_frame(j, &stored);
    for (; ok && where.y < j->height; where.y++)
        upright_put(out, &where, stored.px + where.y * j->width * stored.channels);
    image_free(&stored);
    return ok;
}

bool webp_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                      struct err *e)
{
    struct job j = open_job(path, data, size, e);
    bool ok = decode(&j, out);

    close_job(&j);
    if (!ok) image_free(out->img);
    return ok;
}

const uint8_t *webp_file_exif(const uint8_t *data, size_t size, size_t *len)
{
    const WebPData file = {data, size};
    WebPDemuxer *parts = demux(&file);
    const uint8_t *exif = NULL;
    WebPChunkIterator chunk;

    *len = 0;
    if (!parts && errno == ENOMEM) err_no_memory("the parts of a WebP file");
    if (parts && WebPDemuxGetChunk(parts, "EXIF", 1, &chunk)) {
        exif = chunk.chunk.bytes;
        *len = chunk.chunk.size;
        WebPDemuxReleaseChunkIterator(&chunk);
    }
    WebPDemuxDelete(parts);
    return exif;
}
