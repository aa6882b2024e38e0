/* report_md.c - report.md: what was run, the scores, the trainings, the curve, some answers. */
#include "base/mem.h"
#include "base/plural.h"
#include "data/template.h"
#include "train/peft.h"
#include "train/recipes.h"
#include "train/report/report_parts.h"
#include "train/models.h"
#include "train/picture_use.h"
#include "base/units.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void report_string(FILE *fp, const char *s)
{
    report_text(fp, s, strlen(s));
}

static const char *enum_name(const char *key, int value)
{
    for (size_t i = 0; i < config_schema.nrows; i++)
        if (strcmp(config_schema.rows[i].key, key) == 0) return config_schema.rows[i].names[value];
    CHECK(false); /* the key is not in the table */
    return NULL;
}

/* ---- what was run ---- */

static bool write_model(const struct run *r, FILE *fp, bool *vision, struct err *e)
{
    bool given = r->c.model.path, trained, there = false;
    char *dir = given ? mem_strdup(r->c.model.path, e) : run_path(r, e, "baseline/model");
    char *config = dir ? file_join(dir, "config.json", e) : NULL;
    struct hf_config cfg = {0};
    int64_t least, most;
    bool ok = config && model_is_there(r, "baseline", &trained, e) && file_there(config, &there, e);

    if (ok) {
        fprintf(fp, "| model | ");
        report_string(fp, given ? dir : "trained here from scratch");
        if (given && trained) fprintf(fp, ", trained further here");
    }
    if (there && (ok = hf_config_read(&cfg, config, e))) {
        const struct text_config *t = &cfg.text;
        fprintf(fp,
                ": %s, %lld layer%s of width %lld, %lld head%s of %lld dims, %lld key/value head%s",
                t->model_type, (long long)t->num_hidden_layers, plural(t->num_hidden_layers),
                (long long)t->hidden_size, (long long)t->num_attention_heads,
                plural(t->num_attention_heads), (long long)t->head_dim,
                (long long)t->num_key_value_heads, plural(t->num_key_value_heads));
        *vision = hf_has_vision(&cfg);
        if (*vision && picture_use_tokens(r, &least, &most)) {
            if (least < most) fprintf(fp, ", %lld to", (long long)least);
            fprintf(fp, "%s %lld token%s an image", least < most ? "" : ",", (long long)most,
                    plural(most));
        }
        hf_config_free(&cfg);
    }
    fprintf(fp, " |\n");
    free(dir);
    free(config);
    return ok;
}

static void write_dataset(FILE *fp, const char *what, const struct dataset *d, const char *labels)
{
    char t[3][UNIT_TEXT];

    fprintf(fp, "| %s | ", what);
    for (int64_t i = 0; i < d->n_sources; i++) {
        if (i) fprintf(fp, ", ");
        report_string(fp, d->sources[i].path);
    }
    fprintf(fp, ": %s sample%s, %s token%s, %s of them %s; SHA-256 %.16s… |\n",
            unit_count(t[0], (double)d->n), plural(d->n), unit_count(t[1], (double)d->tokens),
            plural(d->tokens), unit_count(t[2], (double)d->labels), labels, d->hash);
    for (int i = 0; i < DROPS; i++)
        if (d->dropped[i])
            fprintf(fp, "| left out there | %s sample%s: %s |\n",
                    unit_count(t[0], (double)d->dropped[i]), plural(d->dropped[i]), drop_names[i]);
}

/* What of the conversion is not as published: switches, and settings with names. */
static void write_differing(FILE *fp, const struct config *c)
{
    static const char *const keys[] = {"rank.basis",     "rank.budget", "rank.rotation",
                                       "svd.statistics", "svd.ranks",   "svd.refit",
                                       "stage1.refit"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const struct schema_row *row = config_schema.rows;
        while (strcmp(row->key, keys[i]) != 0)
            CHECK(++row < config_schema.rows + config_schema.nrows);
        const char *at = (const char *)c + row->offset;
        const bool off = row->type == SCHEMA_TYPE_BOOL && !*(const bool *)at;
        const char *name = row->type == SCHEMA_TYPE_BOOL ? "true" : row->names[*(const int *)at];
        if (off || strncmp(row->def + 1, name, strlen(name)) == 0) continue;
        fprintf(fp, "; %s %s", row->key, name);
    }
    if (c->svd.method != KV_NONE && c->svd.statistics == KV_BLOCKS && c->svd.steps)
        fprintf(fp, "; svd.steps %lld", (long long)c->svd.steps);
}

