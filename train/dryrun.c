/* dryrun.c - everything a run would do, said before it does it. Models are declared and graphs are
 * planned, but nothing is computed and no file is written. */
#include "train/dryrun.h"
#include "base/log.h"
#include "base/mem.h"
#include "convert/mdsvd_plan.h"
#include "convert/rank.h"
#include "train/dryrun_parts.h"
#include "train/peft.h"
#include "train/steps.h"
#include "train/trainer.h"
#include "train/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One model of the run: the base, a partial one, an MLA one; and its training where there is one.
 */
struct column {
    char name[96]; /* "rope8-rank4 stage 2" */
    struct dry_state state;
    const struct config_phase *phase; /* NULL: is not trained */
    unsigned kinds;
    bool pixels;
    double count[PARAM_KINDS], all, trained;
    double frozen_bytes, activations;
};

struct plan {
    struct run *r;
    struct model base;
    struct column *columns;
    int64_t n;
};

static bool open_base(struct run *r, struct model *m, struct err *e)
{
    char *config = run_path(r, e, "baseline/model/config.json");
    bool there = r->c.model.path || (config && file_exists(config));

    free(config);
    if (!config) return false;
    return there ? open_base_model(r, m, e) : make_baseline_model(r, m, e);
}

/* ---- what models there will be ---- */

/* The point's MLA model; fails as the conversion itself would. */
static bool mla_state(const struct plan *p, const struct point *pt, struct dry_state *s,
                      struct err *e)
{
    const struct text_config *c = &p->base.cfg.text;
    int64_t G = c->num_key_value_heads;
    struct mdsvd_plan parts;

    *s = (struct dry_state){.state = ATTN_MLA,
                            .rope_dim = pt->rope_dim,
                            .method = (enum kv_method)p->r->c.svd.method,
                            .decoupled = p->r->c.svd.decoupled && p->base.has_vision};
    if (s->method == KV_NONE) return err_set(e, "svd.method: \"none\" has nothing to decompose");
    return mdsvd_latent(&s->latent, pt->low_rank, G, e) &&
           mdsvd_plan(&parts, &kv_methods[s->method], G, c->head_dim, pt->rope_dim, c->hidden_size,
                      s->latent, e);
}

static struct column *add_column(struct plan *p, const char *name, const char *training,
                                 const struct config_phase *phase, unsigned kinds)
{
    struct column *c = &p->columns[p->n++];

    snprintf(c->name, sizeof c->name, "%s%s", name, phase ? training : "");
    c->phase = phase;
    c->kinds = phase ? kinds : 0;
    return c;
}

static bool add_point(struct plan *p, int64_t i, struct err *e)
{
    const struct config *c = &p->r->c;
    const struct text_config *t = &p->base.cfg.text;
    struct rank_dims dims = {t->num_hidden_layers, t->num_attention_heads, t->num_key_value_heads,
                             t->head_dim};
    struct point pt = config_point(c, i), last = i ? config_point(c, i - 1) : (struct point){0};
    bool stage1 = run_has_step(p->r, STEP_STAGE1), stage2 = run_has_step(p->r, STEP_STAGE2);

    if (!rank_check(&dims, pt.rope_dim, e)) return false;
    if (stage1 && pt.rope_dim != last.rope_dim) {
        struct column *col = add_column(p, pt.stage1, " stage 1", &c->stage1,
                                        peft_kinds(c->stage1.peft, c->stage1.projector));
        col->state = (struct dry_state){.state = ATTN_PARTIAL, .rope_dim = pt.rope_dim};
    }
    if (!stage2 && !run_has_step(p->r, STEP_SVD)) return true;
    return mla_state(p, &pt,
                     &add_column(p, pt.name, " stage 2", stage2 ? &c->stage2 : NULL,
                                 peft_kinds(c->stage2.peft, c->stage2.projector))
                          ->state,
                     e);
}

static bool measure(struct plan *p, struct column *c, struct err *e)
{
    struct model shape = {0};
    size_t activations = 0;
    bool ok = dry_model(&shape, &p->base, &c->state, c->kinds, e);

    for (int64_t i = 0; ok && i < shape.n_params; i++) {
        const struct param *q = &shape.params[i];
        double n = (double)tensor_count(&q->t);
        c->count[q->kind] += n;
        c->all += n;
        if (q->t.needs_grad)
            c->trained += n;
        else
            c->frozen_bytes += n * (double)dtype_size(q->t.dtype);
    }
    if (ok && c->phase) {
        int64_t micro = c->phase->micro_batch ? c->phase->micro_batch : c->phase->batch_size;
        ok = dry_activations(p->r, &shape,
                             micro < c->phase->batch_size ? micro : c->phase->batch_size, c->pixels,
                             &activations, e);
    }
    c->activations = (double)activations;
    dry_model_free(&shape);
    return ok;
}

