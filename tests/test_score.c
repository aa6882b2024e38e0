/* test_score.c - sets with a metric through a whole run: what evaluate makes of them, and that
 * mha2mla-data score makes the same of the answers that it left. The model learns to say "Yes" to
 * everything, so that half of a yes-or-no set is right. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "base/json/jsonc.h"
#include "tests/program.h"

#include <math.h>

static void put(FILE *fp, void **state, int picture, const char *id, const char *answer,
                const char *more)
{
    fprintf(fp,
            "{\"id\":\"%s\",\"image\":\"%s/s/images/train-%06d.png\",\"conversations\":[{\"from\":"
            "\"human\",\"value\":\"<image>\\nWhat?\"},{\"from\":\"gpt\",\"value\":\"%s\"}]%s}\n",
            id, (const char *)*state, picture, answer, more);
}

static int setup(void **state)
{
    static const char *const files[] = {"train.jsonl", "pope.jsonl", "bench.jsonl", "pairs.jsonl"};
    FILE *fp[4];
    char id[40], more[200];

    if (program_setup(state) != 0) return -1;
    for (int i = 0; i < 4; i++) {
        fp[i] = fopen(tmpdir_path(state, files[i]), "w");
        assert_non_null(fp[i]);
    }
    for (int i = 0; i < 16; i++) {
        snprintf(id, sizeof id, "%d", i);
        put(fp[0], state, i, id, "Yes", "");
        snprintf(more, sizeof more, ",\"metric\":\"pope\",\"category\":\"%s\"",
                 i < 8 ? "random" : "popular");
        put(fp[1], state, i / 4, id, i % 2 ? "yes" : "no", more); /* four a picture */
        /* Eight questions of two rows each, far apart, of which one row is right for all. */
        snprintf(id, sizeof id, "b/%d", i < 8 ? i : 1000000 + i - 8);
        snprintf(more, sizeof more,
                 ",\"metric\":\"mmbench\",\"group\":\"%d\",\"choices\":[\"%s\",\"%s\"]", i % 8,
                 i < 8 ? "yes" : "no", i < 8 ? "no" : "yes");
        put(fp[2], state, i % 8, id, i < 8 || i % 4 == 0 ? (i < 8 ? "A" : "B") : "A", more);
        snprintf(id, sizeof id, "%d", i);
        snprintf(more, sizeof more, ",\"metric\":\"mme\",\"group\":\"g%d\",\"category\":\"count\"",
                 i % 8);
        put(fp[3], state, i % 8, id, i < 8 ? "Yes" : "No", more);
    }
    for (int i = 0; i < 4; i++)
        fclose(fp[i]);
    return 0;
}

#define RUN                                                                                        \
    "$B/mha2mla-train --config $C --set run.dir=$T/run "                                           \
    "--set 'data.train=[{\"path\":\"'$T'/train.jsonl\"}]' "                                        \
    "--set 'data.eval=[{\"path\":\"'$T'/pope.jsonl\",\"name\":\"pope\"},"                          \
    "{\"path\":\"'$T'/bench.jsonl\",\"name\":\"bench\",\"max_new_tokens\":3},"                     \
    "{\"path\":\"'$T'/pairs.jsonl\",\"name\":\"pairs\"}]' "                                        \
    "--set baseline.steps=60 --set baseline.lr=3e-3 --set sweep.low_rank=[4] "                     \
    "--set stage1.steps=2 --set stage2.steps=2 --set stage2.eval_every=0 "

static double figure(const cJSON *root, const char *set, const char *name, const char *what)
{
    const cJSON *s = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "sets"), set);
    const cJSON *f = cJSON_GetObjectItem(cJSON_GetObjectItem(s, "figures"), name);
    const cJSON *v = cJSON_GetObjectItem(f, what);

    if (!cJSON_IsNumber(v)) fail_msg("%s: %s has no %s", set, name, what);
    return v->valuedouble;
}

