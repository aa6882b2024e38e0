/* printed.h - what a part of a test prints to stdout. Comes after tmpdir.h.
 *     int was = printed_begin(state);
 *     ... log_line(...) ...
 *     char *text = printed_end(state, was); // the caller frees it */
#ifndef TESTS_PRINTED_H
#define TESTS_PRINTED_H

#include <fcntl.h>

static inline int printed_begin(void *const *state)
{
    int was, fd;

    fflush(stdout);
    was = dup(STDOUT_FILENO);
    fd = open(tmpdir_path(state, "out.txt"), O_CREAT | O_TRUNC | O_WRONLY, 0666);
    assert_true(was >= 0 && fd >= 0);
    dup2(fd, STDOUT_FILENO);
    close(fd);
    return was;
}

static inline char *printed_end(void *const *state, int was)
{
    fflush(stdout);
    dup2(was, STDOUT_FILENO);
    close(was);
    return slurp(tmpdir_path(state, "out.txt"), NULL);
}

#endif
