/* safetensors_write.c - writing. All sizes are known before the first byte of data, so the headers
 * are written first, and each tensor goes to its own place in its file as its rows arrive. */
#include "base/mem.h"
#include "model/files/safetensors.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_SHARD_BYTES UINT64_C(5000000000)
enum { CHUNK = 4096 /* values converted at a time */, MAX_SHARDS = 99999 };

struct st_slot {
    char *name;
    enum st_dtype dtype;
    int ndim;
    int64_t dim[ST_MAX_DIMS];
    size_t bytes, written;
    size_t shard, begin; /* offset in the shard's data */
};

struct st_shard {
    struct file_out out;
    char *file; /* file name without directory */
    size_t data_at, bytes;
};

void st_write_abort(struct st_writer *w)
{
    for (size_t i = 0; w->slots && i < w->count; i++)
        free(w->slots[i].name);
    for (size_t i = 0; w->shards && i < w->shard_count; i++) {
        file_out_abort(&w->shards[i].out);
        free(w->shards[i].file);
    }
    free(w->slots);
    free(w->shards);
    free(w->dir);
    free(w->index_text);
    memset(w, 0, sizeof *w);
}

static bool slot_init(struct st_slot *s, const struct st_spec *spec, struct err *e)
{
    size_t bits = 1;

    if (!st_name_is_plain(spec->name) || strcmp(spec->name, "__metadata__") == 0)
        return err_set(e, "a tensor cannot be named \"%.64s\"", spec->name);
    if (spec->ndim < 0 || spec->ndim > ST_MAX_DIMS)
        return err_set(e, "tensor %s: %d dimensions, at most %d can be written", spec->name,
                       spec->ndim, ST_MAX_DIMS);
    for (int i = 0; i < spec->ndim; i++) {
        if (spec->dim[i] < 0)
            return err_set(e, "tensor %s: dimension %d is %" PRId64, spec->name, i, spec->dim[i]);
        if (!size_mul(&bits, bits, (size_t)spec->dim[i])) goto huge;
    }
    if (!size_mul(&bits, bits, st_dtypes[spec->dtype].bits)) goto huge;
    if (bits % 8 != 0)
        return err_set(e, "tensor %s: its values of %s do not fill whole bytes", spec->name,
                       st_dtypes[spec->dtype].name);
    s->dtype = spec->dtype;
    s->ndim = spec->ndim;
    memcpy(s->dim, spec->dim, sizeof s->dim);
    s->bytes = bits / 8;
    s->name = mem_strdup(spec->name, e);
    return s->name != NULL;
huge:
    return err_set(e, "tensor %s: its shape overflows", spec->name);
}

