/* test_finite.c - NaN and infinite weights are reported by file, tensor and index, in every
 * parameter of every kind and dtype; and a run refuses them before it leaves anything behind. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>

#include "tests/tiny_model.h"
#include "tests/tmpdir.h"

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

/* The head's tensor is one block of half a megabyte and a remainder: tests the ends of both. */
static void test_blocks(void **state)
{
    static const char json[] =
        "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":8,"
        "\"num_hidden_layers\":1,\"num_attention_heads\":4,\"vocab_size\":2500,"
        "\"max_position_embeddings\":64,\"initializer_range\":0.2}";
    const int64_t step = (1 << 19) / 4, places[] = {step - 1, step, 2500 * 64 - 1};
    struct st_model files;
    struct err e = {0};
    struct model m;

    tiny_from_json(&m, json, strlen(json), 1);
    must(model_save(&m, tmpdir_path(state, "m"), DT_F32, false, &e), &e);
    model_close(&m);
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
    must_run(state, GIVEN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_named), tmpdir_test(test_blocks),
                                       program_test(test_refused)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
