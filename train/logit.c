/* logit.c - see logit.h. */
#include "train/logit.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "cluster/cluster.h"
#include "convert/budget.h"
#include "convert/logit.h"
#include "convert/transform.h"
#include "model/files/choicefile.h"
#include "model/pairs.h"
#include "train/basis.h"
#include "train/layerwise.h"
#include "train/made.h"
#include "train/ranking.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- measuring ---- */

struct measure {
    struct run *r;
    struct rank_dims n;
    double scale;
    struct logit layer; /* of the current one */
    struct rank_table table;
};

static bool look_at(void *arg, const struct layer_look *look, struct err *e)
{
    struct measure *k = arg;
    bool ok = rank_table_fill(&k->table, look->table, e);

    for (int64_t s = 0; ok && s < look->batch->samples; s++) {
        const struct rank_sample x = rank_sample_of(look, &k->table, &k->n, k->scale, s);
        ok = logit_see(&k->layer, &x, k->r->c.rank.max_queries, e);
    }
    return ok;
}

static bool measure_layer(struct measure *k, struct layerwise *w, int64_t l, struct choicefile *to,
                          struct err *e)
{
    const int64_t G = k->n.G, P = k->n.dh / 2;
    bool ok = logit_init(&k->layer, &k->n, k->r->c.rank.rotation, e) &&
              layerwise_next(w, "rank", look_at, k, e);

    ok = cluster_agree(ok, e) && cluster_sum(k->layer.sums, logit_sums(&k->layer), e) &&
         cluster_agree(
             logit_choose(&k->layer, to->chosen + l * G * P * P, to->cost + l * G * (P + 1), e), e);
    logit_free(&k->layer);
    return layerwise_done(ok, "rank", l, e);
}

static bool measure(struct run *r, struct model *m, const char *path, struct err *e)
{
    struct measure k = {.r = r, .n = model_rank_dims(m), .scale = model_rope_scale(&m->cfg.text)};
    struct choicefile to = {0};
    struct layerwise w = {0};
    bool ok = cluster_agree(choicefile_new(&to, &k.n, e), e) &&
              layerwise_open(&w, r, m, r->c.rank.samples, LOOK_QK, e);

    for (int64_t l = 0; ok && l < k.n.L; l++)
        ok = measure_layer(&k, &w, l, &to, e);
    ok = ok && watch_check(e) && outputs_forget(r, ranks_path(&r->c), e);
    if (ok && cluster_first())
        ok = choicefile_write(path, &k.n, &to, e) && outputs_add(r, ranks_path(&r->c), path, e);
    if (ok)
        log_line("rank: logit%s over %lld sample%s, %lld token%s: %s",
                 r->c.rank.rotation ? ", under constant rotation," : "", (long long)w.all_samples,
                 plural(w.all_samples), (long long)w.all_tokens, plural(w.all_tokens), path);
    layerwise_close(&w);
    rank_table_free(&k.table);
    choicefile_free(&to);
    return ok;
}

/* ---- read back ---- */

static bool read_choice(const struct run *r, const struct rank_dims *n, const char *path,
                        struct choicefile *c, struct err *e)
{
    return choicefile_new(c, n, e) &&
           ((choicefile_read(path, n, c, e) && outputs_check(r, ranks_path(&r->c), true, e)) ||
            made_again(r, STEP_RANK, "file", path, e));
}

bool logit_measured(struct run *r, struct model *m, struct err *e)
{
    char *dir = run_path(r, e, "rank"),
         *path = dir ? run_path(r, e, "%s", ranks_path(&r->c)) : NULL;
    const struct rank_dims n = model_rank_dims(m);
    struct choicefile c = {0};
    bool there = false, ok = path && file_mkdirs(dir, e) && file_there(path, &there, e);

    ok = cluster_as_first(ok, &there, e);
    if (ok && !there)
        ok = measure(r, m, path, e);
    else if (ok && (ok = read_choice(r, &n, path, &c, e)))
        log_line("rank: is done already");
    choicefile_free(&c);
    free(dir);
    free(path);
    return cluster_agree(ok, e);
}

