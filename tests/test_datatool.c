/* test_datatool.c - the subcommands of mha2mla-data: their files, that a seed reproduces the bytes,
 * that answers are right, and the messages about wrong options and damaged input. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "datasets/own.h"
#include "datasets/scenes.h"
#include "datasets/shapes.h"
#include "datasets/tool.h"
#include "tests/full_disk.h"
#include "tests/tmpdir.h"
#include "tests/tool_run.h"

static void test_options(void **state)
{
    struct err e;

    assert_true(run(&tool_shapes, &e, "--help"));
    assert_true(run(&tool_scenes, &e, "--help"));
    assert_true(run(&tool_tokenizer, &e, "--help"));
    assert_false(run(&tool_shapes, &e, "--train|5"));
    assert_error(&e, "--out DIR is needed");
    assert_false(run(&tool_shapes, &e, "--colour|5"));
    assert_error(&e, "unknown option --colour");
    assert_false(run(&tool_shapes, &e, "--out=~/shapes"));
    assert_error(&e, "--out ~/shapes: begins with ~, which only a shell knows");
    assert_false(run(&tool_shapes, &e, "--out"));
    assert_error(&e, "--out needs a value");
    assert_false(run(&tool_shapes, &e, "--out|x|--size|8"));
    assert_error(&e, "--size 8: a whole number from 16 to 1024");
    assert_false(run(&tool_shapes, &e, "--out|x|--train|12a"));
    assert_error(&e, "--train 12a");
    assert_false(run(&tool_shapes, &e, "--out|"));
    assert_error(&e, "shapes: --out is empty: a DIR is needed");
    assert_false(run(&tool_shapes, &e, "--out|x|y"));
    assert_error(&e, "unexpected argument 'y'");
    assert_false(run(&tool_tokenizer, &e, "--out|x"));
    assert_error(&e, "no LLaVA JSON file");
    assert_false(run(&tool_tokenizer, &e, "--out|x|--template|bard|y"));
    assert_error(&e, "no chat template 'bard'; there are: vicuna, qwen2_vl");
    spill(tmpdir_path(state, "file"), "", 0);
    assert_false(run_in(state, &tool_shapes, &e, "--out|@/file"));
    assert_error(&e, "/file");
}

/* One sample of a list: alternating messages, and the image mark exactly once if there is a
 * picture. */
static void check_sample(void **state, const cJSON *s, bool test, int64_t size)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(s, "conversations"), *m;
    const char *image = text_of(s, "image"), *id = text_of(s, "id");
    struct image im;
    struct err e;
    int n = 0, markers = 0;

    cJSON_ArrayForEach(m, list)
    {
        assert_string_equal(text_of(m, "from"), n % 2 ? "gpt" : "human");
        assert_true(strlen(text_of(m, "value")) > 0);
        if (strstr(text_of(m, "value"), "<image>")) {
            assert_int_equal(n, 0);
            markers++;
        }
        n++;
    }
    assert_int_equal(markers, image != NULL);
    assert_true(test ? n == 2 : n >= 2 && n <= 8 && n % 2 == 0);
    assert_int_equal(strchr(id, '#') != NULL, test);
    if (!image) return;
    char name[256];
    snprintf(name, sizeof name, "set/%s", image);
    assert_true(image_read(&im, tmpdir_path(state, name), &e));
    assert_int_equal(im.width, size);
    assert_int_equal(im.height, size);
    assert_int_equal(im.channels, 3);
    image_free(&im);
}

static void check_list(void **state, const char *file, int samples, bool test, int64_t size)
{
    cJSON *root = read_json(tmpdir_path(state, file));
    const cJSON *s;

    assert_int_equal(cJSON_GetArraySize(root), samples);
    cJSON_ArrayForEach(s, root)
    {
        check_sample(state, s, test, size);
    }
    cJSON_Delete(root);
}

