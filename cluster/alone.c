/* alone.c - net.h where MPI is not installed: there is one process, which has nobody to talk to. */
#include "cluster/launcher.h"
#include "cluster/net.h"

bool net_there(void)
{
    return false;
}

bool net_open(struct net_place *p, struct err *e)
{
    const long n = launcher_started();

    *p = (struct net_place){0, 1, 1};
    return n == 1 || err_set(e,
                             "%ld processes were started, and this program was built without MPI: "
                             "install libopenmpi-dev and openmpi-bin, and build it again",
                             n);
}

bool net_share(const void *mine, size_t bytes, void *all, double seconds)
{
    (void)mine, (void)bytes, (void)all, (void)seconds;
    CHECK(false);
    return false;
}

void net_exchange(const void *to, size_t bytes, void *from)
{
    (void)to, (void)bytes, (void)from;
    CHECK(false);
}

void net_broadcast(void *data, size_t bytes, int from)
{
    (void)data, (void)bytes, (void)from;
    CHECK(false);
}

void net_hand(void *data, size_t bytes, int from)
{
    (void)data, (void)bytes, (void)from;
    CHECK(false);
}

void net_close(void) {}

_Noreturn void net_end(int status)
{
    (void)status;
    check_failed(__FILE__, __LINE__, "one process");
}

struct net_calls *net_calls_new(int n, struct err *e)
{
    (void)n, (void)e;
    CHECK(false);
    return NULL;
}

void net_calls_free(struct net_calls *c)
{
    CHECK(!c);
}

void net_send(struct net_calls *c, int i, const void *data, size_t bytes, int to, int tag)
{
    (void)c, (void)i, (void)data, (void)bytes, (void)to, (void)tag;
    CHECK(false);
}

void net_receive(struct net_calls *c, int i, void *data, size_t bytes, int from, int tag)
{
    (void)c, (void)i, (void)data, (void)bytes, (void)from, (void)tag;
    CHECK(false);
}

int net_arrived(struct net_calls *c, int *done, bool wait)
{
    (void)c, (void)done, (void)wait;
    CHECK(false);
    return -1;
}
