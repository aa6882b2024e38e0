/* metric_scored.h - metrics applied to strings of a test. Include cmocka's headers first. */
#ifndef TESTS_METRIC_SCORED_H
#define TESTS_METRIC_SCORED_H

#include "data/metric/metric.h"

#include <string.h>

static inline struct text literal(const char *s)
{
    return (struct text){(char *)(uintptr_t)s, s ? strlen(s) : 0}; /* is only read */
}

/* The caller frees the result. */
static inline struct metric_result scored(const char *metric, const struct metric_sample *s)
{
    const struct metric *m = metric_find(metric);
    struct metric_result r;
    struct err e = {0};

    if (!m) fail_msg("there is no metric %s", metric);
    if (!metric_score(m, s, &r, &e)) fail_msg("%s: %s", metric, e.msg);
    assert_true(r.score >= 0 && r.score <= 1);
    return r;
}

#endif