static void test_shapes_files(void **state)
{
    struct err e;

    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|60|--test|40|--seed|7"));
    check_list(state, "set/train.json", 60, false, 32);
    check_list(state, "set/test.json", 40, true, 32);
    /* same seed, same bytes; another seed, others; a smaller set is a prefix of a larger one */
    assert_true(run_in(state, &tool_shapes, &e, "--out|@/two|--train|60|--test|40|--seed|7"));
    assert_same_file(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "two/train.json"));
    assert_same_file(tmpdir_path(state, "set/test.json"), tmpdir_path(state, "two/test.json"));
    assert_same_file(tmpdir_path(state, "set/images/test-000003.png"),
                     tmpdir_path(state, "two/images/test-000003.png"));
    assert_true(run_in(state, &tool_shapes, &e, "--out|@/two|--train|30|--test|40|--seed|8"));
    cJSON *one = read_json(tmpdir_path(state, "set/test.json"));
    cJSON *two = read_json(tmpdir_path(state, "two/test.json"));
    assert_false(cJSON_Compare(one, two, true));
    cJSON_Delete(two);
    cJSON_Delete(one);
    assert_false(is_there(tmpdir_path(state, "two/train.json.tmp")));
}

static void assert_nothing_aside(void **state)
{
    assert_false(is_there(tmpdir_path(state, "set/.mha2mla-data/images")));
    assert_false(is_there(tmpdir_path(state, "set/train.json.tmp")));
    assert_false(is_there(tmpdir_path(state, "set/test.json.tmp")));
}

/* A failed run leaves the earlier lists, with their pictures. */
static void test_shapes_no_half_list(void **state)
{
    struct err e;

    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|3|--test|3"));
    assert_true(run_in(state, &tool_shapes, &e, "--out|@/two|--train|3|--test|3"));
    /* a directory under a picture's final name makes it unwritable */
    assert_int_equal(remove(tmpdir_path(state, "set/images/test-000001.png")), 0);
    assert_int_equal(mkdir(tmpdir_path(state, "set/images/test-000001.png"), 0700), 0);
    assert_int_equal(mkdir(tmpdir_path(state, "set/images/test-000001.png/x"), 0700), 0);
    assert_false(run_in(state, &tool_shapes, &e, "--out|@/set|--train|3|--test|3|--seed|2"));
    assert_error(&e, "test-000001.png");
    assert_same_file(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "two/train.json"));
    assert_same_file(tmpdir_path(state, "set/test.json"), tmpdir_path(state, "two/test.json"));
    assert_same_file(tmpdir_path(state, "set/images/train-000000.png"),
                     tmpdir_path(state, "two/images/train-000000.png"));
    assert_nothing_aside(state);
}

/* The disk is full before the longer list is complete. */
static int shapes_without_room(const char *dir, rlim_t room)
{
    char line[1200];
    struct err e;
    bool ok;

    snprintf(line, sizeof line, "--out|%s/set|--train|300|--test|3|--seed|2", dir);
    limit_files(room);
    ok = run(&tool_shapes, &e, line);
    limit_files(RLIM_INFINITY);
    return ok || !strstr(e.msg, "train.json: cannot be written");
}

static void test_shapes_full_disk(void **state)
{
    struct err e;

    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|3|--test|3"));
    assert_true(run_in(state, &tool_shapes, &e, "--out|@/two|--train|3|--test|3"));
    full_disk_try(*state, 20000, shapes_without_room);
    assert_same_file(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "two/train.json"));
    assert_same_file(tmpdir_path(state, "set/test.json"), tmpdir_path(state, "two/test.json"));
    assert_same_file(tmpdir_path(state, "set/images/train-000000.png"),
                     tmpdir_path(state, "two/images/train-000000.png"));
    assert_nothing_aside(state);
}

/* What a killed run left behind is not part of the next set, and its lock is free. */
static void test_shapes_after_a_kill(void **state)
{
    struct err e;

    assert_int_equal(mkdir(tmpdir_path(state, "set"), 0700), 0);
    assert_int_equal(mkdir(tmpdir_path(state, "set/.mha2mla-data"), 0700), 0);
    assert_int_equal(mkdir(tmpdir_path(state, "set/.mha2mla-data/images"), 0700), 0);
    spill(tmpdir_path(state, "set/.mha2mla-data/images/train-000005.png"), "x", 1);
    spill(tmpdir_path(state, "set/.mha2mla-data/lock"), "", 0);
    spill(tmpdir_path(state, "set/train.json.tmp"), "[", 1);
    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|3|--test|3"));
    assert_false(is_there(tmpdir_path(state, "set/images/train-000005.png")));
    check_list(state, "set/train.json", 3, false, 32);
    assert_nothing_aside(state);
}

