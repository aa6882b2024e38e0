/* given.c - see given.h. */
#include "train/given.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/config/hfgeneration.h"
#include "train/score/scorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- where its files are ---- */

static bool holds(const char *dir, const char *name, bool *there, struct err *e)
{
    char *path = name ? file_join(dir, name, e) : NULL;
    bool ok = !name || (path && file_there(path, there, e));

    free(path);
    return ok;
}

const char *given_dir(const struct run *r, const struct hf_config *cfg, const char *name,
                      const char *other, struct err *e)
{
    const char *dir = r->c.model.path, *base = cfg->has_mha2mla ? cfg->mha2mla.base : NULL;
    bool here = false, in_base = false;

    if (!base) return dir;
    if (!holds(dir, name, &here, e) || (!here && !holds(dir, other, &here, e))) return NULL;
    if (here) return dir;
    if (!holds(base, name, &in_base, e) || (!in_base && !holds(base, other, &in_base, e)))
        return NULL;
    if (!in_base) return dir;
    log_line("%s: has no %s: that of %s is used, which it builds on", dir, name, base);
    return base;
}

/* ---- where answers end ---- */

static bool add_template_stop(struct run *r, struct err *e)
{
    struct tokens t = {0};
    bool ok =
        tokenizer_encode(r->tokenizer, NULL, r->chat.stop, strlen(r->chat.stop), false, &t, e);

    if (ok && t.n == 0)
        ok = err_set(e, "the tokenizer makes no token of the stop text \"%s\"", r->chat.stop);
    if (ok) r->stop[r->n_stop++] = t.v[t.n - 1].id;
    tokens_free(&t);
    return ok;
}

static void add_stops(struct run *r, const int64_t *ids, int n)
{
    for (int i = 0; i < n; i++)
        r->stop[r->n_stop++] = (int32_t)ids[i]; /* below vocab_size, which is at most 2^24 */
}

/* ---- what is not used ---- */

static void say_dropout(const struct hf_config *cfg, const char *key, double p)
{
    if (p > 0)
        log_line("%s: %s is %g: not applied, training here drops nothing", cfg->file, key, p);
}

static void say_unused(const struct hf_config *cfg, const struct hf_generation *g)
{
    say_dropout(cfg, hf_has_vision(cfg) ? "text_config.attention_dropout" : "attention_dropout",
                cfg->text.attention_dropout);
    say_dropout(cfg, "vision_config.attention_dropout", cfg->vision.attention_dropout);
    if (cfg->unused) log_line("%s: not used: %s", cfg->file, cfg->unused);
    if (g->unused) log_line("%s: not used, answers are greedy: %s", g->path, g->unused);
}

bool given_open(struct run *r, const struct hf_config *cfg, struct err *e)
{
    struct hf_generation g = {0};
    const char *dir = NULL;
    bool ok;

    r->stop = mem_new(2 * HF_MAX_EOS + 1, sizeof *r->stop, "stop tokens", e);
    ok = r->stop && add_template_stop(r, e) &&
         (!r->c.model.path || ((dir = given_dir(r, cfg, "generation_config.json", NULL, e)) &&
                               hf_generation_read(&g, dir, cfg, e)));
    if (ok) {
        add_stops(r, cfg->text.eos_token_id, cfg->text.eos_count);
        add_stops(r, g.eos_token_id, g.eos_count);
        say_unused(cfg, &g);
    }
    hf_generation_free(&g);
    return ok;
}

/* ---- the window ---- */

static bool too_long(const struct hf_config *cfg, const char *what, int64_t tokens, struct err *e)
{
    const char *key = hf_has_vision(cfg) ? "text_config.sliding_window" : "sliding_window";

    return hf_config_fail(
        cfg, key, e,
        "%s is %lld, but %s comes to %lld tokens: attention over a sliding window "
        "is not supported; shorter texts (data.max_length, "
        "evaluate.max_new_tokens) never leave it",
        key, (long long)cfg->text.window, what, (long long)tokens);
}

/* Answers grow from their prompt; their last token is never attended from. */
static bool check_answers(const struct run *r, const struct eval_set *set,
                          const struct hf_config *cfg, struct err *e)
{
    int64_t more = run_max_new(r, set - r->eval) - 1;
    char what[200];
    bool ok = true;

    snprintf(what, sizeof what, "a question of %s with its answer", set->name);

    for (int64_t i = 0; ok && i < set->data.n; i++) {
        struct sample s = {0};

        if (set->data.entries[i].tokens + more <= cfg->text.window) continue;
        ok = dataset_sample(&set->data, i, &s, e);
        if (ok && s.prompt + more > cfg->text.window) ok = too_long(cfg, what, s.prompt + more, e);
        sample_free(&s);
    }
    return ok;
}

bool given_check_window(const struct run *r, const struct hf_config *cfg, struct err *e)
{
    int64_t window = cfg->text.window;

    if (window == 0) return true;
    if (r->train.longest > window)
        return too_long(cfg, "data.train's longest sample", r->train.longest, e);
    for (int64_t i = 0; i < r->n_eval; i++) {
        const struct eval_set *set = &r->eval[i];
        if (scorer_of(&r->c)->generates) {
            if (!check_answers(r, set, cfg, e)) return false;
        } else if (set->data.longest > window) {
            return too_long(cfg, set->name, set->data.longest, e);
        }
    }
    return true;
}

/* ---- the positions ---- */

static bool has_answers(const struct run *r)
{
    return r->n_eval + r->c.data.eval.n > 0 && scorer_of(&r->c)->generates;
}

bool given_check_answers(const struct run *r, const struct hf_config *cfg, struct err *e)
{
    const int64_t positions = cfg->text.max_position_embeddings;
    char key[64];

    for (int64_t i = 0; has_answers(r) && (i < r->c.data.eval.n || i == 0); i++)
        if (run_max_new(r, i) > positions)
            return err_set(e,
                           "%s is %lld, and the model has %lld positions "
                           "(max_position_embeddings of %s): fewer are needed",
                           run_max_new_key(r, i, key), (long long)run_max_new(r, i),
                           (long long)positions, cfg->file);
    return true;
}

/* Says it of the first sample of a set from whose question an answer may go beyond. */
static bool say_beyond(const struct run *r, int64_t set, int64_t positions, bool *said,
                       struct err *e)
{
    const struct dataset *d = &r->eval[set].data;
    const int64_t more = run_max_new(r, set) - 1;
    char place[DATASET_PLACE], key[64];

    for (int64_t k = 0; k < d->n && !*said; k++) {
        struct sample s;
        int64_t prompt;

        if (d->entries[k].tokens + more <= positions) continue;
        if (!dataset_sample(d, k, &s, e)) return false;
        prompt = s.prompt;
        sample_free(&s);
        if (prompt + more <= positions) continue;
        *said = true;
        log_line("%s is %lld: with a question of %lld tokens (%s:%s) an answer may go beyond the "
                 "model's %lld positions, for which it was not made",
                 run_max_new_key(r, set, key), (long long)more + 1, (long long)prompt,
                 d->sources[d->entries[k].source].path, dataset_place(&d->entries[k], place),
                 (long long)positions);
    }
    return true;
}

bool given_say_positions(const struct run *r, const struct hf_config *cfg, struct err *e)
{
    bool said = false;

    for (int64_t i = 0; has_answers(r) && i < r->n_eval && !said; i++)
        if (!say_beyond(r, i, cfg->text.max_position_embeddings, &said, e)) return false;
    return true;
}
