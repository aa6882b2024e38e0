/* backend.h - the back end that a test was started for: see backend.c. */
#ifndef TESTS_BACKEND_H
#define TESTS_BACKEND_H

#include "autograd/gemm.h"

const char *backend_gemm(void); /* a name of run.gemm */
enum gemm_library backend_library(void);
const char *backend_compute(void); /* a name of run.compute */

#endif