/* Two commands at once would leave a list of one and pictures of the other. */
static void test_locked(void **state)
{
    static const char line[] = "--out|@/set|--train|3|--test|3|--seed|2";
    struct own own = {0};
    struct err e;

    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|3|--test|3"));
    assert_true(run_in(state, &tool_shapes, &e, "--out|@/two|--train|3|--test|3"));
    assert_true(own_open(&own, tmpdir_path(state, "set"), &e));
    assert_false(run_in(state, &tool_shapes, &e, line));
    assert_error(&e, "set: another mha2mla-data is writing into it: wait until it has ended, or "
                     "choose another --out");
    assert_false(run_in(state, &tool_augment, &e, "--out|@/set|@/two/train.json"));
    assert_error(&e, "another mha2mla-data is writing into it");
    assert_false(run_in(state, &tool_tokenizer, &e, "--out|@/set|@/two/train.json"));
    assert_error(&e, "another mha2mla-data is writing into it");
    assert_same_file(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "two/train.json"));
    own_close(&own);
    assert_true(run_in(state, &tool_shapes, &e, line));
}

/* What somebody else wrote under a name that would be ours, or changed since, stays. */
static void test_not_ours(void **state)
{
    static const struct {
        const struct tool_command *command;
        const char *line, *name, *says;
    } cases[] = {
        {&tool_shapes, "--out|@/u|--train|3|--test|2", "test.json", "not written by"},
        {&tool_shapes, "--out|@/u|--train|3|--test|2", "train.json.tmp", "not written by"},
        {&tool_shapes, "--out|@/u|--train|3|--test|2", "images/train-000001.png", "not written by"},
        {&tool_augment, "--out|@/u|--copies|1|@/set/train.json", "train.json", "not written by"},
        {&tool_augment, "--out|@/u|--copies|1|@/set/train.json", "images/000000-000.png", "not "},
        {&tool_tokenizer, "--out|@/u|@/set/train.json", "tokenizer.json", "not written by"},
        {&tool_tokenizer, "--out|@/u|@/set/train.json", "special_tokens_map.json", "not written"},
    };
    struct err e;

    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|3|--test|2"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[100], find[1300], *text;
        snprintf(path, sizeof path, "u/%s", cases[i].name);
        mkdir(tmpdir_path(state, "u"), 0700);
        mkdir(tmpdir_path(state, "u/images"), 0700);
        spill(tmpdir_path(state, path), "mine", 4);
        assert_false(run_in(state, cases[i].command, &e, cases[i].line));
        assert_error(&e, path);
        assert_error(&e, cases[i].says);
        text = slurp(tmpdir_path(state, path), NULL);
        assert_string_equal(text, "mine");
        free(text);
        remove(tmpdir_path(state, path)); /* and nothing else is there */
        snprintf(find, sizeof find, "test -z \"$(find '%s' ! -type d)\"", tmpdir_path(state, "u"));
        assert_int_equal(system(find), 0);
    }
}

/* Beside a set of ours too; and where pictures cannot be moved, the set stays. */
static void test_set_stays(void **state)
{
    static const char line[] = "--out|@/set|--train|3|--test|2|--seed|2";
    struct err e;
    char *before, *after, *mine;

    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|3|--test|2"));
    before = slurp(tmpdir_path(state, "set/train.json"), NULL);
    spill(tmpdir_path(state, "set/train.json.tmp"), "mine", 4);
    assert_false(run_in(state, &tool_shapes, &e, line));
    assert_error(&e, "set/train.json.tmp: was not written by mha2mla-data");
    mine = slurp(tmpdir_path(state, "set/train.json.tmp"), NULL);
    assert_string_equal(mine, "mine");
    remove(tmpdir_path(state, "set/train.json.tmp"));
    if (rename(tmpdir_path(state, "set/images"), tmpdir_path(state, "kept")) != 0) fail();
    if (access("/proc/self/fd", F_OK) != 0 ||
        symlink("/proc", tmpdir_path(state, "set/images")) != 0) /* another file system */
        skip();
    assert_false(run_in(state, &tool_shapes, &e, line));
    assert_error(&e, "set/images: no picture can be moved into it");
    after = slurp(tmpdir_path(state, "set/train.json"), NULL);
    assert_string_equal(before, after);
    free(before);
    free(after);
    free(mine);
}

