/* cpu.c - see cpu.h. */
#include "base/cpu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void jump(void);

/* Of base/cpu.awk, where there are levels: [levels] tables of `count` functions, lowest level first,
 * and the table that is used. */
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

static bool has_level(const char *name)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (strcmp(name, "x86-64-v2") == 0) return __builtin_cpu_supports("x86-64-v2");
    if (strcmp(name, "x86-64-v3") == 0) return __builtin_cpu_supports("x86-64-v3");
    if (strcmp(name, "x86-64-v4") == 0) return __builtin_cpu_supports("x86-64-v4");
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
    const char *forced = getenv("MHA2MLA_CPU");
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
