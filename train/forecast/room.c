/* room.c - see room.h. */
#include "train/forecast/room.h"

#include <stdio.h>
#include <unistd.h>

double room_held(void)
{
    FILE *fp = fopen("/proc/self/statm", "r");
    long size, resident = 0, files = 0;

    if (!fp) return 0;
    if (fscanf(fp, "%ld %ld %ld", &size, &resident, &files) != 3) resident = files = 0;
    fclose(fp);
    return (double)(resident - files) * (double)sysconf(_SC_PAGESIZE);
}

size_t room_left(const struct run *r, double held, double mapped)
{
    bool machine = r->c.run.memory_limit <= 0;
    double left = (double)r->memory_limit - held - (machine ? mapped : 0);

    return left > 0 ? (size_t)left : 0;
}

void room_of_params(const struct model *m, double *own, double *mapped)
{
    *own = *mapped = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        double bytes = (double)tensor_count(&p->t) * (double)dtype_size(p->t.dtype);
        *(p->own ? own : mapped) += bytes;
    }
}

const char *room_advice(const struct run *r)
{
    return r->c.optim.recompute == RECOMPUTE_NONE
               ? "optim.recompute \"auto\", or a smaller micro_batch or data.max_length"
               : "a smaller micro_batch or data.max_length";
}

static bool build(struct room_graph *g, int64_t layers, struct err *e)
{
    g->layers = layers;
    return g->build(g->arg, layers, &g->bytes, e);
}

bool room_recompute(const struct run *r, const struct model *m, struct room_graph *g, struct err *e)
{
    int64_t all = m->cfg.text.num_hidden_layers, least = 0, most = all;

    if (!build(g, r->c.optim.recompute == RECOMPUTE_ALL ? all : 0, e)) return false;
    if (r->c.optim.recompute != RECOMPUTE_AUTO || g->bytes <= g->room) return true;
    if (!build(g, most, e)) return false;
    if (g->bytes > g->room) least = most - 1;
    while (most - least > 1) { /* invariant: `least` is too few, `most` fits */
        if (!build(g, least + (most - least) / 2, e)) return false;
        *(g->bytes <= g->room ? &most : &least) = g->layers;
    }
    return g->layers == most || build(g, most, e);
}
