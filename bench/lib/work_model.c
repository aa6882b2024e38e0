/* work_model.c - the model's work: a stage-2 step, the vision tower, attention alone,
 * decoding a token. */
#include "autograd/flop.h"
#include "autograd/ops.h"
#include "base/mem.h"
#include "bench/lib/converted.h"
#include "bench/lib/measure.h"
#include "bench/lib/stored.h"
#include "bench/lib/work.h"
#include "model/family/family.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Numbers between -1 and 1 that are equally easy to make in Python. */
static void fill(float *v, int64_t n, int64_t salt)
{
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)((i * 7919 + salt) % 2001) / 1000 - 1;
}

struct state {
    struct model m;
    struct tape *tape;
    struct adamw opt;
    struct stored_batch stored;
    struct tensor leaf[4]; /* of attention: q, k, v and a head; of the tower: pixels */
    int64_t length, heads, width;
    struct picture_shape picture; /* the tower's */
    bool projected;               /* its features go through the projector */
    struct cache_how how;
    struct kv_cache cache; /* held as `how` says */
    int64_t sequences;
};

static void close_state(void *p)
{
    struct state *s = p;

    adamw_free(&s->opt);
    stored_close(&s->stored);
    kv_cache_free(&s->cache);
    cache_how_free(&s->how);
    tape_free(s->tape);
    for (int i = 0; i < 4; i++) {
        free(s->leaf[i].data);
        free(s->leaf[i].grad);
    }
    model_close(&s->m);
    free(s);
}

static struct state *new_state(struct err *e)
{
    struct state *s = mem_new(1, sizeof *s, "bench", e);

    if (s && !(s->tape = tape_new(e))) {
        free(s);
        return NULL;
    }
    return s;
}

static void *opened(struct state *s, bool ok)
{
    if (!ok && s) close_state(s);
    return ok ? s : NULL;
}

static bool new_leaf(struct tensor *t, int64_t rows, int64_t cols, bool train, int64_t salt,
                     struct err *e)
{
    *t = tensor_leaf(DT_REAL, rows, cols, mem_new((size_t)(rows * cols), sizeof(real), "bench", e));
    if (train) t->grad = mem_new((size_t)(rows * cols), sizeof(real), "bench", e);
    t->needs_grad = train;
    if (!t->data || (train && !t->grad)) return false;
    fill(t->data, rows * cols, salt);
    return true;
}

/* ---- step: model=DIR (converted) batch=FILE ---- */

static struct tensor *step_graph(struct state *s)
{
    struct forward f = {.batch = &s->stored.batch,
                        .features = s->stored.features.rows ? &s->stored.features : NULL};

    tape_begin(s->tape, true);
    return model_loss(&s->m, s->tape, &f, 1 / (double)s->stored.batch.labels);
}

static bool step_run(void *p, double *units, struct err *e)
{
    struct state *s = p;
    struct tensor *loss = step_graph(s);

    if (!tape_plan(s->tape, 0, e)) return false;
    tape_forward(s->tape);
    tape_backward(s->tape, loss);
    adamw_grad_squares(&s->opt);
    adamw_step(&s->opt, 0, 1);
    *units += (double)s->stored.batch.tokens;
    return true;
}

static void *step_open(const struct work_args *a, struct err *e)
{
    const unsigned kinds = 1u << PARAM_DOWN | 1u << PARAM_UP_K | 1u << PARAM_UP_V |
                           1u << PARAM_K_ROPE | 1u << PARAM_Q_ROPE; /* kv+rope */
    struct state *s = new_state(e);
    bool ok = s && model_open(&s->m, work_text(a, "model", NULL), e) &&
              model_train(&s->m, kinds, e) && adamw_of_model(&s->opt, &s->m, e) &&
              stored_open(&s->stored, work_text(a, "batch", NULL), e);

    if (ok) tape_stash_bf16(s->tape, strcmp(work_text(a, "dtype", "f32"), "bf16") == 0);
    if (ok) {
        struct tensor *loss = step_graph(s);
        tape_keep(loss);
        ok = tape_plan(s->tape, 0, e);
        if (ok) {
            tape_forward(s->tape);
            tape_backward(s->tape, loss);
            work_fact("check", (double)tensor_real(loss)[0]);
            work_fact("norm", sqrt(adamw_grad_squares(&s->opt)));
            work_fact("flop", flop_all(tape_flop(s->tape)));
            work_fact("units", (double)s->stored.batch.tokens);
            work_fact("planned_mib", (double)tape_bytes(s->tape) / 0x1p20);
            adamw_step(&s->opt, 0, 1);
        }
    }
    return opened(s, ok);
}

const struct work work_step = {"step", step_open, step_run, NULL, close_state};

/* ---- tower: model=DIR width=W height=H [projector=1]: features of a picture of that size ---- */

