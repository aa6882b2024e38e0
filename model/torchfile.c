/* torchfile.c - see torchfile.h. Zip and pickle opcodes are read as far as torch.save uses them for
 * one tensor; whatever else is met ends in a message, not in a guess. */
#include "model/torchfile.h"

#include "base/file.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* A stretch of the file that is read from the front. */
struct bytes {
    const uint8_t *p;
    size_t n;
};

static const char *const how_to =
    "; in Python torch.save(torch.load(OLD).contiguous().clone(), NEW) writes what is read here";

/* ---- zip ---- */

enum { LOCAL_HEADER = 30, CENTRAL_HEADER = 46, END_RECORD = 22 };

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static uint32_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}

/* The end record, which lies at the end of the file but for a comment. */
static const uint8_t *find_end(struct bytes file)
{
    const size_t most = END_RECORD + UINT16_MAX;

    for (size_t back = END_RECORD; back <= file.n && back <= most; back++)
        if (memcmp(file.p + file.n - back, "PK\5\6", 4) == 0) return file.p + file.n - back;
    return NULL;
}

/* The contents of the member that the directory entry `at` is of. */
static bool member_contents(struct bytes *out, struct bytes file, const uint8_t *at, struct err *e)
{
    const size_t start = get32(at + 42), size = get32(at + 24);
    size_t from;

    if (get16(at + 10) != 0) return err_set(e, "is a compressed zip archive%s", how_to);
    if (start > file.n || file.n - start < LOCAL_HEADER || memcmp(file.p + start, "PK\3\4", 4) != 0)
        return err_set(e, "is damaged: a member's header is not where it should be");
    from = start + LOCAL_HEADER + get16(file.p + start + 26) + get16(file.p + start + 28);
    if (from > file.n || file.n - from < size)
        return err_set(e, "is damaged or cut short: a member ends behind the end of the file");
    *out = (struct bytes){file.p + from, size};
    if (crc32(0, out->p, (uInt)size) != get32(at + 16))
        return err_set(e, "is damaged: a member's checksum is wrong");
    return true;
}

/* The member whose name ends in `end`. */
static bool find_member(struct bytes *out, struct bytes file, const char *end, struct err *e)
{
    const uint8_t *record = find_end(file);
    const size_t len = strlen(end);
    struct bytes dir;

    if (!record) return err_set(e, "is not a file that torch.save writes since 1.6%s", how_to);
    dir = (struct bytes){file.p + get32(record + 16), get32(record + 12)};
    if (get32(record + 16) > file.n || file.n - get32(record + 16) < dir.n)
        return err_set(e, "is damaged: its directory is not where it should be");
    while (dir.n >= CENTRAL_HEADER && memcmp(dir.p, "PK\1\2", 4) == 0) {
        const size_t name = get16(dir.p + 28),
                     all = CENTRAL_HEADER + name + get16(dir.p + 30) + get16(dir.p + 32);
        if (all > dir.n) break;
        if (name >= len && memcmp(dir.p + CENTRAL_HEADER + name - len, end, len) == 0)
            return member_contents(out, file, dir.p, e);
        dir = (struct bytes){dir.p + all, dir.n - all};
    }
    return err_set(e, "has no member ...%s: is it a file of torch.save?", end);
}

/* ---- pickle ---- */

/* Takes the bytes of `want` if they come next. */
static bool take(struct bytes *b, const char *want, size_t n)
{
    if (b->n < n || memcmp(b->p, want, n) != 0) return false;
    *b = (struct bytes){b->p + n, b->n - n};
    return true;
}

/* What was read last goes into the pickle's memory: of no use here. */
static void skip_memo(struct bytes *b)
{
    if (b->n >= 2 && b->p[0] == 'q') *b = (struct bytes){b->p + 2, b->n - 2};
}

#define TAKE(b, literal) take(b, literal, sizeof literal - 1)

/* GLOBAL "MODULE\nNAME\n"; b stays where it is if another one comes next. */
static bool take_global(struct bytes *b, const char *text)
{
    struct bytes next = *b;

    if (!TAKE(&next, "c") || !take(&next, text, strlen(text))) return false;
    skip_memo(&next);
    *b = next;
    return true;
}

/* A string: left in text[16], with a NUL. */
static bool take_text(struct bytes *b, char text[16])
{
    uint32_t n;

    if (b->n < 5 || b->p[0] != 'X') return false;
    n = get32(b->p + 1);
    if (n >= 16 || b->n - 5 < n) return false;
    memcpy(text, b->p + 5, n);
    text[n] = '\0';
    *b = (struct bytes){b->p + 5 + n, b->n - 5 - n};
    skip_memo(b);
    return strlen(text) == n;
}

static bool take_int(struct bytes *b, int64_t *v)
{
    const size_t n = b->n && b->p[0] == 'K'   ? 1
                     : b->n && b->p[0] == 'M' ? 2
                     : b->n && b->p[0] == 'J' ? 4
                                              : 0;

    if (n == 0 || b->n < 1 + n) return false;
    *v = n == 1 ? b->p[1] : n == 2 ? (int64_t)get16(b->p + 1) : (int64_t)(int32_t)get32(b->p + 1);
    *b = (struct bytes){b->p + 1 + n, b->n - 1 - n};
    return *v >= 0;
}

