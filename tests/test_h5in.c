/* test_h5in.c - the HDF5 reader against libhdf5, which writes the files here: what is read equals
 * what was written, what is not supported is refused by name, and no damage does harm. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/hdf5/h5in.h"
#include "base/rng.h"
#include "tests/tmpdir.h"

#include <hdf5.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { ROWS = 3, COLS = 4, VALUES = ROWS * COLS };

static void must(bool ok, const struct err *e)
{
    if (!ok) fail_msg("%s", e->msg);
}

/* ---- reading by name ---- */

struct opened {
    int fd;
    struct h5_in f;
    struct h5_links links;
};

static bool open_file(struct opened *o, const char *path, struct err *e)
{
    *o = (struct opened){.fd = file_open(path, e)};
    return o->fd >= 0 && h5_in_start(&o->f, o->fd, e) &&
           h5_in_links(&o->f, o->f.root, &o->links, e);
}

static void close_file(struct opened *o)
{
    h5_links_free(&o->links);
    if (o->fd >= 0) close(o->fd);
}

static bool find(struct opened *o, const char *name, struct h5_values *v, struct err *e)
{
    uint64_t header;

    return h5_links_find(&o->links, name, &header, e) && h5_in_array(&o->f, header, v, e);
}

/* ---- writing ---- */

/* The variants of files: the format's versions, with or without creation order, a user block
 * before everything. */
static const struct form {
    const char *name;
    H5F_libver_t low, high;
    bool ordered;
    hsize_t userblock;
} forms[] = {{"earliest", H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST, false, 0},
             {"user block", H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST, false, 2048},
             {"ordered", H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST, true, 0},
             {"1.8", H5F_LIBVER_V18, H5F_LIBVER_LATEST, false, 0},
             {"1.8 ordered", H5F_LIBVER_V18, H5F_LIBVER_LATEST, true, 512},
             {"latest", H5F_LIBVER_LATEST, H5F_LIBVER_LATEST, false, 0},
             {"latest ordered", H5F_LIBVER_LATEST, H5F_LIBVER_LATEST, true, 1024}};
enum { FORMS = sizeof forms / sizeof *forms };

static hid_t create(const char *path, const struct form *f)
{
    const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), fcpl = H5Pcreate(H5P_FILE_CREATE);
    hid_t file;

    assert_true(H5Pset_libver_bounds(fapl, f->low, f->high) >= 0);
    assert_true(H5Pset_userblock(fcpl, f->userblock) >= 0);
    if (f->ordered)
        assert_true(
            H5Pset_link_creation_order(fcpl, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED) >= 0);
    file = H5Fcreate(path, H5F_ACC_TRUNC, fcpl, fapl);
    assert_true(file > 0);
    H5Pclose(fapl);
    H5Pclose(fcpl);
    return file;
}

/* [3,4] of a type, from `data` of mem_type unless NULL. */
static void put(hid_t file, const char *name, hid_t type, hid_t dcpl, hid_t mem_type,
                const void *data)
{
    const hid_t space = H5Screate_simple(2, (hsize_t[]){ROWS, COLS}, NULL);
    const hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);

    assert_true(set > 0);
    if (data) assert_true(H5Dwrite(set, mem_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) >= 0);
    H5Dclose(set);
    H5Sclose(space);
}

static void put_attribute(hid_t at, const char *name, hid_t type, hid_t mem_type, const void *data)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attr = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(attr > 0 && H5Awrite(attr, mem_type, data) >= 0);
    H5Aclose(attr);
    H5Sclose(space);
}

static hid_t compact(bool on)
{
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_obj_track_times(dcpl, on);
    if (on) H5Pset_layout(dcpl, H5D_COMPACT);
    return dcpl;
}

/* ---- supported ---- */

