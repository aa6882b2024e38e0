/* test_run_evict.c - rules of eviction among evaluate.caches: the base model is scored with each,
 * and what is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/tmpdir.h"

#include "tests/program.h"

#define RUN "$B/mha2mla-train --config $C --set sweep.low_rank=[4] "
#define RULES "--set 'evaluate.caches=[\"h2o:0.5\",\"tova:0.25\",\"tova:1\"]' "

/* Two layers, two heads of 16 dims, 32 keys and values each: 512 bytes a token, of which the share
 * is left, rounded up to whole tokens of each sequence; tova:1 keeps all, and answers the same. */
static void test_scored(void **state)
{
    static const struct {
        const char *dir;
        double least, most; /* bytes a token: sequences of at least 20 tokens round up by 1/20 */
    } of[] = {{"base", 512, 512},
              {"base/cache-h2o:0.5", 256, 256 + 26},
              {"base/cache-tova:0.25", 128, 128 + 26},
              {"base/cache-tova:1", 512, 512},
              {"rope4-rank4/svd", 128, 128}};
    char command[500];

    must_run(state, RUN RULES "--set 'run.steps=[\"baseline\",\"rank\",\"svd\",\"evaluate\"]'");
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        snprintf(
            command, sizeof command,
            "set -- $(tr -d ',' < $T/run/%s/scores.json | awk '/\"cached_tokens\"/ {t = $2} "
            "/\"cache_bytes\"/ {b = $2 / t; print (b >= %g && b <= %g), b}') && test $1 = 1 || "
            "{ echo %s: $2; exit 1; }",
            of[i].dir, of[i].least, of[i].most, of[i].dir);
        must_run(state, command);
    }
    must_run(state, "cd $T/run && cmp base/answers.jsonl base/cache-tova:1/answers.jsonl && "
                    "test -s base/cache-h2o:0.5/answers.jsonl");
    must_run(state, "grep -q '\"event\":\"cache-h2o:0.5\"' $T/run/metrics.jsonl");
    /* of the original alone */
    must_run(state, "test $(ls -d $T/run/*/cache-* $T/run/*/*/cache-* | wc -l) = 3");
    must_fail(
        state,
        "$B/mha2mla-train --config $C --set model.path=$T/run/rope4-rank4/svd/model --set "
        "run.dir=$T/again --set 'run.steps=[\"evaluate\"]' --set model.tokenizer=null " RULES,
        "evaluate.caches[0]: a cache \"h2o:0.5\" takes tokens out of the original's, and this");
    must_run(state, "test ! -e $T/again");
}

static void test_refused(void **state)
{
    static const char *const bad[][2] = {
        {"evaluate.caches=[\\\"h2o:0\\\"]",
         "evaluate.caches[0]: \"h2o:0\": the share of the tokens that stay must be above 0"},
        {"evaluate.caches=[\\\"tova:1.5\\\"]", "must be above 0 and at most 1"},
        {"evaluate.caches=[\\\"h2o:0.5\\\",\\\"h2o:0.50\\\"]",
         "evaluate.caches[1]: \"h2o:0.50\" is the same as evaluate.caches[0]"},
        {"evaluate.caches=[\\\"h2o:0.5\\\"]\" --set \"evaluate.score=tokens",
         "evaluate.caches[0]: \"h2o:0.5\" takes tokens out while an answer is generated, and "
         "evaluate.score \"tokens\" generates none"},
    };
    char command[300];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(command, sizeof command, RUN "--dry-run --set \"%s\"", bad[i][0]);
        must_fail(state, command, bad[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {program_test(test_scored), program_test(test_refused)};

    return cmocka_run_group_tests_name("run evict", tests, NULL, NULL);
}
