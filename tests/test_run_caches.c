/* test_run_caches.c - evaluate.caches and cache.*: what a run leaves of each kind of cache, that
 * none is scored twice, and what is refused. */
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
#define CACHES                                                                                     \
    "--set 'evaluate.caches=[\"f32\",\"bf16\",\"q8+q4\",\"q8+q4+rotate\"]' --set "                 \
    "data.eval[1].limit=3 "

/* The bytes of a token: two layers, two heads of 16 dims. FULL: 32 keys and 32 values; MLA: 2
 * rotated heads of 4, and a latent of 8. Blocks are filled up: q8 has 34 bytes for 32
 * values, q4 36 for 64. */
static void test_scored_with_each(void **state)
{
    static const struct {
        const char *dir;
        int bytes;
    } of[] = {{"base", 2 * 64 * 4},
              {"base/cache-bf16", 2 * 64 * 2},
              {"base/cache-q8+q4", 2 * (34 + 36)},
              {"rope4-rank4/stage2", 2 * 16 * 4},
              {"rope4-rank4/svd/cache-bf16", 2 * 16 * 2},
              {"rope4-rank4/stage2/cache-q8+q4", 2 * (34 + 36)},
              {"rope4-rank4/stage2/cache-q8+q4+rotate", 2 * (34 + 36)}};
    char command[400];

    must_run(state, RUN CACHES);
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        const char *kind = strstr(of[i].dir, "cache-");
        snprintf(command, sizeof command,
                 "set -- $(tr -d ',' < $T/run/%s/scores.json | awk '/\"cached_tokens\"/ {t = $2} "
                 "/\"cache_bytes\"/ {print $2 / t} /\"cache\"/ {print $2}') && "
                 "test \"$1 $2\" = '\"%s\" %d' && test -s $T/run/%s/answers.jsonl",
                 of[i].dir, kind ? kind + 6 : "f32", of[i].bytes, of[i].dir);
        must_run(state, command);
    }
    /* the original has no latents, stage 1 is not scored so, and its own kind not twice */
    must_run(state, "test $(ls -d $T/run/*/cache-* $T/run/*/*/cache-* | wc -l) = 8");
    must_run(state,
             "grep -q '\"point\":\"rope4-rank4\",\"phase\":\"stage2\",\"event\":\"cache-q8+q4\""
             ".*\"bytes_per_token\":140' $T/run/metrics.jsonl");
    must_run(state, "grep -q '^| rope4-rank4 stage 2 | q8+q4+rotate | 140 | 54.69 % |' "
                    "$T/run/report.md && grep -q '^| base | f32 | 512 | 200.00 % |.*|  |$' "
                    "$T/run/report.md && test $(grep -c 'base$' $T/run/caches.tsv) = 3");
    must_run(state, "cat $T/run/train.log > $T/was");
    must_run(state, RUN CACHES "--resume"); /* all is there */
    must_run(state,
             "! tail -n +$(($(wc -l < $T/was) + 1)) $T/run/train.log | grep -q 'of cache a token'");
    must_run(state, RUN "--set 'evaluate.caches=[\"q2\",\"kivi4k+kivi4v+exact\"]' --set "
                        "data.eval[1].limit=3 --resume");
    must_run(state, "test -s $T/run/base/cache-q2/scores.json && "
                    "test -s $T/run/base/cache-kivi4k+kivi4v+exact/scores.json");
    must_run(state, "test -s $T/run/caches.tsv");
    must_run(state, RUN "--set data.eval[1].limit=3 --resume"); /* of no other kind */
    must_run(state, "! ls $T/run | grep caches");
}

/* The dry run says them beforehand: those of each model, and nothing where all is f32. */
static void test_foretold(void **state)
{
    must_run(state,
             RUN "--dry-run " CACHES "> $T/dry && grep -q '^-- cache of a token as it is scored' "
                 "$T/dry && grep -Eq '^base +140 +54.69 % q8\\+q4$' $T/dry && "
                 "grep -Eq '^rope4-rank4 +64 +25.00 % bf16$' $T/dry && "
                 "test $(grep -c 'q8+q4+rotate$' $T/dry) = 1");
    must_run(state,
             RUN "--dry-run --set cache.rope=q8 --set cache.latent=q4 --set cache.rotate=true > "
                 "$T/dry && grep -Eq '^rope4-rank4 +140 +54.69 % q8\\+q4\\+rotate$' $T/dry");
    must_run(state, RUN "--dry-run > $T/dry && ! grep -q 'as it is scored' $T/dry");
}

