/* test_finite.c - NaN and infinite weights are reported by file, tensor and index, in every
 * parameter of every kind and dtype; and a run refuses them before it leaves anything behind. So it
 * does with the zeros of an unfinished download. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>

#include "tests/tiny_model.h"
#include "tests/tmpdir.h"
#include "tests/edited_model.h"

#include "tests/program.h"

/* Bit patterns that are not finite numbers, and the largest finite one. */
static const struct {
    enum st_dtype dtype;
    uint32_t nan, infinity, negative, largest;
} bits[] = {{ST_F32, 0x7fc00000, 0x7f800000, 0xff800000, 0xff7fffff},
            {ST_BF16, 0x7f81, 0x7f80, 0xff80, 0xff7f},
            {ST_F16, 0xfe00, 0x7c00, 0xfc00, 0xfbff}};

static void copy_model(void *const *state, const char *from)
{
    char command[600];

    snprintf(command, sizeof command, "rm -rf $T/m && cp -r %s $T/m", from);
    must_run(state, command);
}

/* Overwrites element i of a tensor in its file. */
static uint32_t poke(const struct st_model *files, const struct st_tensor *t, int64_t i,
                     uint32_t value)
{
    const struct st_file *f = files->files;
    size_t size = t->dtype == ST_F32 ? 4 : 2;
    uint32_t was = 0;
    long at;
    FILE *fp;

    while (strcmp(f->path, t->file) != 0)
        f++;
    at = (long)((const uint8_t *)t->data - f->map.data) + (long)size * (long)i;
    fp = fopen(f->path, "rb+");
    assert_non_null(fp);
    assert_int_equal(fseek(fp, at, SEEK_SET), 0);
    assert_int_equal(fread(&was, 1, size, fp), size);
    assert_int_equal(fseek(fp, at, SEEK_SET), 0);
    assert_int_equal(fwrite(&value, 1, size, fp), size);
    assert_int_equal(fclose(fp), 0);
    return was;
}

static void must_name(const struct model *m, const struct st_tensor *t, int64_t i,
                      const char *value)
{
    char want[800], index[400] = "";
    struct err e = {0};
    int64_t below = 1;

    for (int k = t->ndim - 1; k >= 0; k--) { /* from the last dim on, prepending each */
        char rest[200];
        snprintf(rest, sizeof rest, "%s", index);
        snprintf(index, sizeof index, "%lld%s%s", (long long)(i / below % t->dim[k]),
                 *rest ? ", " : "", rest);
        below *= t->dim[k];
    }
    snprintf(want, sizeof want, "%s: tensor %s: [%s] is %s: ", t->file, t->name, index, value);
    assert_false(model_check_finite(m, &e));
    if (strncmp(e.msg, want, strlen(want)) != 0) fail_msg("not '%s', but: %s", want, e.msg);
}

static void try_model(void **state, const char *from)
{
    struct st_model files;
    struct err e = {0};
    struct model m;
    size_t tried = 0;

    copy_model(state, from);
    must(model_open(&m, tmpdir_path(state, "m"), &e), &e); /* mapped: sees later writes */
    must(st_model_open(&files, tmpdir_path(state, "m"), &e), &e);
    must(model_check_finite(&m, &e), &e);
    for (size_t k = 0; k < files.count; k++) {
        const struct st_tensor *t = files.tensors[k];
        int64_t n = 1, places[3];
        size_t b = 0;
        while (b < 3 && bits[b].dtype != t->dtype)
            b++;
        if (b == 3 || strstr(t->name, "position_ids")) continue;
        for (int d = 0; d < t->ndim; d++)
            n *= t->dim[d];
        places[0] = 0;
        places[1] = n / 2;
        places[2] = n - 1;
        for (int p = 0; p < 3; p++) {
            uint32_t was = poke(&files, t, places[p], bits[b].nan);
            must_name(&m, t, places[p], "NaN");
            poke(&files, t, places[p], bits[b].infinity);
            must_name(&m, t, places[p], "infinity");
            poke(&files, t, places[p], bits[b].negative);
            must_name(&m, t, places[p], "-infinity");
            poke(&files, t, places[p], bits[b].largest);
            must(model_check_finite(&m, &e), &e);
            poke(&files, t, places[p], was);
        }
        tried++;
    }
    assert_in_range(tried, 10, 1000);
    st_model_close(&files);
    model_close(&m);
}