static void test_run(void **state)
{
    struct jsonc scores, again;
    struct err e;

    must_run(state, RUN);
    if (!jsonc_read(&scores, tmpdir_path(state, "run/base/scores.json"), 1 << 20, &e))
        fail_msg("%s", e.msg);
    assert_true(figure(scores.root, "pope", "pope_accuracy", "value") == 0.5);
    assert_true(figure(scores.root, "pope", "pope_recall", "value") == 1);
    assert_true(figure(scores.root, "pope", "pope_f1_score", "value") == 2.0 / 3);
    assert_true(figure(scores.root, "pope", "yes_answers", "value") == 1);
    /* Two of four are right with every picture: nothing is left of s^2 / n but that its s^2 divides
     * by n - 1. */
    assert_true(fabs(figure(scores.root, "pope", "pope_accuracy", "stderr") -
                     sqrt(4 * (1.0 / 240 - 1.0 / 256))) < 1e-12);
    assert_true(figure(scores.root, "bench", "gpt_eval_score", "value") == 25);
    assert_true(figure(scores.root, "bench", "vanilla", "value") == 100);
    assert_true(figure(scores.root, "pairs", "mme_perception_score", "value") == 50);
    must_run(state, "grep -q 'base: pope: pope_accuracy 0.5000 +- 0.0323, ' $T/run/train.log");
    must_run(state, "grep -q 'base: mean score ' $T/run/train.log");
    must_run(state,
             "grep -q '\"extracted\":\"yes\",\"metric\":\"pope\"' $T/run/base/answers.jsonl");

    must_run(state, "$B/mha2mla-data score $T/run/base/answers.jsonl --out $T/again.json > $T/say");
    assert_true(jsonc_read(&again, tmpdir_path(state, "again.json"), 1 << 20, &e));
    assert_true(cJSON_Compare(cJSON_GetObjectItem(scores.root, "sets"),
                              cJSON_GetObjectItem(again.root, "sets"), true));
    must_run(state, "grep -q 'random (8): pope_accuracy 0.5000' $T/say && ! grep nan $T/say");
    /* a link is written through; what is no file stays what it is */
    must_run(state, "cd $T && ln -s far.json near.json && cp again.json far.json && mkfifo pipe");
    assert_int_equal(run(state, "$B/mha2mla-data score $T/run/base/answers.jsonl --out "
                                "$T/near.json"),
                     1);
    must_say(state, "far.json: was not written by mha2mla-data, and would be overwritten");
    must_run(state, "rm $T/far.json && $B/mha2mla-data score $T/run/base/answers.jsonl "
                    "--metric exact --out $T/far.json && ! cmp -s $T/far.json $T/again.json");
    must_run(state, "$B/mha2mla-data score $T/run/base/answers.jsonl --out $T/near.json && "
                    "test -L $T/near.json && cmp $T/far.json $T/again.json");
    assert_int_equal(run(state, "$B/mha2mla-data score $T/run/base/answers.jsonl --out $T/pipe"),
                     1);
    must_say(state, "pipe: is a named pipe, a file is needed");
    must_run(state, "test -p $T/pipe");
    /* neither an input nor what somebody else made of it is replaced, by whatever name */
    must_run(state, "cd $T && ln -f pope.jsonl hard.json && cp hard.json kept.jsonl && "
                    "ln -s run/base/answers.jsonl soft.json");
    static const char *const over[] = {"--data $T/pope.jsonl --out $T/hard.json",
                                       "--against $T/run/base/answers.jsonl --out $T/soft.json"};
    for (int i = 0; i < 2; i++) {
        char line[300];
        snprintf(line, sizeof line, "$B/mha2mla-data score $T/train.jsonl %s", over[i]);
        assert_int_equal(run(state, line), 1);
        must_say(state, ": would be replaced by what is made of it: choose another place");
    }
    must_run(state, "cd $T && cmp pope.jsonl kept.jsonl && echo >> again.json");
    assert_int_equal(run(state, "$B/mha2mla-data score $T/run/base/answers.jsonl --out "
                                "$T/again.json"),
                     1);
    must_say(state, "again.json: was changed since mha2mla-data wrote it");
    assert_int_equal(run(state, "$B/mha2mla-data score x --metric exact --metric plain"), 1);
    must_say(state, "score: --metric is given twice");
    jsonc_close(&scores);
    jsonc_close(&again);

    must_run(state, "$B/mha2mla-data score $T/run/rope4-rank4/stage2/answers.jsonl "
                    "--against $T/run/base/answers.jsonl > $T/say");
    must_run(state, "grep -q 'against .*: 16 questions' $T/say && "
                    "grep -q '  pope_accuracy [+-]0.* against ' $T/say && "
                    "! grep 'pope_accuracy .*McNemar' $T/say"); /* four questions a picture */
    must_run(state, "grep -q '^| pope (16) | pope_recall | 1.0000 ' $T/run/report.md && "
                    "grep -q '^| mean of 3 sets, ' $T/run/report.md && "
                    "grep -q 'mean score  *cache' $T/run/train.log && "
                    "grep -q '^| rope4-rank4 | pope | pope_accuracy | 16 | ' $T/run/report.md && "
                    "grep -q 'rope4-rank4 against base: pope: 16 questions: pope_accuracy ' "
                    "$T/run/train.log && "
                    "grep -q '\"score_stderr\":' $T/run/metrics.jsonl");
    /* Every point of the curve has its error, in the table and in the picture's script. */
    must_run(state, "grep -q 'with yerrorbars' $T/run/recovery.gnuplot && "
                    "test -s $T/run/recovery.png && "
                    "! awk -F'\t' 'NR > 1 && $5 !~ /^[0-9.e-]+$/' $T/run/recovery.tsv | grep .");
    /* Whatever another program adds: the questions come from the data. */
    must_run(state, "sed 's/.*\"id\":\"\\([0-9]*\\)\".*\"answer\":\"\\([^\"]*\\)\".*/"
                    "{\"question_id\":\\1,\"text\":\"\\2\"}/' $T/run/base/answers.jsonl | head -16 "
                    "> $T/other.jsonl && "
                    "$B/mha2mla-data score $T/other.jsonl --data $T/pope.jsonl > $T/say");
    must_run(state, "grep -q 'pope_accuracy 0.5000 +- 0.0323, pope_precision 0.5000' $T/say");
    must_run(state,
             "$B/mha2mla-data score $T/other.jsonl --data $T/pope.jsonl --metric exact > $T/say");
    must_run(state, "grep -q 'exact_match 0.5000' $T/say");
    /* What is not one answer to each question is said, and names cannot control a terminal. */
    must_run(state,
             "sed 's/\"pope\",\"category\":\"random\"/\"plain\",\"x\":\"\"/' $T/pope.jsonl | "
             "head -8 > $T/plain.jsonl && head -7 $T/other.jsonl > $T/some.jsonl && "
             "head -2 $T/other.jsonl >> $T/some.jsonl && "
             "$B/mha2mla-data score $T/some.jsonl --data $T/plain.jsonl > $T/say");
    must_run(state,
             "grep -q 'some.jsonl (9): exact_match ' $T/say && "
             "grep -q 'note: .*some.jsonl: 2 answers have the set and id of an earlier one, "
             "and are counted; the first: \"0\"' $T/say && "
             "grep -q 'note: .*: 1 of the 8 questions of .*plain.jsonl has no answer, and is "
             "not counted; the first: \"7\"' $T/say");
    must_run(state,
             "head -7 $T/other.jsonl > $T/7.jsonl && sed -n 3,9p $T/other.jsonl > $T/n.jsonl "
             "&& $B/mha2mla-data score $T/7.jsonl --data $T/pope.jsonl --against $T/n.jsonl "
             "> $T/say && grep -q 'not compared: 2 answered there alone, 2 here alone' $T/say");
    must_run(state,
             "printf '{\"set\":\"a\\u001b[2J\",\"id\":1,\"answer\":\"x\",\"expected\":\"x\"}\\n"
             "{\"set\":\"b\",\"id\":1,\"answer\":\"x\",\"expected\":\"x\"}\\n' > $T/two.jsonl && "
             "head -1 $T/two.jsonl > $T/one.jsonl && "
             "$B/mha2mla-data score $T/one.jsonl --against $T/two.jsonl > $T/say");
    must_run(state, "grep -qF 'a\\x1b[2J (1): exact_match 1.0000' $T/say && "
                    "grep -q 'two.jsonl answers a set \"b\" (1) too' $T/say");
    must_run(state, "sed 's/expected\":\"x/expected\":\"y/' $T/one.jsonl > $T/y.jsonl");
    assert_int_equal(run(state, "$B/mha2mla-data score $T/one.jsonl --against $T/y.jsonl"), 1);
    must_say(state, "y.jsonl: \"1\": the two files compare it with other answers or options");
    /* A set without a name is that of the other file, if that has one; of other names it is not. */
    must_run(state,
             "grep '\"set\":\"pope\"' $T/run/base/answers.jsonl > $T/p.jsonl && "
             "for o in \"other.jsonl --against $T/p.jsonl\" \"p.jsonl --against "
             "$T/other.jsonl\"; do $B/mha2mla-data score $T/$o --data $T/pope.jsonl > $T/say && "
             "grep -q 'note: .*: its set is taken for that of the other' $T/say && "
             "grep -q '  pope_accuracy +0.0000 ' $T/say || exit 1; done");
    must_run(state, "sed 's/\"pope\"/\"p2\"/' $T/p.jsonl > $T/p2.jsonl");
    assert_int_equal(run(state, "$B/mha2mla-data score $T/p.jsonl --against $T/p2.jsonl"), 1);
    must_say(state, "p2.jsonl: has answers of the set \"p2\", and none of \"pope\": ");
}