/* Every integer type, with the extreme values of its width and sign. */
static void test_integers(void **state)
{
    const struct {
        const char *name;
        hid_t type;
        bool is_signed;
        int64_t low, high;
    } types[] = {{"i8", H5T_STD_I8LE, true, INT8_MIN, INT8_MAX},
                 {"i16", H5T_STD_I16LE, true, INT16_MIN, INT16_MAX},
                 {"i32", H5T_STD_I32LE, true, INT32_MIN, INT32_MAX},
                 {"i64", H5T_STD_I64LE, true, INT64_MIN, INT64_MAX},
                 {"u8", H5T_STD_U8LE, false, 0, UINT8_MAX},
                 {"u16", H5T_STD_U16LE, false, 0, UINT16_MAX},
                 {"u32", H5T_STD_U32LE, false, 0, UINT32_MAX},
                 {"u64", H5T_STD_U64LE, false, 0, INT64_MAX},
                 {"I16", H5T_STD_I16BE, true, INT16_MIN, INT16_MAX},
                 {"I64", H5T_STD_I64BE, true, INT64_MIN, INT64_MAX},
                 {"U32", H5T_STD_U32BE, false, 0, UINT32_MAX}};
    const char *path = tmpdir_path(state, "a.h5");

    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int f = 0; f < FORMS; f++)
            for (int c = 0; c < 2; c++) {
                const int64_t want[VALUES] = {types[t].low, types[t].high, 0, 1, 2, 77};
                const hid_t file = create(path, &forms[f]), dcpl = compact(c);
                int64_t got[VALUES], one = -1;
                struct h5_values v;
                struct opened o;
                struct err e;
                bool there;

                put(file, "a", types[t].type, dcpl, H5T_NATIVE_INT64, want);
                put_attribute(file, "n", types[t].type, H5T_NATIVE_INT64, &want[1]);
                H5Pclose(dcpl);
                H5Fclose(file);
                must(open_file(&o, path, &e) && find(&o, "a", &v, &e), &e);
                assert_int_equal(v.kind, types[t].is_signed ? H5_KIND_INT : H5_KIND_UINT);
                assert_true(v.rank == 2 && v.dims[0] == ROWS && v.dims[1] == COLS);
                must(h5_in_integers(&o.f, &v, got, &e), &e);
                assert_memory_equal(got, want, sizeof want);
                must(h5_in_attribute(&o.f, o.f.root, "n", &v, &there, &e), &e);
                assert_true(there && v.rank == 0 && v.count == 1);
                must(h5_in_integers(&o.f, &v, &one, &e), &e);
                assert_int_equal(one, types[t].high);
                must(h5_in_attribute(&o.f, o.f.root, "m", &v, &there, &e), &e);
                assert_false(there);
                close_file(&o);
            }
}

/* A count above INT64_MAX does not become negative. */
static void test_huge_integer(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    const uint64_t huge = UINT64_MAX - 3;
    const hid_t file = create(path, &forms[0]);
    struct h5_values v;
    struct opened o;
    struct err e;
    bool there;
    int64_t n;

    put_attribute(file, "n", H5T_STD_U64LE, H5T_NATIVE_UINT64, &huge);
    H5Fclose(file);
    must(open_file(&o, path, &e) && h5_in_attribute(&o.f, o.f.root, "n", &v, &there, &e) &&
             h5_in_integers(&o.f, &v, &n, &e),
         &e);
    assert_true(n == INT64_MAX);
    close_file(&o);
}

static void test_floats_and_texts(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    const hid_t bf16 = H5Tcopy(H5T_IEEE_F32LE), text = H5Tcopy(H5T_C_S1);
    float want[VALUES];

    H5Tset_fields(bf16, 15, 7, 8, 0, 7);
    H5Tset_size(bf16, 2);
    H5Tset_size(text, 6);
    for (int i = 0; i < VALUES; i++)
        want[i] = (float)i - 3.5f; /* few bits: the same in all three */
    for (int f = 0; f < FORMS; f++) {
        const hid_t file = create(path, &forms[f]);
        uint16_t half[VALUES];
        float single[VALUES];
        double wide[VALUES];
        struct h5_values v;
        struct opened o;
        struct err e;
        char s[7];
        bool there;

        put(file, "f32", H5T_IEEE_F32LE, H5P_DEFAULT, H5T_NATIVE_FLOAT, want);
        put(file, "f64", H5T_IEEE_F64LE, H5P_DEFAULT, H5T_NATIVE_FLOAT, want);
        put(file, "bf16", bf16, H5P_DEFAULT, H5T_NATIVE_FLOAT, want);
        put_attribute(file, "s", text, text, "sixsix");
        H5Fclose(file);
        must(open_file(&o, path, &e), &e);
        must(find(&o, "f32", &v, &e) && h5_in_read(&o.f, &v, 0, VALUES, single, &e), &e);
        assert_true(v.kind == H5_KIND_FLOAT && v.size == 4 && !v.big_endian);
        must(find(&o, "f64", &v, &e) && h5_in_read(&o.f, &v, 0, VALUES, wide, &e), &e);
        assert_true(v.kind == H5_KIND_FLOAT && v.size == 8);
        must(find(&o, "bf16", &v, &e) && h5_in_read(&o.f, &v, 2, VALUES - 2, half, &e), &e);
        assert_true(v.kind == H5_KIND_BF16 && v.size == 2);
        for (int i = 0; i < VALUES; i++) {
            const uint32_t bits = (uint32_t)half[i] << 16;
            float back;
            memcpy(&back, &bits, sizeof back);
            assert_true(single[i] == want[i] && wide[i] == (double)want[i]);
            assert_true(i >= VALUES - 2 || back == want[i + 2]);
        }
        must(h5_in_attribute(&o.f, o.f.root, "s", &v, &there, &e), &e);
        must(there && h5_in_text(&o.f, &v, s, sizeof s, &e), &e);
        assert_string_equal(s, "sixsix");
        assert_false(h5_in_text(&o.f, &v, s, 6, &e));
        assert_false(h5_in_integers(&o.f, &v, (int64_t[1]){0}, &e));
        close_file(&o);
    }
    H5Tclose(bf16);
    H5Tclose(text);
}

