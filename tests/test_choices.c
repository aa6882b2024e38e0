/* test_choices.c - sets of a context and choices: what the importer asks of documents and what is
 * made of log-likelihoods, as lm-evaluation-harness has it (tests/data/lm_eval/make_golden.py);
 * tokens, scores and answers.jsonl of a run; and sets that are wrong. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/answers.h"
#include "data/metric/metric.h"
#include "tests/sample_set.h"

#include <cjson/cJSON.h>
#include <math.h>

#include "tests/program.h"

/* ---- the importer ---- */

static const char *const tasks[] = {"hellaswag", "arc", "piqa", "openbookqa", "winogrande", "mmlu"};

static const char *line_end(const char *at)
{
    return at + strcspn(at, "\n") + 1;
}

static void test_import(void **state)
{
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++) {
        char line[200], path[200], *got, *want;

        snprintf(line, sizeof line,
                 "$B/mha2mla-data import %s tests/data/lm_eval/%s.docs.jsonl --out $T/o", tasks[i],
                 tasks[i]);
        must_run(state, line);
        must_say(state, "evaluate.score \"options\"");
        snprintf(path, sizeof path, "o/%s.jsonl", tasks[i]);
        got = slurp(tmpdir_path(state, path), NULL);
        snprintf(path, sizeof path, "tests/data/lm_eval/%s.asked.jsonl", tasks[i]);
        want = slurp(path, NULL);
        const char *a = got, *b = want;
        for (; *a && *b; a = line_end(a), b = line_end(b)) {
            cJSON *x = cJSON_Parse(a), *y = cJSON_Parse(b);
            assert_true(x && y && cJSON_GetObjectItem(x, "id"));
            cJSON_DeleteItemFromObject(x, "id");
            cJSON_DeleteItemFromObject(x, "category"); /* mmlu's subject */
            if (!cJSON_Compare(x, y, true))
                fail_msg("%s: %.*s\nnot %.*s", tasks[i], (int)(line_end(a) - a), a,
                         (int)(line_end(b) - b), b);
            cJSON_Delete(x);
            cJSON_Delete(y);
        }
        assert_true(!*a && !*b);
        free(got);
        free(want);
    }
}

/* ---- scores ---- */

static void test_scores(void **state)
{
    char *text = slurp("tests/data/lm_eval/scores.jsonl", NULL);
    struct answers a;
    struct err e;
    size_t i = 0;

    (void)state;
    must(answers_open(&a, "tests/data/lm_eval/scores.jsonl", NULL, NULL, &e), &e);
    assert_int_equal(a.n, 200);
    for (const char *at = text; *at; at = line_end(at), i++) {
        cJSON *line = cJSON_Parse(at), *want = cJSON_GetObjectItem(line, "want");
        const struct metric_item *got = &a.v[i].item;
        assert_true(got->score == cJSON_GetObjectItem(want, "acc")->valuedouble);
        assert_true(got->by_length == cJSON_GetObjectItem(want, "acc_norm")->valuedouble);
        assert_true(got->by_bytes == cJSON_GetObjectItem(want, "acc_bytes")->valuedouble);
        cJSON_Delete(line);
    }
    answers_close(&a);
    free(text);
}

/* ---- tokens ---- */

static const char good[] =
    "{\"id\":\"a\",\"context\":\"What is it? \",\"choices\":[\"a cat\",\"a\"],\"label\":1}\n"
    "{\"id\":\"b\",\"contexts\":[\"One\",\"The other one\"],\"continuation\":\"is "
    "it.\",\"label\":0}\n"
    "{\"id\":\"c\",\"question\":\"What\",\"choices\":[\"is it\",\"one\",\"two\"],\"label\":2,"
    "\"category\":\"k\"}\n";

static void open_choices(struct set *t, void *const *state, const char *json)
{
    struct err e;

    set_init(t, state);
    t->o.asked = t->o.choices = true;
    must(set_open(t, state, json, &e), &e);
}

