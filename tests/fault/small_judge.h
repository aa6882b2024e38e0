/* small_judge.h - whether a disturbed run behaved correctly: its last words, its files, and the
 * result after resuming. Include after fault/small_run.h. */
#ifndef TESTS_FAULT_SMALL_JUDGE_H
#define TESTS_FAULT_SMALL_JUDGE_H

#include "train/record/checkpoint.h"

#include <hdf5.h>

/* A fault that the run may survive because nothing is lost by it: it must then end as if
 * undisturbed. */
struct small_harmless {
    const char *kind, *path; /* path: a part of it; NULL: any */
    const char *why;
};
static const struct small_harmless small_harmless[] = {
    {"close", NULL, "of a file that was read, or whose content has been flushed to the disk"},
    {"stat", NULL, "a stream asks for the size of a block, and does without; so does nftw"},
    {"open", "pics/", "a picture that cannot be read is tried once more"},
    {"read", "pics/", "the same"},
    {"read", ".tmp", "fseek reads ahead, and what it did not get is read again"},
    {"read", "metrics.jsonl", "the same"},
    {"seek", ".tmp", "ftell and fseek of a stream: it is asked for again"},
    {"seek", "metrics.jsonl", "the same"},
};

static inline bool small_may_survive(const struct fault *f)
{
    for (size_t i = 0; i < sizeof small_harmless / sizeof *small_harmless; i++) {
        const struct small_harmless *h = &small_harmless[i];
        if (strcmp(h->kind, f->kind->name) == 0 && (!h->path || strstr(f->path, h->path)))
            return true;
    }
    return false;
}

/* Whether a file under its final name is complete: equal to the undisturbed run's, or, if it
 * contains times, one that opens. */
static inline bool small_is_whole(const struct small_run *s, const struct small_file *f)
{
    const struct small_file *want = bsearch(f, s->done.files, s->done.n, sizeof *f, small_by_name);
    const char *path = small_path(s, f->name);
    struct err e = {0};
    hid_t h;

    if (strstr(f->name, "/checkpoints/step-"))
        return !checkpoint_load(path, NULL, 0, NULL, &e) && strstr(e.msg, "is unknown to this run");
    if (small_ends(f->name, ".h5") && !f->sum[0]) {
        h = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
        if (h > 0) H5Fclose(h);
        return h > 0;
    }
    if (small_ends(f->name, "metrics.jsonl") || small_ends(f->name, "outputs.json") ||
        small_ends(f->name, "left_out.txt"))
        return true; /* grows; rewritten as more is known */
    return want && strcmp(want->sum, f->sum) == 0;
}

static inline bool small_is_tmp(const char *name)
{
    return strstr(name, ".tmp") || strstr(name, "/scratch-");
}

/* Expects exactly one line of error, containing the reason. FAULT_SHOW in the
 * environment shows it. */
static inline void small_must_say(const struct small_run *s, const char *what, const char *reason)
{
    static const char begin[] = "mha2mla-train: error: ";
    char *text = slurp(s->err, NULL);

    if (strncmp(text, begin, strlen(begin)) != 0 || strchr(text, '\n') != text + strlen(text) - 1)
        fail_msg("%s: no line of error, but: %s", what, text);
    if (!strstr(text, reason)) fail_msg("%s: says not why: %s", what, text);
    if (getenv("FAULT_SHOW")) fprintf(stderr, "%s: %s", what, text);
    free(text);
}

/* Resumes the run, which must end as if undisturbed; skipped for a state already checked. */
static inline void small_must_go_on(struct small_run *s, struct small_tree *now, const char *what)
{
    struct fault none = {.kind = fault_kind("rename"), .error = EIO};
    struct err e = {0};
    struct small_tree end;
    const char *differs;

    for (size_t i = 0; i < s->n_checked; i++)
        if (small_same(&s->checked[i], now)) {
            free(now->files);
            return;
        }
    must(mem_grow(&s->checked, &s->cap_checked, s->n_checked + 1, sizeof *now, &e), &e);
    s->checked[s->n_checked++] = *now;
    if (small_start(s, &none, true) != 0)
        fail_msg("%s: cannot be gone on with: %s", what, slurp(s->err, NULL));
    end = small_tree(s);
    differs = small_differs(&end, &s->done);
    if (differs) fail_msg("%s: gone on with, %s is other than undisturbed", what, differs);
    free(end.files);
}

/* What was done to a run, and its allowed results. */
struct small_outcome {
    const char *what;
    const char *reason; /* in the message; NULL: no message needed, any status but 0 */
    int status;         /* actual */
    int want;           /* expected, if it does not survive */
    bool may_survive;   /* with status 0, and as if undisturbed */
    bool keeps_tmp;     /* half-written files under temporary names may remain */
};

