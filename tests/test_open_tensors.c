/* test_open_tensors.c - messages if a model's files lack tensors, have too many, or have them under
 * names made by a wrapper: named and counted, in one line. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/tiny_convert.h"
#include "tests/tmpdir.h"

#include "tests/edited_model.h"

#define T "language_model.model."
#define V "vision_tower.vision_model."

/* How a copy's names differ: those containing `part` are left out (with = NULL), or get `with`
 * before them (part "") or after. `more` are extra: copies of the last tensor. */
struct renaming {
    const char *part, *before, *behind;
    bool skip;
    const char *more[4];
    enum st_dtype dtype; /* of the extra ones, whose values are zeros */
    bool empty;          /* they have no values */
};

static void copy_renamed(const char *from, const char *to, const struct renaming *r)
{
    static const char zeros[1 << 16];
    struct st_model in;
    struct st_writer w = {0};
    struct st_spec specs[128];
    const struct st_tensor *source[128];
    char names[128][200];
    struct err e = {0};
    size_t n = 0;

    must(file_mkdirs(to, &e) && st_model_open(&in, from, &e), &e);
    for (size_t i = 0; i < in.count; i++) {
        const struct st_tensor *t = in.tensors[i];
        const bool is = r->part && strstr(t->name, r->part);
        if (is && r->skip) continue;
        snprintf(names[n], sizeof names[n], "%s%s%s", is && r->before ? r->before : "", t->name,
                 is && r->behind ? r->behind : "");
        specs[n] = (struct st_spec){.name = names[n], .dtype = t->dtype, .ndim = t->ndim};
        memcpy(specs[n].dim, t->dim, sizeof t->dim);
        source[n++] = t;
    }
    for (int i = 0; i < 4 && r->more[i]; i++) {
        source[n] = NULL;
        specs[n++] = (struct st_spec){
            .name = r->more[i], .dtype = r->dtype, .ndim = 1, .dim = {r->empty ? 0 : 4}};
    }
    must(st_write_model_begin(&w, to, specs, n, NULL, 0, &e), &e);
    for (size_t i = 0; i < n; i++)
        must(st_write_raw(&w, i, source[i] ? source[i]->data : zeros,
                          source[i] ? source[i]->bytes
                                    : (size_t)specs[i].dim[0] * st_dtypes[specs[i].dtype].bits / 8,
                          &e),
             &e);
    must(st_write_end(&w, &e), &e);
    copy_config(from, to, &(struct edit){0});
    st_model_close(&in);
}

static const struct {
    struct renaming r;
    const char *says, *notes[2]; /* says NULL: it opens, with these notes */
} cases[] = {
    {{0}, NULL, {NULL}},
    /* missing */
    {{.part = T "layers.1.mlp.up_proj", .skip = true},
     ": tensor " T "layers.1.mlp.up_proj.weight is missing: the files are not complete",
     {NULL}},
    {{.part = T "layers.1.mlp.", .skip = true},
     ": tensor " T "layers.1.mlp.gate_proj.weight is missing, and 2 more: the files are not",
     {NULL}},
    {{.part = "vision_model.post_layernorm", .skip = true},
     ": tensor " V "post_layernorm.weight is missing, and 1 more",
     {NULL}},
    {{.part = "embed_tokens", .skip = true},
     ": tensor " T "embed_tokens.weight is missing: the",
     {NULL}},
    /* too many */
    {{.more = {T "layers.0.self_attn.q_norm.weight"}},
     "model.safetensors: tensor " T "layers.0.self_attn.q_norm.weight: is not used by a model "
     "of this config.json: remove it",
     {NULL}},
    {{.more = {T "layers.0.self_attn.k_norm.weight", T "layers.0.self_attn.q_norm.weight",
               "image_newline"}},
     "tensor image_newline: is not used by a model of this config.json, nor are 2 more: remove",
     {NULL}},
    {{.more = {"lm_head.weight", "model.lm_head.weight"}},
     "tensor lm_head.weight: is not used by a model of this config.json, nor are 1 more",
     {NULL}},
    /* harmless, and noted */
    {{.more = {T "layers.0.self_attn.rotary_emb.inv_freq",
               T "layers.1.self_attn.rotary_emb.inv_freq", T "rotary_emb.inv_freq",
               V "embeddings.position_ids"}},
     NULL,
     {"model.safetensors: not used, for it is computed anew: tensor " T
      "layers.0.self_attn.rotary_emb.inv_freq and 3 more"}},
    {{.more = {T "layers.0.self_attn.q_proj.bias", T "layers.0.mlp.up_proj.bias"}, .dtype = ST_F32},
     NULL,
     {"model.safetensors: not used, for it is a bias of zeros: tensor " T
      "layers.0.mlp.up_proj.bias and 1 more"}},
    /* quantized */
    {{.part = T "layers.0.mlp.up_proj.weight", .behind = "_scale_inv"},
     "tensor " T "layers.0.mlp.up_proj.weight_scale_inv: is of quantized weights (float8), "
     "which cannot be trained: give the model as it was before",
     {NULL}},
    {{.more = {T "layers.0.mlp.up_proj.qweight"}, .dtype = ST_I32},
     "tensor " T "layers.0.mlp.up_proj.qweight: is of quantized weights (GPTQ or AWQ)",
     {NULL}},
    {{.more = {T "layers.0.mlp.up_proj.weight.absmax"}, .dtype = ST_F32},
     "is of quantized weights (bitsandbytes, 4 bits)",
     {NULL}},
    {{.more = {T "layers.0.mlp.up_proj.SCB"}, .dtype = ST_F32},
     "is of quantized weights (bitsandbytes, 8 bits)",
     {NULL}},
    {{.part = T "layers.0.mlp.up_proj.weight", .behind = "_scale"},
     "is of quantized weights (float8 or compressed-tensors)",
     {NULL}},
    /* from other programs */
    {{.more = {T "layers.0.self_attn.q_proj.lora_A.default.weight"}, .dtype = ST_F32},
     "q_proj.lora_A.default.weight: is of an adapter that was not merged: merge it",
     {NULL}},
    {{.more = {"model.layers.0._fsdp_wrapped_module.x"}}, "is of PyTorch's FSDP, which", {NULL}},
    {{.more = {"model.mm_projector.0.weight"}}, "is of LLaVA's own code: bring the mo", {NULL}},
    /* wrapped */
    {{.part = "", .before = "module."},
     ": the tensors' names begin with \"module.\", which a wrapper around the model has put",
     {NULL}},
    {{.part = "", .before = "_orig_mod."}, "names begin with \"_orig_mod.\"", {NULL}},
    {{.part = "", .before = "base_model.model."}, "begin with \"base_model.model.\"", {NULL}},
    {{.part = "", .before = "x"},
     "model_type is \"llava\", but no tensor ...norm.weight or ...embeddings.class_embedding "
     "has a name that such a model gives it; the first tensor is xlanguage_model.lm_head.weig",
     {NULL}},
    /* layer numbers that do not fit in an integer */
    {{.more = {T "layers.9223372036854775807.x"}}, "9223372036854775807.x: is not used", {NULL}},
    {{.more = {T "layers.99999999999999999999.x"}}, "99999999999.x: is not used", {NULL}},
    {{.more = {T "layers.5.x"}}, "num_hidden_layers is 2, but the tensors", {NULL}},
};

