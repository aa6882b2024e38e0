/* import.h - mha2mla-data import: questions of published benchmarks, from their original files or
 * from the rows of datasets/parquet.py, as evaluation samples (docs/data.md).
 * Internal to import*.c:
 *
 *   import.c         the command
 *   import_read.c    files as records: objects of JSON lists, maps and lines, rows of tables
 *   import_fields.c  what records have in common: texts, options, pictures
 *   import_tasks.c   a row for each benchmark, and a function: what a record asks
 *   import_options.c the same, of questions with options
 *   import_choices.c the same, of those that are scored by likelihood, and their samples
 *   import_join.c    answers in a file of their own, found by the question's id
 *   import_check.c   what a set must be to be scored: ids, labels, pairs, turned rows
 *   import_write.c   questions as samples, and pictures out of tables
 *
 * A benchmark's prompt is lmms-eval's `default` and is written into the sample. */
#ifndef DATASETS_IMPORT_H
#define DATASETS_IMPORT_H

#include "base/json/jsonc.h"
#include "base/text.h"
#include "datasets/aside.h"

#include <stdint.h>

enum { IMPORT_CHOICES = 26, IMPORT_CATEGORIES = 2, IMPORT_PICTURES = 7 };

/* What a record asks. Texts are borrowed: from the record, or from import_text's memory. */
struct question {
    const char *id;                        /* of the set's own; the sample's id is TASK/id */
    const char *prompt;                    /* whole, without the pictures' marks */
    const char *answer;                    /* NULL: it is not there */
    const cJSON *answers;                  /* a list of strings, if several are accepted */
    const char *picture;                   /* below --images; NULL: none, or it is in the table */
    const char *more[IMPORT_PICTURES - 1]; /* further pictures, up to NULL */
    struct text inside; /* a picture's bytes in base64, or the id of the row that has it; s NULL:
                            * none */
    const char *choice[IMPORT_CHOICES]; /* NULL: missing. With options the answer is a letter */
    int choices;
    const char *category[IMPORT_CATEGORIES]; /* NULL: none */
    const char *group;
};

/* Why a record makes no sample. */
enum import_skip { SKIP_PICTURE, SKIP_VIDEO, SKIP_SPLIT, SKIP_OPEN, SKIPS };

struct import_task;

/* An import under way. */
struct import {
    const struct import_task *task;
    const char *out, *images, *split; /* images NULL: the first file's directory; split NULL: all */
    bool images_given;                /* --images was */
    struct aside aside;
    struct file_out list;
    int64_t records, written, skipped[SKIPS];
    int64_t letters;        /* ai2d's questions about drawn letters */
    int64_t few_rows;       /* mmbench's questions with fewer rows than options */
    bool beside, inside;    /* some picture lies below --images, was in a table */
    bool parts;             /* some record names its part */
    char first[SKIPS][512]; /* what the first of each was */
    char **texts;           /* [n_texts] made for the current record */
    size_t n_texts, cap_texts;
    struct pictures_seen *seen;   /* import_write.c: pictures out of the table */
    struct import_checks *checks; /* import_check.c */
    struct import_joined *joined; /* import_join.c; NULL: nothing is joined */
    struct err *e;
};

/* One record, and where it is from. */
struct record {
    const struct jsonc *doc; /* of `o`; NULL: a row of a table */
    const cJSON *o;
    const char *key;  /* of a map; NULL */
    const char *file; /* its path */
    int64_t line;     /* of the record; 0: not known */
};

enum import_form {
    IMPORT_JSON,  /* a list, or an object a line */
    IMPORT_MAP,   /* an object of objects */
    IMPORT_WHOLE, /* an object that is one record */
    IMPORT_TABLE, /* rows with names (tsv.h) */
    IMPORT_PLAIN  /* rows of picture, question, answer without names */
};

struct import_task {
    const char *name, *metric;
    enum import_form form; /* of its original files; those that end in .jsonl are JSON */
    const char *list;  /* with IMPORT_JSON: the member that has the list; NULL: the whole file */
    int64_t max_new;   /* tokens to allow an answer; 0: it is scored by likelihood */
    int64_t published; /* questions of the published set; 0: not known */
    const char *split; /* taken if none is named; NULL: all that is there */
    bool (*take)(struct import *im, const struct record *r); /* calls import_question */
    const char *files;                                       /* for the help: what it reads */
    bool text;                                               /* some questions have no picture */
    const char *join; /* the member with the list of another file's answers; NULL: none */
};
extern const struct import_task import_tasks[]; /* up to one without a name */
const struct import_task *import_task_find(const char *name);