/* What is rotated and what is compressed. `vision`: the model has pictures. */
static void write_conversion(FILE *fp, const struct config *c, bool vision)
{
    static const char *const starts[] = {"from activations", "from weights", "started at random"};

    if (c->rank.basis == BASIS_CROSS)
        fputs("one rotated key of all heads' components; ", fp);
    else
        fprintf(fp, "RoPE pairs kept by %s; ", enum_name("rank.strategy", c->rank.strategy));
    if (c->svd.method == KV_NONE)
        fputs("nothing compressed", fp);
    else
        fprintf(fp, "MD-SVD: %s, %s, %s", enum_name("svd.method", c->svd.method),
                c->svd.decoupled && vision ? "factors apart for images and text"
                                           : "the same factors for all tokens",
                starts[c->svd.input]);
    write_differing(fp, c);
}

static void write_trained(FILE *fp, const char *what, const char *key, const struct config_phase *p)
{
    fprintf(fp, "%s: %s%s", what, enum_name(key, p->peft),
            p->projector ? " and the projector" : "");
    if (p->loss == LOSS_DISTILL)
        fprintf(fp, ", distilled (weight %g, temperature %g)", p->distill_weight, p->temperature);
    if (p->loss == LOSS_LAYERS)
        fprintf(fp, ", towards the original's hidden states (weight %g)", p->distill_weight);
    if (p->cache) fprintf(fp, ", on what a cache in %s holds", p->cache);
}

/* Of each recipe, if there are several. */
static void write_recipe(FILE *fp, const struct config *all, int64_t k, bool vision)
{
    const struct config *c = recipes_config(all, k);
    const char *name = recipes_name(all, k), *of = *name ? " of " : "";

    fprintf(fp, "| conversion%s%s | ", of, name);
    write_conversion(fp, c, vision);
    fprintf(fp, " |\n| trained%s%s | ", of, name);
    write_trained(fp, "stage 1", "stage1.peft", &c->stage1);
    write_trained(fp, "; stage 2", "stage2.peft", &c->stage2);
    fprintf(fp, " |\n");
}

static bool write_run(const struct run *r, FILE *fp, struct err *e)
{
    const struct config *c = &r->c;
    bool vision = true;

    fprintf(fp, "## What was run\n\n| | |\n|---|---|\n");
    if (!write_model(r, fp, &vision, e)) return false;
    fprintf(fp, "| steps | ");
    for (int s = 0, n = 0; s < STEPS; s++)
        if (run_has_step(r, (enum step)s)) fprintf(fp, "%s%s", n++ ? ", " : "", step_names[s]);
    fputs(" |\n", fp);
    for (int64_t k = 0; k < recipes_count(c); k++)
        write_recipe(fp, c, k, vision);
    write_dataset(fp, "training data", &r->train, "trained");
    for (int64_t i = 0; i < r->n_eval; i++)
        write_dataset(fp, "scored on", &r->eval[i].data, "scored");
    fprintf(fp, "| seed, threads | %lld, %lld |\n\n", (long long)c->run.seed,
            (long long)c->run.threads);
    return true;
}

/* ---- tables ---- */

static void percent_cell(FILE *fp, double share)
{
    char t[UNIT_TEXT];

    fprintf(fp, " %s |", isnan(share) ? "–" : unit_percent(t, share));
}

static void count_cell(FILE *fp, double n)
{
    char t[UNIT_TEXT];

    fprintf(fp, " %s |", isnan(n) ? "–" : unit_count(t, n));
}

static void cache_cells(FILE *fp, double values, double share, double bytes)
{
    count_cell(fp, values);
    percent_cell(fp, share);
    count_cell(fp, bytes);
}

/* A figure of a score. */
static void value_cell(FILE *fp, const struct score_cell *cell, double value)
{
    if (cell->share)
        percent_cell(fp, value);
    else
        fprintf(fp, isnan(value) ? " – |" : " %.3f |", value);
}

/* The table of a further figure. */
static void write_figure(const struct report *rep, const struct score_cell *cell, FILE *fp)
{
    fprintf(fp,
            "\n| %s | share of the cache | base | stage 1 | after SVD | stage 2 |\n"
            "|---|--:|--:|--:|--:|--:|\n",
            cell->name);
    for (int64_t i = 0; i < rep->n; i++) {
        const struct report_point *p = &rep->points[i];
        fprintf(fp, "| %s |", p->p.name);
        percent_cell(fp, report_cache_share(p));
        value_cell(fp, cell, report_value(&rep->base, cell));
        for (int k = 0; k < REPORT_RESULTS; k++)
            value_cell(fp, cell, report_value(&p->result[k], cell));
        fputc('\n', fp);
    }
}