static bool tower(struct state *s, double *sum, struct err *e)
{
    struct tensor *out;

    tape_begin(s->tape, false);
    out = model_vision(&s->m, s->tape, &s->leaf[0], &s->picture, 1);
    if (s->projected)
        out = s->m.cfg.family->project(&s->m, s->tape, &(struct forward){.features = out});
    tape_keep(out);
    if (!tape_plan(s->tape, 0, e)) return false;
    tape_forward(s->tape);
    *sum = 0;
    for (int64_t i = 0; i < tensor_count(out); i++)
        *sum += fabs((double)tensor_real(out)[i]) / (double)tensor_count(out);
    return true;
}

static bool tower_run(void *p, double *units, struct err *e)
{
    double sum;

    *units += 1;
    return tower(p, &sum, e);
}

/* The picture's shape by the processor and the family, and made-up pixels of it. */
static bool tower_input(struct state *s, const struct work_args *a, struct err *e)
{
    const struct hf_config *c = &s->m.cfg;
    struct processor p;

    s->picture = (struct picture_shape){.width = work_number(a, "width", 0),
                                        .height = work_number(a, "height", 0)};
    if (!processor_load(&p, work_text(a, "model", NULL), e) || !processor_shape(&p, &s->picture, e))
        return false;
    c->family->shape(c, &s->picture);
    return new_leaf(&s->leaf[0], s->picture.inputs, hf_input_width(c), false, 1, e);
}

static void *tower_open(const struct work_args *a, struct err *e)
{
    struct state *s = new_state(e);
    double sum;
    bool ok = s && model_open(&s->m, work_text(a, "model", NULL), e) && tower_input(s, a, e);

    if (ok) s->projected = strcmp(work_text(a, "projector", "0"), "1") == 0;
    ok = ok && tower(s, &sum, e);
    if (ok) {
        work_fact("check", sum);
        work_fact("flop", flop_all(tape_flop(s->tape)));
        work_fact("units", 1);
    }
    return opened(s, ok);
}

const struct work work_tower = {"tower", tower_open, tower_run, NULL, close_state};

/* ---- attention: length=T heads=H width=W: forward and backward, causal ---- */

static bool attention(struct state *s, double *loss, struct err *e)
{
    struct attention a = {.part[0] = {.q = &s->leaf[0], .k = &s->leaf[1], .width = s->width},
                          .parts = 1,
                          .v = &s->leaf[2],
                          .heads = s->heads,
                          .groups = s->heads,
                          .v_width = s->width,
                          .n_samples = 1,
                          .causal = true,
                          .scale = 1 / sqrt((double)s->width)};
    struct attention_sample *all; /* the tape reads it until the next graph */
    struct tensor *out;

    tape_begin(s->tape, true);
    a.samples = all = tape_new_array(s->tape, struct attention_sample, 1);
    *all = (struct attention_sample){0, s->length, 0, s->length};
    out = op_cross_entropy(s->tape, op_attention(s->tape, &a), &s->leaf[3],
                           tape_new_array(s->tape, int32_t, s->length), 1 / (double)s->length);
    tape_keep(out);
    if (!tape_plan(s->tape, 0, e)) return false;
    tape_forward(s->tape);
    *loss = (double)tensor_real(out)[0];
    tape_backward(s->tape, out);
    for (int i = 0; i < 3; i++)
        memset(s->leaf[i].grad, 0, (size_t)tensor_count(&s->leaf[i]) * sizeof(real));
    return true;
}

static bool attention_run(void *p, double *units, struct err *e)
{
    struct state *s = p;
    double loss;

    *units += (double)s->length;
    return attention(s, &loss, e);
}

static void *attention_open(const struct work_args *a, struct err *e)
{
    struct state *s = new_state(e);
    double loss;
    bool ok = s;

    if (ok) {
        s->length = work_number(a, "length", 0);
        s->heads = work_number(a, "heads", 0);
        s->width = work_number(a, "width", 0);
    }
    for (int i = 0; ok && i < 4; i++) /* the head has two rows, so the loss costs almost nothing */
        ok = new_leaf(&s->leaf[i], i < 3 ? s->length : 2, s->heads * s->width, i < 3, i, e);
    ok = ok && attention(s, &loss, e);
    if (ok) {
        work_fact("check", loss);
        work_fact("flop", flop_all(tape_flop(s->tape)));
        work_fact("units", (double)s->length);
        work_fact("planned_mib", (double)tape_bytes(s->tape) / 0x1p20);
    }
    return opened(s, ok);
}

const struct work work_attention = {"attention", attention_open, attention_run, NULL, close_state};

/* ---- decode: model=DIR context=N sequences=N cache=KIND: a token for each, over a cache of random
 * values ---- */

