/* choicefile.c - see choicefile.h. */
#include "model/files/choicefile.h"
#include "base/mem.h"
#include "model/files/arrayfile.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ARRAYS = 2 };

static void arrays_of(struct file_array out[ARRAYS], const struct rank_dims *n,
                      const struct choicefile *c)
{
    const int64_t P = n->dh / 2;

    out[0] = (struct file_array){"chosen", false, 3, {n->L, n->G * P, P}, c->chosen};
    out[1] = (struct file_array){"cost", true, 3, {n->L, n->G, P + 1}, c->cost};
}

bool choicefile_new(struct choicefile *c, const struct rank_dims *n, struct err *e)
{
    const size_t heads = (size_t)(n->L * n->G), P = (size_t)n->dh / 2;

    c->chosen = mem_new(heads * P, P * sizeof *c->chosen, "the choice of pairs", e);
    c->cost = mem_new(heads, (P + 1) * sizeof *c->cost, "the choice of pairs", e);
    if (c->chosen && c->cost) return true;
    choicefile_free(c);
    return false;
}

void choicefile_free(struct choicefile *c)
{
    free(c->chosen);
    free(c->cost);
    memset(c, 0, sizeof *c);
}

bool choicefile_write(const char *path, const struct rank_dims *n, const struct choicefile *c,
                      struct err *e)
{
    struct file_array a[ARRAYS];

    arrays_of(a, n, c);
    return arrayfile_write(path, a, ARRAYS, e) || err_context(e, "rank file");
}

static bool check(const struct rank_dims *n, const struct choicefile *c, struct err *e)
{
    const int64_t P = n->dh / 2;

    for (int64_t row = 0; row < n->L * n->G * P; row++) {
        int64_t kept = 0;
        for (int64_t i = 0; i < P; i++)
            kept += c->chosen[row * P + i] == 1;
        if (kept != row % P + 1)
            return err_set(e, "chosen: a row for %" PRId64 " pairs with %" PRId64, row % P + 1,
                           kept);
    }
    for (int64_t j = 0; j < n->L * n->G * (P + 1); j++)
        if (!(c->cost[j] >= 0) || isinf(c->cost[j]))
            return err_set(e, "cost: %g; a number from 0 on is needed", c->cost[j]);
    return true;
}

bool choicefile_read(const char *path, const struct rank_dims *n, struct choicefile *c,
                     struct err *e)
{
    struct file_array a[ARRAYS];

    arrays_of(a, n, c);
    return (arrayfile_read(path, a, ARRAYS, e) && check(n, c, e)) ||
           err_context(e, "rank file %s", path);
}
