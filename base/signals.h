/* signals.h - stopping a run from outside, and what signal handlers may do in this program.
 *
 * The rule: no handler may write to the stack of a thread that computes. oneDNN's fp32 kernels
 * (2.6.3: jit_avx512_common_gemm_f32 for K > 84, jit_avx_gemm_f32 for K > 252; fixed in 3.11.2)
 * point the stack pointer into a heap buffer while they run, so the frame of a handler that arrives
 * then would overwrite the heap. Hence asynchronous signals are blocked in every thread that
 * computes, and a dedicated thread waits for them; a handler for synchronous signals (SIGBUS, see
 * watch.h) runs on the thread's own signal stack. */
#ifndef BASE_SIGNALS_H
#define BASE_SIGNALS_H

#include "base/err.h"

#include <spawn.h>

/* From now on SIGINT, SIGTERM and SIGHUP ask the run to stop instead of ending the process, and so
 * do SIGUSR1, SIGUSR2 and SIGXCPU, with which batch systems and limits warn, and a broken pipe
 * behind stdout. Signals ignored when the process began (nohup) stay ignored. SIGXFSZ is ignored:
 * exceeding the file size limit becomes a write error. main calls this once, before it creates
 * threads: all threads created later inherit the mask. */
bool signals_open(struct err *e);

/* The signal that asked the run to stop, the first if there were several; 0 if none. Costs one
 * load; any thread may call it, as often as it likes. */
int signals_came(void);

/* For a program that finishes what it has begun: signals_came, and with it all that computes, sees
 * a signal only so many seconds after it, signals_asked at once. Called before signals_open. */
void signals_patience(double seconds);
int signals_asked(void);

/* True: continue. False: a signal has asked the run to stop, and *e says so. */
bool signals_go_on(struct err *e);

/* Forgets a SIGINT that came, in a program that goes on after it: the next is a first one again. */
void signals_forget(void);
/* Of a program that cannot be resumed: no message offers that. Called before signals_open. */
void signals_no_resume(void);

/* "SIGINT"; "a signal" for one not known here. */
const char *signals_name(int sig);

/* Another process of the run was asked to stop by `sig`, and so this one is, unless it was already.
 */
void signals_note(int sig);

/* Called by the log on a broken pipe behind stdout: treated as if SIGPIPE had arrived. */
void signals_pipe_broke(void);

/* Gives a child process the signal mask and dispositions that this process began with. Returns 0 or
 * an error number. */
int signals_for_child(posix_spawnattr_t *attr);

/* Gives the calling thread a signal stack, unless it has one. Call before code that repurposes the
 * stack pointer; a repeated call costs one load. */
void signals_own_stack(void);

#endif
