/* decode.c - see decode.h. */
#include "train/decode.h"
#include "data/picture/image.h"
#include "train/forecast/room.h"
#include "base/units.h"

#include <inttypes.h>

static bool check_room(const struct run *r, const char *path, const struct image_info *info,
                       struct err *e)
{
    const int64_t need = processor_memory(&r->processor, info);
    const size_t left = room_left(r, room_held(), 0);
    char t[2][UNIT_TEXT];

    if ((size_t)need <= left) return true;
    return err_set(e,
                   "%s: out of memory: %" PRId64 "x%" PRId64 " pixels take %s to read and process, "
                   "%s or the machine leaves %s",
                   path, info->width, info->height, unit_bytes(t[0], (double)need),
                   r->limit_from ? r->limit_from : "run.memory_limit",
                   unit_bytes(t[1], (double)left));
}

static bool decode(const struct run *r, const struct dataset_image *from, float *pixels,
                   const char **damage, struct err *e)
{
    struct image img = {0};
    bool ok = from->inside.data
                  ? image_decode(&img, from->path, from->inside.data, from->inside.size, e)
                  : image_read(&img, from->path, e);

    if (ok && (img.height != from->shape.height || img.width != from->shape.width))
        ok = err_set(e, "%s: was changed while it was in use", from->path);
    if (ok) {
        *damage = img.damage;
        image_flatten(&img, (enum alpha_mode)r->c.data.alpha);
        ok = processor_run(&r->processor, &img, pixels, e) || err_context(e, "%s", from->path);
    }
    image_free(&img);
    return ok;
}

bool decode_picture(const struct run *r, const struct dataset_image *img, float *pixels,
                    const char **damage, struct err *e)
{
    struct image_info info;
    bool ok;

    *damage = NULL;
    if (!dataset_look(img, &info, e)) return false;
    if (processor_memory(&r->processor, &info) < DECODE_LARGE)
        return decode(r, img, pixels, damage, e);
#pragma omp critical(large_picture)
    ok = check_room(r, img->path, &info, e) && decode(r, img, pixels, damage, e);
    return ok;
}