static void test_named(void **state)
{
    static const char *const models[] = {"llava", "llava-fp16", "llama-bf16", "llava-4.52"};
    char path[200];

    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        snprintf(path, sizeof path, "tests/data/models/%s", models[i]);
        try_model(state, path);
    }
}

static void make_blocks(void **state)
{
    static const char json[] =
        "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":8,"
        "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"vocab_size\":2500,"
        "\"max_position_embeddings\":64,\"initializer_range\":0.2}";
    struct err e = {0};
    struct model m;

    tiny_from_json(&m, json, strlen(json), 1);
    must(model_save(&m, tmpdir_path(state, "m"), DT_F32, false, &e), &e);
    model_close(&m);
}

/* The head's tensor is one block of half a megabyte and a remainder: tests the ends of both. */
static void test_blocks(void **state)
{
    const int64_t step = (1 << 19) / 4, places[] = {step - 1, step, 2500 * 64 - 1};
    struct st_model files;
    struct err e = {0};
    struct model m;

    make_blocks(state);
    must(model_open(&m, tmpdir_path(state, "m"), &e), &e);
    must(st_model_open(&files, tmpdir_path(state, "m"), &e), &e);
    for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
        const struct st_tensor *t = st_model_find(&files, "lm_head.weight");
        uint32_t was = poke(&files, t, places[p], bits[0].nan);
        must_name(&m, t, places[p], "NaN");
        poke(&files, t, places[p], was);
    }
    must(model_check_finite(&m, &e), &e);
    st_model_close(&files);
    model_close(&m);
}

#define GIVEN                                                                                      \
    "$B/mha2mla-train --config $C --set run.dir=$T/given --set model.path=$T/run/baseline/model "  \
    "--set 'run.steps=[\"rank\"]' "

/* In the tower too, whose features are cached: refused by the dry run, and by the run before it
 * leaves a directory. */
static void test_refused(void **state)
{
    struct st_model files;
    struct err e = {0};

    must_run(state, "$B/mha2mla-train --config $C --set 'run.steps=[\"baseline\"]'");
    must_run(state, GIVEN "--dry-run && grep -q 'every weight is a number' $T/out");
    must(st_model_open(&files, tmpdir_path(state, "run/baseline/model"), &e), &e);
    for (size_t k = 0; k < files.count; k += files.count / 4) {
        uint32_t was = poke(&files, files.tensors[k], 1, bits[0].nan);
        must_fail(state, GIVEN "--dry-run", "1] is NaN: no such weight can be used");
        must_fail(state, GIVEN, files.tensors[k]->name);
        assert_false(is_there(tmpdir_path(state, "given")));
        poke(&files, files.tensors[k], 1, was);
    }
    st_model_close(&files);
    must_run(state, GIVEN " && rm -rf $T/given");
    must_run(state, "cd $T/run/baseline/model && n=$(stat -c %s model.safetensors) && "
                    "truncate -s $((n / 2)) model.safetensors && truncate -s $n model.safetensors");
    must_fail(state, GIVEN "--dry-run", "bytes are nothing but zeros: the download or copy did");
    must_fail(state, GIVEN, "model.safetensors: tensor ");
    assert_false(is_there(tmpdir_path(state, "given")));
}

/* ---- zeros ---- */

