/* test_faults.c - makes every system call on a file fail once in complete runs, and every
 * allocation from a distinct call stack; and kills the run in every write and every rename.
 * tests/test_faults.c does a sample. FAULT_SHOW in the environment shows each message. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#define FAULT_SAMPLE 0

#include "tests/fault/campaign.h"

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faults), cmocka_unit_test(test_killed),
                                       cmocka_unit_test(test_allocations)};

    return run_campaign(tests, sizeof tests / sizeof *tests);
}
