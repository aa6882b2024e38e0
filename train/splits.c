/* splits.c - see splits.h. Splits are compared by the cross entropy of calibration samples'
 * answers, after the refit if svd.refit. From a quarter of the values rotated, each size goes to
 * the next split on either side for as long as that is better. What was tried is kept in a file
 * beside splits.json until that is there, so that an interrupted search goes on. */
#include "train/splits.h"
#include "base/file.h"
#include "base/json/jsonc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "base/units.h"
#include "cluster/cluster.h"
#include "train/factors.h"
#include "train/made.h"
#include "train/models.h"
#include "train/recipes.h"
#include "train/refit.h"
#include "train/share.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Rotated dims a head that are tried, or of the shared key. */
static const int64_t dims[] = {2,   4,   6,   8,   12,  16,  24,   32,   48,   64,   96,
                               128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096};
enum { DIMS = sizeof dims / sizeof *dims };

struct size {
    double share;
    int64_t values;    /* B */
    int first, tries;  /* dims[first .. tries) leave a latent that its projection holds */
    double loss[DIMS]; /* mean cross entropy */
    bool known[DIMS];
    int best; /* -1: none is known */
};

struct search {
    struct run *r;
    struct model base;
    struct size *size; /* [n] */
    int64_t n;
    double original; /* its loss */
};

static const char *file_of(const struct config *c)
{
    return c->splits_file ? c->splits_file : "splits.json";
}

/* What was tried, until all was. */
enum { TRIED = 80 };
static void tried_file(const struct config *c, char name[static TRIED])
{
    snprintf(name, TRIED, "%s.tried", file_of(c));
}

/* ---- sizes ---- */

/* Of the original's 2 G dh values a token and layer. */
static int64_t values_of(const struct model *m, double share)
{
    const struct text_config *c = &m->cfg.text;

    return (int64_t)(share * (double)(2 * c->num_key_value_heads * c->head_dim) + 1e-6);
}

/* Rotated keys a token and layer. */
static int64_t keys_of(const struct run *r, const struct model *m)
{
    return config_shares_key(&r->c) ? 1 : m->cfg.text.num_key_value_heads;
}

static struct point_split split_of(const struct run *r, const struct model *m, int64_t values,
                                   int64_t rope_dim)
{
    const int64_t G = m->cfg.text.num_key_value_heads, latent = values - keys_of(r, m) * rope_dim;

    return (struct point_split){
        rope_dim, (double)(r->c.svd.method == KV_SPLIT ? latent / 2 : latent) / (double)G};
}

static bool is_possible(const struct run *r, const struct model *m, int64_t values,
                        int64_t rope_dim)
{
    const struct point_split s = split_of(r, m, values, rope_dim);
    const struct point p = {.rope_dim = s.rope_dim, .low_rank = s.low_rank};
    const int64_t most = m->cfg.text.num_key_value_heads / keys_of(r, m) * m->cfg.text.head_dim;
    struct mdsvd_plan plan;
    struct err no = {0};
    int64_t latent;

    return rope_dim <= most && s.low_rank > 0 && point_plan(r, m, &p, &latent, &plan, &no);
}

static bool open_size(struct size *s, const struct run *r, const struct model *m, double share,
                      struct err *e)
{
    const int64_t keys = keys_of(r, m);
    char why[120];

    *s = (struct size){.share = share, .values = values_of(m, share), .best = -1};
    while (s->first < DIMS && !is_possible(r, m, s->values, dims[s->first]))
        s->first++;
    for (s->tries = s->first; s->tries < DIMS && is_possible(r, m, s->values, dims[s->tries]);)
        s->tries++;
    if (s->first < DIMS) return true;
    if (s->values <= dims[0] * keys)
        snprintf(why, sizeof why,
                 "two rotated dims in each of %lld key%s and a latent need %lld or more",
                 (long long)keys, plural(keys),
                 (long long)(dims[0] * keys + (r->c.svd.method == KV_SPLIT ? 2 : 1)));
    else
        snprintf(why, sizeof why,
                 "no split that is tried leaves a latent that its projection can fill; use "
                 "rank.rope_dim and sweep.low_rank");
    return err_set(e, "sweep.cache: %g of the %lld values of a token and layer are %lld: %s", share,
                   (long long)values_of(m, 1), (long long)s->values, why);
}

