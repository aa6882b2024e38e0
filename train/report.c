#include "train/steps.h"
bool step_report(struct run *r, struct err *e) { (void)r; (void)e; return true; }
