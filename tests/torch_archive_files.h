/* torch_archive_files.h - zip archives as torch.save writes them, made by hand. Comes after
 * cmocka's headers; brings tmpdir.h. */
#ifndef TESTS_TORCH_ARCHIVE_FILES_H
#define TESTS_TORCH_ARCHIVE_FILES_H

#include "tests/tmpdir.h"

#include <zlib.h>

struct test_member {
    const char *name;
    const void *data;
    size_t n;
};

/* How an archive differs from a good one. */
struct archive_edit {
    bool wide;       /* all sizes and places in zip64's fields */
    int method;      /* of compression, as the directory says */
    int64_t move;    /* of where the directory says that a member begins */
    uint32_t crc;    /* added to each checksum */
    const char *end; /* bytes behind the archive */
};

static inline void put_number(FILE *f, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        fputc((int)(v >> 8 * i & 255), f);
}

/* What local header and directory entry have in common, from the flags on. */
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

#endif
