/* targets.c - the table of targets, and what they share. */
#include "tests/fuzz/target.h"
#include "base/text.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct fuzz_target fuzz_targets[] = {
    {"jsonc", fuzz_jsonc, 4096},
    {"config", fuzz_config, 4096},
    {"set", fuzz_set, 512},
    {"hfconfig", fuzz_hfconfig, 4096},
    {"generation", fuzz_generation, 1024},
    {"processor", fuzz_processor, 2048},
    {"safetensors", fuzz_safetensors, 4096},
    {"index", fuzz_index, 2048},
    {"torch_model", fuzz_torch_model, 4096},
    {"torch", fuzz_torch, 4096},
    {"rank", fuzz_rank, 8192},
    {"checkpoint", fuzz_checkpoint, 8192},
    {"tokenizer", fuzz_tokenizer, 12288},
    {"tokens", fuzz_tokens, 512},
    {"template", fuzz_template, 1024},
    {"dataset", fuzz_dataset, 4096},
    {"tsv", fuzz_tsv, 1024},
    {"base64", fuzz_base64, 256},
    {"answers", fuzz_answers, 2048},
    {"request", fuzz_request, 4096},
    {"png", fuzz_picture, 4096},
    {"jpeg", fuzz_picture, 4096},
    {"webp", fuzz_picture, 4096},
    {"gif", fuzz_picture, 4096},
    {"bmp", fuzz_picture, 4096},
    {NULL, NULL, 0},
};

const struct fuzz_target *fuzz_find(const char *name)
{
    for (const struct fuzz_target *t = fuzz_targets; t->name; t++)
        if (strcmp(t->name, name) == 0) return t;
    return NULL;
}

static char dir[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_dir(void)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_dir(void)
{
    if (dir[0]) return dir;
    snprintf(dir, sizeof dir, "%s/mha2mla-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(dir));
    atexit(remove_dir);
    return dir;
}

void fuzz_remove(const char *name)
{
    char path[128];

    snprintf(path, sizeof path, "%s/%s", fuzz_dir(), name);
    unlink(path);
}

const char *fuzz_file(const char *name, const void *data, size_t n)
{
    static char path[4][128];
    static int next;
    char *p = path[next++ % 4];
    int fd;

    snprintf(p, sizeof path[0], "%s/%s", fuzz_dir(), name);
    fd = open(p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, data, n) == (ssize_t)n && close(fd) == 0);
    return p;
}

void fuzz_failed(const struct err *e)
{
    char *again = text_plain_new(e->msg, strlen(e->msg));

    CHECK(again && e->msg[0] && strcmp(again, e->msg) == 0);
    free(again);
}
