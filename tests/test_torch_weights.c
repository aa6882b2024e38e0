/* test_torch_weights.c - tensors by name in files of torch.save: what torch 2.13 writes
 * (tests/data/weights/make_golden.py), and malformed archives; test_pickle.c has the pickles. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "model/files/torch_archive.h"
#include "tests/torch_archive_files.h"

#include <sys/mman.h>

#define DIR "tests/data/weights/files/"

static void test_good(void **state)
{
    static const char *const ramps[] = {"f32",   "f16",       "bf16",   "f64",
                                        "whole", "parameter", "marked", "marked parameter"};
    static const struct {
        const char *name;
        enum st_dtype dtype;
        size_t bytes;
    } others[] = {{"i64", ST_I64, 48}, {"i32", ST_I32, 24},   {"i16", ST_I16, 12},
                  {"i8", ST_I8, 6},    {"u8", ST_U8, 6},      {"bool", ST_BOOL, 6},
                  {"u16", ST_U16, 4},  {"f8", ST_F8_E4M3, 2}, {"empty", ST_F32, 0},
                  {"one", ST_F32, 4},  {"scalar", ST_F32, 4}, {"name with \xc3\xa9", ST_F32, 4}};
    struct st_file f;
    struct err e = {0};
    float v[3];
    int64_t n;

    (void)state;
    if (!torch_weights_open(&f, DIR "all.bin", &e)) fail_msg("%s", e.msg);
    for (size_t i = 0; i < sizeof ramps / sizeof *ramps; i++)
        check_ramp(&f, ramps[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const struct st_tensor *t = st_find(&f, others[i].name);
        if (!t) fail_msg("no tensor %s", others[i].name);
        assert_int_equal(t->dtype, others[i].dtype);
        assert_int_equal(t->bytes, others[i].bytes);
        assert_true(t->aligned);
    }
    assert_int_equal(f.count, 8 + 12 + 1);
    memcpy(&n, st_find(&f, "i64")->data, sizeof n);
    assert_int_equal(n, -2);
    assert_int_equal(st_find(&f, "scalar")->ndim, 0);
    /* views share the bytes of their base */
    const struct st_tensor *view = st_find(&f, "view"), *whole = st_find(&f, "whole");
    assert_ptr_equal(view->data, (const char *)whole->data + 3 * sizeof(float));
    assert_true(st_read_f32(view, 0, 3, v, &e) && v[0] == 1 && v[2] == 3);
    for (size_t i = 1; i < f.count; i++)
        assert_true(strcmp(f.tensors[i - 1].name, f.tensors[i].name) < 0);
    st_close(&f);
}

static void test_refused(void **state)
{
    static const struct {
        const char *path, *says;
    } files[] = {
        {DIR "turned.bin", "tensor a: is a view with gaps or turned axes; save it again with"},
        {DIR "gaps.bin", "tensor a: is a view with gaps"},
        {DIR "nested.bin", "\"state_dict\" is a dictionary: a training program's checkpoint; in "},
        {DIR "number.bin", "\"epoch\" is not a tensor"},
        {DIR "tensor.bin", "holds no dictionary of tensors by name"},
        {DIR "list.bin", "holds no dictionary of tensors by name"},
        {DIR "object.bin", "its pickle calls __main__.Whole, which"},
        {DIR "sparse.bin", "its pickle calls torch._utils._rebuild_sparse_tensor, which"},
        {DIR "qint8.bin", "its pickle calls torch._utils._rebuild_qtensor, which"},
        {DIR "script.bin", "its pickle calls __torch__."},
        {DIR "legacy.bin", "is a PyTorch file in the form before 1.6: in Python, torch.save("},
        {DIR "protocol4.bin", "its pickle is of protocol 4; torch.save writes 2"},
        {DIR "deflated.bin", "is compressed, which torch.save does not do"},
        {"tests/data/torchfile/u8.pth", "holds no dictionary of tensors by name"},
        {"tests/data/safetensors/reference.safetensors", "is a safetensors file"},
        {"tests/data/weights/make_golden.py", "is text (\"\"\"\"Models in every form"},
        {DIR "none.bin", "No such file"},
        {DIR, "is a directory, a file is needed"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        refused(files[i].path, files[i].path, files[i].says);
}

static void test_archives(void **state)
{
    static const char good[] = OPEN GOOD "s.";
    static const struct {
        const char *what;
        struct archive_edit edit;
        const char *says; /* NULL: it opens */
    } rows[] = {
        {"as torch writes it", {0}, NULL},
        {"zip64", {.wide = true}, NULL},
        {"with a comment", {.end = "comment"}, NULL},
        {"compressed", {.method = 8}, "is compressed"},
        {"moved", {.move = 1}, "the header of its member x/byteorder is not where it should be"},
        {"far away", {.move = 1 << 30}, "is not where it should be"},
        {"zip64, far away", {.wide = true, .move = INT64_MAX - (1 << 20)}, "is not where it"},
        {"before the file", {.wide = true, .move = -1000}, "is not where it should be"},
        {"checksum", {.crc = 1}, "the checksum of its member x/data.pkl is wrong"},
    };
    const char *path = tmpdir_path(state, "a.bin");

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct st_file f;
        struct err e = {0};
        put_pickle(path, good, sizeof good - 1, &rows[i].edit);
        if (rows[i].says) {
            refused(path, rows[i].what, rows[i].says);
        } else {
            if (!torch_weights_open(&f, path, &e)) fail_msg("%s: %s", rows[i].what, e.msg);
            check_ramp(&f, "a");
            st_close(&f);
        }
    }
    const struct test_member twice[] = {{"x/data.pkl", good, sizeof good - 1},
                                        {"x/data.pkl", good, sizeof good - 1}};
    put_archive(path, twice, 2, &(struct archive_edit){0});
    refused(path, "a member twice", "its member x/data.pkl is there twice");
    const struct test_member none[] = {{"x/data.txt", "a", 1}};
    put_archive(path, none, 1, &(struct archive_edit){0});
    refused(path, "no pickle", "has no member .../data.pkl");
    put_archive(path, none, 0, &(struct archive_edit){0});
    refused(path, "nothing in it", "has no member .../data.pkl");
    const struct test_member big[] = {{"x/data.pkl", good, sizeof good - 1},
                                      {"x/byteorder", "big", 3}};
    put_archive(path, big, 2, &(struct archive_edit){0});
    refused(path, "big-endian", "was written by a big-endian machine");
    put_archive(path, twice, 1, &(struct archive_edit){0});
    refused(path, "no values", "tensor a: has no member data/0, where its values should be");
}

/* Cut anywhere or with any byte changed, a file is refused, or its tensors are within its bytes. */
static void test_damaged(void **state)
{
    char *path = memory_file();
    int opened = 0;
    size_t n;
    char *text = slurp(DIR "all.bin", &n);

    (void)state;

    for (size_t k = 0; k < n; k += 5) {
        spill(path, text, k);
        open_changed(path, &opened);
    }
    assert_int_equal(opened, 0);
    for (size_t k = 0; k < n; k += 2) {
        const char was = text[k];
        text[k] = (char)(was ^ (1 << k / 2 % 8));
        spill(path, text, n);
        open_changed(path, &opened);
        text[k] = was;
    }
    assert_true(opened > 0); /* the checksum of values is not verified */
    free(text);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_refused),
                                       tmpdir_test(test_archives), cmocka_unit_test(test_damaged)};

    return cmocka_run_group_tests_name("torch_weights", tests, NULL, NULL);
}