static bool make_plan(struct plan *p, struct err *e)
{
    const struct config *c = &p->r->c;
    int64_t points = config_points(c);
    bool baseline = run_has_step(p->r, STEP_BASELINE);

    p->columns = mem_new((size_t)(1 + 2 * points), sizeof *p->columns, "the dry run's models", e);
    if (!p->columns) return false;
    add_column(p, "base", "line", baseline ? &c->baseline : NULL,
               peft_kinds(PEFT_ALL, true) | 1u << PARAM_VISION)
        ->pixels = baseline;
    p->columns[0].state.state = ATTN_FULL;
    for (int64_t i = 0; i < points; i++)
        if (!add_point(p, i, e)) return false;
    if (p->r->train.n == 0) return err_set(e, "data.train: no usable sample is left to train on");
    for (int64_t i = 0; i < p->n; i++)
        if (!measure(p, &p->columns[i], e)) return false;
    return true;
}

/* ---- tables ---- */

void dry_title(const char *title)
{
    log_line("%s", "");
    log_line(
        "-- %s %.*s", title, 96 - (int)strlen(title),
        "----------------------------------------------------------------------------------------"
        "--------");
}

/* A column of each state is enough: the sweep's others have the same rows. */
static int64_t pick_columns(const struct plan *p, const struct column *picked[3])
{
    int64_t n = 0;

    for (int state = ATTN_FULL; state <= ATTN_MLA; state++)
        for (int64_t i = 0; i < p->n; i++)
            if ((int)p->columns[i].state.state == state) {
                picked[n++] = &p->columns[i];
                break;
            }
    return n;
}

static void show_row(const char *name, const struct column *const *c, int64_t n,
                     const double *value, const bool *trained)
{
    char line[256], t[UNIT_TEXT];
    int used = snprintf(line, sizeof line, "%-20s", name);

    for (int64_t i = 0; i < n; i++)
        used += snprintf(line + used, sizeof line - (size_t)used, " %*s%s", i ? 22 : 16,
                         value ? (value[i] > 0 ? unit_count(t, value[i]) : "-") : c[i]->name,
                         trained ? (trained[i] ? " *" : "  ") : "  ");
    while (used && line[used - 1] == ' ')
        line[--used] = '\0';
    log_line("%s", line);
}

static void show_parameters(const struct plan *p)
{
    const struct column *c[3];
    int64_t n = pick_columns(p, c);
    double value[3] = {0};
    bool trained[3] = {0};

    dry_title("parameters (* trained)");
    show_row("", c, n, NULL, NULL);
    for (int k = 0; k < PARAM_KINDS; k++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++) {
            value[i] = c[i]->count[k];
            trained[i] = c[i]->kinds >> k & 1 && value[i] > 0;
            sum += value[i];
        }
        if (sum > 0) show_row(param_kind_names[k], c, n, value, trained);
    }
    for (int64_t i = 0; i < n; i++)
        value[i] = c[i]->all;
    show_row("together", c, n, value, NULL);
    for (int64_t i = 0; i < n; i++)
        value[i] = c[i]->trained;
    show_row("trained", c, n, value, NULL);
}

static void show_trainings(const struct plan *p)
{
    const struct dataset *d = &p->r->train;
    char t[4][UNIT_TEXT];

    dry_title("trainings");
    log_line("%-26s %8s %8s %10s %14s %14s %9s", "", "steps", "batch", "samples", "tokens",
             "trained", "of all");
    for (int64_t i = 0; i < p->n; i++) {
        const struct column *c = &p->columns[i];
        if (!c->phase) continue;
        double steps = (double)train_steps(c->phase, d->n);
        double samples = steps * (double)c->phase->batch_size;
        char share[UNIT_TEXT];
        log_line("%-26s %8.0f %8lld %10s %14s %14s %9s", c->name, steps,
                 (long long)c->phase->batch_size, unit_count(t[0], samples),
                 unit_count(t[1], samples * (double)d->tokens / (double)d->n),
                 unit_count(t[2], c->trained), unit_percent(share, c->trained / c->all));
    }
}

