/* test_torch_weights.c - tensors by name in files of torch.save: what torch 2.13 writes
 * (tests/data/weights/make_golden.py), and archives and pickles that nobody should have written. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "model/torch_archive.h"
#include "tests/torch_archive_files.h"

#include <sys/mman.h>

#define DIR "tests/data/weights/files/"

/* ---- what torch writes ---- */

/* -2, -1, 0, 1, 2, 3 */
static void check_ramp(const struct st_file *f, const char *name)
{
    const struct st_tensor *t = st_find(f, name);
    float v[6];
    struct err e;

    if (!t) fail_msg("no tensor %s", name);
    assert_int_equal(t->ndim, 2);
    assert_true(t->dim[0] == 2 && t->dim[1] == 3);
    assert_true(st_read_f32(t, 0, 6, v, &e));
    for (int i = 0; i < 6; i++)
        assert_true(v[i] == (float)(i - 2));
}

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
    /* views share the bytes of what they are of */
    const struct st_tensor *view = st_find(&f, "view"), *whole = st_find(&f, "whole");
    assert_ptr_equal(view->data, (const char *)whole->data + 3 * sizeof(float));
    assert_true(st_read_f32(view, 0, 3, v, &e) && v[0] == 1 && v[2] == 3);
    for (size_t i = 1; i < f.count; i++)
        assert_true(strcmp(f.tensors[i - 1].name, f.tensors[i].name) < 0);
    st_close(&f);
}

/* Opens a file that must be refused with one line that names it and has `says` in it. */
static void refused(const char *path, const char *what, const char *says)
{
    struct st_file f;
    struct err e = {0};

    if (torch_weights_open(&f, path, &e)) fail_msg("%s: was opened", what);
    if (!strstr(e.msg, says) || strncmp(e.msg, path, strlen(path)) != 0 || strchr(e.msg, '\n'))
        fail_msg("%s: \"%s\" lacks \"%s\"", what, e.msg, says);
    assert_null(f.tensors);
}

