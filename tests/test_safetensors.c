/* test_safetensors.c - files of the reference implementation are read, ours are read back, and each
 * kind of broken file is refused with a message that says what is wrong and where. */
#include "base/bf16.h"
#include "base/mem.h"
#include "model/safetensors.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *tmp_root(void)
{
    const char *t = getenv("TMPDIR");
    return t && *t ? t : "/tmp";
}

static int make_dir(void **state)
{
    struct err e;
    char *dir = mem_printf(&e, "%s/test_safetensors.XXXXXX", tmp_root());

    *state = dir;
    return dir && mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char *dir = *state;
    DIR *d = opendir(dir);
    struct err e;

    for (struct dirent *f; d && (f = readdir(d));) {
        char *path = file_join(dir, f->d_name, &e);
        if (f->d_name[0] != '.') unlink(path);
        free(path);
    }
    if (d) closedir(d);
    rmdir(dir);
    free(dir);
    return 0;
}

/* A path in the test's directory; one of four buffers in turn. */
static const char *in(void **state, const char *name)
{
    static char buf[4][512];
    static int turn;
    char *p = buf[turn++ % 4];

    snprintf(p, sizeof buf[0], "%s/%s", (const char *)*state, name);
    return p;
}

/* A file of length field `len` (or the header's own length where len is 0), header and data. */
static void put_file(const char *path, uint64_t len, const char *header, size_t data_bytes)
{
    FILE *fp = fopen(path, "wb");

    assert_non_null(fp);
    if (len == 0) len = strlen(header);
    for (int i = 0; i < 8; i++)
        fputc((int)(len >> 8 * i & 255), fp);
    fputs(header, fp);
    for (size_t i = 0; i < data_bytes; i++)
        fputc((int)(i & 255), fp);
    fclose(fp);
}

static void put_text(const char *path, const char *text)
{
    struct err e;
    assert_true(file_write(path, text, strlen(text), &e));
}

static void check_message(const char *msg, const char *want, const char *what)
{
    if (!strstr(msg, want)) fail_msg("%s: \"%s\" lacks \"%s\"", what, msg, want);
    if (strchr(msg, '\n')) fail_msg("%s: more than one line: \"%s\"", what, msg);
}

#define T(dtype, shape, begin, end)                                                                \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

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
    {"blank first", 0, " {}", 0, "does not start with '{'"},
    {"no JSON", 0, "{\"a\":", 0, "no JSON object"},
    {"JSON and more", 0, "{}{}", 0, "something is behind"},
    {"metadata a list", 0, "{\"__metadata__\":[]}", 0, "__metadata__ is no object"},
    {"metadata a number", 0, "{\"__metadata__\":{\"a\":1}}", 0, "\"a\" is no string"},
    {"tensor no object", 0, "{\"a\":3}", 0, "tensor a: not an object"},
    {"empty name", 0, "{\"\":" T("F32", "[1]", 0, 4) "}", 4, "name is empty"},
    {"newline in name", 0, "{\"a\\nb\":" T("F32", "[1]", 0, 4) "}", 4, "control characters"},
    {"unknown dtype", 0, "{\"a\":" T("F31", "[1]", 0, 4) "}", 4, "tensor a: unknown dtype \"F31\""},
    {"newline in dtype", 0, "{\"a\":" T("F\\n2", "[1]", 0, 4) "}", 4, "unknown dtype \"?\""},
    {"newline in metadata", 0, "{\"__metadata__\":{\"a\\n\":1}}", 0, "\"?\" is no string"},
    {"no dtype", 0, "{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no \"dtype\""},
    {"no shape", 0, "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "no \"shape\""},
    {"no range", 0, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "[begin, end]"},
    {"range of three", 0, "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4,
     "[begin, end]"},
    {"negative dimension", 0, "{\"a\":" T("F32", "[-1]", 0, 4) "}", 4, "dimension 0"},
    {"fraction", 0, "{\"a\":" T("F32", "[1,1.5]", 0, 4) "}", 4, "dimension 1"},
    {"nine dimensions", 0, "{\"a\":" T("F32", "[1,1,1,1,1,1,1,1,1]", 0, 4) "}", 4, "more than 8"},
    {"overflowing shape", 0, "{\"a\":" T("F32", "[4294967296,4294967296]", 0, 0) "}", 0,
     "its shape overflows"},
    {"overflowing bits", 0, "{\"a\":" T("F64", "[4503599627370496,1024]", 0, 0) "}", 0,
     "its shape overflows"},
    {"half a byte", 0, "{\"a\":" T("F4", "[3]", 0, 1) "}", 1, "whole bytes"},
    {"shape against range", 0, "{\"a\":" T("BF16", "[3]", 0, 4) "}", 4, "BF16 make 6"},
    {"range backwards", 0, "{\"a\":" T("F32", "[0]", 4, 0) "}", 4, "[begin, end]"},
    {"range outside", 0, "{\"a\":" T("F32", "[2]", 0, 8) "}", 4, "ends at byte 8, the file has 4"},
    {"overlap", 0, "{\"a\":" T("F32", "[2]", 0, 8) ",\"b\":" T("F32", "[1]", 4, 8) "}", 8,
     "tensor b: shares bytes with a"},
    {"hole", 0, "{\"a\":" T("U8", "[4]", 0, 4) ",\"b\":" T("U8", "[4]", 6, 10) "}", 10,
     "tensor b: 2 bytes before it"},
    {"rest", 0, "{\"a\":" T("U8", "[4]", 0, 4) "}", 7, "last 3 bytes"},
    {"twice", 0, "{\"a\":" T("U8", "[4]", 0, 4) ",\"a\":" T("U8", "[4]", 4, 8) "}", 8,
     "tensor a: is there twice"},
};

