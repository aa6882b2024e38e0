/* rankfile.c - reads and writes rank files. Everything that a file claims is compared with the
 * model's own dims before use, so that a lying file costs no memory. */
#include "model/files/rankfile.h"

#include "base/file.h"
#include "base/hdf5/h5in.h"
#include "base/hdf5/h5out.h"
#include "base/mem.h"
#include "model/files/safetensors.h"
#include "model/files/torchfile.h"

#include <hdf5.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- reading ---- */

static bool check_shape(int ndim, const int64_t *dim, const struct rank_dims *n, struct err *e)
{
    if (ndim != 3)
        return err_set(e, "rank has %d dimensions, 3 are needed: [layers, kv heads, head size]",
                       ndim);
    if (dim[0] != n->L || dim[1] != n->G || dim[2] != n->dh)
        return err_set(e,
                       "rank is [%" PRId64 ", %" PRId64 ", %" PRId64 "], the model needs [%" PRId64
                       ", %" PRId64 ", %" PRId64 "] (layers, kv heads, head size)",
                       dim[0], dim[1], dim[2], n->L, n->G, n->dh);
    return true;
}

/* One head: dims[dh] must be the same permutation of the pairs in both halves. */
static bool check_head(const int64_t *dims, int64_t P, uint8_t *seen, struct err *e)
{
    memset(seen, 0, (size_t)P);
    for (int64_t i = 0; i < P; i++) {
        if (dims[i] < 0 || dims[i] >= P)
            return err_set(e, "dim %" PRId64 " has rank %" PRId64 ", allowed is 0..%" PRId64, i,
                           dims[i], P - 1);
        if (seen[dims[i]])
            return err_set(e, "rank %" PRId64 " occurs twice in the first half", dims[i]);
        seen[dims[i]] = 1;
        if (dims[P + i] != dims[i])
            return err_set(e,
                           "dim %" PRId64 " has rank %" PRId64 " but its partner, dim %" PRId64
                           ", has %" PRId64 ": both halves must agree",
                           i, dims[i], P + i, dims[P + i]);
    }
    return true;
}

/* rank[L,G,P] from the file's dims[L,G,dh]. */
static bool take_ranks(int32_t *rank, const int64_t *dims, const struct rank_dims *n, struct err *e)
{
    const int64_t P = n->dh / 2, heads = n->L * n->G;
    uint8_t *seen = mem_new((size_t)P, 1, "ranks", e);
    bool ok = seen != NULL;

    for (int64_t j = 0; j < heads && ok; j++) {
        ok = check_head(dims + j * n->dh, P, seen, e) ||
             err_context(e, "layer %" PRId64 ", kv head %" PRId64, j / n->G, j % n->G);
        for (int64_t i = 0; i < P && ok; i++)
            rank[j * P + i] = (int32_t)dims[j * n->dh + i]; /* < P, checked */
    }
    free(seen);
    return ok;
}

/* What the file says about itself, which nothing depends on: invalid texts and counts are
 * treated as absent. */
static bool read_info(struct h5_in *f, struct rankfile_info *info, struct err *e)
{
    int64_t *const counts[] = {&info->samples, &info->tokens};
    static const char *const names[] = {"samples", "tokens"};
    struct h5_values v;
    bool there, ok;

    if (!h5_in_attribute(f, f->root, "strategy", &v, &there, e)) return false;
    ok = there && h5_in_text(f, &v, info->strategy, sizeof info->strategy, e);
    if (there && !ok && e->machine) return false;
    if (!ok) info->strategy[0] = '\0';
    for (int i = 0; i < 2; i++) {
        if (!h5_in_attribute(f, f->root, names[i], &v, &there, e)) return false;
        there = there && v.count == 1;
        ok = there && h5_in_integers(f, &v, counts[i], e);
        if (there && !ok && e->machine) return false;
        if (!ok || *counts[i] < 0) *counts[i] = 0;
    }
    return true;
}

/* dims[L,G,dh] of the array `rank`. */
static bool read_h5_rank(struct h5_in *f, uint64_t header, const struct rank_dims *n, int64_t *dims,
                         struct err *e)
{
    struct h5_values v;
    int64_t dim[3];

