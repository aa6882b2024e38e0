/* guard.h - what a request's headers must say before anything of it is read. */
#ifndef SERVE_GUARD_H
#define SERVE_GUARD_H

#include "base/err.h"

#include <stddef.h>

/* Whether a Host header (NULL: there is none) names this server: localhost, 127.0.0.1, [::1] or one
 * of the names, in any case, with a port or without. A page of another site that has its own name
 * point here (DNS rebinding) names another. */
bool guard_host(const char *host, const char *const *names, size_t n);

/* Whether a Content-Type is application/json, which a form of another site's page cannot send. */
bool guard_json(const char *type);

/* Whether an Authorization header has the key, "Bearer KEY": in a time that does not depend on how
 * much of it is right. */
bool guard_key(const char *authorization, const char *key);

/* Reads a key from a file: one line of 16 to 512 printable characters without
 * blanks. In new memory. */
bool guard_read_key(const char *path, char **key, struct err *e);

#endif
