/* held.c - training on what a cache would hold: what attention reads of a token becomes what it is
 * after being packed. The rows are those of kv_cache.c, turned where the kind of cache says so, as
 * in extend.c; a turned latent is turned back, since the keys and values that are made from it
 * need it as it was. */
#include "model/forward_parts.h"

static const struct latent_turn *turn_of(const struct cache_how *how, int64_t l, enum cache_row row)
{
    return how->turn && row != CACHE_ROPE ? &how->turn[l][row == CACHE_VALUE] : NULL;
}

struct tensor *build_held(struct model *m, struct tape *t, const struct forward *f, int64_t l,
                          enum cache_row row, struct tensor *x)
{
    const struct row_form *form = f->held ? f->held->kind.form[row] : NULL;
    const bool apart = model_sets(m) > 1;
    struct as_cached how = {.form = form};

    if (!form || !form->pack) return x;
    const struct latent_turn *turn = turn_of(f->held, l, row);
    if (turn && turn->block)
        how = (struct as_cached){.form = form,
                                 .block = turn->block,
                                 .by = {turn->by[TEXT], turn->by[IMAGE]},
                                 .back = {turn->back[TEXT], turn->back[IMAGE]},
                                 .spans = apart ? f->batch->spans : NULL,
                                 .n_spans = apart ? f->batch->n_spans : 0};
    how.fault = f->held_fault;
    how.place = l * CACHE_ROWS + row;
    return op_as_cached(t, x, &how);
}
