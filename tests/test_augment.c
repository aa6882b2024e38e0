/* test_augment.c - mha2mla-data augment: its files, that a seed reproduces the bytes, what may
 * change in a copy and what must not, and the messages about damaged input. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "datasets/alter.h"
#include "tests/tmpdir.h"
#include "tests/tool_run.h"

static const char samples[] =
    "[{\"id\":\"a\",\"image\":\"a.png\",\"conversations\":["
    "{\"from\":\"human\",\"value\":\"<image>\\none\"},{\"from\":\"gpt\",\"value\":\"1\"},"
    "{\"from\":\"human\",\"value\":\"two\"},{\"from\":\"gpt\",\"value\":\"2\"}]},\n"
    "{\"id\":\"b\",\"conversations\":["
    "{\"from\":\"human\",\"value\":\"three\"},{\"from\":\"gpt\",\"value\":\"3\"}]},\n"
    "{\"image\":\"a.png\",\"conversations\":["
    "{\"from\":\"human\",\"value\":\"What is left?\\n<image>\"},"
    "{\"from\":\"gpt\",\"value\":\"red\"}]}]";

/* The list, and a picture that is red on the left and blue on the right. */
static void put_input(void **state)
{
    struct image im;
    struct err e;

    assert_true(image_new(&im, 40, 40, 3, &e));
    for (int i = 0; i < 40 * 40; i++)
        im.px[3 * i + (i % 40 < 20 ? 0 : 2)] = 255;
    assert_true(image_write_png(&im, tmpdir_path(state, "a.png"), &e));
    image_free(&im);
    spill(tmpdir_path(state, "in.json"), samples, strlen(samples));
}

static void must_run(void **state, const char *line)
{
    struct err e;

    if (!run_in(state, &tool_augment, &e, line)) fail_msg("%s: %s", line, e.msg);
}

static void read_picture(void **state, const char *dir, const char *name, struct image *im)
{
    struct err e;
    char path[200];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (!image_read(im, tmpdir_path(state, path), &e)) fail_msg("%s", e.msg);
}

static void test_files(void **state)
{
    static const char *const ids[] = {"0/a", "1/a", "2/a", "0/b", "1/b", "2/b", "0/", "1/", "2/"};
    struct image im, plain, first;
    struct err e;
    const cJSON *s;
    int n = 0;

    put_input(state);
    must_run(state, "--out|@/set|--copies|3|--original|1|--size|24|@/in.json");
    cJSON *root = read_json(tmpdir_path(state, "set/train.json"));
    assert_int_equal(cJSON_GetArraySize(root), 9);
    cJSON_ArrayForEach(s, root)
    {
        const char *image = text_of(s, "image");
        assert_string_equal(text_of(s, "id"), ids[n]);
        assert_int_equal(image != NULL, n / 3 != 1);
        if (n / 3 == 0) assert_string_equal(said(s, 0), "<image>\none"); /* the texts are kept */
        if (n++ / 3 == 1) continue;
        read_picture(state, "set", image, &im);
        assert_true(im.width == 24 && im.height == 24 && im.channels == 3);
        image_free(&im);
    }
    /* one unchanged copy, the others altered */
    read_picture(state, ".", "a.png", &im);
    assert_true(alter_nothing(&im, 24, 24, &plain, &e));
    image_free(&im);
    for (int i = 0; i < 3; i++) {
        read_picture(state, "set", text_of(cJSON_GetArrayItem(root, i), "image"), &first);
        assert_int_equal(memcmp(first.px, plain.px, 24 * 24 * 3) == 0, i == 0);
        image_free(&first);
    }
    image_free(&plain);
    cJSON_Delete(root);
}

static void test_seed(void **state)
{
    static const char picture[] = "images/000000-001.png";
    struct image a, b;

    put_input(state);
    must_run(state, "--out|@/set|--copies|2|--size|24|--turns|1|@/in.json");
    must_run(state, "--out|@/two|--copies|2|--size|24|--turns|1|@/in.json");
    must_run(state, "--out|@/other|--copies|2|--size|24|--turns|1|--seed|2|@/in.json");
    assert_same_file(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "two/train.json"));
    read_picture(state, "set", picture, &a);
    read_picture(state, "two", picture, &b);
    assert_memory_equal(a.px, b.px, 24 * 24 * 3);
    image_free(&b);
    read_picture(state, "other", picture, &b);
    assert_memory_not_equal(a.px, b.px, 24 * 24 * 3);
    image_free(&a);
    image_free(&b);
}

