/* answers.c - the score `answers`: an answer is generated to each sample's last question, and is
 * right if it equals the expected one, apart from white space at the ends:
 *     exact match = answers equal to the expected one / answers */
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/text.h"
#include "train/score/scorer.h"

#include <cjson/cJSON.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Text without the white space at its ends. */
static struct text trimmed(struct text t)
{
    while (t.n && isspace((unsigned char)*t.s)) {
        t.s++;
        t.n--;
    }
    while (t.n && isspace((unsigned char)t.s[t.n - 1]))
        t.n--;
    return t;
}

static bool add_text(cJSON *line, const char *key, const char *s, size_t n)
{
    return cJSON_AddItemToObject(line, key, jsonc_new_string(s, n));
}

static bool write_answer(const struct scoring *scoring, const struct sample *s,
                         const struct text *got, bool right, struct err *e)
{
    const struct eval_set *set = scoring->set;
    const struct rendered *all = &s->rendered;
    const char *image = s->images ? set->data.images[s->image[0]].path : NULL;
    cJSON *line = cJSON_CreateObject();
    bool ok = line && add_text(line, "set", set->name, strlen(set->name)) &&
              add_text(line, "id", s->id.s, s->id.n) &&
              (!image || add_text(line, "image", image, strlen(image))) &&
              add_text(line, "prompt", all->text, all->trained[all->n_trained - 1].begin) &&
              add_text(line, "expected", s->answer.s, s->answer.n) &&
              add_text(line, "answer", got->s, got->n) &&
              cJSON_AddBoolToObject(line, "right", right);
    char *text = NULL;

    if (ok)
        text = jsonc_print(line, false, e);
    else
        err_set(e, "out of memory for an answer");
    cJSON_Delete(line);
    if (!text) return false;
    fprintf(scoring->answers, "%s\n", text);
    free(text);
    return true;
}

static bool score_answer(struct scoring *s, int64_t i, const struct generation *g, struct err *e)
{
    struct text got = {0}, want = trimmed(s->samples[i].answer), answer;
    bool right, ok;

    got.s = tokenizer_decode(s->r->tokenizer, g->ids, (size_t)g->n, true, &got.n, e);
    if (!got.s) return false;
    answer = trimmed(got);
    right = answer.n == want.n && memcmp(answer.s, want.s, want.n) == 0;
    ok = scoring_count(s, i, &(struct score){.n = 1, .right = right}, e) &&
         (!s->answers || write_answer(s, &s->samples[i], &answer, right, e));
    free(got.s);
    return ok;
}

bool answers_score(struct scoring *s, struct err *e)
{
    int64_t n = s->f.batch->samples;
    const struct generator how = scoring_generator(s);
    struct generation *g = mem_new((size_t)n, sizeof *g, "answers", e);
    bool ok = g && model_generate(&how, &s->f, g, e);

    for (int64_t i = 0; ok && i < n; i++)
        ok = score_answer(s, i, &g[i], e);
    if (g) generation_free(g, n);
    free(g);
    return ok;
}

void answers_say(char text[SCORE_TEXT], const struct score *all)
{
    snprintf(text, SCORE_TEXT, "exact match %.2f %% (%.0f of %lld)",
             all->n ? 100 * score_share(all) : 0.0, all->right, (long long)all->n);
}
