/* test_safetensors.c - files of the reference implementation are read, and each kind of broken file
 * is refused with a message that says what is wrong and where. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/resource.h>

#include "base/mem.h"
#include "model/files/safetensors.h"
#include "tests/safetensors_files.h"
#include "tests/sanitized.h"

static const struct broken {
    const char *what;
    uint64_t len;
    const char *header;
    size_t bytes;
    const char *says;
} broken[] = {
    {"huge length", UINT64_MAX, "{}", 0, "at most 100000000"},
    {"length over the file", 4096, "{}", 0, "header of 4096 bytes, the file has 10"},
    {"length over the limit", 100000001, "{}", 0, "at most 100000000"},
    {"blank first", 0, " {}", 0, "is not a safetensors file"},
    {"no JSON", 0, "{\"a\":", 0, ":1:14: a value is needed"},
    {"JSON and more", 0, "{}{}", 0, ":1:11: there is more text"},
    {"metadata a list", 0, "{\"__metadata__\":[]}", 0, ":1:25: __metadata__ is not an object"},
    {"metadata a number", 0, "{\"__metadata__\":{\"a\":1}}", 0,
     ":1:30: __metadata__ \"a\" is not a string"},
    {"tensor no object", 0, "{\"a\":3}", 0, ":1:14: tensor a: not an object"},
    {"empty name", 0, "{\"\":" T("F32", "[1]", 0, 4) "}", 4, "name is empty"},
    {"newline in name", 0, "{\"a\\nb\":" T("F32", "[1]", 0, 4) "}", 4, "control characters"},
    {"unknown dtype", 0, "{\"a\":" T("F31", "[1]", 0, 4) "}", 4,
     ":1:23: tensor a: unknown dtype \"F31\""},
    {"newline in dtype", 0, "{\"a\":" T("F\\n2", "[1]", 0, 4) "}", 4, "unknown dtype \"F\\n2\""},
    {"newline in metadata", 0, "{\"__metadata__\":{\"a\\n\":1}}", 0, "\"a\\n\" is not a string"},
    {"no dtype", 0, "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no \"dtype\""},
    {"no shape", 0, "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "no \"shape\""},
    {"no range", 0, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "[begin, end]"},
    {"range of three", 0, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4,
     "[begin, end]"},
    {"negative dimension", 0, "{\"a\":" T("F32", "[-1]", 0, 4) "}", 4,
     ":1:38: tensor a: dimension 0"},
    {"fraction", 0, "{\"a\":" T("F32", "[1,1.5]", 0, 4) "}", 4, "dimension 1"},
    {"nine dimensions", 0, "{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "more than 8"},
    {"overflowing shape", 0, "{\"a\":" T("F32", "[4294967296,4294967296]", 0, 0) "}", 0,
     "its shape overflows"},
    {"overflowing bits", 0, "{\"a\":" T("F64", "[4503599627370496,1024]", 0, 0) "}", 0,
     "its shape overflows"},
    {"half a byte", 0, "{\"a\":" T("F4", "[3]", 0, 1) "}", 1, "whole bytes"},
    {"shape against range", 0, "{\"a\":" T("BF16", "[3]", 0, 4) "}", 4, "BF16 make 6"},
    {"range backwards", 0, "{\"a\":" T("F32", "[0]", 4, 0) "}", 4, "[begin, end]"},
    {"range outside", 0, "{\"a\":" T("F32", "[2]", 0, 8) "}", 4,
     "ends at byte 8, the file has 4 bytes of data: it is cut short"},
    {"overlap", 0, "{\"a\":" T("F32", "[2]", 0, 8) ",\"b\":" T("F32", "[1]", 4, 8) "}", 8,
     "tensor b: shares bytes with a"},
    {"hole", 0, "{\"a\":" T("U8", "[4]", 0, 4) ",\"b\":" T("U8", "[4]", 6, 10) "}", 10,
     "tensor b: 2 bytes before it"},
    {"rest", 0, "{\"a\":" T("U8", "[4]", 0, 4) "}", 7, "last 3 bytes"},
    {"twice", 0, "{\"a\":" T("U8", "[4]", 0, 4) ",\"a\":" T("U8", "[4]", 4, 8) "}", 8,
     ":1:62: the key \"a\" is there twice in one object, first in line 1"},
    {"twice metadata", 0, "{\"__metadata__\":{},\"__metadata__\":{}}", 0,
     "the key \"__metadata__\" is there twice"},
    {"a key twice in a tensor", 0, "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\"}}", 0,
     "the key \"dtype\" is there twice"},
    {"zero in name", 0, "{\"a\\u0000b\":" T("U8", "[1]", 0, 1) "}", 1,
     ":1:12: \\u0000 is not allowed here"},
    {"zero in metadata", 0, "{\"__metadata__\":{\"a\":\"\\u0000\"}}", 0, "\\u0000 is not allowed"},
};

static void test_broken_files(void **state)
{
    const char *path = tmpdir_path(state, "broken.safetensors");
    char name[512];

    snprintf(name, sizeof name, "%s", path);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct st_file f;
        struct err e = {0};
        put_file(name, broken[i].len, broken[i].header, broken[i].bytes);
        if (st_open(&f, name, &e)) fail_msg("%s: was opened", broken[i].what);
        check_message(e.msg, broken[i].says, broken[i].what);
        check_message(e.msg, name, broken[i].what);
        assert_null(f.tensors);
    }
}

/* Other formats under the name of a model's weights. */
static void test_other_files(void **state)
{
    static const struct {
        const char *data;
        size_t n;
        const char *says;
    } files[] = {
#define BYTES(text) text, sizeof text - 1
        {BYTES(""), ": is empty"},
        {BYTES("1234567"), ": is not a safetensors file"},
        {BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
         ": is a Git LFS pointer"},
        {BYTES("<!DOCTYPE html>\n<html>"), ": is an HTML page"},
        {BYTES("PK\3\4 and more of it"),
         ": is a zip archive (or a PyTorch file, .bin or .pth): if it is a PyTorch file, rename it "
         "to pytorch_model.bin"},
        {BYTES("GGUF\3\0\0\0 and more of it"), ": is a GGUF model"},
        {BYTES("\x80\2}q\0. and more of it"), ": is a Python pickle: load it in Python and save "},
        {BYTES("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), ": is nothing but zero bytes"},
        {BYTES("Entry not found"), ": is \"Entry not found\", a server's answer"},
        {BYTES("Entry was not found"),
         ": is text (\"Entry was not found\"), not a safetensors file"},
        {BYTES("{\"error\":{\"a\":1}}"), ": is text (\"{\"error\":{"},
        {BYTES("\x80\2\0\0\0\0\0\0{\"a\":"), ": header of 640 bytes, the file has 13: it is cut"},
#undef BYTES
    };
    char path[1200];
    struct st_file f;
    struct err e;

    snprintf(path, sizeof path, "%s", tmpdir_path(state, "s.safetensors"));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        spill(path, files[i].data, files[i].n);
        assert_false(st_open(&f, path, &e));
        check_message(e.msg, files[i].says, "a file");
    }
    assert_int_equal(unlink(path), 0);
    assert_false(st_open(&f, path, &e));
    check_message(e.msg, "No such file", "absent");
    assert_int_equal(symlink("../blobs/gone", path), 0);
    assert_false(st_open(&f, path, &e));
    check_message(e.msg, "is a link to ../blobs/gone, which is not there", "dangling link");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0777), 0);
    assert_false(st_open(&f, path, &e));
    check_message(e.msg, "is a directory, a file is needed", "directory");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0666), 0);
    assert_false(st_open(&f, path, &e));
    check_message(e.msg, "is a named pipe, a file is needed", "named pipe");
}

