/* inject.h - runs a program and makes one system call fail: the n-th of a kind on the files below a
 * directory, whoever makes it (including libc and libhdf5, which a preloaded library would
 * not see). A seccomp filter passes each such call to us, and we let it continue, answer it with an
 * error, or kill the program in it. Needs Linux 5.9, no privileges. Include after cmocka's headers.
 * Usage:
 *     struct fault f = {.kind = fault_kind("write"), .n = 3, .error = ENOSPC};
 *     int status = fault_run(&f, dir, argv);     // the exit status as reported by a shell
 * n = 0 only counts: f.calls is the number of calls. */
#ifndef TESTS_FAULT_INJECT_H
#define TESTS_FAULT_INJECT_H

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FAULT_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FAULT_ARCH AUDIT_ARCH_AARCH64
#endif

/* A system call, and which of its arguments name the file: a path, a descriptor (with a path: of
 * the directory to which it is relative), or both; -1: none. */
struct fault_call {
    int nr, path, fd;
    const char *name;
};

enum { FAULT_CALLS = 8, FAULT_NAME = 500, FAULT_PATH = 1024 };

struct fault_kind {
    const char *name;
    int errors[2]; /* the errors it fails with, in turn */
    struct fault_call calls[FAULT_CALLS];
};

#define FAULT_CALL(name, path, fd)                                                                 \
    {                                                                                              \
        SYS_##name, path, fd, #name                                                                \
    }

static const struct fault_kind fault_kinds[] = {
    {"write",
     {ENOSPC, EIO},
     {FAULT_CALL(write, -1, 0), FAULT_CALL(pwrite64, -1, 0), FAULT_CALL(writev, -1, 0),
      FAULT_CALL(pwritev, -1, 0)}},
    {"sync", {EIO, ENOSPC}, {FAULT_CALL(fsync, -1, 0), FAULT_CALL(fdatasync, -1, 0)}},
    {"rename",
     {EACCES, EIO},
     {
#ifdef SYS_rename
         FAULT_CALL(rename, 1, -1),
#endif
         FAULT_CALL(renameat, 3, 2), FAULT_CALL(renameat2, 3, 2)}},
    {"open",
     {EMFILE, ENFILE},
     {
#ifdef SYS_open
         FAULT_CALL(open, 0, -1), FAULT_CALL(creat, 0, -1),
#endif
         FAULT_CALL(openat, 1, 0)}},
    {"mmap", {ENOMEM, ENFILE}, {FAULT_CALL(mmap, -1, 4)}},
    {"close", {EIO, ENOSPC}, {FAULT_CALL(close, -1, 0)}},
    {"read",
     {EIO, EIO},
     {FAULT_CALL(read, -1, 0), FAULT_CALL(pread64, -1, 0), FAULT_CALL(readv, -1, 0),
      FAULT_CALL(preadv, -1, 0)}},
    {"stat",
     {EIO, ENOMEM},
     {
#ifdef SYS_access
         FAULT_CALL(access, 0, -1), FAULT_CALL(stat, 0, -1), FAULT_CALL(lstat, 0, -1),
#endif
         FAULT_CALL(fstat, -1, 0), FAULT_CALL(newfstatat, 1, 0), FAULT_CALL(faccessat, 1, 0),
         FAULT_CALL(faccessat2, 1, 0), FAULT_CALL(statx, 1, 0)}},
    {"mkdir",
     {ENOSPC, EACCES},
     {
#ifdef SYS_mkdir
         FAULT_CALL(mkdir, 0, -1),
#endif
         FAULT_CALL(mkdirat, 1, 0)}},
    {"unlink",
     {EACCES, EIO},
     {
#ifdef SYS_unlink
         FAULT_CALL(unlink, 0, -1), FAULT_CALL(rmdir, 0, -1),
#endif
         FAULT_CALL(unlinkat, 1, 0)}},
    {"truncate", {ENOSPC, EIO}, {FAULT_CALL(ftruncate, -1, 0), FAULT_CALL(fallocate, -1, 0)}},
    {"list", {EIO, ENOMEM}, {FAULT_CALL(getdents64, -1, 0)}},
    {"lock", {ENOLCK, EINTR}, {FAULT_CALL(flock, -1, 0)}},
    {"seek", {EIO, EIO}, {FAULT_CALL(lseek, -1, 0)}},
    {"dup", {EMFILE, EMFILE}, {FAULT_CALL(dup, -1, 0), FAULT_CALL(fcntl, -1, 0)}},
};
enum { FAULT_KINDS = sizeof fault_kinds / sizeof *fault_kinds };