/* More names than fit in a node of the tree, and more nodes than fit in one above. */
static void test_many_links(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    const hid_t file = create(path, &forms[0]);
    enum { MANY = 1500 };
    struct opened o;
    struct err e;
    char name[40];

    for (int i = 0; i < MANY; i++) {
        const double value = i;
        const hid_t space = H5Screate(H5S_SCALAR);
        hid_t set;
        snprintf(name, sizeof name, "layer.%d.weight", i * 7919 % MANY);
        set = H5Dcreate2(file, name, H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, &value);
        H5Dclose(set);
        H5Sclose(space);
    }
    H5Fclose(file);
    must(open_file(&o, path, &e), &e);
    assert_int_equal(o.links.n, MANY);
    for (int i = 0; i < MANY; i++) {
        struct h5_values v;
        double got;

        snprintf(name, sizeof name, "layer.%d.weight", i * 7919 % MANY);
        must(find(&o, name, &v, &e) && h5_in_read(&o.f, &v, 0, 1, &got, &e), &e);
        assert_true(got == i);
    }
    assert_false(find(&o, "layer.", &(struct h5_values){0}, &e));
    assert_string_equal(e.msg, "has no `layer.`");
    close_file(&o);
}

/* ---- not supported ---- */

static void put_soft(hid_t file)
{
    put(file, "b", H5T_STD_I32LE, H5P_DEFAULT, H5T_NATIVE_INT32, (int32_t[VALUES]){0});
    H5Lcreate_soft("/b", file, "a", H5P_DEFAULT, H5P_DEFAULT);
}
static void put_external_link(hid_t file)
{
    H5Lcreate_external("b.h5", "/a", file, "a", H5P_DEFAULT, H5P_DEFAULT);
}
static void put_group(hid_t file)
{
    H5Gclose(H5Gcreate2(file, "a", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void put_never(hid_t file)
{
    put(file, "a", H5T_STD_I32LE, H5P_DEFAULT, 0, NULL);
}

enum { CHUNKS = 1, GZIP = 2, SHUFFLE = 4, OWN_FILTER = 8, EXTERNAL = 16 };

static size_t pass(unsigned flags, size_t n, const unsigned values[], size_t bytes, size_t *size,
                   void **buf)
{
    (void)flags, (void)n, (void)values, (void)size, (void)buf;
    return bytes;
}

static void put_stored(hid_t file, unsigned how)
{
    static const H5Z_class2_t own = {H5Z_CLASS_T_VERS, 300, 1, 1, "own", NULL, NULL, pass};
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);

    if (how & CHUNKS) H5Pset_chunk(dcpl, 2, (hsize_t[]){1, COLS});
    if (how & GZIP) H5Pset_deflate(dcpl, 6);
    if (how & SHUFFLE) H5Pset_shuffle(dcpl);
    if (how & OWN_FILTER) assert_true(H5Zregister(&own) >= 0);
    if (how & OWN_FILTER) H5Pset_filter(dcpl, 300, 0, 0, NULL);
    if (how & EXTERNAL) H5Pset_external(dcpl, "/etc/hostname", 0, H5F_UNLIMITED);
    put(file, "a", H5T_STD_I32LE, dcpl, H5T_NATIVE_INT32,
        how & EXTERNAL ? NULL : (int32_t[VALUES]){0});
    H5Pclose(dcpl);
}
static void put_chunked(hid_t file)
{
    put_stored(file, CHUNKS);
}
static void put_gzip(hid_t file)
{
    put_stored(file, CHUNKS | GZIP);
}
static void put_shuffled(hid_t file)
{
    put_stored(file, CHUNKS | SHUFFLE | GZIP);
}
static void put_own_filter(hid_t file)
{
    put_stored(file, CHUNKS | OWN_FILTER);
}
static void put_external_data(hid_t file)
{
    put_stored(file, EXTERNAL);
}
static void put_virtual(hid_t file)
{
    const hid_t space = H5Screate_simple(2, (hsize_t[]){ROWS, COLS}, NULL);
    const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);

    H5Pset_virtual(dcpl, space, "b.h5", "/a", space);
    put(file, "a", H5T_STD_I32LE, dcpl, 0, NULL);
    H5Pclose(dcpl);
    H5Sclose(space);
}

static void put_type(hid_t file, hid_t type, bool commit)
{
    if (commit) H5Tcommit2(file, "type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    put(file, "a", type, H5P_DEFAULT, 0, NULL);
    H5Tclose(type);
}
static void put_committed(hid_t file)
{
    put_type(file, H5Tcopy(H5T_STD_I32LE), true);
}
static void put_variable(hid_t file)
{
    put_type(file, H5Tvlen_create(H5T_STD_I32LE), false);
}
static void put_variable_text(hid_t file)
{
    const hid_t type = H5Tcopy(H5T_C_S1);

    H5Tset_size(type, H5T_VARIABLE);
    put_type(file, type, false);
}
static void put_compound(hid_t file)
{
    const hid_t type = H5Tcreate(H5T_COMPOUND, 4);

    H5Tinsert(type, "x", 0, H5T_STD_I32LE);
    put_type(file, type, false);
}
static void put_enum(hid_t file)
{
    const hid_t type = H5Tenum_create(H5T_STD_I32LE);

    H5Tenum_insert(type, "x", (int32_t[1]){0});
    put_type(file, type, false);
}
static void put_array_type(hid_t file)
{
    put_type(file, H5Tarray_create2(H5T_STD_I32LE, 1, (hsize_t[]){2}), false);
}
static void put_bits(hid_t file)
{
    put_type(file, H5Tcopy(H5T_STD_B8LE), false);
}
static void put_reference(hid_t file)
{
    put_type(file, H5Tcopy(H5T_STD_REF_OBJ), false);
}
static void put_narrow(hid_t file)
{
    const hid_t type = H5Tcopy(H5T_STD_I32LE);

    H5Tset_precision(type, 17);
    put_type(file, type, false);
}
static void put_half(hid_t file)
{
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);

    H5Tset_fields(type, 15, 10, 5, 0, 10);
    H5Tset_size(type, 2);
    H5Tset_ebias(type, 15);
    put_type(file, type, false);
}

static void test_refused(void **state)
{
    static const struct {
        void (*put)(hid_t file);
        const char *says;
    } cases[] = {{put_soft, "`a` is a soft link"},
                 {put_external_link, "`a` is an external link"},
                 {put_group, "is not an array"},
                 {put_never, "its values were never written"},
                 {put_chunked, "in chunks: write it"},
                 {put_gzip, "in chunks, packed by gzip: write it"},
                 {put_shuffled, "in chunks, packed by "},
                 {put_own_filter, "in chunks, packed by filter 300: write it"},
                 {put_external_data, "lie in another file"},
                 {put_virtual, "lie in another file"},
                 {put_committed, "its type is a committed type"},
                 {put_variable, "its values are of variable length"},
                 {put_variable_text, "its values are of variable length"},
                 {put_compound, "its values are compounds"},
                 {put_enum, "its values are enumerated"},
                 {put_array_type, "its values are arrays"},
                 {put_bits, "its values are bit fields"},
                 {put_reference, "its values are references"},
                 {put_narrow, "its values are integers of an unusual width"},
                 {put_half, "its values are floats of an unusual form"}};
    const char *path = tmpdir_path(state, "a.h5");

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int f = 0; f < FORMS; f++) {
            const hid_t file = create(path, &forms[f]);
            struct h5_values v;
            struct opened o;
            struct err e;

            cases[i].put(file);
            H5Fclose(file);
            if (open_file(&o, path, &e) && find(&o, "a", &v, &e))
                fail_msg("case %zu, %s: is read", i, forms[f].name);
            if (!strstr(e.msg, cases[i].says) || strchr(e.msg, '\n'))
                fail_msg("case %zu, %s: %s", i, forms[f].name, e.msg);
            close_file(&o);
        }
}

