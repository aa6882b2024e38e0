/* watch.c - the list of mapped files, the SIGBUS handler, and the list of reopened files.
 *
 * The handler walks the list while other threads may change it: entries are never freed, only
 * reused, and one whose `begin` is NULL is free. The entry that the handler finds cannot go away,
 * because the interrupted thread is using its mapping. */
#include "base/watch.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/signals.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct stamp {
    off_t size;
    struct timespec time; /* of the last write */
    dev_t dev;            /* which file it is, as far as the file system can tell */
    ino_t ino;
};

struct watched {
    _Atomic(const char *) begin; /* NULL: free */
    size_t size;
    int fd;      /* of the file, -1 if it has no name */
    char *shown; /* its path, through text_plain */
    struct stamp stamp;
    bool summed; /* sum is that of its contents */
    uint64_t sum;
    struct watched *next;   /* all entries ever made */
    struct watched *unused; /* the next free one */
};

struct kept {
    char *path;
    struct stamp stamp;
    uint64_t sum;
    struct kept *next;
};

static struct {
    pthread_mutex_t lock; /* held to change or check the list; not by the handler */
    pthread_once_t once;
    _Atomic(struct watched *) first;
    struct watched *unused;
    struct err lost; /* set when an unmapped file turned out to have been modified */
    struct sigaction before;
    struct kept *kept;
} list = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

/* ---- files unchanged since they were opened ---- */

static struct stamp stamp_of(const struct stat *st)
{
    return (struct stamp){st->st_size, st->st_mtim, st->st_dev, st->st_ino};
}

static bool same(const struct stamp *a, const struct stamp *b)
{
    return a->size == b->size && a->time.tv_sec == b->time.tv_sec &&
           a->time.tv_nsec == b->time.tv_nsec;
}

/* A line of text built with async-signal-safe calls only: a handler cannot use printf. */
struct line {
    char text[4096];
    size_t n;
};

static void put(struct line *l, const char *s)
{
    while (*s && l->n < sizeof l->text - 2) /* room for a newline and the NUL */
        l->text[l->n++] = *s++;
    l->text[l->n] = '\0';
}

static void put_size(struct line *l, off_t v)
{
    char digits[24], *at = digits + sizeof digits;

    *--at = '\0';
    do
        *--at = (char)('0' + v % 10);
    while (v /= 10);
    put(l, at);
}

static void put_changed(struct line *l, const char *path, const struct stamp *was,
                        const struct stamp *now)
{
    put(l, path);
    put(l, ": was changed while it was in use: ");
    if (was->size != now->size) {
        put(l, "it had ");
        put_size(l, was->size);
        put(l, " bytes and has ");
        put_size(l, now->size);
        put(l, " now");
    } else {
        put(l, "it was written again, with as many bytes as before");
    }
    put(l, "; put it back as it was and start again");
}

static bool say_changed(const char *path, const struct stamp *was, const struct stamp *now,
                        struct err *e)
{
    struct line l = {.n = 0};

    put_changed(&l, path, was, now);
    return err_set(e, "%s", l.text);
}

/* Whether an open file, written to since, has the contents that it had. */
static bool same_bytes(int fd, uint64_t was)
{
    struct err e;
    uint64_t sum;

    return sum64_file(fd, &sum, NULL, &e) && sum == was;
}

static bool same_state(const struct stamp *a, const struct stamp *b)
{
    return same(a, b) && a->dev == b->dev && a->ino == b->ino;
}

/* What a file contained in that state, if it is known. */
static const uint64_t *sum_of(const struct watched *w)
{
    if (w->summed) return &w->sum;
    for (const struct kept *k = list.kept; k; k = k->next)
        if (same_state(&k->stamp, &w->stamp)) return &k->sum;
    return NULL;
}

/* The file was written again without a change, or another with its contents has its name: then the
 * mappings keep the old one. */
static void accept(const char *name, struct stamp was, struct stamp now)
{
    const bool kept = was.dev == now.dev && was.ino == now.ino;

    for (struct watched *w = atomic_load(&list.first); kept && w; w = w->next)
        if (atomic_load(&w->begin) && same_state(&w->stamp, &was)) w->stamp = now;
    for (struct kept *k = list.kept; k; k = k->next)
        if (same_state(&k->stamp, &was)) k->stamp = now;
    if (!same(&was, &now))
        log_line("%s: was written again while it was in use, with the same contents", name);
}

