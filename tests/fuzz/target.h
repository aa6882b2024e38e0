/* target.h - the parsers of untrusted input, each as a function of bytes. Whatever the bytes, a
 * target returns: it must not crash, hang, read out of bounds, or use disproportionate memory, and
 * any message must stay on one line. The same targets run under libFuzzer (make fuzz) and in
 * test_fuzz.c (the corpora, and mutations of them). A new parser is a row in targets.c. */
#ifndef TESTS_FUZZ_TARGET_H
#define TESTS_FUZZ_TARGET_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct fuzz_target {
    const char *name; /* its corpus is tests/fuzz/corpus/NAME */
    void (*run)(const uint8_t *data, size_t n);
    size_t max; /* longest input worth trying, in bytes */
};
extern const struct fuzz_target fuzz_targets[]; /* ends with a row of NULL */

const struct fuzz_target *fuzz_find(const char *name); /* NULL if there is none */

/* Writes the input to a file in this process's own directory (in memory, if /dev/shm
 * exists), replacing it; the path is borrowed until the next call with that name. fuzz_dir
 * is the directory. */
const char *fuzz_file(const char *name, const void *data, size_t n);
const char *fuzz_dir(void);
void fuzz_remove(const char *name); /* fine if there is none */

/* Required of every target: after a failure, one line of text without control characters. */
void fuzz_failed(const struct err *e);

/* The targets by file. */
void fuzz_jsonc(const uint8_t *data, size_t n);
void fuzz_config(const uint8_t *data, size_t n);
void fuzz_set(const uint8_t *data, size_t n);
void fuzz_hfconfig(const uint8_t *data, size_t n);
void fuzz_generation(const uint8_t *data, size_t n);
void fuzz_processor(const uint8_t *data, size_t n);
void fuzz_safetensors(const uint8_t *data, size_t n);
void fuzz_index(const uint8_t *data, size_t n);
void fuzz_torch_model(const uint8_t *data, size_t n);
void fuzz_torch(const uint8_t *data, size_t n);
void fuzz_rank(const uint8_t *data, size_t n);
void fuzz_checkpoint(const uint8_t *data, size_t n);
void fuzz_tokenizer(const uint8_t *data, size_t n);
void fuzz_tokens(const uint8_t *data, size_t n);
void fuzz_template(const uint8_t *data, size_t n);
void fuzz_dataset(const uint8_t *data, size_t n);
void fuzz_tsv(const uint8_t *data, size_t n);
void fuzz_base64(const uint8_t *data, size_t n);
void fuzz_answers(const uint8_t *data, size_t n);
void fuzz_request(const uint8_t *data, size_t n);
void fuzz_picture(const uint8_t *data, size_t n);

#endif