/* By likelihood: the model says "Yes" to everything, so that of the options that are texts it takes
 * "Yes"; of letters, which it never saw, it takes any. */
static void test_options(void **state)
{
    must_run(state,
             "sed 's/\"metric\":\"pope\"/\"metric\":\"exact\",\"choices\":[\"No\",null,\"Yes\"]/;"
             "s/\"value\":\"no\"/\"value\":\"No\"/;s/\"value\":\"yes\"/\"value\":\"Yes\"/' "
             "$T/pope.jsonl > $T/choice.jsonl");
    must_run(state, "sed 's/\\[\"No\",null,\"Yes\"\\]/[\"Yes\",\"No\",\"Yes\"]/' $T/choice.jsonl > "
                    "$T/twins.jsonl && grep -q '\\[\"Yes\",\"No\",\"Yes\"\\]' $T/twins.jsonl");
    must_run(state, RUN "--set evaluate.score=options --set 'data.eval=["
                        "{\"path\":\"'$T'/twins.jsonl\",\"name\":\"twins\"},"
                        "{\"path\":\"'$T'/choice.jsonl\",\"name\":\"choice\"},"
                        "{\"path\":\"'$T'/bench.jsonl\",\"name\":\"bench\"}]'");
    must_run(state, "grep -q 'base: choice: exact_match 0.5000 ' $T/run/train.log && "
                    "grep -q 'base: bench: gpt_eval_score ' $T/run/train.log && "
                    "grep -q 'base: option right .*, by length ' $T/run/train.log && "
                    "test $(wc -l < $T/run/base/answers.jsonl) = 48");
    /* Equal options are equally likely to the last bit, and the first is the right one. */
    must_run(state, "grep -q 'base: twins: exact_match 0.5000 ' $T/run/train.log && "
                    "test $(grep '\"set\":\"twins\"' $T/run/base/answers.jsonl | "
                    "grep -c '\"logp\":\\[\\(-[0-9.e-]*\\),-[0-9.e-]*,\\1\\]') = 16");
    /* One unit, and what is taken is kept with its likelihoods, for others to score again. */
    must_run(state, "grep -q '^| right by length |' $T/run/report.md && "
                    "sed -n '/^| right by length |/,/^$/p' $T/run/report.md | grep -q ' % |' && "
                    "! sed -n '/^| right by length |/,/^$/p' $T/run/report.md | grep ' 0[.]'");
    must_run(state, "grep -q '\"answer\":\"Yes\",.*\"logp\":\\[-[0-9.e-]*,null,-[0-9.e-]*\\]' "
                    "$T/run/base/answers.jsonl");
    must_run(state, "$B/mha2mla-data score $T/run/base/answers.jsonl > $T/say && "
                    "grep -q '^choice (16): exact_match 0.5000 ' $T/say");
    must_run(state, "grep -q '^| rope4-rank4 | choice | exact_match | 16 | ' $T/run/report.md");
    must_fail(state, RUN "--set evaluate.score=options --set run.dir=$T/other",
              "data.eval pope: no usable sample is left to score");
    must_say(state, "pope.jsonl:1:1: has no \"choices\" to choose from: see");
    must_run(state, "sed 's/\"metric\":\"exact\",//' $T/choice.jsonl > $T/bare.jsonl");
    must_fail(state,
              RUN "--set evaluate.score=options --set run.dir=$T/other "
                  "--set 'data.eval=[{\"path\":\"'$T'/bare.jsonl\"}]'",
              "no usable sample is left to score");
    must_say(state, "bare.jsonl:1:1: has \"choices\", which are only read with a \"metric\"");
}