/* False: the mapped file has been modified. With the lock held. */
static bool check(struct watched *w, struct err *e)
{
    const uint64_t *sum;
    struct stat st;
    struct stamp now;

    if (w->fd < 0 || fstat(w->fd, &st) != 0) return true;
    now = stamp_of(&st);
    if (same(&w->stamp, &now)) return true;
    sum = now.size == w->stamp.size ? sum_of(w) : NULL;
    if (!sum || !same_bytes(w->fd, *sum)) return say_changed(w->shown, &w->stamp, &now, e);
    accept(w->shown, w->stamp, now);
    return true;
}

bool watch_check(struct err *e)
{
    bool ok;

    pthread_mutex_lock(&list.lock);
    ok = !list.lost.msg[0] || err_set(e, "%s", list.lost.msg);
    list.lost.msg[0] = '\0';
    for (struct watched *w = atomic_load(&list.first); ok && w; w = w->next)
        if (atomic_load(&w->begin)) ok = check(w, e);
    pthread_mutex_unlock(&list.lock);
    return ok;
}

/* ---- SIGBUS ---- */

static struct watched *find(const char *at)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    for (struct watched *w = atomic_load(&list.first); w; w = w->next) {
        const char *begin = atomic_load(&w->begin);
        if (begin && at >= begin && (size_t)(at - begin) < (w->size + page - 1) / page * page)
            return w;
    }
    return NULL;
}

static void put_reason(struct line *l, const struct watched *w)
{
    struct stamp now;
    struct stat st;
    bool known = w->fd >= 0 && fstat(w->fd, &st) == 0;

    if (known) now = stamp_of(&st);
    if (known && !same(&w->stamp, &now)) {
        put_changed(l, w->shown, &w->stamp, &now);
        return;
    }
    put(l, w->shown);
    put(l, w->fd >= 0 ? ": cannot be read any more: the disk or the network under it fails"
                      : ": the scratch file there cannot be used any more: is the disk full?");
}

/* The data that the interrupted thread was reading is gone: the process can only exit. A SIGBUS
 * from anything else is passed to the previous handler. */
static void on_bus_error(int sig, siginfo_t *info, void *context)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    static struct line line; /* used by the one thread that gets past the flag */
    const struct watched *w = info->si_code > 0 ? find(info->si_addr) : NULL;

    (void)context;
    if (!w) {
        sigaction(sig, &list.before, NULL);
        if (info->si_code <= 0) raise(sig); /* sent by a process: it will not fault again */
        return;
    }
    while (atomic_flag_test_and_set(&taken))
        pause();                                 /* another thread is already here */
    if (isatty(STDERR_FILENO)) put(&line, "\n"); /* in case a progress line is shown */
    put(&line, program_invocation_short_name);
    put(&line, ": error: ");
    put_reason(&line, w);
    line.text[line.n++] = '\n';
    for (size_t at = 0; at < line.n;) {
        ssize_t n = write(STDERR_FILENO, line.text + at, line.n - at);
        if (n <= 0) break;
        at += (size_t)n;
    }
    _exit(1);
}

static void take_bus_errors(void)
{
    struct sigaction a = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigaction(SIGBUS, &a, &list.before);
}

/* ---- the list ---- */

/* A free entry, with the lock held. */
static struct watched *entry_new(struct err *e)
{
    struct watched *w = list.unused;

    if (w) {
        list.unused = w->unused;
        return w;
    }
    w = mem_new(1, sizeof *w, "the list of mapped files", e);
    if (w) {
        w->next = atomic_load(&list.first);
        atomic_store(&list.first, w);
    }
    return w;
}

struct watched *watch_add(const void *data, size_t size, const char *path, int fd, struct err *e)
{
    char *shown = text_plain_new(path, strlen(path));
    struct watched *w = NULL;
    struct stat st = {0};

    if (!shown) {
        err_set(e, "out of memory: the name of a mapped file");
        return NULL;
    }
    if (fd >= 0 && fstat(fd, &st) != 0) { /* it existed a moment ago */
        err_system(e, errno, "%s", path);
        free(shown);
        return NULL;
    }
    pthread_once(&list.once, take_bus_errors);
    pthread_mutex_lock(&list.lock);
    w = entry_new(e);
    if (w) {
        w->size = size;
        w->fd = fd;
        w->shown = shown;
        w->stamp = stamp_of(&st);
        w->stamp.size = (off_t)size; /* that was mapped */
        w->summed = false;
        atomic_store(&w->begin, data);
    }
    pthread_mutex_unlock(&list.lock);
    if (!w) free(shown);
    return w;
}

