/* line.c - lines of answers.jsonl: what all ways to score have in common. */
#include "base/hash.h"
#include "base/json/jsonc.h"
#include "train/score/scorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool add_text(cJSON *line, const char *key, const char *s, size_t n)
{
    return cJSON_AddItemToObject(line, key, jsonc_new_string(s, n));
}

/* The token ids that the model was given, hashed: two models are only compared on equal prompts. */
static bool add_prompt_hash(cJSON *line, const struct sample *s, int64_t tokens)
{
    char hex[17];

    snprintf(hex, sizeof hex, "%016llx",
             (unsigned long long)hash_fnv(s->ids, (size_t)tokens * sizeof *s->ids));
    return cJSON_AddStringToObject(line, "tokens", hex);
}

cJSON *scoring_line(const struct scoring *s, int64_t i, int64_t tokens, struct err *e)
{
    const struct sample *sample = &s->samples[i];
    const struct rendered *all = &sample->rendered;
    const struct text image = scoring_picture(s, i);
    const size_t prompt = all->n_trained ? all->trained[all->n_trained - 1].begin : 0;
    cJSON *line = cJSON_CreateObject();

    if (line && add_text(line, "set", s->set->name, strlen(s->set->name)) &&
        add_text(line, "id", sample->id.s, sample->id.n) &&
        (!image.n || add_text(line, "image", image.s, image.n)) &&
        (!prompt || add_text(line, "prompt", all->text, prompt)) &&
        add_prompt_hash(line, sample, tokens))
        return line;
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

/* What came of it, and, with a metric, what is needed to score it again. */
static bool add_answer(cJSON *line, const struct sample *s, struct text answer,
                       const struct metric_result *r)
{
    return add_text(line, "expected", s->answer.s, s->answer.n) &&
           add_text(line, "answer", answer.s, answer.n) &&
           cJSON_AddBoolToObject(line, "right", r->score >= 1) &&
           (!s->by.metric ||
            (cJSON_AddNumberToObject(line, "score", r->score) &&
             (!r->extracted.s || add_text(line, "extracted", r->extracted.s, r->extracted.n)) &&
             benchmark_write(&s->by, line)));
}

bool scoring_put_answer(const struct scoring *s, int64_t i, struct text answer,
                        const struct metric_result *r, struct err *e)
{
    const struct sample *sample = &s->samples[i];
    cJSON *line;

    if (!s->answers) return true;
    line = scoring_line(s, i, sample->prompt, e);
    if (!line) return false;
    if (add_answer(line, sample, answer, r)) return scoring_put(s, line, e);
    cJSON_Delete(line);
    return err_set(e, "out of memory for an answer");
}
