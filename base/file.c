/* file.c - reading, mapping and atomic writing of files. */
#include "base/file.h"
#include "base/mem.h"
#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Turns errno into a message about a file that cannot be opened; dangling links and sockets are
 * named as such. The message does not name the file. */
static bool open_failed(const char *path, struct err *e)
{
    int saved = errno;
    char target[512];
    struct stat st;
    struct err why;
    ssize_t n = saved == ENOENT ? readlink(path, target, sizeof target - 1) : -1;

    if (saved == ENXIO && stat(path, &st) == 0 && S_ISSOCK(st.st_mode))
        return err_set(e, "is a socket, a file is needed");
    if (n < 0 && saved == ENOENT && !path_check(path, &why))
        return err_set(e, "%s; it %s", strerror(saved), why.msg);
    errno = saved;
    if (n < 0) return err_system(e, saved, "%s", "");
    target[n] = '\0';
    return err_set(e, "is a link to %s, which is not there", target);
}

/* Waits until a pipe has something to read, or its writers are gone; logs that if it takes longer
 * than a user should have to guess. */
static bool await_input(int fd, const char *path, struct err *e)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int patience = 2000, got; /* ms */

    do {
        got = poll(&p, 1, patience);
        if (got == 0) {
            fprintf(stderr, "%s: waiting for what will be written into %s\n",
                    program_invocation_short_name, path);
            patience = -1;
        }
    } while (got == 0 || (got < 0 && errno == EINTR));
    return (got > 0 && fcntl(fd, F_SETFL, 0) == 0) || err_system(e, errno, "%s", "");
}

/* Opens for reading and checks the file type. open() on a FIFO would wait for a writer that may
 * never come, so that is allowed only where `pipe` is set, and logged. Returns -1 on failure; the
 * message does not name the file. */
static int open_input(const char *path, bool pipe, struct stat *st, struct err *e)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        open_failed(path, e);
        return -1;
    }
    if (fstat(fd, st) != 0)
        err_system(e, errno, "%s", "");
    else if (S_ISDIR(st->st_mode))
        err_set(e, "is a directory, a file is needed");
    else if (!S_ISREG(st->st_mode) && !pipe)
        err_set(e, "is a %s, a file is needed", S_ISFIFO(st->st_mode) ? "named pipe" : "device");
    else if (S_ISREG(st->st_mode) || await_input(fd, path, e))
        return fd;
    close(fd);
    return -1;
}

/* Reads up to limit + 1 bytes from a stream of unknown length (a pipe) or a file of known size. The
 * caller frees the buffer, on failure too. */
static bool read_all(int fd, const char *path, size_t step, size_t limit, char **buf, size_t *size,
                     struct err *e)
{
    size_t cap = 0;
    ssize_t got = 1;

    for (*size = 0; got > 0 && *size <= limit; *size += (size_t)got) {
        if (cap - *size < 2 && !mem_grow(buf, &cap, *size + step + 2, 1, e)) return false;
        do
            got = read(fd, *buf + *size, cap - *size - 1);
        while (got < 0 && errno == EINTR);
        if (got < 0) return err_system(e, errno, "%s", path);
    }
    if (*size > limit)
        return err_set(e, "%s: more than the %zu bytes that are allowed", path, limit);
    (*buf)[*size] = '\0';
    return true;
}

static bool read_input(const char *path, bool pipe, size_t limit, char **text, size_t *len,
                       struct err *e)
{
    struct stat st;
    int fd = open_input(path, pipe, &st, e);
    bool ok = fd >= 0 || err_context(e, "%s", path);

    *text = NULL;
    *len = 0;
    if (ok && S_ISREG(st.st_mode) && (size_t)st.st_size > limit)
        ok = err_set(e, "%s: %zu bytes, at most %zu are allowed", path, (size_t)st.st_size, limit);
    ok = ok && read_all(fd, path, S_ISREG(st.st_mode) ? (size_t)st.st_size : 1 << 16, limit, text,
                        len, e);
    if (!ok) {
        free(*text);
        *text = NULL;
        *len = 0;
    }
    if (fd >= 0) close(fd);
    return ok;
}

bool file_read(const char *path, size_t limit, char **text, size_t *len, struct err *e)
{
    return read_input(path, false, limit, text, len, e);
}

bool file_read_stream(const char *path, size_t limit, char **text, size_t *len, struct err *e)
{
    return read_input(path, true, limit, text, len, e);
}

bool file_regular(const char *path, struct err *e)
{
    bool there;
    int fd;

    if (!file_there(path, &there, e)) return false;
    if (!there) return true;
    fd = file_open(path, e);
    if (fd < 0) return err_context(e, "%s", path);
    close(fd);
    return true;
}

int file_open(const char *path, struct err *e)
{
    struct stat st;

    return open_input(path, false, &st, e);
}

