/* advice.c - see advice.h. In steps that train nothing, a peft set or a batch changes nothing. */
#include "train/forecast/advice.h"
#include "train/forecast/room.h"
#include "train/layerwise.h"
#include "train/recipes.h"

#include <stdio.h>

static bool has_answers(const struct advised *of)
{
    const struct forecast_step *s = of->s;

    return s->answers > s->activations && s->answers > s->trained && s->answers > s->computed;
}

static bool has_graph(const struct advised *of)
{
    const struct forecast_step *s = of->s;

    return !has_answers(of) && s->activations > s->trained && s->activations > s->computed;
}

static bool has_values(const struct advised *of)
{
    return !has_answers(of) && !has_graph(of);
}

/* Of shorter samples, as many go into a graph as fill it (train/layerwise.h). */
static bool has_long_samples(const struct advised *of)
{
    return of->f->r->train.longest > LAYERWISE_TOKENS;
}

static bool mkl_is_not_less(const struct advised *of)
{
    return !(of->s->less & FORECAST_LESS_MKL);
}

enum {
    PICTURES = 1 << FORECAST_PICTURES,
    MODEL = 1 << FORECAST_MODEL,
    RANK = 1 << FORECAST_RANK,
    ROTATION = 1 << FORECAST_ROTATION,
    FACTORS = 1 << FORECAST_FACTORS,
    RANKS = 1 << FORECAST_RANKS,
    STAGE1_REFIT = 1 << FORECAST_STAGE1_REFIT,
    REFIT = 1 << FORECAST_REFIT,
    SPLITS = 1 << FORECAST_SPLITS,
    SPLITS_LOSS = 1 << FORECAST_SPLITS_LOSS,
};

const struct advice advice_rows[] = {
    {.kinds = PICTURES, .text = "smaller pictures, or data.max_pixels where the model has it"},
    {MODEL, has_answers, .text = "a smaller evaluate.batch or evaluate.max_new_tokens"},
    {MODEL, has_graph, .say = room_advice},
    {MODEL, has_values, .text = "a setting that trains less: a smaller model, peft set or rank"},
    {.kinds = RANK,
     .less = FORECAST_LESS_MKL,
     .text = "rank.strategy \"mkl\" with rank.basis \"head\" and rank.budget \"even\""},
    {RANK, mkl_is_not_less,
     .text = "rank.strategy \"high\" with rank.basis \"head\", which measures nothing"},
    {.kinds = ROTATION, .text = "rank.rotation false"},
    {.kinds = FACTORS | SPLITS,
     .less = FORECAST_LESS_RECEIVED,
     .text = "svd.statistics \"received\""},
    {.kinds = FACTORS | SPLITS, .less = FORECAST_LESS_TOKENS, .text = "svd.statistics \"tokens\""},
    {.kinds = FACTORS, .less = FORECAST_LESS_EVEN, .text = "svd.ranks \"even\""},
    {.kinds = RANKS, .text = "svd.ranks \"energy\" or \"even\""},
    {.kinds = FACTORS | SPLITS, .text = "a smaller ", .key = "svd.low_rank"},
    {.kinds = STAGE1_REFIT, .text = "stage1.refit false"},
    {.kinds = REFIT, .text = "svd.refit false"},
    {.kinds = SPLITS | SPLITS_LOSS,
     .text = "sweep.low_rank and sweep.partial_rope in place of sweep.cache"},
    {RANK | ROTATION | FACTORS | RANKS | STAGE1_REFIT | REFIT | SPLITS | SPLITS_LOSS,
     has_long_samples, .text = "a smaller data.max_length"},
};
const size_t advice_count = sizeof advice_rows / sizeof *advice_rows;

const char *advice_for(const struct forecast *f, const struct forecast_step *s,
                       char out[ADVICE_TEXT])
{
    const struct advised of = {f, s};
    size_t at = 0;

    out[0] = '\0';
    for (size_t i = 0; i < advice_count && at < ADVICE_TEXT; i++) {
        const struct advice *row = &advice_rows[i];
        if (!(row->kinds & 1U << s->kind) || (row->helps && !row->helps(&of)) ||
            (row->less && !(s->less & row->less)))
            continue;
        at += (size_t)snprintf(
            out + at, ADVICE_TEXT - at, "%s%s%s", at ? ", or " : "",
            row->say ? row->say(f->r) : row->text,
            row->key ? point_size_key(recipes_config(&f->r->c, s->recipe), row->key) : "");
    }
    return out;
}