/* ---- for the tasks ---- */

/* A member as text: the first of the names ("question|text") that is there; a number as it is
 * spelled. NULL: none, or null. *im->e is set where one is neither. */
const char *import_member(struct import *im, const struct record *r, const char *names);
/* Formats a text that lives as long as the record; NULL: out of memory. */
const char *import_text(struct import *im, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* "FILE:LINE: message", and false. */
bool import_fail(struct import *im, const struct record *r, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Counts a record that makes no sample; true. */
bool import_skip(struct import *im, enum import_skip why, const char *what);
/* Writes the sample of a question. */
bool import_question(struct import *im, const struct record *r, const struct question *q);

/* ---- fields (import_fields.c); texts as import_text's ---- */

/* What the benchmarks' prompts end with. */
#define IMPORT_ASK_LETTER "\nAnswer with the option's letter from the given choices directly."
#define IMPORT_ASK_WORD "\nAnswer the question using a single word or phrase."

const cJSON *field(const struct record *r, const char *name);
/* A picture's path: "image", a string or the first of a list; else the first of the names, and the
 * ending that it lacks. */
const char *field_picture(struct import *im, const struct record *r, const char *names,
                          const char *end);
/* Options from a list of strings, or from a string that spells such a list, as Python or JSON
 * does. */
bool field_choices(struct import *im, const struct record *r, const cJSON *list,
                   struct question *q);
/* The answer by an option's number, which begins at 0; none: it is not there. */
bool field_number(struct import *im, const struct record *r, const char *names, struct question *q);
/* "QUESTION\nA. one\nB. two": missing options are left out. */
const char *text_with_choices(struct import *im, const char *question, const struct question *q);
const char *text_stripped(struct import *im, const char *s); /* of white space at the ends */
/* As Python's str.capitalize: the first character in title case, all others lower; NULL of NULL. */
const char *text_capitalized(struct import *im, const char *s);
const char *path_base(const char *path); /* its last part */

/* import_options.c */
bool import_ai2d(struct import *im, const struct record *r);
bool import_seedbench(struct import *im, const struct record *r);
bool import_mmbench(struct import *im, const struct record *r);
bool import_scienceqa(struct import *im, const struct record *r);
bool import_mmmu(struct import *im, const struct record *r);

/* import_choices.c: contexts and choices, as lm-evaluation-harness 0.4.13 has them. */
bool import_hellaswag(struct import *im, const struct record *r);
bool import_arc(struct import *im, const struct record *r);
bool import_piqa(struct import *im, const struct record *r);
bool import_openbookqa(struct import *im, const struct record *r);
bool import_winogrande(struct import *im, const struct record *r);
bool import_mmlu(struct import *im, const struct record *r);

/* ---- the rest ---- */

/* Takes all records of a file. */
bool import_read(struct import *im, const char *path);

/* Looks through the files for those with answers (the task's `join`), before any is read. */
bool import_join_open(struct import *im, char *const *files, int n);
/* Whether the file is one of them, which has no questions. */
bool import_join_has(const struct import *im, const char *path);
/* The object of a question's id, in *doc, which the caller closes; *found false: there is none. */
bool import_join_find(struct import *im, const char *id, struct jsonc *doc, bool *found);
int64_t import_join_unused(const struct import *im); /* objects that no question asked for */
void import_join_close(struct import *im);           /* fine without */

/* Whether it is an id, and no other question before has it, which is noted. */
bool import_check_id(struct import *im, const struct record *r, const char *id);
/* Whether a question is one that can be scored, and its id. */
bool import_check(struct import *im, const struct record *r, const struct question *q);
/* Notes a question that is written. */
bool import_check_written(struct import *im, const struct record *r, const struct question *q);
/* Whether all that counts together is there; sets few_rows. */
bool import_check_set(struct import *im);
bool import_check_known(const struct import *im, const char *id); /* whether one has that id */
void import_check_close(struct import *im);                       /* fine without */

bool import_write_open(struct import *im);
/* Gives the set its name, if it has a question and every picture that a row refers to is there;
 * file: the first, for messages. */
bool import_write_close(struct import *im, const char *file);
void import_write_abort(struct import *im); /* frees all; fine on a zeroed one */
void import_texts_free(struct import *im);

#endif
