/* cluster.c - how much faster several processes are than one, each with one thread:
 *
 *     build/bench/cluster [--short] --work DIR [--processes N] [--launch COMMAND]
 *                         [--repeats N] [--only WORD,...]
 *
 * Both sides are open at the same time and take turns; all is the same work, such as the same
 * samples of one step. Prints a table: seconds, and the efficiency, which is one process's time
 * divided by N times that of N processes, turn by turn; and the bytes that a process sends in a
 * step beside the theory. Losses of both sides must agree. COMMAND starts what follows it as N
 * processes ("mpirun -np 2"). --short is tiny and says nothing about time. --only: rows whose title
 * or work contains a WORD. */
#include "base/mem.h"
#include "bench/lib/child.h"
#include "bench/lib/files.h"
#include "bench/lib/measure.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS = 5, REPEATS_MOST = 16 };
static const double REPEAT_SECONDS = 0.5; /* a repeat of short work takes about this long */
/* Of losses and energies of both sides, relative: fp32 sums in another order. */
static const double TOLERANCE = 1e-5;

static const struct preparation preparations[] = {
    {"@/shapes/train.json", "$/mha2mla-data shapes --out @/shapes --train {4096|64} --test 8"},
    {"@/quick/config.json", "$/bench/prepare quick config=configs/quickstart-published.json "
                            "data=@/shapes/train.json dir=@"},
    /* pictures of 224 x 224 pixels, 256 tokens, so that a step takes less than a minute */
    {"@/shape/config.json",
     "mkdir -p @/shape && sed 's/336/224/' bench/{llava7b|tiny}/preprocessor_config.json "
     "> @/shape/preprocessor_config.json && sed 's/336/224/; s/576/256/' "
     "bench/{llava7b|tiny}/config.json > @/shape/config.json.tmp && "
     "mv @/shape/config.json.tmp @/shape/config.json"},
    {"@/base/config.json", "$/bench/model --config @/shape/config.json --layers 2 --vision-layers "
                           "2 --tokenizer configs/quickstart/model --out @/base"},
    {"@/gqa/config.json",
     "mkdir -p @/8b && cp @/shape/preprocessor_config.json @/8b && sed "
     "'s/\"num_key_value_heads\": {32|2}/\"num_key_value_heads\": {8|1}/' @/shape/config.json > "
     "@/8b/config.json && $/bench/model --config @/8b/config.json --layers 2 --vision-layers 2 "
     "--tokenizer configs/quickstart/model --out @/gqa"},
    {"@/mla/config.json",
     "$/bench/prepare mla model=@/base rope_dim={32|4} low_rank={64|8} out=@/mla"},
};
enum { PREPARATIONS = sizeof preparations / sizeof *preparations };

static const struct row {
    const char *title, *work;
    bool alone; /* one process has nothing to do */
} rows[] = {
#define RUN                                                                                        \
    " config=configs/quickstart-published.json run.dir=@/run data.cache=@/cache run.threads=1 "    \
    "threads=1 "
#define SVD "rank.strategy=high rank.rope_dim={32|4} svd.samples=16 sweep.low_rank=[{64|8}] "
#define DATA(limit) "data.train=[{\"path\":\"@/shapes/train.json\",\"limit\":" limit "}] "
    {"a step of stage 2: the quickstart's model, 16 samples",
     "cluster-step model=@/quick" RUN DATA("4096"), false},
    {"a step of stage 2: two layers of LLaVA-1.5-7B's shapes, the set v2, 8 samples one by one",
     "cluster-step model=@/mla model.path=@/base" RUN DATA(
         "16") "stage2.peft=v2 "
               "stage2.projector=true stage2.batch_size=8 stage2.micro_batch=1",
     false},
    {"features: one layer of CLIP-L/14-224, {128|64} pictures",
     "cluster-features model.path=@/base" RUN DATA("{128|64}") "data.cache=@/features "
                                                               "run.steps=[\"stage2\"]",
     false},
    {"the exchange alone: {32|1} Mi values in 64 parameters",
     "cluster-exchange params=64 values={524288|16384} threads=1", true},
    {"the exchange of {4|1} Mi values in 64 parameters after 64 pauses of 20 ms",
     "cluster-exchange params=64 values={65536|16384} pause=20 threads=1", true},
    {"MD-SVD: two layers of LLaVA-NeXT-8B's attention, 16 samples",
     "cluster-svd model.path=@/gqa" RUN SVD DATA("16"), false},
    {"MD-SVD: two layers of LLaVA-1.5-7B's attention, 16 samples, a single set of factors",
     "cluster-svd model.path=@/base" RUN SVD DATA("16") "svd.decoupled=false", false},
};
enum { ROWS = sizeof rows / sizeof *rows };

