/* bench.c - the table of `make bench`: our side and PyTorch's of the same work, alternating.
 *
 *     build/bench/bench [--short] --work DIR --out FILE [--python PYTHON]
 *                       [--only WORD,...]
 *
 * Makes the files that it needs in DIR (rows.h) and writes FILE. Without PYTHON, or if that has no
 * torch, only our side runs. --short is tiny and says nothing about time: it checks that every
 * bench runs and that both sides' numbers agree. --only: rows whose title or work contains a
 * WORD. */
#include "autograd/gemm.h"
#include "autograd/onednn.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "bench/lib/child.h"
#include "bench/lib/files.h"
#include "bench/lib/measure.h"
#include "bench/lib/report.h"
#include "bench/rows.h"

#include <math.h>
#include <omp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GEMM_SIDE = 2048, GEMM_REPEATS = 10 };
static const double REPEAT_SECONDS = 0.4; /* a repeat of short work takes about this long */

struct bench {
    struct bench_files files;
    const char *out, *python, *only; /* python "": none */
    struct child torch;              /* in the short form one process for all rows */
};

static int threads(const struct bench *b)
{
    return b->files.brief ? 1 : 2; /* the short form runs next to other tests */
}

static int gemm_side(const struct bench *b)
{
    return b->files.brief ? 128 : GEMM_SIDE;
}

/* A row's work, or the other side's, with the settings common to all rows. */
static char *expand_work(const struct bench *b, const struct row *r, const char *text,
                         struct err *e)
{
    char *more =
        mem_printf(e, "%s dtype=%s threads=%d", text, precisions[r->dtype].name, threads(b));
    char *work = more ? files_expand(&b->files, more, e) : NULL;

    free(more);
    return work;
}

static bool start(const struct bench *b, bool torch, struct child *c, struct err *e)
{
    char *side = mem_printf(e, "%s/bench/side", b->files.programs);
    const char *const ours[] = {side, NULL}, *const theirs[] = {b->python, "bench/torch_side.py",
                                                                NULL};
    bool ok = side && child_start(c, torch ? "torch" : "side", torch ? theirs : ours, e);

    free(side);
    return ok;
}

/* One repeat of a side: a rate, or seconds. */
static bool repeat(struct child *c, const struct row *r, int n, double *value, struct err *e)
{
    double seconds, units;

    if (!child_step(c, n, &seconds, &units, e)) return false;
    *value = r->seconds ? seconds / n : units / seconds;
    return true;
}

/* Determines how many runs make a repeat. */
static bool calibrate(const struct bench *b, struct child *c, const struct row *r, int *n,
                      struct err *e)
{
    double seconds, units;

    *n = 1;
    if (r->once || b->files.brief) return true;
    if (!child_step(c, 1, &seconds, &units, e) || !child_step(c, 1, &seconds, &units, e))
        return false;
    if (seconds < REPEAT_SECONDS) *n = (int)ceil(REPEAT_SECONDS / (seconds + 1e-6));
    return true;
}

/* The best of all measured for this row: other machines on the same host take their
 * part, for minutes. */
static bool measure_memory(struct result *x, struct err *e)
{
    const double rate = memory_rate(2, e);

    x->memory = rate > x->memory ? rate : x->memory;
    return rate > 0;
}

/* The machine's own rate for a dtype; 0 if the CPU has no instructions for it. */
static double product_rate(const struct bench *b, enum gemm_compute dtype, struct err *e)
{
    const int64_t side = gemm_side(b);

    if (dtype == GEMM_F32) return gemm_rate(side, GEMM_REPEATS, e);
    return onednn_has_bf16() ? gemm_rate_bf16(side, GEMM_REPEATS, e) : 0;
}

/* The rates that a repeat of work of known size is held against: they change within minutes. */
static bool measure_machine(const struct bench *b, const struct row *r, struct child *c,
                            struct result *x, struct err *e)
{
    enum gemm_compute dtype = r->dtype == GEMM_BF16 && onednn_has_bf16() ? GEMM_BF16 : GEMM_F32;

    if (!child_fact(c, "flop")) return true;
    if ((x->product[x->n] = product_rate(b, dtype, e)) < 0) return false;
    return !child_fact(c, "read_bytes") || measure_memory(x, e);
}

static bool measure_row(struct bench *b, const struct row *r, struct result *out, struct err *e)
{
    bool torch = r->other == TORCH;
    struct child ours = {0}, own = {0}, *other = torch && b->files.brief ? &b->torch : &own;
    char *work[2] = {expand_work(b, r, r->work, e),
                     expand_work(b, r, r->other == OURS ? r->other_work : r->work, e)};
    bool ok = work[0] && work[1] && start(b, false, &ours, e) && child_open(&ours, work[0], e);
    int n[2] = {1, 1};

    if (ok && out->sides > 1 && !other->pid) ok = start(b, torch, other, e);
    if (ok && out->sides > 1) ok = child_open(other, work[1], e);
    ok = ok && calibrate(b, &ours, r, &n[0], e) &&
         (out->sides == 1 || calibrate(b, other, r, &n[1], e));
    for (out->n = 0; ok && out->n < (b->files.brief ? 1 : r->repeats); out->n++)
        ok = measure_machine(b, r, &ours, out, e) &&
             repeat(&ours, r, n[0], &out->value[0][out->n], e) &&
             (out->sides == 1 || repeat(other, r, n[1], &out->value[1][out->n], e));
    ok = ok && child_close(&ours, e) && (out->sides == 1 || child_close(other, e));
    out->side[0] = ours; /* its facts */
    out->side[1] = *other;
    child_end(&ours);
    if (other == &own) child_end(&own);
    free(work[0]);
    free(work[1]);
    return ok;
}