static inline const struct fault_kind *fault_kind(const char *name)
{
    for (int i = 0; i < FAULT_KINDS; i++)
        if (strcmp(fault_kinds[i].name, name) == 0) return &fault_kinds[i];
    abort();
}

struct fault {
    const struct fault_kind *kind;
    long n;           /* which call fails, from 1; 0: none */
    const char *only; /* only calls whose path contains this; NULL: all */
    int error;        /* the error; 0: the program is killed in the call */
    /* results */
    long calls;
    char path[FAULT_PATH], call[32]; /* of the n-th */
};

/* Adds "if the call is nr: do this". */
static inline unsigned short fault_rule(struct sock_filter *code, unsigned short n, int nr,
                                        unsigned what)
{
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what);
    return n;
}

/* Run by the child before the program: installs the filter and sends its descriptor to
 * `socket`. Only calls that the filter lets pass may follow. fsync is skipped: nothing here
 * outlives the test. */
static inline void fault_filter(const struct fault_kind *kind, int socket)
{
    const struct sock_filter arch =
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    const struct sock_filter nr =
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    struct sock_filter code[2 * FAULT_CALLS + 10];
    unsigned short n = 0;
    int listener;
    char data = 0, room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec io = {&data, 1};
    struct msghdr msg = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};

    code[n++] = arch;
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FAULT_ARCH, 1, 0);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    code[n++] = nr;
    for (int i = 0; i < FAULT_CALLS && kind->calls[i].name; i++)
        n = fault_rule(code, n, kind->calls[i].nr, SECCOMP_RET_USER_NOTIF);
    n = fault_rule(code, n, SYS_fsync, SECCOMP_RET_ERRNO);
    n = fault_rule(code, n, SYS_fdatasync, SECCOMP_RET_ERRNO);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) _exit(126);
    listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                            &(struct sock_fprog){n, code});
    if (listener < 0) _exit(126);
    CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
    CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
    CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &listener, sizeof listener);
    if (sendmsg(socket, &msg, 0) != 1) _exit(126); /* exec closes the listener */
}

static inline int fault_listener(int socket)
{
    char data, room[CMSG_SPACE(sizeof(int))];
    struct iovec io = {&data, 1};
    struct msghdr msg = {
        .msg_iov = &io, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    int fd;

    if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg)) return -1;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof fd);
    return fd;
}

/* A string in another process, as far as it can be read. */
static inline void fault_string(pid_t pid, unsigned long long at, char text[FAULT_NAME])
{
    size_t n = 0;

    while (n < FAULT_NAME - 1) { /* a page at a time: the next may not exist */
        size_t step = 4096 - (size_t)((at + n) & 4095);
        if (step > FAULT_NAME - 1 - n) step = FAULT_NAME - 1 - n;
        struct iovec to = {text + n, step}, from = {(void *)(uintptr_t)(at + n), step};
        if (process_vm_readv(pid, &to, 1, &from, 1, 0) != (ssize_t)step) break;
        if (memchr(text + n, '\0', step)) return;
        n += step;
    }
    text[n] = '\0';
}

