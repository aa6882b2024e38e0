/* test_safetensors_model.c - a model's directory: one file, shards, and wrong indices. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/files/safetensors.h"
#include "tests/safetensors_files.h"

#include "tests/mixed_tensors.h"

static const struct st_tensor *find_in_model(const void *m, const char *name)
{
    return st_model_find(m, name);
}

static void test_sharded(void **state)
{
    struct st_writer w;
    struct st_model m;
    struct err e;
    char *text;
    size_t len;

    /* 30 + 42 | 36 + 32 + 3 + 0 | 20000 | 4 bytes */
    assert_true(st_write_model_begin(&w, *state, mixed, MIXED, NULL, 80, &e));
    fill(&w);
    assert_true(st_write_end(&w, &e));
    assert_true(is_there(tmpdir_path(state, "model-00004-of-00004.safetensors")));
    assert_true(
        file_read(tmpdir_path(state, "model.safetensors.index.json"), 1 << 16, &text, &len, &e));
    assert_non_null(strstr(text, "\"total_size\":\t20147"));
    free(text);
    assert_true(st_model_open(&m, *state, &e));
    assert_int_equal(m.file_count, 4);
    assert_int_equal(m.count, MIXED);
    for (size_t i = 1; i < m.count; i++)
        assert_true(strcmp(m.tensors[i - 1]->name, m.tensors[i]->name) < 0);
    assert_non_null(strstr(st_model_find(&m, "scalar")->file, "model-00004-of-00004"));
    assert_null(st_model_find(&m, "scala"));
    check_mixed(find_in_model, &m);
    st_model_close(&m);

    /* Written again, it is replaced; as a single file it is refused: a reader would find two. */
    assert_true(st_write_model_begin(&w, *state, mixed, MIXED, NULL, 80, &e));
    fill(&w);
    assert_true(st_write_end(&w, &e));
    assert_false(st_write_model_begin(&w, *state, mixed, MIXED, NULL, 0, &e));
    check_message(e.msg, "model.safetensors.index.json: belongs to another model", "two forms");
}

static void test_model_in_one_file(void **state)
{
    struct st_writer w;
    struct st_model m;
    struct err e;

    assert_false(st_model_open(&m, *state, &e));
    check_message(e.msg, "holds no weights", "empty directory");
    assert_true(st_write_model_begin(&w, *state, mixed, MIXED, NULL, 0, &e));
    fill(&w);
    assert_true(st_write_end(&w, &e));
    assert_true(st_model_open(&m, *state, &e));
    assert_int_equal(m.file_count, 1);
    check_mixed(find_in_model, &m);
    st_model_close(&m);
}

static const struct {
    const char *what, *index, *says;
} bad_index[] = {
    {"no JSON", "{", "json:1:2: a key in double quotes is needed"},
    {"no map", "{\"metadata\":{}}", "json:1:1: no \"weight_map\""},
    {"empty map", "{\"weight_map\":{}}", "json:1:15: no \"weight_map\""},
    {"number", "{\"weight_map\":{\"a\":1}}", "json:1:20: tensor a: no file name"},
    {"missing file", "{\"weight_map\":{\"a\":\"no.safetensors\"}}",
     "no.safetensors: is not there, but "},
    {"missing tensor", "{\"weight_map\":{\"a\":\"good.safetensors\",\"b\":\"good.safetensors\"}}",
     "tensor b: is not in good.safetensors"},
    {"parent", "{\"weight_map\":{\"a\":\"../good.safetensors\"}}",
     "tensor a: file \"../good.safetensors\" is not a plain name"},
    {"absolute", "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "is not a plain name"},
    {"dots", "{\"weight_map\":{\"a\":\"..\"}}", "is not a plain name"},
    {"twice", "{\"weight_map\":{\"a\":\"good.safetensors\",\"a\":\"good.safetensors\"}}",
     "json:1:39: the key \"a\" is there twice"},
    {"zero", "{\"weight_map\":{\"a\\u0000\":\"good.safetensors\"}}", "\\u0000 is not allowed here"},
    {"a pointer", "version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"},
    {"in two files", "{\"weight_map\":{\"a\":\"good.safetensors\",\"b\":\"more.safetensors\"}}",
     "more.safetensors: tensor a: is in "},
    {"two of three files missing",
     "{\"weight_map\":{\"a\":\"good.safetensors\",\"b\":\"no.safetensors\","
     "\"c\":\"none.safetensors\",\"d\":\"no.safetensors\"}}",
     "no.safetensors: is not there, but "},
    {"and counted",
     "{\"weight_map\":{\"a\":\"good.safetensors\",\"b\":\"no.safetensors\","
     "\"c\":\"none.safetensors\",\"d\":\"no.safetensors\"}}",
     "puts tensor b in it (2 of 3 files are missing)"},
    {"dangling link", "{\"weight_map\":{\"a\":\"linked.safetensors\"}}",
     "linked.safetensors: is a link to ../../blobs/gone, which is not there"},
    {"newline", "{\"weight_map\":{\"a\\n\":\"good.safetensors\"}}", "control characters"},
};

static void test_bad_index(void **state)
{
    struct st_model m;
    struct err e;

    put_file(tmpdir_path(state, "good.safetensors"), 0, "{\"a\":" T("U8", "[1]", 0, 1) "}", 1);
    put_file(tmpdir_path(state, "more.safetensors"), 0,
             "{\"a\":" T("U8", "[1]", 0, 1) ",\"b\":" T("U8", "[1]", 1, 2) "}", 2);
    assert_int_equal(symlink("../../blobs/gone", tmpdir_path(state, "linked.safetensors")), 0);
    for (size_t i = 0; i < sizeof bad_index / sizeof *bad_index; i++) {
        put_text(tmpdir_path(state, "model.safetensors.index.json"), bad_index[i].index);
        if (st_model_open(&m, *state, &e)) fail_msg("%s: was opened", bad_index[i].what);
        check_message(e.msg, bad_index[i].says, bad_index[i].what);
        assert_null(m.files);
    }
}

/* Tensors of a shard belong to the model even if the index does not list them. */
static void test_unlisted(void **state)
{
    struct st_model m;
    struct err e = {0};

    put_file(tmpdir_path(state, "a.safetensors"), 0,
             "{\"a\":" T("U8", "[1]", 0, 1) ",\"b\":" T("U8", "[1]", 1, 2) "}", 2);
    put_text(tmpdir_path(state, "model.safetensors.index.json"),
             "{\"weight_map\":{\"b\":\"a.safetensors\"}}");
    if (!st_model_open(&m, *state, &e)) fail_msg("%s", e.msg);
    assert_int_equal(m.count, 2);
    assert_non_null(st_model_find(&m, "a"));
    st_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_sharded),
                                       tmpdir_test(test_model_in_one_file),
                                       tmpdir_test(test_bad_index), tmpdir_test(test_unlisted)};

    return cmocka_run_group_tests_name("safetensors_model", tests, NULL, NULL);
}
