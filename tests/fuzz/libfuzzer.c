/* libfuzzer.c - runs a target under libFuzzer:
 *     FUZZ_TARGET=NAME build-fuzz/tests/fuzz/fuzz CORPUS... */
#include "tests/fuzz/target.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct fuzz_target *target;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = getenv("FUZZ_TARGET");

    (void)argc;
    (void)argv;
    target = name ? fuzz_find(name) : NULL;
    if (target) return 0;
    fprintf(stderr, "FUZZ_TARGET=%s: known are:", name ? name : "");
    for (const struct fuzz_target *t = fuzz_targets; t->name; t++)
        fprintf(stderr, " %s", t->name);
    fputc('\n', stderr);
    exit(1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    target->run(data, n);
    return 0;
}
