/* processor_parts.h - between the files of the image processors: one kind of processor is one row,
 * and a file where its arithmetic is its own. */
#ifndef DATA_PICTURE_PROCESSOR_PARTS_H
#define DATA_PICTURE_PROCESSOR_PARTS_H

#include "data/picture/processor.h"

struct processor_kind {
    const char *name;       /* in the cache's description */
    const char *classes[8]; /* that the files name; the first is written */
    /* What the class does where the file says nothing, beside CLIP's. */
    void (*defaults)(struct processor *p);
    bool (*check)(struct processor *p, const char **key, struct err *e);
    bool (*shape)(const struct processor *p, struct picture_shape *s, struct err *e);
    bool (*run)(const struct processor *p, const struct image *rgb, float *pixels, struct err *e);
};
extern const struct processor_kind processor_clip, processor_anyres, processor_native;
extern const struct processor_kind *const processor_kinds[]; /* NULL at the end */

/* Sets *key to the setting at fault, and *e to its name with the message behind it. False. */
bool processor_fault(struct err *e, const char **key, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* What each 8-bit value of a channel becomes. */
void processor_table(const struct processor *p, float value[3][256]);

/* The 8-bit values of `out`, rescaled and normalised: pixels [3, height, width]. */
void processor_values(const struct processor *p, const struct image *out, float *pixels);

#endif
