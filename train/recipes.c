/* recipes.c - see recipes.h. */
#include "train/recipes.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct recipe {
    struct config c;
    bool *sets;           /* by row of the table */
    int64_t rank, stage1; /* the first recipe with the same ranking, and with the same stage 1 */
    char ranks_file[40], splits_file[40];
};

struct recipes {
    struct recipe *v; /* [n] */
    int64_t n, taken; /* -1: none is */
    struct config own;
};

int64_t recipes_count(const struct config *c)
{
    return c->recipes ? c->recipes->n : 1;
}

/* The parts of the settings in which recipes differ. */
static void copy_parts(struct config *to, const struct config *from)
{
    to->rank = from->rank;
    to->stage1 = from->stage1;
    to->svd = from->svd;
    to->stage2 = from->stage2;
    to->sweep = from->sweep;
    to->split = from->split;
    to->splits_known = from->splits_known;
    to->ranks_file = from->ranks_file;
    to->splits_file = from->splits_file;
}

int64_t recipes_take(struct config *c, int64_t recipe)
{
    struct recipes *all = c->recipes;
    int64_t was;

    if (!all) return -1;
    was = all->taken;
    copy_parts(was < 0 ? &all->own : &all->v[was].c, c); /* its splits may have been found */
    copy_parts(c, recipe < 0 ? &all->own : &all->v[recipe].c);
    all->taken = recipe;
    return was;
}

int64_t recipes_taken(const struct config *c)
{
    return c->recipes ? c->recipes->taken : -1;
}

const struct config *recipes_config(const struct config *c, int64_t recipe)
{
    const struct recipes *all = c->recipes;

    return !all || all->taken == recipe ? c : &all->v[recipe].c;
}

const struct config_phase *recipes_phase(const struct config *c, int64_t recipe, enum step step)
{
    const struct config *own = c->recipes ? &c->recipes->v[recipe].c : c;

    return step == STEP_STAGE1 ? &own->stage1 : &own->stage2;
}

bool recipes_sets(const struct config *c, int64_t recipe, const struct schema_row *row)
{
    return c->recipes && c->recipes->v[recipe].sets[row - config_schema.rows];
}

static const struct config_recipe *settings_of(const struct config *c, int64_t recipe)
{
    return (const struct config_recipe *)c->sweep.recipe.v + recipe;
}

const char *recipes_name(const struct config *c, int64_t recipe)
{
    return c->recipes ? settings_of(c, recipe)->name : "";
}

bool recipes_blame(const struct config *c, int64_t recipe, struct err *e)
{
    return c->recipes &&
           err_context(e, "sweep.recipe[%lld] \"%s\"", (long long)recipe, recipes_name(c, recipe));
}

const char *recipes_of_stage1(const struct config *c, int64_t recipe)
{
    return c->recipes ? recipes_name(c, c->recipes->v[recipe].stage1) : "";
}

bool recipes_ranks(const struct config *c, int64_t recipe)
{
    return !c->recipes || c->recipes->v[recipe].rank == recipe;
}

/* ---- making them ---- */

static bool check_name(const struct config *c, int64_t i, struct err *e)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "._-";
    const char *name = settings_of(c, i)->name;

    if (*name == '.' || *name == '_' || *name == '-' || name[strspn(name, letters)] != '\0')
        return err_set(
            e,
            "sweep.recipe[%lld].name: \"%s\": a name is of letters, digits, dots, dashes "
            "and underscores, and begins with a letter or a digit",
            (long long)i, name);
    for (int64_t k = 0; k < i; k++)
        if (strcmp(name, settings_of(c, k)->name) == 0)
            return err_set(e, "sweep.recipe[%lld].name: \"%s\" is that of sweep.recipe[%lld] too",
                           (long long)i, name, (long long)k);
    return true;
}

/* Settings that all recipes share stay as they are. */
static bool check_shared(const struct config *c, int64_t i, const struct config *made,
                         struct err *e)
{
    static const char *const open[] = {"rank.", "stage1.", "svd.", "stage2.", "sweep."};
    static const char *const shared[] = {"rank.file", "sweep.recipe"}; /* of these groups */

    for (size_t k = 0; k < config_schema.nrows; k++) {
        const char *key = config_schema.rows[k].key;
        bool is_open = false, same;
        for (size_t g = 0; g < sizeof open / sizeof *open; g++)
            is_open = is_open || strncmp(key, open[g], strlen(open[g])) == 0;
        for (size_t g = 0; g < sizeof shared / sizeof *shared; g++)
            is_open = is_open && strcmp(key, shared[g]) != 0;
        if (is_open) continue;
        if (!schema_same(&config_schema, c, made, key, NULL, &same, e)) return false;
        if (!same)
            return err_set(e,
                           "sweep.recipe[%lld].set: %s is one for all recipes, which may differ in "
                           "the rest of rank, stage1, svd, stage2 and sweep: set it for the run",
                           (long long)i, key);
    }
    return true;
}