/* The context and the choice of sample i, as the tokenizer has them. */
static void test_tokens(void **state)
{
    static const struct {
        int i, k;
        const char *text;
    } cases[] = {{0, 0, "What is it?|  a cat"}, /* the blank at the context's end goes on */
                 {0, 1, "What is it?|  a"},
                 {1, 0, "One| is it."},
                 {1, 1, "The other one| is it."},
                 {2, 2, "What| two"}};
    struct set t;
    struct err e;

    open_choices(&t, state, good);
    assert_int_equal(t.d.n, 3);
    assert_int_equal(t.d.entries[1].sequences, 2);
    assert_int_equal(t.d.entries[2].sequences, 3);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct sample s, choice;
        struct tokens whole = {0}, head = {0};
        struct tokenizer_scratch *sc = tokenizer_scratch_new(t.tk, &e);
        char text[100];
        const size_t cut = strcspn(cases[c].text, "|");

        must(dataset_sample(&t.d, cases[c].i, &s, &e), &e);
        must(dataset_choice(&t.d, cases[c].i, &s, (size_t)cases[c].k, &choice, &e), &e);
        snprintf(text, sizeof text, "%.*s%s", (int)cut, cases[c].text, cases[c].text + cut + 1);
        must(sc && tokenizer_encode(t.tk, sc, text, strlen(text), true, &whole, &e) &&
                 tokenizer_encode(t.tk, sc, text, cut, true, &head, &e),
             &e);
        assert_int_equal(choice.n, whole.n);
        assert_int_equal(choice.prompt, head.n);
        for (int64_t k = 0; k < choice.n; k++) {
            assert_int_equal(choice.ids[k], whole.v[k].id);
            assert_int_equal(choice.trained[k], k >= choice.prompt);
        }
        tokens_free(&whole);
        tokens_free(&head);
        tokenizer_scratch_free(sc);
        sample_free(&choice);
        sample_free(&s);
    }
    set_close(&t);
}

static void test_refuses(void **state)
{
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"{\"context\":\"a\",\"choices\":[\"b\",\"c\"]}", "1:1: \"label\" is missing"},
        {"{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"label\":2}", "one of 2 choices"},
        {"{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"label\":\"1\"}",
         "\"label\" must be the number"},
        {"{\"context\":\"a\",\"choices\":[\"b\"],\"label\":0}", "has 1 choices: from 2 to 26"},
        {"{\"context\":\"a\",\"choices\":[\"b\",\"\"],\"label\":0}", "choice 1 is empty"},
        {"{\"context\":\"a\",\"choices\":[\"b\",null],\"label\":0}", "must be a list of strings"},
        {"{\"choices\":[\"b\",\"c\"],\"label\":0}", "need a \"context\" or \"question\""},
        {"{\"contexts\":[\"b\",\"c\"],\"label\":0}", "needs \"continuation\""},
        {"{\"contexts\":[\"b\",\"c\"],\"context\":\"a\",\"label\":0}", "has both \"contexts\" and"},
        {"{\"context\":\"a\",\"question\":\"a\",\"choices\":[\"b\",\"c\"],\"label\":0}",
         "has both"},
        {"{\"context\":\"a\",\"choices\":[\"b\",\"c\"],\"label\":0,\"metric\":\"exact\"}",
         "\"metric\""},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct set t;
        open_choices(&t, state, cases[i].line);
        assert_int_equal(t.d.n, 0);
        assert_int_equal(t.d.dropped[DROP_BROKEN], 1);
        if (!strstr(t.d.first_dropped[DROP_BROKEN], cases[i].why))
            fail_msg("%s: %s", cases[i].why, t.d.first_dropped[DROP_BROKEN]);
        set_close(&t);
    }
}

/* ---- a run ---- */

static void write_run(void *const *state)
{
    FILE *fp = fopen(tmpdir_path(state, "choices.jsonl"), "w");

    assert_non_null(fp);
    for (int i = 0; i < 9; i++)
        fprintf(fp,
                "{\"id\":\"%d\",\"context\":\"The %s is %s and the %s is\",\"choices\":[\"red\","
                "\"green and big\",\"a%.*s\"],\"label\":%d}\n",
                i, i % 2 ? "cat" : "dog", i % 3 ? "red" : "blue", i % 2 ? "dog" : "cat", i,
                " cat cat cat", i % 3);
    assert_int_equal(fclose(fp), 0);
    fp = fopen(tmpdir_path(state, "twins.jsonl"), "w");
    assert_non_null(fp);
    for (int i = 0; i < 9; i++)
        fprintf(
            fp,
            "{\"id\":\"%d\",\"context\":\"The %s is%.*s\",\"choices\":[\"red and big\",\"green\","
            "\"red and big\",\"red and big\",\"red and big\",\"red and big\"],\"label\":%d}\n",
            i, i % 2 ? "cat" : "dog", 4 * i, " and and and and and and and and", i % 3);
    assert_int_equal(fclose(fp), 0);
    fp = fopen(tmpdir_path(state, "text.jsonl"), "w");
    assert_non_null(fp);
    for (int i = 0; i < 9; i++)
        fprintf(fp, "{\"id\":\"%d\",\"text\":\"The %s is red and big%.*s.\"}\n", i,
                i % 2 ? "cat" : "dog", 4 * i, " and and and and and and and and");
    assert_int_equal(fclose(fp), 0);
}

