/* filekind.h - what a file is that is not what its name says, by its content: a picture or a weight
 * file is often a Git LFS pointer, a saved web page, or an archive. */
#ifndef BASE_FILEKIND_H
#define BASE_FILEKIND_H

#include "base/err.h"

#include <stddef.h>

/* "a Git LFS pointer: fetch the file itself with `git lfs pull`", "a GIF picture" and the like, by
 * the first bytes of n; "empty" for n = 0. NULL where the bytes say nothing: text, JSON. */
const char *file_kind(const void *data, size_t n);

/* Refuses a text (JSON) that is something else by its content: "PATH: is a ...". Fine where
 * file_kind says nothing. */
bool file_kind_check(const char *path, const void *data, size_t n, struct err *e);

/* "is a ..., and no FORM" about a file that is no `form` ("safetensors file"), and false: what it
 * is, or how its text begins (servers send "Entry not found" and the like in place of a file). The
 * message does not name the file. */
bool file_kind_refuse(const void *data, size_t n, const char *form, struct err *e);

#endif
