/* path.c - see path.h. */
#include "base/path.h"

#include <string.h>

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