static void test_refused(void **state)
{
    static const struct {
        const char *path, *says;
    } files[] = {
        {DIR "turned.bin", "tensor a: is a view with gaps or turned axes; save it again with"},
        {DIR "gaps.bin", "tensor a: is a view with gaps"},
        {DIR "nested.bin", "\"state_dict\" is a dictionary: a training program's checkpoint; in "},
        {DIR "number.bin", "\"epoch\" is no tensor"},
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

/* ---- archives and pickles made by hand ---- */

struct text {
    const char *p;
    size_t n;
};
#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof literal - 1                                                                \
    }

/* Pieces of {"a": tensor of [2, 3]}; a number of one byte is K and the byte. */
#define OPEN "\x80\x02}X\1\0\0\0a"
#define V2 "ctorch._utils\n_rebuild_tensor_v2\n"
#define STORAGE(class, key, n) "(X\7\0\0\0storagec" class "\nX\1\0\0\0" key "X\3\0\0\0cpu" n "tQ"
#define F32S(n) STORAGE("torch\nFloatStorage", "0", n)
#define HOOKS                                                                                      \
    "\x89"                                                                                         \
    "ccollections\nOrderedDict\n)R"
#define DIMS "K\2K\3\x86K\3K\1\x86"
#define TENSOR(storage, rest) V2 "(" storage rest HOOKS "tR"
#define GOOD TENSOR(F32S("K\6"), "K\0" DIMS)

/* data/0 has 6 floats. */
static void put_pickle(const char *path, const char *pickle, size_t n,
                       const struct archive_edit *edit)
{
    static const float values[6] = {-2, -1, 0, 1, 2, 3};
    const struct test_member m[] = {{"x/data.pkl", pickle, n},
                                    {"x/byteorder", "little", 6},
                                    {"x/data/0", values, sizeof values}};

    put_archive(path, m, 3, edit);
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

/* Spellings of one tensor that other versions and machines write. */
static void test_spellings(void **state)
{
    static const struct text good[] = {
        TEXT(OPEN GOOD "s."),
        TEXT(OPEN V2 "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                     "0X\6\0\0\0cuda:1M\6\0tQ"
                     "J\0\0\0\0" DIMS HOOKS "tRs."),
        TEXT("\x80\2}r\0\1\0\0X\1\0\0\0aq\1" GOOD "r\1\1\0\0sj\0\1\0\0"
             "b."),
        TEXT("\x80\2"
             "ccollections\nOrderedDict\n)R(U\1a" GOOD "u}X\1\0\0\0xNs"
             "b."),
        TEXT(OPEN "ctorch._utils\n_rebuild_parameter\n" GOOD "\x88"
                  "ccollections\nOrderedDict\n)R"
                  "\x87Rs."),
        TEXT(OPEN TENSOR(F32S("\x8a\1\6"), "\x8a\0" DIMS) "s."),
    };
    const char *path = tmpdir_path(state, "a.bin");

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct st_file f;
        struct err e = {0};
        put_pickle(path, good[i].p, good[i].n, &(struct archive_edit){0});
        if (!torch_weights_open(&f, path, &e)) fail_msg("%zu: %s", i, e.msg);
        check_ramp(&f, "a");
        st_close(&f);
    }
}

static const struct {
    const char *what;
    struct text pickle;
    const char *says;
} pickles[] = {
    /* of the machine */
    {"empty", TEXT(""), "it ends within a value"},
    {"no end", TEXT("\x80\2}"), "it ends within a value"},
    {"more behind the end", TEXT("\x80\2}.}"), "there is more behind its end"},
    {"two values", TEXT("\x80\2}}."), "it ends with other than one value"},
    {"no value", TEXT("\x80\2."), "it takes a value that is not there"},
    {"a mark alone", TEXT("\x80\2(."), "it takes a value that is not there"},
    {"a tuple of too few", TEXT("\x80\2K\1\x86."), "it takes a value that is not there"},
    {"a tuple over a mark", TEXT("\x80\2K\1(K\1\x86."), "it takes a value that is not there"},
    {"a tuple without mark", TEXT("\x80\2K\1t."), "it has no mark"},
    {"items without mark", TEXT("\x80\2}K\1K\1u."), "it has no mark"},
    {"items of nothing", TEXT("\x80\2(K\1K\1u."), "items of nothing"},
    {"items of a number", TEXT("\x80\2K\1(K\1K\1u."), "items of something that has none"},
    {"items of a tuple", TEXT("\x80\2)K\1a."), "items of something that has none"},
    {"half an item", TEXT("\x80\2}(K\1u."), "items of something that has none"},
    {"a value of nothing", TEXT("\x80\2}K\1s."), "items of nothing"},
    {"attributes of nothing", TEXT("\x80\2}b."), "it takes a value that is not there"},
    {"a call of a text", TEXT("\x80\2X\0\0\0\0)R."), "it calls what is no function"},
    {"a call with a text",
     TEXT("\x80\2"
          "ctorch\nSize\nX\0\0\0\0R."),
     "it calls what is no"},
    {"a call of itself", TEXT("\x80\2}q\0h\0R."), "it calls what is no function"},
    {"recall of nothing", TEXT("\x80\2h\0."), "it recalls what it has not remembered"},
    {"recall of a gap", TEXT("\x80\2}q\7h\6."), "it recalls what it has not remembered"},
    {"memory without end", TEXT("\x80\2}r\xff\xff\xff\xff."),
     "a number of its memory is too large"},
    {"a text without end",
     TEXT("\x80\2X\xff\xff\xff\x7f"
          "a."),
     "it ends within a value"},
    {"a long number",
     TEXT("\x80\2\x8a\xff"
          "aaaa."),
     "has a number of 255 bytes"},
    {"an unknown opcode", TEXT("\x80\2\xffu."), "the opcode 0xff"},
    {"a function without name",
     TEXT("\x80\2"
          "ctorch"),
     "the name of a function does not end"},
    {"a class without name",
     TEXT("\x80\2"
          "ctorch\nx"),
     "the name of a function does not end"},
    {"a function that acts",
     TEXT("\x80\2"
          "cposix\nsystem\nX\2\0\0\0ls\x85R."),
     "its pickle calls posix.system, which tensors have no need of"},
    {"a function with a line break",
     TEXT("\x80\2"
          "cpo\x1bx\nsys\ttem\n)R."),
     "its pickle calls po\\x1bx.sys\\ttem"},
    /* of the tensors */
    {"a name twice", TEXT(OPEN GOOD "sX\1\0\0\0a" GOOD "s."), "tensor a: is there twice"},
    {"a name that is none", TEXT("\x80\2}K\1" GOOD "s."), "is no name of a tensor"},
    {"a name with a zero", TEXT("\x80\2}X\3\0\0\0a\0b" GOOD "s."), "is no name of a tensor"},
    {"a name with a line break", TEXT("\x80\2}X\3\0\0\0a\nb" GOOD "s."), "control characters"},
    {"a name of nothing", TEXT("\x80\2}X\0\0\0\0" GOOD "s."), "name is empty"},
    {"itself", TEXT("\x80\2}q\0X\1\0\0\0ah\0s."), "\"a\" is a dictionary"},
    {"a list of itself", TEXT("\x80\2}X\1\0\0\0a]q\0h\0as."), "\"a\" is no tensor"},
    {"a parameter of itself", TEXT(OPEN "ctorch._utils\n_rebuild_parameter\n]q\0h\0a\x85Rs."),
     "\"a\" is no tensor"},
    {"a parameter of nothing", TEXT(OPEN "ctorch._utils\n_rebuild_parameter\n)Rs."),
     "\"a\" is no tensor"},
    {"a tensor of nothing", TEXT(OPEN V2 ")Rs."), "\"a\" is no tensor of a dtype"},
    {"a storage of nothing", TEXT(OPEN V2 "()QK\0" DIMS HOOKS "tRs."), "is no tensor of a dtype"},
    {"a storage that is a number", TEXT(OPEN V2 "(K\0QK\0" DIMS HOOKS "tRs."), "is no tensor of a"},
    {"a storage of texts",
     TEXT(OPEN TENSOR(STORAGE("torch\nfloat32", "0", "K\6"), "K\0" DIMS) "s."),
     "is no tensor of a dtype"},
    {"an untyped storage",
     TEXT(OPEN TENSOR(STORAGE("torch.storage\nUntypedStorage", "0", "K\6"), "K\0" DIMS) "s."),
     "is no tensor of a dtype"},
    {"no offset", TEXT(OPEN TENSOR(F32S("K\6"), "N" DIMS) "s."), "is no tensor of a dtype"},
    {"an offset below zero", TEXT(OPEN TENSOR(F32S("K\6"), "J\xff\xff\xff\xff" DIMS) "s."),
     "is no tensor of a dtype"},
    {"a dimension below zero",
     TEXT(OPEN TENSOR(F32S("K\6"), "K\0J\xff\xff\xff\xffK\3\x86K\3K\1\x86") "s."),
     "is no tensor of a dtype"},
    {"nine dimensions",
     TEXT(OPEN TENSOR(F32S("K\6"),
                      "K\0(K\1K\1K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1K\1K\1t") "s."),
     "is no tensor of a dtype"},
    {"more strides than dimensions", TEXT(OPEN TENSOR(F32S("K\6"), "K\0K\6\x85K\3K\1\x86") "s."),
     "is no tensor of a dtype"},
    {"a shape that overflows",
     TEXT(OPEN TENSOR(F32S("K\6"), "K\0\x8a\5\0\0\0\0\1\x8a\5\0\0\0\0\1\x86K\1K\1\x86") "s."),
     "is no tensor of a dtype"},
    {"bytes that overflow",
     TEXT(OPEN TENSOR(F32S("K\6"), "K\0\x8a\x8\0\0\0\0\0\0\0\x40\x85K\1\x85") "s."),
     "does not fit its storage"},
    {"an offset that overflows",
     TEXT(OPEN TENSOR(F32S("K\6"), "\x8a\x8\xff\xff\xff\xff\xff\xff\xff\x7f" DIMS) "s."),
     "does not fit its storage"},
    {"an offset that is too large", TEXT(OPEN TENSOR(F32S("K\6"), "K\1" DIMS) "s."),
     "does not fit its storage"},
    {"a storage that is too small", TEXT(OPEN TENSOR(F32S("K\5"), "K\0" DIMS) "s."),
     "does not fit its storage"},
    {"a storage that says too much", TEXT(OPEN TENSOR(F32S("M\0\1"), "K\0K\7\x85K\1\x85") "s."),
     "member data/0 has 24 bytes, its tensor ends at byte 28"},
    {"a storage that is not there",
     TEXT(OPEN TENSOR(STORAGE("torch\nFloatStorage", "1", "K\6"), "K\0" DIMS) "s."),
     "has no member data/1"},
    {"a storage outside of the archive's names",
     TEXT(OPEN TENSOR(STORAGE("torch\nFloatStorage", "/", "K\6"), "K\0" DIMS) "s."),
     "has no member data//"},
};

static void test_pickles(void **state)
{
    const char *path = tmpdir_path(state, "a.bin");

    for (size_t i = 0; i < sizeof pickles / sizeof *pickles; i++) {
        put_pickle(path, pickles[i].pickle.p, pickles[i].pickle.n, &(struct archive_edit){0});
        refused(path, pickles[i].what, pickles[i].says);
    }
}

/* A pickle of n times `piece` between `begin` and `end`. */
static void put_many(const char *path, struct text begin, struct text piece, size_t n,
                     struct text end)
{
    struct err e;
    const size_t all = begin.n + n * piece.n + end.n;
    char *text = mem_new(all, 1, "a pickle", &e), *at = text;

    assert_non_null(text);
    memcpy(at, begin.p, begin.n);
    at += begin.n;
    for (size_t i = 0; i < n; i++, at += piece.n)
        memcpy(at, piece.p, piece.n);
    memcpy(at, end.p, end.n);
    put_pickle(path, text, all, &(struct archive_edit){0});
    free(text);
}

/* What could grow without bound, or call itself without end. */
static void test_large(void **state)
{
    static const struct {
        const char *what;
        struct text begin, piece;
        size_t n;
        struct text end;
        const char *says;
    } rows[] = {
        {"values", TEXT("\x80\2"), TEXT("}"), 1100000, TEXT("."), "more than 1000000 values"},
        {"items", TEXT("\x80\2]q\0"), TEXT("h\0a"), 2100000, TEXT("."), "more than 2000000 items"},
        {"tuples in tuples", TEXT("\x80\2)"), TEXT("\x85"), 900000, TEXT("."),
         "holds no dictionary"},
        {"lists in lists, opened", TEXT("\x80\2"), TEXT("("), 900000, TEXT("."), "not there"},
        {"lists of the list before, twice", TEXT("\x80\2)q\0"), TEXT("h\0h\0\x86q\0"), 150000,
         TEXT("."), "ends with other"},
        {"a long name again and again",
         TEXT("\x80\2}(X\x28\0\0\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaq\1N"), TEXT("h\1N"),
         200000, TEXT("u."), "a tensor's name is there twice"},
    };
    const char *path = tmpdir_path(state, "a.bin");

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_many(path, rows[i].begin, rows[i].piece, rows[i].n, rows[i].end);
        refused(path, rows[i].what, rows[i].says);
    }
}

