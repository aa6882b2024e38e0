/* guard.c - see guard.h. */
#include "serve/guard.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define BLANKS " \t" /* may follow a header's value, and are none of it */

/* Whether the host is that name, with a port or without; an IPv6 address stands in brackets. */
static bool is_name(const char *host, const char *name)
{
    const bool bare = strchr(name, ':') && *name != '[';
    const size_t n = strlen(name);

    if (bare && *host++ != '[') return false;
    if (strncasecmp(host, name, n) != 0) return false;
    host += n;
    if (bare && *host++ != ']') return false;
    if (*host == ':') host += 1 + strspn(host + 1, "0123456789");
    return !host[strspn(host, BLANKS)];
}

bool guard_host(const char *host, const char *const *names, size_t n)
{
    static const char *const own[] = {"localhost", "127.0.0.1", "::1"};

    for (size_t i = 0; host && i < sizeof own / sizeof *own; i++)
        if (is_name(host, own[i])) return true;
    for (size_t i = 0; host && i < n; i++)
        if (is_name(host, names[i])) return true;
    return false;
}

bool guard_json(const char *type)
{
    static const char json[] = "application/json";
    const size_t n = sizeof json - 1;

    if (!type || strncasecmp(type, json, n) != 0) return false;
    type += n + strspn(type + n, BLANKS);
    return !*type || *type == ';';
}

bool guard_key(const char *authorization, const char *key)
{
    static const char bearer[] = "Bearer ";
    struct sha256 sum;
    char given[65], wanted[65];
    unsigned differ = 0;
    size_t n;

    if (!authorization || strncasecmp(authorization, bearer, sizeof bearer - 1) != 0) return false;
    authorization += sizeof bearer - 1;
    n = strlen(authorization);
    while (n > 0 && strchr(BLANKS, authorization[n - 1]))
        n--;
    sha256_init(&sum); /* of equal length, whatever the key's */
    sha256_add(&sum, authorization, n);
    sha256_hex(&sum, given);
    sha256_init(&sum);
    sha256_add(&sum, key, strlen(key));
    sha256_hex(&sum, wanted);
    for (size_t i = 0; i < sizeof given; i++)
        differ |= (unsigned)(given[i] ^ wanted[i]);
    return differ == 0;
}

bool guard_read_key(const char *path, char **key, struct err *e)
{
    enum { SHORTEST = 16, LONGEST = 512 };
    struct stat st;
    size_t n;

    *key = NULL;
    if (!file_read(path, LONGEST + 2, key, &n, e)) return false;
    while (n > 0 && ((*key)[n - 1] == '\n' || (*key)[n - 1] == '\r'))
        (*key)[--n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (!isgraph((unsigned char)(*key)[i])) n = 0;
    if (n < SHORTEST || n > LONGEST) {
        free(*key);
        *key = NULL;
        return err_set(e, "%s: a key is one line of %d to %d printable characters without blanks",
                       path, SHORTEST, LONGEST);
    }
    if (stat(path, &st) == 0 && st.st_mode & (S_IRGRP | S_IROTH))
        log_line("%s: others may read the key: chmod 600 it", path);
    return true;
}