/* cache.* is how a model with latents is held in its own scores, and while it is trained. */
static void test_own(void **state)
{
    must_run(state, RUN "--set cache.rope=q8 --set cache.latent=q4 --set cache.rotate=true --set "
                        "'evaluate.caches=[\"q8+q4+rotate\",\"q8\"]' --set data.eval[1].limit=3");
    must_run(state,
             "grep -q '\"cache\":.*\"q8+q4+rotate\"' $T/run/rope4-rank4/stage2/scores.json && "
             "grep -q '\"cache\":.*\"f32\"' $T/run/base/scores.json && "
             "test $(ls -d $T/run/*/*/cache-* | wc -l) = 2 && "
             "grep -q '\"event\":\"eval\".*\"bytes_per_token\":140' $T/run/metrics.jsonl && "
             "grep -q 'in fp32, of latents in q8+q4+rotate' $T/run/report.md");
}

/* Of 2 * 3 dims of a latent no block can be rotated: such a kind is none of its own. */
static void test_idle(void **state)
{
#define IDLE                                                                                       \
    "--set sweep.low_rank=[3] --set cache.latent=q8 --set cache.rotate=true --set "                \
    "'evaluate.caches=[\"q8+q4+rotate\",\"q8+q4\"]' --set data.eval[1].limit=3 "
    must_run(state, RUN IDLE "--dry-run > $T/dry && grep -q '^rope4-rank3: q8+q4+rotate is left "
                             "out: of its latents' $T/dry && ! grep -q '% q8+q4+rotate' $T/dry && "
                             "grep -q '^rope4-rank3: cache.rotate changes nothing: of' $T/dry");
    must_run(state, RUN IDLE);
    must_run(state, "grep -q 'stage2: not scored with q8+q4+rotate: of its' $T/run/train.log && "
                    "grep -q 'stage2: cache.rotate changes nothing: of its' $T/run/train.log && "
                    "grep -q '\"cache\":.*\"f32+q8\"' $T/run/rope4-rank3/stage2/scores.json && "
                    "test -d $T/run/rope4-rank3/stage2/cache-q8+q4 && "
                    "test ! -e $T/run/rope4-rank3/stage2/cache-q8+q4+rotate");
}

/* Where nothing is scored, the kinds are not used, nor foretold; and in what the table is less. */
static void test_unused(void **state)
{
    must_run(state,
             RUN "--dry-run --set 'run.steps=[\"baseline\",\"rank\",\"svd\"]' --set "
                 "cache.latent=q8 " CACHES "> $T/dry && ! grep -q 'as it is scored' $T/dry "
                 "&& grep -q '^not used: evaluate.caches, cache.\\*, for run.steps has none' "
                 "$T/dry");
    must_run(state, RUN "--dry-run --set 'evaluate.caches=[\"kivi4k+kivi4v+exact\",\"h2o:0.5\"]' "
                        "> $T/dry && grep -q 'more with KIVI' $T/dry && "
                        "grep -q 'more with h2o and tova' $T/dry");
}

/* Choices are given with their contexts. */
static void test_choices(void **state)
{
    must_run(state, "echo '{\"context\":\"What is it?\",\"choices\":[\"a cat\",\"a dog\"],"
                    "\"label\":1}' > $T/choices.jsonl");
    must_fail(state,
              RUN "--dry-run --set evaluate.score=options --set 'data.eval=[{\"path\":"
                  "\"'$T'/choices.jsonl\"}]' --set 'evaluate.caches=[\"q8+exact\"]'",
              "evaluate.caches[0]: \"q8+exact\" measures nothing: with evaluate.score \"options\"");
}

/* Training reads what the cache will hold: other models, not of the other steps; the dry run and
 * the report say so; interrupted and gone on with, the same model. */
static void test_trained(void **state)
{
#define PACKED RUN "--set stage2.cache=q8+q2+rotate --set data.eval[1].limit=3 "
#define STAGE2 "rope4-rank4/stage2/model/model.safetensors"
    must_run(state, PACKED "--dry-run > $T/dry && grep -q '^stage2: attention reads tokens as a "
                           "cache in q8+q2+rotate holds them, with straight-through' $T/dry");
    must_run(state, RUN "--set data.eval[1].limit=3");
    must_run(state, "mv $T/run $T/plain");
    must_run(state, PACKED);
    must_run(state,
             "grep -q 'stage2: attention reads tokens as a cache in q8+q2+rotate holds them' "
             "$T/run/train.log && grep -q ', on what a cache in q8+q2+rotate holds' "
             "$T/run/report.md && ! grep -q 'on what a cache' $T/plain/report.md");
    must_run(state, "cmp $T/run/rope4-rank4/svd/model/model.safetensors "
                    "$T/plain/rope4-rank4/svd/model/model.safetensors && "
                    "! cmp -s $T/run/" STAGE2 " $T/plain/" STAGE2);
    must_run(state, "cp $T/run/" STAGE2 " $T/want && cd $T/run/rope4-rank4/stage2 && "
                    "rm -r model checkpoints/step-00000012*");
    must_run(state, PACKED "--resume");
    must_run(state, "cmp $T/want $T/run/" STAGE2);
    must_fail(state, RUN "--set data.eval[1].limit=3 --resume", "stage2.cache");
}

