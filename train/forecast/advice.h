/* advice.h - what the user can change where a step of the run needs too much memory: only what
 * makes that step smaller, or takes it away. */
#ifndef TRAIN_FORECAST_ADVICE_H
#define TRAIN_FORECAST_ADVICE_H

#include "train/forecast/forecast.h"

struct advised {
    const struct forecast *f;
    const struct forecast_step *s;
};

struct advice {
    unsigned kinds; /* of step, 1 << enum forecast_kind: those it helps */
    bool (*helps)(
        const struct advised *of); /* whether it does with these settings; NULL: it does */
    const char *text, *key;        /* key: of a point, as point_size_key has it; or NULL */
    const char *(*say)(const struct run *r); /* in place of the text, or NULL */
    unsigned less; /* bit of the step's `less`: it helps where that is set; 0: there is none */
};
extern const struct advice advice_rows[];
extern const size_t advice_count;

/* All that helps, "A, or B". */
enum { ADVICE_TEXT = 400 };
const char *advice_for(const struct forecast *f, const struct forecast_step *s,
                       char out[ADVICE_TEXT]);

#endif
