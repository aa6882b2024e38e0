/* filekind.h - tells by content what a file really is where its name says otherwise: a picture or
 * weight file is often a Git LFS pointer, a saved web page, or an archive. */
#ifndef BASE_FILEKIND_H
#define BASE_FILEKIND_H

#include "base/err.h"

#include <stddef.h>

/* "a Git LFS pointer: fetch the file itself with `git lfs pull`", "a GIF picture" and so on, from
 * the first n bytes; "empty" for n = 0. NULL if the bytes say nothing: text, JSON. */
const char *file_kind(const void *data, size_t n);

/* Refuses a text (JSON) file whose content is something else: "PATH: is a ...". Passes if file_kind
 * says nothing. */
bool file_kind_check(const char *path, const void *data, size_t n, struct err *e);

/* Sets "is not a FORM", or "is ..." for a file that is not a `form` ("safetensors file"), and
 * returns false. Says what the file is or how its text begins (servers send "Entry not found" and
 * the like instead of a file). The message does not name the file. */
bool file_kind_refuse(const void *data, size_t n, const char *form, struct err *e);

#endif