/* Overwrites n bytes of a file with zeros, starting at `data` in its mapping; 0: to its end. */
static void wipe(const struct st_file *f, const void *data, size_t n)
{
    size_t at = (size_t)((const uint8_t *)data - f->map.data);
    char *zeros = calloc(1, f->map.size);
    FILE *fp = fopen(f->path, "rb+");

    assert_non_null(fp);
    assert_non_null(zeros);
    assert_int_equal(fseek(fp, (long)at, SEEK_SET), 0);
    n = n ? n : f->map.size - at;
    assert_int_equal(fwrite(zeros, 1, n, fp), n);
    assert_int_equal(fclose(fp), 0);
    free(zeros);
}

/* The tensor k places before the file's last. */
static const struct st_tensor *from_last(const struct st_file *f, size_t k)
{
    const uint8_t *end = f->map.data + f->map.size;
    const struct st_tensor *t = NULL;

    do {
        for (size_t i = 0; i < f->count; i++)
            if ((const uint8_t *)f->tensors[i].data + f->tensors[i].bytes == end)
                t = &f->tensors[i];
        end = t->data;
    } while (k-- > 0);
    return t;
}

struct opened {
    struct st_file f;
    struct model m;
};

static struct opened open_copy(void **state, const char *from)
{
    struct opened o;
    struct err e;

    copy_model(state, from);
    must(st_open(&o.f, tmpdir_path(state, "m/model.safetensors"), &e), &e);
    must(model_open(&o.m, tmpdir_path(state, "m"), &e), &e);
    return o;
}

static void close_copy(struct opened *o)
{
    st_close(&o->f);
    model_close(&o->m);
}

/* refused: NULL if it is read, with `notes` notes, the last of which contains `says`. */
static void expect_zeros(struct opened *o, const char *refused, size_t notes, const char *says)
{
    size_t before = o->m.n_notes;
    struct err e = {0};
    bool ok = model_check_zeros(&o->m, &e);

    if (ok != !refused || (refused && !strstr(e.msg, refused)))
        fail_msg("wanted %s, got: %s", refused ? refused : "none", e.msg);
    assert_int_equal(o->m.n_notes - before, ok ? notes : 0);
    if (ok && notes && !strstr(o->m.notes[before + notes - 1], says))
        fail_msg("no '%s' in: %s", says, o->m.notes[before + notes - 1]);
    close_copy(o);
}

/* A download that reserves the whole file first, interrupted anywhere but between two tensors. */
static void test_unfinished(void **state)
{
    static const char *const models[] = {"llava", "llava-fp16", "llama-bf16", "llava-4.52"};

    for (size_t k = 0; k < 4; k++)
        for (int part = 0; part < 16; part++) {
            char path[200];
            snprintf(path, sizeof path, "tests/data/models/%s", models[k]);
            struct opened o = open_copy(state, path);
            const char *data = from_last(&o.f, o.f.count - 1)->data;
            size_t size = (size_t)((const char *)o.f.map.data + o.f.map.size - data);
            wipe(&o.f, data + size * (size_t)part / 16, 0);
            expect_zeros(&o, "bytes are nothing but zeros: the download or copy did not end", 0,
                         NULL);
        }
}

/* Zeros that models may have for a reason are read; whole tensors of them are named. */
static void test_zero_tensors(void **state)
{
    static const char *const wiped[] = {"model.layers.0.self_attn.o_proj.weight",
                                        "model.layers.1.mlp.down_proj.weight",
                                        "model.layers.0.input_layernorm.weight"};
    static const char *const says[] = {
        "model.safetensors: tensor model.layers.0.self_attn.o_proj.weight is nothing but zeros: if",
        "model.safetensors: 2 tensors are nothing but zeros, the first "
        "model.layers.0.self_attn.o_proj.weight: if",
        "3 tensors are nothing but zeros, the first model.layers.0.input_layernorm.weight"};

    for (size_t n = 0; n <= 3; n++) {
        struct opened o = open_copy(state, "tests/data/models/llama-bf16");
        for (size_t i = 0; i < n; i++) {
            const struct st_tensor *t = st_find(&o.f, wiped[i]);
            wipe(&o.f, t->data, t->bytes);
        }
        expect_zeros(&o, NULL, n > 0, n ? says[n - 1] : NULL);
    }
    struct opened o = open_copy(state, "tests/data/models/llama-biases");
    for (size_t i = 0; i < o.f.count; i++)
        if (strstr(o.f.tensors[i].name, ".bias"))
            wipe(&o.f, o.f.tensors[i].data, o.f.tensors[i].bytes);
    expect_zeros(&o, NULL, 0, NULL);
}

