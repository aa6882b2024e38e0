/* measured.c - metrics of likelihoods, of which there is no answer to score: choice, the likeliest
 * of some continuations, and tokens, those of a text that are the likeliest,
 * with their perplexity. */
#include "data/metric/metric_parts.h"

#include <math.h>

/* ---- choice ---- */

/* Code points, as Python's len() counts them. */
static double characters(struct text t)
{
    size_t n = 0;

    for (size_t i = 0; i < t.n; i++)
        n += ((unsigned char)t.s[i] & 0xc0) != 0x80;
    return (double)n;
}

static double bytes(struct text t)
{
    return (double)t.n;
}

static double one(struct text t)
{
    (void)t;
    return 1;
}

static size_t largest(const double *logp, const struct text *choices, size_t n,
                      double (*length)(struct text t))
{
    size_t best = 0;

    for (size_t i = 1; i < n; i++)
        if (logp[i] / length(choices[i]) > logp[best] / length(choices[best])) best = i;
    return best;
}

struct metric_choice metric_choose(const double *logp, const struct text *choices, size_t n)
{
    return (struct metric_choice){.taken = largest(logp, choices, n, one),
                                  .by_length = largest(logp, choices, n, characters),
                                  .by_bytes = largest(logp, choices, n, bytes)};
}

/* The mean of one of the items' values. */
#define MEAN(field)                                                                                \
    static bool mean_##field(const struct metric_item *items, size_t n, double *out,               \
                             struct err *e)                                                        \
    {                                                                                              \
        double sum = 0;                                                                            \
        (void)e;                                                                                   \
        for (size_t i = 0; i < n; i++)                                                             \
            sum += items[i].field;                                                                 \
        *out = sum / (double)n;                                                                    \
        return true;                                                                               \
    }                                                                                              \
    static bool each_##field(const struct metric_item *items, size_t n, struct metric_value *v,    \
                             size_t *k, struct err *e)                                             \
    {                                                                                              \
        (void)e;                                                                                   \
        for (*k = 0; *k < n; ++*k)                                                                 \
            v[*k] = (struct metric_value){items[*k].field, items[*k].cluster};                     \
        return true;                                                                               \
    }
MEAN(score)
MEAN(by_length)
MEAN(by_bytes)

const struct metric_figure choice_figures[] = {
    {"acc", .value = mean_score, .values = each_score, .most = 1},
    {"acc_norm", .value = mean_by_length, .values = each_by_length, .most = 1},
    {"acc_bytes", .value = mean_by_bytes, .values = each_by_bytes, .most = 1},
    {0}};

/* ---- tokens ---- */

struct sums {
    double right, tokens, loss;
};
static struct sums sums_of(const struct metric_item *items, size_t n)
{
    struct sums s = {0};

    for (size_t i = 0; i < n; i++) {
        s.right += items[i].score;
        s.tokens += items[i].tokens;
        s.loss += items[i].loss;
    }
    return s;
}

static bool right(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    const struct sums s = sums_of(items, n);

    (void)e;
    *out = s.tokens > 0 ? s.right / s.tokens : NAN;
    return true;
}

static bool perplexity(const struct metric_item *items, size_t n, double *out, struct err *e)
{
    const struct sums s = sums_of(items, n);

    (void)e;
    *out = s.tokens > 0 ? exp(s.loss / s.tokens) : NAN;
    return true;
}

/* Samples differ in length, so that neither is a mean over samples, but a function of a ratio of
 * two means. To first order its error is that of the mean of these values, which is the figure:
 * with R = sum of x / sum of t,  R + (x_i - R t_i) / (mean of t), times the
 * function's derivative. */
static bool each_right(const struct metric_item *items, size_t n, struct metric_value *v, size_t *k,
                       struct err *e)
{
    const struct sums s = sums_of(items, n);
    const double share = s.right / s.tokens, length = s.tokens / (double)n;

    (void)e;
    for (*k = 0; *k < n; ++*k)
        v[*k] = (struct metric_value){share + (items[*k].score - share * items[*k].tokens) / length,
                                      items[*k].cluster};
    return true;
}

static bool each_perplexity(const struct metric_item *items, size_t n, struct metric_value *v,
                            size_t *k, struct err *e)
{
    const struct sums s = sums_of(items, n);
    const double loss = s.loss / s.tokens, length = s.tokens / (double)n;

    (void)e;
    for (*k = 0; *k < n; ++*k)
        v[*k] = (struct metric_value){exp(loss) *
                                          (1 + (items[*k].loss - loss * items[*k].tokens) / length),
                                      items[*k].cluster};
    return true;
}

const struct metric_figure tokens_figures[] = {
    {"tokens_right", .value = right, .values = each_right, .most = 1},
    {"perplexity", .value = perplexity, .values = each_perplexity, .most = 1, .lower = true},
    {0}};