static int by_string(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool check_unique(const struct st_slot *slots, size_t n, struct err *e)
{
    const char **names = mem_new(n, sizeof *names, "tensor names", e);
    bool ok = names != NULL;

    for (size_t i = 0; ok && i < n; i++)
        names[i] = slots[i].name;
    if (ok) qsort(names, n, sizeof *names, by_string);
    for (size_t i = 1; ok && i < n; i++) {
        if (strcmp(names[i - 1], names[i]) == 0)
            ok = err_set(e, "tensor %s: is to be written twice", names[i]);
    }
    free(names);
    return ok;
}

static bool slots_init(struct st_writer *w, const struct st_spec *specs, size_t n, struct err *e)
{
    w->slots = mem_new(n, sizeof *w->slots, "the tensors of a writer", e);
    if (!w->slots) return false;
    w->count = n;
    for (size_t i = 0; i < n; i++) {
        if (!slot_init(&w->slots[i], &specs[i], e)) return false;
    }
    return check_unique(w->slots, n, e);
}

/* Assigns the tensors to shards in order and sets slot.shard; returns the number of shards. */
static size_t plan_shards(struct st_writer *w, uint64_t limit)
{
    size_t shard = 0, used = 0;

    for (size_t i = 0; i < w->count; i++) {
        struct st_slot *s = &w->slots[i];
        if (used && (s->bytes > limit || used > limit - s->bytes)) {
            shard++;
            used = 0;
        }
        s->shard = shard;
        used += s->bytes;
    }
    return shard + 1;
}

/* One entry of a header. */
static bool add_tensor(cJSON *header, const struct st_slot *s)
{
    cJSON *t = cJSON_AddObjectToObject(header, s->name), *list;

    if (!cJSON_AddStringToObject(t, "dtype", st_dtypes[s->dtype].name)) return false;
    list = cJSON_AddArrayToObject(t, "shape");
    for (int i = 0; i < s->ndim; i++) {
        if (!cJSON_AddItemToArray(list, cJSON_CreateNumber((double)s->dim[i]))) return false;
    }
    list = cJSON_AddArrayToObject(t, "data_offsets");
    return cJSON_AddItemToArray(list, cJSON_CreateNumber((double)s->begin)) &&
           cJSON_AddItemToArray(list, cJSON_CreateNumber((double)(s->begin + s->bytes)));
}

static bool add_metadata(cJSON *header, const char *const *metadata)
{
    static const char *const usual[] = {"format", "pt", NULL};
    cJSON *meta = cJSON_AddObjectToObject(header, "__metadata__");

    for (const char *const *p = metadata ? metadata : usual; *p; p += 2) {
        if (!cJSON_AddStringToObject(meta, p[0], p[1])) return false;
    }
    return meta != NULL;
}

/* Places a shard's tensors, wide dtypes first, and returns its header as text, or NULL. */
static char *shard_header(struct st_writer *w, size_t shard, const char *const *metadata,
                          struct err *e)
{
    static const size_t widths[] = {8, 4, 2, 1};
    cJSON *header = cJSON_CreateObject();
    bool ok = add_metadata(header, metadata);
    size_t at = 0;
    char *text;

    for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
        for (size_t i = 0; ok && i < w->count; i++) {
            struct st_slot *s = &w->slots[i];
            if (s->shard != shard || st_dtypes[s->dtype].align != widths[k]) continue;
            s->begin = at;
            at += s->bytes;
            ok = add_tensor(header, s);
        }
    }
    w->shards[shard].bytes = at;
    text = ok ? cJSON_PrintUnformatted(header) : NULL;
    cJSON_Delete(header);
    if (!text) err_set(e, "out of memory for the header of %s", w->shards[shard].file);
    return text;
}

/* Opens a shard under a temporary name and writes its length and header, padded with blanks
 * to a multiple of 8. */
static bool shard_begin(struct st_writer *w, size_t shard, const char *path,
                        const char *const *metadata, struct err *e)
{
    struct st_shard *sh = &w->shards[shard];
    char *text = shard_header(w, shard, metadata, e);
    size_t len, padded;
    uint8_t head[8];

    if (!text) return false;
    if (!file_out_open(&sh->out, path, e)) {
        cJSON_free(text);
        return false;
    }
    len = strlen(text);
    padded = (len + 7) & ~(size_t)7;
    for (int i = 0; i < 8; i++)
        head[i] = (uint8_t)(padded >> 8 * i);
    fwrite(head, 1, sizeof head, sh->out.fp);
    fwrite(text, 1, len, sh->out.fp);
    fwrite("        ", 1, padded - len, sh->out.fp);
    cJSON_free(text);
    sh->data_at = 8 + padded;
    if (ferror(sh->out.fp)) return err_system(e, errno, "%s: cannot be written", path);
    return true;
}

bool st_write_begin(struct st_writer *w, const char *path, const struct st_spec *specs, size_t n,
                    const char *const *metadata, struct err *e)
{
    const char *slash = strrchr(path, '/');

    memset(w, 0, sizeof *w);
    if (!slots_init(w, specs, n, e)) {
        err_context(e, "%s", path);
        goto bad;
    }
    w->shards = mem_new(1, sizeof *w->shards, "a writer's file", e);
    if (!w->shards) goto bad;
    w->shard_count = 1;
    w->shards->file = mem_strdup(slash ? slash + 1 : path, e);
    if (!w->shards->file || !shard_begin(w, 0, path, metadata, e)) goto bad;
    return true;
bad:
    st_write_abort(w);
    return false;
}

