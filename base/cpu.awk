# cpu.awk - awk -v levels="x86-64-v2 x86-64-v3" -f cpu.awk: reads names of functions, one a line, and writes
# assembly: for each a jump through its slot, and the tables that base/cpu.c chooses from.
{ name[n++] = $1 }
END {
    count = split(levels, level, " ")
    print "\t.text"
    for (i = 0; i < n; i++)
        printf "\t.globl %s\n\t.type %s, @function\n%s:\n\tjmp *slots+%d(%%rip)\n\t.size %s, .-%s\n", \
               name[i], name[i], name[i], 8 * i, name[i], name[i]
    for (k = 1; k <= count; k++) {
        printf "\t.section .rodata\nname%d:\n\t.string \"%s\"\n", k, level[k]
        printf "\t.section .data.rel.ro, \"aw\"\n\t.balign 8\ntable%d:\n", k
        for (i = 0; i < n; i++) printf "\t.quad \"%s.%s\"\n", name[i], level[k]
    }
    printf "\t.globl cpu_levels\ncpu_levels:\n\t.quad %d, %d, slots\n", n, count
    for (k = 1; k <= count; k++) printf "\t.quad name%d, table%d\n", k, k
    printf "\t.local slots\n\t.comm slots, %d, 8\n", 8 * n
    print "\t.section .init_array.00101, \"aw\"\n\t.balign 8\n\t.quad cpu_choose"
    print "\t.section .note.GNU-stack, \"\", @progbits"
}
