/* safetensors_files.h - hand-made safetensors files. Include after cmocka's headers;
 * includes tmpdir.h. */
#ifndef TESTS_SAFETENSORS_FILES_H
#define TESTS_SAFETENSORS_FILES_H

#include "base/file.h"
#include "tests/tmpdir.h"

/* A tensor's entry in a header. */
#define T(dtype, shape, begin, end)                                                                \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

/* A file of length field `len` (the header's own length if len is 0), header and data. */
static inline void put_file(const char *path, uint64_t len, const char *header, size_t data_bytes)
{
    FILE *fp = fopen(path, "wb");

    assert_non_null(fp);
    if (len == 0) len = strlen(header);
    for (int i = 0; i < 8; i++)
        fputc((int)(len >> 8 * i & 255), fp);
    fputs(header, fp);
    for (size_t i = 0; i < data_bytes; i++)
        fputc((int)(i & 255), fp);
    fclose(fp);
}

static inline void put_text(const char *path, const char *text)
{
    spill(path, text, strlen(text));
}

/* Expects one line containing `want`. */
static inline void check_message(const char *msg, const char *want, const char *what)
{
    if (!strstr(msg, want)) fail_msg("%s: \"%s\" lacks \"%s\"", what, msg, want);
    if (strchr(msg, '\n')) fail_msg("%s: more than one line: \"%s\"", what, msg);
}

#endif
