/* cpu.h - which processor's instructions the numeric rooms use. They are compiled once for each
 * level of x86-64 (v2: SSE4.2; v3: AVX2, FMA; v4: AVX-512), and at start the highest level that
 * this CPU has is chosen, so that a program built on one machine runs on another at full speed.
 *
 * The Makefile renames the functions of a level, op_linear to op_linear.x86-64-v3, and base/cpu.awk
 * writes a jump under the plain name, through a slot of a table. Built with ARCH= set, or for
 * another processor, there is one level and no table.
 *
 * MHA2MLA_CPU=x86-64-v3 in the environment forces a level: for tests, and to repeat on one machine
 * the bits that another one computed, since levels round differently. */
#ifndef BASE_CPU_H
#define BASE_CPU_H

/* The level in use, for the log; "as built" if there is only one. */
const char *cpu_level(void);

#endif