#define DRY(file, more)                                                                            \
    "$B/mha2mla-train --config $C --set run.dir=$T/dry --dry-run --set "                           \
    "'data.train=[{\"path\":\"'$T'"                                                                \
    "/train.jsonl\"}]' --set 'data.eval=[{\"path\":\"'$T'/" file "\",\"name\":\"bench\"" more      \
    "}]' "

/* Groups are taken whole: rows of a question, the questions of a pair; and a setting overrides. */
static void test_choice(void **state)
{
    struct jsonc scores;
    struct err e;

    must_run(state, RUN "--set evaluate.samples=6 --set evaluate.curve_samples=4 "
                        "--set 'run.steps=[\"baseline\",\"evaluate\"]' --set baseline.steps=1");
    must_run(state, "test $(grep -c '\"set\":\"bench\"' $T/run/base/answers.jsonl) = 6");
    must_run(state, "test $(grep '\"set\":\"bench\"' $T/run/base/answers.jsonl | "
                    "sed 's/.*\"group\":\"\\([0-9]*\\)\".*/\\1/' | sort | uniq -c | "
                    "grep -c '^ *2 ') = 3");
    must_run(state, "test $(grep -c '\"set\":\"pope\"' $T/run/base/answers.jsonl) = 6");
    must_fail(state, RUN "--set 'data.eval=[{\"path\":\"x\",\"metric\":\"bleu\"}]'",
              "data.eval[0].metric is \"bleu\"; allowed: plain, exact, ");
    /* Of a plain set there is a sum, and no figures. */
    must_run(state, RUN "--set evaluate.samples=2 --set 'run.steps=[\"baseline\",\"evaluate\"]' "
                        "--set baseline.steps=1 --set run.dir=$T/two --set 'data.eval=["
                        "{\"path\":\"'$T'/pope.jsonl\",\"name\":\"bare\",\"metric\":\"plain\"},"
                        "{\"path\":\"'$T'/pope.jsonl\",\"name\":\"full\"}]'");
    if (!jsonc_read(&scores, tmpdir_path(state, "two/base/scores.json"), 1 << 20, &e))
        fail_msg("%s", e.msg);
    assert_true(figure(scores.root, "full", "pope_accuracy", "value") >= 0);
    assert_null(cJSON_GetObjectItem(cJSON_GetObjectItem(scores.root, "sets"), "bare"));
    assert_non_null(cJSON_GetObjectItem(cJSON_GetObjectItem(scores.root, "kinds"), "bare"));
    jsonc_close(&scores);
    /* Half a pair is no picture of MME's, which is known before a model is scored. */
    must_fail(
        state,
        RUN "--set run.dir=$T/other --dry-run --set 'data.eval=[{\"path\":\"'$T'/pairs.jsonl\","
            "\"name\":\"pairs\",\"limit\":9}]'",
        "pairs.jsonl:2: its picture (\"group\") has 1 usable sample, and metric mme needs two of "
        "each: \"limit\" cuts the pair");
    must_run(state, "sed 12d $T/pairs.jsonl > $T/half.jsonl");
    must_fail(
        state, DRY("half.jsonl", ",\"limit\":15"),
        "half.jsonl:4: its picture (\"group\") has 1 usable sample, and metric mme needs two of "
        "each\n");
    must_run(state, "sed '3s/pope/anls/' $T/pope.jsonl > $T/mixed.jsonl");
    must_fail(state,
              RUN "--set 'data.eval=[{\"path\":\"'$T'/mixed.jsonl\"}]' --set run.dir=$T/other",
              "mixed.jsonl:3:1: metric \"anls\", and the samples before have \"pope\"");
    must_run(state, RUN "--set 'data.eval=[{\"path\":\"'$T'/mixed.jsonl\",\"metric\":\"plain\"}]' "
                        "--set run.dir=$T/other --dry-run");
}

