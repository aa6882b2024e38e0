/* processor_parts.h - shared by the files of the image processors. Each kind is a row of a table,
 * with a file of its own if its arithmetic differs. */
#ifndef DATA_PICTURE_PROCESSOR_PARTS_H
#define DATA_PICTURE_PROCESSOR_PARTS_H

#include "data/picture/processor.h"

struct processor_kind {
    const char *name;       /* used in processor_describe */
    const char *classes[8]; /* names in the config files; the first one is written */
    /* Sets the defaults in which the class differs from CLIP; may be NULL. */
    void (*defaults)(struct processor *p);
    bool (*check)(struct processor *p, const char **key, struct err *e);
    bool (*shape)(const struct processor *p, struct picture_shape *s, struct err *e);
    bool (*run)(const struct processor *p, const struct image *rgb, float *pixels, struct err *e);
};
extern const struct processor_kind processor_clip, processor_anyres, processor_native;
extern const struct processor_kind *const processor_kinds[]; /* ends with NULL */

/* Sets *key to the setting at fault, and a message that begins with its name. Returns false. */
bool processor_fault(struct err *e, const char **key, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Fills value[channel][v] with what the 8-bit value v becomes. */
void processor_table(const struct processor *p, float value[3][256]);

/* Rescales and normalises the 8-bit values of `out` to pixels [3, height, width]. */
void processor_values(const struct processor *p, const struct image *out, float *pixels);

#endif
