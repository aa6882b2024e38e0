/* run_data.c - opens what a run reads: tokenizer, image processor, data sets. */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/plural.h"
#include "model/family/family.h"
#include "model/files/model_dir.h"
#include "train/beside.h"
#include "train/given.h"
#include "train/groups.h"
#include "train/run.h"
#include "train/score/scorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The model's settings say under `key` which id a token has, and the tokenizer must agree. */
static bool check_id(const struct tokenizer *tk, const char *path, const struct hf_config *cfg,
                     const char *token, const char *key, int64_t id, struct err *e)
{
    const char *piece = tokenizer_piece(tk, (int32_t)id);
    const int64_t has = tokenizer_id(tk, token);

    if (has == id) return true;
    if (has < 0)
        return err_set(e, "%s: has no token \"%s\", but %s is %lld (%s)", path, token, key,
                       (long long)id, cfg->file);
    return err_set(e, "%s: token \"%s\" has id %lld, but %s is %lld (%s), which is %s%s%s here",
                   path, token, (long long)has, key, (long long)id, cfg->file, piece ? "\"" : "",
                   piece ? piece : "not a token", piece ? "\"" : "");
}

/* The tokens before and after a picture's places, where the family has such. */
static bool check_around(const struct tokenizer *tk, const char *path, const struct hf_config *cfg,
                         struct err *e)
{
    const char *all = cfg->family->picture, *place = cfg->family->place;
    const char *at = all ? strstr(all, place) : NULL;
    char before[64];

    if (!at || cfg->vision_start_token_id == HF_NO_TOKEN) return true;
    snprintf(before, sizeof before, "%.*s", (int)(at - all), all);
    return check_id(tk, path, cfg, before, "vision_start_token_id", cfg->vision_start_token_id,
                    e) &&
           check_id(tk, path, cfg, at + strlen(place), "vision_end_token_id",
                    cfg->vision_end_token_id, e);
}

/* The tokenizer's ids must be rows of the embedding, which may have more rows (padding is common),
 * and both must agree on the ids of what stands for pictures. */
static bool check_tokenizer(const struct tokenizer *tk, const char *path,
                            const struct hf_config *cfg, struct err *e)
{
    int64_t last = tokenizer_size(tk) - 1;

    if (last >= cfg->text.vocab_size)
        return err_set(e,
                       "%s: the last token \"%s\" has id %lld, but the model's vocab_size is %lld "
                       "(%s): use the tokenizer that belongs to the model",
                       path, tokenizer_piece(tk, (int32_t)last), (long long)last,
                       (long long)cfg->text.vocab_size, cfg->file);
    return !hf_has_vision(cfg) || (check_id(tk, path, cfg, cfg->family->place, "image_token_index",
                                            cfg->image_token_index, e) &&
                                   check_around(tk, path, cfg, e));
}

static void log_lines(const char *before, const char *lines)
{
    for (size_t n; *lines; lines += n + 1) { /* each ends with a line break */
        n = strcspn(lines, "\n");
        log_line("%s%.*s", before, (int)n, lines);
    }
}

bool run_open_tokenizer(struct run *r, const struct hf_config *cfg, struct err *e)
{
    const char *dir = r->c.model.tokenizer;
    const struct tokenizer_options o = {(enum tokenizer_form)r->c.model.tokenizer_form,
                                        cfg->family->model_type, cfg->text.vocab_size};
    char *path;

    if (!dir && !r->c.model.path)
        return err_set(e, "model.tokenizer: must be given where model.path is not");
    if (!dir) dir = given_dir(r, cfg, "tokenizer.json", NULL, e);
    path = dir ? file_join(dir, "tokenizer.json", e) : NULL;
    r->tokenizer = path && model_dir_check_tokenizer(dir, e) ? tokenizer_open(dir, &o, e) : NULL;
    if (r->tokenizer && !check_tokenizer(r->tokenizer, path, cfg, e)) {
        tokenizer_free(r->tokenizer);
        r->tokenizer = NULL;
    }
    free(path);
    if (r->tokenizer) log_lines("tokenizer: ", tokenizer_notes(r->tokenizer));
    return r->tokenizer;
}

