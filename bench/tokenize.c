/* tokenize.c - the tokenizer on many lines, for comparison with other implementations:
 *     build/bench/tokenize ids TOKENIZER.json LINES         token ids, to stdout
 *     build/bench/tokenize ranges TOKENIZER.json LINES      id, begin and end of each token
 *     build/bench/tokenize text TOKENIZER.json IDS [skip]   the lines that they decode to
 *     build/bench/tokenize time TOKENIZER.json LINES        for each line on stdin encodes all
 *                                      lines and prints "wall user tokens", times in seconds
 * LINES holds records of a length in bytes (32 bits) and a text; IDS, records of a count and ids.
 * Instead of TOKENIZER.json a directory may be given, followed by "@MODEL_TYPE" or
 * "@MODEL_TYPE@FORM": tokenizer_open reads it. bench/tokenize_speed.py drives it against the
 * `tokenizers` library. */
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "data/tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

struct job {
    struct tokenizer *tk;
    struct tokenizer_scratch *scratch;
    struct file_map in;
    struct tokens tokens;
};

/* The record at *at, `size` bytes per unit; *at moves past it. NULL at the end. */
static const uint8_t *next_record(const struct file_map *in, size_t *at, size_t size, uint32_t *n)
{
    const uint8_t *data = in->data + *at + 4;

    if (in->size - *at < 4) return NULL;
    memcpy(n, in->data + *at, 4);
    if ((in->size - *at - 4) / size < *n) return NULL;
    *at += 4 + *n * size;
    return data;
}

static bool encode(struct job *j, const uint8_t *line, uint32_t len, struct err *e)
{
    j->tokens.n = 0;
    return tokenizer_encode(j->tk, j->scratch, (const char *)line, len, true, &j->tokens, e);
}

static bool write_ids(struct job *j, bool ranges, struct err *e)
{
    const uint8_t *line;
    uint32_t len, n;
    size_t at = 0;

    while ((line = next_record(&j->in, &at, 1, &len))) {
        if (!encode(j, line, len, e)) return false;
        n = (uint32_t)j->tokens.n; /* texts are at most 1 GiB */
        fwrite(&n, sizeof n, 1, stdout);
        for (size_t i = 0; i < n; i++) {
            const struct token *t = &j->tokens.v[i];
            int32_t all[3] = {t->id, (int32_t)t->begin, (int32_t)t->end};

            fwrite(all, sizeof *all, ranges ? 3 : 1, stdout);
        }
    }
    return true;
}

static bool write_text(struct job *j, bool skip_special, struct err *e)
{
    const uint8_t *record;
    size_t at = 0, len;
    uint32_t n;

    while ((record = next_record(&j->in, &at, sizeof(int32_t), &n))) {
        char *text = tokenizer_decode(j->tk, (const int32_t *)(const void *)record, n, skip_special,
                                      &len, e);

        if (!text) return false;
        n = (uint32_t)len;
        fwrite(&n, sizeof n, 1, stdout);
        fwrite(text, 1, len, stdout);
        free(text);
    }
    return true;
}

static double user_seconds(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)u.ru_utime.tv_sec + 1e-6 * (double)u.ru_utime.tv_usec;
}

/* One pass over all lines per line on stdin, so that the other side can alternate. */
static bool time_passes(struct job *j, struct err *e)
{
    char go[16];

    while (fgets(go, sizeof go, stdin)) {
        double wall = clock_seconds(), user = user_seconds();
        const uint8_t *line;
        size_t at = 0, tokens = 0;
        uint32_t len;

        while ((line = next_record(&j->in, &at, 1, &len))) {
            if (!encode(j, line, len, e)) return false;
            tokens += j->tokens.n;
        }
        printf("%.6f %.6f %zu\n", clock_seconds() - wall, user_seconds() - user, tokens);
        fflush(stdout);
    }
    return true;
}

/* A file, or DIR@MODEL_TYPE@FORM. */
static struct tokenizer *open_tokenizer(char *name, struct err *e)
{
    static const char *const forms[] = {TOKENIZER_FORM_NAMES};
    struct tokenizer_options o = {.form = TOKENIZER_AUTO};
    struct tokenizer *tk;
    char *at = strchr(name, '@');

    if (!at) return tokenizer_load(name, e);
    *at++ = '\0';
    o.model_type = at;
    at = strchr(at, '@');
    if (at) *at++ = '\0';
    for (size_t i = 0; at && i < sizeof forms / sizeof *forms; i++)
        if (strcmp(forms[i], at) == 0) o.form = (enum tokenizer_form)i;
    tk = tokenizer_open(name, &o, e);
    if (tk) fputs(tokenizer_notes(tk), stderr);
    return tk;
}

int main(int argc, char **argv)
{
    struct job j = {0};
    struct err e = {0};
    bool ok = false, skip = argc > 4 && strcmp(argv[4], "skip") == 0;

    if (argc < 4) {
        fprintf(stderr, "usage: tokenize ids|ranges|text|time TOKENIZER FILE [skip]\n");
        return 1;
    }
    j.tk = open_tokenizer(argv[2], &e);
    if (j.tk) j.scratch = tokenizer_scratch_new(j.tk, &e);
    if (j.scratch && file_map_open(&j.in, argv[3], &e)) {
        bool ranges = strcmp(argv[1], "ranges") == 0;

        if (ranges || strcmp(argv[1], "ids") == 0)
            ok = write_ids(&j, ranges, &e);
        else if (strcmp(argv[1], "text") == 0)
            ok = write_text(&j, skip, &e);
        else if (strcmp(argv[1], "time") == 0)
            ok = time_passes(&j, &e);
        else
            (void)err_set(&e, "\"%s\": ids, ranges, text or time is needed", argv[1]);
    }
    if (ok && fflush(stdout) != 0) ok = err_set(&e, "stdout cannot be written");
    if (!ok) fprintf(stderr, "tokenize: error: %s\n", e.msg);
    file_map_close(&j.in);
    tokens_free(&j.tokens);
    tokenizer_scratch_free(j.scratch);
    tokenizer_free(j.tk);
    return ok ? 0 : 1;
}
