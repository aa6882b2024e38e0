/* backend.h - the back end for which a test was started: see backend.c. */
#ifndef TESTS_BACKEND_H
#define TESTS_BACKEND_H

#include "autograd/gemm.h"

const char *backend_gemm(void); /* one of run.gemm's names */
enum gemm_library backend_library(void);
const char *backend_compute(void); /* one of run.compute's names */

#endif
