/* partition.h - what the cluster says of a partition. */
#ifndef TRAIN_SUBMIT_PARTITION_H
#define TRAIN_SUBMIT_PARTITION_H

#include "base/err.h"

#include <stdint.h>

struct partition {
    char name[256];      /* of several: as they are given */
    int64_t nodes, cpus; /* nodes in all; cores of the largest */
    int64_t memory;      /* MiB of the largest node */
    int64_t seconds;     /* longest job; 0: no limit */
};

/* What sinfo says of all nodes and partitions, in new memory; NULL, with *e set, if it does not. */
char *partition_ask(struct err *e);
/* From that, the partition of that name, or of none (NULL) the cluster's default. Of several,
 * "a,b", Slurm takes the one in which a job starts first, so that it must fit into each: *p is the
 * least of them. The message of a failure names those that there are. */
bool partition_parse(const char *text, const char *name, struct partition *p, struct err *e);

#endif