/* From the model's directory; a model yet to be trained gets its family's processor. */
static bool open_processor(struct run *r, const struct hf_config *cfg, struct err *e)
{
    struct processor *p = &r->processor;
    const char *key, *dir = "baseline";

    if (!hf_has_vision(cfg)) return true;
    if (r->c.model.path) {
        dir = given_dir(r, cfg, "preprocessor_config.json", "processor_config.json", e);
        if (!dir || !processor_load(p, dir, e)) return false;
    } else {
        cfg->family->new_processor(cfg, p);
        if (!processor_check(p, &key, e)) return false;
    }
    if ((r->c.data.min_pixels || r->c.data.max_pixels) &&
        !processor_limit(p, r->c.data.min_pixels, r->c.data.max_pixels, e))
        return false;
    return cfg->family->check_processor(cfg, p, e) ||
           err_context(e, "%s%s%s", dir, p->file ? "/" : ": its image processor",
                       p->file ? p->file : "");
}

bool run_report_drops(const struct run *r, const struct dataset *d, const char *what, struct err *e)
{
    const char *first = NULL;
    int64_t bad = 0;

    for (int i = 0; i < DROPS; i++) {
        if (d->dropped[i] == 0) continue;
        log_line("%s: samples left out: %lld, %s; the first: %s", what, (long long)d->dropped[i],
                 drop_names[i], d->first_dropped[i]);
        if (i == DROP_TOO_LONG) continue;
        bad += d->dropped[i];
        if (!first) first = d->first_dropped[i];
    }
    if (bad > r->c.data.max_bad)
        return run_refuse(
            r, e,
            "%s: samples that cannot be used: %lld, data.max_bad allows %lld; the first: "
            "%s",
            what, (long long)bad, (long long)r->c.data.max_bad, first);
    return true;
}

/* What is strange about a set, and no reason to leave a sample out. */
static void log_samples(const struct dataset *d, const char *what)
{
    unused_log(&d->unused, what);
    unusual_log(&d->unusual, what);
    lost_log(&d->lost, what, d->o.tokenizer);
}

/* The files that go with every model that the run will save. */
static bool check_copied(const struct run *r, struct err *e)
{
    bool saves = run_has_step(r, STEP_BASELINE) || run_has_step(r, STEP_STAGE1) ||
                 run_has_step(r, STEP_SVD) || run_has_step(r, STEP_STAGE2);

    return !saves || model_check_copied(r->c.model.path, r->c.model.tokenizer, e);
}

/* How texts are scored that are longer than what fits. */
static bool set_window(const struct run *r, struct dataset_options *o, struct err *e)
{
    const int64_t window = r->c.evaluate.window, stride = r->c.evaluate.stride;

    if (r->c.evaluate.score != SCORE_TOKENS || !window) return true;
    if (window < 2)
        return err_set(e,
                       "evaluate.window is 1: a window of two tokens is the first that scores one");
    if (window > o->max_length)
        return err_set(e, "evaluate.window is %lld, and %s is %lld: no more fits",
                       (long long)window, o->limited_by, (long long)o->max_length);
    if (stride > window)
        return err_set(e,
                       "evaluate.stride is %lld, and evaluate.window %lld: what lies between two "
                       "windows would not be scored",
                       (long long)stride, (long long)window);
    o->window = window;
    o->stride = stride ? stride : window;
    return true;
}

static bool open_sets(struct run *r, const struct dataset_options *o, struct err *e)
{
    const struct config_source *train = r->c.data.train.v, *eval = r->c.data.eval.v;
    int64_t n = r->c.data.train.n;
    struct dataset_options eval_o = *o;
    struct dataset_source *sources = mem_new((size_t)n, sizeof *sources, "data sources", e);
    bool ok = sources;

    for (int64_t i = 0; ok && i < n; i++)
        sources[i] = (struct dataset_source){
            .path = train[i].path, .images = train[i].images, .limit = train[i].limit};
    ok = ok && dataset_open(&r->train, sources, n, o, e);
    free(sources);
    if (ok) log_samples(&r->train, "data.train");
    if (!ok || !run_report_drops(r, &r->train, "data.train", e)) return false;
    log_line("data.train: %lld sample%s, %lld token%s, %lld trained; the longest has %lld",
             (long long)r->train.n, plural(r->train.n), (long long)r->train.tokens,
             plural(r->train.tokens), (long long)r->train.labels, (long long)r->train.longest);
    if (!set_window(r, &eval_o, e)) return false;
    eval_o.asked = scorer_of(&r->c)->needs_question;
    eval_o.choices = scorer_of(&r->c)->needs_choices;
    r->eval = mem_new((size_t)r->c.data.eval.n, sizeof *r->eval, "eval sets", e);
    if (!r->eval) return false;
    for (int64_t i = 0; i < r->c.data.eval.n; i++) {
        struct dataset_source one = {
            .path = eval[i].path, .images = eval[i].images, .limit = eval[i].limit};
        eval_o.metric = eval[i].metric;
        r->eval[i].name = config_source_name(&eval[i]);
        if (!dataset_open(&r->eval[i].data, &one, 1, &eval_o, e)) return false;
        r->n_eval = i + 1;
        log_samples(&r->eval[i].data, r->eval[i].name);
        if (!run_report_drops(r, &r->eval[i].data, r->eval[i].name, e) ||
            !groups_check(&r->eval[i].data, r->eval[i].name, e))
            return false;
        log_line("data.eval %s: %lld sample%s%s%s", r->eval[i].name, (long long)r->eval[i].data.n,
                 plural(r->eval[i].data.n), r->eval[i].data.metric ? ", scored by " : "",
                 r->eval[i].data.metric ? r->eval[i].data.metric->name : "");
    }
    return true;
}