/* A header of 640 bytes begins like a pickle, but is not one. */
static void test_length_like_a_pickle(void **state)
{
    char header[641];
    struct st_file f;
    struct err e = {0};

    snprintf(header, sizeof header, "%-640s", "{\"a\":" T("U8", "[1]", 0, 1) "}");
    put_file(tmpdir_path(state, "a.safetensors"), 0, header, 1);
    if (!st_open(&f, tmpdir_path(state, "a.safetensors"), &e)) fail_msg("%s", e.msg);
    assert_memory_equal(f.map.data, "\x80\2", 2);
    st_close(&f);
}

/* Every prefix of a good file is refused; a changed byte of its header may be, but never
 * crashes. */
static void test_cut_and_changed(void **state)
{
    struct err e;
    struct st_file f;
    char *text;
    size_t len, header;
    char path[512];

    assert_true(
        file_read("tests/data/safetensors/reference.safetensors", 1 << 16, &text, &len, &e));
    snprintf(path, sizeof path, "%s", tmpdir_path(state, "cut.safetensors"));
    for (size_t n = 0; n < len; n += 7) {
        assert_true(file_write(path, text, n, &e));
        assert_false(st_open(&f, path, &e));
    }
    header = (size_t)(unsigned char)text[0] | (size_t)(unsigned char)text[1] << 8;
    for (size_t i = 0; i < header + 8; i += 3) {
        char was = text[i];
        text[i] = (char)(was ^ (char)(1 << i % 7));
        assert_true(file_write(path, text, len, &e));
        if (st_open(&f, path, &e)) {
            for (size_t k = 0; k < f.count; k++)
                assert_true((const uint8_t *)f.tensors[k].data + f.tensors[k].bytes <=
                            f.map.data + f.map.size);
            st_close(&f);
        }
        text[i] = was;
    }
    free(text);
}

/* The peak memory of this process, in bytes. */
static size_t peak_memory(void)
{
    struct rusage u;

    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return (size_t)u.ru_maxrss * 1024;
}

