/* test_model_files.c - models to directories and back: the same bits, both key layouts, directories
 * of changed tensors, and the messages if tensors and config.json disagree. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bf16.h"
#include "convert/transform.h"

#include <math.h>

#include "tests/tiny_convert.h"
#include "tests/tmpdir.h"

#include "tests/edited_model.h"

static const char *const mixed[] = {"tttitt|TTT", "ttt|TTTT", "itti|TT"};
enum { MIXED = 3 };

static float *logits_of(struct model *m, int64_t *n)
{
    struct tiny_batch b;
    struct err e = {0};
    struct tape *t = tape_new(&e);

    must(t, &e);
    tiny_batch(&b, mixed, MIXED, 8);
    *n = b.b.batch.tokens * TINY_VOCAB;
    float *logits = tiny_logits(m, t, &b.f);
    tiny_batch_free(&b);
    tape_free(t);
    return logits;
}

static void assert_same_logits(struct model *a, struct model *b)
{
    int64_t n, same;
    float *x = logits_of(a, &n), *y = logits_of(b, &same);

    assert_int_equal(n, same);
    assert_memory_equal(x, y, (size_t)n * sizeof *x);
    free(x);
    free(y);
}

/* What the conversion steps write to config.json. */
static void set_section(struct model *m, const char *method, int64_t rope_dim, int64_t low_rank)
{
    struct mha2mla_config c = {.partial_rope_version = "mkl",
                               .rope_dim_for_mla = rope_dim,
                               .svd_init_method = method,
                               .low_rank = low_rank,
                               .decoupled = m->decoupled};
    struct err e = {0};

    must(hf_config_set_mha2mla(&m->cfg, &c, &e), &e);
}

static void to_partial(struct model *m)
{
    int32_t pairs[TINY_LAYERS * TINY_HEADS * 4];
    struct err e = {0};

    tiny_pairs(m, 4, pairs, 11);
    must(model_to_partial(m, pairs, 4, &e), &e);
    set_section(m, "none", 4, 8);
}

/* The factors need not be good. */
static void to_mla(struct model *m, enum kv_method method, bool decoupled)
{
    enum { LATENT = 6 };
    struct factors f[TINY_LAYERS][MODALITIES];
    struct err e = {0};
    struct rng r;
    float *v;

    rng_seed(&r, 3, 0);
    v = tiny_values(&r, 64 * TINY_D, 0.2);
    for (int i = 0; i < TINY_LAYERS * MODALITIES; i++)
        f[i / MODALITIES][i % MODALITIES] =
            (struct factors){{v + i, v + 10 + i}, v + 20 + i, v + 30 + i, LATENT};
    must(model_to_mla(m,
                      &(struct to_mla){method, decoupled, LATENT,
                                       (const struct factors(*)[MODALITIES])f, NULL, NULL, NULL},
                      &e),
         &e);
    set_section(m, kv_method_names[method], 4, LATENT / 2);
    free(v);
}

static void save(const struct model *m, const char *dir, enum dtype dtype, bool delta)
{
    struct err e = {0};

    must(model_save(m, dir, dtype, delta, &e), &e);
}

static void open_model(struct model *m, const char *dir)
{
    struct err e = {0};

    must(model_open(m, dir, &e), &e);
}

static void test_round_trip(void **state)
{
    struct model m, again;

    for (int i = -2; i < 2 * KV_METHODS; i++) { /* FULL, PARTIAL, then each method, shared or not */
        char name[32];
        snprintf(name, sizeof name, "model%d", i);
        tiny_model(&m, 2, i % 3 == 0, 4);
        if (i > -2) to_partial(&m);
        if (i >= 0) to_mla(&m, (enum kv_method)(i / 2), i % 2);
        save(&m, tmpdir_path(state, name), DT_F32, false);
        open_model(&again, tmpdir_path(state, name));
        if (i != 0) assert_int_equal(again.state, m.state); /* "none", shared: same as PARTIAL */
        assert_int_equal(again.method, m.method);
        assert_int_equal(again.decoupled, m.decoupled);
        assert_same_logits(&m, &again);
        model_close(&m);
        model_close(&again);
    }
}

