/* torchfile.c - see torchfile.h. */
#include "model/files/torchfile.h"

#include "base/file.h"
#include "base/mem.h"
#include "model/files/torch_archive.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static const char how_to[] =
    "; in Python torch.save(torch.load(OLD).contiguous(), NEW) writes what is read here";

static int64_t value_at(enum st_dtype dtype, const uint8_t *p)
{
    const size_t size = st_dtypes[dtype].bits / 8;
    uint64_t v = 0;

    for (size_t i = 0; i < size; i++)
        v |= (uint64_t)p[i] << 8 * i;
    if (dtype != ST_U8 && size < 8 && v >> (8 * size - 1)) v |= UINT64_MAX << 8 * size;
    return (int64_t)v;
}

static bool is_integer(enum st_dtype dtype)
{
    static const enum st_dtype integers[] = {ST_U8, ST_I8, ST_I16, ST_I32, ST_I64};

    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++)
        if (dtype == integers[i]) return true;
    return false;
}

static bool read_tensor(struct torch_tensor *t, const struct torch_archive *a, size_t most,
                        struct err *e)
{
    struct torch_shape s;
    struct bytes data;
    const char *why;
    size_t n = 1;

    if (!torch_read_shape(a, &a->pickle.value[a->pickle.root], &s, &why) || s.ndim != 3 ||
        !is_integer(s.dtype))
        return err_set(e, "holds something else than one integer tensor of 3 dimensions%s", how_to);
    for (int i = 0; i < 3; i++) {
        if (s.dim[i] < 1 || (size_t)s.dim[i] > most / n)
            return err_set(
                e, "has shape [%" PRId64 ", %" PRId64 ", %" PRId64 "], needed are %zu values",
                s.dim[0], s.dim[1], s.dim[2], most);
        n *= (size_t)s.dim[i];
    }
    if (!s.contiguous) return err_set(e, "its tensor is a view of another one%s", how_to);
    if (!torch_values(a, &s, true, &data, e)) return false;
    t->values = mem_new(n, sizeof *t->values, "ranks", e);
    if (!t->values) return false;
    memcpy(t->dim, s.dim, sizeof t->dim);
    for (size_t i = 0; i < n; i++)
        t->values[i] = value_at(s.dtype, data.p + i * (st_dtypes[s.dtype].bits / 8));
    return true;
}

bool torchfile_read(struct torch_tensor *t, const char *path, size_t most, struct err *e)
{
    const size_t around = 1 << 16; /* allowance for members other than the values */
    struct torch_archive a = {0};
    char *text = NULL;
    size_t len;
    bool there, ok;

    memset(t, 0, sizeof *t);
    if (!file_there(path, &there, e)) return false;
    if (!there) return err_set(e, "is not there");
    if (!file_read(path, most * sizeof(int64_t) + around, &text, &len, e)) return false;
    ok = torch_archive_open(&a, (struct bytes){(const uint8_t *)text, len}, e) &&
         read_tensor(t, &a, most, e);
    torch_archive_close(&a);
    free(text);
    return ok;
}

/* ---- writing ---- */

enum { MEMBERS = 4, PICKLE_ROOM = 256 };

struct member {
    const char *name;
    const void *data;
    size_t size;
};

static void put16(FILE *f, uint32_t v)
{
    fputc((int)(v & 255), f);
    fputc((int)(v >> 8 & 255), f);
}
static void put32(FILE *f, uint32_t v)
{
    put16(f, v & UINT16_MAX);
    put16(f, v >> 16);
}

/* The fields that a local header and a directory entry share, from "version needed" on. */
static void put_member(FILE *f, const struct member *m)
{
    put16(f, 0);
    put32(f, 0); /* no flags, no compression */
    put32(f, 0); /* no time */
    put32(f, (uint32_t)crc32(0, m->data, (uInt)m->size));
    put32(f, (uint32_t)m->size);
    put32(f, (uint32_t)m->size);
    put16(f, (uint32_t)strlen(m->name));
    put16(f, 0);
}

static void put_archive(FILE *f, const struct member m[MEMBERS])
{
    const uint32_t local = 30, entry = 46; /* header sizes without the name */
    uint32_t at[MEMBERS], dir = 0, size = 0;

    for (int i = 0; i < MEMBERS; i++) {
        at[i] = dir;
        dir += local + (uint32_t)(strlen(m[i].name) + m[i].size);
        size += entry + (uint32_t)strlen(m[i].name);
        fputs("PK\3\4", f);
        put_member(f, &m[i]);
        fputs(m[i].name, f);
        fwrite(m[i].data, 1, m[i].size, f);
    }
    for (int i = 0; i < MEMBERS; i++) {
        fputs("PK\1\2", f);
        put16(f, 0);
        put_member(f, &m[i]);
        put16(f, 0);
        put16(f, 0);
        put16(f, 0);
        put32(f, 0);
        put32(f, at[i]);
        fputs(m[i].name, f);
    }
    fputs("PK\5\6", f);
    put32(f, 0);
    put16(f, MEMBERS);
    put16(f, MEMBERS);
    put32(f, size);
    put32(f, dir);
    put16(f, 0);
}

/* BININT */
static void pickle_int(FILE *f, int64_t v)
{
    fputc('J', f);
    put32(f, (uint32_t)v);
}

static void pickle_text(FILE *f, const char *text)
{
    fputc('X', f);
    put32(f, (uint32_t)strlen(text));
    fputs(text, f);
}

/* The pickle of such a tensor, without memoisation. */
static void put_pickle(FILE *f, const int64_t dim[3])
{
    fputs("\x80\x02"
          "ctorch._utils\n_rebuild_tensor_v2\n((",
          f);
    pickle_text(f, "storage");
    fputs("ctorch\nShortStorage\n", f);
    pickle_text(f, "0");
    pickle_text(f, "cpu");
    pickle_int(f, dim[0] * dim[1] * dim[2]);
    fputs("tQ", f);
    pickle_int(f, 0);
    for (int i = 0; i < 3; i++)
        pickle_int(f, dim[i]);
    fputc(0x87, f);
    pickle_int(f, dim[1] * dim[2]);
    pickle_int(f, dim[2]);
    pickle_int(f, 1);
    fputs("\x87\x89"
          "ccollections\nOrderedDict\n)RtR.",
          f);
}

bool torchfile_write(const char *path, const int16_t *values, const int64_t dim[3], struct err *e)
{
    const size_t count = (size_t)(dim[0] * dim[1] * dim[2]);
    char pickle[PICKLE_ROOM] = {0};
    FILE *mem = fmemopen(pickle, sizeof pickle, "w");
    struct file_out out = {0};
    long len;

    if (!mem) return err_set(e, "%s: out of memory", path);
    put_pickle(mem, dim);
    len = ftell(mem);
    if (fclose(mem) != 0 || len < 0) return err_set(e, "%s: out of memory", path);
    CHECK(count < INT32_MAX / sizeof *values && len < PICKLE_ROOM);
    const struct member m[MEMBERS] = {{"ranks/data.pkl", pickle, (size_t)len},
                                      {"ranks/byteorder", "little", 6},
                                      {"ranks/data/0", values, count * sizeof *values},
                                      {"ranks/version", "3\n", 2}};
    if (!file_out_open(&out, path, e)) return false;
    put_archive(out.fp, m);
    return file_out_commit(&out, e);
}