/* A quarter rotated, or less. */
static int first_try(const struct size *s, const struct run *r, const struct model *m)
{
    int i = s->first;

    while (i + 1 < s->tries && 4 * keys_of(r, m) * dims[i + 1] <= s->values)
        i++;
    return i;
}

/* What to try next, as an index into dims; -1: the best is found. */
static int wanted(const struct size *s, const struct run *r, const struct model *m)
{
    if (s->best < 0) return first_try(s, r, m);
    if (s->best + 1 < s->tries && !s->known[s->best + 1]) return s->best + 1;
    return s->best > s->first && !s->known[s->best - 1] ? s->best - 1 : -1;
}

static bool new_splits(struct run *r, struct err *e)
{
    if (!r->c.split)
        r->c.split = mem_new((size_t)r->c.sweep.cache.n, sizeof *r->c.split, "splits", e);
    return r->c.split;
}

/* Shares are told apart by the values that they come to. */
static bool check_once(const struct run *r, const struct model *m, int64_t i, struct err *e)
{
    const double *share = r->c.sweep.cache.v;
    const int64_t values = values_of(m, share[i]);

    for (int64_t k = 0; k < i; k++)
        if (values_of(m, share[k]) == values)
            return err_set(e,
                           "sweep.cache: %g and %g are both %lld of the %lld values of a token and "
                           "layer: give one of them",
                           share[k], share[i], (long long)values, (long long)values_of(m, 1));
    return true;
}

static bool guess(struct run *r, const struct model *m, struct err *e)
{
    struct size s;

    if (r->c.sweep.cache.n == 0 || r->c.splits_known) return true;
    if (!new_splits(r, e)) return false;
    for (int64_t i = 0; i < r->c.sweep.cache.n; i++) {
        if (!check_once(r, m, i, e) || !open_size(&s, r, m, r->c.sweep.cache.v[i], e)) return false;
        r->c.split[i] = split_of(r, m, s.values, dims[first_try(&s, r, m)]);
    }
    return true;
}

bool splits_guess(struct run *r, const struct model *m, struct err *e)
{
    bool ok = true;

    for (int64_t i = 0; ok && i < recipes_count(&r->c); i++) {
        recipes_take(&r->c, i);
        ok = guess(r, m, e) || recipes_blame(&r->c, i, e);
    }
    recipes_take(&r->c, -1);
    return ok;
}

struct point splits_largest(const struct run *r, const struct model *m)
{
    struct point p = {.name = "splits", .stage1 = "splits"};

    for (int64_t i = 0; i < r->c.sweep.cache.n; i++) {
        struct size size;
        struct point_split s;
        struct err no = {0};
        if (!open_size(&size, r, m, r->c.sweep.cache.v[i], &no)) continue;
        s = split_of(r, m, size.values, dims[size.first]);
        if (s.low_rank <= p.low_rank) continue;
        p.rope_dim = s.rope_dim;
        p.low_rank = s.low_rank;
    }
    return p;
}

bool splits_factors(const struct run *r, const struct model *m, struct factors_for *what,
                    struct err *e)
{
    const struct point largest = splits_largest(r, m);

    *what = (struct factors_for){
        .point = mem_new((size_t)r->c.sweep.cache.n, sizeof *what->point, "splits", e)};
    for (int64_t i = 0; what->point && i < r->c.sweep.cache.n; i++) {
        const int64_t values = values_of(m, r->c.sweep.cache.v[i]);
        struct point p = largest;
        if (!is_possible(r, m, values, p.rope_dim)) continue;
        p.low_rank = split_of(r, m, values, p.rope_dim).low_rank;
        what->point[what->n++] = p;
    }
    return what->point;
}

