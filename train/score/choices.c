/* choices.c - the score `options` of a set of choices (data/benchmark.h), as
 * lm-evaluation-harness's multiple_choice: log p of each choice behind its context, and the
 * likeliest is taken, by itself (acc), over its characters (acc_norm) and over its bytes
 * (acc_bytes). Choices of one context share it. */
#include "base/mem.h"
#include "train/score/prompts.h"

#include <stdlib.h>
#include <string.h>

/* The choices of all samples, one behind the other. */
struct behind {
    struct sample *choice; /* [n] */
    double *logp;          /* [n] */
    int64_t n;
};

static void behind_free(struct behind *b)
{
    for (int64_t i = 0; b->choice && i < b->n; i++)
        sample_free(&b->choice[i]);
    free(b->choice);
    free(b->logp);
}

static bool behind_open(struct behind *b, const struct scoring *s, struct err *e)
{
    int64_t at = 0;
    bool ok;

    *b = (struct behind){0};
    for (int64_t i = 0; i < s->n; i++)
        b->n += (int64_t)s->samples[i].by.n_choices;
    b->choice = mem_new((size_t)b->n, sizeof *b->choice, "choices", e);
    b->logp = mem_new((size_t)b->n, sizeof *b->logp, "choices", e);
    ok = b->choice && b->logp;
    for (int64_t i = 0; ok && i < s->n; i++)
        for (size_t k = 0; ok && k < s->samples[i].by.n_choices; k++)
            ok = dataset_choice(&s->set->data, s->items[i].entry, &s->samples[i], k,
                                &b->choice[at++], e);
    if (!ok) behind_free(b);
    return ok;
}

static bool measure(struct behind *b, const struct scoring *s, struct err *e)
{
    const struct generator how = scoring_generator(s);
    struct token_score *each = NULL;
    struct prompts p;
    bool ok = prompts_open(&p, s, &(struct prompts_in){b->choice, b->n, .prompts = false}, e);

    if (!ok) return false;
    const struct batch *batch = &p.batch.batch;
    each = mem_new((size_t)batch->labels, sizeof *each, "scores of tokens", e);
    ok = each && model_score(&how, &p.f, each, e);
    for (int64_t i = 0, k = 0; ok && i < b->n; i++)
        for (; k < batch->labels && batch->label_rows[k] < batch->begin[i + 1]; k++)
            b->logp[i] -= each[k].loss;
    prompts_close(&p, s, ok);
    free(each);
    return ok;
}

static bool same_tokens(const struct sample *a, const struct sample *b)
{
    return a->n == b->n && a->prompt == b->prompt &&
           memcmp(a->ids, b->ids, (size_t)a->n * sizeof *a->ids) == 0;
}

/* Choices of equal tokens are equally likely: each takes the first one's log p, for how a product
 * rounds depends on what is computed together, and the last bits would choose among them. */
static void level(const struct sample *choice, double *logp, size_t n)
{
    for (size_t i = 1; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (same_tokens(&choice[i], &choice[k])) {
                logp[i] = logp[k];
                break;
            }
}

/* logp: of the sample's choices. */
static bool count(struct scoring *s, int64_t i, const double *logp, struct err *e)
{
    struct benchmark *by = &s->samples[i].by;
    struct metric_item lengths = {0}, item;
    struct metric_result r;

    by->logp = mem_new(by->n_choices, sizeof *by->logp, "choices", e);
    if (!by->logp) return false;
    memcpy(by->logp, logp, by->n_choices * sizeof *logp);
    r = benchmark_choose(by, &lengths);
    item = benchmark_item(by, &r, scoring_picture(s, i), s->samples[i].id);
    item.by_length = lengths.by_length;
    item.by_bytes = lengths.by_bytes;
    return scoring_count(s, i,
                         &(struct score){.n = 1, .right = r.score, .by_length = item.by_length},
                         &item, e) &&
           scoring_put_answer(s, i, r.extracted, &r, e);
}

bool choices_score(struct scoring *s, struct err *e)
{
    struct behind b;
    int64_t at = 0;
    bool ok = behind_open(&b, s, e);

    if (!ok) return false;
    ok = measure(&b, s, e);
    for (int64_t i = 0; ok && i < s->n; at += (int64_t)s->samples[i++].by.n_choices) {
        level(b.choice + at, b.logp + at, s->samples[i].by.n_choices);
        ok = count(s, i, b.logp + at, e);
    }
    behind_free(&b);
    return ok;
}