/* Memory is a small multiple of the header's size, whatever the header contains. */
static void test_header_of_many_values(void **state)
{
    enum { SIZE = 32 << 20 };
    struct err e;
    struct st_file f;
    char *text = mem_new(SIZE + 1, 1, "a header", &e);
    size_t before;

    assert_non_null(text);
    memcpy(text, "{\"a\":[", 6);
    for (size_t i = 6; i + 1 < SIZE; i += 2)
        memcpy(text + i, "0,", 2);
    put_file(tmpdir_path(state, "many.safetensors"), 0, text, 0);
    free(text);
    before = peak_memory(); /* includes the text above, which can only hide a part */
    assert_false(st_open(&f, tmpdir_path(state, "many.safetensors"), &e));
    check_message(e.msg, ": more than 1000000 values", "many");
    if (!SANITIZED) assert_true(peak_memory() - before < (size_t)4 * SIZE);
}

static void expect_ramp(const struct st_tensor *t, size_t n)
{
    float v[8] = {0};
    struct err e;

    assert_non_null(t);
    assert_int_equal(st_count(t), n);
    assert_true(st_read_f32(t, 0, n, v, &e));
    for (size_t i = 0; i < n; i++)
        assert_true(v[i] == (float)i / 4 - 1);
}

static void test_reference(void **state)
{
    struct st_file f;
    const struct st_tensor *t;
    struct err e;
    float v[2];
    int64_t n[2];

    (void)state;
    assert_true(st_open(&f, "tests/data/safetensors/reference.safetensors", &e));
    assert_int_equal(f.count, 7);
    for (size_t i = 0; i < f.count; i++)
        assert_true(f.tensors[i].aligned);
    t = st_find(&f, "w.f32");
    expect_ramp(t, 6);
    assert_int_equal(t->ndim, 2);
    assert_int_equal(t->dim[0], 2);
    assert_int_equal(t->dim[1], 3);
    expect_ramp(st_find(&f, "w.f16"), 3);
    expect_ramp(st_find(&f, "w.bf16"), 5);
    expect_ramp(st_find(&f, "w.f64"), 1);
    assert_int_equal(st_find(&f, "w.f64")->ndim, 0);
    assert_int_equal(st_count(st_find(&f, "empty")), 0);
    assert_non_null(st_find(&f, "name with \xc3\xa9 and \"quotes\""));
    assert_null(st_find(&f, "w"));
    assert_string_equal(st_metadata(&f, "format"), "pt");
    assert_null(st_metadata(&f, "nothing"));

    t = st_find(&f, "n.i64");
    memcpy(n, t->data, sizeof n);
    assert_int_equal(n[1], -2);
    assert_false(st_read_f32(t, 0, 1, v, &e));
    check_message(e.msg, "tensor n.i64: is I64", "integers");
    assert_true(st_read_f32(st_find(&f, "w.f32"), 4, 2, v, &e));
    assert_true(v[0] == 0.0f && v[1] == 0.25f);
    assert_false(st_read_f32(st_find(&f, "w.f32"), 5, 2, v, &e));
    assert_false(st_read_f32(st_find(&f, "w.f32"), SIZE_MAX, 2, v, &e));
    st_close(&f);
}

static void test_unaligned(void **state)
{
    struct st_file f;
    struct err e;
    const char *header = "{\"b\":" T("U8", "[1]", 0, 1) ",\"w\":" T("F32", "[1]", 1, 5) "}";
    float v, want;
    const uint8_t bytes[4] = {1, 2, 3, 4};

    put_file(tmpdir_path(state, "u.safetensors"), 0, header, 5);
    assert_true(st_open(&f, tmpdir_path(state, "u.safetensors"), &e));
    assert_int_equal(st_find(&f, "w")->aligned, (uintptr_t)st_find(&f, "w")->data % 4 == 0);
    assert_true(st_read_f32(st_find(&f, "w"), 0, 1, &v, &e));
    memcpy(&want, bytes, 4);
    assert_true(v == want);
    st_close(&f);

    /* Four lengths of the header produce both aligned and unaligned data. */
    for (int pad = 0, aligned = 0; pad < 4; pad++) {
        char padded[256];
        snprintf(padded, sizeof padded, "%s%*s", header, pad, "");
        put_file(tmpdir_path(state, "u.safetensors"), 0, padded, 5);
        assert_true(st_open(&f, tmpdir_path(state, "u.safetensors"), &e));
        aligned += st_find(&f, "w")->aligned;
        st_close(&f);
        if (pad == 3) assert_int_equal(aligned, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_broken_files),
                                       tmpdir_test(test_other_files),
                                       tmpdir_test(test_length_like_a_pickle),
                                       tmpdir_test(test_cut_and_changed),
                                       tmpdir_test(test_header_of_many_values),
                                       cmocka_unit_test(test_reference),
                                       tmpdir_test(test_unaligned)};

    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