/* ---- what is written ---- */

static bool add_split(cJSON *list, const struct search *s, const struct size *z, int dim)
{
    const struct point_split split = split_of(s->r, &s->base, z->values, dims[dim]);
    cJSON *o = cJSON_CreateObject();

    return cJSON_AddItemToArray(list, o) && cJSON_AddNumberToObject(o, "cache", z->share) &&
           cJSON_AddNumberToObject(o, "rope_dim", (double)split.rope_dim) &&
           cJSON_AddNumberToObject(o, "low_rank", split.low_rank) &&
           cJSON_AddNumberToObject(o, "cross_entropy", z->loss[dim]);
}

static bool add_tried(cJSON *root, const struct search *s)
{
    cJSON *tried = cJSON_AddArrayToObject(root, "tried");
    bool ok = tried && cJSON_AddNumberToObject(root, "original", s->original);

    for (int64_t i = 0; ok && i < s->n; i++)
        for (int d = 0; ok && d < DIMS; d++)
            ok = !s->size[i].known[d] || add_split(tried, s, &s->size[i], d);
    return ok;
}

static bool add_chosen(cJSON *root, const struct search *s)
{
    cJSON *splits = cJSON_AddArrayToObject(root, "splits");
    bool ok = splits;

    for (int64_t i = 0; ok && i < s->n; i++)
        ok = add_split(splits, s, &s->size[i], s->size[i].best);
    return ok;
}

/* RUN/name, of what is known so far. */
static bool write_file(struct search *s, const char *name, bool chosen, struct err *e)
{
    char *path = run_path(s->r, e, "%s", name), *text = NULL;
    cJSON *root = cJSON_CreateObject();
    bool ok = (!chosen || add_chosen(root, s)) && add_tried(root, s);

    if (!ok) err_set(e, "out of memory for %s", name);
    text = ok && path ? jsonc_print(root, true, e) : NULL;
    ok = text && outputs_forget(s->r, name, e) && file_write(path, text, strlen(text), e) &&
         outputs_add(s->r, name, path, e);
    cJSON_Delete(root);
    free(text);
    free(path);
    return ok;
}

static bool keep_tried(struct search *s, struct err *e)
{
    char name[TRIED];

    tried_file(&s->r->c, name);
    return cluster_agree(!cluster_first() || write_file(s, name, false, e), e);
}

static bool drop_tried(struct run *r, struct err *e)
{
    char name[TRIED], *path;
    bool ok;

    tried_file(&r->c, name);
    path = run_path(r, e, "%s", name);
    ok = path && outputs_forget(r, name, e);
    if (ok) file_remove_tree(path);
    free(path);
    return ok;
}

/* ---- trying ---- */

static struct point point_of(const struct search *s, const struct size *size, int dim)
{
    const struct point_split split = split_of(s->r, &s->base, size->values, dims[dim]);
    struct point p = {.rope_dim = split.rope_dim, .low_rank = split.low_rank};

    snprintf(p.name, sizeof p.name, "split rope%lld-rank%g", (long long)p.rope_dim, p.low_rank);
    return p;
}

static void learn(struct size *size, int dim, double loss)
{
    size->loss[dim] = loss;
    size->known[dim] = true;
    if (size->best < 0 || loss < size->loss[size->best] ||
        (loss == size->loss[size->best] && dim < size->best))
        size->best = dim;
}

/* Converts the model to one size's split, and measures its loss. */
static bool try_size(struct search *s, struct size *size, int dim, struct made_factors *f,
                     struct err *e)
{
    const struct point p = point_of(s, size, dim);
    const struct refit_how how = {p.name, s->r->c.svd.split_samples, s->r->c.svd.refit};
    struct refit_loss loss = {0, 0};
    struct model m = {0};
    bool ok;