static inline void small_judge(struct small_run *s, const struct small_outcome *o)
{
    struct small_tree now = small_tree(s);

    if (o->status == 0) {
        const char *differs = small_differs(&now, &s->done);
        if (differs) fail_msg("%s: survived, but %s is other than undisturbed", o->what, differs);
        if (!o->may_survive) fail_msg("%s: nothing is said", o->what);
        free(now.files);
        return;
    }
    if (o->want && o->status != o->want)
        fail_msg("%s: status %d\n%s", o->what, o->status, slurp(s->err, NULL));
    if (o->reason) small_must_say(s, o->what, o->reason);
    for (size_t i = 0; i < now.n; i++) {
        const char *name = now.files[i].name;
        bool tmp = small_is_tmp(name);
        if (tmp && !o->keeps_tmp && s->kind != SMALL_HALF_WAY)
            fail_msg("%s: leaves %s", o->what, name);
        if (!tmp && !small_is_whole(s, &now.files[i]))
            fail_msg("%s: %s is not whole", o->what, name);
    }
    small_must_go_on(s, &now, o->what);
}

/* Runs with that fault. */
static inline void small_check(struct small_run *s, struct fault *f)
{
    char what[1400];
    struct small_outcome o = {.what = what, .want = f->error ? 1 : 128 + SIGKILL};

    small_reset(s);
    o.status = small_start(s, f, true);
    snprintf(what, sizeof what, "%s: %s %ld (%s of %s) %s", small_names[s->kind], f->kind->name,
             f->n, f->call, f->path, f->error ? strerror(f->error) : "killed");
    if (f->calls < f->n) fail_msg("%s: only %ld calls", what, f->calls);
    o.may_survive = small_may_survive(f);
    o.keeps_tmp = !f->error || strcmp(f->kind->name, "unlink") == 0;
    o.reason = f->error ? strerror(f->error) : NULL;
    small_judge(s, &o);
}

/* ---- failing allocations ---- */

/* Runs with tests/fault/malloc.c; n = 0: none fails. */
static inline int small_start_malloc(struct small_run *s, long n)
{
    struct fault none = {.kind = fault_kind("rename"), .error = EIO};
    char number[32], file[900];
    int status;

    snprintf(number, sizeof number, "%ld", n);
    setenv("FAULT_MALLOC", number, 1);
    snprintf(file, sizeof file, "%s.who", s->dir);
    unlink(file);
    setenv("FAULT_MALLOC_WHO", file, 1);
    setenv("LD_PRELOAD", s->preload, 1);
    setenv("GOMP_SPINCOUNT", "2000", 1); /* else it starts itself anew, without the library */
    status = small_start(s, &none, true);
    unsetenv("LD_PRELOAD");
    return status;
}

/* Libraries that do not cope with a failing allocation: what they do then, which we cannot prevent.
 * The files must nevertheless be complete, and the run resumable. */
struct small_helpless {
    const char *library, *does;
};
static const struct small_helpless small_helpless[] = {
    {"libhdf5", "crashes, in its first call above all; prints and ends with 255 in its last"},
    {"libcrypto", "crashes where its first call fails"},
    {"libopenblas", "crashes where it has no room for a copy of its operands"},
    {"libstdc++", "throws through functions of oneDNN that promise not to, which aborts"},
    {"ld-linux", "pthread_create says that a resource is temporarily unavailable"},
    {"libgomp", "prints 'Out of memory allocating N bytes' and ends with 1"},
};

static inline bool small_is_helpless(const char *who)
{
    for (size_t i = 0; i < sizeof small_helpless / sizeof *small_helpless; i++)
        if (strstr(who, small_helpless[i].library)) return true;
    return false;
}

static inline void small_check_malloc(struct small_run *s, long n)
{
    char what[1400], file[900], *who;
    struct small_outcome o = {.what = what};

    small_reset(s);
    o.status = small_start_malloc(s, n);
    snprintf(file, sizeof file, "%s.who", s->dir);
    if (!is_there(file)) return; /* the number varies a little between runs */
    who = slurp(file, NULL);
    snprintf(what, sizeof what, "%s: allocation %ld, by %s", small_names[s->kind], n, who);
    /* A library may do without, like the compiler of regular expressions. */
    o.may_survive = strncmp(who, s->program, strlen(s->program)) != 0;
    o.keeps_tmp = small_is_helpless(who);
    o.want = small_is_helpless(who) ? 0 : 1;
    o.reason = small_is_helpless(who) ? NULL : "memory";
    free(who);
    small_judge(s, &o);
}

#endif
