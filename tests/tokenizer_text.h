/* tokenizer_text.h - a tokenizer from text. Include cmocka's headers first. */
#ifndef TESTS_TOKENIZER_TEXT_H
#define TESTS_TOKENIZER_TEXT_H

#include "base/file.h"
#include "data/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Writes a tokenizer to a temporary file, loads it and removes the file. */
static inline struct tokenizer *load_text(const char *text, size_t len, struct err *e)
{
    char dir[] = "/tmp/test_tokenizer.XXXXXX", path[64];
    struct tokenizer *tk;

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/t.json", dir);
    assert_true(file_write(path, text, len, e));
    tk = tokenizer_load(path, e);
    unlink(path);
    rmdir(dir);
    return tk;
}

#endif
