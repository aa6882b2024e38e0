/* side.c - our side of the comparison, driven line by line on stdin:
 *     open WORK KEY=VALUE ...   prepares a work (bench/lib/work.h): facts, then "ready"
 *     step N                    runs it N times: "time SECONDS UNITS"
 *     close                     facts, then "closed"
 * Anything else, and any failure, gives a line "error ..." and exits. Started as several processes,
 * the first reads and prints, and all do the work together. */
#include "autograd/gemm.h"
#include "autograd/team.h"
#include "base/clock.h"
#include "base/log.h"
#include "bench/lib/measure.h"
#include "bench/lib/work.h"
#include "cluster/cluster.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct work *const works[] = {&work_step,
                                           &work_tower,
                                           &work_attention,
                                           &work_decode,
                                           &work_mdsvd,
                                           &work_images,
                                           &work_train,
                                           &work_cluster_step,
                                           &work_cluster_svd,
                                           &work_cluster_features,
                                           &work_cluster_exchange};
enum { WORKS = sizeof works / sizeof *works };

static bool choose_dtype(const struct work_args *a, struct err *e)
{
    const char *dtype = work_text(a, "dtype", "f32");
    bool bf16 = strcmp(dtype, "bf16") == 0;

    gemm_setup(GEMM_AUTO, bf16 ? GEMM_BF16 : GEMM_F32);
    return bf16 || strcmp(dtype, "f32") == 0 || err_set(e, "dtype %s: f32 or bf16", dtype);
}

static bool open_work(char *line, const struct work **w, void **state, struct err *e)
{
    char *name = strsep(&line, " "), *word;
    struct work_args a = {0};

    while ((word = strsep(&line, " "))) {
        CHECK(a.n < WORK_ARGS);
        if (*word) a.word[a.n++] = word;
    }
    if (!choose_dtype(&a, e)) return false;
    omp_set_dynamic(0);
    omp_set_num_threads((int)work_number(&a, "threads", 2));
    for (int i = 0; i < WORKS; i++)
        if (strcmp(works[i]->name, name) == 0) *w = works[i];
    if (!*w) return err_set(e, "no work \"%s\"", name);
    *state = (*w)->open(&a, e);
    if (*state) printf("ready\n");
    return *state;
}

static bool run_work(const struct work *w, void *state, int64_t n, struct err *e)
{
    double begin = clock_seconds(), units = 0;

    for (int64_t i = 0; i < n; i++)
        if (!w->run(state, &units, e)) return false;
    if (!cluster_agree(true, e)) return false;
    printf("time %.9f %.17g\n", clock_seconds() - begin, units);
    return true;
}

static bool close_work(const struct work **w, void **state, struct err *e)
{
    work_fact("peak_mib", peak_mib()); /* before finish() allocates for itself */
    if ((*w)->finish && !(*w)->finish(*state, e)) return false;
    (*w)->close(*state);
    *w = NULL;
    *state = NULL;
    printf("closed\n");
    return true;
}

static bool obey(char *line, const struct work **w, void **state, struct err *e)
{
    if (!*w && strncmp(line, "open ", 5) == 0) return open_work(line + 5, w, state, e);
    if (*w && strncmp(line, "step ", 5) == 0) return run_work(*w, *state, atoll(line + 5), e);
    if (*w && strncmp(line, "close", 5) == 0) return close_work(w, state, e);
    return err_set(e, "\"%s\": open, step or close is needed, in this order", line);
}

/* The next line of the first process's stdin, for all; *there is false at its end. */
static bool next_line(char *line, size_t size, bool *there, struct err *e)
{
    *there = cluster_first() && fgets(line, (int)size, stdin);
    return cluster_broadcast(there, sizeof *there, 0, e) &&
           (!*there || cluster_broadcast(line, size, 0, e));
}

int main(int argc, char **argv)
{
    const struct work *w = NULL;
    void *state = NULL;
    struct err e = {0};
    char line[4096] = "";
    bool ok, there = true;

    (void)argc;
    team_wait_shortly(argv); /* as the program does */
    ok = cluster_open(&e);
    if (cluster_launched()) log_no_terminal();
    while (ok && next_line(line, sizeof line, &there, &e) && there) {
        line[strcspn(line, "\n")] = '\0';
        ok = cluster_agree(obey(line, &w, &state, &e), &e);
        if (!ok) printf("error %s\n", e.msg);
        fflush(stdout);
    }
    if (w && state) w->close(state);
    ok = cluster_close(ok, &e);
    cluster_leave(!ok);
    return !ok;
}