/* One question per copy: each keeps its answer, and only the first one has the image mark. */
static void test_turns(void **state)
{
    int met[2] = {0};

    put_input(state);
    must_run(state, "--out|@/set|--copies|20|--size|16|--turns|1|@/in.json");
    cJSON *root = read_json(tmpdir_path(state, "set/train.json"));
    for (int i = 0; i < 60; i++) {
        const cJSON *s = cJSON_GetArrayItem(root, i);
        assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(s, "conversations")),
                         2);
        if (i < 20) {
            bool two = !strcmp(said(s, 1), "2");
            assert_string_equal(said(s, 0), two ? "<image>\ntwo" : "<image>\none");
            met[two]++;
        } else {
            assert_string_equal(said(s, 0), i < 40 ? "three" : "<image>\nWhat is left?");
        }
    }
    assert_true(met[0] > 0 && met[1] > 0);
    cJSON_Delete(root);
    must_run(state, "--out|@/set|--copies|1|--size|16|--turns|5|@/in.json"); /* all */
    root = read_json(tmpdir_path(state, "set/train.json"));
    const cJSON *both = cJSON_GetArrayItem(root, 0);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(both, "conversations")),
                     4);
    assert_non_null(strstr(said(both, 0), "<image>"));
    assert_null(strstr(said(both, 2), "<image>"));
    cJSON_Delete(root);
}

enum { SIDED = 20 };

/* How many copies of a sample are clearly red on the left, minus those clearly blue there.
 * Occasionally a copy loses its colours, and is neither. */
static int red_left(void **state, int sample)
{
    int red = 0;

    for (int copy = 0; copy < SIDED; copy++) {
        char name[64];
        struct image im;
        int64_t sum = 0, n = 0;
        snprintf(name, sizeof name, "images/%06d-%03d.png", sample, copy);
        read_picture(state, "set", name, &im);
        for (int64_t i = 0; i < im.width * im.height; i++) {
            if (i % im.width >= im.width / 2) continue;
            sum += im.px[3 * i] - im.px[3 * i + 2];
            n++;
        }
        image_free(&im);
        red += sum > 20 * n;
        red -= sum < -20 * n;
    }
    return red;
}

/* Sides of their own, between the two, and not the same for all. */
static void test_sizes(void **state)
{
    int64_t least = INT64_MAX, most = 0, squares = 0;
    struct err e;

    put_input(state);
    must_run(state, "--out|@/set|--copies|20|--original|10|--size|16|--longest|31|@/in.json");
    for (int copy = 0; copy < 20; copy++) {
        struct image im;
        char name[64];
        snprintf(name, sizeof name, "images/000000-%03d.png", copy);
        read_picture(state, "set", name, &im);
        assert_true(im.width >= 16 && im.width <= 31 && im.height >= 16 && im.height <= 31);
        if (im.width < least) least = im.width;
        if (im.width > most) most = im.width;
        squares += im.width == im.height;
        image_free(&im);
    }
    assert_true(least < 20 && most > 27 &&
                squares < 10); /* by chance: 3 in 1000, 3 in 1000, 1 in 10^7 */
    assert_false(run_in(state, &tool_augment, &e, "--out|@/set|--longest|63|@/in.json"));
    assert_error(&e, "augment: --longest 63 is less than --size, 64");
}

/* A picture whose text mentions a side is never mirrored. */
static void test_mirror(void **state)
{
    put_input(state);
    must_run(state, "--out|@/set|--copies|20|--size|24|--flip|100|--strength|0|@/in.json");
    assert_true(red_left(state, 0) < -SIDED / 2);
    assert_true(red_left(state, 2) > SIDED / 2);
    must_run(state, "--out|@/set|--copies|20|--size|24|--flip|0|--strength|0|@/in.json");
    assert_true(red_left(state, 0) > SIDED / 2);
}

static void test_bad_input(void **state)
{
    static const struct {
        const char *list, *says;
    } cases[] = {
        {"{}", "1:1: needs a list \"conversations\""},
        {"[{\"conversations\":", "1:2: the file ends inside the value"},
        {"[{\"id\":\"a\"}]", "1:2: needs a list \"conversations\""},
        {"[{\"image\":3,\"conversations\":[]}]", "1:2: \"image\" must be"},
        {"[{\"image\":\"gone.png\",\"conversations\":[]}]", "gone.png"},
        {"[{\"image\":\"in.json\\u0000\",\"conversations\":[]}]", "\"image\" must be"},
        {"[{\"conversations\":[]}]", "1:2: 0 messages: --turns needs"},
        {"[{\"conversations\":[{\"from\":\"gpt\",\"value\":\"x\"}]}]", "1:2: message 0"},
        {"[{\"conversations\":[{\"from\":\"human\"},{\"from\":\"gpt\"}]}]", "1:2: message 0"},
        {"[{\"conversations\":[{\"from\":\"human\",\"value\":\"\\ud800\"}]}]", "lone surrogate"},
    };
    struct err e;

    put_input(state);
    assert_false(run_in(state, &tool_augment, &e, "--out|@/set"));
    assert_error(&e, "no LLaVA JSON file");
    assert_false(run_in(state, &tool_augment, &e, "--out|@/set|@/none.json"));
    assert_error(&e, "none.json");
    must_run(state, "--out|@/set|--copies|1|--size|16|@/in.json");
    assert_int_equal(link(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "was.json")), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        spill(tmpdir_path(state, "bad.json"), cases[i].list, strlen(cases[i].list));
        assert_false(run_in(state, &tool_augment, &e, "--out|@/set|--turns|1|@/bad.json"));
        assert_error(&e, "bad.json:");
        assert_error(&e, cases[i].says);
        /* the earlier list, and nothing beside it */
        assert_same_file(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "was.json"));
        assert_false(is_there(tmpdir_path(state, "set/train.json.tmp")));
        assert_false(is_there(tmpdir_path(state, "set/.mha2mla-data/images")));
    }
}

