/* signals.h - stopping a run from outside, and what signal handlers may do in this program.
 *
 * The rule: no handler writes on the stack of a thread that computes. oneDNN's fp32 kernels (2.6.3:
 * jit_avx512_common_gemm_f32 for K > 84, jit_avx_gemm_f32 for K > 252; mended in 3.11.2) point the
 * stack pointer into a heap buffer while they run, and the frame of a handler that came then would
 * be written over the heap. So the signals that can come at any time are blocked in every thread
 * that computes, and a thread of its own waits for them; a handler for what a thread does to itself
 * (SIGBUS, see watch.h) runs on the thread's own signal stack. */
#ifndef BASE_SIGNALS_H
#define BASE_SIGNALS_H

#include "base/err.h"

#include <spawn.h>

/* From now on SIGINT, SIGTERM and SIGHUP ask the run to stop instead of ending the process, and so
 * do SIGUSR1, SIGUSR2 and SIGXCPU, by which batch systems and limits warn, and a reader of stdout
 * that is gone. One that was ignored when the process began (nohup) stays ignored. SIGXFSZ is
 * ignored: a limit on the size of files is an error of the write. To be called by main before there
 * are other threads than the libraries' own: all threads made later inherit what is blocked. Once,
 * for the life of the process. */
bool signals_open(struct err *e);

/* The signal that asked the run to stop, the first of several; 0: none. Costs a load; any thread
 * may ask, as often as it likes. */
int signals_came(void);

/* True: go on. False: a signal asks the run to stop, and *e says so. */
bool signals_go_on(struct err *e);

/* "SIGINT"; for one that is not known here "a signal". */
const char *signals_name(int sig);

/* What a broken pipe behind stdout is to the run, whose log found it: as if SIGPIPE had come. */
void signals_pipe_broke(void);

/* Gives a child the signals as the process had them when it began. 0, or an error number. */
int signals_for_child(posix_spawnattr_t *attr);

/* Gives the calling thread a stack for its handlers, unless it has one. Called where a stack
 * pointer is about to be borrowed; a repeated call costs a load. */
void signals_own_stack(void);

#endif