struct bench {
    struct bench_files files;
    const char *launch, *only;
    int processes, repeats;
};

/* Seconds of the repeats, of one process [0] and of several [1]. */
struct result {
    int n;
    double seconds[2][REPEATS_MOST];
    struct child side[2];
};

static bool start(const struct bench *b, bool several, struct child *c, struct err *e)
{
    char *command =
        mem_printf(e, "exec %s %s/bench/side", several ? b->launch : "", b->files.programs);
    const char *const argv[] = {"sh", "-c", command, NULL};
    const bool ok = command && child_start(c, several ? "several" : "one", argv, e);

    free(command);
    return ok;
}

/* Runs of the work in a repeat, as many for both sides; its first runs are not counted. */
static bool calibrate(const struct bench *b, const struct row *r, struct result *x, int *n,
                      struct err *e)
{
    double seconds = 0, units;

    *n = 1;
    for (int k = r->alone; k < 2; k++)
        if (!child_step(&x->side[k], 1, &seconds, &units, e)) return false;
    if (!b->files.brief && seconds < REPEAT_SECONDS) *n = (int)ceil(REPEAT_SECONDS / seconds);
    return true;
}

static bool agree(const struct row *r, const struct result *x, struct err *e)
{
    const double *a = child_fact(&x->side[0], "check"), *c = child_fact(&x->side[1], "check");

    if (r->alone || (!a && !c)) return true;
    return (a && c && fabs(*a - *c) <= TOLERANCE * fabs(*a)) ||
           err_set(e, "%s: one process says %.9g, several %.9g: not the same work", r->title,
                   a ? *a : NAN, c ? *c : NAN);
}

static bool measure(const struct bench *b, const struct row *r, struct result *x, struct err *e)
{
    char *work = files_expand(&b->files, r->work, e);
    bool ok = work;
    double units;
    int n = 1;

    for (int k = r->alone; ok && k < 2; k++)
        ok = start(b, k, &x->side[k], e) && child_open(&x->side[k], work, e);
    ok = ok && calibrate(b, r, x, &n, e);
    for (; ok && x->n < b->repeats; x->n++)
        for (int k = r->alone; ok && k < 2; k++) {
            ok = child_step(&x->side[k], n, &x->seconds[k][x->n], &units, e);
            x->seconds[k][x->n] /= n;
        }
    for (int k = r->alone; ok && k < 2; k++)
        ok = child_close(&x->side[k], e);
    free(work);
    return ok && agree(r, x, e);
}

/* Median and range. */
static void print_values(const double *v, int n, double times, const char *unit)
{
    double sorted[REPEATS_MOST];

    memcpy(sorted, v, (size_t)n * sizeof *v);
    const double middle = median(sorted, n);
    printf(" %.4g%s (%.4g to %.4g) |", times * middle, unit, times * sorted[0],
           times * sorted[n - 1]);
}

