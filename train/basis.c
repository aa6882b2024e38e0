/* basis.c - see basis.h. A layer's samples are walked twice: for the second moments that the basis
 * comes from, and in it, for what each component's rotation is worth. */
#include "train/basis.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "cluster/cluster.h"
#include "convert/basis.h"
#include "convert/transform.h"
#include "model/files/basisfile.h"
#include "model/pairs.h"
#include "train/layerwise.h"
#include "train/made.h"
#include "train/ranking.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- measuring ---- */

struct measure {
    struct run *r;
    struct rank_dims n;
    double scale;
    struct basis basis; /* of the current layer */
    bool weighs;        /* the second walk */
    struct rank_table table;
};

static bool look_at(void *arg, const struct layer_look *look, struct err *e)
{
    struct measure *k = arg;
    bool ok = rank_table_fill(&k->table, look->table, e);

    for (int64_t s = 0; ok && s < look->batch->samples; s++) {
        const struct rank_sample x = rank_sample_of(look, &k->table, &k->n, k->scale, s);
        if (k->weighs)
            ok = basis_lose(&k->basis, &x, k->r->c.rank.max_queries, e);
        else
            basis_see(&k->basis, &x);
    }
    return ok;
}

static bool walk(struct measure *k, struct layerwise *w, int64_t l, bool pass, struct err *e)
{
    const bool last = l == w->m->cfg.text.num_hidden_layers - 1;
    const struct layer_walk one = {w, pass && !last, look_at};

    k->weighs = pass;
    return cluster_agree(layerwise_layer(pass ? "rank again" : "rank", l, &one, 1, k, e), e);
}

static bool sum_loss(struct basis *b, struct err *e)
{
    for (int m = 0; m < 2; m++)
        if (!cluster_sum(b->loss.s[m], b->W * b->W, e)) return false;
    return cluster_sum(b->queries, 2, e);
}

/* The components of layer l, the most important one first. */
static void keep_layer(const struct basis *b, int64_t l, struct basisfile *to)
{
    const int64_t G = b->n.G, C = G * b->n.dh / 2;

    memcpy(to->scale + l * C, b->scale, (size_t)C * sizeof *to->scale);
    for (int64_t c = 0; c < C; c++) {
        const int64_t at = l * C + c;
        to->pair[at] = basis_pair(b, b->order[c]);
        memcpy(to->re + at * G, basis_re(b, b->order[c]), (size_t)G * sizeof *to->re);
        memcpy(to->im + at * G, basis_im(b, b->order[c]), (size_t)G * sizeof *to->im);
    }
}

static bool measure_layer(struct measure *k, struct layerwise *w, int64_t l, struct basisfile *to,
                          struct err *e)
{
    struct basis *b = &k->basis;
    bool ok = cluster_agree(basis_init(b, &k->n, e), e) && walk(k, w, l, false, e) &&
              cluster_sum(b->seen, basis_seen(&k->n), e) && cluster_agree(basis_solve(b, e), e) &&
              walk(k, w, l, true, e) && cluster_agree(moments_finish(&b->loss, e), e) &&
              sum_loss(b, e) && cluster_agree(basis_order(b, e), e);

    if (ok) keep_layer(b, l, to);
    basis_free(b);
    return layerwise_done(ok, "rank", l, e);
}

static bool measure(struct run *r, struct model *m, const char *path, struct err *e)
{
    struct measure k = {.r = r, .n = model_rank_dims(m), .scale = model_rope_scale(&m->cfg.text)};
    struct basisfile to = {0};
    struct layerwise w = {0};
    bool ok = cluster_agree(basisfile_new(&to, &k.n, e), e) &&
              layerwise_open(&w, r, m, r->c.rank.samples, LOOK_QK, e);

    for (int64_t l = 0; ok && l < k.n.L; l++)
        ok = measure_layer(&k, &w, l, &to, e);
    ok = ok && watch_check(e) && outputs_forget(r, ranks_path(&r->c), e);
    if (ok && cluster_first())
        ok = basisfile_write(path, &k.n, &to, e) && outputs_add(r, ranks_path(&r->c), path, e);
    if (ok)
        log_line("rank: a basis of all heads' keys over %lld sample%s, %lld token%s: %s",
                 (long long)w.all_samples, plural(w.all_samples), (long long)w.all_tokens,
                 plural(w.all_tokens), path);
    layerwise_close(&w);
    rank_table_free(&k.table);
    basisfile_free(&to);
    return ok;
}

