/* talker.c - see talker.h. */
#include "talk/talker.h"
#include "autograd/gemm.h"
#include "base/log.h"
#include "base/mem.h"
#include "model/family/family.h"
#include "train/beside.h"
#include "train/caches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The settings of a run that has data of its own: the paths that must be given are never opened. */
static bool load_settings(struct talker *t, struct err *e)
{
    char threads[40], limit[60], seed[40], *path;
    /* a name that would not be taken as it is */
    const bool odd = t->dir[0] == '"' || strcmp(t->dir, "null") == 0;
    bool ok;

    snprintf(threads, sizeof threads, "run.threads=%lld", (long long)t->how->threads);
    snprintf(limit, sizeof limit, "run.memory_limit=%.17g", t->how->memory_limit);
    snprintf(seed, sizeof seed, "run.seed=%lld", (long long)t->how->seed);
    path = mem_printf(e, "model.path=%s%s", odd ? "./" : "", t->dir);
    if (!path) return false;
    const char *const sets[] = {"run.dir=.",
                                "data.train=[{\"path\":\".\"}]",
                                "data.max_length=1048576",
                                "data.too_long=error",
                                threads,
                                limit,
                                seed,
                                path};
    ok = schema_load(&config_schema, &t->r.c, NULL, sets, sizeof sets / sizeof *sets, e);
    free(path);
    return ok;
}

/* By the model's family; else by what ends a turn. */
static const char *template_of(const struct talker *t)
{
    static const char *const by_token[][2] = {{"<|eot_id|>", "llama3"}, {"<|im_end|>", "smollm2"}};
    const char *name = family_chat(&t->m.cfg);

    for (size_t i = 0; !name && i < sizeof by_token / sizeof *by_token; i++)
        if (tokenizer_id(t->r.tokenizer, by_token[i][0]) >= 0) name = by_token[i][1];
    return name ? name : "vicuna";
}

static bool choose_template(struct talker *t, struct err *e)
{
    static const char *const names[] = {TEMPLATE_NAMES};
    const char *name = t->how->chat_template;

    if (!name) {
        name = template_of(t);
        log_line("%s: chat template %s; --template takes another", t->dir, name);
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0) t->r.c.data.chat = (int)i;
    return template_find(name, e) || err_context(e, "--template");
}

/* Attention over a sliding window is not implemented: what is shorter never leaves it. */
static bool limit_length(struct talker *t, struct err *e)
{
    const struct hf_config *cfg = &t->m.cfg;
    char *from;

    if (!cfg->text.window || cfg->text.window >= t->o.max_length) return true;
    from = mem_printf(e, "sliding_window of %s", cfg->file);
    if (!from) return false;
    free(t->r.length_from);
    t->o.limited_by = t->r.length_from = from;
    t->o.max_length = cfg->text.window;
    return true;
}

static bool open_limits(struct talker *t, const struct talker *with, struct err *e)
{
    if (!with) {
        t->own_tape = true;
        if (!run_limits(&t->r, e)) return false;
        if (t->how->seats) gemm_rows_apart();
        return true;
    }
    t->r.tape = with->r.tape;
    t->r.memory_limit = with->r.memory_limit;
    t->r.room = with->r.room;
    return true;
}

bool talker_check_cache(const char *name, struct err *e)
{
    struct cache_kind kind;

    return cache_kind_read_kept(&kind, name, e) || err_context(e, "--cache");
}

/* A second model may be the original, without the latents that a kind of cache rotates: it is held
 * alike but for that. Nor is anything rotated where no width of the latents allows
 * it. Both are said. */
static bool choose_cache(struct talker *t, const struct talker *with, struct err *e)
{
    struct cache_kind kind = cache_kind_f32();
    char text[CACHE_KIND_TEXT];
    bool original, idle;

    if (t->how->cache && !cache_kind_read(&kind, t->how->cache, e)) return false;
    original = kind.rotate && with && t->m.state != ATTN_MLA;
    idle = kind.rotate && caches_idle(&kind, &t->m);
    if (original || idle) kind.rotate = false;
    if (original || idle)
        log_line("%s: --cache %s: held in %s, as %s", t->dir, t->how->cache,
                 cache_kind_text(text, &kind),
                 original ? "it has no latents that could be rotated" : CACHES_IDLE);
    return cache_how_new(&t->how_cached, &t->m, &kind, e) || err_context(e, "%s", t->dir);
}

static bool open_seats(struct talker *t, struct err *e)
{
    t->seats = t->how->seats ? t->how->seats : 1;
    t->held = mem_new((size_t)t->seats, sizeof *t->held, "the conversations", e);
    return t->held && running_new(&t->running, t->seats, &t->m, e);
}

bool talker_open(struct talker *t, const char *dir, const struct talker_options *how,
                 const struct talker *with, struct err *e)
{
    struct hf_config *cfg = &t->m.cfg;

    *t = (struct talker){.dir = dir,
                         .how = how,
                         .r = {.lock = -1, .only_point = -1, .limit_from = "--memory-limit"}};
    if (!load_settings(t, e) || !open_limits(t, with, e) || !model_open(&t->m, dir, e))
        return false;
    for (size_t i = 0; i < t->m.n_notes; i++)
        log_line("%s", t->m.notes[i]);
    return run_open_tokenizer(&t->r, cfg, e) && choose_template(t, e) &&
           run_open_prompts(&t->r, cfg, &t->o, e) && beside_say(&t->r, cfg, e) &&
           limit_length(t, e) && choose_cache(t, with, e) && open_seats(t, e) &&
           choose_open(&t->choose, &how->sampling, (uint64_t)how->seed, cfg->text.vocab_size, e) &&
           talk_begin(&t->talk, how->system, e);
}

bool talker_clear(struct talker *t, struct err *e)
{
    talk_end(&t->talk);
    kv_cache_free(&t->cache);
    return talk_begin(&t->talk, t->how->system, e);
}

void talker_close(struct talker *t)
{
    if (!t->dir) return;
    talk_end(&t->talk);
    choose_close(&t->choose);
    kv_cache_free(&t->cache);
    cache_how_free(&t->how_cached);
    for (int64_t i = 0; t->held && i < t->seats; i++)
        free(t->held[i].tags);
    free(t->held);
    running_free(&t->running);
    batch_free(&t->batch);
    if (!t->own_tape) t->r.tape = NULL;
    run_close(&t->r);
    model_close(&t->m);
    memset(t, 0, sizeof *t);
}
