/* upright.c - see upright.h. EXIF is a TIFF: byte order (4 bytes), the offset of the first
 * directory (4); a directory is a count (2 bytes) and entries of 12: tag (2), type (2), number of
 * values (4), value (4). */
#include "data/picture/upright.h"

#include <string.h>

enum { TAG_ORIENTATION = 0x112, TYPE_SHORT = 3, TYPE_LONG = 4 };

/* By EXIF orientation, 1 to 8. */
static const struct {
    bool swap, flip_x, flip_y;
} orientations[9] = {
    [2] = {false, true, false}, [3] = {false, true, true}, [4] = {false, false, true},
    [5] = {true, false, false}, [6] = {true, false, true}, [7] = {true, true, true},
    [8] = {true, true, false},
};

static uint32_t exif_int(const uint8_t *p, int bytes, bool big)
{
    uint32_t v = 0;

    for (int i = 0; i < bytes; i++)
        v = v << 8 | p[big ? i : bytes - 1 - i];
    return v;
}

/* The Orientation tag of the first directory, 1 if there is none, 0 if this is not EXIF. */
static uint32_t exif_orientation(const uint8_t *p, size_t size)
{
    size_t dir, count;
    bool big;

    if (size >= 6 && memcmp(p, "Exif\0\0", 6) == 0) { /* optional outside JPEG */
        p += 6;
        size -= 6;
    }
    if (size < 8) return 0;
    big = memcmp(p, "MM\0*", 4) == 0;
    if (!big && memcmp(p, "II*\0", 4) != 0) return 0;
    dir = exif_int(p + 4, 4, big);
    if (dir > size - 2) return 1;
    count = exif_int(p + dir, 2, big);
    for (size_t i = 0; i < count && dir + 2 + (i + 1) * 12 <= size; i++) {
        const uint8_t *entry = p + dir + 2 + i * 12;
        uint32_t type = exif_int(entry + 2, 2, big), v;

        if (exif_int(entry, 2, big) != TAG_ORIENTATION) continue;
        if ((type != TYPE_SHORT && type != TYPE_LONG) || exif_int(entry + 4, 4, big) != 1) return 1;
        v = exif_int(entry + 8, type == TYPE_LONG ? 4 : 2, big);
        return v >= 1 && v <= 8 ? v : 1;
    }
    return 1;
}

void upright_init(struct upright *u, struct image *img, const uint8_t *exif, size_t len)
{
    uint32_t o = exif ? exif_orientation(exif, len) : 1;

    *u = (struct upright){.img = img,
                          .lost = o == 0,
                          .swap = orientations[o].swap,
                          .flip_x = orientations[o].flip_x,
                          .flip_y = orientations[o].flip_y};
}

bool upright_new(struct upright *u, int64_t width, int64_t height, int channels, struct err *e)
{
    u->width = width;
    u->height = height;
    return image_new(u->img, u->swap ? height : width, u->swap ? width : height, channels, e);
}

void upright_put(const struct upright *u, const struct upright_row *row, const uint8_t *px)
{
    const int64_t ch = u->img->channels, y = u->flip_y ? u->height - 1 - row->y : row->y;
    const int64_t x = u->flip_x ? u->width - 1 - row->x : row->x;
    const int64_t along = u->swap ? u->img->width : 1; /* pixels between neighbouring columns */
    const int64_t step = (u->flip_x ? -row->step : row->step) * along * ch;
    uint8_t *to = u->img->px + (u->swap ? x * u->img->width + y : y * u->img->width + x) * ch;

    CHECK(row->y < u->height && (row->n == 0 || row->x + (row->n - 1) * row->step < u->width));
    if (step == ch) {
        memcpy(to, px, (size_t)(row->n * ch));
        return;
    }
    for (int64_t i = 0; i < row->n; i++, to += step, px += ch)
        memcpy(to, px, (size_t)ch);
}
