/* h5in.c - the superblock, and the messages of object headers. Every length is checked against what
 * is there before it is used; f->left bounds the work on files with cycles. */
#include "base/hdf5/h5in_parts.h"

#include "base/file.h"
#include "base/filekind.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char damaged[] = "is damaged or cut short";

/* Reads all n bytes at an address. */
static bool get(const struct h5_in *f, uint64_t at, uint64_t n, void *to, struct err *e)
{
    if (at > f->end || n > f->end - at) return err_set(e, "%s", damaged);
    return file_read_at(f->fd, f->base + at, n, to, e);
}

bool h5_in_read(const struct h5_in *f, const struct h5_values *v, uint64_t first, uint64_t n,
                void *to, struct err *e)
{
    CHECK(first <= v->count && n <= v->count - first);
    return n == 0 || get(f, v->at + first * v->size, n * v->size, to, e); /* nothing to read */
}

uint8_t *h5_in_take(struct h5_in *f, uint64_t at, uint64_t n, const char *what, struct err *e)
{
    uint8_t *p;

    if (at > f->end || n > f->end - at) {
        err_set(e, "%s: %s beyond the end of the file", damaged, what);
        return NULL;
    }
    if (n > f->left) {
        err_set(e, "is damaged: what describes its arrays goes in circles");
        return NULL;
    }
    f->left -= n;
    p = mem_new(n, 1, what, e);
    if (p && !get(f, at, n, p, e)) {
        free(p);
        p = NULL;
    }
    return p;
}

/* ---- superblock ---- */

static const uint8_t signature[8] = "\x89HDF\r\n\x1a\n";

/* It is at 0 or, behind a user block, at a power of two from 512. Until the superblock says
 * otherwise, the HDF5 part is taken to extend to the end of the file. */
static bool find_signature(struct h5_in *f, uint64_t size, struct err *e)
{
    uint8_t start[sizeof signature], first[512];
    const char *kind;

    for (uint64_t at = 0; at + sizeof start <= size; at = at ? 2 * at : 512) {
        f->base = at;
        f->end = size - at;
        if (!get(f, 0, sizeof start, start, e)) return false;
        if (memcmp(start, signature, sizeof start) == 0) return true;
    }
    f->base = 0;
    f->end = size < sizeof first ? size : sizeof first;
    if (!get(f, 0, f->end, first, e)) return false;
    kind = file_kind(first, f->end);
    return kind ? err_set(e, "is %s", kind) : err_set(e, "is not an HDF5 file");
}

/* The fields of versions 0 and 1 (which differ by `more` fields) and of versions 2 and 3. */
static bool read_superblock(struct h5_in *f, struct err *e)
{
    uint8_t p[100] = {0};
    const uint64_t size = f->end;
    unsigned version, widths, fields;

    if (!get(f, 0, size < sizeof p ? size : sizeof p, p, e)) return false;
    version = p[8];
    if (version > 3) return err_set(e, "is HDF5 of version %u; 0 to 3 are read", version);
    widths = version < 2 ? 13 : 9;
    if (p[widths] != 8 || p[widths + 1] != 8)
        return err_set(e, "has addresses of %u and lengths of %u bytes; 8 are read", p[widths],
                       p[widths + 1]);
    fields = version == 0 ? 24 : version == 1 ? 28 : 12;
    /* base, (free space or extension), end, then the driver's or the root's header */
    if (h5_get(p + fields, 8) != f->base)
        return err_set(e, "is damaged: its base address is wrong");
    f->end = h5_get(p + fields + 16, 8);
    f->root = h5_get(p + fields + (version < 2 ? 40 : 24), 8);
    if (version < 2 && h5_get(p + fields + 24, 8) != H5_NOWHERE)
        return err_set(e, "is a part of a file in several parts");
    if (f->end > size + f->base || f->end < f->base)
        return err_set(e, "is cut short: %" PRIu64 " bytes of %" PRIu64, size + f->base, f->end);
    f->end -= f->base;
    return true;
}

bool h5_in_start(struct h5_in *f, int fd, struct err *e)
{
    struct stat st;

    *f = (struct h5_in){.fd = fd};
    if (fstat(fd, &st) != 0) return err_system(e, errno, "cannot be read");
    if (!find_signature(f, (uint64_t)st.st_size, e) || !read_superblock(f, e)) return false;
    f->left = 16 * f->end; /* the shape and each attribute may be read in turn */
    return true;
}

/* ---- object headers ---- */

struct chunk {
    uint64_t at, n;
};

struct walk {
    struct h5_in *f;
    h5_visit *visit;
    void *arg;
    unsigned version; /* of the header */
    size_t prefix;    /* bytes of a message before its body */
    uint64_t messages;
    struct chunk *chunks; /* the first chunk and its continuations */
    size_t n, cap;
};

static bool add_chunk(struct walk *w, uint64_t at, uint64_t n, struct err *e)
{
    if (!mem_grow(&w->chunks, &w->cap, w->n + 1, sizeof *w->chunks, e)) return false;
    w->chunks[w->n++] = (struct chunk){at, n};
    return true;
}