static void test_names(void **state)
{
    struct model m;
    struct err e = {0};

    tiny_model(&m, 2, false, 4);
    must(model_save(&m, tmpdir_path(state, "good"), DT_F32, false, &e), &e);
    model_close(&m);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char name[32];
        snprintf(name, sizeof name, "%zu", i);
        copy_renamed(tmpdir_path(state, "good"), tmpdir_path(state, name), &cases[i].r);
        const bool ok = model_open(&m, tmpdir_path(state, name), &e);
        if (ok != !cases[i].says || (!ok && !strstr(e.msg, cases[i].says)))
            fail_msg("%zu: %s lacks %s", i, ok ? "it opens" : e.msg, cases[i].says);
        for (size_t k = 0; ok && k < 2; k++)
            if (!cases[i].notes[k] != (k >= m.n_notes) ||
                (cases[i].notes[k] && !strstr(m.notes[k], cases[i].notes[k])))
                fail_msg("%zu: note %zu: %s", i, k, k < m.n_notes ? m.notes[k] : "none");
        assert_true(ok || (!m.params && !strchr(e.msg, '\n')));
        model_close(&m);
    }
}

/* A copy in which `name` is there, without values. */
static void copy_emptied(void **state, const char *name)
{
    char part[200];

    snprintf(part, sizeof part, "%s", name);
    copy_renamed(tmpdir_path(state, "good"), tmpdir_path(state, "bad"),
                 &(struct renaming){
                     .part = part, .skip = true, .more = {name}, .dtype = ST_F32, .empty = true});
}

/* ZeRO-3 leaves tensors without values, among them ones that are empty in a model of other
 * settings. */
static void test_empty(void **state)
{
    static const char *const names[] = {T "layers.1.mlp.up_proj.weight",
                                        T "layers.0.self_attn.kv_proj.up_k.weight"};
    struct model m;
    struct err e = {0};

    tiny_model(&m, 2, false, 4);
    tiny_partial(&m, 4);
    must(hf_config_set_mha2mla(&m.cfg,
                               &(struct mha2mla_config){.partial_rope_version = "high",
                                                        .rope_dim_for_mla = 4,
                                                        .svd_init_method = "none"},
                               &e),
         &e);
    must(model_save(&m, tmpdir_path(state, "good"), DT_F32, false, &e), &e);
    model_close(&m);
    must(model_open(&m, tmpdir_path(state, "good"), &e), &e);
    model_close(&m);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        copy_emptied(state, names[i]);
        assert_false(model_open(&m, tmpdir_path(state, "bad"), &e));
        if (!strstr(e.msg, names[i]) || !strstr(e.msg, ": has no values: DeepSpeed's ZeRO-3"))
            fail_msg("%s", e.msg);
    }
}

/* A non-zero bias must not be ignored. */
static void test_bias(void **state)
{
    struct model m;
    struct err e = {0};

    tiny_model(&m, 2, false, 4);
    must(model_save(&m, tmpdir_path(state, "good"), DT_F32, false, &e), &e);
    model_close(&m);
    copy_edited(tmpdir_path(state, "good"), tmpdir_path(state, "bad"),
                &(struct edit){.more = T "layers.1.self_attn.q_proj.bias",
                               .like = T "norm.weight"}); /* ones */
    assert_false(model_open(&m, tmpdir_path(state, "bad"), &e));
    assert_non_null(strstr(e.msg, "layers.1.self_attn.q_proj.bias: is not used"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_names), tmpdir_test(test_bias),
                                       tmpdir_test(test_empty)};

    return cmocka_run_group_tests_name("open_tensors", tests, NULL, NULL);
}