/* ---- read back ---- */

static bool read_basis(const struct run *r, const struct rank_dims *n, const char *path,
                       struct basisfile *b, struct err *e)
{
    return basisfile_new(b, n, e) &&
           ((basisfile_read(path, n, b, e) && outputs_check(r, ranks_path(&r->c), true, e)) ||
            made_again(r, STEP_RANK, "file", path, e));
}

bool basis_measured(struct run *r, struct model *m, struct err *e)
{
    char *dir = run_path(r, e, "rank"),
         *path = dir ? run_path(r, e, "%s", ranks_path(&r->c)) : NULL;
    const struct rank_dims n = model_rank_dims(m);
    struct basisfile b = {0};
    size_t unknown = 0; /* of an older run */
    bool there = false, ok = path && file_mkdirs(dir, e) && file_there(path, &there, e);

    ok = cluster_as_first(ok, &there, e);
    if (ok && !there)
        ok = measure(r, m, path, e);
    else if (ok && (ok = read_basis(r, &n, path, &b, e)))
        log_line("rank: is done already");
    if (ok) ok = outputs_add_unknown(r, ranks_path(&r->c), &unknown, e);
    basisfile_free(&b);
    free(dir);
    free(path);
    return cluster_agree(ok, e);
}

bool basis_check(const struct rank_dims *n, int64_t rope_dim, struct err *e)
{
    return (rope_dim >= 2 && rope_dim <= n->G * n->dh && rope_dim % 2 == 0) ||
           err_set(e,
                   "rope_dim %" PRId64 ": must be even and from 2 to the size of all kv heads, "
                   "%" PRId64,
                   rope_dim, n->G * n->dh);
}

/* A component, and where it is in the file's order. */
struct place {
    int32_t pair;
    int64_t at;
};

static int by_pair(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->pair != y->pair) return x->pair < y->pair ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The first n components of each layer, by their pairs. */
static bool first_of(const struct basisfile *from, const struct rank_dims *d, int64_t n,
                     struct basisfile *to, struct err *e)
{
    const int64_t G = d->G, C = G * d->dh / 2;
    struct place *place = mem_new((size_t)n, sizeof *place, "the keys' basis", e);

    if (!place || !basisfile_new(to, d, e)) {
        free(place);
        return false;
    }
    for (int64_t l = 0; l < d->L; l++) {
        for (int64_t c = 0; c < n; c++)
            place[c] = (struct place){from->pair[l * C + c], l * C + c};
        qsort(place, (size_t)n, sizeof *place, by_pair);
        for (int64_t c = 0; c < n; c++) {
            to->pair[l * n + c] = place[c].pair;
            memcpy(to->re + (l * n + c) * G, from->re + place[c].at * G,
                   (size_t)G * sizeof *to->re);
            memcpy(to->im + (l * n + c) * G, from->im + place[c].at * G,
                   (size_t)G * sizeof *to->im);
        }
    }
    free(place);
    return true;
}

bool basis_apply(const struct run *r, struct model *m, int64_t rope_dim, struct err *e)
{
    const struct rank_dims d = model_rank_dims(m);
    char *path = run_path(r, e, "%s", ranks_path(&r->c));
    struct basisfile all = {0}, some = {0};
    bool there = false, ok = path && basis_check(&d, rope_dim, e) && file_there(path, &there, e);

    if (ok && !there) ok = err_set(e, "%s: missing: add \"rank\" to run.steps", path);
    ok = ok && read_basis(r, &d, path, &all, e) && first_of(&all, &d, rope_dim / 2, &some, e);
    ok = ok &&
         model_to_cross(
             m, &(struct cross_basis){rope_dim / 2, some.pair, some.re, some.im, all.scale}, e);
    basisfile_free(&all);
    basisfile_free(&some);
    free(path);
    return ok;
}
