/* jpeg.c - JPEG through libjpeg-turbo. By default libjpeg exits on errors and prints warnings: here
 * errors jump back to run_guarded, and warnings that mean lost pixels are noted. Whatever must
 * survive the jump is in struct job, so that no local variable is left undefined.
 *
 * libjpeg's own memory source fakes an end marker when the file ends; the one here lets it run dry
 * instead, as Pillow's does, so that a truncated file is recognised. */
#include "data/picture/jpeg.h"
#include "base/mem.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

/* A progressive file of a few kilobytes can ask for thousands of passes over a huge
 * picture; real ones have about ten. Small pictures may have more: all passes together may
 * process SCAN_PIXELS. */
#define MAX_SCANS INT64_C(50)
#define SCAN_PIXELS INT64_C(1000000000)

/* Most pixels per byte. A block of 64 needs two bits, one for the first coefficient and one to end
 * it, or one bit in a progressive file. An arithmetic coder has no such limit. */
enum { DENSE = 256, DENSE_PROGRESSIVE = 512, DENSE_ARITHMETIC = 8192 };

struct job {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    struct jpeg_source_mgr source;
    jmp_buf back;
    const char *path;
    struct err *e;
    const uint8_t *data;
    size_t size;
    struct upright *out;
    uint8_t *row, *cmyk; /* one row of RGB; one of CMYK, or NULL */
    const char *damage;
};

_Noreturn static void on_error(j_common_ptr c)
{
    struct job *j = c->client_data;
    char msg[JMSG_LENGTH_MAX];

    c->err->format_message(c, msg);
    if (c->err->msg_code == JERR_OUT_OF_MEMORY)
        err_set(j->e, "%s: JPEG: out of memory", j->path);
    else
        err_set(j->e, "%s: JPEG: %s", j->path, msg);
    longjmp(j->back, 1);
}

/* Level -1 is a warning: the file is damaged, and libjpeg continued somehow. The ones listed mean
 * that pixels are invented; the others (garbage between markers, say) leave the picture intact. */
static void on_message(j_common_ptr c, int level)
{
    static const struct {
        int code;
        const char *damage;
    } lost[] = {
        {JWRN_HIT_MARKER, "its data end before its last row"},
        {JWRN_HUFF_BAD_CODE, "its codes are wrong from somewhere on"},
        {JWRN_ARITH_BAD_CODE, "its codes are wrong from somewhere on"},
        {JWRN_MUST_RESYNC, "a restart mark is missing"},
        {JWRN_BOGUS_PROGRESSION, "its passes contradict each other"},
    };
    struct job *j = c->client_data;

    if (level >= 0) return;
    for (size_t i = 0; i < sizeof lost / sizeof lost[0]; i++)
        if (c->err->msg_code == lost[i].code) j->damage = lost[i].damage;
}

static void on_output(j_common_ptr c)
{
    (void)c;
}

static void on_progress(j_common_ptr c)
{
    struct job *j = c->client_data;
    int64_t pixels = (int64_t)j->jpeg.image_width * j->jpeg.image_height;
    int64_t most = SCAN_PIXELS / pixels > MAX_SCANS ? SCAN_PIXELS / pixels : MAX_SCANS;

    if (j->jpeg.input_scan_number <= most) return;
    err_set(j->e,
            "%s: JPEG: more than %" PRId64 " passes over %" PRId64
            " pixels, usual are about 10; save it anew",
            j->path, most, pixels);
    longjmp(j->back, 1);
}

static void source_begin(j_decompress_ptr d)
{
    (void)d;
}

/* All bytes were there from the start: no more will come. */
static boolean source_more(j_decompress_ptr d)
{
    (void)d;
    return FALSE;
}

static void source_skip(j_decompress_ptr d, long n)
{
    struct jpeg_source_mgr *s = d->src;

    if (n <= 0) return;
    if ((size_t)n > s->bytes_in_buffer) n = (long)s->bytes_in_buffer;
    s->next_input_byte += n;
    s->bytes_in_buffer -= (size_t)n;
}

static bool cut_short(const struct job *j)
{
    return err_set(j->e, "%s: JPEG: the file is cut short", j->path);
}

static bool read_header(struct job *j)
{
    struct jpeg_decompress_struct *d = &j->jpeg;
    int status, dense;

    jpeg_create_decompress(d);
    j->progress.progress_monitor = on_progress;
    d->progress = &j->progress;
    j->source = (struct jpeg_source_mgr){.next_input_byte = j->data,
                                         .bytes_in_buffer = j->size,
                                         .init_source = source_begin,
                                         .fill_input_buffer = source_more,
                                         .skip_input_data = source_skip,
                                         .resync_to_restart = jpeg_resync_to_restart,
                                         .term_source = source_begin};
    d->src = &j->source;
    do
        status = jpeg_read_header(d, FALSE);
    while (status == JPEG_HEADER_TABLES_ONLY); /* the picture follows them */
    if (status != JPEG_HEADER_OK) return cut_short(j);
    dense = d->arith_code ? DENSE_ARITHMETIC : d->progressive_mode ? DENSE_PROGRESSIVE : DENSE;
    return image_check_size(j->path, d->image_width, d->image_height, j->size, dense, j->e);
}