/* The index: {"metadata": {"total_size": bytes}, "weight_map": {tensor: file}}. */
static bool make_index(struct st_writer *w, struct err *e)
{
    cJSON *json = cJSON_CreateObject();
    cJSON *meta = cJSON_AddObjectToObject(json, "metadata");
    cJSON *map = cJSON_AddObjectToObject(json, "weight_map");
    double total = 0;
    bool ok = map != NULL;

    for (size_t i = 0; i < w->shard_count; i++)
        total += (double)w->shards[i].bytes;
    ok = ok && cJSON_AddNumberToObject(meta, "total_size", total);
    for (size_t i = 0; ok && i < w->count; i++)
        ok = cJSON_AddStringToObject(map, w->slots[i].name, w->shards[w->slots[i].shard].file) !=
             NULL;
    w->index_text = ok ? cJSON_Print(json) : NULL;
    cJSON_Delete(json);
    return w->index_text ? true : err_set(e, "%s: out of memory for the index", w->dir);
}

/* Two forms of a model in one directory could make a reader pick the wrong one. */
static bool refuse_other_form(const char *dir, bool sharded, struct err *e)
{
    const char *other = sharded ? "model.safetensors" : "model.safetensors.index.json";
    char *path = file_join(dir, other, e);
    bool there, ok = path && file_there(path, &there, e);

    if (ok && there)
        ok = err_set(e, "%s: belongs to another model; remove it or write to another directory",
                     path);
    free(path);
    return ok;
}

static bool shards_open(struct st_writer *w, const char *const *metadata, struct err *e)
{
    for (size_t i = 0; i < w->shard_count; i++) {
        char *path;
        bool ok;
        w->shards[i].file = w->shard_count == 1 ? mem_strdup("model.safetensors", e)
                                                : mem_printf(e, "model-%05zu-of-%05zu.safetensors",
                                                             i + 1, w->shard_count);
        if (!w->shards[i].file) return false;
        path = file_join(w->dir, w->shards[i].file, e);
        ok = path && shard_begin(w, i, path, metadata, e);
        free(path);
        if (!ok) return false;
    }
    return true;
}

bool st_write_model_begin(struct st_writer *w, const char *dir, const struct st_spec *specs,
                          size_t n, const char *const *metadata, uint64_t max_shard_bytes,
                          struct err *e)
{
    size_t shards;

    memset(w, 0, sizeof *w);
    if (!slots_init(w, specs, n, e)) {
        err_context(e, "%s", dir);
        goto bad;
    }
    shards = plan_shards(w, max_shard_bytes ? max_shard_bytes : DEFAULT_SHARD_BYTES);
    if (shards > MAX_SHARDS) {
        err_set(e, "%s: %zu shards, at most %d are possible; allow larger ones", dir, shards,
                MAX_SHARDS);
        goto bad;
    }
    w->dir = mem_strdup(dir, e);
    w->shards = mem_new(shards, sizeof *w->shards, "a writer's files", e);
    if (!w->dir || !w->shards) goto bad;
    w->shard_count = shards;
    if (!file_mkdirs(dir, e) || !refuse_other_form(dir, shards > 1, e)) goto bad;
    if (!shards_open(w, metadata, e)) goto bad;
    if (shards > 1 && !make_index(w, e)) goto bad;
    return true;
bad:
    st_write_abort(w);
    return false;
}

