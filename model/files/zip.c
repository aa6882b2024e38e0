/* zip.c - see zip.h. The layout is that of PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.3; all
 * numbers are little-endian. No offset or size from the directory is used unchecked. */
#include "model/files/zip.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    LOCAL_HEADER = 30,
    CENTRAL_HEADER = 46,
    END_RECORD = 22,
    END64_LOCATOR = 20, /* immediately precedes the end record of a zip64 archive */
    END64_RECORD = 56,
    EXTRA64 = 1, /* id of the extra field with wide numbers */
};

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static uint32_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}
static uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

/* `size` bytes at `at`; false if the file does not contain them all. */
static bool part(struct bytes file, uint64_t at, uint64_t size, struct bytes *out)
{
    if (at > file.n || file.n - at < size) return false;
    *out = (struct bytes){file.p + at, (size_t)size};
    return true;
}

/* The end record, at the end of the file except for a comment. */
static const uint8_t *find_end(struct bytes file)
{
    const size_t most = END_RECORD + UINT16_MAX;

    for (size_t back = END_RECORD; back <= file.n && back <= most; back++)
        if (memcmp(file.p + file.n - back, "PK\5\6", 4) == 0) return file.p + file.n - back;
    return NULL;
}

/* Finds the directory, by the end record or the wide one that it defers to. */
static bool find_directory(struct bytes file, struct bytes *dir, struct err *e)
{
    const uint8_t *end = find_end(file);
    uint64_t at, size;
    struct bytes locator, wide;

    if (!end)
        return err_set(e, "is cut short: the directory at its end is missing; copy or download it "
                          "again");
    size = get32(end + 12);
    at = get32(end + 16);
    if ((at == UINT32_MAX || size == UINT32_MAX) && end - file.p >= END64_LOCATOR) {
        locator = (struct bytes){end - END64_LOCATOR, END64_LOCATOR};
        if (memcmp(locator.p, "PK\6\7", 4) == 0 &&
            part(file, get64(locator.p + 8), END64_RECORD, &wide) &&
            memcmp(wide.p, "PK\6\6", 4) == 0) {
            size = get64(wide.p + 40);
            at = get64(wide.p + 48);
        }
    }
    return part(file, at, size, dir) ||
           err_set(e, "is damaged: its directory is not where it should be");
}

/* The numbers that a directory entry defers to its extra field: both sizes, then the offset, each
 * only if the entry itself says "all ones". */
static void read_wide(struct zip_member *m, struct bytes extra)
{
    const size_t sizes = m->size == UINT32_MAX ? 16 : 0;

    while (extra.n >= 4) {
        const uint8_t *field = extra.p;
        const size_t n = get16(field + 2);
        if (n > extra.n - 4) return;
        if (get16(field) == EXTRA64) {
            if (sizes && n >= sizes) m->size = get64(field + 4);
            if (m->at == UINT32_MAX && n >= sizes + 8) m->at = get64(field + 4 + sizes);
            return;
        }
        extra = (struct bytes){field + 4 + n, extra.n - 4 - n};
    }
}

static int by_name(const void *a, const void *b)
{
    const struct bytes *x = a, *y = b; /* of a member; its name comes first */
    const int c = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);

    return c ? c : (x->n > y->n) - (x->n < y->n);
}

bool zip_open(struct zip *z, struct bytes file, struct err *e)
{
    struct bytes dir = {0};
    size_t cap = 0;

    *z = (struct zip){.file = file};
    if (!find_directory(file, &dir, e)) return false;
    while (dir.n >= CENTRAL_HEADER && memcmp(dir.p, "PK\1\2", 4) == 0) {
        const size_t name = get16(dir.p + 28), extra = get16(dir.p + 30),
                     all = CENTRAL_HEADER + name + extra + get16(dir.p + 32);
        if (all > dir.n) break;
        if (!mem_grow(&z->member, &cap, z->count + 1, sizeof *z->member, e)) goto fail;
        struct zip_member *m = &z->member[z->count++];
        *m = (struct zip_member){.name = {dir.p + CENTRAL_HEADER, name},
                                 .at = get32(dir.p + 42),
                                 .size = get32(dir.p + 24),
                                 .crc = get32(dir.p + 16),
                                 .stored = get16(dir.p + 10) == 0};
        read_wide(m, (struct bytes){dir.p + CENTRAL_HEADER + name, extra});
        dir = (struct bytes){dir.p + all, dir.n - all};
    }
    if (z->count) qsort(z->member, z->count, sizeof *z->member, by_name);
    for (size_t i = 1; i < z->count; i++) {
        if (by_name(&z->member[i - 1], &z->member[i]) != 0) continue;
        err_set(e, "is damaged: its member %.*s is there twice", (int)z->member[i].name.n,
                (const char *)z->member[i].name.p);
        goto fail;
    }
    return true;
fail:
    zip_close(z);
    return false;
}

void zip_close(struct zip *z)
{
    free(z->member);
    *z = (struct zip){0};
}

const struct zip_member *zip_find(const struct zip *z, const char *name)
{
    const struct bytes want = {(const uint8_t *)name, strlen(name)};

    return z->count ? bsearch(&want, z->member, z->count, sizeof *z->member, by_name) : NULL;
}

const struct zip_member *zip_find_end(const struct zip *z, const char *end)
{
    const size_t len = strlen(end);

    for (size_t i = 0; i < z->count; i++) {
        const struct bytes *name = &z->member[i].name;
        if (name->n >= len && memcmp(name->p + name->n - len, end, len) == 0) return &z->member[i];
    }
    return NULL;
}

bool zip_contents(const struct zip *z, const struct zip_member *m, struct bytes *out, struct err *e)
{
    const int n = (int)m->name.n; /* two bytes in the file */
    const char *name = (const char *)m->name.p;
    struct bytes head;

    if (!m->stored)
        return err_set(e, "its member %.*s is compressed, which torch.save does not do", n, name);
    if (!part(z->file, m->at, LOCAL_HEADER, &head) || memcmp(head.p, "PK\3\4", 4) != 0)
        return err_set(e, "is damaged: the header of its member %.*s is not where it should be", n,
                       name);
    if (!part(z->file, m->at + LOCAL_HEADER + get16(head.p + 26) + get16(head.p + 28), m->size,
              out))
        return err_set(e, "is damaged: its member %.*s extends beyond the end of the file", n,
                       name);
    return true;
}

bool zip_checked(const struct zip *z, const struct zip_member *m, struct bytes *out, struct err *e)
{
    if (!zip_contents(z, m, out, e)) return false;
    return crc32_z(0, out->p, out->n) == m->crc ||
           err_set(e, "is damaged: the checksum of its member %.*s is wrong", (int)m->name.n,
                   (const char *)m->name.p);
}