static void print_sent(struct result *x)
{
    const double *flop = child_fact(&x->side[0], "flop");
    const double *sent = child_fact(&x->side[1], "sent"),
                 *theory = child_fact(&x->side[1], "theory"),
                 *early = child_fact(&x->side[1], "early");

    if (!sent || !theory || !early) {
        printf(" - | - | - | - |\n");
        return;
    }
    if (flop)
        printf(" %.1f |", 1e-9 * *flop / median(x->seconds[0], x->n));
    else
        printf(" - |");
    printf(" %.4f | %.4f | %.0f %% |\n", *sent / 0x1p20, *theory / 0x1p20, 100 * *early);
}

static bool print_row(const struct bench *b, const struct row *r, struct result *x, struct err *e)
{
    char *title = files_expand(&b->files, r->title, e);
    double efficiency[REPEATS_MOST];

    if (!title) return false;
    printf("| %s |", title);
    free(title);
    for (int i = 0; i < x->n; i++)
        efficiency[i] = x->seconds[0][i] / x->seconds[1][i] / b->processes;
    if (r->alone)
        printf(" - |");
    else
        print_values(x->seconds[0], x->n, 1, " s");
    print_values(x->seconds[1], x->n, 1, " s");
    if (r->alone)
        printf(" - |");
    else
        print_values(efficiency, x->n, 100, " %");
    print_sent(x);
    return fflush(stdout) == 0 || err_set(e, "the table cannot be written");
}

static bool is_wanted(const struct bench *b, const struct row *r)
{
    char words[512], *rest = words, *word;

    snprintf(words, sizeof words, "%s", b->only);
    while ((word = strsep(&rest, ",")))
        if (strstr(r->title, word) || strstr(r->work, word)) return true;
    return false;
}

static bool measure_all(const struct bench *b, struct err *e)
{
    bool ok = files_prepare(&b->files, preparations, PREPARATIONS, e);

    if (ok)
        printf("| | 1 process | %d processes | efficiency | GFLOP/s of one | MiB sent a step | "
               "theory | early |\n"
               "|---|--:|--:|--:|--:|--:|--:|--:|\n",
               b->processes);
    for (int i = 0; ok && i < ROWS; i++) {
        struct result x = {0};
        if (!is_wanted(b, &rows[i])) continue;
        ok = measure(b, &rows[i], &x, e) && print_row(b, &rows[i], &x, e);
        child_end(&x.side[0]);
        child_end(&x.side[1]);
    }
    return ok;
}

static bool read_options(struct bench *b, int argc, char **argv, struct err *e)
{
    const char *processes = "2", *repeats = NULL;
    const struct bench_option known[] = {{"--work", &b->files.work}, {"--launch", &b->launch},
                                         {"--only", &b->only},       {"--processes", &processes},
                                         {"--repeats", &repeats},    {NULL, NULL}};

    if (!files_options(&b->files, known, argc, argv, e)) return false;
    b->processes = atoi(processes);
    b->repeats = repeats ? atoi(repeats) : b->files.brief ? 1 : REPEATS;
    if (b->repeats < 1 || b->repeats > REPEATS_MOST)
        return err_set(e, "--repeats %s: 1 to %d", repeats, REPEATS_MOST);
    if (!b->files.work) return err_set(e, "--work DIR is needed");
    if (b->processes < 2) return err_set(e, "--processes %s: 2 or more are needed", processes);
    if (!b->launch) b->launch = mem_printf(e, "mpirun --oversubscribe -np %d", b->processes);
    return b->launch;
}

int main(int argc, char **argv)
{
    struct bench b = {.only = "",
                      .files = {.programs = getenv("BUILD") ? getenv("BUILD") : "build",
                                .source = "bench/cluster.c"}};
    struct err e = {0};

    signal(SIGPIPE, SIG_IGN);
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 0); /* else mpirun refuses root */
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 0);
    if (read_options(&b, argc, argv, &e) && measure_all(&b, &e)) return 0;
    fprintf(stderr, "bench: error: %s\n", e.msg);
    return 1;
}
