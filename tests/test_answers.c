/* test_answers.c - answers that contain zeros, from the model through scoring to answers.jsonl and
 * the report: a model that has learnt to say "a\0b" says neither "a" nor "a\0c". And an unlimited
 * number of question kinds. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tmpdir.h"

#include "tests/program.h"

/* Every question in train.json has the answer a\0b; the test asks three times, with other
 * expected answers. */
static int setup(void **state)
{
    static const char line[] =
        "{\"id\":\"%d#%s\",\"image\":\"%s/s/images/train-%06d.png\",\"conversations\":[{\"from\":"
        "\"human\",\"value\":\"<image>\\nWhat?\"},{\"from\":\"gpt\",\"value\":\"%s\"}]}\n";
    static const struct {
        const char *kind, *answer;
    } tests[] = {{"whole", "a\\u0000b"}, {"cut", "a"}, {"other", "a\\u0000c"}};
    FILE *fp;

    if (program_setup(state) != 0) return -1;
    fp = fopen(tmpdir_path(state, "train.jsonl"), "w");
    assert_non_null(fp);
    for (int i = 0; i < 16; i++)
        fprintf(fp, line, i, "train", (const char *)*state, i, "a\\u0000b");
    fclose(fp);
    fp = fopen(tmpdir_path(state, "test.jsonl"), "w");
    assert_non_null(fp);
    for (int i = 0; i < 3; i++)
        fprintf(fp, line, i, tests[i].kind, (const char *)*state, i, tests[i].answer);
    fclose(fp);
    fp = fopen(tmpdir_path(state, "kinds.jsonl"), "w");
    assert_non_null(fp);
    for (int i = 0; i < 260; i++) {
        char kind[20];
        snprintf(kind, sizeof kind, "\\u0007k%d", i);
        fprintf(fp, line, i, kind, (const char *)*state, i % 16, "a\\u0000b");
    }
    fclose(fp);
    return 0;
}

static void test_zeros(void **state)
{
    must_run(state, "$B/mha2mla-train --config $C --set run.dir=$T/run "
                    "--set 'data.train=[{\"path\":\"'$T'/train.jsonl\"}]' "
                    "--set 'data.eval=[{\"path\":\"'$T'/test.jsonl\",\"name\":\"test\"},"
                    "{\"path\":\"'$T'/kinds.jsonl\",\"name\":\"kinds\"}]' "
                    "--set baseline.steps=60 --set baseline.lr=3e-3 --set sweep.low_rank=[4] "
                    "--set evaluate.curve_samples=0");
    must_run(state, "grep '\"set\":\"test\"' $T/run/base/answers.jsonl > $T/told && "
                    "test $(grep -c '\"answer\":\"a\\\\u0000b\"' $T/told) = 3");
    must_run(state, "test $(grep -c '\"right\":true' $T/told) = 1");
    must_run(state, "grep '\"right\":true' $T/told | grep -q '\"id\":\"0#whole\"'");
    must_run(state, "grep -q '\"expected\":\"a\\\\u0000c\"' $T/told");
    /* ids may name any number of kinds, in any characters: the first 199 are kept separate */
    must_run(state, "test $(grep -c '\"right\"' $T/run/base/scores.json) = $((200 + 2)) && "
                    "grep -q '\"kinds/.*x07k195\"' $T/run/base/scores.json && "
                    "grep -A2 '\"(others)\"' $T/run/base/scores.json | grep -q '\"of\":.64'");
    /* the report keeps the three of them apart */
    must_run(state, "grep -qF 'What? | a\\\\x00b | a\\\\x00b |' $T/run/report.md && "
                    "grep -qF 'What? | a | ✗ a\\\\x00b |' $T/run/report.md && "
                    "grep -qF 'What? | a\\\\x00c | ✗ a\\\\x00b |' $T/run/report.md");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_zeros, setup, tmpdir_remove),
    };

    return cmocka_run_group_tests_name("answers", tests, NULL, NULL);
}
