/* full_disk.h - simulates a full disk by limiting the file size. Include after cmocka's headers. */
#ifndef TESTS_FULL_DISK_H
#define TESTS_FULL_DISK_H

#include "tests/sanitized.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

static inline void limit_files(rlim_t bytes)
{
    struct rlimit r;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &r);
    r.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &r);
}

/* Runs child(path, room) in a separate process, which calls limit_files(room) around its writes and
 * returns 0 if everything was as expected. It must also survive what libraries do at exit. */
static inline void full_disk_try(const char *path, rlim_t room,
                                 int (*child)(const char *path, rlim_t room))
{
    pid_t pid;
    int status;

    if (THREAD_SANITIZED) skip();
    pid = fork();
    if (pid == 0) exit(child(path, room));
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0) fail_msg("room for %lld bytes: status %d", (long long)room, status);
}

#endif
