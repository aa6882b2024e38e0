/* dryrun.c - reports everything that a run would do before it does it. */
#include "train/forecast/dryrun.h"
#include "base/log.h"
#include "base/plural.h"
#include "cluster/cluster.h"
#include "train/ahead.h"
#include "train/caches.h"
#include "train/decode.h"
#include "train/forecast/forecast.h"
#include "train/forecast/rate.h"
#include "train/layerwise.h"
#include "train/picture_use.h"
#include "train/recipes.h"
#include "train/teacher_store.h"
#include "train/trainer.h"
#include "base/units.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tables ---- */

/* Prints a line "==== TITLE" that opens a section. */
static void dry_title(const char *title)
{
    log_line("%s", "");
    log_line(
        "-- %s %.*s", title, 96 - (int)strlen(title),
        "----------------------------------------------------------------------------------------"
        "--------");
}

/* One column per state is enough: the sweep's other models have the same rows. */
static int64_t pick_columns(const struct forecast *p, const struct forecast_model *picked[3])
{
    int64_t n = 0;

    for (int state = ATTN_FULL; state <= ATTN_MLA; state++)
        for (int64_t i = 0; i < p->n; i++)
            if ((int)p->models[i].state.state == state) {
                picked[n++] = &p->models[i];
                break;
            }
    return n;
}