/* The file that a call is about, absolute; "" if none. */
static inline void fault_path(const struct seccomp_notif *req, const struct fault_call *c,
                              char path[FAULT_PATH])
{
    char name[FAULT_NAME] = "", dir[FAULT_NAME], link[64];
    int fd = c->fd >= 0 ? (int)req->data.args[c->fd] : AT_FDCWD;
    ssize_t n;

    if (c->path >= 0) fault_string((pid_t)req->pid, req->data.args[c->path], name);
    if (fd == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/%u/cwd", req->pid);
    else
        snprintf(link, sizeof link, "/proc/%u/fd/%d", req->pid, fd);
    n = readlink(link, dir, sizeof dir - 1);
    dir[n > 0 ? n : 0] = '\0';
    if (name[0] == '/')
        snprintf(path, FAULT_PATH, "%s", name);
    else
        snprintf(path, FAULT_PATH, "%s%s%s", dir, name[0] ? "/" : "", name);
}

/* A close that fails has let go of its file all the same, locks included:
 * /dev/null takes its place. */
static inline void fault_let_go(int listener, const struct seccomp_notif *req)
{
    const int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct seccomp_notif_addfd put = {.id = req->id,
                                      .flags = SECCOMP_ADDFD_FLAG_SETFD,
                                      .srcfd = (uint32_t)null,
                                      .newfd = (uint32_t)req->data.args[0],
                                      .newfd_flags = O_CLOEXEC};

    assert_true(null >= 0);
    assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_ADDFD, &put), req->data.args[0]);
    close(null);
}

/* Answers one call; true if the program was killed in it. */
static inline bool fault_answer(struct fault *f, int listener, pid_t program, const char *dir)
{
    struct seccomp_notif req = {0};
    struct seccomp_notif_resp resp = {0};
    const struct fault_call *c = f->kind->calls;
    char path[FAULT_PATH], task[64];

    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &req) != 0) return false; /* it is gone */
    resp.id = req.id;
    resp.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    while (c->nr != req.data.nr)
        c++;
    fault_path(&req, c, path);
    snprintf(task, sizeof task, "/proc/%d/task/%u", program, req.pid); /* not of a child */
    if (strncmp(path, dir, strlen(dir)) == 0 && path[strlen(dir)] == '/' &&
        (!f->only || strstr(path, f->only)) && access(task, F_OK) == 0 && ++f->calls == f->n) {
        snprintf(f->path, sizeof f->path, "%s", path + strlen(dir) + 1);
        snprintf(f->call, sizeof f->call, "%s", c->name);
        if (f->error == 0) {
            kill(program, SIGKILL);
            return true;
        }
        resp.flags = 0;
        resp.error = -f->error;
        if (c->nr == SYS_close) fault_let_go(listener, &req);
    }
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &resp);
    return false;
}

enum { FAULT_OUT = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC };

/* Runs argv in `dir`, with its output in dir/out and its errors in the file `err`. */
static inline int fault_run(struct fault *f, const char *dir, const char *err, char *const argv[])
{
    int pair[2], listener, status, pidfd;
    pid_t pid;

    f->calls = 0;
    f->path[0] = f->call[0] = '\0';
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (chdir(dir) != 0 || dup2(open("out", FAULT_OUT, 0666), 1) != 1 ||
            dup2(open(err, FAULT_OUT, 0666), 2) != 2)
            _exit(126);
        fault_filter(f->kind, pair[1]);
        execv(argv[0], argv);
        _exit(127);
    }
    close(pair[1]);
    listener = fault_listener(pair[0]);
    close(pair[0]);
    assert_true(listener >= 0); /* otherwise: no seccomp here */
    pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    assert_true(pidfd >= 0);
    for (;;) {
        struct pollfd p[2] = {{listener, POLLIN, 0}, {pidfd, POLLIN, 0}};
        poll(p, 2, -1);
        if (p[0].revents & POLLIN) {
            if (fault_answer(f, listener, pid, dir)) break;
        } else if (p[1].revents)
            break;
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(listener);
    close(pidfd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
