/* layerwise.c - see layerwise.h. hidden [tokens, d] holds the input of layer `next` for all
 * samples of this process; layer by layer, group by group of samples, it is replaced by the
 * layer's output. */
#include "train/layerwise.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "cluster/cluster.h"
#include "data/order.h"

#include <stdlib.h>
#include <string.h>

static float *hidden_at(const struct layerwise *w, int64_t row)
{
    return (float *)w->hidden.data + row * w->m->cfg.text.hidden_size;
}

/* How many samples from `first` on make one graph. */
static int64_t group_of(const struct layerwise *w, int64_t first)
{
    int64_t n = 1;

    while (first + n < w->samples && w->begin[first + n + 1] - w->begin[first] <= LAYERWISE_TOKENS)
        n++;
    return n;
}

static bool draw_order(struct order *order, const struct run *r, struct err *e)
{
    return order_init(order, (uint64_t)r->c.run.seed * 1000003u + 77, r->train.n, e);
}

static int64_t count_of(const struct run *r, int64_t samples)
{
    return samples < r->train.n ? samples : r->train.n;
}

bool layerwise_each(const struct run *r, int64_t samples, entry_visitor *visit, void *arg,
                    struct err *e)
{
    struct order order = {0};
    bool ok = draw_order(&order, r, e);

    for (int64_t i = 0; ok && i < count_of(r, samples); i++)
        visit(arg, order_at(&order, i));
    order_free(&order);
    return ok;
}

static bool sum_counts(struct layerwise *w, struct err *e)
{
    double all[2] = {(double)w->samples, (double)w->tokens};

    if (!cluster_sum(all, 2, e)) return false;
    w->all_samples = (int64_t)all[0];
    w->all_tokens = (int64_t)all[1];
    return true;
}

static bool draw_samples(struct layerwise *w, struct err *e)
{
    struct order order = {0};
    bool ok = draw_order(&order, w->r, e);

    for (int64_t i = 0; ok && i < w->samples; i++) {
        const int64_t drawn = i * cluster_size() + cluster_rank();
        ok = signals_go_on(e) &&
             dataset_sample(&w->r->train, order_at(&order, drawn), &w->sample[i], e) &&
             batch_fill(&w->batch, &w->sample[i], 1, false, e);
        if (ok) w->begin[i + 1] = w->begin[i] + w->batch.batch.tokens;
    }
    order_free(&order);
    if (ok) w->tokens = w->begin[w->samples];
    return cluster_agree(ok, e) && sum_counts(w, e);
}

/* Starts a graph of `n` samples from `first` on. */
static bool begin_graph(struct layerwise *w, int64_t first, int64_t n, struct forward *f,
                        struct err *e)
{
    *f = (struct forward){.batch = &w->batch.batch, .taps = &w->taps};
    if (!signals_go_on(e)) return false;
    tape_begin(w->r->tape, false);
    return batch_fill(&w->batch, w->sample + first, n, false, e);
}

static void keep_hidden(const struct layerwise *w, int64_t first, const struct tensor *x)
{
    memcpy(hidden_at(w, w->begin[first]), x->data, (size_t)tensor_count(x) * sizeof(float));
}

static bool embed(struct layerwise *w, struct err *e)
{
    struct tape *t = w->r->tape;
    struct forward f;
    struct tensor *x;
    int64_t n;

    for (int64_t i = 0; i < w->samples; i += n) {
        n = group_of(w, i);
        if (!begin_graph(w, i, n, &f, e) ||
            !run_pictures(w->r, w->m, &w->r->train, &w->batch, &f.features, e))
            return false;
        x = model_embeddings(w->m, t, &f);
        if (!tape_plan(t, w->r->memory_limit, e)) return false;
        if (!tape_forward(t)) return signals_go_on(e);
        keep_hidden(w, i, x);
    }
    return true;
}

static bool open_taps(struct layerwise *w, unsigned looks, struct err *e)
{
    struct tensor ***const taps[] = {&w->taps.x, &w->taps.q, &w->taps.k, &w->taps.a, &w->taps.mid};
    static const unsigned of[] = {LOOK_X, LOOK_QK, LOOK_QK, LOOK_A, LOOK_A};
    bool ok = true;

    for (size_t i = 0; ok && i < sizeof of / sizeof *of; i++) {
        if (!(looks & of[i])) continue;
        *taps[i] =
            mem_new((size_t)w->m->cfg.text.num_hidden_layers, sizeof(struct tensor *), "taps", e);
        ok = *taps[i];
    }
    if (ok && looks & LOOK_ATTENTION) {
        w->taps.attention =
            mem_new((size_t)w->m->cfg.text.num_hidden_layers, sizeof *w->taps.attention, "taps", e);
        ok = w->taps.attention;
    }
    return ok;
}

bool layerwise_open(struct layerwise *w, struct run *r, struct model *m, int64_t samples,
                    unsigned looks, struct err *e)
{
    *w = (struct layerwise){.r = r, .m = m};
    w->samples = (count_of(r, samples) + cluster_size() - 1 - cluster_rank()) / cluster_size();
    if (r->train.n == 0) return err_set(e, "no usable sample is left to calibrate on");
    w->sample = mem_new((size_t)w->samples, sizeof *w->sample, "calibration samples", e);
    w->begin = mem_new((size_t)w->samples + 1, sizeof *w->begin, "calibration samples", e);
    if (!w->sample || !w->begin) return false;
    if (!open_taps(w, looks, e)) return false;
    return draw_samples(w, e) &&
           file_scratch_open(&w->hidden, r->c.run.dir,
                             (size_t)(w->tokens ? w->tokens : 1) * (size_t)m->cfg.text.hidden_size *
                                 sizeof(float),
                             e) &&
           embed(w, e);
}