#define RUN                                                                                        \
    "$B/mha2mla-train --config $C --set model.path=$T/run/baseline/model "                         \
    "--set model.tokenizer=null --set 'run.steps=[\"evaluate\"]' "

/* The line of answers.jsonl of the i-th sample. */
static cJSON *answer(void *const *state, const char *path, int i)
{
    char *text = slurp(tmpdir_path(state, path), NULL);
    const char *at = text;
    cJSON *line;

    while (i--)
        at = line_end(at);
    line = cJSON_Parse(at);
    assert_non_null(line);
    free(text);
    return line;
}

/* Equal choices are equally likely, to the last bit: the first is taken. */
static void check_twins(void *const *state)
{
    must_run(state, RUN "--set run.dir=$T/twins --set evaluate.score=options "
                        "--set 'data.eval=[{\"path\":\"'$T'/twins.jsonl\",\"name\":\"t\"}]'");
    for (int i = 0; i < 9; i++) {
        cJSON *line = answer(state, "twins/base/answers.jsonl", i);
        const cJSON *logp = cJSON_GetObjectItem(line, "logp");
        const double first = cJSON_GetArrayItem(logp, 0)->valuedouble;
        for (int k = 2; k < 6; k++)
            assert_true(cJSON_GetArrayItem(logp, k)->valuedouble == first);
        assert_true(cJSON_GetArrayItem(logp, 1)->valuedouble != first);
        cJSON_Delete(line);
    }
}

static void test_run(void **state)
{
    cJSON *one, *all;

    write_run(state);
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' "
                    "--set baseline.steps=2");
    must_run(state,
             "for b in 0 1; do " RUN "--set run.dir=$T/c$b --set evaluate.batch=$b "
             "--set evaluate.score=options "
             "--set 'data.eval=[{\"path\":\"'$T'/choices.jsonl\",\"name\":\"c\"}]' || exit 1; "
             "done");
    must_say(state, "acc_norm");
    check_twins(state);
    must_run(state, "grep -q 'of 4[0-9]* tokens' $T/c0/train.log; "
                    "$B/mha2mla-data score $T/c0/base/answers.jsonl --against "
                    "$T/c1/base/answers.jsonl && cat $T/c0/train.log");
    must_say(state, "acc_bytes");
    one = answer(state, "c1/base/answers.jsonl", 8);
    all = answer(state, "c0/base/answers.jsonl", 8); /* in the set's order */
    assert_string_equal(cJSON_GetObjectItem(all, "id")->valuestring, "8");
    const cJSON *x = cJSON_GetObjectItem(one, "logp"), *y = cJSON_GetObjectItem(all, "logp");
    assert_int_equal(cJSON_GetArraySize(x), 3);
    for (int i = 0; i < 3; i++) /* 1e-5: how a product rounds depends on its number of rows */
        assert_true(fabs(cJSON_GetArrayItem(x, i)->valuedouble -
                         cJSON_GetArrayItem(y, i)->valuedouble) < 1e-5);
    cJSON_Delete(one);
    cJSON_Delete(all);
    must_run(state, "! " RUN "--set run.dir=$T/no --set evaluate.score=answers "
                    "--set 'data.eval=[{\"path\":\"'$T'/choices.jsonl\"}]'");
    must_say(state, "evaluate.score \"options\" scores them");
}