/* What fails leaves no directory that it made, and what was there before. */
static void test_no_empty_directories(void **state)
{
    static const char *const outs[] = {"--out|@/deep/a/b|@/none.json",
                                       "--out|@/deep/a/|@/none.json",
                                       "--out|@/old/a/b|@/none.json"};
    struct own own;
    struct err e;

    mkdir(tmpdir_path(state, "old"), 0700);
    for (size_t i = 0; i < sizeof outs / sizeof *outs; i++)
        assert_false(run_in(state, &tool_tokenizer, &e, outs[i]));
    assert_int_not_equal(access(tmpdir_path(state, "deep"), F_OK), 0);
    assert_int_not_equal(access(tmpdir_path(state, "old/a"), F_OK), 0);
    assert_int_equal(access(tmpdir_path(state, "old"), F_OK), 0);

    assert_false(own_open(&own, tmpdir_path(state, "old/.mha2mla-data"), &e));
    assert_error(&e, "is where mha2mla-data lists what it wrote: choose another --out");
    assert_int_not_equal(access(tmpdir_path(state, "old/.mha2mla-data"), F_OK), 0);
}

/* Pictures of an earlier, larger set are counted as long as they are there. */
static void test_left_pictures(void **state)
{
    struct own own = {0};
    struct err e;

    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|5|--test|2"));
    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|3|--test|2"));
    assert_true(own_open(&own, tmpdir_path(state, "set"), &e));
    assert_int_equal(own_left(&own, "images/"), 7); /* this command has claimed none */
    assert_true(own_claim(&own, "images/train-000004.png",
                          tmpdir_path(state, "set/images/train-000004.png"), &e));
    assert_int_equal(own_left(&own, "images/"), 6);
    remove(tmpdir_path(state, "set/images/train-000003.png"));
    assert_int_equal(own_left(&own, "images/"), 5);
    own_close(&own);
}

/* A set of ours may be replaced, unless somebody has changed it. */
static void test_changed_since(void **state)
{
    static const char line[] = "--out|@/set|--train|3|--test|2|--seed|2";
    struct err e;

    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|5|--test|2"));
    assert_true(run_in(state, &tool_tokenizer, &e, "--out|@/set|@/set/train.json"));
    spill(tmpdir_path(state, "set/images/train-000000.png"), "mine", 4);
    assert_false(run_in(state, &tool_shapes, &e, line));
    assert_error(&e, "train-000000.png: was changed since mha2mla-data wrote it, and would be "
                     "overwritten: move it away, or choose another --out");
    assert_nothing_aside(state);
    remove(tmpdir_path(state, "set/images/train-000000.png"));
    assert_true(run_in(state, &tool_shapes, &e, line));
    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|5|--test|2|--seed|3"));
    assert_true(run_in(state, &tool_tokenizer, &e, "--out|@/set|--vocab|300|@/set/test.json"));
    spill(tmpdir_path(state, "set/tokenizer.json"), "{}", 2);
    assert_false(run_in(state, &tool_tokenizer, &e, "--out|@/set|@/set/test.json"));
    assert_error(&e, "set/tokenizer.json: was changed since");
}

/* A description contains the whole layout: none may be in both parts of "set". */
static void check_parts_are_apart(void **state)
{
    const cJSON *a, *b, *m;
    int described = 0;
    cJSON *train = read_json(tmpdir_path(state, "set/train.json"));
    cJSON *test = read_json(tmpdir_path(state, "set/test.json"));

    cJSON_ArrayForEach(b, test)
    {
        if (!strstr(text_of(b, "id"), "#describe")) continue;
        described++;
        cJSON_ArrayForEach(a, train)
        {
            cJSON_ArrayForEach(m, cJSON_GetObjectItemCaseSensitive(a, "conversations"))
            {
                assert_string_not_equal(text_of(m, "value"), said(b, 1));
            }
        }
    }
    assert_true(described > 20);
    cJSON_Delete(train);
    cJSON_Delete(test);
}

static void test_shapes_parts_are_apart(void **state)
{
    struct err e;

    assert_true(run_in(state, &tool_shapes, &e, "--out|@/set|--train|600|--test|300|--size|16"));
    check_parts_are_apart(state);
}

