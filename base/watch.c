/* watch.c - the list of mapped files, the SIGBUS handler, and the list of reopened files.
 *
 * The handler walks the list while other threads may change it: entries are never freed, only
 * reused, and one whose `begin` is NULL is free. The entry that the handler finds cannot go away,
 * because the interrupted thread is using its mapping. */
#include "base/watch.h"
#include "base/mem.h"
#include "base/text.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct stamp {
    off_t size;
    struct timespec time; /* of the last write */
};

struct watched {
    _Atomic(const char *) begin; /* NULL: free */
    size_t size;
    int fd;      /* of the file, -1 if it has no name */
    char *shown; /* its path, through text_plain */
    struct stamp stamp;
    struct watched *next;   /* all entries ever made */
    struct watched *unused; /* the next free one */
};

struct kept {
    char *path;
    struct stamp stamp;
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
    return (struct stamp){st->st_size, st->st_mtim};
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

/* False: the mapped file has been modified. */
static bool check(const struct watched *w, struct err *e)
{
    struct stat st;
    struct stamp now;

    if (w->fd < 0 || fstat(w->fd, &st) != 0) return true;
    now = stamp_of(&st);
    return same(&w->stamp, &now) || say_changed(w->shown, &w->stamp, &now, e);
}

bool watch_check(struct err *e)
{
    bool ok;

    pthread_mutex_lock(&list.lock);
    ok = !list.lost.msg[0] || err_set(e, "%s", list.lost.msg);
    list.lost.msg[0] = '\0';
    for (const struct watched *w = atomic_load(&list.first); ok && w; w = w->next)
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
        w->stamp = (struct stamp){(off_t)size, st.st_mtim}; /* the size that was mapped */
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

/* ---- files that are reopened ---- */

bool watch_keep(const char *path, struct err *e)
{
    struct kept *k;
    struct stat st;

    for (k = list.kept; k; k = k->next)
        if (strcmp(k->path, path) == 0) return true;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) return true;
    k = mem_new(1, sizeof *k, "the list of files", e);
    if (k) k->path = mem_strdup(path, e);
    if (!k || !k->path) {
        free(k);
        return false;
    }
    k->stamp = stamp_of(&st);
    k->next = list.kept;
    list.kept = k;
    return true;
}

bool watch_kept(struct err *e)
{
    for (const struct kept *k = list.kept; k; k = k->next) {
        struct stat st;
        struct stamp now;
        if (stat(k->path, &st) != 0)
            return err_system(e, errno, "%s: is gone, and the run needs it again", k->path);
        now = stamp_of(&st);
        if (!same(&k->stamp, &now)) return say_changed(k->path, &k->stamp, &now, e);
    }
    return true;
}