/* Tokens have errors, and their lines sum up to the scores. */
static void test_tokens_run(void **state)
{
    double n = 0, right = 0, loss = 0;
    cJSON *scores, *set, *figure;
    char *text;

    write_run(state);
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' "
                    "--set baseline.steps=2");
    must_run(state, RUN "--set run.dir=$T/t --set evaluate.score=tokens "
                        "--set 'data.eval=[{\"path\":\"'$T'/text.jsonl\",\"name\":\"t\"}]' && "
                        "$B/mha2mla-data score $T/t/base/answers.jsonl");
    must_say(state, "perplexity");
    for (int i = 0; i < 9; i++) {
        cJSON *line = answer(state, "t/base/answers.jsonl", i);
        n += cJSON_GetObjectItem(line, "n")->valuedouble;
        right += cJSON_GetObjectItem(line, "right_tokens")->valuedouble;
        loss += cJSON_GetObjectItem(line, "loss")->valuedouble;
        cJSON_Delete(line);
    }
    text = slurp(tmpdir_path(state, "t/base/scores.json"), NULL);
    scores = cJSON_Parse(text);
    free(text);
    set = cJSON_GetObjectItem(cJSON_GetObjectItem(scores, "sets"), "t");
    figure = cJSON_GetObjectItem(cJSON_GetObjectItem(set, "figures"), "perplexity");
    assert_true(cJSON_GetObjectItem(figure, "value")->valuedouble == exp(loss / n));
    assert_true(cJSON_GetObjectItem(figure, "stderr")->valuedouble > 0);
    assert_true(cJSON_GetObjectItem(cJSON_GetObjectItem(scores, "all"), "of")->valuedouble == n);
    assert_true(cJSON_GetObjectItem(cJSON_GetObjectItem(scores, "all"), "right")->valuedouble ==
                right);
    assert_true(cJSON_IsNumber(cJSON_GetObjectItem(cJSON_GetObjectItem(scores, "all"), "stderr")));
    cJSON_Delete(scores);
}

/* Windows of a text: as many tokens are scored as HF's loop scores, whatever is scored together;
 * one window that holds all is none. lm-evaluation-harness's windows of n tokens are those
 * of n + 1, n apart. */
static void test_windows(void **state)
{
    static const char *const settings[] = {"--set evaluate.window=200", "",
                                           "--set evaluate.window=12",
                                           "--set evaluate.window=12 --set evaluate.stride=5",
                                           "--set evaluate.window=12 --set evaluate.stride=5 "
                                           "--set evaluate.batch=1"};
    double n[5], loss[5];

    write_run(state);
    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]' "
                    "--set baseline.steps=2");
    for (int i = 0; i < 5; i++) {
        char command[900];
        cJSON *scores, *all;
        char *text;
        snprintf(command, sizeof command,
                 "rm -rf $T/w && " RUN "--set run.dir=$T/w --set evaluate.score=tokens %s "
                 "--set 'data.eval=[{\"path\":\"'$T'/text.jsonl\",\"name\":\"t\"}]'",
                 settings[i]);
        must_run(state, command);
        text = slurp(tmpdir_path(state, "w/base/scores.json"), NULL);
        scores = cJSON_Parse(text);
        all = cJSON_GetObjectItem(scores, "all");
        n[i] = cJSON_GetObjectItem(all, "of")->valuedouble;
        loss[i] = cJSON_GetObjectItem(all, "loss")->valuedouble;
        cJSON_Delete(scores);
        free(text);
    }
    assert_true(n[0] == n[1] && loss[0] == loss[1]);
    assert_true(n[2] < n[1]); /* the first token of each window has nothing before it */
    assert_true(n[3] == n[1] && n[4] == n[3]);
    assert_true(fabs(loss[3] - loss[4]) < 1e-3 && fabs(loss[3] - loss[1]) > 1e-6);
    must_run(state, "! " RUN "--set run.dir=$T/w2 --set evaluate.score=tokens --set "
                    "evaluate.window=8 --set evaluate.stride=9 "
                    "--set 'data.eval=[{\"path\":\"'$T'/text.jsonl\"}]'");
    must_say(state, "what lies between two windows would not be scored");
    must_run(state, RUN "--set run.dir=$T/w3 --set evaluate.score=tokens --set evaluate.window=12 "
                        "--dry-run --set 'data.eval=[{\"path\":\"'$T'/text.jsonl\"}]'");
}

/* Two texts of 2 and 6 tokens, 1 and 5 of them right: 6 / 8, and with d = x - 0.75 t of -0.5 and
 * 0.5 the mean of 0.75 -+ 0.5 / 4, whose error is sqrt(2 * 0.125^2) / sqrt(2). */
