/* png_write.c - PNG files out, through libpng. It reports errors by longjmp: what must outlive the
 * jump lives in struct job. */
#include "data/png.h"

#include <png.h>
#include <stdlib.h>

struct job {
    const char *path;
    struct err *e;
    png_structp png;
    png_infop info;
    const struct image *img;
};

_Noreturn static void on_error(png_structp png, png_const_charp msg)
{
    const struct job *j = png_get_error_ptr(png);

    err_set(j->e, "%s: PNG: %s", j->path, msg);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp msg)
{
    (void)png;
    (void)msg;
}

static void write_pixels(const struct job *j)
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
}

/* False where libpng jumped. */
static bool write_guarded(const struct job *j)
{
    if (setjmp(png_jmpbuf(j->png))) return false;
    write_pixels(j);
    return true;
}

bool png_file_encode(const char *path, FILE *fp, const struct image *img, struct err *e)
{
    struct job j = {.path = path, .e = e, .img = img};
    bool ok = false;

    j.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &j, on_error, on_warning);
    if (j.png) j.info = png_create_info_struct(j.png);
    if (j.info) {
        png_init_io(j.png, fp);
        ok = write_guarded(&j);
    } else {
        err_set(e, "%s: PNG: out of memory", path);
    }
    png_destroy_write_struct(&j.png, &j.info);
    return ok;
}