/* The newer form of groups with many links is not supported: the message says what to do. */
static void test_dense_group(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    const hid_t file = create(path, &forms[5]);
    struct opened o;
    struct err e;

    for (int i = 0; i < 20; i++) {
        char name[] = {(char)('a' + i), '\0'};
        put(file, name, H5T_STD_I32LE, H5P_DEFAULT, H5T_NATIVE_INT32, (int32_t[VALUES]){0});
    }
    H5Fclose(file);
    assert_false(open_file(&o, path, &e));
    assert_non_null(strstr(e.msg, "libver 'earliest' writes the one that is"));
    close_file(&o);
}

/* A named pipe, which is never waited for, and other kinds of files. */
static void test_not_hdf5(void **state)
{
    const char *path = tmpdir_path(state, "a.h5");
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    char zeros[5000] = {0};
    struct opened o;
    struct err e;

    assert_false(open_file(&o, path, &e));
    assert_string_equal(e.msg, "No such file or directory");
    assert_false(open_file(&o, *state, &e));
    assert_string_equal(e.msg, "is a directory, a file is needed");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(open_file(&o, path, &e));
    assert_string_equal(e.msg, "is a named pipe, a file is needed");
    unlink(path);
    for (size_t n = 0; n <= sizeof zeros; n += 500) {
        spill(path, zeros, n);
        assert_false(open_file(&o, path, &e));
        assert_non_null(strstr(e.msg, n ? "is nothing but zero bytes" : "is empty"));
        close_file(&o);
    }
    spill(path, "ranks", 5);
    assert_false(open_file(&o, path, &e));
    assert_string_equal(e.msg, "is not an HDF5 file");
    close_file(&o);
    spill(path, pointer, sizeof pointer - 1);
    assert_false(open_file(&o, path, &e));
    assert_non_null(strstr(e.msg, "is a Git LFS pointer"));
    close_file(&o);
    memcpy(zeros, "\x89HDF\r\n\x1a\n\x04", 9);
    spill(path, zeros, sizeof zeros);
    assert_false(open_file(&o, path, &e));
    assert_string_equal(e.msg, "is HDF5 of version 4; 0 to 3 are read");
    close_file(&o);
}