    log_line("%s, %.4g %% of the cache:", p.name, 100 * size->share);
    ok = open_untrained_partial(s->r, &p, &m, e) && factors_apply(f, s->r, &p, false, &m, e);
    ok = cluster_agree(ok, e) && refit_model(s->r, &s->base, &m, &how, &loss, e);
    s->original = loss.original;
    if (ok) learn(size, dim, loss.converted);
    model_close(&m);
    return ok;
}

/* The sizes that want so many dims, which share their factors' calibration. */
static bool try_dim(struct search *s, int dim, struct err *e)
{
    struct factors_for what = {.samples = s->r->c.svd.split_samples};
    struct made_factors f = {0};
    struct model m = {0};
    bool ok;

    what.point = mem_new((size_t)s->n, sizeof *what.point, "splits", e);
    for (int64_t i = 0; what.point && i < s->n; i++)
        if (wanted(&s->size[i], s->r, &s->base) == dim)
            what.point[what.n++] = point_of(s, &s->size[i], dim);
    ok = cluster_agree(what.point && open_untrained_partial(s->r, &what.point[0], &m, e), e) &&
         factors_make(&f, s->r, &m, &s->base, &what, e);
    model_close(&m);
    for (int64_t i = 0; ok && i < s->n; i++)
        ok = wanted(&s->size[i], s->r, &s->base) != dim || try_size(s, &s->size[i], dim, &f, e);
    factors_free(&f);
    free(what.point);
    return ok;
}

static bool try_all(struct search *s, struct err *e)
{
    for (;;) {
        int next = DIMS;
        for (int64_t i = 0; i < s->n; i++) {
            const int dim = wanted(&s->size[i], s->r, &s->base);
            if (dim >= 0 && dim < next) next = dim;
        }
        if (next == DIMS) return true;
        if (!try_dim(s, next, e) || !keep_tried(s, e)) return false;
    }
}

/* ---- the table ---- */

static void print_row(const struct search *s, int dim)
{
    char line[400];
    const char *of = config_shares_key(&s->r->c) ? "in all" : "a head";
    size_t at = (size_t)snprintf(line, sizeof line, "%6lld rotated %s", (long long)dims[dim], of);
    bool any = false;

    for (int64_t i = 0; i < s->n && at < sizeof line; i++) {
        const struct size *z = &s->size[i];
        any = any || z->known[dim];
        if (z->known[dim])
            at += (size_t)snprintf(line + at, sizeof line - at, "  %9.4g%c", z->loss[dim],
                                   z->best == dim ? '*' : ' ');
        else
            at += (size_t)snprintf(line + at, sizeof line - at, "  %10s", "-");
    }
    if (any) log_line("%s", line);
}

static void print_table(const struct search *s)
{
    char head[400], last[400];
    size_t at = (size_t)snprintf(head, sizeof head, "%-21s", "cross entropy");
    size_t to = (size_t)snprintf(last, sizeof last, "%21s", "the original");

    for (int64_t i = 0; i < s->n && at < sizeof head; i++) {
        at += (size_t)snprintf(head + at, sizeof head - at, "  %7.4g %% ", 100 * s->size[i].share);
        to += (size_t)snprintf(last + to, sizeof last - to, "  %9.4g ", s->original);
    }
    log_line("%s", head);
    for (int i = 0; i < DIMS; i++)
        print_row(s, i);
    log_line("%s", last);
}

/* ---- what is read ---- */

/* The numbers of LIST[i], which are above 0. */
static bool read_numbers(const struct jsonc *doc, const char *list, int64_t i,
                         const char *const *keys, double *v, int n, struct err *e)
{
    for (int k = 0; k < n; k++) {
        char path[60];
        const cJSON *item;
        snprintf(path, sizeof path, "%s[%lld].%s", list, (long long)i, keys[k]);
        item = jsonc_find(doc, path);
        if (!cJSON_IsNumber(item) || (v[k] = item->valuedouble) <= 0)
            return err_set(e, "%s: a number above 0 is needed", path);
    }
    return true;
}

