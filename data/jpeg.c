/* jpeg.c - JPEG through libjpeg-turbo. libjpeg exits on errors and prints warnings unless told
 * otherwise: errors here jump back to run_guarded, and so do the warnings that mean lost pixels.
 * What must outlive the jump lives in struct job, so that no local is left undefined. */
#include "data/jpeg.h"
#include "base/mem.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* A progressive file of a few kilobytes can ask for thousands of passes over a huge picture; real
 * ones have about ten. */
#define MAX_SCANS 500

struct job {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    const char *path;
    struct err *e;
    const uint8_t *data;
    size_t size;
    struct image *img;
    uint8_t *cmyk; /* one row, else NULL */
};

_Noreturn static void on_error(j_common_ptr c)
{
    struct job *j = c->client_data;
    char msg[JMSG_LENGTH_MAX];

    c->err->format_message(c, msg);
    err_set(j->e, "%s: JPEG: %s", j->path, msg);
    longjmp(j->back, 1);
}

/* Level -1 is a warning: the file is damaged, libjpeg went on somehow. The ones listed mean that
 * pixels are made up; the rest (garbage between markers, say) leaves the picture whole. */
static void on_message(j_common_ptr c, int level)
{
    static const int lost[] = {JWRN_JPEG_EOF, JWRN_HIT_MARKER, JWRN_HUFF_BAD_CODE,
                               JWRN_ARITH_BAD_CODE, JWRN_MUST_RESYNC};

    if (level >= 0) return;
    for (size_t i = 0; i < sizeof lost / sizeof lost[0]; i++)
        if (c->err->msg_code == lost[i]) on_error(c);
}

static void on_output(j_common_ptr c)
{
    (void)c;
}

static void on_progress(j_common_ptr c)
{
    struct job *j = c->client_data;

    if (j->jpeg.input_scan_number <= MAX_SCANS) return;
    err_set(j->e, "%s: JPEG: more than %d scans", j->path, MAX_SCANS);
    longjmp(j->back, 1);
}

static bool read_header(struct job *j)
{
    jpeg_create_decompress(&j->jpeg);
    j->progress.progress_monitor = on_progress;
    j->jpeg.progress = &j->progress;
    jpeg_mem_src(&j->jpeg, j->data, j->size);
    jpeg_read_header(&j->jpeg, TRUE);
    return image_check_size(j->path, j->jpeg.image_width, j->jpeg.image_height, j->e);
}

/* round(a * b / 255) for bytes, Pillow's MULDIV255. */
static uint8_t mul255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;

    return (uint8_t)(((t >> 8) + t) >> 8);
}

/* One row of Adobe CMYK (255 = no ink) to RGB: white less black, times what each ink lets through.
 * With ink c = 255 - in, Pillow computes nk - c * nk / 255, nk = 255 - k = in[3]. */
static void cmyk_to_rgb(const uint8_t *in, uint8_t *out, int64_t width)
{
    for (int64_t x = 0; x < width; x++, in += 4, out += 3)
        for (int c = 0; c < 3; c++)
            out[c] = (uint8_t)(in[3] - mul255(255u - in[c], in[3]));
}

/* Runs under setjmp; the caller frees what hangs on *j. */
static bool read_pixels(struct job *j)
{
    struct jpeg_decompress_struct *d = &j->jpeg;
    size_t stride;

    if (!read_header(j)) return false;
    if (d->num_components != 1 && d->num_components != 3 && d->num_components != 4)
        return err_set(j->e, "%s: JPEG with %d components, 1, 3 and 4 are read", j->path,
                       d->num_components);
    d->out_color_space = d->num_components == 4 ? JCS_CMYK : JCS_RGB;
    if (!image_new(j->img, d->image_width, d->image_height, 3, j->e)) return false;
    stride = (size_t)j->img->width * 3;
    if (d->num_components == 4) {
        j->cmyk = mem_new((size_t)j->img->width, 4, "a row of a picture", j->e);
        if (!j->cmyk) return false;
    }
    jpeg_start_decompress(d);
    while (d->output_scanline < d->output_height) {
        uint8_t *px = j->img->px + (size_t)d->output_scanline * stride;
        JSAMPROW row = j->cmyk ? j->cmyk : px;

        jpeg_read_scanlines(d, &row, 1);
        if (j->cmyk) cmyk_to_rgb(j->cmyk, px, j->img->width);
    }
    jpeg_finish_decompress(d); /* up to the end marker: a file cut before it is damaged too */
    return true;
}

/* Runs `step` with libjpeg's errors turned into false. */
static bool run_guarded(struct job *j, bool (*step)(struct job *))
{
    if (setjmp(j->back)) return false;
    return step(j);
}

static bool run(struct job *j, bool (*step)(struct job *))
{
    bool ok;

    j->jpeg.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
    j->errors.output_message = on_output;
    j->jpeg.client_data = j;
    ok = run_guarded(j, step);
    jpeg_destroy_decompress(&j->jpeg); /* fine where jpeg_create_decompress failed: mem is NULL */
    free(j->cmyk);
    return ok;
}

bool jpeg_file_header(const char *path, const uint8_t *data, size_t size, int64_t *width,
                      int64_t *height, struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};

    if (!run(&j, read_header)) return false;
    *width = j.jpeg.image_width;
    *height = j.jpeg.image_height;
    return true;
}

bool jpeg_file_decode(const char *path, const uint8_t *data, size_t size, struct image *img,
                      struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size, .img = img};

    memset(img, 0, sizeof *img);
    if (run(&j, read_pixels)) return true;
    image_free(img);
    return false;
}

/* Walks the markers before the first scan: FF, code, length (2 bytes, itself included), content. */
const uint8_t *jpeg_file_exif(const uint8_t *data, size_t size, size_t *len)
{
    size_t pos = 2; /* after SOI */

    *len = 0;
    while (pos + 4 <= size && data[pos] == 0xff) {
        uint8_t code = data[pos + 1];
        size_t n;

        if (code == 0xff || code == 0x01 || (code >= 0xd0 && code <= 0xd7)) {
            pos += code == 0xff ? 1 : 2; /* a fill byte; a marker without content */
            continue;
        }
        if (code == 0xda || code == 0xd9) return NULL; /* the pixels, or the end */
        n = (size_t)data[pos + 2] << 8 | data[pos + 3];
        if (n < 2 || n > size - pos - 2) return NULL;
        if (code == 0xe1 && n >= 8 && memcmp(data + pos + 4, "Exif\0\0", 6) == 0) {
            *len = n - 8;
            return data + pos + 10;
        }
        pos += n + 2;
    }
    return NULL;
}
