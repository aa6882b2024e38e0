/* malloc.c - a preloaded library that counts a program's allocations from the start of main, by
 * whichever library, and makes the n-th return NULL. Environment:
 *     FAULT_MALLOC=N       which, from 1; 0: none
 *     FAULT_MALLOC_OUT=F   at the end of main writes 8-byte numbers to F: the count, then for each
 *                          allocation a number that identifies its call stack
 *     FAULT_MALLOC_WHO=F   when it fails, writes the file name of the calling library to F
 * Child processes are left alone. glibc only: its malloc has internal names. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);

enum { STACK = 48, MOST = 1 << 18 };

static uint64_t numbers[MOST + 1]; /* [0]: the count */
static uint64_t fail_at;
static const char *out, *who;
static bool armed;
static __thread bool inside; /* our own allocations do not count */

static void put_file(const char *path, const void *data, size_t n)
{
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;

    if (fd >= 0 && write(fd, data, n) != (ssize_t)n) abort();
    if (fd >= 0) close(fd);
}

/* Computed from offsets within libraries, so that another process gets the same. */
static uint64_t stack_number(void *const *frames, int n)
{
    uint64_t h = 14695981039346656037u; /* FNV */
    Dl_info lib;

    for (int i = 1; i < n; i++) {
        uintptr_t base = dladdr(frames[i], &lib) ? (uintptr_t)lib.dli_fbase : 0;
        h = (h ^ ((uintptr_t)frames[i] - base)) * 1099511628211u;
    }
    return h;
}

/* The file of the calling library, and if that is libc (strdup, fopen), also that of its caller:
 * "LIBC for LIBRARY". */
static void put_who(void *const *frames, int n)
{
    char text[1024];
    Dl_info here, lib, asked = {0};

    dladdr((void *)&numbers, &here);
    for (int i = 0; i < n; i++) {
        if (!dladdr(frames[i], &lib) || lib.dli_fbase == here.dli_fbase) continue;
        if (!asked.dli_fname) asked = lib;
        if (strstr(lib.dli_fname, "/libc.so")) continue;
        int len = lib.dli_fbase == asked.dli_fbase
                      ? snprintf(text, sizeof text, "%s", lib.dli_fname)
                      : snprintf(text, sizeof text, "%s for %s", asked.dli_fname, lib.dli_fname);
        put_file(who, text, (size_t)len);
        return;
    }
}

/* Whether the current allocation fails. */
static bool fails(void)
{
    void *frames[STACK];
    uint64_t n;
    bool fail;

    if (!armed || inside) return false;
    inside = true;
    n = __atomic_add_fetch(&numbers[0], 1, __ATOMIC_RELAXED);
    fail = n == fail_at;
    if (fail || (out && n <= MOST)) {
        int depth = backtrace(frames, STACK);
        if (n <= MOST) numbers[n] = stack_number(frames, depth);
        if (fail) put_who(frames, depth);
    }
    inside = false;
    if (fail) errno = ENOMEM;
    return fail;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}

/* What becomes smaller stays where it is, which cannot fail. */
void *realloc(void *p, size_t size)
{
    const bool shrinks = p && size <= malloc_usable_size(p);

    return !shrinks && fails() ? NULL : __libc_realloc(p, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : __libc_memalign(align, size);
}

void *memalign(size_t align, size_t size)
{
    return fails() ? NULL : __libc_memalign(align, size);
}

int posix_memalign(void **p, size_t align, size_t size)
{
    if (fails()) return ENOMEM;
    *p = __libc_memalign(align, size);
    return *p ? 0 : ENOMEM;
}

typedef int main_function(int argc, char **argv, char **env);
static main_function *program;

static void end_count(void)
{
    if (armed)
        put_file(out, numbers, (1 + (numbers[0] < MOST ? numbers[0] : MOST)) * sizeof *numbers);
    armed = false;
}

static int counted_main(int argc, char **argv, char **env)
{
    const char *n = getenv("FAULT_MALLOC");
    void *frame;
    int rc;

    out = getenv("FAULT_MALLOC_OUT");
    who = getenv("FAULT_MALLOC_WHO");
    fail_at = n ? strtoull(n, NULL, 10) : 0;
    unsetenv("LD_PRELOAD");
    backtrace(&frame, 1); /* loads what it needs */
    armed = true;
    rc = program(argc, argv, env);
    end_count();
    return rc;
}

/* main may also end by this. */
_Noreturn void _exit(int status)
{
    end_count();
    syscall(SYS_exit_group, status);
    __builtin_unreachable();
}

/* Starts main; ours is inserted here. */
int __libc_start_main(main_function *main, int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    int (*start)(main_function *, int, char **, void (*)(void), void (*)(void), void (*)(void),
                 void *);

    *(void **)&start = dlsym(RTLD_NEXT, "__libc_start_main");
    program = main;
    return start(counted_main, argc, argv, init, fini, rtld_fini, stack_end);
}
