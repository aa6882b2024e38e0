/* baseline.c - a small model of the config's "baseline" family and shape, to be trained from
 * scratch. */
#include "base/mem.h"
#include "model/family/family.h"
#include "model/files/model_dir.h"
#include "train/models.h"
#include "train/peft.h"

#include <stdlib.h>
#include <string.h>

/* The ids of the tokens that the family names; `path` is the tokenizer's. */
static bool find_tokens(const struct family *f, const struct tokenizer *tk, const char *path,
                        int32_t id[FRESH_TOKENS], struct err *e)
{
    for (int i = 0; i < FRESH_TOKENS; i++) {
        const char *text = f->fresh->token[i];
        id[i] = text ? tokenizer_id(tk, text) : -1;
        if (text && id[i] < 0)
            return err_set(e, "%s: has no token %s, which a baseline of baseline.family %s needs",
                           path, text, f->model_type);
    }
    return true;
}

static const char config_name[] = "a baseline's config.json";

/* The message says where in a text that nobody sees, which was made from the settings. */
static bool misfit(struct err *e)
{
    const char *why = e->msg;

    if (e->machine) return false;
    if (strncmp(why, config_name, sizeof config_name - 1) == 0) {
        why += sizeof config_name - 1;
        why += strspn(why, ":0123456789 ");
    }
    return err_set(e, "baseline: these settings make no model: %s", why);
}

bool make_baseline_model(const struct run *r, struct model *m, struct err *e)
{
    const struct family *f = family_fresh(r->c.family);
    const char *dir = r->c.model.tokenizer;
    const struct tokenizer_options o = {(enum tokenizer_form)r->c.model.tokenizer_form,
                                        f->model_type, 0};
    struct tokenizer *tk = NULL;
    struct hf_config cfg = {0};
    char *path = NULL, *json = NULL;
    int32_t id[FRESH_TOKENS];
    bool ok;

    if (!dir) return err_set(e, "model.tokenizer: must be given to train a baseline");
    path = file_join(dir, "tokenizer.json", e);
    tk = path && model_dir_check_tokenizer(dir, e) ? tokenizer_open(dir, &o, e) : NULL;
    if (tk && find_tokens(f, tk, path, id, e))
        json = f->fresh->json(&r->c.shape, tokenizer_size(tk), id, e);
    ok = json && (hf_config_parse(&cfg, json, strlen(json), config_name, e) || misfit(e)) &&
         model_random(m, &cfg, (uint64_t)r->c.run.seed, e);
    tokenizer_free(tk);
    free(path);
    free(json);
    return ok;
}

unsigned baseline_kinds(const struct config *c)
{
    return peft_kinds((enum peft_set)c->baseline.peft, c->baseline.projector) |
           (c->baseline.vision ? 1u << PARAM_VISION : 0);
}