/* A limit that leaves a question of MMBench some of its rows is refused; what a file has is said,
 * also where a limit cuts nothing usable. */
static void test_turns(void **state)
{
    must_fail(state, DRY("bench.jsonl", ",\"limit\":9"),
              "data.eval bench: \"limit\" cuts 7 of 8 questions, such as that of");
    must_fail(state, DRY("bench.jsonl", ",\"limit\":15"), "\"limit\" cuts 1 of 8 questions");
    must_fail(state, DRY("bench.jsonl", ",\"limit\":8"), "\"limit\" cuts 8 of 8 questions");
    must_fail(state, DRY("bench.jsonl", ",\"limit\":3"), "\"limit\" cuts 3 of 3 questions");
    must_run(state, "head -8 $T/bench.jsonl > $T/rows.jsonl");
    must_run(state, DRY("rows.jsonl", ",\"limit\":3") "> $T/dry.txt");
    must_run(state, DRY("bench.jsonl",
                        ",\"limit\":16") "> $T/dry.txt && ! grep -q 'rows than' $T/dry.txt");
    must_run(state,
             DRY("rows.jsonl", ",\"limit\":8") "> $T/dry.txt && grep -q 'data.eval bench: has "
                                               "one row of each question, none with its options "
                                               "turned: its gpt_eval_score and "
                                               "the like are those of single rows' $T/dry.txt");
    must_run(state, "sed 12d $T/bench.jsonl > $T/short.jsonl");
    must_run(state,
             DRY("short.jsonl", "") "> $T/dry.txt && grep -q 'data.eval bench: 1 of 8 questions "
                                    "have fewer rows than options, such as that of "
                                    ".*short.jsonl:4: they are' $T/dry.txt");
    must_run(state,
             DRY("short.jsonl", ",\"limit\":30") "> $T/dry.txt && grep -q '1 of 8' $T/dry.txt");
    must_run(state,
             "sed '12s/train-0/none-0/; 16s/mmbench/nothing/' $T/bench.jsonl > $T/bad.jsonl");
    for (int limit = 14; limit <= 16; limit++) {
        char command[600];
        snprintf(command, sizeof command, DRY("bad.jsonl", ",\"limit\":%d") "> $T/dry.txt", limit);
        must_run(state, command);
        must_run(state, "grep -q '2 of 8 questions have fewer rows than options' $T/dry.txt");
    }
}