/* Latents that differ by layer are in config.json; one that does not fit the tensors is refused. */
static void test_latents(void **state)
{
    static const int64_t latents[TINY_LAYERS] = {4, 8};
    static const struct {
        const char *list, *error;
    } bad[] = {{"[4]", "mha2mla.latents: not a list with a number for each layer"},
               {"4", "mha2mla.latents: not a list with a number for each layer"},
               {"[4,0]", "mha2mla.latents: an entry that is not a width"},
               {"[4,1.5]", "mha2mla.latents: an entry that is not a width"},
               {"[4,\"8\"]", "mha2mla.latents: an entry that is not a width"},
               {"[4,6]", "by config.json it must be [6"}};
    const char *dir = tmpdir_path(state, "uneven");
    char path[1000], *text, *at;
    struct model m, again;
    struct err e;

    snprintf(path, sizeof path, "%s/config.json", dir);
    for (int i = 2; i < 2 * KV_METHODS; i++) {
        tiny_model(&m, 2, true, 4);
        to_partial(&m);
        tiny_mla_of(&m, (enum kv_method)(i / 2), i % 2, 8, latents);
        set_section(&m, kv_method_names[i / 2], 4, 3);
        save(&m, dir, DT_F32, false);
        open_model(&again, dir);
        assert_non_null(again.latents);
        assert_memory_equal(again.latents, latents, sizeof latents);
        assert_int_equal(again.latent, 6);
        assert_same_logits(&m, &again);
        model_close(&m);
        model_close(&again);
    }
    text = slurp(path, NULL);
    at = strstr(text, "\"latents\"");
    assert_non_null(at);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char edited[20000];
        snprintf(edited, sizeof edited, "%.*s\"latents\": %s%s", (int)(at - text), text,
                 bad[i].list, strchr(at, ']') + 1);
        spill(path, edited, strlen(edited));
        assert_false(model_open(&again, dir, &e));
        if (!strstr(e.msg, bad[i].error)) fail_msg("%s: %s", bad[i].list, e.msg);
    }
    free(text);
}

/* bf16 is the nearest bf16 to each value. */
static void test_bf16(void **state)
{
    struct model m, again;

    tiny_model(&m, 2, true, 4);
    save(&m, tmpdir_path(state, "model"), DT_BF16, false);
    open_model(&again, tmpdir_path(state, "model"));
    assert_int_equal(m.n_params, again.n_params);
    for (int64_t i = 0; i < m.n_params; i++) {
        const struct param *p = &m.params[i], *q = &again.params[i];
        assert_string_equal(p->name, q->name);
        assert_int_equal(q->t.dtype, DT_BF16);
        for (int64_t k = 0; k < tensor_count(&p->t); k++)
            assert_int_equal(((const uint16_t *)q->t.data)[k],
                             bf16_from_f32(tensor_real(&p->t)[k]));
    }
    model_close(&m);
    model_close(&again);
}

/* A copy whose tensors have another dtype and are in shards of at most `shard` bytes. */
static void copy_as(const char *from, const char *to, enum st_dtype dtype, uint64_t shard)
{
    struct st_model in;
    struct st_writer w = {0};
    struct st_spec specs[128];
    struct err e = {0};

    must(file_mkdirs(to, &e) && st_model_open(&in, from, &e), &e);
    assert_true(in.count <= 128);
    for (size_t i = 0; i < in.count; i++) {
        const struct st_tensor *t = in.tensors[i];
        specs[i] = (struct st_spec){.name = t->name, .dtype = dtype, .ndim = t->ndim};
        memcpy(specs[i].dim, t->dim, sizeof t->dim);
    }
    must(st_write_model_begin(&w, to, specs, in.count, NULL, shard, &e), &e);
    for (size_t i = 0; i < in.count; i++) {
        size_t n = st_count(in.tensors[i]);
        float *v = mem_new(n, sizeof *v, "values", &e);
        static const char zeros[1 << 16];
        assert_true(v && 8 * n <= sizeof zeros);
        must(st_read_f32(in.tensors[i], 0, n, v, &e), &e);
        if (st_dtypes[dtype].from_f32)
            must(st_write_f32(&w, i, v, n, &e), &e);
        else
            must(st_write_raw(&w, i, zeros, n * st_dtypes[dtype].bits / 8, &e), &e);
        free(v);
    }
    must(st_write_end(&w, &e), &e);
    copy_config(from, to, &(struct edit){0});
    st_model_close(&in);
}

