/* path.h - what people and data sets give as a path, and what is none. */
#ifndef BASE_PATH_H
#define BASE_PATH_H

#include "base/err.h"

/* Whether it begins with a scheme, as "https://" and "s3://" do. */
bool path_is_address(const char *path);

/* Fails for an address, and for a ~ that no shell has replaced: a directory of that name would be
 * made. The message follows the path: "begins with ~, ...". */
bool path_check(const char *path, struct err *e);

/* Whether a path, whose last parts need not be there, is a directory or lies below it, links
 * resolved. False where that cannot be told. */
bool path_within(const char *path, const char *dir);

#endif
