/* place.c - see place.h. Device and inode of a directory that is held open do not change, on
 * network file systems neither. */
#include "base/place.h"
#include "base/mem.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct {
    char *path; /* NULL: none */
    int fd;
} held;

bool place_hold(const char *path, int fd, struct err *e)
{
    place_leave();
    held.path = mem_strdup(path, e);
    held.fd = fd;
    if (!held.path) close(fd);
    return held.path;
}

bool place_check(struct err *e)
{
    struct stat was, now;
    bool there;

    if (!held.path) return true;
    if (fstat(held.fd, &was) != 0) return err_system(e, errno, "%s", held.path);
    there = stat(held.path, &now) == 0;
    if (!there && errno != ENOENT && errno != ENOTDIR) return err_system(e, errno, "%s", held.path);
    if (there && was.st_dev == now.st_dev && was.st_ino == now.st_ino) return true;
    return err_set(e,
                   "%s: was %s while the run worked in it: put it back as it was, then go on with "
                   "--resume",
                   held.path, was.st_nlink ? "renamed" : "deleted");
}

void place_leave(void)
{
    if (!held.path) return;
    close(held.fd);
    free(held.path);
    held.path = NULL;
}
