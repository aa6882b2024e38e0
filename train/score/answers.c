/* answers.c - the score `answers`: an answer is generated to each sample's last question, and is
 * worth what the metric of its set says (docs/scores.md). Without one it is right if it equals the
 * expected one, apart from white space at the ends:
 *     exact match = answers equal to the expected one / answers */
#include "base/hash.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/text.h"
#include "train/score/prompts.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool add_text(cJSON *line, const char *key, const char *s, size_t n)
{
    return cJSON_AddItemToObject(line, key, jsonc_new_string(s, n));
}

/* The token ids that the model was given, hashed: two models are only compared on equal prompts. */
static bool add_prompt_hash(cJSON *line, const struct sample *s)
{
    char hex[17];

    snprintf(hex, sizeof hex, "%016llx",
             (unsigned long long)hash_fnv(s->ids, (size_t)s->prompt * sizeof *s->ids));
    return cJSON_AddStringToObject(line, "tokens", hex);
}

/* What a metric made of the answer, and what it needs to do so again. */
static bool add_metric(cJSON *line, const struct benchmark *by, const struct metric_result *r)
{
    if (!by->metric) return true;
    return cJSON_AddNumberToObject(line, "score", r->score) &&
           (!r->extracted.s || add_text(line, "extracted", r->extracted.s, r->extracted.n)) &&
           benchmark_write(by, line);
}

cJSON *scoring_line(const struct scoring *scoring, int64_t i, struct text answer,
                    const struct metric_result *r, struct err *e)
{
    const struct sample *s = &scoring->samples[i];
    const struct rendered *all = &s->rendered;
    const struct text image = scoring_picture(scoring, i);
    cJSON *line = cJSON_CreateObject();
    bool ok = line && add_text(line, "set", scoring->set->name, strlen(scoring->set->name)) &&
              add_text(line, "id", s->id.s, s->id.n) &&
              (!image.n || add_text(line, "image", image.s, image.n)) &&
              add_text(line, "prompt", all->text, all->trained[all->n_trained - 1].begin) &&
              add_prompt_hash(line, s) && add_text(line, "expected", s->answer.s, s->answer.n) &&
              add_text(line, "answer", answer.s, answer.n) &&
              cJSON_AddBoolToObject(line, "right", r->score >= 1) && add_metric(line, &s->by, r);

    if (ok) return line;
    cJSON_Delete(line);
    err_set(e, "out of memory for an answer");
    return NULL;
}

bool scoring_put(const struct scoring *s, cJSON *line, struct err *e)
{
    char *text = jsonc_print(line, false, e);

    cJSON_Delete(line);
    if (!text) return false;
    fprintf(s->answers, "%s\n", text);
    free(text);
    return true;
}

static bool write_answer(const struct scoring *s, int64_t i, struct text answer,
                         const struct metric_result *r, struct err *e)
{
    cJSON *line = scoring_line(s, i, answer, r, e);

    return line && scoring_put(s, line, e);
}

static bool score_answer(struct scoring *s, int64_t i, const struct generation *g, struct err *e)
{
    const struct sample *sample = &s->samples[i];
    struct text got = {0}, answer;
    struct metric_result r;
    struct metric_item item;
    bool ok;

    got.s = tokenizer_decode(s->r->tokenizer, g->ids, (size_t)g->n, true, &got.n, e);
    if (!got.s) return false;
    answer = text_trimmed(got);
    ok = benchmark_score(&sample->by, sample->answer, answer, &r, e);
    if (ok) {
        item = benchmark_item(&sample->by, &r, scoring_picture(s, i), sample->id);
        ok = scoring_count(s, i, &(struct score){.n = 1, .right = r.score}, &item, e) &&
             (!s->answers || write_answer(s, i, answer, &r, e));
        metric_result_free(&r);
    }
    free(got.s);
    return ok;
}

bool answers_score(struct scoring *s, struct err *e)
{
    const struct generator how = scoring_generator(s);
    const struct prompts_in in = {s->samples, s->n, .prompts = true, .more = how.max_new};
    struct generation *g = mem_new((size_t)s->n, sizeof *g, "answers", e);
    struct prompts p;
    bool ok = g && prompts_open(&p, s, &in, e);

    if (ok) {
        ok = model_continue(&how, &p.f, g, e);
        prompts_close(&p, s, ok);
    }
    for (int64_t i = 0; ok && i < s->n; i++)
        ok = score_answer(s, i, &g[i], e);
    if (g) generation_free(g, s->n);
    free(g);
    return ok;
}

void answers_say(char text[SCORE_TEXT], const char *title, const struct score *all)
{
    char error[24] = "";

    if (all->has_error) snprintf(error, sizeof error, " +- %.2f", 100 * all->se);
    snprintf(text, SCORE_TEXT, "%s %.2f %%%s (%.6g of %lld)", title,
             all->n ? 100 * score_share(all) : 0.0, error, all->right, (long long)all->n);
}