static void test_token_errors(void **state)
{
    const struct metric_item items[] = {{.score = 1, .tokens = 2, .loss = 2, .cluster = 1},
                                        {.score = 5, .tokens = 6, .loss = 2, .cluster = 2}};
    const struct metric_figure *f = metric_find("tokens")->figures;
    double value, se;
    struct err e;

    (void)state;
    must(metric_figure_value(&f[0], items, 2, &value, &e) &&
             metric_figure_error(&f[0], items, 2, &se, &e),
         &e);
    assert_true(value == 0.75 && fabs(se - 0.125) < 1e-15);
    must(metric_figure_value(&f[1], items, 2, &value, &e) &&
             metric_figure_error(&f[1], items, 2, &se, &e),
         &e);
    /* the losses are 0.5 a token: left are 1 and -1, over 4 */
    assert_true(fabs(value - exp(0.5)) < 1e-15 && fabs(se - exp(0.5) / 4) < 1e-14);
}

/* What was counted of a text is a count. */
static void test_token_lines(void **state)
{
    static const struct {
        const char *n, *right, *loss, *why;
    } cases[] = {
        {"0", "0", "0", "n is 0; allowed: a whole number of tokens, from 1"},
        {"1.5", "1", "1", "n is 1.5; allowed: a whole number"},
        {"-3", "1", "1", "n is -3; allowed:"},
        {"12", "99", "1", "right_tokens is 99; allowed: a whole number of tokens, up to"},
        {"12", "0.5", "1", "right_tokens is 0.5; allowed"},
        {"12", "-1", "1", "right_tokens is -1; allowed"},
        {"12", "1", "-0.5", "loss is -0.5; allowed: the sum of -log p, from 0"},
        {"12", "1", "null", "loss is null; allowed"},
    };
    struct answers a;
    struct err e;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FILE *fp = fopen(tmpdir_path(state, "t.jsonl"), "w");
        assert_non_null(fp);
        fprintf(fp,
                "{\"id\":\"a\",\"metric\":\"tokens\",\"n\":%s,\"right_tokens\":%s,\"loss\":%s}\n",
                cases[i].n, cases[i].right, cases[i].loss);
        assert_int_equal(fclose(fp), 0);
        assert_false(answers_open(&a, tmpdir_path(state, "t.jsonl"), NULL, NULL, &e));
        if (!strstr(e.msg, cases[i].why)) fail_msg("%s, not: %s", e.msg, cases[i].why);
    }
    must_run(state,
             "printf '{\"metric\":\"tokens\",\"n\":1,\"right_tokens\":1,\"loss\":1e300}\\n' > "
             "$T/big.jsonl && sed 's/1e300/1/' $T/big.jsonl > $T/one.jsonl && "
             "! $B/mha2mla-data score $T/big.jsonl --out $T/out.json && ! test -e $T/out.json");
    must_say(state, "big.jsonl: its perplexity is beyond what a number holds");
    must_run(state, "! $B/mha2mla-data score $T/one.jsonl --against $T/big.jsonl");
    must_say(state, "big.jsonl: its perplexity is beyond what a number holds");
    /* Other windows: the texts are the same, what is scored of them is not. */
    must_run(state, "sed 's/\"n\":1/\"n\":2/' $T/one.jsonl > $T/two.jsonl && "
                    "! $B/mha2mla-data score $T/one.jsonl --against $T/two.jsonl");
    must_say(state, "two.jsonl: \"line 1\": 2 of its tokens are scored in one and 1 in the other");
    /* A perplexity that rises is worse, and less than all of it is recovered. */
    must_run(state,
             "for i in 1 2 3; do sed \"s/{/{\\\"id\\\":$i,/\" $T/one.jsonl; done > $T/low.jsonl && "
             "sed 's/\"loss\":1/\"loss\":2/' $T/low.jsonl > $T/high.jsonl && "
             "$B/mha2mla-data score $T/high.jsonl --against $T/low.jsonl");
    must_say(state, "recovered 36.79 % +- 0.00 %: worse");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_import),
        cmocka_unit_test(test_scores),
        tmpdir_test(test_tokens),
        tmpdir_test(test_refuses),
        cmocka_unit_test(test_token_errors),
        program_test(test_windows),
        program_test(test_run),
        program_test(test_tokens_run),
        tmpdir_test(test_token_lines),
    };

    return cmocka_run_group_tests_name("choices", tests, NULL, NULL);
}