/* Whether p's values are in the mapped files. */
static bool is_mapped(const struct model *m, const struct param *p)
{
    const uint8_t *data = p->t.data;

    for (size_t i = 0; i < m->files.file_count; i++) {
        const struct file_map *map = &m->files.files[i].map;
        if (data >= map->data && data < map->data + map->size) return !p->own;
    }
    return false;
}

/* Each dtype, in one file and in shards: the values are the file's, and what is not trained stays
 * there. F64 cannot be computed with, so it alone becomes fp32 memory. */
static void test_dtypes_and_shards(void **state)
{
    static const struct {
        enum st_dtype file;
        enum dtype dtype;
        bool mapped;
    } rows[] = {{ST_F32, DT_F32, true},
                {ST_BF16, DT_BF16, true},
                {ST_F16, DT_F16, true},
                {ST_F64, DT_F32, false}};
    struct model m, again;
    struct err e = {0};

    tiny_model(&m, 2, true, 4);
    save(&m, tmpdir_path(state, "model"), DT_F32, false);
    for (int i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "copy%d", i);
        copy_as(tmpdir_path(state, "model"), tmpdir_path(state, name), rows[i / 2].file,
                i % 2 ? 20000 : 0);
        open_model(&again, tmpdir_path(state, name));
        assert_int_equal(again.files.file_count > 2, i % 2);
        must(model_train(&again, 1u << PARAM_K, &e), &e);
        for (int64_t k = 0; k < m.n_params; k++) {
            struct param *p = &again.params[k];
            bool trained = p->kind == PARAM_K;
            assert_int_equal(is_mapped(&again, p), rows[i / 2].mapped && !trained);
            assert_int_equal(p->t.dtype, trained ? DT_F32 : rows[i / 2].dtype);
            for (int64_t j = 0; j < tensor_count(&p->t); j++) {
                float got, want = tensor_real(&m.params[k].t)[j];
                tensor_to_real(&p->t, j, 1, &got);
                if (rows[i / 2].file == ST_BF16) want = bf16_to_f32(bf16_from_f32(want));
                if (rows[i / 2].file == ST_F16) want = f16_to_f32(f16_from_f32(want));
                assert_true(got == want);
            }
        }
        model_close(&again);
    }
    copy_as(tmpdir_path(state, "model"), tmpdir_path(state, "whole-numbers"), ST_I32, 0);
    assert_false(model_open(&again, tmpdir_path(state, "whole-numbers"), &e));
    assert_non_null(strstr(e.msg, "is I32; F64, F32, F16 and BF16 can be read"));
    assert_non_null(strstr(e.msg, "embed_tokens.weight"));
    model_close(&m);
}

/* LLaVA's tensors under their older and newer names are the same model, and keep their names. */
static void test_key_layouts(void **state)
{
    struct model m, newer, again;
    const struct st_tensor *t;

    tiny_model(&m, 2, true, 4);
    save(&m, tmpdir_path(state, "old"), DT_F32, false);
    copy_edited(tmpdir_path(state, "old"), tmpdir_path(state, "new"),
                &(struct edit){.layout = true});
    open_model(&newer, tmpdir_path(state, "new"));
    t = st_model_find(&newer.files, "model.language_model.layers.0.self_attn.q_proj.weight");
    assert_non_null(t);
    assert_same_logits(&m, &newer);
    save(&newer, tmpdir_path(state, "saved"), DT_F32, false);
    open_model(&again, tmpdir_path(state, "saved"));
    assert_non_null(st_model_find(&again.files, "lm_head.weight"));
    assert_same_logits(&m, &again);
    model_close(&m);
    model_close(&newer);
    model_close(&again);
}

