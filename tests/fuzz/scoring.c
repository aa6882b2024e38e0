/* scoring.c - tables, base64, and files of answers. */
#include "base/base64.h"
#include "data/answers.h"
#include "data/tsv.h"
#include "tests/fuzz/target.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Cells end in a zero and hold none; rows are as wide as the header. */
void fuzz_tsv(const uint8_t *data, size_t n)
{
    struct tsv t;
    struct err e = {0};
    bool found = true, ok = tsv_open(&t, data, n, "table", &e);

    while (ok && (ok = tsv_next(&t, &found, &e)) && found)
        for (size_t i = 0; i < t.columns; i++)
            CHECK(strlen(t.cell[i].s) == t.cell[i].n && tsv_cell(&t, t.column[i].s).s);
    if (!ok) fuzz_failed(&e);
    tsv_close(&t);
}

void fuzz_base64(const uint8_t *data, size_t n)
{
    struct err e = {0};
    uint8_t *out;
    size_t len;

    if (!base64_decode((const char *)data, n, &out, &len, &e)) {
        fuzz_failed(&e);
        return;
    }
    CHECK(n % 4 == 0 && len <= n / 4 * 3 && len + 2 >= n / 4 * 3);
    free(out);
}

/* Scores are shares; then the same file as questions, and the answers to them. */
void fuzz_answers(const uint8_t *data, size_t n)
{
    const char *path = fuzz_file("answers.jsonl", data, n);
    struct answers_keys keys = {0};
    struct answers a;
    struct err e = {0};

    if (answers_open(&a, path, NULL, NULL, &e)) {
        for (size_t i = 0; i < a.n; i++)
            CHECK(a.v[i].item.score >= 0 && a.v[i].item.score <= 1 && a.v[i].id && a.v[i].set);
        answers_close(&a);
    } else {
        fuzz_failed(&e);
    }
    if (!answers_keys_open(&keys, path, "exact", &e)) {
        fuzz_failed(&e);
        return;
    }
    if (answers_open(&a, path, &keys, NULL, &e))
        answers_close(&a);
    else
        fuzz_failed(&e);
    answers_keys_close(&keys);
}