/* A file that opens has all tensors in its bytes. */
static void open_changed(const char *path, int *opened)
{
    struct st_file f;
    struct err e = {0};

    if (!torch_weights_open(&f, path, &e)) {
        assert_true(e.msg[0] && !strchr(e.msg, '\n'));
        return;
    }
    ++*opened;
    for (size_t i = 0; i < f.count; i++) {
        const struct st_tensor *t = &f.tensors[i];
        const uint8_t *data = t->data;
        assert_true(data >= f.map.data && t->bytes <= f.map.size);
        assert_true((size_t)(data - f.map.data) <= f.map.size - t->bytes);
        assert_int_equal(st_count(t) * st_dtypes[t->dtype].bits / 8, t->bytes);
    }
    st_close(&f);
}

/* A file in memory, for those that are written thousands of times. */
static char *memory_file(void)
{
    struct err e;
    char *path = mem_printf(&e, "/proc/self/fd/%d", memfd_create("test", MFD_CLOEXEC));

    assert_non_null(path);
    return path;
}

/* Cut anywhere or with any byte changed, a file is refused, or its tensors lie in it. */
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
    assert_true(opened > 0); /* values have no checksum that is looked at */
    free(text);
    free(path);
}

/* The same for the pickle alone, with its checksum made right: the machine meets every byte. */
static void test_changed_pickle(void **state)
{
    char *path = memory_file();
    static const char flips[] = {1, 4, 0x20, (char)0x80, (char)0xff};
    static const float values[64];
    struct zip z;
    struct bytes member;
    struct err e;
    size_t n;
    int opened = 0;
    char *text = slurp(DIR "all.bin", &n);

    (void)state;
    assert_true(zip_open(&z, (struct bytes){(const uint8_t *)text, n}, &e));
    assert_true(zip_contents(&z, zip_find_end(&z, "/data.pkl"), &member, &e));
    for (size_t k = 0; k < member.n; k++) {
        struct test_member m[16] = {{"x/data.pkl", member.p, member.n}};
        char names[15][32], *at = text + (member.p - (const uint8_t *)text) + k;
        const char was = *at;
        for (int d = 0; d < 15; d++) {
            snprintf(names[d], sizeof names[d], "x/data/%d", d);
            m[d + 1] = (struct test_member){names[d], values, sizeof values};
        }
        *at ^= flips[k % sizeof flips];
        put_archive(path, m, 16, &(struct archive_edit){0});
        open_changed(path, &opened);
        *at = was;
    }
    zip_close(&z);
    free(text);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),    cmocka_unit_test(test_refused),
        tmpdir_test(test_archives),     tmpdir_test(test_pickles),
        tmpdir_test(test_spellings),    tmpdir_test(test_large),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_changed_pickle)};

    return cmocka_run_group_tests_name("torch_weights", tests, NULL, NULL);
}
