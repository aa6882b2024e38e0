/* cluster.c - meetings, and what is exchanged at them, on the few operations of net.h. Each begins
 * with the same small message of all to all, so that it does not matter at which of them an error
 * is learned of. With one process every function returns at once. */
#include "cluster/cluster.h"
#include "base/mem.h"
#include "base/signals.h"
#include "cluster/launcher.h"
#include "cluster/net.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Doubles that a process sums at a time. */
enum { PIECE = 4096 };
/* Seconds that a failed process waits for the others at the end: most are there at once. */
static const double patience = 4;

/* How a process comes to a meeting. */
struct coming {
    int32_t failed, signal;
};

static struct {
    struct net_place at;
    struct coming *all; /* [size] */
    struct err *errors; /* [size] */
    double *out, *in;   /* [size * PIECE], of cluster_sum */
    bool failed;        /* all know that the run fails: there are no meetings any more */
    bool alone;         /* the others did not come to the last one */
} state = {.at = {0, 1, 1}};

/* A library, too, may write there. */
static bool close_output(struct err *e)
{
    const int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    const bool ok = fd >= 0 && dup2(fd, STDOUT_FILENO) >= 0;

    if (fd >= 0) close(fd);
    return ok || err_set(e, "/dev/null: cannot be opened");
}

bool cluster_open(struct err *e)
{
    static const char what[] = "the processes";
    size_t n;

    if (!net_open(&state.at, e)) return false;
    if (state.at.size == 1) return true;
    n = (size_t)state.at.size;
    state.all = mem_new(n, sizeof *state.all, what, e);
    state.errors = mem_new(n, sizeof *state.errors, what, e);
    state.out = mem_new(n, PIECE * sizeof *state.out, what, e);
    state.in = mem_new(n, PIECE * sizeof *state.in, what, e);
    return state.all && state.errors && state.out && state.in &&
           (state.at.rank == 0 || close_output(e));
}

bool cluster_built(void)
{
    return net_there();
}

bool cluster_launched(void)
{
    return launcher_joins();
}

int cluster_size(void)
{
    return state.at.size;
}

int cluster_rank(void)
{
    return state.at.rank;
}

int cluster_local(void)
{
    return state.at.local;
}

/* ---- meeting ---- */

/* The error of the first process that has one, told alike by all. */
static void take_error(struct err *e)
{
    const struct err *first = NULL;
    bool alike = true;

    net_share(e, sizeof *e, state.errors, 0);
    for (int i = state.at.size - 1; i >= 0; i--)
        if (state.all[i].failed) first = &state.errors[i];
    for (int i = 0; i < state.at.size; i++)
        alike = alike && state.all[i].failed && strcmp(state.errors[i].msg, first->msg) == 0;
    *e = *first;
    if (alike) return;
    err_set(e, "rank %d of %d: %s", (int)(first - state.errors), state.at.size, first->msg);
    e->machine = first->machine;
    e->number = first->number;
}

/* What has to be done once state.all is known. */
static bool met(bool ok, struct err *e)
{
    for (int i = 0; i < state.at.size; i++)
        state.failed = state.failed || state.all[i].failed;
    if (!state.failed) return true;
    for (int i = 0; i < state.at.size; i++)
        if (state.all[i].failed && state.all[i].signal) signals_note(state.all[i].signal);
    if (ok) *e = (struct err){0};
    take_error(e);
    return false;
}

static bool meet(bool ok, int sig, struct err *e)
{
    const struct coming mine = {!ok, sig};

    if (state.failed) return false;
    net_share(&mine, sizeof mine, state.all, 0);
    return met(ok, e);
}

bool cluster_agree(bool ok, struct err *e)
{
    return state.at.size == 1 ? ok : meet(ok, ok ? 0 : signals_came(), e);
}

bool cluster_signal(int *sig, struct err *e)
{
    if (state.at.size == 1) return true;
    if (!meet(true, *sig, e)) return false;
    *sig = 0;
    for (int i = state.at.size - 1; i >= 0; i--)
        if (state.all[i].signal) *sig = state.all[i].signal;
    if (*sig) signals_note(*sig);
    return true;
}