bool file_read_at(int fd, uint64_t at, size_t n, void *to, struct err *e)
{
    uint8_t *p = to;

    while (n) {
        const ssize_t got = pread(fd, p, n, (off_t)at);

        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return err_system(e, errno, "cannot be read");
        if (got == 0) return err_set(e, "is damaged or cut short");
        p += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return true;
}

bool file_map_open(struct file_map *m, const char *path, struct err *e)
{
    struct stat st;
    void *p;
    int fd = open_input(path, false, &st, e);

    memset(m, 0, sizeof *m);
    if (fd < 0) return err_context(e, "%s", path);
    if (st.st_size == 0) {
        close(fd);
        m->data = (const uint8_t *)"";
        return true;
    }
    p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        err_system(e, errno, "%s: cannot be mapped", path);
        close(fd);
        return false;
    }
    m->watched = watch_add(p, (size_t)st.st_size, path, fd, e);
    if (!m->watched) {
        munmap(p, (size_t)st.st_size);
        close(fd);
        return false;
    }
    m->data = p;
    m->size = (size_t)st.st_size;
    return true;
}

void file_map_borrow(struct file_map *m, const void *data, size_t size)
{
    *m = (struct file_map){.data = data, .size = size, .borrowed = true};
}

void file_map_close(struct file_map *m)
{
    watch_remove(m->watched);
    /* munmap wants the pointer that mmap returned; the const is our own. */
    if (m->size && !m->borrowed) munmap((void *)(uintptr_t)m->data, m->size);
    memset(m, 0, sizeof *m);
}

bool file_scratch_open(struct file_scratch *s, const char *dir, size_t size, struct err *e)
{
    char *path = mem_printf(e, "%s/scratch-XXXXXX", dir);
    void *p = MAP_FAILED;
    int fd, status;

    memset(s, 0, sizeof *s);
    if (!path) return false;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        err_system(e, errno, "%s: no file can be made there", dir);
        free(path);
        return false;
    }
    status = unlink(path) == 0 ? 0 : errno;
    if (status == 0) status = posix_fallocate(fd, 0, (off_t)(size ? size : 1));
    if (status == 0) {
        p = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        status = errno;
    }
    close(fd);
    free(path);
    if (p == MAP_FAILED)
        return err_system(e, status, "%s: no room for %zu bytes of scratch", dir, size);
    s->size = size ? size : 1;
    s->watched = watch_add(p, s->size, dir, -1, e);
    if (!s->watched) {
        munmap(p, s->size);
        return false;
    }
    s->data = p;
    return true;
}

void file_scratch_close(struct file_scratch *s)
{
    watch_remove(s->watched);
    if (s->data) munmap(s->data, s->size);
    memset(s, 0, sizeof *s);
}

/* What a new file may take the place of: nothing, or a regular file, which a link may lead to.
 * Giving a file the name of a device or a pipe would take that away. */
static char *place_of(const char *path, struct err *e)
{
    struct stat st;
    char *real;

    if (lstat(path, &st) != 0) return mem_strdup(path, e);
    if (S_ISLNK(st.st_mode)) {
        real = realpath(path, NULL);
        if (!real || stat(real, &st) != 0) {
            err_system(e, errno, "%s: is a link, and where it leads cannot be written", path);
            free(real);
            return NULL;
        }
    } else {
        real = mem_strdup(path, e);
    }
    if (real && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
        err_set(e, "%s: is there, and is no regular file: give another name", path);
        free(real);
        return NULL;
    }
    return real;
}

bool file_out_open(struct file_out *out, const char *path, struct err *e)
{
    memset(out, 0, sizeof *out);
    out->path = place_of(path, e);
    out->tmp = out->path ? mem_printf(e, "%s.tmp", out->path) : NULL;
    if (!out->tmp) {
        file_out_abort(out);
        return false;
    }
    out->fp = fopen(out->tmp, "wb");
    if (!out->fp) {
        err_system(e, errno, "%s", out->tmp);
        file_out_abort(out);
        return false;
    }
    return true;
}

bool file_out_flush(struct file_out *out, struct err *e)
{
    if (!ferror(out->fp) && fflush(out->fp) == 0 && fsync(fileno(out->fp)) == 0) return true;
    return err_system(e, errno, "%s: cannot be written", out->path);
}

bool file_out_commit(struct file_out *out, struct err *e)
{
    bool bad = ferror(out->fp) || fflush(out->fp) != 0;
    int saved = errno;
    bool ok;

    if (fclose(out->fp) != 0 && !bad) {
        bad = true;
        saved = errno;
    }
    out->fp = NULL;
    if (bad) {
        ok = err_system(e, saved, "%s: cannot be written", out->path);
        unlink(out->tmp);
    } else {
        ok = file_publish(out->tmp, out->path, e);
    }
    free(out->path);
    free(out->tmp);
    memset(out, 0, sizeof *out);
    return ok;
}

void file_out_abort(struct file_out *out)
{
    if (out->fp) {
        fclose(out->fp);
        unlink(out->tmp);
    }
    free(out->path);
    free(out->tmp);
    memset(out, 0, sizeof *out);
}