/* What the caches of the table are held in: models with latents have cache.rope and so on. */
static const char *held_in(const struct report *rep, char out[100])
{
    char kind[CACHE_KIND_TEXT] = "f32";

    for (int64_t i = 0; i < rep->n; i++)
        for (int k = REPORT_SVD; k < REPORT_RESULTS; k++)
            if (rep->points[i].result[k].there)
                cache_kind_text(kind, &rep->points[i].result[k].s.cache);
    snprintf(out, 100, strcmp(kind, "f32") == 0 ? "in fp32" : "in fp32, of latents in %s", kind);
    return out;
}

/* How a size of sweep.cache was split. */
static const char *split_text(const struct report *rep, const struct report_point *p, char out[60])
{
    out[0] = '\0';
    if (recipes_config(&rep->r->c, p->p.recipe)->sweep.cache.n)
        snprintf(out, 60, " (rope%lld-rank%g)", (long long)p->p.rope_dim, p->p.low_rank);
    return out;
}

static void write_recovery(const struct report *rep, FILE *fp)
{
    const struct scorer *how = scorer_of(&rep->r->c);
    double full = NAN, base = report_score(rep, &rep->base);
    char t[UNIT_TEXT], in[100], split[60];

    for (int64_t i = 0; i < rep->n; i++)
        if (rep->points[i].full) full = (double)rep->points[i].full;
    fprintf(fp, "## Recovery\n\n");
    if (rep->base.there)
        fprintf(fp,
                "Of %s %s, with a real cache. Recovered: stage 2 relative to the base model. "
                "Cached values: "
                "for a token, in a layer. Bytes a token: measured over all layers, %s.\n\n",
                unit_count(t, (double)rep->base.s.all.n), scorer_counted(rep->r), held_in(rep, in));
    fprintf(fp,
            "| point | cached values | share of the cache | bytes a token | base | stage 1 | "
            "after SVD | stage 2 | recovered |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n| base |");
    cache_cells(fp, full, isnan(full) ? NAN : 1, report_cache_bytes(&rep->base));
    percent_cell(fp, base);
    fprintf(fp, " – | – | – | – |\n");
    for (int64_t i = 0; i < rep->n; i++) {
        const struct report_point *p = &rep->points[i];
        double bytes = report_cache_bytes(&p->result[REPORT_STAGE2]);
        if (isnan(bytes)) bytes = report_cache_bytes(&p->result[REPORT_SVD]);
        fprintf(fp, "| %s%s |", p->p.name, split_text(rep, p, split));
        cache_cells(fp, p->full ? (double)p->values : NAN, report_cache_share(p), bytes);
        percent_cell(fp, base);
        for (int k = 0; k < REPORT_RESULTS; k++)
            percent_cell(fp, report_score(rep, &p->result[k]));
        percent_cell(fp, report_recovered(rep, p));
        fputc('\n', fp);
    }
    for (int64_t i = 0; i < rep->n; i++)
        if (report_lacks(rep, i)) fprintf(fp, "\n%s: " REPORT_LACKS ".\n", rep->points[i].p.name);
    for (const struct score_cell *c = how->cell + 1; c->name; c++)
        write_figure(rep, c, fp);
    if (rep->picture) fprintf(fp, "\n![recovery](recovery.png)\n");
    fputc('\n', fp);
}

/* One line of the table, and before the first one its head. Of a step that comes in this run, or
 * came in an earlier one. */
static void training_row(FILE *fp, const struct report *rep, enum step step, const char *point,
                         const struct report_training *t, int *rows)
{
    static const char *const phases[STEPS] = {
        [STEP_BASELINE] = "baseline", [STEP_STAGE1] = "stage 1", [STEP_STAGE2] = "stage 2"};
    char text[UNIT_TEXT];

    if (!t->done && !run_has_step(rep->r, step)) return;
    if ((*rows)++ == 0)
        fprintf(fp,
                "## Trainings\n\n| point | training | trained parameters | share of all | steps "
                "| tokens | time |\n|---|---|--:|--:|--:|--:|--:|\n");
    fprintf(fp, "| %s | %s |", point, phases[step]);
    count_cell(fp, t->done ? t->trained : NAN);
    percent_cell(fp, t->done ? t->trained / t->parameters : NAN);
    count_cell(fp, t->done ? t->steps : NAN);
    count_cell(fp, t->done ? t->tokens : NAN);
    fprintf(fp, " %s |\n", t->done ? unit_seconds(text, t->seconds) : "–");
}