static void test_broken_files(void **state)
{
    const char *path = in(state, "broken.safetensors");
    char name[512];

    snprintf(name, sizeof name, "%s", path);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct st_file f;
        struct err e = {""};
        put_file(name, broken[i].len, broken[i].header, broken[i].bytes);
        if (st_open(&f, name, &e)) fail_msg("%s: was opened", broken[i].what);
        check_message(e.msg, broken[i].says, broken[i].what);
        check_message(e.msg, name, broken[i].what);
        assert_null(f.tensors);
    }
}

static void test_short_files(void **state)
{
    struct st_file f;
    struct err e;

    put_text(in(state, "s.safetensors"), "");
    assert_false(st_open(&f, in(state, "s.safetensors"), &e));
    check_message(e.msg, "too few", "empty");
    put_text(in(state, "s.safetensors"), "1234567");
    assert_false(st_open(&f, in(state, "s.safetensors"), &e));
    check_message(e.msg, "too few", "seven bytes");
    assert_false(st_open(&f, in(state, "absent.safetensors"), &e));
    check_message(e.msg, "absent.safetensors", "absent");
}

/* Every prefix of a good file is refused, and every changed byte of its header at most refused. */
static void test_cut_and_changed(void **state)
{
    struct err e;
    struct st_file f;
    char *text;
    size_t len, header;
    char path[512];

    assert_true(
        file_read("tests/data/safetensors/reference.safetensors", 1 << 16, &text, &len, &e));
    snprintf(path, sizeof path, "%s", in(state, "cut.safetensors"));
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

static void test_header_of_many_values(void **state)
{
    size_t n = 8200000;
    struct err e;
    struct st_file f;
    char *text = mem_new(n + 1, 1, "a header", &e);

    assert_non_null(text);
    memcpy(text, "{\"a\":[", 6);
    for (size_t i = 6; i + 1 < n; i += 2)
        memcpy(text + i, "0,", 2);
    put_file(in(state, "many.safetensors"), 0, text, 0);
    free(text);
    assert_false(st_open(&f, in(state, "many.safetensors"), &e));
    check_message(e.msg, "over 4000000 JSON values", "many");
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

    put_file(in(state, "u.safetensors"), 0, header, 5);
    assert_true(st_open(&f, in(state, "u.safetensors"), &e));
    assert_int_equal(st_find(&f, "w")->aligned, (uintptr_t)st_find(&f, "w")->data % 4 == 0);
    assert_true(st_read_f32(st_find(&f, "w"), 0, 1, &v, &e));
    memcpy(&want, bytes, 4);
    assert_true(v == want);
    st_close(&f);

    /* Shifting the header by each of four lengths meets both answers. */
    for (int pad = 0, aligned = 0; pad < 4; pad++) {
        char padded[256];
        snprintf(padded, sizeof padded, "%s%*s", header, pad, "");
        put_file(in(state, "u.safetensors"), 0, padded, 5);
        assert_true(st_open(&f, in(state, "u.safetensors"), &e));
        aligned += st_find(&f, "w")->aligned;
        st_close(&f);
        if (pad == 3) assert_int_equal(aligned, 1);
    }
}

static const struct st_spec mixed[] = {
    {"h.weight", ST_F16, 2, {3, 5}},   {"b.weight", ST_BF16, 2, {7, 3}},
    {"f.weight", ST_F32, 1, {9}},      {"d.weight", ST_F64, 2, {2, 2}},
    {"flag", ST_BOOL, 1, {3}},         {"none", ST_F32, 2, {0, 9}},
    {"quote\"d", ST_BF16, 1, {10000}}, {"scalar", ST_F32, 0, {0}},
};
enum { MIXED = sizeof mixed / sizeof *mixed };

static float sample(size_t tensor, size_t i)
{
    return (float)((double)(tensor + 1) * 0.37 * sin((double)i * 1.7 + 0.3));
}

static size_t spec_count(const struct st_spec *s)
{
    size_t n = 1;
    for (int i = 0; i < s->ndim; i++)
        n *= (size_t)s->dim[i];
    return n;
}

/* Fills all tensors, the last one first, each in pieces of three values. */
static void fill(struct st_writer *w)
{
    struct err e;

    for (size_t k = MIXED; k-- > 0;) {
        size_t n = spec_count(&mixed[k]);
        if (!st_dtypes[mixed[k].dtype].from_f32) {
            assert_true(st_write_raw(w, k, "\1\0\1", n, &e));
            continue;
        }
        for (size_t i = 0; i < n;) {
            float v[3];
            size_t m = n - i < 3 ? n - i : 3;
            for (size_t j = 0; j < m; j++)
                v[j] = sample(k, i + j);
            assert_true(st_write_f32(w, k, v, m, &e));
            i += m;
        }
    }
}

static float rounded(enum st_dtype dtype, float v)
{
    if (dtype == ST_BF16) return bf16_to_f32(bf16_from_f32(v));
    if (dtype == ST_F16) return f16_to_f32(f16_from_f32(v));
    return v;
}

static void check_mixed(const struct st_tensor *(*find)(const void *, const char *),
                        const void *in_it)
{
    struct err e;

    for (size_t k = 0; k < MIXED; k++) {
        const struct st_tensor *t = find(in_it, mixed[k].name);
        size_t n = spec_count(&mixed[k]);
        assert_non_null(t);
        assert_true(t->aligned);
        assert_int_equal(t->dtype, mixed[k].dtype);
        assert_int_equal(t->ndim, mixed[k].ndim);
        assert_memory_equal(t->dim, mixed[k].dim, (size_t)t->ndim * sizeof *t->dim);
        if (t->dtype == ST_BOOL) {
            assert_memory_equal(t->data, "\1\0\1", 3);
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            float v;
            assert_true(st_read_f32(t, i, 1, &v, &e));
            assert_true(v == rounded(t->dtype, sample(k, i)));
        }
    }
}

static const struct st_tensor *find_in_file(const void *f, const char *name)
{
    return st_find(f, name);
}

static const struct st_tensor *find_in_model(const void *m, const char *name)
{
    return st_model_find(m, name);
}

static void test_round_trip(void **state)
{
    static const char *const meta[] = {"format", "pt", "note", "two\nlines", NULL};
    struct st_writer w;
    struct st_file f;
    struct err e;

    assert_true(st_write_begin(&w, in(state, "m.safetensors"), mixed, MIXED, meta, &e));
    fill(&w);
    assert_false(file_exists(in(state, "m.safetensors")));
    assert_true(st_write_end(&w, &e));
    assert_true(st_open(&f, in(state, "m.safetensors"), &e));
    assert_int_equal(f.count, MIXED);
    assert_int_equal(((const uint8_t *)st_find(&f, "d.weight")->data - f.map.data) % 8, 0);
    assert_string_equal(st_metadata(&f, "note"), "two\nlines");
    check_mixed(find_in_file, &f);
    st_close(&f);
    assert_false(file_exists(in(state, "m.safetensors.tmp")));
}

static void test_given_order(void **state)
{
    static const struct st_spec specs[] = {{"z", ST_BF16, 1, {1}}, {"a", ST_BF16, 1, {1}}};
    struct st_writer w;
    struct st_file f;
    struct err e;
    float one = 1;

    assert_true(st_write_begin(&w, in(state, "o.safetensors"), specs, 2, NULL, &e));
    assert_true(st_write_f32(&w, 0, &one, 1, &e) && st_write_f32(&w, 1, &one, 1, &e));
    assert_true(st_write_end(&w, &e));
    assert_true(st_open(&f, in(state, "o.safetensors"), &e));
    assert_true((const char *)st_find(&f, "z")->data < (const char *)st_find(&f, "a")->data);
    assert_string_equal(f.tensors[0].name, "a"); /* iteration goes by name */
    assert_string_equal(st_metadata(&f, "format"), "pt");
    st_close(&f);
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
    assert_true(file_exists(in(state, "model-00004-of-00004.safetensors")));
    assert_true(file_read(in(state, "model.safetensors.index.json"), 1 << 16, &text, &len, &e));
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

    /* Written again it replaces itself; as one file it is refused: a reader would find two. */
    assert_true(st_write_model_begin(&w, *state, mixed, MIXED, NULL, 80, &e));
    fill(&w);
    assert_true(st_write_end(&w, &e));
    assert_false(st_write_model_begin(&w, *state, mixed, MIXED, NULL, 0, &e));
    check_message(e.msg, "model.safetensors.index.json: is left of another model", "two forms");
}

static void test_model_in_one_file(void **state)
{
    struct st_writer w;
    struct st_model m;
    struct err e;

    assert_false(st_model_open(&m, *state, &e));
    check_message(e.msg, "holds no model.safetensors", "empty directory");
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
    {"no JSON", "{", "no JSON object"},
    {"no map", "{\"metadata\":{}}", "no \"weight_map\""},
    {"empty map", "{\"weight_map\":{}}", "no \"weight_map\""},
    {"number", "{\"weight_map\":{\"a\":1}}", "tensor a: no file name"},
    {"missing file", "{\"weight_map\":{\"a\":\"no.safetensors\"}}",
     "no.safetensors: is not there, but "},
    {"missing tensor", "{\"weight_map\":{\"a\":\"good.safetensors\",\"b\":\"good.safetensors\"}}",
     "tensor b: is not in good.safetensors"},
    {"parent", "{\"weight_map\":{\"a\":\"../good.safetensors\"}}",
     "tensor a: file \"../good.safetensors\" is not a plain name"},
    {"absolute", "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "is not a plain name"},
    {"dots", "{\"weight_map\":{\"a\":\"..\"}}", "is not a plain name"},
    {"twice", "{\"weight_map\":{\"a\":\"good.safetensors\",\"a\":\"good.safetensors\"}}",
     "tensor a: is there twice"},
    {"twice, two files", "{\"weight_map\":{\"a\":\"good.safetensors\",\"a\":\"more.safetensors\"}}",
     "tensor a: is there twice"},
    {"newline", "{\"weight_map\":{\"a\\n\":\"good.safetensors\"}}", "control characters"},
};

static void test_bad_index(void **state)
{
    struct st_model m;
    struct err e;

    put_file(in(state, "good.safetensors"), 0, "{\"a\":" T("U8", "[1]", 0, 1) "}", 1);
    put_file(in(state, "more.safetensors"), 0, "{\"a\":" T("U8", "[1]", 0, 1) "}", 1);
    for (size_t i = 0; i < sizeof bad_index / sizeof *bad_index; i++) {
        put_text(in(state, "model.safetensors.index.json"), bad_index[i].index);
        if (st_model_open(&m, *state, &e)) fail_msg("%s: was opened", bad_index[i].what);
        check_message(e.msg, bad_index[i].says, bad_index[i].what);
        check_message(e.msg, "model.safetensors.index.json", bad_index[i].what);
        assert_null(m.files);
    }
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
        assert_false(st_write_begin(&w, in(state, "w.safetensors"), bad[i].specs, 2, NULL, &e));
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
    const char *path = in(state, "w.safetensors");

    assert_true(st_write_begin(&w, path, specs, 2, NULL, &e));
    assert_false(st_write_f32(&w, 0, v, 3, &e));
    check_message(e.msg, "tensor a: has 4 bytes", "too much");
    assert_false(st_write_f32(&w, 0, &big, 1, &e));
    check_message(e.msg, "tensor a: 70000 does not fit F16", "overflow");
    assert_false(st_write_f32(&w, 1, v, 1, &e));
    check_message(e.msg, "tensor b: fp32 values cannot become I32", "integers");
    assert_true(st_write_f32(&w, 0, &inf, 1, &e)); /* what is infinite already may stay so */
    assert_false(st_write_end(&w, &e));
    check_message(e.msg, "tensor a: 2 of its 4 bytes", "unfinished");
    assert_false(file_exists(path));
    assert_null(w.slots);
    assert_false(st_write_begin(&w, in(state, "no/such/w.safetensors"), specs, 2, NULL, &e));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_broken_files, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_short_files, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_cut_and_changed, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_header_of_many_values, make_dir, remove_dir),
        cmocka_unit_test(test_reference),
        cmocka_unit_test_setup_teardown(test_unaligned, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_round_trip, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_given_order, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_sharded, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_model_in_one_file, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_bad_index, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_writer_refuses, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_writer_misuse, make_dir, remove_dir),
    };
    return cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
}