static bool read_split(const struct run *r, const struct jsonc *doc, int64_t i, struct err *e)
{
    static const char *const keys[] = {"cache", "rope_dim", "low_rank"};
    double v[3] = {0};

    if (!read_numbers(doc, "splits", i, keys, v, 3, e)) return false;
    if (v[0] != r->c.sweep.cache.v[i])
        return err_set(e, "splits[%lld].cache: is %g, and sweep.cache[%lld] %g", (long long)i, v[0],
                       (long long)i, r->c.sweep.cache.v[i]);
    r->c.split[i] = (struct point_split){(int64_t)v[1], v[2]};
    return true;
}

static bool read_splits(struct run *r, const char *path, struct err *e)
{
    struct jsonc doc = {0};
    bool ok = new_splits(r, e) && jsonc_read(&doc, path, JSONC_CONFIG_BYTES, e);

    for (int64_t i = 0; ok && i < r->c.sweep.cache.n; i++)
        ok = read_split(r, &doc, i, e);
    jsonc_close(&doc);
    return ok || made_again(r, STEP_SVD, "file", path, e);
}

static bool read_try(struct search *s, const struct jsonc *doc, int64_t i, struct err *e)
{
    static const char *const keys[] = {"cache", "rope_dim", "cross_entropy"};
    double v[3] = {0};

    if (!read_numbers(doc, "tried", i, keys, v, 3, e)) return false;
    for (int64_t k = 0; k < s->n; k++)
        for (int d = s->size[k].first; d < s->size[k].tries; d++) {
            if (s->size[k].share != v[0] || (double)dims[d] != v[1]) continue;
            learn(&s->size[k], d, v[2]);
            return true;
        }
    return err_set(e, "tried[%lld]: no size of sweep.cache is split so", (long long)i);
}

static bool read_tries(struct search *s, const struct jsonc *doc, struct err *e)
{
    const int n = cJSON_GetArraySize(jsonc_find(doc, "tried"));
    const cJSON *original = jsonc_find(doc, "original");

    if (!cJSON_IsNumber(original)) return err_set(e, "original: a number is needed");
    s->original = original->valuedouble;
    for (int i = 0; i < n; i++)
        if (!read_try(s, doc, i, e)) return false;
    log_line("splits: %d %s tried already", n, n == 1 ? "was" : "were");
    return true;
}

/* What an interrupted search has left, if there is any. */
static bool read_tried(struct search *s, struct err *e)
{
    struct jsonc doc = {0};
    char name[TRIED], *path;
    bool there = false, ok;

    tried_file(&s->r->c, name);
    path = run_path(s->r, e, "%s", name);
    ok = path && file_there(path, &there, e);
    if (ok && there) {
        ok = outputs_check(s->r, name, true, e) && jsonc_read(&doc, path, JSONC_CONFIG_BYTES, e) &&
             read_tries(s, &doc, e);
        if (!ok) made_again(s->r, STEP_SVD, "file", path, e);
    }
    jsonc_close(&doc);
    free(path);
    return ok;
}

/* All processes have what the first has read. */
static bool share_tried(struct search *s, struct err *e)
{
    return cluster_agree(!cluster_first() || read_tried(s, e), e) &&
           cluster_broadcast(s->size, (size_t)s->n * sizeof *s->size, 0, e) &&
           cluster_broadcast(&s->original, sizeof s->original, 0, e);
}

/* All processes have those of the first. */
static bool share_splits(struct run *r, struct err *e)
{
    return new_splits(r, e) &&
           cluster_broadcast(r->c.split, (size_t)r->c.sweep.cache.n * sizeof *r->c.split, 0, e);
}

