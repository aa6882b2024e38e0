/* figures.c - see figures.h. */
#include "train/score/figures.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool figures_add_set(struct scores *s, const struct eval_set *set, const struct scored *scored,
                     size_t n, struct err *e)
{
    const struct metric *m =
        n && scored->item.tokens > 0 ? metric_find("tokens") : set->data.metric;
    struct metric_item *items;
    bool ok;

    if (!m || !n || !scored->has_item) return true;
    if (!mem_grow(&s->sets, &s->cap_sets, s->n_sets + 1, sizeof *s->sets, e)) return false;
    items = mem_new(n, sizeof *items, "scores", e);
    for (size_t i = 0; items && i < n; i++) {
        items[i] = scored[i].item;
        items[i].kind = scored[i].category[0][0] ? scored[i].category[0] : NULL;
    }
    ok = items && set_figures_fill(&s->sets[s->n_sets++], set->name, m, items, n, e);
    free(items);
    return ok;
}

/* Which samples a sum is over: of these, all, those of the curve, or those of a kind. */
struct part {
    const struct scored *scored; /* [n] */
    size_t n;
    bool curve;
    const char *kind; /* NULL: of any */
};

static bool is_in(const struct part *p, const struct scored *s)
{
    bool in = !p->kind || strcmp(p->kind, s->one.name) == 0;

    for (int i = 0; p->kind && !in && i < BENCHMARK_CATEGORIES; i++)
        in = s->kind[i][0] && strcmp(p->kind, s->kind[i]) == 0;
    return in && (!p->curve || s->curve);
}

/* x and cluster have room for all. */
static bool set_error(struct score *to, const struct part *part, double *x, int64_t *cluster,
                      struct err *e)
{
    size_t k = 0, samples = 0;

    for (size_t i = 0; i < part->n; i++)
        samples += is_in(part, &part->scored[i]);
    for (size_t i = 0; i < part->n; i++) {
        const struct scored *one = &part->scored[i];
        if (!is_in(part, one)) continue;
        x[k] = one->item.score;
        if (one->item.tokens > 0) /* of a ratio of sums, to first order */
            x[k] = (one->item.score - score_share(to) * one->item.tokens) * (double)samples /
                   (double)to->n;
        cluster[k++] = one->item.cluster;
    }
    to->has_error = k > 1;
    return k < 2 || metric_stderr_clustered(x, cluster, k, &to->se, e);
}

bool figures_set_errors(struct scores *s, const struct scored *scored, size_t n, struct err *e)
{
    double *x = mem_new(n, sizeof *x, "scores", e);
    int64_t *cluster = mem_new(n, sizeof *cluster, "scores", e);
    const struct part all = {scored, n, .kind = NULL}, curve = {scored, n, .curve = true};
    bool ok = x && cluster;

    if (ok && n && scored->has_item) {
        ok = set_error(&s->all, &all, x, cluster, e) && set_error(&s->curve, &curve, x, cluster, e);
        for (size_t i = 0; ok && i < s->n; i++) {
            const struct part kind = {scored, n, .kind = s->kinds[i].name};
            ok = set_error(&s->kinds[i], &kind, x, cluster, e);
        }
    }
    free(x);
    free(cluster);
    return ok;
}