/* The later of two would be taken, without a word. */
static bool check_once(const struct config_recipe *s, int64_t recipe, struct err *e)
{
    for (int64_t i = 0; i < s->set.n; i++)
        for (int64_t k = 0; k < i; k++) {
            const size_t key = strcspn(s->set.v[i], "=");
            if (key == strcspn(s->set.v[k], "=") && memcmp(s->set.v[i], s->set.v[k], key) == 0)
                return err_set(e, "sweep.recipe[%lld].set[%lld]: %.*s is set by set[%lld] too",
                               (long long)recipe, (long long)i, (int)key, s->set.v[i],
                               (long long)k);
        }
    return true;
}

static bool make_config(const struct config *c, int64_t i, struct recipe *q, struct err *e)
{
    const struct config_recipe *s = settings_of(c, i);
    const size_t rows = config_schema.nrows;
    char label[40];
    bool ok;

    snprintf(label, sizeof label, "sweep.recipe[%lld].set", (long long)i);
    if (!schema_copy(&config_schema, &q->c, c, e)) return false;
    q->sets = mem_new(rows, sizeof *q->sets, "a recipe's settings", e);
    if (!q->sets) return false;
    memset(q->c.given, 0, rows * sizeof *q->c.given);
    ok = schema_apply(&config_schema, &q->c, s->set.v, (size_t)s->set.n, label, e);
    memcpy(q->sets, q->c.given, rows * sizeof *q->sets);
    for (size_t k = 0; k < rows; k++)
        q->c.given[k] = q->sets[k] || c->given[k];
    return ok && check_once(s, i, e) && check_shared(c, i, &q->c, e);
}

/* Whether two recipes have the same ranking, and the same stage 1 but for rank.rope_dim, which is
 * in its name. */
static bool same_start(const struct config *a, const struct config *b, bool *rank, bool *stage1,
                       struct err *e)
{
    const struct schema *s = &config_schema;
    bool samples = true;

    if (!schema_same(s, a, b, "rank.", "rank.rope_dim", rank, e) ||
        !schema_same(s, a, b, "stage1.", NULL, stage1, e) ||
        (a->stage1.refit && !schema_same(s, a, b, "svd.samples", NULL, &samples, e)))
        return false;
    *stage1 = *rank && *stage1 && samples;
    return true;
}

static bool find_starts(struct recipes *all, int64_t i, struct err *e)
{
    struct recipe *q = &all->v[i];
    bool rank, stage1;

    q->rank = q->stage1 = i;
    for (int64_t k = i - 1; k >= 0; k--) {
        if (!same_start(&all->v[k].c, &q->c, &rank, &stage1, e)) return false;
        if (rank) q->rank = k;
        if (stage1) q->stage1 = k;
    }
    return true;
}

bool recipes_open(struct config *c, struct err *e)
{
    const int64_t n = c->sweep.recipe.n;
    struct recipes *all;

    if (n == 0) return true;
    all = mem_new(1, sizeof *all, "recipes", e);
    if (!all) return false;
    all->taken = -1;
    all->v = mem_new((size_t)n, sizeof *all->v, "recipes", e);
    c->recipes = all;
    if (!all->v) return false;
    for (all->n = 0; all->n < n; all->n++) {
        struct recipe *q = &all->v[all->n];
        if (!check_name(c, all->n, e) || !make_config(c, all->n, q, e) ||
            !find_starts(all, all->n, e)) {
            all->n++; /* it is freed too */
            return false;
        }
        snprintf(q->ranks_file, sizeof q->ranks_file, "rank/%s.h5", settings_of(c, q->rank)->name);
        snprintf(q->splits_file, sizeof q->splits_file, "splits-%s.json",
                 settings_of(c, all->n)->name);
        q->c.ranks_file = q->ranks_file;
        q->c.splits_file = q->splits_file;
    }
    return true;
}

void recipes_close(struct config *c)
{
    struct recipes *all = c->recipes;

    recipes_take(c, -1);
    for (int64_t i = 0; all && i < all->n; i++) {
        free(all->v[i].c.split);
        schema_free(&config_schema, &all->v[i].c);
        free(all->v[i].sets);
    }
    if (all) free(all->v);
    free(all);
    free(c->split);
    schema_free(&config_schema, c);
}