static bool open_choice(const struct run *r, const struct rank_dims *n, struct choicefile *c,
                        struct err *e)
{
    char *path = run_path(r, e, "%s", ranks_path(&r->c));
    bool there = false, ok = path && file_there(path, &there, e);

    if (ok && !there) ok = err_set(e, "%s: missing: add \"rank\" to run.steps", path);
    ok = ok && read_choice(r, n, path, c, e);
    free(path);
    return ok;
}

/* The n pairs of a head, ascending; chosen: its rows. */
static void list_pairs(const int32_t *chosen, int64_t P, int64_t n, int32_t *to)
{
    for (int32_t i = 0; n > 0 && i < P; i++)
        if (chosen[(n - 1) * P + i]) *to++ = i;
}

bool logit_pairs(const struct run *r, const struct model *m, int64_t rope_dim, int32_t *kept,
                 struct err *e)
{
    const struct rank_dims n = model_rank_dims(m);
    const int64_t P = n.dh / 2, K = rope_dim / 2;
    struct choicefile c = {0};
    bool ok = open_choice(r, &n, &c, e);

    for (int64_t g = 0; ok && g < n.L * n.G; g++)
        list_pairs(c.chosen + g * P * P, P, K, kept + g * K);
    choicefile_free(&c);
    return ok;
}

/* ---- one key for all heads ---- */

/* Layer l's part of the key, by pair and then by kv head; returns its pairs. */
static int64_t fill_layer(const struct rank_dims *n, const struct choicefile *c, int64_t l,
                          const int64_t *kept, int32_t *pair, int32_t *head)
{
    const int64_t G = n->G, P = n->dh / 2;
    int64_t at = 0;

    for (int32_t i = 0; i < P; i++)
        for (int32_t g = 0; g < G; g++) {
            const int64_t own = kept[l * G + g];
            if (own == 0 || !c->chosen[((l * G + g) * P + own - 1) * P + i]) continue;
            pair[at] = i;
            head[at++] = g;
        }
    return at;
}

static void say_layer(const struct rank_dims *n, int64_t l, const int64_t *kept, int64_t all)
{
    char line[400];
    size_t at = 0;

    for (int64_t g = 0; g < n->G && at < sizeof line; g++)
        at += (size_t)snprintf(line + at, sizeof line - at, " %lld", (long long)kept[l * n->G + g]);
    log_line("rank: layer %lld keeps %lld pair%s, by kv head:%s", (long long)l, (long long)all,
             plural(all), line);
}

bool logit_apply(const struct run *r, struct model *m, int64_t rope_dim, struct err *e)
{
    const struct rank_dims n = model_rank_dims(m);
    const size_t L = (size_t)n.L, G = (size_t)n.G, all = L * (size_t)(rope_dim / 2);
    int64_t *kept = mem_new(L * G, sizeof *kept, "kept pairs", e);
    int64_t *of = mem_new(L, sizeof *of, "kept pairs", e), at = 0;
    int32_t *pair = mem_new(2 * all, sizeof *pair, "kept pairs", e);
    struct choicefile c = {0};
    bool ok = kept && of && pair && basis_check(&n, rope_dim, e) && open_choice(r, &n, &c, e) &&
              budget_pairs(&n, c.cost, rope_dim / 2, r->c.rank.budget == BUDGET_SPREAD, kept, e);

    for (int64_t l = 0; ok && l < n.L; at += of[l++]) {
        of[l] = fill_layer(&n, &c, l, kept, pair + at, pair + all + at);
        say_layer(&n, l, kept, of[l]);
    }
    CHECK(!ok || at == (int64_t)all);
    ok = ok && model_to_shared(m, &(struct shared_key){of, pair, pair + all}, e);
    choicefile_free(&c);
    free(kept);
    free(of);
    free(pair);
    return ok;
}
