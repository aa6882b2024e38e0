/* test_fuzz.c - every parser of untrusted input on its corpus, then on FUZZ_RUNS (10,000)
 * mutations of it, drawn from a fixed seed (FUZZ_SEED): a quick check without clang's libFuzzer,
 * which `make fuzz` uses. Each target runs in a child process, so that a crash is one failure, and
 * its input is kept. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tests/fuzz/target.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SEEDS_MAX = 512,
    SECONDS = 10 /* for one input, allowing for sanitizers and a busy machine */
};

struct input {
    char *data;
    size_t n;
};

struct corpus {
    struct input v[SEEDS_MAX];
    size_t n;
};

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void load(struct corpus *c, const char *name)
{
    char path[600];
    struct dirent **entry;
    struct err e = {0};
    int n;

    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", name);
    n = scandir(path, &entry, NULL, by_name);
    for (int i = 0; i < n; i++) {
        struct input *in = &c->v[c->n];
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%s", name, entry[i]->d_name);
        if (entry[i]->d_name[0] != '.') {
            assert_true(c->n < SEEDS_MAX);
            if (!file_read(path, (size_t)1 << 24, &in->data, &in->n, &e)) fail_msg("%s", e.msg);
            c->n++;
        }
        free(entry[i]);
    }
    if (n >= 0) free(entry);
    if (c->n == 0) fail_msg("%s: no corpus", name);
}

static void unload(struct corpus *c)
{
    for (size_t i = 0; i < c->n; i++)
        free(c->v[i].data);
}

/* ---- mutations ---- */

/* An input being mutated; it has room for cap bytes. */
struct draft {
    uint8_t *data;
    size_t n, cap;
};

static size_t pick(struct rng *r, size_t n)
{
    return (size_t)rng_below(r, n ? n : 1);
}

static void insert(struct draft *d, size_t at, const void *bytes, size_t n)
{
    if (n > d->cap - d->n) n = d->cap - d->n;
    memmove(d->data + at + n, d->data + at, d->n - at);
    memmove(d->data + at, bytes, n);
    d->n += n;
}

static void flip(struct draft *d, struct rng *r, const struct input *other)
{
    (void)other;
    if (d->n) d->data[pick(r, d->n)] ^= (uint8_t)(1 << pick(r, 8));
}

static void set_byte(struct draft *d, struct rng *r, const struct input *other)
{
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xfe, 0xff, '"', '\\', '{', '[', '9', '-'};

    (void)other;
    if (d->n)
        d->data[pick(r, d->n)] = pick(r, 2) ? edges[pick(r, sizeof edges)] : (uint8_t)pick(r, 256);
}

/* A 2- or 4-byte number at either end of its range. */
static void set_number(struct draft *d, struct rng *r, const struct input *other)
{
    size_t width = pick(r, 2) ? 4 : 2, at;

    (void)other;
    if (d->n < width) return;
    at = pick(r, d->n - width + 1);
    memset(d->data + at, pick(r, 2) ? 0xff : 0, width);
    d->data[at + pick(r, width)] = (uint8_t)pick(r, 256);
}

static void cut_out(struct draft *d, struct rng *r, const struct input *other)
{
    size_t at = pick(r, d->n), n = 1 + pick(r, pick(r, 4) ? 8 : d->n);

    (void)other;
    if (n > d->n - at) n = d->n - at;
    memmove(d->data + at, d->data + at + n, d->n - at - n);
    d->n -= n;
}

static void cut_off(struct draft *d, struct rng *r, const struct input *other)
{
    (void)other;
    d->n = pick(r, d->n);
}

static void repeat(struct draft *d, struct rng *r, const struct input *other)
{
    uint8_t copy[256];
    size_t at = pick(r, d->n), n = 1 + pick(r, sizeof copy);

    (void)other;
    if (n > d->n - at) n = d->n - at;
    memcpy(copy, d->data + at, n);
    for (size_t times = 1 + pick(r, 8); times > 0; times--)
        insert(d, at, copy, n);
}

static void splice(struct draft *d, struct rng *r, const struct input *other)
{
    size_t from = pick(r, other->n), n = 1 + pick(r, other->n);

    if (n > other->n - from) n = other->n - from;
    insert(d, pick(r, d->n + 1), other->data + from, n);
}