    if (!h5_in_array(f, header, &v, e)) return false;
    for (int i = 0; i < 3; i++)
        dim[i] = v.dims[i] > INT64_MAX ? INT64_MAX : (int64_t)v.dims[i];
    return check_shape(v.rank, dim, n, e) && h5_in_integers(f, &v, dims, e);
}

/* The array `rank`; of what runs leave that is no ranking of pairs, the message says what it is. */
static bool find_rank(const struct h5_links *links, uint64_t *header, struct err *e)
{
    static const struct {
        const char *array, *is;
    } others[] = {{"scale", "rank.basis \"cross\""}, {"chosen", "rank.strategy \"logit\""}};
    struct err no;
    uint64_t at;

    if (h5_links_find(links, "rank", header, e)) return true;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (h5_links_find(links, others[i].array, &at, &no))
            return err_set(e,
                           "is what a run with %s has measured: no ranking of pairs, which another "
                           "run could be given",
                           others[i].is);
    return false;
}

static bool read_h5(const char *path, const struct rank_dims *n, int64_t *dims,
                    struct rankfile_info *info, struct err *e)
{
    struct h5_links links = {0};
    struct h5_in f;
    uint64_t header;
    int fd = file_open(path, e);
    bool ok = fd >= 0 && h5_in_start(&f, fd, e) && h5_in_links(&f, f.root, &links, e) &&
              find_rank(&links, &header, e) &&
              (read_h5_rank(&f, header, n, dims, e) || err_context(e, "rank")) &&
              read_info(&f, info, e);

    h5_links_free(&links);
    if (fd >= 0) close(fd);
    return ok;
}

/* The integer at element j of a possibly unaligned tensor. */
static int64_t st_integer(const struct st_tensor *t, int64_t j)
{
    int64_t wide;
    int32_t narrow;

    if (t->dtype == ST_U8) return ((const uint8_t *)t->data)[j];
    if (t->dtype == ST_I64) {
        memcpy(&wide, (const char *)t->data + j * 8, 8);
        return wide;
    }
    memcpy(&narrow, (const char *)t->data + j * 4, 4);
    return narrow;
}

static bool read_st(const char *path, const struct rank_dims *n, int64_t *dims, struct err *e)
{
    struct st_file f;
    bool ok = false;

    if (!st_open(&f, path, e)) return false;
    if (f.count != 1) {
        err_set(e, "holds %zu tensors, a rank file holds one", f.count);
    } else if (f.tensors->dtype != ST_U8 && f.tensors->dtype != ST_I32 &&
               f.tensors->dtype != ST_I64) {
        err_set(e, "its values are %s; allowed: U8, I32, I64", st_dtypes[f.tensors->dtype].name);
    } else if (check_shape(f.tensors->ndim, f.tensors->dim, n, e)) {
        for (int64_t j = 0; j < n->L * n->G * n->dh; j++)
            dims[j] = st_integer(f.tensors, j);
        ok = true;
    }
    st_close(&f);
    return ok;
}

static bool read_torch(const char *path, const struct rank_dims *n, int64_t *dims, struct err *e)
{
    struct torch_tensor t;
    bool ok = torchfile_read(&t, path, (size_t)(n->L * n->G * n->dh), e);

    ok = ok && check_shape(3, t.dim, n, e);
    if (ok) memcpy(dims, t.values, (size_t)(n->L * n->G * n->dh) * sizeof *dims);
    free(t.values);
    return ok;
}

static bool ends_with(const char *s, const char *end)
{
    const size_t len = strlen(s), n = strlen(end);

    return len > n && strcmp(s + len - n, end) == 0;
}

/* dims[L,G,dh] from a file in any of the formats. */
static bool read_dims(const char *path, const struct rank_dims *n, int64_t *dims,
                      struct rankfile_info *info, struct err *e)
{
    if (ends_with(path, ".safetensors")) return read_st(path, n, dims, e);
    if (ends_with(path, ".pth") || ends_with(path, ".pt")) return read_torch(path, n, dims, e);
    return read_h5(path, n, dims, info, e);
}

