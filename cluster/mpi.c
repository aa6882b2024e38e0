/* mpi.c - net.h on MPI (version 3, nothing beyond the standard). Every wait is a poll that soon
 * sleeps in between: libraries spin, which takes the core from a process that shares it, for as
 * long as the first process works alone. */
#include "base/clock.h"
#include "base/mem.h"
#include "cluster/launcher.h"
#include "cluster/net.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>
#include <time.h>

/* A poll costs under a microsecond. Nearly all that a step waits for comes within the first ones.
 */
enum { POLLS = 2000, NAP_LEAST = 20000, NAP_MOST = 1000000 }; /* naps in ns */
enum { PIECE = 1 << 28 };                                     /* bytes: counts are int */

static void nap(long polls)
{
    struct timespec t = {0, NAP_LEAST};

    if (polls < POLLS) return;
    t.tv_nsec = polls - POLLS < NAP_MOST / NAP_LEAST ? (polls - POLLS + 1) * NAP_LEAST : NAP_MOST;
    nanosleep(&t, NULL);
}

/* False: not within `seconds`, 0 for no limit. */
static bool await(MPI_Request *q, double seconds)
{
    const double begin = seconds > 0 ? clock_seconds() : 0;
    int done = 0;

    for (long polls = 0;; polls++) {
        MPI_Test(q, &done, MPI_STATUS_IGNORE);
        if (done) return true;
        if (seconds > 0 && clock_seconds() - begin > seconds) return false;
        nap(polls);
    }
}

static int bytes_of(size_t bytes)
{
    CHECK(bytes <= INT_MAX);
    return (int)bytes;
}

static int count_local(void)
{
    MPI_Comm here;
    int n;

    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &here);
    MPI_Comm_size(here, &n);
    MPI_Comm_free(&here);
    return n;
}

bool net_there(void)
{
    return true;
}

bool net_open(struct net_place *p, struct err *e)
{
    int got;

    *p = (struct net_place){0, 1, 1};
    if (!launcher_joins()) {
        const long n = launcher_started();
        return n == 1 ||
               err_set(e, "srun started %ld processes that cannot meet: add --mpi=pmix to it", n);
    }
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &got) != MPI_SUCCESS)
        return err_set(e, "MPI cannot be started");
    MPI_Comm_rank(MPI_COMM_WORLD, &p->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &p->size);
    p->local = count_local();
    return got >= MPI_THREAD_FUNNELED ||
           err_set(e, "this MPI allows no threads beside it (MPI_THREAD_FUNNELED)");
}

bool net_share(const void *mine, size_t bytes, void *all, double seconds)
{
    MPI_Request q;

    MPI_Iallgather(mine, bytes_of(bytes), MPI_BYTE, all, bytes_of(bytes), MPI_BYTE, MPI_COMM_WORLD,
                   &q);
    return await(&q, seconds);
}

void net_exchange(const void *to, size_t bytes, void *from)
{
    MPI_Request q;

    MPI_Ialltoall(to, bytes_of(bytes), MPI_BYTE, from, bytes_of(bytes), MPI_BYTE, MPI_COMM_WORLD,
                  &q);
    await(&q, 0);
}

void net_broadcast(void *data, size_t bytes, int from)
{
    for (size_t at = 0; at < bytes; at += PIECE) {
        const size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        MPI_Request q;

        MPI_Ibcast((char *)data + at, (int)n, MPI_BYTE, from, MPI_COMM_WORLD, &q);
        await(&q, 0);
    }
}

void net_hand(void *data, size_t bytes, int from)
{
    int rank;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (size_t at = 0; at < bytes; at += PIECE) {
        const size_t n = bytes - at < PIECE ? bytes - at : PIECE;
        MPI_Request q;

        if (rank == from)
            MPI_Isend((char *)data + at, (int)n, MPI_BYTE, 0, 0, MPI_COMM_WORLD, &q);
        else
            MPI_Irecv((char *)data + at, (int)n, MPI_BYTE, from, 0, MPI_COMM_WORLD, &q);
        await(&q, 0);
    }
}

void net_close(void)
{
    int begun;

    if (MPI_Initialized(&begun) == MPI_SUCCESS && begun) MPI_Finalize();
}

_Noreturn void net_end(int status)
{
    MPI_Abort(MPI_COMM_WORLD, status);
    exit(status);
}

/* ---- messages ---- */

struct net_calls {
    int n;
    MPI_Request q[];
};

struct net_calls *net_calls_new(int n, struct err *e)
{
    struct net_calls *c = mem_new(1, sizeof *c + (size_t)n * sizeof *c->q, "messages", e);

    if (!c) return NULL;
    c->n = n;
    for (int i = 0; i < n; i++)
        c->q[i] = MPI_REQUEST_NULL;
    return c;
}

void net_calls_free(struct net_calls *c)
{
    free(c);
}

void net_send(struct net_calls *c, int i, const void *data, size_t bytes, int to, int tag)
{
    CHECK(c->q[i] == MPI_REQUEST_NULL);
    MPI_Isend(data, bytes_of(bytes), MPI_BYTE, to, tag, MPI_COMM_WORLD, &c->q[i]);
}

void net_receive(struct net_calls *c, int i, void *data, size_t bytes, int from, int tag)
{
    CHECK(c->q[i] == MPI_REQUEST_NULL);
    MPI_Irecv(data, bytes_of(bytes), MPI_BYTE, from, tag, MPI_COMM_WORLD, &c->q[i]);
}

int net_arrived(struct net_calls *c, int *done, bool wait)
{
    int n = 0;

    for (long polls = 0;; polls++) {
        MPI_Testsome(c->n, c->q, &n, done, MPI_STATUSES_IGNORE);
        if (n == MPI_UNDEFINED) return -1;
        if (n > 0 || !wait) return n;
        nap(polls);
    }
}