/* With nothing to rotate, that is said; and that a setting is not used without stage 2. */
static void test_trained_said(void **state)
{
#define VAIN                                                                                       \
    RUN IDLE "--set 'evaluate.caches=[]' --set cache.rotate=false --set stage2.cache=q8+rotate "
#define IS_VAIN "'^\\(.* \\)\\?rope4-rank3 stage2: its rotation changes nothing: of its' "
    must_run(state, VAIN "--dry-run > $T/dry && grep -q " IS_VAIN "$T/dry");
    must_run(state, VAIN);
    must_run(state, "grep -q " IS_VAIN "$T/run/train.log");
    must_run(state, RUN "--dry-run --set 'run.steps=[\"baseline\",\"rank\",\"svd\"]' --set "
                        "stage2.cache=q8 > $T/dry && ! grep -q 'attention reads' $T/dry && "
                        "grep -q '^not used: .*stage2.*, for run.steps lacks' $T/dry");
}

/* A kind that is trained for and in no score is said, in the dry run and the log; one that is in a
 * score, once what rotates nothing is left out, is not. */
static void test_trained_unscored(void **state)
{
#define UNSCORED "stage2: no score is over such a cache: neither cache.\\* nor evaluate.caches is "
#define TOWARDS                                                                                    \
    RUN "--set sweep.low_rank=[3] --set data.eval[1].limit=3 --set stage2.cache=q8+q2+rotate "
    static const char *const scored[] = {
        "cache.rope=q8 --set cache.latent=q2", "'evaluate.caches=[\"q4\",\"q8+q2\"]'",
        "data.eval=[] --set 'run.steps=[\"baseline\",\"rank\",\"svd\",\"stage2\"]'"};
    char line[900];

    must_run(
        state, TOWARDS
        "--dry-run --set 'evaluate.caches=[\"q8\"]' > $T/dry && grep -q '^rope4-rank3 " UNSCORED
        "' $T/dry");
    must_run(state, TOWARDS "&& grep -q 'rope4-rank3 " UNSCORED "' $T/run/train.log");
    for (int i = 0; i < 3; i++) {
        snprintf(line, sizeof line,
                 TOWARDS "--dry-run --set run.dir=$T/run%d --set %s > $T/dry && "
                         "! grep -q '" UNSCORED "' $T/dry && grep -q 'attention reads' $T/dry",
                 i, scored[i]);
        must_run(state, line);
    }
}

/* A tensor of the model in $T/large, `times` as large. */
static void enlarge(void *const *state, const char *tensor, float times)
{
    const char *path = tmpdir_path(state, "large/model.safetensors");
    long long begin, end;
    uint64_t header = 0;
    size_t len;
    char *text = slurp(path, &len);
    char *at = strstr(text + 8, tensor);

    memcpy(&header, text, sizeof header);
    assert_non_null(at);
    assert_non_null(at = strstr(at, "data_offsets"));
    assert_int_equal(sscanf(at, "data_offsets\":[%lld,%lld]", &begin, &end), 2);
    for (long long i = begin; i < end; i += (long long)sizeof(float)) {
        float v;
        memcpy(&v, text + 8 + header + i, sizeof v);
        v *= times;
        memcpy(text + 8 + header + i, &v, sizeof v);
    }
    spill(path, text, len);
    free(text);
}

/* A row that its kind cannot hold is named, by layer, value and limit. A loss that is no number is
 * blamed on no kind, and its NaN has no sign. */
