/* backend.c - linked into every test: takes the library and the input type of matrix products from
 * the environment, as run.gemm and run.compute would choose them, so that the same tests run with
 * every back end (tests/backends.txt):
 *     TEST_GEMM      auto (the default), openblas or onednn
 *     TEST_COMPUTE   f32 (the default) or bf16
 * Programs started by a test get the same: program.h. */
#include "tests/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int choice(const char *variable, const char *value, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(value, names[i]) == 0) return i;
    fprintf(stderr, "%s=%s is not known to the tests\n", variable, value);
    exit(2);
}

const char *backend_gemm(void)
{
    const char *v = getenv("TEST_GEMM");

    return v && *v ? v : "auto";
}

const char *backend_compute(void)
{
    const char *v = getenv("TEST_COMPUTE");

    return v && *v ? v : "f32";
}

enum gemm_library backend_library(void)
{
    static const char *const names[] = {GEMM_LIBRARY_NAMES};

    return (enum gemm_library)choice("TEST_GEMM", backend_gemm(), names, 3);
}

__attribute__((constructor)) static void choose(void)
{
    static const char *const names[] = {GEMM_COMPUTE_NAMES};

    gemm_setup(backend_library(),
               (enum gemm_compute)choice("TEST_COMPUTE", backend_compute(), names, 2));
}
