/* limits.h - what `ulimit` leaves the process: stack, addresses, memory of its own. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include "base/err.h"

#include <stddef.h>

/* What a thread's stack is to have at least: the deepest calls here and in the libraries take less
 * than 200 KiB. */
enum { LIMITS_STACK = 512 << 10 };

/* Whether `ulimit -s` leaves that. To be called first of all: without it the program would end by a
 * segmentation fault. */
bool limits_stack(struct err *e);

/* Whether that many bytes more can be mapped; else the error says what they are for ("its buffers
 * take": a subject and a verb). Nothing stays mapped. */
bool limits_addresses(size_t bytes, const char *what, struct err *e);

/* The bytes of its own (heap and the like, not mapped files) that a process may have which has
 * `held` of them now; SIZE_MAX where there is no limit. */
size_t limits_memory(size_t held);

/* The bytes that this process may have of addresses or of data, the smaller number; SIZE_MAX if
 * neither is limited. */
size_t limits_least(void);

/* Adds to an error about memory that this process may have less than the machine has, if that is
 * so: nothing else leads there. */
void limits_name(struct err *e);

#endif