/* The required answers about a red circle at the top left, a blue star at the bottom left and a
 * blue circle at the bottom right. */
static const struct truth {
    const char *ask, *answer;
} truths[] = {
    {"What is at the top left?", "a red circle"},
    {"What do you see at the top right?", "nothing"},
    {"What shape is at the bottom left?", "star"},
    {"Which shape is red?", "circle"},
    {"What colour is the star?", "blue"},
    {"What colour is the shape at the bottom right?", "blue"},
    {"Where is the blue circle?", "bottom right"},
    {"In which corner is the red shape?", "top left"},
    {"How many shapes are there?", "three"},
    {"How many circles are there?", "two"},
    {"Count the blue shapes.", "two"},
    {"Count the red shapes.", "one"},
    {"How many crosses are there?", "zero"},
    {"Is there a red circle?", "yes"},
    {"Is there a red star?", "no"},
    {"Is there a star at the top left?", "no"},
    {"Is the shape at the bottom left blue?", "yes"},
    {"What is below the red circle?", "a blue star"},
    {"What is to the right of the star?", "a blue circle"},
    {"What is to the left of the blue circle?", "a blue star"},
    {"What is to the right of the red shape?", "nothing"},
    {"Is the red circle above the blue star?", "yes"},
    {"Is the star right of the blue circle?", "no"},
    {"Is the red circle left of the star?", "no"},
    {"Describe the picture.", "a red circle at the top left, a blue star at the bottom left and a "
                              "blue circle at the bottom right"},
};
enum { TRUTHS = sizeof truths / sizeof truths[0] };

/* Every truth is met among many questions; what must never be asked: a name that is ambiguous. */
/* Asks about a scene over and over: each of the truths must come up and get its answer, and
 * questions without a unique answer (NULL-terminated) must not come up. */
static void check_answers(const struct world_kind *kinds, int n_kinds, const void *scene,
                          const struct truth *truth, size_t n, const char *const *never)
{
    int met[32] = {0};
    struct rng r;

    assert_true(n <= 32);
    rng_seed(&r, 20240611, 0);
    for (int i = 0; i < 60000; i++) {
        struct turn t;
        if (!kinds[i % n_kinds].ask(scene, &r, &t)) continue;
        for (int k = 0; never[k]; k++)
            assert_string_not_equal(t.ask, never[k]);
        for (size_t k = 0; k < n; k++) {
            if (strcmp(t.ask, truth[k].ask) != 0) continue;
            met[k]++;
            assert_string_equal(t.answer, truth[k].answer);
        }
    }
    for (size_t k = 0; k < n; k++)
        if (!met[k]) fail_msg("never asked: %s", truth[k].ask);
}

static void test_shapes_answers(void **state)
{
    /* by name, so that the tables may be reordered: circle 0, star 4; red 0, blue 2 */
    const struct layout l = {.cell = {{0, 0}, {-1, 0}, {4, 2}, {0, 2}}};
    static const char *const never[] = {"Where is the circle?", "Which shape is blue?",
                                        "What colour is the circle?", NULL};

    (void)state;
    assert_string_equal(shapes[0].name, "circle");
    assert_string_equal(shapes[4].name, "star");
    assert_string_equal(colours[0].name, "red");
    assert_string_equal(colours[2].name, "blue");
    check_answers(shapes_kinds, SHAPES_KINDS, &l, truths, TRUTHS, never);
}

static void test_draw_figure(void **state)
{
    static const struct {
        int shape;
        bool centre, corner; /* is the centre painted; is a point near the box's corner */
    } cases[] = {{0, true, false}, {1, false, false}, {2, true, true},
                 {3, true, false}, {4, true, false},  {5, true, false}};
    struct err e;

    (void)state;
    for (int i = 0; i < SHAPES; i++) {
        struct image im;
        assert_true(image_new(&im, 33, 33, 3, &e));
        /* around the centre of pixel (16, 16), with radius 14 pixels */
        draw_figure(&im, &shapes[cases[i].shape].figure, 264, 264, 14 * DRAW_UNIT,
                    (struct rgb){200, 100, 50});
        const uint8_t *centre = im.px + (16 * 33 + 16) * 3, *corner = im.px + (5 * 33 + 5) * 3;
        assert_int_equal(centre[0], cases[i].centre ? 200 : 0);
        assert_int_equal(corner[1], cases[i].corner ? 100 : 0);
        assert_int_equal(im.px[0], 0);
        /* clipped at the edges, without harm */
        draw_figure(&im, &shapes[cases[i].shape].figure, -20, 600, 900, (struct rgb){1, 1, 1});
        image_free(&im);
    }
}