/* Positions the file at the tensor's next byte to write. */
static bool slot_seek(struct st_writer *w, size_t i, size_t bytes, struct err *e)
{
    const struct st_slot *s = &w->slots[i];
    const struct st_shard *sh = &w->shards[s->shard];
    off_t at = (off_t)(sh->data_at + s->begin + s->written); /* a file size: under 2^63 */

    if (bytes > s->bytes - s->written)
        return err_set(e, "%s: tensor %s: has %zu bytes, more are being written", sh->out.path,
                       s->name, s->bytes);
    /* A seek flushes the stream's buffer: only needed if another tensor was written in between. */
    if (ftello(sh->out.fp) != at && fseeko(sh->out.fp, at, SEEK_SET) != 0)
        return err_system(e, errno, "%s: cannot be written", sh->out.path);
    return true;
}

static bool slot_put(struct st_writer *w, size_t i, const void *src, size_t bytes, struct err *e)
{
    struct st_slot *s = &w->slots[i];
    struct file_out *out = &w->shards[s->shard].out;

    if (fwrite(src, 1, bytes, out->fp) != bytes)
        return err_system(e, errno, "%s: tensor %s: cannot be written", out->path, s->name);
    s->written += bytes;
    return true;
}

bool st_write_raw(struct st_writer *w, size_t i, const void *src, size_t bytes, struct err *e)
{
    CHECK(i < w->count);
    return slot_seek(w, i, bytes, e) && slot_put(w, i, src, bytes, e);
}

/* False if a finite value became infinite: fp16 ends at 65504. */
static bool stays_finite(const struct st_slot *s, const char *path, const float *src,
                         const void *converted, size_t n, struct err *e)
{
    float back[CHUNK];

    st_dtypes[s->dtype].to_f32(back, converted, n);
    for (size_t k = 0; k < n; k++) {
        if (isfinite(src[k]) && !isfinite(back[k]))
            return err_set(e, "%s: tensor %s: %g does not fit %s", path, s->name, (double)src[k],
                           st_dtypes[s->dtype].name);
    }
    return true;
}

bool st_write_f32(struct st_writer *w, size_t i, const float *src, size_t n, struct err *e)
{
    _Alignas(8) unsigned char buf[CHUNK * 8];
    const struct st_dtype_info *info;
    const struct st_slot *s;
    const char *path;

    CHECK(i < w->count);
    s = &w->slots[i];
    info = &st_dtypes[s->dtype];
    path = w->shards[s->shard].out.path;
    if (!info->from_f32)
        return err_set(e, "%s: tensor %s: fp32 values cannot become %s", path, s->name, info->name);
    if (n > SIZE_MAX / 8) return err_set(e, "%s: tensor %s: too many values", path, s->name);
    if (!slot_seek(w, i, n * (info->bits / 8), e)) return false;
    while (n) {
        size_t k = n < CHUNK ? n : CHUNK;
        info->from_f32(buf, src, k);
        if (!stays_finite(s, path, src, buf, k, e)) return false;
        if (!slot_put(w, i, buf, k * (info->bits / 8), e)) return false;
        src += k;
        n -= k;
    }
    return true;
}

static bool write_finish(struct st_writer *w, struct err *e)
{
    char *index = NULL;
    bool ok = true;

    for (size_t i = 0; i < w->count; i++) {
        const struct st_slot *s = &w->slots[i];
        if (s->written != s->bytes)
            return err_set(e, "%s: tensor %s: %zu of its %zu bytes were written",
                           w->shards[s->shard].out.path, s->name, s->written, s->bytes);
    }
    if (w->index_text) {
        index = file_join(w->dir, "model.safetensors.index.json", e);
        if (!index) return false;
        /* An old index must not point to new shards if we are interrupted in between. */
        if (unlink(index) != 0 && errno != ENOENT)
            ok = err_system(e, errno, "%s: cannot be replaced", index);
    }
    for (size_t i = 0; ok && i < w->shard_count; i++)
        ok = file_out_commit(&w->shards[i].out, e);
    if (ok && index) ok = file_write(index, w->index_text, strlen(w->index_text), e);
    free(index);
    return ok;
}

bool st_write_end(struct st_writer *w, struct err *e)
{
    bool ok = write_finish(w, e);

    st_write_abort(w);
    return ok;
}