bool cluster_go_on(bool ok, struct err *e)
{
    int sig = ok ? 0 : signals_came();

    if (state.at.size == 1) return ok;
    if (!cluster_signal(&sig, e)) return false;
    return sig ? signals_go_on(e) : cluster_agree(ok, e);
}

/* ---- data ---- */

/* Each process sums one piece for all. */
static void sum_part(double *x, int64_t n)
{
    const int64_t size = state.at.size, piece = (n + size - 1) / size;
    const size_t bytes = (size_t)piece * sizeof *x;
    double *sum = state.out;

    memset(state.out, 0, (size_t)size * bytes);
    memcpy(state.out, x, (size_t)n * sizeof *x);
    net_exchange(state.out, bytes, state.in);
    memcpy(sum, state.in, bytes);
    for (int64_t k = 1; k < size; k++)
        for (int64_t j = 0; j < piece; j++)
            sum[j] += state.in[k * piece + j];
    net_share(sum, bytes, state.in, 0);
    memcpy(x, state.in, (size_t)n * sizeof *x);
}

bool cluster_sum(double *x, int64_t n, struct err *e)
{
    const int64_t most = (int64_t)state.at.size * PIECE;

    if (state.at.size == 1) return true;
    if (!meet(true, 0, e)) return false;
    for (int64_t i = 0; i < n; i += most)
        sum_part(x + i, n - i < most ? n - i : most);
    return true;
}

bool cluster_broadcast(void *data, size_t bytes, int from, struct err *e)
{
    if (state.at.size == 1) return true;
    if (!meet(true, 0, e)) return false;
    net_broadcast(data, bytes, from);
    return true;
}

bool cluster_as_first(bool ok, bool *found, struct err *e)
{
    return cluster_agree(ok, e) && cluster_broadcast(found, sizeof *found, 0, e);
}

static bool gather(const void *mine, const size_t *sizes, void **all, size_t *bytes, struct err *e)
{
    char *to;

    *bytes = 0;
    for (int i = 0; i < state.at.size; i++)
        *bytes += sizes[i];
    *all = to = mem_new(*bytes + 1, 1, "what the processes have", e);
    if (!cluster_agree(to, e)) return false;
    for (int i = 0; i < state.at.size; to += sizes[i++]) {
        if (i == state.at.rank && sizes[i]) memcpy(to, mine, sizes[i]);
        if (state.at.size > 1) net_broadcast(to, sizes[i], i);
    }
    return true;
}

bool cluster_gather(const void *mine, size_t n, void **all, size_t *bytes, struct err *e)
{
    size_t *sizes = mem_new((size_t)state.at.size, sizeof *sizes, "what the processes have", e);
    bool ok = cluster_agree(sizes, e);

    *all = NULL;
    *bytes = 0;
    if (ok && state.at.size == 1)
        *sizes = n;
    else if (ok)
        net_share(&n, sizeof n, sizes, 0);
    ok = ok && gather(mine, sizes, all, bytes, e);
    free(sizes);
    if (ok) return true;
    free(*all);
    *all = NULL;
    return false;
}

bool cluster_hand(int from, const void *mine, size_t n, void **got, size_t *bytes, struct err *e)
{
    const bool first = cluster_first();
    bool ok = cluster_broadcast(&n, sizeof n, from, e);

    CHECK(from > 0);
    *got = ok && first ? mem_new(n + 1, 1, "what the processes have", e) : NULL;
    *bytes = first ? n : 0;
    if (!cluster_agree(ok && (!first || *got), e)) {
        free(*got);
        *got = NULL;
        return false;
    }
    if (first) net_hand(*got, n, from);
    if (state.at.rank == from) net_hand((void *)(uintptr_t)mine, n, from);
    return true;
}

/* ---- the end ---- */

bool cluster_close(bool ok, struct err *e)
{
    const struct coming mine = {!ok, ok ? 0 : signals_came()};

    if (state.at.size == 1) return ok;
    if (state.failed) return false;
    if (net_share(&mine, sizeof mine, state.all, ok ? 0 : patience)) return met(ok, e);
    state.alone = true;
    return err_set(e, "rank %d of %d: %s", state.at.rank, state.at.size, e->msg);
}

bool cluster_reports(void)
{
    return state.alone || state.at.rank == 0;
}

void cluster_leave(int status)
{
    if (state.alone) net_end(status);
    net_close();
}