/* A cut-out: a filled disc on a transparent background. */
static void write_stamp(const char *path, int channels, uint8_t grey)
{
    struct image im;
    struct err e;

    assert_true(image_new(&im, 40, 30, channels, &e));
    for (int i = 0; i < 40 * 30; i++) {
        int x = i % 40 - 20, y = i / 40 - 15;
        im.px[i * channels] = grey;
        if (channels == 4) im.px[i * 4 + 3] = x * x + y * y < 100 ? 255 : 0;
    }
    assert_true(image_write_png(&im, path, &e));
    image_free(&im);
}

static const struct {
    const char *file, *split, *category, *caption, *keywords;
} stamps[] = {
    {"owl", "train", "animals", "An owl.", "birds"},
    {"owl2", "test", "animals", "An owl.", "birds"},
    {"cat", "train", "animals", "A cat.", "mammals;cats"},
    {"frog", "train", "animals", "A frog.", "amphibians"},
    {"pear", "train", "food", "A pear.", "fruit"},
    {"fig", "train", "food", "A fig.", "fruit"},
    {"rose", "train", "plants", "A rose.", "flowers"},
    {"saw", "train", "household", "A saw.", "tools"},
    {"bus", "train", "vehicles", "A green car.", ""},
    {"opaque", "train", "food", "A plum.", "fruit"},               /* no alpha */
    {"long", "train", "food", "A pear that nobody ate.", "fruit"}, /* not a plain name */
    {"lamp", "train", "household", "A lamp.", ""},                 /* no group */
    {"crow", "test", "animals", "A crow.", "birds"},
    {"lime", "test", "food", "A lime.", "fruit"},
    /* the rest is for a separate part: held out, with names never trained on */
    {"wren", "test", "animals", "A wren.", "birds"},
    {"dog", "test", "animals", "A dog.", "mammals"},
    {"toad", "test", "animals", "A toad.", ""},
    {"lemon", "test", "food", "A lemon.", "fruit"},
    {"tulip", "test", "plants", "A tulip.", "flowers"},
    {"axe", "test", "household", "An axe.", "tools"},
    {"van", "test", "vehicles", "A van.", ""},
};
enum { STAMPS = sizeof stamps / sizeof stamps[0], STAMPS_FEW = 14 };

/* A stamp's pixels are the only ones without green and blue; their red identifies the stamp. */
enum { STAMP_RED = 11 };

static void write_pairs(void **state, size_t n)
{
    FILE *fp = fopen(tmpdir_path(state, "pairs.tsv"), "w");

    assert_non_null(fp);
    for (size_t i = 0; i < n; i++) {
        char name[64];
        fprintf(fp, "%s.png\t%s\tphoto\t%s\t%s\t%s\n", stamps[i].file, stamps[i].split,
                stamps[i].category, stamps[i].caption, stamps[i].keywords);
        snprintf(name, sizeof name, "%s.png", stamps[i].file);
        write_stamp(tmpdir_path(state, name), strcmp(stamps[i].file, "opaque") ? 4 : 3,
                    (uint8_t)(STAMP_RED * i));
    }
    assert_int_equal(fclose(fp), 0);
}

static void test_scenes_files(void **state)
{
    struct err e;

    write_pairs(state, STAMPS_FEW);
    assert_true(run_in(state, &tool_scenes, &e,
                       "--out|@/set|--pairs|@/pairs.tsv|--root|@|--train|60|--test|30|--size|48"));
    check_list(state, "set/train.json", 60, false, 48);
    check_list(state, "set/test.json", 30, true, 48);
    /* two held-out pictures are too few for a separate part */
    assert_false(is_there(tmpdir_path(state, "set/test-unseen.json")));
    char *text = slurp(tmpdir_path(state, "set/train.json"), NULL);
    assert_non_null(strstr(text, "an owl"));
    assert_non_null(strstr(text, "a green car"));
    assert_null(strstr(text, "crow"));
    assert_null(strstr(text, "lamp"));
    assert_null(strstr(text, "plum"));
    free(text);
    assert_true(run_in(state, &tool_scenes, &e,
                       "--out|@/two|--pairs|@/pairs.tsv|--root|@|--train|60|--test|30|--size|48"));
    assert_same_file(tmpdir_path(state, "set/train.json"), tmpdir_path(state, "two/train.json"));
    assert_same_file(tmpdir_path(state, "set/images/train-000009.png"),
                     tmpdir_path(state, "two/images/train-000009.png"));
}

