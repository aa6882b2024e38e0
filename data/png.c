/* png.c - PNG through libpng. libpng reports errors by longjmp: everything that must outlive the
 * jump lives in a struct of the caller of setjmp's function, so that no local is left undefined and
 * nothing leaks. libpng reads from memory; chunks that do not change pixels are skipped. */
#include "data/png.h"
#include "base/mem.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

struct job {
    const char *path;
    struct err *e;
    const uint8_t *data; /* the file; reading only */
    size_t size, pos;
    png_structp png;
    png_infop info;
    png_bytepp rows; /* [height] into img->px or wide */
    uint8_t *wide;   /* 16-bit samples of gray pictures, else NULL */
    struct image *img;
    int64_t width, height;
};

_Noreturn static void on_error(png_structp png, png_const_charp msg)
{
    const struct job *j = png_get_error_ptr(png);

    err_set(j->e, "%s: PNG: %s", j->path, msg);
    png_longjmp(png, 1);
}

/* Pillow too is silent about what libpng only warns of: odd ancillary chunks. */
static void on_warning(png_structp png, png_const_charp msg)
{
    (void)png;
    (void)msg;
}

static void read_bytes(png_structp png, png_bytep out, size_t n)
{
    struct job *j = png_get_io_ptr(png);

    if (n > j->size - j->pos) png_error(png, "the file is cut short");
    memcpy(out, j->data + j->pos, n);
    j->pos += n;
}

/* libpng would decompress and keep these for nothing. */
static void skip_chunks(png_structp png)
{
    static const png_byte names[] = "iCCP\0iTXt\0tEXt\0zTXt\0sPLT\0eXIf\0cHRM\0gAMA\0sRGB\0"
                                    "sBIT\0bKGD\0hIST\0pHYs\0tIME\0oFFs\0pCAL\0sCAL";

    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, names, (int)(sizeof names / 5));
}

/* Reads up to the first IDAT. Runs under setjmp. */
static bool read_header(struct job *j)
{
    png_set_read_fn(j->png, j, read_bytes);
    skip_chunks(j->png);
    png_set_user_limits(j->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* image_check_size decides */
    png_read_info(j->png, j->info);
    j->width = png_get_image_width(j->png, j->info);
    j->height = png_get_image_height(j->png, j->info);
    return image_check_size(j->path, j->width, j->height, j->e);
}

/* Asks libpng for RGB or RGBA, and says whether the samples stay at 16 bits. */
static bool set_transforms(struct job *j, int *channels)
{
    int type = png_get_color_type(j->png, j->info);
    bool trns = png_get_valid(j->png, j->info, PNG_INFO_tRNS) != 0;
    bool gray16 = type == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(j->png, j->info) == 16;

    png_set_expand(j->png);      /* palette to RGB, tRNS to alpha, gray to 8 bits */
    png_set_gray_to_rgb(j->png); /* nothing on colour */
    if (!gray16) png_set_strip_16(j->png);
    png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    *channels = (type & PNG_COLOR_MASK_ALPHA) || trns ? 4 : 3;
    return gray16;
}

/* Pillow's I;16 to RGB: values over 255 become 255. Alpha is 0 or 65535 here. */
static void narrow_gray16(const struct job *j)
{
    size_t n = (size_t)j->width * (size_t)j->height * (size_t)j->img->channels;

    for (size_t i = 0; i < n; i++)
        j->img->px[i] = j->wide[2 * i] ? 255 : j->wide[2 * i + 1];
}

/* Runs under setjmp; the caller frees what hangs on *j. */
static bool read_pixels(struct job *j)
{
    int channels;
    bool gray16;
    size_t stride;
    uint8_t *px;

    if (!read_header(j)) return false;
    gray16 = set_transforms(j, &channels);
    stride = png_get_rowbytes(j->png, j->info);
    CHECK(stride == (size_t)j->width * (size_t)channels * (gray16 ? 2 : 1));
    if (!image_new(j->img, j->width, j->height, channels, j->e)) return false;
    j->rows = mem_new((size_t)j->height, sizeof *j->rows, "the rows of a picture", j->e);
    if (!j->rows) return false;
    if (gray16) {
        j->wide = mem_new((size_t)j->height, stride, "a 16-bit picture", j->e);
        if (!j->wide) return false;
    }
    px = gray16 ? j->wide : j->img->px;
    for (int64_t y = 0; y < j->height; y++)
        j->rows[y] = px + (size_t)y * stride;
    png_read_image(j->png, j->rows);
    png_read_end(j->png, NULL); /* up to IEND: a file cut after its pixels is damaged too */
    if (gray16) narrow_gray16(j);
    return true;
}

/* Runs `step` with libpng's errors turned into false. */
static bool run_guarded(struct job *j, bool (*step)(struct job *))
{
    if (setjmp(png_jmpbuf(j->png))) return false;
    return step(j);
}

static bool run_reader(struct job *j, bool (*step)(struct job *))
{
    bool ok = false;

    j->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, j, on_error, on_warning);
    if (j->png) j->info = png_create_info_struct(j->png);
    if (j->info)
        ok = run_guarded(j, step);
    else
        err_set(j->e, "%s: PNG: out of memory", j->path);
    png_destroy_read_struct(&j->png, &j->info, NULL);
    free(j->rows);
    free(j->wide);
    return ok;
}

bool png_file_header(const char *path, const uint8_t *data, size_t size, int64_t *width,
                     int64_t *height, struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size};

    if (!run_reader(&j, read_header)) return false;
    *width = j.width;
    *height = j.height;
    return true;
}

bool png_file_decode(const char *path, const uint8_t *data, size_t size, struct image *img,
                     struct err *e)
{
    struct job j = {.path = path, .e = e, .data = data, .size = size, .img = img};

    memset(img, 0, sizeof *img);
    if (run_reader(&j, read_pixels)) return true;
    image_free(img);
    return false;
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Walks the chunks instead of asking libpng, because eXIf may also follow the pixels. A chunk is
 * length (4 bytes), name (4), content, CRC of name and content (4). */
const uint8_t *png_file_exif(const uint8_t *data, size_t size, size_t *len)
{
    size_t pos = 8; /* after the signature */

    *len = 0;
    while (pos < size && size - pos >= 12) {
        uint32_t n = be32(data + pos);
        const uint8_t *name = data + pos + 4;

        if (n > size - pos - 12) return NULL;
        if (memcmp(name, "eXIf", 4) == 0) {
            if (crc32(crc32(0, NULL, 0), name, n + 4) != be32(name + 4 + n)) return NULL;
            *len = n;
            return name + 4;
        }
        pos += (size_t)n + 12;
    }
    return NULL;
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
    struct image view = *img; /* the job's image is not const, for the reader's sake */
    struct job j = {.path = path, .e = e, .img = &view};
    bool ok = false;

    j.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &j, on_error, on_warning);
    if (j.png) j.info = png_create_info_struct(j.png);
    if (j.info) {
        png_init_io(j.png, fp);
        ok = run_guarded(&j, write_pixels);
    } else {
        err_set(e, "%s: PNG: out of memory", path);
    }
    png_destroy_write_struct(&j.png, &j.info);
    return ok;
}
