/* signals.c - one thread waits for the signals that all others block.
 *
 * Threads that a library created before main (OpenBLAS's) do not inherit the mask, and the kernel
 * may deliver a signal to one of them: hence the same function is also installed as the handler. It
 * touches nothing but atomics. */
#include "base/signals.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A SIGINT after another signal, or a second SIGTERM, ends the program at once: somebody is
 * waiting. Except within a second of the first signal, because one Ctrl-C or one lost connection
 * often delivers several signals (from the terminal and from a shell, a batch system or mpirun). A
 * SIGTERM after another signal is what a batch system sends some time after its warning. */
static const long long impatient = 1000000000; /* ns */

static const struct {
    int number;
    const char *name;
} asking[] = {{SIGINT, "SIGINT"},   {SIGTERM, "SIGTERM"}, {SIGHUP, "SIGHUP"},  {SIGPIPE, "SIGPIPE"},
              {SIGUSR1, "SIGUSR1"}, {SIGUSR2, "SIGUSR2"}, {SIGXCPU, "SIGXCPU"}};
enum { ASKING = sizeof asking / sizeof *asking };

static struct {
    bool open, no_resume;
    sigset_t before;                /* mask when the process began */
    sigset_t waited;                /* what the thread waits for */
    sigset_t changed;               /* those whose disposition we changed */
    atomic_llong since, since_term; /* ns, of the first signal and of the first SIGTERM */
    long long patience;             /* ns in which signals_came does not see one */
    atomic_int came;
} state;

static void end_at_once(int sig)
{
#define ENDED(name, rest) "\nended at once by a second " name rest "\n"
#define RESUME "; --resume continues from the last checkpoint"
    static const char *const texts[2][2] = {{ENDED("SIGTERM", RESUME), ENDED("SIGINT", RESUME)},
                                            {ENDED("SIGTERM", ""), ENDED("SIGINT", "")}};
#undef ENDED
#undef RESUME
    const char *text = texts[state.no_resume][sig == SIGINT];

    if (write(STDERR_FILENO, text, strlen(text)) < 0) { /* nothing more can be done */
    }
    _exit(128 + sig);
}

static long long clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void note(int sig)
{
    const long long at = clock_ns();
    long long first = 0, term = 0;

    if (atomic_compare_exchange_strong(&state.since, &first, at)) {
        atomic_store(&state.came, sig);
        first = at;
    }
    if (sig == SIGTERM && atomic_compare_exchange_strong(&state.since_term, &term, at)) term = at;
    if ((sig == SIGINT && at - first >= impatient) || (sig == SIGTERM && at - term >= impatient))
        end_at_once(sig);
}

void signals_note(int sig)
{
    long long first = 0;

    if (atomic_compare_exchange_strong(&state.since, &first, clock_ns()))
        atomic_store(&state.came, sig);
}

static void *wait_for_signals(void *unused)
{
    int sig;

    for (;;)
        if (sigwait(&state.waited, &sig) == 0) note(sig);
    return unused;
}

/* Installs a handler unless the signal is ignored. */
static bool take(int sig, void (*handler)(int))
{
    struct sigaction a = {.sa_handler = handler, .sa_flags = SA_RESTART}, was;

    if (sigaction(sig, NULL, &was) != 0 || was.sa_handler == SIG_IGN) return false;
    sigaction(sig, &a, NULL);
    sigaddset(&state.changed, sig);
    return true;
}

bool signals_open(struct err *e)
{
    pthread_t thread;
    int rc;

    CHECK(!state.open);
    sigemptyset(&state.waited);
    sigemptyset(&state.changed);
    for (int i = 0; i < ASKING; i++) {
        bool pipe = asking[i].number == SIGPIPE; /* delivered to the writing thread: see log.c */
        if (take(asking[i].number, pipe ? SIG_IGN : note) && !pipe)
            sigaddset(&state.waited, asking[i].number);
    }
    take(SIGXFSZ, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &state.waited, &state.before);
    rc = pthread_create(&thread, NULL, wait_for_signals, NULL);
    if (rc != 0) return err_system(e, rc, "no thread can be made");
    pthread_detach(thread);
    state.open = true;
    return true;
}

int signals_asked(void)
{
    return atomic_load_explicit(&state.came, memory_order_relaxed);
}

int signals_came(void)
{
    const int sig = signals_asked();

    return sig && state.patience && clock_ns() - atomic_load(&state.since) < state.patience ? 0
                                                                                            : sig;
}

void signals_patience(double seconds)
{
    state.patience = (long long)(seconds * 1e9);
}

void signals_forget(void)
{
    int sig = SIGINT;

    if (atomic_compare_exchange_strong(&state.came, &sig, 0)) atomic_store(&state.since, 0);
}

void signals_no_resume(void)
{
    state.no_resume = true;
}

const char *signals_name(int sig)
{
    for (int i = 0; i < ASKING; i++)
        if (asking[i].number == sig) return asking[i].name;
    return "a signal";
}

bool signals_go_on(struct err *e)
{
    int sig = signals_came();

    return !sig || err_set(e, "stopped by %s%s", signals_name(sig),
                           state.no_resume ? "" : "; continue with --resume");
}

void signals_pipe_broke(void)
{
    if (state.open && sigismember(&state.changed, SIGPIPE)) note(SIGPIPE);
}

int signals_for_child(posix_spawnattr_t *attr)
{
    int rc;

    if (!state.open) return 0;
    rc = posix_spawnattr_setsigmask(attr, &state.before);
    if (rc == 0) rc = posix_spawnattr_setsigdefault(attr, &state.changed);
    if (rc == 0)
        rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return rc;
}

/* In thread-local storage, so it is freed with the thread. The kernel's frame takes 3 KB with
 * AVX-512 and 11 KB with AMX. */
enum { STACK = 32 << 10 };
static _Thread_local struct {
    bool asked;
    _Alignas(64) char bytes[STACK];
} own;

void signals_own_stack(void)
{
    stack_t stack = {.ss_sp = own.bytes, .ss_size = STACK}, was;

    if (own.asked) return;
    own.asked = true;
    /* The address sanitizer has already given each thread a stack, and would
     * unmap ours at its end. */
    if (sigaltstack(NULL, &was) == 0 && was.ss_flags & SS_DISABLE) sigaltstack(&stack, NULL);
}