/* round(a * b / 255) for bytes, Pillow's MULDIV255. */
static uint8_t mul255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;

    return (uint8_t)(((t >> 8) + t) >> 8);
}

/* One row of Adobe CMYK (255 = no ink) to RGB: white minus black, times what each ink lets through.
 * With ink c = 255 - in, Pillow computes nk - c * nk / 255, nk = 255 - k = in[3]. */
static void cmyk_to_rgb(const uint8_t *in, uint8_t *out, int64_t width)
{
    for (int64_t x = 0; x < width; x++, in += 4, out += 3)
        for (int c = 0; c < 3; c++)
            out[c] = (uint8_t)(in[3] - mul255(255u - in[c], in[3]));
}

/* Coefficients of the whole picture, which libjpeg keeps if there are several passes: 2 bytes each,
 * in blocks of 8 x 8. */
static int64_t coefficients(struct jpeg_decompress_struct *d)
{
    int64_t n = 0;

    if (!jpeg_has_multiple_scans(d)) return 0;
    for (int c = 0; c < d->num_components; c++)
        n += (int64_t)d->comp_info[c].width_in_blocks * d->comp_info[c].height_in_blocks * 64;
    return 2 * n;
}

/* Runs under setjmp; the caller frees what *j owns. */
static bool read_rows(struct job *j)
{
    struct jpeg_decompress_struct *d = &j->jpeg;
    struct upright_row where = {.step = 1, .n = d->image_width};
    JSAMPROW row = j->cmyk ? j->cmyk : j->row;

    if (!jpeg_start_decompress(d)) return cut_short(j);
    for (; where.y < d->output_height; where.y++) {
        if (jpeg_read_scanlines(d, &row, 1) != 1) return cut_short(j);
        if (j->cmyk) cmyk_to_rgb(j->cmyk, j->row, where.n);
        upright_put(j->out, &where, j->row);
    }
    if (!jpeg_finish_decompress(d)) j->damage = "it ends before its end mark";
    j->out->img->damage = j->damage;
    return true;
}

/* Runs under setjmp; the caller frees what *j owns. */
static bool read_pixels(struct job *j)
{
    struct jpeg_decompress_struct *d = &j->jpeg;

    if (!read_header(j)) return false;
    if (d->num_components != 1 && d->num_components != 3 && d->num_components != 4)
        return err_set(j->e, "%s: JPEG with %d components, 1, 3 and 4 are read", j->path,
                       d->num_components);
    d->out_color_space = d->num_components == 4 ? JCS_CMYK : JCS_RGB;
    if (!upright_new(j->out, d->image_width, d->image_height, 3, j->e)) return false;
    j->row = mem_new(d->image_width, 3, "a row of a picture", j->e);
    if (!j->row) return false;
    if (d->num_components == 4) {
        j->cmyk = mem_new(d->image_width, 4, "a row of a picture", j->e);
        if (!j->cmyk) return false;
    }
    return read_rows(j);
}

/* Runs `step`, turning libjpeg's errors into false. */
static bool run_guarded(struct job *j, bool (*step)(struct job *))
{
    if (setjmp(j->back)) return false;
    return step(j);
}

static bool run(struct job *j, bool (*step)(struct job *), struct image_info *info)
{
    bool ok;

    j->jpeg.err = jpeg_std_error(&j->errors);
    j->errors.error_exit = on_error;
    j->errors.emit_message = on_message;
    j->errors.output_message = on_output;
    j->jpeg.client_data = j;
    ok = run_guarded(j, step);
    if (ok && info)
        *info =
            (struct image_info){.width = j->jpeg.image_width,
                                .height = j->jpeg.image_height,
                                .memory = 3 * (int64_t)j->jpeg.image_width * j->jpeg.image_height +
                                          coefficients(&j->jpeg)};
    jpeg_destroy_decompress(&j->jpeg); /* safe even if jpeg_create_decompress failed: mem is NULL */
    free(j->row);
    free(j->cmyk);
    return ok;
}

bool jpeg_file_header(const char *path, const uint8_t *data, size_t size, struct image_info *info,
                      struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};

    return run(&j, read_header, info);
}

bool jpeg_file_decode(const char *path, const uint8_t *data, size_t size, struct upright *out,
                      struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size, .out = out};

    if (run(&j, read_pixels, NULL)) return true;
    image_free(out->img);
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