int64_t run_max_new(const struct run *r, int64_t i)
{
    const struct config_source *s = r->c.data.eval.v;

    return i < r->c.data.eval.n && s[i].max_new_tokens ? s[i].max_new_tokens
                                                       : r->c.evaluate.max_new_tokens;
}

const char *run_max_new_key(const struct run *r, int64_t i, char out[64])
{
    const struct config_source *s = r->c.data.eval.v;

    snprintf(out, 64,
             i < r->c.data.eval.n && s[i].max_new_tokens ? "data.eval[%lld].max_new_tokens"
                                                         : "evaluate.max_new_tokens",
             (long long)i);
    return out;
}

static bool shape_picture(const void *arg, struct picture_shape *s, struct err *e)
{
    const struct run *r = arg;

    if (!processor_shape(&r->processor, s, e)) return false;
    r->model.family->shape(&r->model, s);
    return true;
}

/* How long a sample may be, and what says so. */
static bool choose_length(struct run *r, const struct hf_config *cfg, struct dataset_options *o,
                          struct err *e)
{
    o->max_length = r->c.data.max_length;
    if (cfg->text.max_position_embeddings >= o->max_length) {
        r->length_from = mem_strdup("data.max_length", e);
    } else {
        o->max_length = cfg->text.max_position_embeddings;
        r->length_from = r->c.model.path ? mem_printf(e, "max_position_embeddings of %s", cfg->file)
                                         : mem_strdup("baseline.max_length", e);
    }
    o->limited_by = r->length_from;
    return r->length_from;
}

bool run_open_prompts(struct run *r, const struct hf_config *cfg, struct dataset_options *o,
                      struct err *e)
{
    static const char *const names[] = {TEMPLATE_NAMES};
    const struct chat_template *chat;

    *o = (struct dataset_options){.too_long_is_error = r->c.data.too_long == TOO_LONG_ERROR};
    family_places(cfg, &o->pictures);
    o->pictures.rule = (struct picture_rule){shape_picture, r};
    if (!hf_config_copy(&r->model, cfg, e) || !choose_length(r, cfg, o, e)) return false;
    chat = template_find(names[r->c.data.chat], e);
    if (!chat) return false;
    r->chat = *chat;
    if (hf_has_vision(cfg)) r->chat.picture = cfg->family->picture;
    if (!template_check(&r->chat, r->tokenizer, e) || !given_open(r, cfg, e) ||
        !open_processor(r, cfg, e))
        return false;
    if (hf_has_vision(cfg)) o->processor = &r->processor;
    o->tokenizer = r->tokenizer;
    o->chat = &r->chat;
    return true;
}

bool run_open_data(struct run *r, const struct hf_config *cfg, struct err *e)
{
    struct dataset_options o;

    if (!run_open_tokenizer(r, cfg, e) || !run_open_prompts(r, cfg, &o, e) || !check_copied(r, e) ||
        !beside_say(r, cfg, e))
        return false;
    return given_check_answers(r, cfg, e) && open_sets(r, &o, e) && given_check_window(r, cfg, e) &&
           given_say_positions(r, cfg, e);
}

void run_close_data(struct run *r)
{
    dataset_close(&r->train);
    for (int64_t i = 0; i < r->n_eval; i++)
        dataset_close(&r->eval[i].data);
    free(r->eval);
    free(r->stop);
    free(r->length_from);
    hf_config_free(&r->model);
    tokenizer_free(r->tokenizer);
    r->eval = NULL;
    r->n_eval = 0;
    r->stop = NULL;
    r->length_from = NULL;
    r->tokenizer = NULL;
}