static bool open_file(struct run *r, struct err *e)
{
    char *path;
    bool there = false, ok;

    if (r->c.sweep.cache.n == 0) return true;
    path = run_path(r, e, "%s", file_of(&r->c));
    ok = path &&
         (!cluster_first() || (file_there(path, &there, e) && (!there || read_splits(r, path, e))));
    free(path);
    ok = cluster_as_first(ok, &there, e);
    r->c.splits_known = ok && there;
    return ok && (!there || share_splits(r, e));
}

bool splits_open(struct run *r, struct err *e)
{
    bool ok = true;

    for (int64_t i = 0; ok && i < recipes_count(&r->c); i++) {
        recipes_take(&r->c, i);
        ok = open_file(r, e);
    }
    recipes_take(&r->c, -1);
    return ok;
}

static bool check_file(struct run *r, struct err *e)
{
    char *path;
    bool ok;

    if (!r->c.splits_known || outputs_check(r, file_of(&r->c), true, e)) return true;
    path = run_path(r, e, "%s", file_of(&r->c));
    ok = path && made_again(r, STEP_SVD, "file", path, e);
    free(path);
    return ok;
}

bool splits_check(struct run *r, struct err *e)
{
    bool ok = true;

    for (int64_t i = 0; ok && i < recipes_count(&r->c); i++) {
        recipes_take(&r->c, i);
        ok = check_file(r, e);
    }
    recipes_take(&r->c, -1);
    return ok;
}

/* ---- finding ---- */

bool splits_needed(const struct run *r)
{
    for (enum step s = STEP_RANK; s <= STEP_STAGE2; s++)
        if (run_has_step(r, s)) return !r->c.splits_known && r->c.sweep.cache.n;
    return false;
}

static bool find(struct search *s, struct err *e)
{
    struct run *r = s->r;
    bool ok = true;

    for (int64_t i = 0; ok && i < s->n; i++)
        ok = open_size(&s->size[i], r, &s->base, r->c.sweep.cache.v[i], e);
    ok = cluster_agree(ok, e) && share_tried(s, e) && try_all(s, e);
    for (int64_t i = 0; ok && i < s->n; i++)
        r->c.split[i] = split_of(r, &s->base, s->size[i].values, dims[s->size[i].best]);
    if (ok) print_table(s);
    ok = cluster_agree(
        ok && (!cluster_first() || (write_file(s, file_of(&r->c), true, e) && drop_tried(r, e))),
        e);
    r->c.splits_known = ok;
    return ok;
}

static bool find_sizes(struct run *r, struct err *e)
{
    struct search s = {.r = r, .n = r->c.sweep.cache.n};
    bool ok;

    if (!splits_needed(r)) /* if killed before it could be dropped */
        return cluster_agree(
            !r->c.splits_known || r->shares || !cluster_first() || drop_tried(r, e), e);
    if (r->shares) return share_lacks(r, "", file_of(&r->c), e);
    s.size = mem_new((size_t)s.n, sizeof *s.size, "splits", e);
    ok = cluster_agree(s.size && new_splits(r, e) && open_base_model(r, &s.base, e), e) &&
         find(&s, e);
    model_close(&s.base);
    free(s.size);
    return ok;
}

bool splits_find(struct run *r, struct err *e)
{
    bool ok = true;

    for (int64_t i = 0; ok && i < recipes_count(&r->c); i++) {
        recipes_take(&r->c, i);
        ok = find_sizes(r, e);
    }
    recipes_take(&r->c, -1);
    return ok;
}

bool splits_any_needed(struct run *r)
{
    const int64_t was = recipes_take(&r->c, -1);
    bool any = false;

    for (int64_t i = 0; i < recipes_count(&r->c); i++) {
        recipes_take(&r->c, i);
        any = any || splits_needed(r);
    }
    recipes_take(&r->c, was);
    return any;
}
