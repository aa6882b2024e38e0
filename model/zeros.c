/* zeros.c - weights that are nothing but zeros. A downloading program reserves the whole file
 * first; if it is stopped, what is missing reads as zeros, and a model would be trained on them
 * without a word. */
#include "base/mem.h"
#include "model/open_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes of zeros in a row, from a multiple of as many, that are named inside of a tensor. */
enum { BLOCK = 1 << 19 };

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Zeros say nothing of a bias, which begins with them, nor of what is no weight. */
static bool is_weight(const struct st_tensor *t)
{
    return t->bytes && st_dtypes[t->dtype].to_f32 && !ends_with(t->name, ".bias");
}

static bool is_norm(const struct st_tensor *t)
{
    return t->ndim == 1 && is_weight(t) && strstr(t->name, "norm") && ends_with(t->name, ".weight");
}

static bool has_zero_block(const struct st_tensor *t)
{
    struct st_tensor block = *t;

    block.bytes = BLOCK;
    for (size_t at = 0; t->bytes - at >= BLOCK; at += BLOCK) {
        block.data = (const char *)t->data + at;
        if (model_is_zero(&block)) return true;
    }
    return false;
}

/* The zeros at the end of a file. */
struct tail {
    const char *from;             /* the tensor that they begin in */
    size_t bytes, weights, norms; /* weights and norms: tensors that are zeros as a whole */
    bool all;                     /* the file has no other value */
    bool torn;                    /* they begin inside of a row, and go on over another */
};

static int last_first(const void *a, const void *b)
{
    const char *x = (*(const struct st_tensor *const *)a)->data;
    const char *y = (*(const struct st_tensor *const *)b)->data;

    return (x < y) - (x > y);
}

/* The tensor that has values before the zeros. Who prunes a model, or widens it, leaves zeros that
 * begin with a row or a tensor, or that end with their row; a value or two of a row's last are zero
 * by chance. */
static void look_inside(struct tail *s, const struct st_tensor *t)
{
    const char *data = t->data;
    size_t zeros = 0, size, row, part;

    if (!is_weight(t)) return;
    size = t->bytes / st_count(t);
    row = st_count(t) / (t->ndim > 1 ? (size_t)t->dim[0] : 1);
    while (zeros < t->bytes && data[t->bytes - 1 - zeros] == 0)
        zeros++;
    zeros /= size;
    part = zeros % row;
    s->torn = (part >= 256 || 2 * part >= row) && (zeros > row || s->weights);
    s->bytes += zeros * size;
    if (zeros) s->from = t->name;
}

static bool find_tail(struct tail *s, const struct st_file *f, struct err *e)
{
    const struct st_tensor **list = mem_new(f->count + 1, sizeof *list, "tensor list", e);
    size_t i = 0;

    *s = (struct tail){0};
    if (!list) return false;
    for (size_t k = 0; k < f->count; k++)
        list[k] = &f->tensors[k];
    qsort(list, f->count, sizeof *list, last_first);
    for (; i < f->count && model_is_zero(list[i]); i++) {
        s->from = list[i]->name;
        s->bytes += list[i]->bytes;
        s->weights += is_weight(list[i]);
        s->norms += is_norm(list[i]);
    }
    s->all = i == f->count && s->weights;
    if (i < f->count) look_inside(s, list[i]);
    free(list);
    return true;
}

/* Refused is what no program leaves: zeros that begin inside of a row and do not end with it; a
 * norm that lets nothing through at the end of a file; a file of zeros. Whole matrices of zeros are
 * in models that were made deeper, and are said. */
static bool check_tail(const struct st_file *f, struct err *e)
{
    struct tail s;

    if (!find_tail(&s, f, e)) return false;
    return !(s.torn || s.norms || s.all) ||
           err_set(e,
                   "%s: tensor %s: from here on its last %zu bytes are nothing but zeros: the "
                   "download or copy did not end, fetch the file again",
                   f->path, s.from, s.bytes);
}

static bool look_at_files(const struct st_model *files, struct tensors_found *zeros,
                          struct tensors_found *holes, struct err *e)
{
    for (size_t i = 0; i < files->file_count; i++)
        if (!check_tail(&files->files[i], e)) return false;
    for (size_t i = 0; i < files->count; i++) {
        const struct st_tensor *t = files->tensors[i];
        if (!is_weight(t)) continue;
        if (model_is_zero(t))
            tensors_count(zeros, t);
        else if (has_zero_block(t))
            tensors_count(holes, t);
    }
    return true;
}

static bool note(struct model *m, const struct tensors_found *s, const char *one, const char *many,
                 struct err *e)
{
    static const char what[] = "if the model was not made so, a download or copy did not end";

    if (s->n == 0) return true;
    if (s->n == 1)
        return model_note(m, e, "%s: tensor %s %s: %s", s->first->file, s->first->name, one, what);
    return model_note(m, e, "%s: %zu tensors %s, the first %s: %s", s->first->file, s->n, many,
                      s->first->name, what);
}

bool model_check_zeros(struct model *m, struct err *e)
{
    struct tensors_found zeros = {0}, holes = {0};

    return look_at_files(&m->files, &zeros, &holes, e) &&
           look_at_files(&m->base, &zeros, &holes, e) &&
           note(m, &zeros, "is nothing but zeros", "are nothing but zeros", e) &&
           note(m, &holes, "has 512 KiB of zeros in a row", "have 512 KiB of zeros in a row", e);
}