/* ---- damage ---- */

/* A small file with a bit of everything; in new memory. */
static char *sample(void *const *state, const struct form *form, size_t *len)
{
    const char *path = tmpdir_path(state, "sample.h5");
    const hid_t file = create(path, form), dcpl = compact(true);
    hid_t group;
    const int32_t values[VALUES] = {1, 2, 3};
    const int64_t n = 5;

    put(file, "a", H5T_STD_I32LE, H5P_DEFAULT, H5T_NATIVE_INT32, values);
    put(file, "b", H5T_STD_I32LE, dcpl, H5T_NATIVE_INT32, values);
    group = H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    put(group, "c", H5T_STD_U8LE, H5P_DEFAULT, H5T_NATIVE_INT32, values);
    put_attribute(file, "n", H5T_STD_I64LE, H5T_NATIVE_INT64, &n);
    put_attribute(file, "m", H5T_STD_I64LE, H5T_NATIVE_INT64, &n);
    H5Gclose(group);
    H5Pclose(dcpl);
    H5Fclose(file);
    return slurp(path, len);
}

/* A message must be one line. */
static bool failed(const struct err *e)
{
    if (!e->msg[0] || strchr(e->msg, '\n')) fail_msg("'%s'", e->msg);
    return false;
}

/* Reads everything there is, whatever it claims, one group deep. */
static void read_all(struct h5_in *f, uint64_t group, int depth)
{
    struct h5_links links;
    struct err e;

    if (!h5_in_links(f, group, &links, &e)) failed(&e);
    for (size_t i = 0; i < links.n; i++) {
        struct h5_values v;
        bool there;

        if (links.link[i].kind) continue;
        if ((h5_in_array(f, links.link[i].header, &v, &e) || failed(&e)) &&
            (v.kind == H5_KIND_INT || v.kind == H5_KIND_UINT)) {
            int64_t *to = calloc((size_t)v.count + 1, sizeof *to);
            assert_non_null(to); /* a count is of bytes that are in the file */
            (void)(h5_in_integers(f, &v, to, &e) || failed(&e));
            free(to);
        }
        (void)(h5_in_attribute(f, links.link[i].header, "n", &v, &there, &e) || failed(&e));
        if (depth) read_all(f, links.link[i].header, depth - 1);
    }
    h5_links_free(&links);
}