/* There are few names, so that by chance alone a scene would be in both parts. */
static void test_scenes_parts_are_apart(void **state)
{
    struct err e;

    write_pairs(state, STAMPS_FEW);
    assert_true(
        run_in(state, &tool_scenes, &e,
               "--out|@/set|--pairs|@/pairs.tsv|--root|@|--train|600|--test|300|--size|32"));
    check_parts_are_apart(state);
}

/* All stamps in the first pictures of a part belong to this split. Returns how many
 * different ones occur. */
static int check_split(void **state, const char *part, int pictures, const char *split)
{
    bool met[STAMPS] = {false};
    int n = 0;

    for (int i = 0; i < pictures; i++) {
        char name[100];
        struct image im;
        struct err e;
        snprintf(name, sizeof name, "set/images/%s-%06d.png", part, i);
        int pixels[STAMPS] = {0};
        assert_true(image_read(&im, tmpdir_path(state, name), &e));
        for (int64_t k = 0; k < im.width * im.height; k++) {
            const uint8_t *px = im.px + 3 * k;
            if (!px[1] && !px[2] && px[0] % STAMP_RED == 0) pixels[px[0] / STAMP_RED]++;
        }
        for (size_t k = 0; k < STAMPS; k++) {
            if (pixels[k] < 50) continue; /* resizing changes some at the edge */
            if (strcmp(stamps[k].split, split) != 0) fail_msg("%s: shows %s", name, stamps[k].file);
            met[k] = true;
        }
        image_free(&im);
    }
    for (size_t i = 0; i < STAMPS; i++)
        n += met[i];
    return n;
}

/* Pictures never trained on: they are only in that part, with questions about their groups only. */
static void test_scenes_unseen(void **state)
{
    struct err e;
    const cJSON *s;

    write_pairs(state, STAMPS);
    assert_true(run_in(state, &tool_scenes, &e,
                       "--out|@/set|--pairs|@/pairs.tsv|--root|@|--train|60|--test|60|--size|48"));
    check_list(state, "set/test-unseen.json", 60, true, 48);
    assert_int_equal(check_split(state, "train", 60, "train"), 8);
    assert_int_equal(check_split(state, "test", 60, "train"), 8);
    assert_int_equal(check_split(state, "test-unseen", 60, "test"), 9); /* all but the second owl */
    cJSON *root = read_json(tmpdir_path(state, "set/test-unseen.json"));
    cJSON_ArrayForEach(s, root)
    {
        const char *kind = strchr(text_of(s, "id"), '#') + 1;
        assert_true(!strcmp(kind, "count") || !strcmp(kind, "isgroup") || !strcmp(kind, "sort") ||
                    !strcmp(kind, "find"));
    }
    cJSON_Delete(root);
}

/* The required answers about an owl at the top left, a fig at the bottom left and a cat at
 * the bottom right. */
static const struct truth scene_truths[] = {
    {"What is at the top left?", "an owl"},
    {"What do you see at the top right?", "nothing"},
    {"How many things are there?", "three"},
    {"How many animals are there?", "two"},
    {"How many birds are there?", "one"},
    {"How many tools are there?", "zero"},
    {"Is there a fruit?", "yes"},
    {"Is there a tool?", "no"},
    {"Is a bird at the top left?", "yes"},
    {"Is a bird at the bottom right?", "no"},
    {"What sort of thing is at the bottom left?", "a fruit"},
    {"What sort of thing is at the bottom right?", "an animal"},
    {"In which corner is a bird?", "top left"},
    {"Where is the cat?", "bottom right"},
    {"Is there an owl?", "yes"},
    {"Is there a saw?", "no"},
    {"What is below the owl?", "a fig"},
    {"What is to the right of the owl?", "nothing"},
    {"What is to the left of the cat?", "a fig"},
    {"Describe the picture.",
     "an owl at the top left, a fig at the bottom left and a cat at the bottom right"},
};
enum { SCENE_TRUTHS = sizeof scene_truths / sizeof scene_truths[0] };