static void test_trained_too_large(void **state)
{
#define LARGE                                                                                      \
    RUN "--set model.path=$T/large --set run.dir=$T/no --set "                                     \
        "'run.steps=[\"rank\",\"svd\",\"stage2\"]' --set data.eval=[] "
    must_run(state, RUN "--set 'run.steps=[\"baseline\"]' && cp -r $T/run/baseline/model $T/large");
    enlarge(state, "layers.1.self_attn.k_proj.weight", 1e6f);
    must_fail(state, LARGE "--set stage2.cache=q8", "stage2: a rotated key of layer 1 became ");
    must_say(state,
             ", and q8, as stage2.cache packs it, holds up to 65504, at step 1, before the first "
             "checkpoint: try a smaller lr, or bf16 there, which holds all");
    must_fail(state, LARGE "--set stage2.cache=bf16+q4+rotate --resume", "stage2.cache");
    must_run(state, "rm -r $T/no");
    must_fail(state, LARGE "--set stage2.cache=bf16+q4+rotate",
              "stage2: a key or latent of layer 1 became ");
    must_say(state, ", and q4, as stage2.cache packs it, holds up to 65504, at step 1");
    must_run(state, "rm -r $T/no");
    must_run(state, LARGE "--set stage2.cache=bf16");
    enlarge(state, "model.norm.weight", 2e38f);
    must_fail(
        state, LARGE "--set 'run.steps=[\"baseline\"]' --set run.dir=$T/no2",
        "baseline: the loss became nan at step 1, before the first checkpoint: try a smaller lr");
}

static void test_refused(void **state)
{
    static const struct {
        const char *set, *says;
    } bad[] = {
        {"evaluate.caches=[\\\"q3\\\"]",
         "evaluate.caches[0]: \"q3\" is no kind of cache; there are f32"},
        {"evaluate.caches=[\\\"q8+q4+q2\\\"]", "\"q8+q4+q2\" is no kind of cache"},
        {"evaluate.caches=[\\\"rotate\\\"]", "\"rotate\" is no kind of cache"},
        {"evaluate.caches=[\\\"q8+\\\"]", "\"q8+\" is no kind of cache"},
        {"evaluate.caches=[\\\"q8\\\",\\\"q8+q8\\\"]",
         "evaluate.caches[1]: \"q8+q8\" is the same as evaluate.caches[0]"},
        {"evaluate.caches=[\\\"q8+bf16+rotate\\\"]",
         "evaluate.caches[0]: \"q8+bf16+rotate\": latents in bf16 need no rotation"},
        {"evaluate.caches=[\\\"kivi4k+kivi4v\\\"]", "evaluate.caches[0]: \"kivi4k+kivi4v\": kivi4k "
                                                    "packs runs of tokens, of which a prompt's "},
        {"evaluate.caches=[\\\"f32+exact\\\"]", "\"f32+exact\": nothing is packed, so"},
        {"evaluate.caches=[\\\"kivi4v+kivi4k+exact\\\"]",
         "\"kivi4v+kivi4k+exact\": kivi4k packs channels over runs of tokens, which is for keys"},
        {"evaluate.caches=[\\\"q3\\\"]", "quanto2, hqq4 and hqq2, as in q8+q4"},
        {"evaluate.caches=[\\\"q8+exact\\\"]\" --set \"evaluate.score=tokens",
         "evaluate.caches[0]: \"q8+exact\" measures nothing: with evaluate.score \"tokens\" a "
         "text"},
        {"cache.latent=q8\" --set \"cache.prompt=exact\" --set \"evaluate.score=tokens",
         "cache.prompt: \"exact\" measures nothing: with evaluate.score \"tokens\" a text is "
         "given"},
        {"stage2.cache=q3", "stage2.cache: \"q3\" is no kind of cache; there are f32"},
        {"stage2.cache=h2o:0.5", "stage2.cache: \"h2o:0.5\" holds a token by what else is in the "},
        {"stage2.cache=kivi4k+kivi4v+exact", "and training packs each by itself: give a kind such"},
        {"stage2.cache=q8+exact", "stage2.cache: with \"q8+exact\" a text that is given at once"},
        {"stage2.cache=f32", "stage2.cache: \"f32\" packs nothing: set it to null"},
        {"stage2.cache=q8\" --set \"run.steps=[\\\"svd\\\"]\" --set \"stage2.cache=q3",
         "stage2.cache: \"q3\" is no kind of cache"},
        {"cache.prompt=exact", "cache.prompt: in f32 prompts are exact in any case"},
        {"cache.rotate=true",
         "cache.rotate: latents in f32 need no rotation: set it to false, or "},
    };
    char command[300];

    must_fail(state,
              RUN "--dry-run --set evaluate.score=options --set "
                  "'evaluate.caches=[\"kivi4k+kivi4v+exact\"]'",
              "\"kivi4k+kivi4v+exact\" cannot be taken back from one option to the next");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(command, sizeof command, RUN "--dry-run --set \"%s\"", bad[i].set);
        must_fail(state, command, bad[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        program_test(test_scored_with_each),
        program_test(test_foretold),
        program_test(test_own),
        program_test(test_idle),
        program_test(test_unused),
        program_test(test_choices),
        program_test(test_trained),
        program_test(test_trained_said),
        program_test(test_trained_unscored),
        program_test(test_trained_too_large),
        program_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