static bool take_triple(struct bytes *b, int64_t v[3])
{
    if (!take_int(b, &v[0]) || !take_int(b, &v[1]) || !take_int(b, &v[2]) || !TAKE(b, "\x87"))
        return false;
    skip_memo(b);
    return true;
}

static const struct storage {
    const char *name;
    size_t size;
    bool sign;
} storages[] = {{"torch\nByteStorage\n", 1, false},
                {"torch\nCharStorage\n", 1, true},
                {"torch\nShortStorage\n", 2, true},
                {"torch\nIntStorage\n", 4, true},
                {"torch\nLongStorage\n", 8, true}};
enum { STORAGES = sizeof storages / sizeof *storages };

/* What the pickle says of the tensor. */
struct header {
    const struct storage *storage;
    char key[16];
    int64_t count, offset, dim[3], stride[3];
};

/* torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, OrderedDict()) with
 * storage the persistent id ("storage", torch.XStorage, key, device, count). */
static bool read_header(struct header *h, struct bytes b)
{
    char text[16];
    int i = 0;

    if (!TAKE(&b, "\x80\x02") || !take_global(&b, "torch._utils\n_rebuild_tensor_v2\n") ||
        !TAKE(&b, "((") || !take_text(&b, text) || strcmp(text, "storage") != 0)
        return false;
    while (i < STORAGES && !take_global(&b, storages[i].name))
        i++;
    if (i == STORAGES || !take_text(&b, h->key) || !take_text(&b, text) || /* text: the device */
        !take_int(&b, &h->count) || !TAKE(&b, "t"))
        return false;
    h->storage = &storages[i];
    skip_memo(&b);
    if (!TAKE(&b, "Q") || !take_int(&b, &h->offset) || !take_triple(&b, h->dim) ||
        !take_triple(&b, h->stride) || !(TAKE(&b, "\x89") || TAKE(&b, "\x88")) ||
        !take_global(&b, "collections\nOrderedDict\n") || !TAKE(&b, ")R"))
        return false;
    skip_memo(&b);
    if (!TAKE(&b, "t")) return false;
    skip_memo(&b);
    if (!TAKE(&b, "R")) return false;
    skip_memo(&b);
    return TAKE(&b, ".") && b.n == 0;
}

/* ---- the tensor ---- */

static int64_t value_at(const struct storage *s, const uint8_t *p)
{
    uint64_t v = 0;

    for (size_t i = 0; i < s->size; i++)
        v |= (uint64_t)p[i] << 8 * i;
    if (s->sign && s->size < 8 && v >> (8 * s->size - 1)) v |= UINT64_MAX << 8 * s->size;
    return (int64_t)v;
}

static bool read_tensor(struct torch_tensor *t, struct bytes file, size_t most, struct err *e)
{
    struct header h = {0};
    struct bytes pickle, data;
    char member[32];
    size_t n;

    if (!find_member(&pickle, file, "/data.pkl", e)) return false;
    if (!read_header(&h, pickle))
        return err_set(e, "holds something else than one integer tensor of 3 dimensions%s", how_to);
    n = 1;
    for (int i = 0; i < 3; i++) {
        if (h.dim[i] < 1 || (size_t)h.dim[i] > most / n)
            return err_set(
                e, "has shape [%" PRId64 ", %" PRId64 ", %" PRId64 "], needed are %zu values",
                h.dim[0], h.dim[1], h.dim[2], most);
        n *= (size_t)h.dim[i];
    }
    if (h.offset != 0 || h.stride[2] != 1 || h.stride[1] != h.dim[2] ||
        h.stride[0] != h.dim[1] * h.dim[2])
        return err_set(e, "its tensor is a view of another one%s", how_to);
    snprintf(member, sizeof member, "/data/%s", h.key);
    if (!find_member(&data, file, member, e)) return false;
    if (data.n / h.storage->size < n)
        return err_set(e, "its values are %zu bytes, its shape asks for %zu", data.n,
                       n * h.storage->size);
    t->values = mem_new(n, sizeof *t->values, "ranks", e);
    if (!t->values) return false;
    memcpy(t->dim, h.dim, sizeof t->dim);
    for (size_t i = 0; i < n; i++)
        t->values[i] = value_at(h.storage, data.p + i * h.storage->size);
    return true;
}

bool torchfile_read(struct torch_tensor *t, const char *path, size_t most, struct err *e)
{
    const size_t around = 1 << 16; /* what the members but for the values may take */
    char *text = NULL;
    size_t len;
    bool there, ok;

    memset(t, 0, sizeof *t);
    if (!file_there(path, &there, e)) return false;
    if (!there) return err_set(e, "is not there");
    ok = file_read(path, most * sizeof(int64_t) + around, &text, &len, e) &&
         read_tensor(t, (struct bytes){(const uint8_t *)text, len}, most, e);
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

/* What local header and directory entry have in common, from "version needed" on. */
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
    const uint32_t local = 30, entry = 46; /* bytes of a header without the name */
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

/* The pickle that read_header reads, without the memory that nobody asks for. */
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