/* The header of a message. Version 1 has reserved bytes between the fields. */
static void message_prefix(const struct walk *w, const uint8_t *p, struct h5_message *m,
                           unsigned *flags)
{
    m->type = (unsigned)(w->version == 1 ? h5_get(p, 2) : p[0]);
    m->size = (size_t)h5_get(p + (w->version == 1 ? 2 : 1), 2);
    *flags = p[w->version == 1 ? 4 : 3];
}

static bool visit_message(struct walk *w, const struct h5_message *m, unsigned flags, struct err *e)
{
    enum { SHARED = 2, MUST_KNOW = 0x80 };

    w->messages++;
    if (m->type == H5_MESSAGE_CONTINUED)
        return m->size >= 16 ? add_chunk(w, h5_get(m->body, 8), h5_get(m->body + 8, 8), e)
                             : err_set(e, "is damaged: a header continues nowhere");
    if (flags & SHARED && m->type == H5_MESSAGE_TYPE)
        return err_set(e,
                       "its type is a committed type, which is stored elsewhere; types that arrays "
                       "have of their own are read");
    if (flags & SHARED)
        return err_set(e, "shares a part of its header (message %u), which is not read", m->type);
    if (m->type > H5_MESSAGE_LAST_KNOWN && flags & MUST_KNOW)
        return err_set(e, "needs what this program does not know (message %u)", m->type);
    return w->visit(w->arg, m, e);
}

/* The messages of one chunk: its bytes p[n], at address `at`. */
static bool walk_messages(struct walk *w, const uint8_t *p, uint64_t n, uint64_t at, struct err *e)
{
    uint64_t i = 0;
    unsigned flags;

    while (n - i >= w->prefix) { /* version 2 may leave a gap */
        struct h5_message m;

        message_prefix(w, p + i, &m, &flags);
        i += w->prefix;
        if (m.size > n - i) return err_set(e, "is damaged: a header's message is too long");
        m.body = p + i;
        m.at = at + i;
        if (!visit_message(w, &m, flags, e)) return false;
        i += m.size;
    }
    return true;
}

/* A version 2 chunk starts with a signature (the caller has checked the first chunk's) and ends
 * with a checksum. */
static bool walk_chunk(struct walk *w, struct chunk c, bool first, struct err *e)
{
    const uint64_t head = w->version == 2 && !first ? 4 : 0, tail = w->version == 2 ? 4 : 0;
    uint8_t *p = h5_in_take(w->f, c.at, c.n, "an object's header", e);
    bool ok = p;

    if (ok && (c.n < head + tail || (head && memcmp(p, "OCHK", 4) != 0)))
        ok = err_set(e, "is damaged: a header continues where there is none");
    ok = ok && walk_messages(w, p + head, c.n - head - tail, c.at + head, e);
    free(p);
    return ok;
}

/* Version 1: 16 bytes with the number of messages in all chunks and the size of the first. */
static bool start_1(struct walk *w, const uint8_t *p, uint64_t header, uint64_t *messages,
                    struct err *e)
{
    w->version = 1;
    w->prefix = 8;
    *messages = h5_get(p + 2, 2);
    return add_chunk(w, header + 16, h5_get(p + 8, 4), e);
}

/* Version 2: flags say which fields precede the size of the first chunk. */
static bool start_2(struct walk *w, const uint8_t *p, uint64_t header, struct err *e)
{
    enum { SIZE_BITS = 3, ORDER = 4, PHASES = 16, TIMES = 32 };
    const unsigned flags = p[5];
    const uint64_t at = 6u + (flags & TIMES ? 16 : 0) + (flags & PHASES ? 4 : 0);
    const size_t width = (size_t)1 << (flags & SIZE_BITS);
    const uint64_t size = h5_get(p + at, width);

    if (p[4] != 2) return err_set(e, "is damaged: a header of version %u", p[4]);
    w->version = 2;
    w->prefix = flags & ORDER ? 6 : 4;
    if (size > w->f->end) return err_set(e, "%s", damaged);
    return add_chunk(w, header + at + width, size + 4, e); /* plus the checksum */
}

bool h5_in_walk(struct h5_in *f, uint64_t header, h5_visit *visit, void *arg, struct err *e)
{
    struct walk w = {.f = f, .visit = visit, .arg = arg};
    const uint64_t room = header > f->end ? 0 : f->end - header;
    uint8_t p[34] = {0}; /* the longest possible start */
    uint64_t messages = 0;
    bool ok = room >= 16 || err_set(e, "%s: an object beyond the end of the file", damaged);

    ok = ok && get(f, header, room < sizeof p ? room : sizeof p, p, e);
    if (ok && memcmp(p, "OHDR", 4) == 0)
        ok = start_2(&w, p, header, e);
    else if (ok && p[0] == 1)
        ok = start_1(&w, p, header, &messages, e);
    else
        ok = ok && err_set(e, "is damaged: no object is where one should be");
    for (size_t i = 0; ok && i < w.n; i++)
        ok = walk_chunk(&w, w.chunks[i], i == 0, e);
    if (ok && w.version == 1 && w.messages != messages)
        ok = err_set(e, "is damaged: a header has %" PRIu64 " messages, it speaks of %" PRIu64,
                     w.messages, messages);
    free(w.chunks);
    return ok;
}
