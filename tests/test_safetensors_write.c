/* test_safetensors_write.c - what is written is read back, in the given order, and what cannot be
 * represented is refused. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/files/safetensors.h"
#include "tests/safetensors_files.h"

#include "tests/mixed_tensors.h"

static const struct st_tensor *find_in_file(const void *f, const char *name)
{
    return st_find(f, name);
}

static void test_round_trip(void **state)
{
    static const char *const meta[] = {"format", "pt", "note", "two\nlines", NULL};
    struct st_writer w;
    struct st_file f;
    struct err e;

    assert_true(st_write_begin(&w, tmpdir_path(state, "m.safetensors"), mixed, MIXED, meta, &e));
    fill(&w);
    assert_false(is_there(tmpdir_path(state, "m.safetensors")));
    assert_true(st_write_end(&w, &e));
    assert_true(st_open(&f, tmpdir_path(state, "m.safetensors"), &e));
    assert_int_equal(f.count, MIXED);
    assert_int_equal(((const uint8_t *)st_find(&f, "d.weight")->data - f.map.data) % 8, 0);
    assert_string_equal(st_metadata(&f, "note"), "two\nlines");
    check_mixed(find_in_file, &f);
    st_close(&f);
    assert_false(is_there(tmpdir_path(state, "m.safetensors.tmp")));
}

static void test_given_order(void **state)
{
    static const struct st_spec specs[] = {{"z", ST_BF16, 1, {1}}, {"a", ST_BF16, 1, {1}}};
    struct st_writer w;
    struct st_file f;
    struct err e;
    float one = 1;

    assert_true(st_write_begin(&w, tmpdir_path(state, "o.safetensors"), specs, 2, NULL, &e));
    assert_true(st_write_f32(&w, 0, &one, 1, &e) && st_write_f32(&w, 1, &one, 1, &e));
    assert_true(st_write_end(&w, &e));
    assert_true(st_open(&f, tmpdir_path(state, "o.safetensors"), &e));
    assert_true((const char *)st_find(&f, "z")->data < (const char *)st_find(&f, "a")->data);
    assert_string_equal(f.tensors[0].name, "a"); /* iteration is sorted by name */
    assert_string_equal(st_metadata(&f, "format"), "pt");
    st_close(&f);
}

static void test_writer_refuses(void **state)
{
    static const struct {
        struct st_spec specs[2];
        const char *says;
    } bad[] = {
        {{{"a", ST_F32, 1, {1}}, {"a", ST_F32, 1, {1}}}, "tensor a: is to be written twice"},
        {{{"", ST_F32, 1, {1}}, {"b", ST_F32, 1, {1}}}, "cannot be named"},
        {{{"__metadata__", ST_F32, 1, {1}}, {"b", ST_F32, 1, {1}}}, "cannot be named"},
        {{{"a", ST_F32, 1, {-1}}, {"b", ST_F32, 1, {1}}}, "tensor a: dimension 0 is -1"},
        {{{"a", ST_F32, 9, {1}}, {"b", ST_F32, 1, {1}}}, "tensor a: 9 dimensions"},
        {{{"a", ST_F32, 2, {INT64_MAX, 4}}, {"b", ST_F32, 1, {1}}}, "overflows"},
    };
    struct st_writer w;
    struct err e;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(
            st_write_begin(&w, tmpdir_path(state, "w.safetensors"), bad[i].specs, 2, NULL, &e));
        check_message(e.msg, bad[i].says, "specs");
        assert_null(w.slots);
    }
}

static void test_writer_misuse(void **state)
{
    static const struct st_spec specs[] = {{"a", ST_F16, 1, {2}}, {"b", ST_I32, 1, {1}}};
    struct st_writer w;
    struct err e;
    float v[3] = {1, 2, 3}, big = 70000, inf = INFINITY;
    const char *path = tmpdir_path(state, "w.safetensors");

    assert_true(st_write_begin(&w, path, specs, 2, NULL, &e));
    assert_false(st_write_f32(&w, 0, v, 3, &e));
    check_message(e.msg, "tensor a: has 4 bytes", "too much");
    assert_false(st_write_f32(&w, 0, &big, 1, &e));
    check_message(e.msg, "tensor a: 70000 does not fit F16", "overflow");
    assert_false(st_write_f32(&w, 1, v, 1, &e));
    check_message(e.msg, "tensor b: fp32 values cannot become I32", "integers");
    assert_true(st_write_f32(&w, 0, &inf, 1, &e)); /* an infinite value may stay so */
    assert_false(st_write_end(&w, &e));
    check_message(e.msg, "tensor a: 2 of its 4 bytes", "unfinished");
    assert_false(is_there(path));
    assert_null(w.slots);
    assert_false(
        st_write_begin(&w, tmpdir_path(state, "no/such/w.safetensors"), specs, 2, NULL, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_round_trip), tmpdir_test(test_given_order),
                                       tmpdir_test(test_writer_refuses),
                                       tmpdir_test(test_writer_misuse)};

    return cmocka_run_group_tests_name("safetensors_write", tests, NULL, NULL);
}