/* An input is never overwritten, whatever its path, and each list has its own pictures. */
static void test_inputs_stay(void **state)
{
    static const char *const names[] = {"@/set/train.json", "@/set/../set/train.json", "@/link"};
    struct image was, now;
    struct err e;
    char line[200];

    put_input(state);
    must_run(state, "--out|@/set|--copies|1|--size|16|@/in.json");
    rename(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "was.json"));
    assert_int_equal(link(tmpdir_path(state, "was.json"), tmpdir_path(state, "set/train.json")), 0);
    assert_int_equal(symlink("set/train.json", tmpdir_path(state, "link")), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(line, sizeof line, "--out|@/set|--copies|1|--size|16|@/in.json|%s", names[i]);
        assert_false(run_in(state, &tool_augment, &e, line));
        assert_error(&e, "would be replaced by what is made of it");
        assert_same_file(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "was.json"));
    }
    /* another list beside the one it is made from, whose pictures are not touched */
    read_picture(state, "set", "images/000000-000.png", &was);
    must_run(state, "--out|@/set|--name|more|--copies|2|--seed|9|--size|16|@/set/train.json");
    read_picture(state, "set", "images/000000-000.png", &now);
    assert_memory_equal(was.px, now.px, 16 * 16 * 3);
    image_free(&now);
    read_picture(state, "set", "images/more-000000-000.png", &now);
    assert_memory_not_equal(was.px, now.px, 16 * 16 * 3);
    image_free(&now);
    image_free(&was);
    assert_same_file(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "was.json"));
}

static void test_bad_options(void **state)
{
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"--out||@/in.json", "--out is empty: a DIR is needed"},
        {"--out|@/set|--name||@/in.json", "--name is empty: a NAME is needed"},
        {"--out|@/set|--images||@/in.json", "--images is empty"},
        {"--out|@/set|", "a file's name is empty"},
        {"--out|@/set|--name|../evil|@/in.json", "--name ../evil: a name of at most"},
        {"--out|@/set|--name|a\xff|@/in.json", "UTF-8"},
        {"--out|@/set|--name|a\nb|@/in.json", "without a slash or a control character"},
        {"--out|@/set|--copies|2|--original|5|@/in.json", "--original 5 is more than --copies 2"},
    };
    struct err e;

    put_input(state);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_false(run_in(state, &tool_augment, &e, cases[i].line));
        assert_error(&e, cases[i].says);
    }
    assert_false(is_there(tmpdir_path(state, "set")));
    assert_false(is_there(tmpdir_path(state, "evil.json")));
}

/* Unchanged parts are written as read: the spelling of numbers, zeros in texts. */
static void test_spelling_kept(void **state)
{
    static const char line[] =
        "{\"id\":12345678901234567890,\"score\":1.50,\"note\":\"a\\u0000b\",\"conversations\":["
        "{\"from\":\"human\",\"value\":\"one\\u0000<image>\"},{\"from\":\"gpt\",\"value\":"
        "\"\\u0000two\"}]}\n";
    static const char want[] =
        "[\n{\"id\":\"0/12345678901234567890\",\"score\":1.50,\"note\":\"a\\u0000b\","
        "\"conversations\":[{\"from\":\"human\",\"value\":\"one\\u0000\"},{\"from\":\"gpt\","
        "\"value\":\"\\u0000two\"}]}\n]\n";

    spill(tmpdir_path(state, "in.jsonl"), line, strlen(line));
    must_run(state, "--out|@/set|--copies|1|--turns|1|@/in.jsonl");
    char *text = slurp(tmpdir_path(state, "set/train.json"), NULL);
    assert_string_equal(text, want);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_files),         tmpdir_test(test_seed),
        tmpdir_test(test_turns),         tmpdir_test(test_sizes),
        tmpdir_test(test_mirror),        tmpdir_test(test_bad_input),
        tmpdir_test(test_spelling_kept), tmpdir_test(test_inputs_stay),
        tmpdir_test(test_bad_options),
    };

    return cmocka_run_group_tests_name("augment", tests, NULL, NULL);
}