static bool holds(const struct model *m, const char *what)
{
    for (size_t i = 0; i < m->files.count; i++)
        if (strstr(m->files.tensors[i]->name, what)) return true;
    return false;
}

/* A directory of changed tensors: nothing in it is trained yet, and the value projection is still
 * in the base under another name; it must be found nevertheless. */
static void test_delta(void **state)
{
    static const bool decoupled[] = {false, true};
    struct model m, delta, full;

    tiny_model(&m, 2, true, 4);
    save(&m, tmpdir_path(state, "base"), DT_F32, false);
    model_close(&m);
    open_model(&m, tmpdir_path(state, "base"));
    to_partial(&m);
    save(&m, tmpdir_path(state, "partial"), DT_F32, true);
    open_model(&delta, tmpdir_path(state, "partial"));
    assert_same_logits(&m, &delta);
    assert_true(holds(&delta, "k_r_proj") && holds(&delta, "up_v"));
    assert_false(holds(&delta, "embed_tokens") || holds(&delta, "mlp") || holds(&delta, "vision"));
    model_close(&delta);
    model_close(&m);
    for (int i = 0; i < 2 * KV_METHODS; i++) {
        char name[32];
        snprintf(name, sizeof name, "svd%d", i);
        open_model(&m, tmpdir_path(state, "partial")); /* a delta of a delta */
        to_mla(&m, (enum kv_method)(i / 2), decoupled[i % 2]);
        save(&m, tmpdir_path(state, name), DT_F32, true);
        open_model(&delta, tmpdir_path(state, name));
        assert_same_logits(&m, &delta);
        assert_string_equal(delta.base_dir, tmpdir_path(state, "base"));
        assert_false(holds(&delta, "embed_tokens"));
        strcat(name, "-full"); /* and from there everything again */
        save(&delta, tmpdir_path(state, name), DT_F32, false);
        open_model(&full, tmpdir_path(state, name));
        assert_null(full.base_dir);
        assert_same_logits(&m, &full);
        model_close(&m);
        model_close(&delta);
        model_close(&full);
    }
}

/* Each gives one line that names the fault, and nothing stays open; test_bad_input.c has more. */
static void test_refused(void **state)
{
#define T "language_model.model."
    static const struct {
        struct edit edit;
        const char *said[3];
    } rows[] = {
        {{.skip = T "layers.1.self_attn.k_proj.weight"},
         {T "layers.1.self_attn.k_proj.weight", "missing"}},
        {{.skip = "vision_tower.vision_model.pre_layrnorm.bias"}, {"pre_layrnorm.bias", "missing"}},
        {{.skip = T "embed_tokens.weight"}, {T "embed_tokens.weight is missing"}},
        {{.skip = T "norm.weight"}, {"no tensor ...norm.weight", "llava"}},
        {{.more = T "layers.1.mlp.new.weight"}, {T "layers.1.mlp.new.weight", "not used"}},
        {{.more = T "layers.2.mlp.up_proj.weight"}, {"num_hidden_layers is 2", "have 3 layers"}},
        {{.twist = T "layers.1.mlp.gate_proj.weight"},
         {T "layers.1.mlp.gate_proj.weight", "[32, 48]", "[48, 32]"}},
        {{.find = "\"hidden_size\":\t32", .replace = "\"hidden_size\":64"},
         {"config.json:9:17: text_config.hidden_size is 64", "embed_tokens.weight is [40, 32]"}},
        {{.find = "\"attention_bias\":\tfalse", .replace = "\"attention_bias\":true"},
         {"attention_bias is true", "q_proj.bias"}},
    };
#undef T
    struct model m;

    tiny_model(&m, 2, false, 4);
    save(&m, tmpdir_path(state, "good"), DT_F32, false);
    model_close(&m);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {0};
        char name[32];
        snprintf(name, sizeof name, "bad%d", (int)i);
        copy_edited(tmpdir_path(state, "good"), tmpdir_path(state, name), &rows[i].edit);
        assert_false(model_open(&m, tmpdir_path(state, name), &e));
        for (int k = 0; k < 3 && rows[i].said[k]; k++)
            if (!strstr(e.msg, rows[i].said[k]))
                fail_msg("'%s' is not in: %s", rows[i].said[k], e.msg);
        assert_null(strchr(e.msg, '\n'));
        assert_non_null(strstr(e.msg, *state)); /* the place */
        assert_null(m.params);
    }
}