static void write_trainings(const struct report *rep, FILE *fp)
{
    int rows = 0;

    training_row(fp, rep, STEP_BASELINE, "base", &rep->baseline, &rows);
    for (int64_t i = 0; i < rep->n; i++) {
        const struct report_point *p = &rep->points[i];
        bool first = config_first_of_stage1(&rep->r->c, i);
        if (first) /* shared by the points with one rope_dim */
            training_row(fp, rep, STEP_STAGE1, p->p.stage1, &p->stage1, &rows);
        training_row(fp, rep, STEP_STAGE2, p->p.name, &p->stage2, &rows);
    }
    if (rows) fputc('\n', fp);
}

/* ---- kinds of questions ---- */

static void kind_cell(const struct report_result *result, const char *kind,
                      const struct score_cell *cell, FILE *fp)
{
    const struct score *k = NULL;

    for (size_t i = 0; result->there && i < result->s.n; i++)
        if (strcmp(result->s.kinds[i].name, kind) == 0 && result->s.kinds[i].n)
            k = &result->s.kinds[i];
    value_cell(fp, cell, k ? cell->value(k) : NAN);
}

/* All models answer the same questions, so the first scores present name the kinds. */
static const struct scores *any_scores(const struct report *rep)
{
    if (rep->base.there) return &rep->base.s;
    for (int64_t i = 0; i < rep->n; i++)
        for (int k = 0; k < REPORT_RESULTS; k++)
            if (rep->points[i].result[k].there) return &rep->points[i].result[k].s;
    return NULL;
}

static void write_kinds(const struct report *rep, const struct score_cell *cell, FILE *fp)
{
    const struct scorer *how = scorer_of(&rep->r->c);
    const struct scores *s = any_scores(rep);

    if (!s || s->n == 0) return;
    fprintf(fp, "## By kind%s%s\n\n| kind | %s | base |", cell == how->cell ? "" : ": ",
            cell == how->cell ? "" : cell->name, how->items);
    for (int64_t i = 0; i < rep->n; i++) {
        const struct point *p = &rep->points[i].p;
        if (config_first_of_stage1(&rep->r->c, i)) fprintf(fp, " %s stage 1 |", p->stage1);
        fprintf(fp, " %s after SVD | %s stage 2 |", p->name, p->name);
    }
    fprintf(fp, "\n|---|--:|--:|");
    for (int64_t i = 0; i < rep->n; i++) {
        bool first = config_first_of_stage1(&rep->r->c, i);
        fprintf(fp, first ? "--:|--:|--:|" : "--:|--:|");
    }
    fputc('\n', fp);
    for (size_t q = 0; q < s->n; q++) {
        fprintf(fp, "| ");
        report_string(fp, s->kinds[q].name);
        fprintf(fp, " |");
        count_cell(fp, (double)s->kinds[q].n);
        kind_cell(&rep->base, s->kinds[q].name, cell, fp);
        for (int64_t i = 0; i < rep->n; i++) {
            const struct report_point *p = &rep->points[i];
            bool first = config_first_of_stage1(&rep->r->c, i);
            for (int k = first ? REPORT_STAGE1 : REPORT_SVD; k < REPORT_RESULTS; k++)
                kind_cell(&p->result[k], s->kinds[q].name, cell, fp);
        }
        fputc('\n', fp);
    }
    fputc('\n', fp);
}

bool report_write(const struct report *rep, struct err *e)
{
    char *path = run_path(rep->r, e, "report.md");
    struct file_out out = {0};
    bool ok = path && file_out_open(&out, path, e);

    if (ok) {
        fprintf(out.fp, "# ");
        report_string(out.fp, rep->name);
        fprintf(out.fp, "\n\n");
        write_recovery(rep, out.fp);
        report_caches(rep, out.fp);
        ok = report_recipes(rep, out.fp, e) && report_sets(rep, out.fp, e) &&
             report_paired(rep, out.fp, e);
        for (const struct score_cell *c = scorer_of(&rep->r->c)->cell; c->name; c++)
            write_kinds(rep, c, out.fp);
        write_trainings(rep, out.fp);
        ok = ok && write_run(rep->r, out.fp, e) && report_answers(rep, out.fp, e) &&
             file_out_commit(&out, e);
    }
    file_out_abort(&out);
    free(path);
    return ok;
}
