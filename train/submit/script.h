/* script.h - the text of the job scripts.
 *
 * A script runs the program, and passes on the two signals that Slurm sends it: USR1 ahead of the
 * time limit and TERM for scancel and preemption. With status 85 the run has been saved, and the
 * job goes back into the queue; so it does where USR1 came before the program could answer it
 * (138). If it was given its time thrice and has made not one step, it ends instead of
 * going round for ever. */
#ifndef TRAIN_SUBMIT_SCRIPT_H
#define TRAIN_SUBMIT_SCRIPT_H

#include "train/submit/plan.h"

#include <stdio.h>

/* How the first line begins that an attempt of a job prints. */
#define SCRIPT_BEGINS "slurm: job "

struct script_places {   /* all absolute */
    const char *from;    /* where the settings' relative paths begin */
    const char *program; /* mha2mla-train */
    const char *run;     /* run.dir */
    const char *dir;     /* run.dir/slurm: config.json, scripts, output, how far each job is */
};

/* Writes text as a word of the shell, whatever is in it. */
void script_quote(FILE *fp, const char *text);

/* In new memory; NULL with *e set on failure. */
char *script_text(const struct plan *p, enum submit_job job, const struct script_places *at,
                  struct err *e);

#endif