/* Rows of unused words at the end of a file; and zeros that start within a row. */
static void test_zero_rows(void **state)
{
    static const struct edit edit = {
        .skip = "lm_head.weight", .more = "lm_head.weight", .like = "model.embed_tokens.weight"};
    static const struct {
        size_t values;
        bool refused;
    } ends[] = {{3, false},  {31, false},     {32, false},    {96, false},
                {99, false}, {96 + 17, true}, {32 + 31, true}};

    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        copy_edited("tests/data/models/llama-bf16", tmpdir_path(state, "edited"), &edit);
        struct opened o = open_copy(state, tmpdir_path(state, "edited"));
        const struct st_tensor *t = from_last(&o.f, 0);
        assert_string_equal(t->name, edit.more);
        assert_int_equal(t->dim[1], 32);
        wipe(&o.f, (const char *)t->data + t->bytes - 2 * ends[i].values, 0);
        expect_zeros(&o, ends[i].refused ? "tensor lm_head.weight: from here on its last" : NULL, 0,
                     NULL);
    }
}

/* A download in parts can leave holes. */
static void test_zero_block(void **state)
{
    struct opened o;

    make_blocks(state);
    must_run(state, "mv $T/m $T/blocks");
    o = open_copy(state, tmpdir_path(state, "blocks"));
    wipe(&o.f, st_find(&o.f, "lm_head.weight")->data, 1 << 19);
    expect_zeros(&o, NULL, 1, "tensor lm_head.weight has 512 KiB of zeros in a row: if the model");
}

/* A weight that is no number in what a step has left, as it left it or without a sum that would
 * tell: the next step fails, and says where it is. */
static void test_left_by_a_step(void **state)
{
#define SPOIL(file)                                                                                \
    "f=$T/run/" file "; printf '\\377\\377\\377\\177' | dd of=$f bs=1 conv=notrunc "               \
    "seek=$(($(stat -c %%s $f) - 8)) 2> /dev/null; "
    static const struct {
        const char *model, *lost, *steps;
    } rows[] = {
        {"rope4/stage1/model", "rope4/stage1/scores.json", "evaluate"},
        {"rope4/stage1/model", "rope4-rank4", "svd"},
        {"rope4-rank4/svd/model", "rope4-rank4/stage2", "stage2"},
        {"baseline/model", "rank", "rank"},
    };
    char command[600], said[200];

    must_run(state,
             "$B/mha2mla-train --config $C --set 'sweep.low_rank=[4]' && mv $T/run $T/whole");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(
            command, sizeof command,
            "rm -rf $T/run; cp -r $T/whole $T/run; rm -r $T/run/outputs.json $T/run/%s; " SPOIL(
                "%s/model.safetensors") "$B/mha2mla-train --config $C --resume --set "
                                        "'sweep.low_rank=[4]' --set 'run.steps=[\"%s\"]'",
            rows[i].lost, rows[i].model, rows[i].steps);
        snprintf(said, sizeof said, "/run/%s: is damaged (model.safetensors: tensor ",
                 rows[i].model);
        must_fail(state, command, said);
        must_fail(state, command, "] is NaN: no such weight can be used): delete the directory");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_named),      tmpdir_test(test_blocks),
        tmpdir_test(test_unfinished), tmpdir_test(test_zero_tensors),
        tmpdir_test(test_zero_rows),  tmpdir_test(test_zero_block),
        program_test(test_refused),   program_test(test_left_by_a_step)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