static void test_scenes_answers(void **state)
{
    enum { ANIMAL = 0, BIRD = 1, MAMMAL = 2, FRUIT = 3, TOOL = 8 };
    const struct stamp
        owl = {.name = "owl",
               .article = "an",
               .groups = 1 << ANIMAL | 1 << BIRD,
               .sort = ANIMAL,
               .finest = BIRD},
        cat = {.name = "cat",
               .article = "a",
               .groups = 1 << ANIMAL | 1 << MAMMAL,
               .sort = ANIMAL,
               .finest = MAMMAL},
        fig = {.name = "fig", .article = "a", .groups = 1 << FRUIT, .sort = FRUIT, .finest = FRUIT},
        saw = {.name = "saw", .article = "a", .groups = 1 << TOOL, .sort = TOOL, .finest = TOOL};
    const struct stamp *all[] = {&cat, &fig, &owl, &saw};
    const struct scene_pool pool = {.stamp = all,
                                    .stamps = 4,
                                    .names = 4,
                                    .groups = owl.groups | cat.groups | fig.groups | saw.groups};
    const struct scene s = {&pool, {&owl, NULL, &fig, &cat}};
    static const char *const never[] = {"In which corner is an animal?", NULL}; /* there are two */

    (void)state;
    assert_string_equal(stamp_groups[BIRD].one, "a bird");
    assert_string_equal(stamp_groups[FRUIT].one, "a fruit");
    assert_string_equal(stamp_groups[TOOL].one, "a tool");
    check_answers(scene_kinds, SCENE_KINDS, &s, scene_truths, SCENE_TRUTHS, never);
}

static void test_scenes_bad_input(void **state)
{
    static const char line[] = "--out|@/set|--pairs|@/pairs.tsv|--root|@|--train|4|--test|4";
    struct err e;

    assert_false(run_in(state, &tool_scenes, &e, line));
    assert_error(&e, "pairs.tsv");
    spill(tmpdir_path(state, "pairs.tsv"), "a.png\ttrain\n", 12);
    assert_false(run_in(state, &tool_scenes, &e, line));
    assert_error(&e, "line 1: 2 fields, 6 are needed");
    spill(tmpdir_path(state, "pairs.tsv"), "a\0b", 3);
    assert_false(run_in(state, &tool_scenes, &e, line));
    assert_error(&e, "not a text");
    write_pairs(state, 6);
    assert_false(run_in(state, &tool_scenes, &e, line));
    assert_error(&e, "at least 8 captions");
    write_pairs(state, 9);
    spill(tmpdir_path(state, "saw.png"), "no picture", 10);
    assert_false(run_in(state, &tool_scenes, &e, line));
    assert_error(&e, "saw.png");
    assert_int_equal(remove(tmpdir_path(state, "saw.png")), 0);
    assert_false(run_in(state, &tool_scenes, &e, line));
    assert_error(&e, "saw.png");
    assert_false(is_there(tmpdir_path(state, "set/train.json")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_options),
        tmpdir_test(test_shapes_files),
        tmpdir_test(test_shapes_no_half_list),
        tmpdir_test(test_shapes_full_disk),
        tmpdir_test(test_shapes_after_a_kill),
        tmpdir_test(test_locked),
        tmpdir_test(test_no_empty_directories),
        tmpdir_test(test_left_pictures),
        tmpdir_test(test_not_ours),
        tmpdir_test(test_set_stays),
        tmpdir_test(test_changed_since),
        tmpdir_test(test_shapes_parts_are_apart),
        cmocka_unit_test(test_shapes_answers),
        cmocka_unit_test(test_draw_figure),
        tmpdir_test(test_scenes_files),
        tmpdir_test(test_scenes_parts_are_apart),
        tmpdir_test(test_scenes_unseen),
        tmpdir_test(test_scenes_answers),
        tmpdir_test(test_scenes_bad_input),
    };

    return cmocka_run_group_tests_name("datatool", tests, NULL, NULL);
}