static void insert_word(struct draft *d, struct rng *r, const struct input *other)
{
    static const char *const words[] = {"null",
                                        "true",
                                        "\"\"",
                                        "{}",
                                        "[]",
                                        ",",
                                        "\\u0000",
                                        "\\ud83d",
                                        "1e309",
                                        "-1",
                                        "0.1",
                                        "<image>",
                                        "9007199254740993",
                                        "18446744073709551616",
                                        "\xff",
                                        "\xf0\x9f\x98\x80",
                                        "</s>",
                                        " ",
                                        "\n"};
    const char *w = words[pick(r, sizeof words / sizeof *words)];

    (void)other;
    insert(d, pick(r, d->n + 1), w, strlen(w));
}

static void (*const mutations[])(struct draft *, struct rng *, const struct input *) = {
    flip, flip, set_byte, set_byte, set_number, cut_out, cut_off, repeat, splice, insert_word};

/* The k-th mutation of a target is determined by k alone. */
static void mutate(struct draft *d, const struct corpus *c, uint64_t seed, uint64_t k)
{
    struct rng r;
    const struct input *from;

    rng_seed(&r, seed, k);
    from = &c->v[pick(&r, c->n)];
    d->n = from->n < d->cap ? from->n : d->cap;
    memcpy(d->data, from->data, d->n);
    for (size_t times = 1 + pick(&r, 6); times > 0; times--)
        mutations[pick(&r, sizeof mutations / sizeof *mutations)](d, &r, &c->v[pick(&r, c->n)]);
}

/* ---- a target in a child ---- */

static uint64_t setting(const char *name, uint64_t usual)
{
    const char *v = getenv(name);

    return v && *v ? strtoull(v, NULL, 10) : usual;
}

/* The input of run k: the corpus comes first. */
static struct input input_of(struct draft *d, const struct corpus *c, uint64_t seed, uint64_t k)
{
    if (k < c->n) return c->v[k];
    mutate(d, c, seed, k);
    return (struct input){(char *)d->data, d->n};
}

static _Noreturn void work(const struct fuzz_target *t, struct draft *d, const struct corpus *c,
                           uint64_t runs, volatile uint64_t *at)
{
    static const int caught[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}; /* by cmocka */
    uint64_t seed = setting("FUZZ_SEED", 1);

    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
        signal(caught[i], SIG_DFL);
    for (; *at < runs; (*at)++) {
        struct input in = input_of(d, c, seed, *at);
        alarm(SECONDS);
        t->run((const uint8_t *)in.data, in.n);
    }
    exit(0); /* with the exit handlers, so that leaks are reported and the directory is removed */
}

/* Saves the input that killed the child, for tests/fuzz/corpus. */
static void blame(const struct fuzz_target *t, const struct input *in, uint64_t k, int status)
{
    char path[300];
    struct err e = {0};

    snprintf(path, sizeof path, "%s/fuzz-%s-%llu", getenv("BUILD") ? getenv("BUILD") : "build",
             t->name, (unsigned long long)k);
    if (!file_write(path, in->data, in->n, &e)) print_message("%s\n", e.msg);
    fail_msg("%s: run %llu: %s %d; the input is %s", t->name, (unsigned long long)k,
             WIFSIGNALED(status) ? "signal" : "status",
             WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), path);
}

static void test_target(void **state)
{
    const struct fuzz_target *t = *state;
    struct corpus c = {.n = 0};
    struct draft d = {.data = malloc(t->max), .cap = t->max};
    uint64_t *at =
        mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t runs;
    int status;
    pid_t pid;

    assert_true(d.data && at != MAP_FAILED);
    load(&c, t->name);
    runs = c.n + setting("FUZZ_RUNS", 10000);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) work(t, &d, &c, runs, at);
    assert_true(waitpid(pid, &status, 0) == pid);
    if (status != 0) {
        struct input in = input_of(&d, &c, setting("FUZZ_SEED", 1), *at);
        blame(t, &in, *at, status);
    }
    unload(&c);
    free(d.data);
    munmap(at, sizeof *at);
}

int main(void)
{
    enum { MAX = 64 };
    struct CMUnitTest tests[MAX];
    size_t n = 0;

    for (const struct fuzz_target *t = fuzz_targets; t->name; t++) {
        assert_true(n < MAX);
        tests[n++] = (struct CMUnitTest){
            .name = t->name, .test_func = test_target, .initial_state = (void *)(uintptr_t)t};
    }
    return _cmocka_run_group_tests("fuzz", tests, n, NULL, NULL);
}