bool file_write(const char *path, const void *data, size_t len, struct err *e)
{
    struct file_out out;

    if (!file_out_open(&out, path, e)) return false;
    fwrite(data, 1, len, out.fp); /* commit checks the stream's error flag */
    return file_out_commit(&out, e);
}

/* A file system that cannot do so, or a directory that is writable but not readable, is not an
 * error. */
bool file_sync_dir(const char *dir, struct err *e)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = true;

    if ((fd < 0 || fsync(fd) != 0) && errno != EACCES && errno != EINVAL && errno != ENOTSUP)
        ok = err_system(e, errno, "%s: cannot be flushed to the disk", dir);
    if (fd >= 0) close(fd);
    return ok;
}

/* Makes the rename itself survive a power cut. */
static bool sync_parent(const char *path, struct err *e)
{
    char *dir = file_dir(path, e);
    bool ok = dir && file_sync_dir(dir, e);

    free(dir);
    return ok;
}

bool file_publish(const char *tmp, const char *path, struct err *e)
{
    int fd = open(tmp, O_RDONLY | O_CLOEXEC), saved = 0;

    if (fd < 0 || fsync(fd) != 0) saved = errno;
    if (fd >= 0) close(fd);
    if (!saved && rename(tmp, path) != 0) saved = errno;
    if (!saved) return sync_parent(path, e);
    unlink(tmp);
    return err_system(e, saved, "%s: cannot be written", path);
}

bool file_mkdirs(const char *path, struct err *e)
{
    char *p = mem_strdup(path, e);
    struct stat st;
    bool ok = true;

    if (!p) return false;
    for (char *s = p + 1; ok; s++) {
        char c = *s;
        if (c != '/' && c != '\0') continue;
        *s = '\0';
        if (mkdir(p, 0777) != 0 && errno != EEXIST)
            ok = err_system(e, errno, "%s: cannot be made", p);
        *s = c;
        if (c == '\0') break;
    }
    if (ok && stat(path, &st) != 0)
        ok = err_system(e, errno, "%s", path);
    else if (ok && !S_ISDIR(st.st_mode))
        ok = err_set(e, "%s: is there but is not a directory", path);
    free(p);
    return ok;
}

/* A file without a name; where the file system has no such, a directory for a moment. */
bool file_can_write(const char *dir, struct err *e)
{
    const int fd = open(dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
    bool ok = fd >= 0;
    char *path;

    if (ok) close(fd);
    if (ok || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return ok || err_system(e, errno, "%s: nothing can be written there", dir);
    path = mem_printf(e, "%s/.mha2mla-XXXXXX", dir);
    if (!path) return false;
    ok = mkdtemp(path) || err_system(e, errno, "%s: nothing can be written there", dir);
    if (ok) rmdir(path);
    free(path);
    return ok;
}

bool file_can_mkdirs(const char *path, struct err *e)
{
    char *p = mem_strdup(path, e), *up;
    struct stat st;
    bool made = false; /* p is not the whole path: something is made in it */

    while (p && stat(p, &st) != 0) { /* "." and "/" are there */
        if (errno != ENOENT && errno != ENOTDIR)
            err_system(e, errno, "%s", p);
        else if (lstat(p, &st) == 0)
            err_set(e, "%s: is a link that leads nowhere", p);
        else if ((up = file_dir(p, e))) {
            free(p);
            p = up;
            made = true;
            continue;
        }
        free(p);
        p = NULL;
    }
    if (!p) return false;
    made = (S_ISDIR(st.st_mode) || err_set(e, "%s: is there but is not a directory", p)) &&
           (!made || file_can_write(p, e));
    free(p);
    return made;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    remove(path);
    return 0;
}

void file_remove_tree(const char *path)
{
    nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Interprets the result of a call that looked for a file. */
static bool look(bool found, const char *path, bool *there, struct err *e)
{
    *there = found;
    return found || errno == ENOENT || errno == ENOTDIR || err_system(e, errno, "%s", path);
}

bool file_there(const char *path, bool *there, struct err *e)
{
    return look(access(path, F_OK) == 0, path, there, e);
}

bool file_named(const char *path, bool *there, struct err *e)
{
    struct stat st;

    return look(lstat(path, &st) == 0, path, there, e);
}

char *file_join(const char *dir, const char *name, struct err *e)
{
    if (name[0] == '/' || dir[0] == '\0') return mem_strdup(name, e);
    return mem_printf(e, "%s/%s", dir, name);
}

char *file_dir(const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/');

    if (!slash) return mem_strdup(".", e);
    if (slash == path) return mem_strdup("/", e);
    return mem_strndup(path, (size_t)(slash - path), e);
}

bool file_copy(const char *from, const char *to, struct err *e)
{
    char *data = NULL;
    size_t len;
    bool ok = file_read(from, (size_t)1 << 30, &data, &len, e) && file_write(to, data, len, e);

    free(data);
    return ok;
}
