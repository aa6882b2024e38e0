/* path.c - see path.h. */
#include "base/path.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool path_is_address(const char *path)
{
    static const char scheme[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-";
    const size_t n = strspn(path, scheme);

    return n > 0 && strncmp(path + n, "://", 3) == 0;
}

bool path_check(const char *path, struct err *e)
{
    if (path[0] == '~' && (path[1] == '/' || path[1] == '\0'))
        return err_set(e, "begins with ~, which only a shell knows: write out what it stands for");
    if (strncmp(path, "file://", 7) == 0) return err_set(e, "is an address: give the path alone");
    return !path_is_address(path) ||
           err_set(e, "is an address: nothing is downloaded; fetch it and give its path");
}

/* The deepest directory of a path that is there; -1: none is. */
static int open_deepest(const char *path)
{
    char at[4096];
    int fd = -1;

    if (snprintf(at, sizeof at, "%s", *path ? path : ".") >= (int)sizeof at) return -1;
    while ((fd = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0) {
        char *slash = strrchr(at, '/');
        if (strcmp(at, "/") == 0 || strcmp(at, ".") == 0) break;
        if (!slash)
            snprintf(at, sizeof at, ".");
        else
            slash[slash == at] = '\0';
    }
    return fd;
}

bool path_within(const char *path, const char *dir)
{
    struct stat want, here, before = {0};
    int fd, above;
    bool within = false;

    if (stat(dir, &want) != 0) return false;
    fd = open_deepest(path);
    while (fd >= 0 && fstat(fd, &here) == 0) {
        within = here.st_dev == want.st_dev && here.st_ino == want.st_ino;
        if (within || (here.st_dev == before.st_dev && here.st_ino == before.st_ino)) break;
        before = here; /* above the root there is the root */
        above = openat(fd, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(fd);
        fd = above;
    }
    if (fd >= 0) close(fd);
    return within;
}