static void try_bytes(int fd, const char *file, size_t len)
{
    struct h5_in f;
    struct err e;

    assert_int_equal(ftruncate(fd, (off_t)len), 0);
    assert_int_equal(pwrite(fd, file, len, 0), len);
    if (h5_in_start(&f, fd, &e)) read_all(&f, f.root, 1);
}

/* Replaces each address in the file by each of the others. */
static void exchange_addresses(int fd, char *file, size_t len)
{
    enum { PLACES = 500, ADDRESSES = 100 };
    uint64_t address[ADDRESSES], x;
    size_t place[PLACES], n = 0, places = 0;

    for (size_t at = 0; at + 8 <= len; at++) { /* possible addresses: 8-aligned */
        size_t k = 0;

        memcpy(&x, file + at, 8);
        if (x < 16 || x >= len) continue;
        while (k < n && address[k] != x)
            k++;
        if (k == n && n < ADDRESSES) address[n++] = x;
        if (places < PLACES) place[places++] = at;
    }
    assert_true(places > 10 && n > 5);
    for (size_t i = 0; i < places * n; i++) {
        char *at = file + place[i / n];

        memcpy(&x, at, 8);
        memcpy(at, &address[i % n], 8);
        try_bytes(fd, file, len);
        memcpy(at, &x, 8);
    }
}

/* Peak memory of the process in KiB; 0 under ASan, which does not return memory at once. */
static long most_memory(void)
{
#ifdef __SANITIZE_ADDRESS__
    return 0;
#else
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return u.ru_maxrss;
#endif
}

/* Truncated anywhere; every byte changed; every address pointing elsewhere, including circles. Must
 * end in time, in little memory (32 MiB: malloc keeps some), without reading out of bounds
 * (which ASan would report). */
static void test_damage(void **state)
{
    const int fd = memfd_create("damaged", MFD_CLOEXEC);
    struct rng rng;
    long before;

    assert_true(fd >= 0);
    rng_seed(&rng, 5, 0);
    before = most_memory();
    for (int f = 0; f < FORMS; f += f ? 4 : 1) { /* earliest, user block, latest */
        size_t len;
        char *file = sample(state, &forms[f], &len);

        for (size_t cut = 0; cut < len; cut += 1 + len / 500)
            try_bytes(fd, file, cut);
        for (size_t at = 0; at < len; at++) {
            const char bytes[] = {(char)0xff, 0, (char)rng_below(&rng, 256)}, had = file[at];

            for (size_t i = 0; i < sizeof bytes && (had || at % 8 == 0); i++) {
                file[at] = bytes[i];
                try_bytes(fd, file, len);
            }
            file[at] = had;
        }
        exchange_addresses(fd, file, len);
        free(file);
    }
    assert_true(most_memory() - before < 32 << 10);
    close(fd);
}

/* The root's header, of version 1, continues where it began. */
static void test_circle(void **state)
{
    enum { ROOT = 96, MESSAGES = ROOT + 16 };
    uint64_t begin = MESSAGES, at = MESSAGES, size;
    struct opened o;
    struct err e;
    size_t len;
    char *file = sample(state, &forms[0], &len);

    for (; file[at] != 0x10; at += 8 + (uint64_t)file[at + 2]) /* the continuation */
        assert_true(at + 8 < len);
    size = (uint64_t)file[ROOT + 8];
    memcpy(file + at + 8, &begin, 8);
    memcpy(file + at + 16, &size, 8);
    spill(tmpdir_path(state, "a.h5"), file, len);
    assert_false(open_file(&o, tmpdir_path(state, "a.h5"), &e));
    assert_string_equal(e.msg, "is damaged: what describes its arrays goes in circles");
    close_file(&o);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_integers),         tmpdir_test(test_huge_integer),
        tmpdir_test(test_floats_and_texts), tmpdir_test(test_many_links),
        tmpdir_test(test_refused),          tmpdir_test(test_dense_group),
        tmpdir_test(test_not_hdf5),         tmpdir_test(test_circle),
        tmpdir_test(test_damage),
    };

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return cmocka_run_group_tests_name("h5in", tests, NULL, NULL);
}
