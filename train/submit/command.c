/* command.c - see command.h. Standard output comes through a pipe and standard error through an
 * unnamed file, so that neither can block the other. */
#include "train/submit/command.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OUTPUT_LIMIT = 16 << 20 };

bool command_there(const char *name)
{
    const char *path = getenv("PATH");

    for (const char *at = path ? path : ""; *at;) {
        const size_t n = strcspn(at, ":");
        char file[4096];
        snprintf(file, sizeof file, "%.*s/%s", (int)n, at, name);
        if (n && access(file, X_OK) == 0) return true;
        at += n + (at[n] == ':');
    }
    return false;
}

void command_free(struct command_output *out)
{
    free(out->text);
    *out = (struct command_output){0};
}

/* Slurm's own locale and colours have no say in what is read here. */
static bool spawn(const char *const *argv, int out, int errors, pid_t *pid, struct err *e)
{
    posix_spawn_file_actions_t actions;
    int rc = posix_spawn_file_actions_init(&actions);

    if (rc != 0) return err_set(e, "out of memory for %s", argv[0]);
    rc = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (rc == 0) rc = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (rc == 0) rc = posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
    /* the strings are not written to: posix_spawn's type is older than const */
    if (rc == 0) rc = posix_spawnp(pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc == 0) return true;
    if (rc == ENOENT)
        err_set(e,
                "%s: is not in PATH: on this machine there is no Slurm, or its module is yet to "
                "be loaded",
                argv[0]);
    else
        err_system(e, rc, "%s cannot be run", argv[0]);
    e->number = rc;
    return false;
}

static bool read_all(int fd, char **text, struct err *e)
{
    size_t used = 0, cap = 0;
    ssize_t n = 1;

    while (n > 0 && used < OUTPUT_LIMIT) {
        if (!mem_grow(text, &cap, used + 4096, 1, e)) return false;
        n = read(fd, *text + used, 4095);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            used += (size_t)n;
        (*text)[used] = '\0';
    }
    return n >= 0 || err_system(e, errno, "its output cannot be read");
}

/* Its lines without the "sbatch: error: " before them, as one. */
static void read_why(int fd, const char *program, char *why, size_t size)
{
    char text[4096], prefix[80];
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    size_t used = 0;

    why[0] = '\0';
    text[n > 0 ? n : 0] = '\0';
    snprintf(prefix, sizeof prefix, "%s: ", program);
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && used + 3 < size;) {
        if (strncmp(line, prefix, strlen(prefix)) == 0) line += strlen(prefix);
        if (strncmp(line, "error: ", 7) == 0) line += 7;
        if (!*line) continue;
        used += (size_t)snprintf(why + used, size - used, "%s%s", used ? "; " : "", line);
    }
}

bool command_run(const char *const *argv, struct command_output *out, struct err *e)
{
    int errors = memfd_create(argv[0], MFD_CLOEXEC), ends[2] = {-1, -1}, status = 0;
    pid_t pid = 0;
    bool ok;

    *out = (struct command_output){0};
    ok = (errors >= 0 && pipe2(ends, O_CLOEXEC) == 0) || err_system(e, errno, "%s", argv[0]);
    ok = ok && spawn(argv, ends[1], errors, &pid, e);
    if (ends[1] >= 0) close(ends[1]);
    if (ok) {
        ok = read_all(ends[0], &out->text, e) || err_context(e, "%s", argv[0]);
        close(ends[0]); /* before waiting: it could wait for us to read on */
        ends[0] = -1;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        out->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        read_why(errors, argv[0], out->why, sizeof out->why);
    }
    if (ends[0] >= 0) close(ends[0]);
    if (errors >= 0) close(errors);
    if (!ok) command_free(out);
    return ok;
}

bool command_must(const char *const *argv, struct command_output *out, struct err *e)
{
    if (!command_run(argv, out, e)) return false;
    if (out->status == 0) return true;
    if (out->why[0])
        err_set(e, "%s: %s", argv[0], out->why);
    else
        err_set(e, "%s: ended with status %d", argv[0], out->status);
    command_free(out);
    return false;
}