/* Letters of one token are scored before a packed prompt is read, so exact prompts would measure
 * nothing; those of two, as of the test's own tokenizer, and texts would. */
static void test_letters(void **state)
{
#define OPTIONS "--set evaluate.score=options --set "
#define LETTERS OPTIONS "model.tokenizer=$T/letters --set "
    must_run(state, "$B/mha2mla-data tokenizer --out $T/letters $T/bench.jsonl");
    must_fail(
        state, DRY("bench.jsonl", "") LETTERS "'evaluate.caches=[\"q8\",\"q8+exact\"]'",
        "evaluate.caches[1]: \"q8+exact\" measures nothing: with evaluate.score \"options\" the "
        "options of bench are letters, of one token each, and are scored before anything that is "
        "packed is read: leave it out");
    must_fail(
        state, DRY("bench.jsonl", "") LETTERS "cache.latent=q8 --set cache.prompt=exact",
        "cache.prompt: \"exact\" measures nothing: with evaluate.score \"options\" the options of "
        "bench are letters");
    must_run(state, DRY("bench.jsonl", "") LETTERS "'evaluate.caches=[\"q8\"]'");
    must_run(state, DRY("bench.jsonl", "") OPTIONS "'evaluate.caches=[\"q8+exact\"]'");
    must_run(state, "head -8 $T/bench.jsonl | sed 's/\"value\":\"A\"/\"value\":\"yes\"/; "
                    "s/\"value\":\"B\"/\"value\":\"no\"/' > $T/texts.jsonl");
    must_run(state, DRY("texts.jsonl", ",\"metric\":\"exact\"") LETTERS
             "'evaluate.caches=[\"q8+exact\"]'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_run, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_options, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_choice, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_turns, setup, tmpdir_remove),
        cmocka_unit_test_setup_teardown(test_letters, setup, tmpdir_remove),
    };

    return cmocka_run_group_tests_name("score", tests, NULL, NULL);
}