/* Resets the cache to `context` tokens, forgetting what the last step appended. */
static bool decode_run(void *p, double *units, struct err *e)
{
    struct state *s = p;
    int64_t n = s->sequences;

    tape_begin(s->tape, false);
    int32_t *ids = tape_new_array(s->tape, int32_t, n),
            *positions = tape_new_array(s->tape, int32_t, n);
    int64_t *begin = tape_new_array(s->tape, int64_t, n + 1),
            *seq = tape_new_array(s->tape, int64_t, n);
    struct span *spans = tape_new_array(s->tape, struct span, n);
    for (int64_t i = 0; i < n; i++) {
        s->cache.length[i] = s->cache.spans[i][1].end = s->length;
        seq[i] = begin[i] = i;
        ids[i] = 5;
        positions[i] = (int32_t)s->length;
        spans[i] = (struct span){i, i + 1, TEXT};
    }
    begin[n] = n;
    struct batch b = {.tokens = n,
                      .ids = ids,
                      .axes = 1,
                      .positions = positions,
                      .samples = n,
                      .begin = begin,
                      .n_spans = n,
                      .spans = spans};
    struct forward f = {.batch = &b, .cache = &s->cache, .seq = seq};
    if (!model_extend(&s->m, s->tape, &f, e) || !tape_plan(s->tape, 0, e)) return false;
    tape_forward(s->tape);
    *units += (double)n;
    return true;
}

/* Whole blocks of a form, of random values. */
static void fill_rows(char *to, int64_t bytes, const struct row_form *f, int64_t salt)
{
    if (!f->pack) {
        fill((real *)(void *)to, bytes / (int64_t)sizeof(real), salt);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < bytes / f->bytes; i++) {
        float x[64];
        CHECK(f->values <= 64);
        fill(x, f->values, salt + i * f->values);
        f->pack(f, (uint8_t *)to + i * f->bytes, x, 1);
    }
}

static bool fill_cache(struct state *s, struct err *e)
{
    struct kv_cache *c = &s->cache;
    int64_t picture = s->length / 8; /* the context begins with this many image tokens */

    for (int i = 0; i < CACHE_ROWS; i++)
        fill_rows(c->data[i], c->sequences * c->capacity * c->before[c->layers][i],
                  s->how.kind.form[i], i);
    for (int64_t i = 0; i < c->sequences; i++) {
        c->spans[i] = mem_new(2, sizeof **c->spans, "bench", e);
        if (!c->spans[i]) return false;
        c->spans[i][0] = (struct span){0, picture, IMAGE};
        c->spans[i][1] = (struct span){picture, s->length, TEXT};
        c->n_spans[i] = c->cap_spans[i] = 2;
        c->length[i] = s->length;
    }
    return true;
}

/* The least work of a step: what its products multiply and add, and the bytes that must come from
 * memory, of each weight and all of the cache once. */
static void decode_facts(const struct state *s)
{
    const struct text_config *c = &s->m.cfg.text;
    const double keys = (double)((s->length + 1) * s->sequences),
                 H = (double)c->num_attention_heads;
    double flop = 0, bytes = (double)kv_cache_bytes(&s->cache);
    int n;
    struct node *const *nodes = tape_nodes(s->tape, &n);

    for (int i = 0; i < n; i++) {
        const struct tensor *w = nodes[i]->in[1];
        const bool heads = strcmp(nodes[i]->op->name, "head_linear") == 0;
        if (strcmp(nodes[i]->op->name, "cached_attention") == 0) {
            const struct cached_attention *a = nodes[i]->args;
            double width = (double)(a->part[0].width + (a->parts > 1 ? a->part[1].width : 0));
            flop += 2 * keys * H * (width + (double)a->v_width);
        }
        if (!heads && strcmp(nodes[i]->op->name, "linear") != 0) continue;
        flop += 2 * (double)nodes[i]->out->rows * (double)tensor_count(w) *
                (heads ? H / (double)c->num_key_value_heads : 1);
        bytes += (double)tensor_count(w) * (double)dtype_size(w->dtype);
    }
    work_fact("flop", flop);
    work_fact("read_bytes", bytes);
    work_fact("units", (double)s->sequences);
}

static void *decode_open(const struct work_args *a, struct err *e)
{
    struct state *s = new_state(e);
    bool ok = s && model_open(&s->m, work_text(a, "model", NULL), e);
    struct cache_kind kind;
    double units = 0;

    if (ok) {
        s->sequences = work_number(a, "sequences", 1);
        s->length = work_number(a, "context", 0);
    }
    ok = ok && cache_kind_read(&kind, work_text(a, "cache", "f32"), e) &&
         cache_how_new(&s->how, &s->m, &kind, e) &&
         kv_cache_new(&s->cache, &s->m, &s->how, s->sequences, s->length + 1, e) &&
         fill_cache(s, e);
    if (ok) {
        const int64_t tokens = s->length * s->sequences;
        work_fact("cache_mib", (double)kv_cache_bytes(&s->cache) / 0x1p20);
        work_fact("computed_cache_mib", (double)(cache_kind_bytes(&kind, &s->m) * tokens) / 0x1p20);
    }
    ok = ok && decode_run(s, &units, e);
    if (ok) decode_facts(s);
    return opened(s, ok);
}

const struct work work_decode = {"decode", decode_open, decode_run, NULL, close_state};