static void show_cache_row(const char *name, int64_t values, int64_t full, int64_t layers)
{
    char t[4][UNIT_TEXT];
    double all = (double)(values * layers);

    log_line("%-26s %12s %12s %16s %16s", name, unit_count(t[3], (double)values),
             unit_percent(t[0], (double)values / (double)full), unit_count(t[1], 4 * all),
             unit_count(t[2], 2 * all));
}

static void show_cache(const struct plan *p)
{
    const struct model *m = &p->base;
    int64_t layers = m->cfg.text.num_hidden_layers, full = model_cache_values_full(m);
    char name[96];

    dry_title("cache of a token");
    log_line("%-26s %12s %12s %16s %16s", "", "values/layer", "of the base", "bytes in fp32",
             "bytes in bf16");
    show_cache_row("base", full, full, layers);
    for (int64_t i = 0; i < p->n; i++) {
        const struct column *c = &p->columns[i];
        struct model mla = {.cfg = m->cfg,
                            .state = ATTN_MLA,
                            .method = c->state.method,
                            .rope_dim = c->state.rope_dim,
                            .latent = c->state.latent};
        if (c->state.state != ATTN_MLA) continue;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(c->name, " "), c->name);
        show_cache_row(name, model_cache_values(&mla), full, layers);
    }
}

/* A trained value has its gradient and the optimiser's two moments beside it, all in fp32. */
static double trained_bytes(const struct column *c)
{
    return 16 * c->trained;
}

static bool show_memory(const struct plan *p, struct err *e)
{
    double limit = (double)p->r->memory_limit, most = 0;
    const struct column *worst = NULL;
    char t[4][UNIT_TEXT];

    dry_title("memory, for the longest samples");
    log_line("%-26s %16s %20s %16s %16s", "", "activations", "trained, optimiser", "frozen weights",
             "together");
    for (int64_t i = 0; i < p->n; i++) {
        const struct column *c = &p->columns[i];
        double all = c->activations + trained_bytes(c) + c->frozen_bytes;
        if (!c->phase) continue;
        log_line("%-26s %16s %20s %16s %16s", c->name, unit_bytes(t[0], c->activations),
                 unit_bytes(t[1], trained_bytes(c)), unit_bytes(t[2], c->frozen_bytes),
                 unit_bytes(t[3], all));
        if (all > most) {
            most = all;
            worst = c;
        }
    }
    log_line("%-26s %71s", "limit", unit_bytes(t[0], limit));
    if (most <= limit) return true;
    log_line("warning: %s does not fit", worst->name);
    return err_set(e, "%s needs %s, run.memory_limit or the machine gives %s: try %s", worst->name,
                   unit_bytes(t[1], most), unit_bytes(t[0], limit),
                   worst->activations > trained_bytes(worst)
                       ? "a smaller micro_batch or data.max_length, or optim.recompute true"
                       : "a setting that trains less: a smaller model, peft set or rank");
}

/* ---- data ---- */

static void show_pictures(const struct dataset *d, const char *name)
{
    char t[UNIT_TEXT];

    if (d->n_images)
        log_line("%s: %s pictures, none of them decoded yet", name,
                 unit_count(t, (double)d->n_images));
}

static bool show_data(struct plan *p, struct err *e)
{
    struct run *r = p->r;

    dry_title("data");
    if (!run_open_data(r, &p->base.cfg, e)) return false;
    show_pictures(&r->train, "data.train");
    for (int64_t i = 0; i < r->n_eval; i++)
        show_pictures(&r->eval[i].data, r->eval[i].name);
    dry_title("the first samples (token:id)");
    return dry_samples(r, 2, e);
}

bool dry_run(struct run *r, struct err *e)
{
    struct plan p = {.r = r};
    char *settings = schema_dump(&config_schema, &r->c, e);
    bool ok = settings;

    if (ok) {
        dry_title("settings");
        printf("%s", settings);
        ok = open_base(r, &p.base, e) && show_data(&p, e) && make_plan(&p, e);
    }
    if (ok) {
        show_parameters(&p);
        show_trainings(&p);
        show_cache(&p);
        ok = show_memory(&p, e);
    }
    if (ok) log_line("\nA dry run: nothing was computed or written.");
    model_close(&p.base);
    free(p.columns);
    free(settings);
    return ok;
}