/* A converted model whose config.json does not match its tensors. */
static void test_refused_converted(void **state)
{
    static const struct {
        struct edit edit;
        const char *said;
    } rows[] = {
        {{.find = "\"rope_dim_for_mla\":\t4", .replace = "\"rope_dim_for_mla\":2"}, "rope_pairs"},
        {{.find = "\"rope_dim_for_mla\":\t4", .replace = "\"rope_dim_for_mla\":0"}, "2 or more"},
        {{.find = "\"mha2mla\"", .replace = "\"other\""}, "mha2mla: missing"},
        {{.find = "\"rope_pairs\"", .replace = "\"other\""}, "rope_ranks.pth, is not there; put"},
        {{.find = "[[[", .replace = "[[[77, "}, "another number"},
        {{.find = "[[[", .replace = "[[["}, NULL}, /* unchanged: it opens */
    };
    struct model m;

    tiny_model(&m, 2, false, 4);
    to_partial(&m);
    to_mla(&m, KV_JOINT, true);
    save(&m, tmpdir_path(state, "good"), DT_F32, false);
    model_close(&m);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct err e = {0};
        char name[32];
        snprintf(name, sizeof name, "bad%d", (int)i);
        copy_edited(tmpdir_path(state, "good"), tmpdir_path(state, name), &rows[i].edit);
        assert_int_equal(model_open(&m, tmpdir_path(state, name), &e), !rows[i].said);
        if (rows[i].said && !strstr(e.msg, rows[i].said))
            fail_msg("'%s' is not in: %s", rows[i].said, e.msg);
        model_close(&m);
    }
}

/* The bits of p's row i, whose dtype has 2 bytes. */
static const void *row_bits(const struct param *p, int64_t i)
{
    return (const uint16_t *)p->t.data + i * p->t.cols;
}

/* Every row of q is a row of the original, in the file's dtype and with its bits; each once. */
static void assert_rows_moved(const struct param *const q[2], const struct param *was)
{
    bool taken[TINY_D] = {false};
    int64_t found = 0;

    for (int k = 0; k < 2; k++) {
        assert_int_equal(q[k]->t.dtype, was->t.dtype);
        for (int64_t i = 0; i < q[k]->t.rows; i++)
            for (int64_t j = 0; j < was->t.rows; j++)
                if (memcmp(row_bits(q[k], i), row_bits(was, j), TINY_D * 2) == 0) {
                    assert_false(taken[j]);
                    taken[j] = true;
                    found++;
                }
    }
    assert_int_equal(found, was->t.rows);
}

/* Rows that were only moved keep the file's dtype and bits, in memory and when saved as either
 * dtype; a partly trained tensor is written like its trained part. */
