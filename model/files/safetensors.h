/* safetensors.h - Hugging Face's tensor files, read in place and written as a stream.
 *
 *     8 bytes   N, little-endian
 *     N bytes   JSON: {"name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}, ...}
 *     the rest  the tensors' bytes, row-major, little-endian, offsets counted from here
 *
 * Reading maps the file; a tensor is a pointer into the mapping and is never copied. The format's
 * rules are checked before the first tensor is returned: known dtypes, shape x size = range, ranges
 * that cover the data without overlap, gap or remainder, unique names. Where a message gives line
 * and column in a header, both count from the file's first byte: the header begins in column 9.
 *
 * Files by other writers may contain data that is not aligned for its dtype. Such a tensor has
 * aligned = false: access its `data` only through st_read_f32 or memcpy, never as a float
 * pointer. */
#ifndef MODEL_FILES_SAFETENSORS_H
#define MODEL_FILES_SAFETENSORS_H

#include "base/err.h"
#include "base/file.h"
#include "base/json/jsonc.h"

#include <stddef.h>
#include <stdint.h>

enum st_dtype {
    ST_F64,
    ST_F32,
    ST_F16,
    ST_BF16,
    ST_I64,
    ST_I32,
    ST_I16,
    ST_I8,
    ST_U64,
    ST_U32,
    ST_U16,
    ST_U8,
    ST_BOOL,
    ST_C64,
    ST_F8_E4M3,
    ST_F8_E5M2,
    ST_F8_E4M3FNUZ,
    ST_F8_E5M2FNUZ,
    ST_F8_E8M0,
    ST_F6_E2M3,
    ST_F6_E3M2,
    ST_F4,
    ST_DTYPES
};

/* One row per dtype. The conversions are NULL except for floats of 16 to 64 bits; they convert n
 * values and require no alignment on the file's side. */
struct st_dtype_info {
    const char *name;
    size_t bits, align;
    void (*to_f32)(float *dst, const void *src, size_t n);
    void (*from_f32)(void *dst, const float *src, size_t n);
};
extern const struct st_dtype_info st_dtypes[ST_DTYPES];

enum { ST_MAX_DIMS = 8 };

struct st_tensor {
    const char *name;
    enum st_dtype dtype;
    int ndim; /* 0: a scalar */
    int64_t dim[ST_MAX_DIMS];
    const void *data; /* in the mapping; valid until the file is closed */
    size_t bytes;
    const char *file; /* path of the file it is in */
    bool aligned;     /* data may be read through a pointer to its dtype */
};

struct st_file {
    char *path;
    struct file_map map;
    struct st_tensor *tensors; /* [count], sorted by name; the struct owns the names */
    size_t count;
    struct jsonc header; /* of a safetensors file: holds the names, and "__metadata__" */
    char *names;         /* the names, for other files: header is unused */
};

#define ST_COPY_AGAIN ", copy or download it again" /* ends the message about a file cut short */

/* On failure fills *e with one line that names file and tensor, and leaves *f zeroed. */
bool st_open(struct st_file *f, const char *path, struct err *e);
void st_close(struct st_file *f); /* fine on a zeroed struct */

/* The same for a file written by torch.save that holds a state_dict: model/files/torch_archive.h.
 * Its tensors may share bytes, and not every byte need belong to a tensor. */
bool torch_weights_open(struct st_file *f, const char *path, struct err *e);

/* NULL if there is no such tensor, or no such metadata. */
const struct st_tensor *st_find(const struct st_file *f, const char *name);
const char *st_metadata(const struct st_file *f, const char *key);

/* A model's directory: `model.safetensors`, or if missing the shards that
 * `model.safetensors.index.json` names, or likewise `pytorch_model.bin`. */
struct st_model {
    struct st_file *files; /* [file_count] */
    size_t file_count;
    const struct st_tensor **tensors; /* [count], sorted by name */
    size_t count;
};
bool st_model_open(struct st_model *m, const char *dir, struct err *e);
void st_model_close(struct st_model *m); /* fine on a zeroed struct */
const struct st_tensor *st_model_find(const struct st_model *m, const char *name);

/* Names of tensors and shards are untrusted and end up in files and paths: they must not be empty
 * or contain control characters. */
bool st_name_is_plain(const char *name);

size_t st_count(const struct st_tensor *t); /* the product of its dims; cannot overflow */

/* Converts values first .. first + n - 1 to fp32, whatever the alignment. Fails for a dtype
 * that is not a float of 16 to 64 bits, and for a range outside the tensor; the message
 * names file and tensor. */
bool st_read_f32(const struct st_tensor *t, size_t first, size_t n, float *dst, struct err *e);

/* ---- writing ---- */

/* A tensor to be written. */
struct st_spec {
    const char *name;
    enum st_dtype dtype;
    int ndim;
    int64_t dim[ST_MAX_DIMS];
};

/* A model being written; no tensor is ever held in memory as a whole.
 *     struct st_writer w;
 *     if (!st_write_begin(&w, "out/model.safetensors", specs, n, NULL, e)) return false;
 *     for (i..) for (row..) if (!st_write_f32(&w, i, row, width, e)) goto fail;
 *     if (!st_write_end(&w, e)) return false;
 *     fail: st_write_abort(&w);
 * Tensors may be filled in any order, each from its start. The file has them in the order given,
 * except that wider dtypes come first if dtypes are mixed, which keeps all of them aligned. Nothing
 * appears under a final name before st_write_end. */
struct st_writer {
    struct st_slot *slots; /* [count], one per spec, in the caller's order */
    size_t count;
    struct st_shard *shards; /* [shard_count] */
    size_t shard_count;
    char *dir;        /* of a sharded model; NULL for one file */
    char *index_text; /* its index, or NULL */
};

/* One file. `metadata` lists key, value, key, value, ..., NULL; NULL means "format", "pt", which
 * transformers requires. Every spec is checked: unique valid names, dims >= 0. */
bool st_write_begin(struct st_writer *w, const char *path, const struct st_spec *specs, size_t n,
                    const char *const *metadata, struct err *e);

/* A model directory, created if missing: `model.safetensors` if everything fits in max_shard_bytes
 * of data (0: the usual 5 GB), else `model-00001-of-0000N.safetensors` ... and the index. A tensor
 * above the limit gets its own shard. Refuses a directory that holds a model in the other form,
 * since a reader would find two. */
bool st_write_model_begin(struct st_writer *w, const char *dir, const struct st_spec *specs,
                          size_t n, const char *const *metadata, uint64_t max_shard_bytes,
                          struct err *e);

/* Appends n values to tensor `i`, converted to its dtype (nearest even). A finite value that
 * overflows to infinity there is an error that names the tensor. */
bool st_write_f32(struct st_writer *w, size_t i, const float *src, size_t n, struct err *e);

/* Appends bytes that already have the tensor's dtype. */
bool st_write_raw(struct st_writer *w, size_t i, const void *src, size_t bytes, struct err *e);

/* Publishes the files, the index last. An incomplete tensor is an error that names it.
 * Zeroes *w in any case. */
bool st_write_end(struct st_writer *w, struct err *e);
void st_write_abort(struct st_writer *w); /* fine on a zeroed struct */

#endif
