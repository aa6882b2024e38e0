/* cpu.c - see cpu.h. */
#include "base/cpu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <sys/platform/x86.h> /* glibc: unlike the compilers' own, the same with gcc and clang */
#endif
#include <unistd.h>

typedef void jump(void);

/* Of base/cpu.awk, where there are levels: [levels] tables of `count` functions, lowest level
 * first, and the table that is used. */
struct cpu_levels {
    size_t count, levels;
    jump **slots;
    struct {
        const char *name;
        jump *const *table;
    } level[];
};
extern const struct cpu_levels cpu_levels __attribute__((weak));
void cpu_choose(void);

static const char *chosen = "as built";

const char *cpu_level(void)
{
    return chosen;
}

/* A CPU of a level has all of it and of the ones below (x86-64 psABI 1.0, table 3.1). */
static bool has_level(const char *name)
{
#ifdef __x86_64__
    const bool v2 = CPU_FEATURE_ACTIVE(CMPXCHG16B) && CPU_FEATURE_ACTIVE(LAHF64_SAHF64) &&
                    CPU_FEATURE_ACTIVE(POPCNT) && CPU_FEATURE_ACTIVE(SSE3) &&
                    CPU_FEATURE_ACTIVE(SSSE3) && CPU_FEATURE_ACTIVE(SSE4_1) &&
                    CPU_FEATURE_ACTIVE(SSE4_2);
    const bool v3 = v2 && CPU_FEATURE_ACTIVE(AVX) && CPU_FEATURE_ACTIVE(AVX2) &&
                    CPU_FEATURE_ACTIVE(BMI1) && CPU_FEATURE_ACTIVE(BMI2) &&
                    CPU_FEATURE_ACTIVE(F16C) && CPU_FEATURE_ACTIVE(FMA) &&
                    CPU_FEATURE_ACTIVE(LZCNT) && CPU_FEATURE_ACTIVE(MOVBE);
    const bool v4 = v3 && CPU_FEATURE_ACTIVE(AVX512F) && CPU_FEATURE_ACTIVE(AVX512BW) &&
                    CPU_FEATURE_ACTIVE(AVX512CD) && CPU_FEATURE_ACTIVE(AVX512DQ) &&
                    CPU_FEATURE_ACTIVE(AVX512VL);
    const struct {
        const char *name;
        bool there;
    } levels[] = {{"x86-64-v2", v2}, {"x86-64-v3", v3}, {"x86-64-v4", v4}};

    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(name, levels[i].name) == 0) return levels[i].there;
#else
    (void)name;
#endif
    return false;
}

static _Noreturn void refuse(const char *name, const char *why)
{
    fprintf(stderr, "mha2mla: error: MHA2MLA_CPU=%s: %s: unset it, or give", name, why);
    for (size_t i = 0; i < cpu_levels.levels; i++)
        if (has_level(cpu_levels.level[i].name)) fprintf(stderr, " %s", cpu_levels.level[i].name);
    fputc('\n', stderr);
    _exit(1);
}

/* Runs before main, and before anything that calls through the slots. */
void cpu_choose(void)
{
    const char *set = getenv("MHA2MLA_CPU"), *forced = set && *set ? set : NULL;
    size_t best = cpu_levels.levels;

    for (size_t i = 0; i < cpu_levels.levels; i++)
        if (forced ? strcmp(forced, cpu_levels.level[i].name) == 0
                   : has_level(cpu_levels.level[i].name))
            best = i;
    if (forced && best == cpu_levels.levels) refuse(forced, "is no level");
    if (forced && !has_level(forced)) refuse(forced, "this CPU lacks its instructions");
    if (best == cpu_levels.levels) {
        fputs("mha2mla: error: this CPU has not even the instructions of x86-64-v2 (SSE4.2, of "
              "2009): "
              "build for it with `make ARCH=-march=native`\n",
              stderr);
        _exit(1);
    }
    chosen = cpu_levels.level[best].name;
    memcpy(cpu_levels.slots, cpu_levels.level[best].table, cpu_levels.count * sizeof(jump *));
}