void layerwise_close(struct layerwise *w)
{
    for (int64_t i = 0; w->sample && i < w->samples; i++)
        sample_free(&w->sample[i]);
    free(w->sample);
    free(w->begin);
    free(w->modality);
    free(w->taps.x);
    free(w->taps.q);
    free(w->taps.k);
    free(w->taps.a);
    free(w->taps.mid);
    free(w->taps.attention);
    batch_free(&w->batch);
    file_scratch_close(&w->hidden);
    memset(w, 0, sizeof *w);
}

static bool show(struct layerwise *w, int64_t l, layer_looker *look, void *arg, struct err *e)
{
    const struct batch *b = &w->batch.batch;
    struct layer_look now = {.batch = b, .table = w->taps.table};

    if (!mem_grow(&w->modality, &w->cap, (size_t)b->tokens, 1, e)) return false;
    for (int64_t j = 0; j < b->n_spans; j++)
        memset(w->modality + b->spans[j].begin, (int)b->spans[j].modality,
               (size_t)(b->spans[j].end - b->spans[j].begin));
    now.modality = w->modality;
    if (w->taps.x) now.x = tensor_real(w->taps.x[l]);
    if (w->taps.q) now.q = tensor_real(w->taps.q[l]);
    if (w->taps.k) now.k = tensor_real(w->taps.k[l]);
    if (w->taps.a) now.a = tensor_real(w->taps.a[l]);
    if (w->taps.attention) now.attention = &w->taps.attention[l];
    if (w->taps.mid) now.mid = tensor_real(w->taps.mid[l]);
    return look(arg, &now, e);
}

/* The hidden states of the samples from `first` on, as a leaf. */
static struct tensor *leaf_of(struct layerwise *w, int64_t first, int64_t n)
{
    struct tensor *x = tape_alloc(w->r->tape, sizeof *x);

    *x = tensor_leaf(DT_REAL, w->begin[first + n] - w->begin[first], w->m->cfg.text.hidden_size,
                     hidden_at(w, w->begin[first]));
    return x;
}

/* One model's part of a walk, for the samples from `first` on. */
static bool walk_graph(const struct layer_walk *walk, int64_t l, int64_t first, void *arg,
                       struct err *e)
{
    struct layerwise *w = walk->w;
    const int64_t n = group_of(w, first);
    struct tape *t = w->r->tape;
    struct tensor *y;
    struct forward f;

    if (!begin_graph(w, first, n, &f, e)) return false;
    y = model_layer(w->m, t, &f, l, leaf_of(w, first, n), !walk->pass);
    if (!tape_plan(t, w->r->memory_limit, e)) return false;
    if (!tape_forward(t)) return signals_go_on(e);
    if (walk->look && !show(w, l, walk->look, arg, e)) return false;
    if (y) keep_hidden(w, first, y);
    return true;
}

bool layerwise_layer(const char *what, int64_t l, const struct layer_walk *walk, int n, void *arg,
                     struct err *e)
{
    const struct layerwise *w = walk->w;
    const int64_t layers = w->m->cfg.text.num_hidden_layers;

    CHECK(l < layers);
    for (int64_t i = 0; i < w->samples;) {
        for (int k = 0; k < n; k++)
            if (!walk_graph(&walk[k], l, i, arg, e)) return false;
        i += group_of(w, i);
        log_progress("%s: layer %lld of %lld, sample %lld of %lld", what, (long long)l + 1,
                     (long long)layers, (long long)i, (long long)w->samples);
    }
    return true;
}

bool layerwise_next(struct layerwise *w, const char *what, layer_looker *look, void *arg,
                    struct err *e)
{
    const int64_t l = w->next++;
    const bool pass = l < w->m->cfg.text.num_hidden_layers - 1;

    return layerwise_layer(what, l, &(struct layer_walk){w, pass, look}, 1, arg, e);
}

bool layerwise_done(bool ok, const char *what, int64_t l, struct err *e)
{
    if (ok || signals_came()) return ok;
    return err_context(e, "%s: layer %lld", what, (long long)l);
}

void layerwise_copy(struct layerwise *to, const struct layerwise *from)
{
    CHECK(to->tokens == from->tokens);
    memcpy(hidden_at(to, 0), hidden_at(from, 0),
           (size_t)(to->tokens * to->m->cfg.text.hidden_size) * sizeof(float));
}

/* Adds the losses of a group's labels, and their number. */
static bool add_loss(struct layerwise *w, int64_t first, double sums[2], struct err *e)
{
    const int64_t n = group_of(w, first);
    struct tape *t = w->r->tape;
    struct tensor *y;
    struct forward f;

    if (!begin_graph(w, first, n, &f, e)) return false;
    if (f.batch->labels == 0) return true;
    y = model_head_loss(w->m, t, f.batch, leaf_of(w, first, n), 1);
    tape_keep(y);
    if (!tape_plan(t, w->r->memory_limit, e)) return false;
    if (!tape_forward(t)) return signals_go_on(e);
    sums[0] += (double)tensor_real(y)[0];
    sums[1] += (double)f.batch->labels;
    return true;
}

bool layerwise_loss(struct layerwise *w, double *loss, struct err *e)
{
    double sums[2] = {0, 0};
    bool ok = true;

    for (int64_t i = 0; ok && i < w->samples; i += group_of(w, i))
        ok = add_loss(w, i, sums, e);
    if (!cluster_agree(ok, e) || !cluster_sum(sums, 2, e)) return false;
    *loss = sums[1] > 0 ? sums[0] / sums[1] : 0;
    return true;
}
