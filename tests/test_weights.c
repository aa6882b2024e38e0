/* test_weights.c - a model in every form that transformers opens: head and embeddings as one tensor
 * or two, names of both layouts and with a "model." too few or too many, files of torch.save.
 * tests/data/weights/make_golden.py made the directories and their logits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tiny_model.h"
#include "tests/tmpdir.h"

#define DIR_OF(name) "tests/data/weights/" name

/* Each side sums about ten fp32 products in its own order, over one layer. */
static const double tolerance = 1e-5;

/* Logits [T, V] of the text `ids`, in new memory. */
static float *logits_of(struct model *m, const struct st_tensor *ids)
{
    const size_t n = (size_t)ids->dim[0];
    struct sample s = {.n = ids->dim[0], .prompt = ids->dim[0]};
    struct batch_buffer b = {0};
    struct err e = {0};
    struct tape *t = tape_new(&e);
    float *logits;

    must(t, &e);
    s.ids = calloc(n, sizeof *s.ids);
    s.trained = calloc(n, 1);
    s.kind = calloc(n, 1);
    s.image = calloc(1, sizeof *s.image);
    assert_true(s.ids && s.trained && s.kind && s.image);
    memcpy(s.ids, ids->data, ids->bytes);
    memset(s.kind, TEXT, n);
    must(batch_fill(&b, &s, 1, false, &e), &e);
    logits = tiny_logits(m, t, &(struct forward){.batch = &b.batch});
    tiny_sample_free(&s);
    batch_free(&b);
    tape_free(t);
    return logits;
}

/* Whether the values of all parameters are in the mapped files. */
static bool is_mapped(const struct model *m)
{
    for (int64_t i = 0; i < m->n_params; i++) {
        const uint8_t *data = m->params[i].t.data;
        bool in = false;
        for (size_t k = 0; k < m->files.file_count; k++) {
            const struct file_map *map = &m->files.files[k].map;
            in = in || (data >= map->data && data < map->data + map->size);
        }
        if (!in || m->params[i].own) return false;
    }
    return true;
}

static void check_notes(const struct model *m, const char *const *notes)
{
    size_t n = 0;

    for (; n < 3 && notes[n]; n++)
        if (n >= m->n_notes || !strstr(m->notes[n], notes[n]))
            fail_msg("note %zu lacks \"%s\": %s", n, notes[n], n < m->n_notes ? m->notes[n] : "");
    assert_int_equal(n, m->n_notes);
}

static const struct {
    const char *name;
    const char *notes[3];
} forms[] = {
    {"text-head-only", {NULL}},
    {"text-heads-differ",
     {"config.json: tie_word_embeddings is true, but tensor lm_head.weight is not equal to "
      "model.embed_tokens.weight: both are used"}},
    {"text-heads-equal", {NULL}},
    {"text-heads-of-two-dtypes", {NULL}},
    {"text-no-prefix", {NULL}},
    {"text-two-prefixes", {NULL}},
    {"text-extras",
     {"model.safetensors: not used, for it is computed anew: tensor "
      "model.layers.0.self_attn.rotary_emb.inv_freq and 1 more",
      "model.safetensors: not used, for it is a bias of zeros: tensor "
      "model.layers.0.self_attn.k_proj.bias and 1 more"}},
    {"text-bin", {NULL}},
    {"text-bin-tied", {NULL}},
    {"text-bin-parameters", {NULL}},
    {"text-bin-bf16", {NULL}},
    {"text-bin-shards", {NULL}},
    {"llava-bin", {NULL}},
    {"llava-head-only", {NULL}},
    {"llava-old-head-only", {NULL}},
    {"llava-heads-differ", {"tensor lm_head.weight is not equal to model.language_model.embed"}},
    {"llava-old-heads-differ",
     {"tensor language_model.lm_head.weight is not equal to language_model.model.embed"}},
    {"llava-old-new-head", {NULL}},
    {"llava-no-prefix", {NULL}},
};

static void test_forms(void **state)
{

    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct model m, again;
        struct st_file golden;
        struct err e = {0};
        char dir[300], path[400];
        snprintf(dir, sizeof dir, DIR_OF("%s"), forms[i].name);
        snprintf(path, sizeof path, "%s/golden.safetensors", dir);
        must(st_open(&golden, path, &e) && model_open(&m, dir, &e), &e);
        const struct st_tensor *want = st_find(&golden, "logits"), *ids = st_find(&golden, "ids");
        const bool tied = strcmp(st_metadata(&golden, "tied"), "True") == 0;
        const int64_t n = (int64_t)st_count(want);
        float *got = logits_of(&m, ids), *saved;
        const double far = tiny_distance(want->data, got, n);

        if (!(far <= tolerance)) fail_msg("%s: logits differ by %.1e", forms[i].name, far);
        assert_int_equal(m.head == m.embed, tied);
        assert_int_equal(m.cfg.text.tie_word_embeddings, tied);
        assert_true(is_mapped(&m));
        /* the golden file is one that a model would not have */
        assert_non_null(strstr(m.notes[m.n_notes - 1], "1 file of weights is not used: golden"));
        free(m.notes[--m.n_notes]);
        check_notes(&m, forms[i].notes);

        must(model_save(&m, tmpdir_path(state, forms[i].name), DT_F32, false, &e), &e);
        must(model_open(&again, tmpdir_path(state, forms[i].name), &e), &e);
        saved = logits_of(&again, ids);
        assert_memory_equal(saved, got, (size_t)n * sizeof *got);
        assert_int_equal(again.head == again.embed, tied);
        assert_int_equal(again.n_notes, 0);
        free(got);
        free(saved);
        model_close(&m);
        model_close(&again);
        st_close(&golden);
    }
}

/* If both forms are there, safetensors is used, and the other one is named. */
static void test_both(void **state)
{
    static const char *const files[][2] = {{"text-bin", "config.json"},
                                           {"text-bin", "pytorch_model.bin"},
                                           {"text-bin", "golden.safetensors"},
                                           {"text-heads-differ", "model.safetensors"}};
    struct model m;
    struct err e = {0};

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[400];
        snprintf(from, sizeof from, DIR_OF("%s/%s"), files[i][0], files[i][1]);
        must(file_copy(from, tmpdir_path(state, files[i][1]), &e), &e);
    }
    must(file_copy(DIR_OF("text-bin/config.json"), tmpdir_path(state, "training_args.bin"), &e),
         &e);
    must(model_open(&m, *state, &e), &e);
    assert_non_null(strstr(m.files.files[0].path, "/model.safetensors"));
    assert_int_equal(m.n_notes, 1);
    assert_non_null(strstr(
        m.notes[0], ": 2 files of weights are not used: golden.safetensors, pytorch_model.bin"));
    model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_forms), tmpdir_test(test_both)};

    return cmocka_run_group_tests_name("weights", tests, NULL, NULL);
}
