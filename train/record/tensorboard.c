/* tensorboard.c - TFRecord framing and the few protobuf messages that TensorBoard needs. The field
 * numbers are those of event.proto, summary.proto, tensor.proto and tensor_shape.proto. */
#include "train/record/tensorboard.h"

#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_PREFIX "events.out.tfevents."

/* ---- protobuf ---- */

/* A message being built. Running out of memory is remembered until it is written. */
struct proto {
    uint8_t *data;
    size_t n, cap;
    bool failed;
};

enum wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void put(struct proto *p, const void *data, size_t n)
{
    struct err ignored;

    if (p->failed || !mem_grow(&p->data, &p->cap, p->n + n, 1, &ignored)) {
        p->failed = true;
        return;
    }
    if (n) memcpy(p->data + p->n, data, n);
    p->n += n;
}

static void put_varint(struct proto *p, uint64_t v)
{
    do {
        uint8_t byte = (uint8_t)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        put(p, &byte, 1);
        v >>= 7;
    } while (v);
}

/* The lowest `n` bytes of v, little-endian on every machine. */
static void put_fixed(struct proto *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) {
        uint8_t byte = (uint8_t)(v >> (8 * i));
        put(p, &byte, 1);
    }
}

static void put_key(struct proto *p, int field, enum wire wire)
{
    put_varint(p, (uint64_t)field << 3 | (uint64_t)wire);
}

static void put_int(struct proto *p, int field, int64_t v)
{
    put_key(p, field, WIRE_VARINT);
    put_varint(p, (uint64_t)v);
}

static void put_double(struct proto *p, int field, double v)
{
    uint64_t bits;

    memcpy(&bits, &v, sizeof bits);
    put_key(p, field, WIRE_64);
    put_fixed(p, bits, 8);
}

static void put_float(struct proto *p, int field, float v)
{
    uint32_t bits;

    memcpy(&bits, &v, sizeof bits);
    put_key(p, field, WIRE_32);
    put_fixed(p, bits, 4);
}

static void put_string(struct proto *p, int field, const char *s)
{
    put_key(p, field, WIRE_BYTES);
    put_varint(p, strlen(s));
    put(p, s, strlen(s));
}

/* Embeds a finished message in another one and frees it. */
static void put_message(struct proto *p, int field, struct proto *inner)
{
    put_key(p, field, WIRE_BYTES);
    put_varint(p, inner->n);
    put(p, inner->data, inner->n);
    p->failed = p->failed || inner->failed;
    free(inner->data);
    *inner = (struct proto){0};
}

/* ---- records ---- */

/* Bit by bit: records are short, so a table would not pay. 0x82f63b78 is the reversed
 * polynomial. */
uint32_t tb_crc32c(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* A CRC of data that contains CRCs is weak: TFRecord rotates it and adds a constant. */
static uint32_t masked_crc(const void *data, size_t len)
{
    uint32_t crc = tb_crc32c(data, len);

    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Writes one record around the event, which it frees. */
static bool write_event(struct tb *tb, struct proto *event, struct err *e)
{
    struct proto record = {0};
    bool ok;

    put_fixed(&record, event->n, 8);
    if (!record.failed) put_fixed(&record, masked_crc(record.data, 8), 4);
    put(&record, event->data, event->n);
    put_fixed(&record, masked_crc(event->data, event->n), 4);
    if (record.failed || event->failed)
        ok = err_set(e, "%s: out of memory for an event", tb->path);
    else
        ok = (fwrite(record.data, 1, record.n, tb->fp) == record.n && fflush(tb->fp) == 0) ||
             err_system(e, errno, "%s: cannot be written", tb->path);
    free(record.data);
    free(event->data);
    return ok;
}

/* ---- events ---- */

/* Event: double wall_time = 1, int64 step = 2, then one of the payloads. */
static struct proto event_start(double wall_time, int64_t step)
{
    struct proto event = {0};

    put_double(&event, 1, wall_time);
    put_int(&event, 2, step);
    return event;
}

/* Event.summary = 5, Summary.value = 1. */
static bool write_value(struct tb *tb, struct proto *value, int64_t step, double wall_time,
                        struct err *e)
{
    struct proto event = event_start(wall_time, step), summary = {0};

    put_message(&summary, 1, value);
    put_message(&event, 5, &summary);
    return write_event(tb, &event, e);
}

/* Event.file_version = 3, which starts every file. */
static bool write_version(struct tb *tb, double wall_time, struct err *e)
{
    struct proto event = {0};

    put_double(&event, 1, wall_time);
    put_string(&event, 3, "brain.Event:2");
    return write_event(tb, &event, e);
}

/* Event.session_log = 7, SessionLog.status = 1, START = 1. Readers take the first one in a
 * directory for the run's start and later ones for restarts: so a run that was never
 * resumed has one too. */
static bool write_start(struct tb *tb, int64_t step, double wall_time, struct err *e)
{
    struct proto event = event_start(wall_time, step), log = {0};

    put_int(&log, 1, 1);
    put_message(&event, 7, &log);
    return write_event(tb, &event, e);
}

/* Seconds for the new file's name: TensorBoard reads a directory's files in name order, and the
 * clock may stand still or go back between a run and its resumption. */
static bool name_seconds(const char *dir, long long *seconds, struct err *e)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    long long t;
    bool ok = d;

    while (d && (errno = 0, entry = readdir(d)))
        if (sscanf(entry->d_name, NAME_PREFIX "%10lld", &t) == 1 && t >= *seconds) *seconds = t + 1;
    if (!d || errno) ok = err_system(e, errno, "%s", dir);
    if (d) closedir(d);
    return ok;
}

static bool open_new(struct tb *tb, const char *dir, double wall_time, struct err *e)
{
    char host[256] = "localhost";
    long long seconds = (long long)wall_time;
    int fd;

    if (!name_seconds(dir, &seconds, e)) return false;
    gethostname(host, sizeof host - 1);
    tb->path =
        mem_printf(e, "%s/" NAME_PREFIX "%010lld.%s.%ld.0", dir, seconds, host, (long)getpid());
    if (!tb->path) return false;
    fd = open(tb->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    tb->fp = fd < 0 ? NULL : fdopen(fd, "wb");
    if (tb->fp) return true;
    err_system(e, errno, "%s", tb->path);
    if (fd >= 0) close(fd);
    return false;
}

bool tb_open(struct tb *tb, const char *dir, int64_t first_step, double wall_time, struct err *e)
{
    memset(tb, 0, sizeof *tb);
    if (file_mkdirs(dir, e) && open_new(tb, dir, wall_time, e) && write_version(tb, wall_time, e) &&
        write_start(tb, first_step, wall_time, e))
        return true;
    tb_close(tb);
    return false;
}

/* Summary.Value: string tag = 1, float simple_value = 2. */
bool tb_scalar(struct tb *tb, const char *tag, int64_t step, double wall_time, double value,
               struct err *e)
{
    struct proto v = {0};

    put_string(&v, 1, tag);
    put_float(&v, 2, (float)value); /* beyond fp32's range it becomes, and is shown as, infinity */
    return write_value(tb, &v, step, wall_time, e);
}

void tb_close(struct tb *tb)
{
    if (tb->fp) fclose(tb->fp); /* every record was flushed */
    free(tb->path);
    memset(tb, 0, sizeof *tb);
}
