/* test_faults.c - failing system calls and allocations in complete runs, and kills: a sample.
 * tests/long/test_faults.c does all. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/sanitized.h"

#define FAULT_SAMPLE (SANITIZED ? 1 : 2) /* a sanitizer takes ten times as long */

#include "tests/fault/campaign.h"

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_faults), cmocka_unit_test(test_killed),
                                       cmocka_unit_test(test_allocations)};

    return run_campaign(tests, sizeof tests / sizeof *tests);
}