static void show_row(const char *name, const struct forecast_model *const *c, int64_t n,
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

static void show_parameters(const struct forecast *p)
{
    const struct forecast_model *c[3];
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

/* Of the column of names: at least so wide. */
static int name_width(const struct forecast *p, int least)
{
    int width = least;

    for (int64_t i = 0; i < p->n; i++)
        if ((int)strlen(p->models[i].name) > width) width = (int)strlen(p->models[i].name);
    return width;
}

/* As fast as a step of the first training multiplies, with as many tokens and the model's width. */
static double products_rate(const struct forecast *p, int64_t *rows)
{
    const struct dataset *d = &p->r->train;

    for (int64_t i = 0; i < p->n; i++) {
        const struct config_phase *phase = p->models[i].phase;
        if (!phase || d->n == 0) continue;
        *rows = config_at_a_time(phase, p->r->processes) * d->tokens / d->n;
        *rows = *rows < 1 ? 1 : *rows > LAYERWISE_TOKENS ? LAYERWISE_TOKENS : *rows;
        return rate_of_products(*rows, p->base.cfg.text.hidden_size);
    }
    return 0;
}

static void show_rate(const struct forecast *p, double rate, int64_t rows)
{
    const long long width = p->base.cfg.text.hidden_size;

    if (rate > 0)
        log_line("products: their time alone, at the %.3g GFLOP/s of %lld x %lld by %lld x %lld "
                 "just now; pictures, ranking, conversion and scores come besides",
                 1e-9 * rate, (long long)rows, width, width, width);
}

static void show_trainings(const struct forecast *p)
{
    const struct dataset *d = &p->r->train;
    char t[5][UNIT_TEXT];
    const int width = name_width(p, 26);
    int64_t rows = 0;
    const double rate = products_rate(p, &rows);

    dry_title("trainings");
    log_line("%-*s %8s %6s %9s %10s %14s %14s %9s %9s %9s", width, "", "steps", "batch", "peak lr",
             "samples", "tokens", "trained", "of all", "TFLOP", "products");
    for (int64_t i = 0; i < p->n; i++) {
        const struct forecast_model *c = &p->models[i];
        if (!c->phase) continue;
        double steps = (double)train_steps(c->phase, d->n);
        double samples = steps * (double)c->phase->batch_size;
        double lr = c->state.state == ATTN_MLA ? c->point.lr : c->phase->lr;
        char share[UNIT_TEXT];
        log_line("%-*s %8.0f %6lld %9g %10s %14s %14s %9s %9.3g %9s", width, c->name, steps,
                 (long long)c->phase->batch_size, lr, unit_count(t[0], samples),
                 unit_count(t[1], samples * (double)d->tokens / (double)d->n),
                 unit_count(t[2], c->trained), unit_percent(share, c->trained / c->all),
                 1e-12 * c->flop,
                 rate > 0 ? unit_seconds(t[3], c->flop / rate / (double)p->r->processes) : "-");
    }
    show_rate(p, rate, rows);
}

/* What is asked once, and what would be asked in the steps. */
static void show_store(const struct forecast *p, const struct config_phase *c)
{
    const struct dataset *d = &p->r->train;
    const double drawn = (double)(train_steps(c, d->n) * c->batch_size), n = (double)d->n;
    const double once = (double)train_asked(c, d->n);
    char t[4][UNIT_TEXT];

    if (d->n == 0) return;
    log_line(
        "  asked once about %s samples, %s tokens (in the steps they would be %s); what it says "
        "takes %s in data.cache",
        unit_count(t[0], once), unit_count(t[1], once / n * (double)d->tokens),
        unit_count(t[2], drawn / n * (double)d->tokens),
        unit_bytes(t[3], once / n * teacher_store_bytes(d->labels, p->base.cfg.text.vocab_size)));
}

/* What a step of the trainings that distill does besides. */
static void show_teachers(const struct forecast *p)
{
    const struct config *all = &p->r->c;

    for (int64_t k = 0; k < PHASES * recipes_count(all); k++) {
        const enum step step = phase_steps[k % PHASES];
        const struct config_phase *c =
            config_phase(recipes_config(all, k / PHASES), (int)(k % PHASES));
        const char *name = recipes_name(all, k / PHASES);
        if (c->loss == LOSS_CE || !run_has_step(p->r, step)) continue;
        char at[40] = "";
        if (c->loss == LOSS_DISTILL) snprintf(at, sizeof at, " at temperature %g", c->temperature);
        log_line("%s%s%s: with weight %g the %s the original model%s%s", name, *name ? " " : "",
                 step_names[step], c->distill_weight,
                 c->loss == LOSS_DISTILL ? "divergence from" : "distance from the hidden states of",
                 at, c->teacher == TEACHER_FLY ? ": each step takes a forward pass of it too" : "");
        if (c->teacher == TEACHER_STORED) show_store(p, c);
    }
}

static struct model mla_of(const struct forecast *p, const struct forecast_model *c)
{
    return (struct model){.cfg = p->base.cfg,
                          .state = ATTN_MLA,
                          .method = c->state.method,
                          .cross = c->state.cross,
                          .rope_dim = c->state.rope_dim,
                          .rope_dims = c->state.rope_dims,
                          .latent = c->state.latent,
                          .latents = c->state.latents};
}

/* The name of its point. */
static const char *point_of(char name[96], const struct forecast_model *c)
{
    snprintf(name, 96, "%.*s", (int)strcspn(c->name, " "), c->name);
    return name;
}

/* What of it is for nothing, at the points of a recipe. */
static void say_vain(const struct forecast *p, int64_t recipe, const struct cache_kind *k)
{
    char name[96];

    for (int64_t i = 1; i < p->n; i++) {
        const struct forecast_model *c = &p->models[i];
        const struct model mla = mla_of(p, c);
        if (c->state.state != ATTN_MLA || c->point.recipe != recipe) continue;
        if (caches_idle(k, &mla))
            log_line("%s stage2: its rotation changes nothing: " CACHES_IDLE, point_of(name, c));
        if (caches_unscored(recipes_config(&p->r->c, recipe), &mla, k))
            log_line("%s stage2: " CACHES_UNSCORED, point_of(name, c));
    }
}

/* The stage 2 that reads its tokens as they will be cached. */
static void show_trained_caches(const struct forecast *p)
{
    const struct config *all = &p->r->c;

    for (int64_t k = 0; k < recipes_count(all) && run_has_step(p->r, STEP_STAGE2); k++) {
        const struct config_phase *stage2 = &recipes_config(all, k)->stage2;
        const char *name = recipes_name(all, k);
        struct cache_kind kind;
        if (!caches_trained(stage2, &kind)) continue;
        log_line("%s%sstage2: attention reads tokens as a cache in %s holds them, with "
                 "straight-through gradients",
                 name, *name ? " " : "", stage2->cache);
        say_vain(p, k, &kind);
    }
}

static void show_cache_row(int width, const char *name, int64_t values, int64_t full,
                           int64_t layers)
{
    char t[4][UNIT_TEXT];
    double all = (double)(values * layers);

    log_line("%-*s %12s %12s %16s %16s", width, name, unit_count(t[3], (double)values),
             unit_percent(t[0], (double)values / (double)full), unit_count(t[1], 4 * all),
             unit_count(t[2], 2 * all));
}

static void say_idle(const char *name, const struct cache_kind *k)
{
    char text[CACHE_KIND_TEXT];

    log_line("%s: %s is left out: " CACHES_IDLE, name, cache_kind_text(text, k));
}

/* What the caches hold that a model is scored with, unless all is f32. */
static void show_kinds(const struct config *c, const struct model *m, const char *name, int width)
{
    const double full =
        2 * (double)(model_cache_values_full(m) * m->cfg.text.num_hidden_layers); /* in bf16 */
    struct cache_kind kind = caches_own(c, m);
    char t[2][UNIT_TEXT], text[CACHE_KIND_TEXT];

    for (int64_t i = -1; i < c->evaluate.caches.n; i++) {
        if (i >= 0 && !caches_other(c, i, m, &kind)) {
            if (caches_idle(&kind, m)) say_idle(name, &kind);
            continue;
        }
        const double left = kind.evict.rule ? kind.evict.share : 1;
        const double bytes = left * (double)cache_kind_bytes(&kind, m);
        log_line("%-*s %12s %12s %s", width, name, unit_count(t[0], bytes),
                 unit_percent(t[1], bytes / full), cache_kind_text(text, &kind));
    }
    if (caches_idle(&(struct cache_kind){.rotate = c->cache.rotate}, m))
        log_line("%s: cache.rotate changes nothing: " CACHES_IDLE, name);
}

/* In what the table is below what a run measures. */
static void say_beyond(const struct config *all)
{
    bool waits = false, evicts = false;

    for (int64_t k = 0; k < recipes_count(all); k++) {
        const struct config *c = recipes_config(all, k);
        for (int64_t i = 0; i < c->evaluate.caches.n; i++) {
            struct cache_kind kind;
            struct err unused;
            if (!cache_kind_read(&kind, c->evaluate.caches.v[i], &unused)) continue;
            waits = waits || cache_kind_waits(&kind);
            evicts = evicts || kind.evict.rule;
        }
    }
    if (waits)
        log_line("A run measures more with KIVI: the newest tokens of a sequence wait in bf16.");
    if (evicts)
        log_line("A run measures more with h2o and tova: whole tokens of each sequence are kept.");
    if (all->svd.ranks != RANKS_EVEN)
        log_line("A run may measure more: a row fills up its last block, in each layer its own.");
}

static bool all_f32(const struct config *all)
{
    const struct cache_kind f32 = cache_kind_f32();

    for (int64_t k = 0; k < recipes_count(all); k++) {
        const struct config *c = recipes_config(all, k);
        const struct cache_kind own = caches_own(c, &(struct model){.state = ATTN_MLA});
        if (c->evaluate.caches.n || memcmp(own.form, f32.form, sizeof own.form) != 0) return false;
    }
    return true;
}

/* Bytes that a token takes while models are scored. */
static void show_all_kinds(const struct forecast *p, int width)
{
    char name[96];

    if (!caches_used(&p->r->c) || all_f32(&p->r->c)) return;
    dry_title("cache of a token as it is scored");
    log_line("%-*s %12s %12s %s", width, "", "bytes", "of bf16", "kind");
    show_kinds(&p->r->c, &p->base, "base", width);
    for (int64_t i = 0; i < p->n; i++) {
        const struct forecast_model *c = &p->models[i];
        const struct model mla = mla_of(p, c);
        if (c->state.state != ATTN_MLA || i == 0) continue;
        show_kinds(recipes_config(&p->r->c, c->point.recipe), &mla, point_of(name, c), width);
    }
    say_beyond(&p->r->c);
}

static bool guesses_splits(const struct config *all)
{
    bool any = false;

    for (int64_t k = 0; k < recipes_count(all); k++) {
        const struct config *c = recipes_config(all, k);
        any = any || (c->sweep.cache.n && !c->splits_known);
    }
    return any;
}

static void show_cache(const struct forecast *p)
{
    const struct model *m = &p->base;
    int64_t layers = m->cfg.text.num_hidden_layers, full = model_cache_values_full(m);
    const int width = name_width(p, 34) - 8; /* the names lack " stage 2" */
    char name[96];

    dry_title("cache of a token");
    log_line("%-*s %12s %12s %16s %16s", width, "", "values/layer", "of the full", "bytes in fp32",
             "bytes in bf16");
    show_cache_row(width, m->state == ATTN_FULL ? "base" : "original", full, full, layers);
    for (int64_t i = 0; i < p->n; i++) {
        const struct forecast_model *c = &p->models[i];
        const struct model mla = mla_of(p, c);
        if (c->state.state != ATTN_MLA) continue;
        show_cache_row(width, point_of(name, c), model_cache_values(&mla), full, layers);
    }
    if (guesses_splits(&p->r->c))
        log_line("The run finds how to split each size: a quarter rotated is assumed here.");
    if (p->r->c.svd.ranks != RANKS_EVEN)
        log_line("The run divides the latents among the layers: these are their means.");
    if (p->r->c.rank.budget == BUDGET_SPREAD)
        log_line("The run divides the rotated dims among the layers: these are their means.");
    show_all_kinds(p, width);
}

static const char *bytes_or_dash(char out[UNIT_TEXT], double bytes)
{
    return bytes > 0 ? unit_bytes(out, bytes) : "-";
}

static bool show_memory(const struct forecast *p, struct err *e)
{
    const char *row = "%-*s %12s %12s %11s %15s %12s %11s";
    const int width = name_width(p, 22);
    int64_t layers = p->base.cfg.text.num_hidden_layers;
    char t[6][UNIT_TEXT], each[64] = "", title[120], note[FACTORS_NARROW_TEXT];

    if (p->r->processes > 1)
        snprintf(each, sizeof each, ", of each of %lld processes", (long long)p->r->processes);
    snprintf(title, sizeof title, "memory, for the longest samples%s", each);
    dry_title(title);
    log_line(row, width, "", "activations", "answering", "computed", "trained, AdamW", "together",
             "mapped");
    for (int64_t i = 0; i < p->n_steps; i++) {
        const struct forecast_step *s = &p->steps[i];
        log_line(row, width, s->name, bytes_or_dash(t[0], s->activations),
                 bytes_or_dash(t[1], s->answers), bytes_or_dash(t[2], s->computed),
                 bytes_or_dash(t[3], s->trained), unit_bytes(t[4], s->bytes),
                 bytes_or_dash(t[5], s->mapped));
    }
    for (int64_t i = 0; i < p->n_steps; i++)
        if (p->steps[i].is_training && p->steps[i].recomputed)
            log_line("%s: recomputed layers: the first %lld of %lld", p->steps[i].name,
                     (long long)p->steps[i].recomputed, (long long)layers);
    for (int64_t i = 0; i < p->n_steps; i++)
        if (p->steps[i].narrow.kept)
            log_line("%s: %s", p->steps[i].name, factors_say_narrow(&p->steps[i].narrow, note));
    log_line("Together: with the largest graph so far, and %s for the program and the index of the "
             "data.",
             unit_bytes(t[0], p->program));
    log_line("Mapped: frozen weights in their files; they do not count against the limit.");
    if (p->largest && p->largest->largest.bytes >= DECODE_LARGE)
        log_line("The largest picture takes %s of it to read: %s",
                 unit_bytes(t[0], (double)p->largest->largest.bytes),
                 p->largest->images[p->largest->largest.image].path);
    log_line("limit: %s%s", unit_bytes(t[0], (double)p->r->memory_limit),
             p->r->processes > cluster_size()
                 ? " for each; processes on one machine share its memory"
                 : "");
    return forecast_fits(p, e);
}

/* ---- data ---- */

static void show_pictures(const struct dataset *d, const char *name)
{
    char t[UNIT_TEXT];

    if (d->n_images)
        log_line("%s: %s picture%s, not decoded yet", name, unit_count(t, (double)d->n_images),
                 plural(d->n_images));
}

/* The smallest and largest number of tokens per picture. */
static void show_shapes(const struct run *r)
{
    int64_t least, most;
    char made[64] = "";

    if (!picture_use_tokens(r, &least, &most)) return;
    if (r->processor.width)
        snprintf(made, sizeof made, "%s %lld x %lld pixels, ",
                 r->processor.grids ? "tiles of" : "made", (long long)r->processor.width,
                 (long long)r->processor.height);
    if (least == most)
        log_line("a picture: %s%lld token%s", made, (long long)most, plural(most));
    else
        log_line("a picture: %s%lld to %lld tokens", made, (long long)least, (long long)most);
}

/* What the steps will read of the pictures, and find or put in data.cache. */
static bool show_use(struct run *r, const struct hf_config *cfg, bool pixels, struct err *e)
{
    struct picture_use u;
    char t[3][UNIT_TEXT];

    if (!picture_use_mark(r, pixels, e)) return false;
    u = picture_use_count(r, pixels, pixels ? r->processor.input_width : hf_feature_width(cfg));
    if (u.all == 0) return true;
    log_line("data.cache: %s of %s of %s picture%s, %s on disk", pixels ? "pixels" : "features",
             unit_count(t[0], (double)u.used), unit_count(t[1], (double)u.all), plural(u.all),
             unit_bytes(t[2], u.bytes));
    return true;
}

/* Pixels are read by a baseline whose tower is trained, features by all other steps. */
static bool show_uses(const struct forecast *p, struct err *e)
{
    struct run *r = p->r;
    const struct hf_config *cfg = &p->base.cfg;
    bool baseline = run_has_step(r, STEP_BASELINE), pixels = baseline && r->c.baseline.vision;
    bool others = baseline && !pixels;

    if (!hf_has_vision(cfg)) return true;
    for (int s = STEP_RANK; s < STEP_REPORT; s++)
        others = others || run_has_step(r, (enum step)s);
    return (!pixels || show_use(r, cfg, true, e)) && (!others || show_use(r, cfg, false, e));
}

static bool show_data(const struct forecast *p, struct err *e)
{
    struct run *r = p->r;

    dry_title("data");
    if (!run_open_data(r, &p->base.cfg, e)) return false;
    ahead_say_few(r);
    show_pictures(&r->train, "data.train");
    for (int64_t i = 0; i < r->n_eval; i++)
        show_pictures(&r->eval[i].data, r->eval[i].name);
    show_shapes(r);
    if (!show_uses(p, e)) return false;
    dry_title("the first samples (token:id)");
    return dry_samples(r, 2, e) && ahead_of_steps(r, hf_has_vision(&p->base.cfg), e);
}

/* Checks the weights of a given model, or of one trained here before. */
static bool show_weights(const struct forecast *f, struct err *e)
{
    if (!f->base.dir) return true;
    if (!model_check_finite(&f->base, e)) return false;
    dry_title("weights");
    log_line("%s: every weight is a number", f->base.dir);
    return true;
}

bool dry_run(struct run *r, struct err *e)
{
    struct forecast f = {0};
    char *settings = schema_dump(&config_schema, &r->c, e);
    bool ok = settings;

    if (ok) {
        dry_title("settings");
        printf("%s", settings);
        ok = ahead_of_run(r, e) && forecast_open(&f, r, e) && ahead_of_data(r, &f.base.cfg, e) &&
             show_weights(&f, e) && show_data(&f, e) && forecast_models(&f, e);
    }
    if (ok) {
        show_parameters(&f);
        show_trainings(&f);
        show_teachers(&f);
        show_trained_caches(&f);
        show_cache(&f);
        ok = show_memory(&f, e);
    }
    if (ok) log_line("%s", "");
    if (ok) log_line("A dry run: nothing was computed or written.");
    forecast_close(&f);
    free(settings);
    return ok;
}
