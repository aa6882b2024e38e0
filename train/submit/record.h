/* record.h - RUN/slurm/jobs.json: what was submitted of a run, and when. */
#ifndef TRAIN_SUBMIT_RECORD_H
#define TRAIN_SUBMIT_RECORD_H

#include "base/err.h"

#include <stddef.h>

enum submit_job { JOB_SHARED, JOB_POINTS, JOB_REPORT, JOBS };
extern const char *const submit_job_names[JOBS];

struct record {
    char when[32];      /* local time */
    char dir[4096];     /* run.dir then, absolute */
    long long id[JOBS]; /* Slurm's number; 0: there is no such job */
};

/* *there is false, and *r zeroed, if nothing was submitted. */
bool record_load(struct record *r, const char *path, bool *there, struct err *e);
bool record_save(const struct record *r, const char *path, struct err *e);

/* "12 13 14", for scancel; returns out. */
const char *record_ids(char *out, size_t size, const struct record *r);

#endif
