/* report.h - the step that turns a run's directory into a report. */
#ifndef TRAIN_REPORT_REPORT_H
#define TRAIN_REPORT_REPORT_H

#include "train/run.h"

/* Writes recovery.png, report.md and metrics.h5. */
bool step_report(struct run *r, struct err *e);

#endif