bool rankfile_read(const char *path, const struct rank_dims *n, int32_t *rank,
                   struct rankfile_info *info, struct err *e)
{
    struct rankfile_info found = {0};
    int64_t *dims = mem_new((size_t)(n->L * n->G * n->dh), sizeof *dims, "ranks", e);
    bool ok = dims && read_dims(path, n, dims, &found, e) && take_ranks(rank, dims, n, e);

    if (!ok) err_context(e, "rank file %s", path);
    if (ok && info) *info = found;
    free(dims);
    return ok;
}

/* ---- writing ---- */

static bool write_open(struct h5_out *out, const struct rank_dims *n, const int32_t *mirrored,
                       const double *scores, const struct rankfile_info *info, struct err *e)
{
    const hsize_t L = (hsize_t)n->L, G = (hsize_t)n->G, dh = (hsize_t)n->dh;
    const hid_t count = H5T_STD_I64LE;
    const struct h5_array ranks = {"rank", H5T_STD_I32LE, H5T_NATIVE_INT32,
                                   3,      {L, G, dh},    mirrored};
    const struct h5_array from = {"scores", H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE,
                                  3,        {L, G, dh / 2}, scores};

    return h5_out_write(out, out->file, &ranks, e) &&
           (!scores || h5_out_write(out, out->file, &from, e)) &&
           h5_out_text(out, "strategy", info->strategy, e) &&
           h5_out_value(out, "samples", count, H5T_NATIVE_INT64, &info->samples, e) &&
           h5_out_value(out, "tokens", count, H5T_NATIVE_INT64, &info->tokens, e);
}

bool rankfile_write(const char *path, const struct rank_dims *n, const int32_t *rank,
                    const double *scores, const struct rankfile_info *info, struct err *e)
{
    const int64_t P = n->dh / 2, all = n->L * n->G * n->dh;
    int32_t *mirrored = mem_new((size_t)all, sizeof *mirrored, "ranks", e);
    struct h5_out out = {0};
    bool ok = false;

    if (!mirrored) return false;
    for (int64_t j = 0; j < all; j++)
        mirrored[j] = rank[j / n->dh * P + j % P];
    ok = h5_out_open(&out, path, 0, e) && write_open(&out, n, mirrored, scores, info, e) &&
         h5_out_finish(&out, e) && h5_out_commit(&out, e);
    if (!ok) h5_out_abort(&out);
    free(mirrored);
    return ok || err_context(e, "rank file");
}

bool rankfile_write_kept(const char *path, const struct rank_dims *n, const int32_t *kept,
                         int64_t rope_dim, struct err *e)
{
    const int64_t P = n->dh / 2, K = rope_dim / 2, all = n->L * n->G * n->dh;
    const int64_t dim[3] = {n->L, n->G, n->dh};
    int16_t *dims = mem_new((size_t)all, sizeof *dims, "ranks", e);
    bool ok = dims;

    CHECK(P <= INT16_MAX);
    for (int64_t j = 0; ok && j < n->L * n->G; j++) {
        const int32_t *k = kept + j * K;
        int64_t found = 0;
        for (int64_t i = 0; i < P; i++) {
            const bool keep = found < K && k[found] == i;
            const int64_t rank = keep ? found : K + i - found;
            found += keep;
            dims[j * n->dh + i] = dims[j * n->dh + P + i] = (int16_t)rank; /* < P */
        }
    }
    ok = ok && torchfile_write(path, dims, dim, e);
    free(dims);
    return ok;
}

/* ---- what a rank array selects ---- */

void rank_select(int32_t *kept, const int32_t *rank, const struct rank_dims *n, int64_t rope_dim)
{
    const int64_t P = n->dh / 2;

    for (int64_t j = 0; j < n->L * n->G; j++) {
        int64_t found = 0;
        for (int64_t i = 0; i < P; i++)
            if (rank[j * P + i] < rope_dim / 2) {
                CHECK(found < rope_dim / 2);
                kept[j * (rope_dim / 2) + found++] = (int32_t)i;
            }
        CHECK(found == rope_dim / 2);
    }
}