void watch_remove(struct watched *w)
{
    struct err why;

    if (!w) return;
    pthread_mutex_lock(&list.lock);
    if (!check(w, &why) && !list.lost.msg[0]) list.lost = why;
    atomic_store(&w->begin, NULL);
    if (w->fd >= 0) close(w->fd);
    free(w->shown);
    w->shown = NULL;
    w->unused = list.unused;
    list.unused = w;
    pthread_mutex_unlock(&list.lock);
}

/* One that has been written to already is left to watch_check. */
static bool sum_mapped(struct watched *w, struct err *e)
{
    struct stamp now;
    struct stat st;

    if (w->fd < 0 || w->summed) return true;
    if (!sum64_file(w->fd, &w->sum, signals_go_on, e)) return err_context(e, "%s", w->shown);
    if (fstat(w->fd, &st) != 0) return err_system(e, errno, "%s", w->shown);
    now = stamp_of(&st);
    w->summed = same(&w->stamp, &now);
    return true;
}

bool watch_sum_mapped(struct err *e)
{
    bool ok = true;

    pthread_mutex_lock(&list.lock);
    for (struct watched *w = atomic_load(&list.first); ok && w; w = w->next)
        if (atomic_load(&w->begin)) ok = sum_mapped(w, e);
    pthread_mutex_unlock(&list.lock);
    return ok;
}

/* ---- files that are reopened ---- */

/* State and sum of what has the name k->path now. *there: false if it is no regular file. */
static bool read_state(struct kept *k, bool *there, struct err *e)
{
    struct stat st;
    int fd;
    bool ok;

    *there = stat(k->path, &st) == 0 && S_ISREG(st.st_mode);
    if (!*there) return true;
    fd = open(k->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return err_system(e, errno, "%s", k->path);
    ok = (fstat(fd, &st) == 0 || err_system(e, errno, "%s", k->path)) &&
         (sum64_file(fd, &k->sum, signals_go_on, e) || err_context(e, "%s", k->path));
    k->stamp = stamp_of(&st);
    close(fd);
    return ok;
}

static struct kept *find_kept(const char *path)
{
    struct kept *k = list.kept;

    while (k && strcmp(k->path, path) != 0)
        k = k->next;
    return k;
}

static void put_kept(struct kept *k)
{
    pthread_mutex_lock(&list.lock);
    k->next = list.kept;
    list.kept = k;
    pthread_mutex_unlock(&list.lock);
}

bool watch_keep(const char *path, struct err *e)
{
    struct kept *k;
    bool there = false, ok;

    if (find_kept(path)) return true;
    k = mem_new(1, sizeof *k, "the list of files", e);
    if (k) k->path = mem_strdup(path, e);
    ok = k && k->path && read_state(k, &there, e);
    if (ok && there) {
        put_kept(k);
        return true;
    }
    if (k) free(k->path);
    free(k);
    return ok;
}

/* A file with another time may have been touched or copied; one with the same time may be another,
 * made with that (cp -p). */
static bool check_kept(struct kept *k, struct err *e)
{
    struct kept now = *k;
    struct stat st;
    bool there = false;

    if (stat(k->path, &st) != 0)
        return err_system(e, errno, "%s: is gone, and the run needs it again", k->path);
    now.stamp = stamp_of(&st);
    if (same_state(&k->stamp, &now.stamp)) return true;
    if (now.stamp.size == k->stamp.size && !read_state(&now, &there, e)) return false;
    if (!there || now.sum != k->sum) return say_changed(k->path, &k->stamp, &now.stamp, e);
    pthread_mutex_lock(&list.lock);
    accept(k->path, k->stamp, now.stamp);
    pthread_mutex_unlock(&list.lock);
    return true;
}

bool watch_kept(struct err *e)
{
    for (struct kept *k = list.kept; k; k = k->next)
        if (!check_kept(k, e)) return false;
    return true;
}

bool watch_sum(const char *path, char hex[17], struct err *e)
{
    const struct kept *k = find_kept(path);

    if (!k) return sum64_path(path, signals_go_on, hex, e);
    snprintf(hex, 17, "%016llx", (unsigned long long)k->sum);
    return true;
}
