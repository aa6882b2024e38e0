/* weights.c - files of tensors and of ranks. */
#include "base/hash.h"
#include "model/files/rankfile.h"
#include "model/files/safetensors.h"
#include "model/files/torchfile.h"
#include "tests/fuzz/target.h"
#include "train/record/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Every tensor can be found by its name and read to its end. */
static void look_at(const struct st_tensor *t, const struct st_tensor *found)
{
    volatile uint8_t sum = 0;
    const uint8_t *p = t->data;
    float value;
    struct err e = {0};

    CHECK(t == found);
    for (size_t i = 0; i < t->bytes; i++)
        sum = (uint8_t)(sum + p[i]);
    if (st_count(t) > 0 && !st_read_f32(t, st_count(t) - 1, 1, &value, &e)) fuzz_failed(&e);
}

void fuzz_safetensors(const uint8_t *data, size_t n)
{
    const char *path = fuzz_file("x.safetensors", data, n);
    struct st_file f;
    struct err e = {0};

    if (!st_open(&f, path, &e)) {
        fuzz_failed(&e);
        return;
    }
    for (size_t i = 0; i < f.count; i++)
        look_at(&f.tensors[i], st_find(&f, f.tensors[i].name));
    st_close(&f);
}

static void open_model(void)
{
    struct st_model m;
    struct err e = {0};

    if (st_model_open(&m, fuzz_dir(), &e)) {
        for (size_t i = 0; i < m.count; i++)
            look_at(m.tensors[i], st_model_find(&m, m.tensors[i]->name));
        st_model_close(&m);
    } else {
        fuzz_failed(&e);
    }
}

/* An index next to two complete shards. */
void fuzz_index(const uint8_t *data, size_t n)
{
    static const char *const shards[] = {"\x40\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1]"
                                         ",\"data_offsets\":[0,4]}}           "
                                         "  abcd",
                                         "\x40\0\0\0\0\0\0\0{\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
                                         "\"data_offsets\":[0,2]}}            "
                                         "  ab"};

    fuzz_file("model-00001-of-00002.safetensors", shards[0], 8 + 64 + 4);
    fuzz_file("model-00002-of-00002.safetensors", shards[1], 8 + 64 + 2);
    fuzz_file("model.safetensors.index.json", data, n);
    open_model();
}

/* A model's weights as written by torch.save. */
void fuzz_torch_model(const uint8_t *data, size_t n)
{
    fuzz_remove("model.safetensors.index.json");
    fuzz_file("pytorch_model.bin", data, n);
    open_model();
}

void fuzz_torch(const uint8_t *data, size_t n)
{
    struct torch_tensor t;
    struct err e = {0};

    if (torchfile_read(&t, fuzz_file("x.pth", data, n), 1 << 16, &e))
        free(t.values);
    else
        fuzz_failed(&e);
}

void fuzz_rank(const uint8_t *data, size_t n)
{
    const struct rank_dims dims = {2, 2, 2, 8};
    struct rankfile_info info;
    int32_t rank[2 * 2 * 4];
    struct err e = {0};

    if (!rankfile_read(fuzz_file("rank.h5", data, n), &dims, rank, &info, &e)) fuzz_failed(&e);
}

/* With the seal that a legitimate writer would put on it: the rest has to be safe by itself. */
void fuzz_checkpoint(const uint8_t *data, size_t n)
{
    enum { BLOCK = 512 };
    float a[6];
    int64_t b[3];
    const struct ckpt_item items[] = {{"a", CKPT_F32, 2, 3, .data = a},
                                      {"b", CKPT_I64, 1, 3, .data = b}};
    uint8_t *sealed = malloc(n + 1);
    struct err e = {0};
    struct sha256 sum;
    char *meta, hex[65];

    CHECK(sealed);
    memcpy(sealed, data, n);
    if (n > BLOCK && n & 1) {
        sha256_init(&sum);
        sha256_add(&sum, data + BLOCK, n - BLOCK);
        sha256_hex(&sum, hex);
        memset(sealed, 0, BLOCK);
        snprintf((char *)sealed, BLOCK, "mha2mla checkpoint 1\nbytes %zu\nsha256 %s\n", n, hex);
    }
    if (checkpoint_load(fuzz_file("x.h5", sealed, n), items, 2, &meta, &e))
        free(meta);
    else
        fuzz_failed(&e);
    free(sealed);
}
