/* answers_parts.h - internal to answers*.c:
 *   answers.c       a file of answers, each scored
 *   answers_keys.c  the objects of a file; the scoring of a data set's samples, by id
 *   answers_pair.c  answers to the same question, in one file and in two */
#ifndef DATA_ANSWERS_PARTS_H
#define DATA_ANSWERS_PARTS_H

#include "data/answers.h"

/* An object of a file. */
struct answers_place {
    const char *path, *json;
    size_t len;
    int64_t line, col;
};
typedef bool answers_visit(void *arg, const struct answers_place *at, struct err *e);

/* All objects of a JSON list, or of a file with one a line; fails if there are none. */
bool answers_each(const char *path, answers_visit *visit, void *arg, struct err *e);

/* The key with an id, or with a question's id; -1: there is none, or more than one, as *fault then
 * says ("... is FAULT"). */
int64_t answers_key_find(const struct answers_keys *k, struct text id, const char **fault);

/* Fills nth of all, again and first_again. */
bool answers_number(struct answers *a, struct err *e);

#endif
