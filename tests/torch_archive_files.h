/* torch_archive_files.h - builds zip archives in the format of torch.save. Include cmocka's headers
 * first; includes tmpdir.h. */
#ifndef TESTS_TORCH_ARCHIVE_FILES_H
#define TESTS_TORCH_ARCHIVE_FILES_H

#include "base/mem.h"
#include "model/files/torch_archive.h"
#include "tests/tmpdir.h"

#include <sys/mman.h>
#include <zlib.h>

struct test_member {
    const char *name;
    const void *data;
    size_t n;
};

/* How an archive differs from a good one. */
struct archive_edit {
    bool wide;       /* all sizes and offsets in zip64's fields */
    int method;      /* of compression, according to the directory */
    int64_t move;    /* added to the offset that the directory gives for a member */
    uint32_t crc;    /* added to each checksum */
    const char *end; /* bytes after the archive */
};

static inline void put_number(FILE *f, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        fputc(i < 8 ? (int)(v >> 8 * i & 255) : 0, f);
}

/* The common fields of a local header and a directory entry, from the flags on. */
static inline void put_member_head(FILE *f, const struct test_member *m, int extra,
                                   const struct archive_edit *edit)
{
    put_number(f, 0, 2);
    put_number(f, (uint64_t)edit->method, 2);
    put_number(f, 0, 4);
    put_number(f, (uint32_t)crc32(0, m->data, (uInt)m->n) + edit->crc, 4);
    put_number(f, edit->wide ? UINT32_MAX : m->n, 4);
    put_number(f, edit->wide ? UINT32_MAX : m->n, 4);
    put_number(f, strlen(m->name), 2);
    put_number(f, (uint64_t)extra, 2);
}

static inline void put_directory(FILE *f, const struct test_member *m, int members, const long *at,
                                 const struct archive_edit *edit)
{
    const long from = ftell(f);
    long size, wide;

    for (int i = 0; i < members; i++) {
        fputs("PK\1\2", f);
        put_number(f, 0, 4);
        put_member_head(f, &m[i], edit->wide ? 4 + 24 : 0, edit);
        put_number(f, 0, 10);
        put_number(f, edit->wide ? UINT32_MAX : (uint64_t)(at[i] + edit->move), 4);
        fputs(m[i].name, f);
        if (!edit->wide) continue;
        put_number(f, 1, 2);
        put_number(f, 24, 2);
        put_number(f, m[i].n, 8);
        put_number(f, m[i].n, 8);
        put_number(f, (uint64_t)(at[i] + edit->move), 8);
    }
    size = ftell(f) - from;
    wide = ftell(f);
    if (edit->wide) {
        fputs("PK\6\6", f);
        put_number(f, 44, 8);
        put_number(f, 0, 12);
        put_number(f, (uint64_t)members, 8);
        put_number(f, (uint64_t)members, 8);
        put_number(f, (uint64_t)size, 8);
        put_number(f, (uint64_t)from, 8);
        fputs("PK\6\7", f);
        put_number(f, 0, 4);
        put_number(f, (uint64_t)wide, 8);
        put_number(f, 1, 4);
    }
    fputs("PK\5\6", f);
    put_number(f, 0, 4);
    put_number(f, (uint64_t)members, 2);
    put_number(f, (uint64_t)members, 2);
    put_number(f, edit->wide ? UINT32_MAX : (uint64_t)size, 4);
    put_number(f, edit->wide ? UINT32_MAX : (uint64_t)from, 4);
    put_number(f, 0, 2);
}

static inline void put_archive(const char *path, const struct test_member *m, int members,
                               const struct archive_edit *edit)
{
    FILE *f = fopen(path, "wb");
    long at[16];

    assert_true(f && members <= 16);
    for (int i = 0; i < members; i++) {
        at[i] = ftell(f);
        fputs("PK\3\4", f);
        put_number(f, 0, 2);
        put_member_head(f, &m[i], 0, edit);
        fputs(m[i].name, f);
        fwrite(m[i].data, 1, m[i].n, f);
    }
    put_directory(f, m, members, at, edit);
    if (edit->end) fputs(edit->end, f);
    assert_int_equal(fclose(f), 0);
}

/* ---- pickles ---- */

struct text {
    const char *p;
    size_t n;
};
#define TEXT(literal)                                                                              \
    {                                                                                              \
        literal, sizeof literal - 1                                                                \
    }

/* Pieces of {"a": tensor of [2, 3]}; K and a byte is a number of one byte. */
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
static inline void put_pickle(const char *path, const char *pickle, size_t n,
                              const struct archive_edit *edit)
{
    static const float values[6] = {-2, -1, 0, 1, 2, 3};
    const struct test_member m[] = {{"x/data.pkl", pickle, n},
                                    {"x/byteorder", "little", 6},
                                    {"x/data/0", values, sizeof values}};

    put_archive(path, m, 3, edit);
}

/* ---- what is opened ---- */

/* The values are -2, -1, 0, 1, 2, 3. */
static inline void check_ramp(const struct st_file *f, const char *name)
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

/* Opens a file that must be refused with a one-line message that names it and contains `says`. */
static inline void refused(const char *path, const char *what, const char *says)
{
    struct st_file f;
    struct err e = {0};

    if (torch_weights_open(&f, path, &e)) fail_msg("%s: was opened", what);
    if (!strstr(e.msg, says) || strncmp(e.msg, path, strlen(path)) != 0 || strchr(e.msg, '\n'))
        fail_msg("%s: \"%s\" lacks \"%s\"", what, e.msg, says);
    assert_null(f.tensors);
}

/* A file in memory, for those that are written thousands of times. */
static inline char *memory_file(void)
{
    struct err e;
    char *path = mem_printf(&e, "/proc/self/fd/%d", memfd_create("test", MFD_CLOEXEC));

    assert_non_null(path);
    return path;
}

/* If the file opens, all its tensors are within its bytes. */
static inline void open_changed(const char *path, int *opened)
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

#endif