/* A new process each time. */
static bool start_row(struct bench *b, const struct row *r, struct result *out, struct err *e)
{
    char *work = expand_work(b, r, r->work, e);
    bool ok = work;

    for (out->n = 0; ok && out->n < (b->files.brief ? 1 : r->repeats); out->n++)
        for (int k = 0; ok && k < out->sides; k++) {
            double begin = clock_seconds(), seconds, units;
            struct child c = {0};
            ok = start(b, k, &c, e) && child_open(&c, work, e) &&
                 child_step(&c, 1, &seconds, &units, e);
            out->value[k][out->n] = clock_seconds() - begin;
            out->side[k] = c;
            child_end(&c);
        }
    free(work);
    return ok;
}

static bool command_row(struct bench *b, const struct row *r, struct result *out, struct err *e)
{
    bool ok = true;

    for (out->n = 0; ok && out->n < (b->files.brief ? 1 : r->repeats); out->n++) {
        double begin = clock_seconds();
        ok = files_shell(&b->files, r->work, e);
        out->value[0][out->n] = clock_seconds() - begin;
    }
    return ok;
}

/* Checks that both sides agree, and that the cache has the computed size. */
static bool agree(const struct row *r, const struct result *x, struct err *e)
{
    const double *a = child_fact(&x->side[0], "check"), *c = child_fact(&x->side[1], "check");
    double tolerance = precisions[r->dtype].tolerance;

    if (x->sides > 1 && r->other == TORCH && a && !(c && fabs(*a - *c) <= tolerance * fabs(*a)))
        return err_set(e, "%s: our side says %.9g, PyTorch %.9g: not the same work", r->title, *a,
                       c ? *c : NAN);
    for (int k = 0; k < 2; k++) {
        a = child_fact(&x->side[k], "cache_mib");
        c = child_fact(&x->side[k], "computed_cache_mib");
        if (a && c && *a != *c)
            return err_set(e, "%s: %g MiB of cache, computed were %g", r->title, *a, *c);
    }
    return true;
}

static bool is_wanted(const struct bench *b, const struct row *r)
{
    char words[512], *rest = words, *word;

    snprintf(words, sizeof words, "%s", b->only);
    while ((word = strsep(&rest, ",")))
        if (strstr(r->title, word) || strstr(r->work, word)) return true;
    return false;
}

static bool measure_all(struct bench *b, struct report *report, struct err *e)
{
    static bool (*const by[])(struct bench *, const struct row *, struct result *, struct err *) = {
        [REPEAT] = measure_row, [START] = start_row, [COMMAND] = command_row};
    bool ok = true;

    for (int i = 0; ok && i < ROWS; i++) {
        struct result x = {
            .sides = 1 + (rows[i].other == OURS || (rows[i].other == TORCH && *b->python))};
        if (rows[i].group) report_group(report, rows[i].group);
        if (!is_wanted(b, &rows[i])) continue;
        ok = by[rows[i].how](b, &rows[i], &x, e) && agree(&rows[i], &x, e);
        if (!ok) err_context(e, "%s", rows[i].title);
        if (ok) report_row(report, &rows[i], &x);
    }
    child_end(&b->torch);
    return ok;
}

static bool measure_gemm(const struct bench *b, double rate[2], struct err *e)
{
    rate[GEMM_F32] = product_rate(b, GEMM_F32, e);
    rate[GEMM_BF16] = product_rate(b, GEMM_BF16, e);
    return rate[GEMM_F32] > 0 && rate[GEMM_BF16] >= 0;
}

static bool run(struct bench *b, struct err *e)
{
    struct report report = {.brief = b->files.brief,
                            .python = b->python,
                            .threads = threads(b),
                            .gemm_side = gemm_side(b)};
    double after[2];
    bool ok = files_prepare(&b->files, preparations, PREPARATIONS, e) &&
              file_out_open(&report.out, b->out, e);

    if (!ok) return false;
    omp_set_num_threads(threads(b));
    gemm_setup(GEMM_AUTO, GEMM_F32);
    gemm_single_blas();
    ok = measure_gemm(b, report.gemm, e) && report_begin(&report, e) &&
         measure_all(b, &report, e) && measure_gemm(b, after, e) && report_end(&report, after, e);
    file_out_abort(&report.out);
    return ok;
}

/* Whether this Python can run the other side. */
static bool has_torch(const char *python)
{
    char command[1024];

    if (!*python) return false;
    snprintf(command, sizeof command, "'%s' -c 'import torch, transformers' 2>/dev/null", python);
    return system(command) == 0;
}

static bool read_options(struct bench *b, int argc, char **argv, struct err *e)
{
    const struct bench_option known[] = {{"--work", &b->files.work},
                                         {"--out", &b->out},
                                         {"--python", &b->python},
                                         {"--only", &b->only},
                                         {NULL, NULL}};

    if (!files_options(&b->files, known, argc, argv, e)) return false;
    if (!has_torch(b->python)) b->python = "";
    return b->files.work && b->out ? true : err_set(e, "--work DIR and --out FILE are needed");
}

int main(int argc, char **argv)
{
    struct bench b = {.python = "",
                      .only = "",
                      .files = {.programs = getenv("BUILD") ? getenv("BUILD") : "build",
                                .source = "bench/bench.c"}};
    struct err e = {0};

    signal(SIGPIPE, SIG_IGN);
    if (read_options(&b, argc, argv, &e) && run(&b, &e)) return 0;
    fprintf(stderr, "bench: error: %s\n", e.msg);
    return 1;
}
