/* walltime.h - times as Slurm writes them. */
#ifndef TRAIN_SUBMIT_WALLTIME_H
#define TRAIN_SUBMIT_WALLTIME_H

#include <stdbool.h>
#include <stdint.h>

/* Reads MINUTES, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS (man sbatch, --time), to seconds
 * above 0. */
bool walltime_parse(const char *text, int64_t *seconds);

enum { WALLTIME_TEXT = 32 };
/* "2:30:00", "1-06:00:00"; returns out. */
const char *walltime_text(char out[WALLTIME_TEXT], int64_t seconds);

#endif