static void test_moved_rows_keep_their_dtype(void **state)
{
    static const struct {
        enum st_dtype file;
        enum dtype dtype, save;
    } rows[] = {{ST_BF16, DT_BF16, DT_F32},
                {ST_BF16, DT_BF16, DT_BF16},
                {ST_F16, DT_F16, DT_F32},
                {ST_F16, DT_F16, DT_BF16}};
    struct model m, original, again;
    struct err e = {0};

    tiny_model(&m, 2, true, 4);
    save(&m, tmpdir_path(state, "f32"), DT_F32, false);
    model_close(&m);
    for (int i = 0; i < 4; i++) {
        char name[3][32];
        for (int k = 0; k < 3; k++)
            snprintf(name[k], sizeof name[k], "moved%d-%d", i, k);
        copy_as(tmpdir_path(state, "f32"), tmpdir_path(state, name[0]), rows[i].file, 0);
        open_model(&original, tmpdir_path(state, name[0]));
        open_model(&m, tmpdir_path(state, name[0]));
        to_partial(&m);
        save(&m, tmpdir_path(state, name[1]), rows[i].save, true);
        open_model(&again, tmpdir_path(state, name[1]));
        for (int l = 0; l < TINY_LAYERS; l++) {
            const struct attn *a = &m.layers[l].attn, *b = &again.layers[l].attn;
            const struct attn *was = &original.layers[l].attn;
            assert_rows_moved((const struct param *[]){a->q[0], a->q[1]}, was->q[0]);
            assert_rows_moved((const struct param *[]){b->q[0], b->q[1]}, was->q[0]);
            assert_rows_moved((const struct param *[]){b->k, b->set[TEXT].up_k}, was->k);
            assert_true(a->q[1]->own && !b->q[1]->own);
            assert_int_equal(b->q_b[1]->t.dtype, rows[i].dtype);
        }
        assert_same_logits(&m, &again);
        model_close(&again);
        must(model_train(&m, 1u << PARAM_Q_ROPE, &e), &e);
        assert_int_equal(m.layers[0].attn.q[0]->t.dtype, DT_F32);
        assert_int_equal(m.layers[0].attn.q[1]->t.dtype, rows[i].dtype);
        save(&m, tmpdir_path(state, name[2]), rows[i].save, true);
        open_model(&again, tmpdir_path(state, name[2]));
        assert_int_equal(again.layers[0].attn.q[1]->t.dtype, rows[i].save);
        assert_int_equal(again.layers[0].attn.k->t.dtype, rows[i].dtype);
        if (rows[i].save == DT_F32 || rows[i].file == ST_BF16) assert_same_logits(&m, &again);
        model_close(&again);
        model_close(&m);
        model_close(&original);
    }
}

/* Changed tensors only go with the weights that they came from: not with others of the same shape,
 * and not with those when they were changed since. */
static void test_delta_other_base(void **state)
{
    struct model m;
    struct err e = {0};

    for (int i = 0; i < 2; i++) {
        tiny_model(&m, 2, false, 4);
        ((float *)m.params[0].t.data)[0] += (float)i;
        save(&m, tmpdir_path(state, i ? "other" : "base"), DT_F32, false);
        model_close(&m);
    }
    open_model(&m, tmpdir_path(state, "base"));
    to_partial(&m);
    save(&m, tmpdir_path(state, "delta"), DT_F32, true);
    model_close(&m);
    open_model(&m, tmpdir_path(state, "delta"));
    assert_int_equal(m.n_notes, 0);
    assert_true(model_keep_files(&m, &e));
    model_close(&m);

    bool changed = false;
    assert_true(model_move_base(tmpdir_path(state, "delta"), tmpdir_path(state, "base"),
                                tmpdir_path(state, "other"), &changed, &e));
    assert_true(changed);
    open_model(&m, tmpdir_path(state, "delta"));
    assert_false(model_keep_files(&m, &e));
    if (!strstr(e.msg, "other weights than those")) fail_msg("%s", e.msg);
    model_close(&m);
}

/* A directory that points to a base that is not there says so. */
static void test_delta_without_base(void **state)
{
    struct model m;
    struct err e = {0};

    tiny_model(&m, 2, false, 4);
    save(&m, tmpdir_path(state, "base"), DT_F32, false);
    model_close(&m);
    open_model(&m, tmpdir_path(state, "base"));
    to_partial(&m);
    save(&m, tmpdir_path(state, "delta"), DT_F32, true);
    model_close(&m);
    assert_int_equal(rename(tmpdir_path(state, "base"), tmpdir_path(state, "moved")), 0);
    assert_false(model_open(&m, tmpdir_path(state, "delta"), &e));
    assert_non_null(strstr(e.msg, tmpdir_path(state, "base")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_round_trip),
                                       tmpdir_test(test_latents),
                                       tmpdir_test(test_bf16),
                                       tmpdir_test(test_dtypes_and_shards),
                                       tmpdir_test(test_key_layouts),
                                       tmpdir_test(test_delta),
                                       tmpdir_test(test_delta_other_base),
                                       tmpdir_test(test_refused),
                                       tmpdir_test(test_refused_converted),
                                       tmpdir_test(test_moved_rows_keep_their_dtype),
                                       tmpdir_test(test_delta_without_base)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
