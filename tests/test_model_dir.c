/* test_model_dir.c - directories, files and names given as a model that are not one: one line that
 * says what is there and what to do. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "model/files/model_dir.h"
#include "tests/safetensors_files.h"

/* Empty files with these names (and directories as needed), or "NAME=TEXT" with content,
 * in a new directory. */
static const char *make(void *const *state, const char *const *files)
{
    static int n;
    static char dir[1200];
    char command[3000];

    snprintf(dir, sizeof dir, "%s/%d", (const char *)*state, n++);
    assert_int_equal(mkdir(dir, 0777), 0);
    for (; *files; files++) {
        const char *text = strchr(*files, '=');
        const int name = (int)(text ? text - *files : (long)strlen(*files));
        snprintf(command, sizeof command,
                 "f='%s/%.*s'; mkdir -p \"$(dirname \"$f\")\" && printf %%s '%s' > \"$f\"", dir,
                 name, *files, text ? text + 1 : "");
        assert_int_equal(system(command), 0);
    }
    return dir;
}

#define CONFIG "config.json={}"
#define ADAPTER "adapter_config.json={\"base_model_name_or_path\": \"some/llava\"}"
static const struct {
    const char *files[8];
    const char *says; /* NULL: it is a model */
} directories[] = {
    {{CONFIG, "model.safetensors"}, NULL},
    {{CONFIG, "model.safetensors.index.json"}, NULL},
    {{CONFIG, "pytorch_model.bin"}, NULL},
    {{CONFIG, "pytorch_model.bin.index.json"}, NULL},
    {{CONFIG, "model.safetensors", ADAPTER, "adapter_model.safetensors"}, NULL},
    {{NULL}, ": is empty"},
    {{CONFIG, "tokenizer.json"}, ": holds no weights: no model.safetensors, no pytorch_model."},
    {{"model.safetensors", "tokenizer.json"}, ": has weights, but no config.json: fetch"},
    /* adapters */
    {{ADAPTER, "adapter_model.safetensors", "tokenizer.json"},
     ": is an adapter of some/llava: merge it first (PEFT's merge_and_unload"},
    {{ADAPTER, "adapter_model.bin"}, ": is an adapter of some/llava: merge it first"},
    {{ADAPTER, "adapter_model.bin", CONFIG}, ": is an adapter of some/llava: merge it first"},
    {{"adapter_model.bin"}, ": is an adapter of another model: merge it first"},
    {{"adapter_config.json={", "adapter_model.bin"}, ": is an adapter of another model: merge"},
    {{"adapter_config.json={\"base_model_name_or_path\": 7}"}, ": is an adapter of another mod"},
    {{ADAPTER, "adapter_model.bin", "non_lora_trainables.bin", CONFIG},
     ": is an adapter of some/llava, by LLaVA's own code (non_lora_trainables.bin): merge it "
     "first with that code's scripts/merge_lora_weights.py"},
    {{"non_lora_trainables.bin"}, ": is an adapter of another model, by LLaVA's own code"},
    {{CONFIG, "mm_projector.bin"}, ": has only a projector (mm_projector.bin, of LLaVA's own"},
    /* other programs' weights */
    {{CONFIG, "llava.Q4_K_M.gguf", "mmproj.gguf"},
     ": has only weights for llama.cpp (llava.Q4_K_M.gguf): take the model in transformers'"},
    {{CONFIG, "flax_model.msgpack"}, ": has only weights for Flax (flax_model.msgpack): in P"},
    {{CONFIG, "tf_model.h5"}, ": has only weights for TensorFlow (tf_model.h5): in Python"},
    {{CONFIG, "tf_model-00001-of-00002.h5"}, ": has only weights for TensorFlow"},
    {{CONFIG, "decoder_model.onnx"}, ": has only a model for ONNX (decoder_model.onnx)"},
    {{"consolidated.00.pth", "params.json"},
     ": has weights in their maker's own form (consolidated.00.pth)"},
    {{CONFIG, "model.pt", "optimizer.pt", "rng_state.pth"},
     ": has weights only under the name model.pt; read are model.safetensors, pytorch_model.b"},
    {{CONFIG, "model.fp16.safetensors"}, ": has weights only under the name model.fp16.safet"},
    {{CONFIG, "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state_0.pth"},
     ": holds no weights"},
    /* incomplete downloads */
    {{CONFIG, "model-00002-of-00003.safetensors"},
     ": has shards (model-00002-of-00003.safetensors) but no model.safetensors.index.json"},
    {{CONFIG, "pytorch_model-00001-of-00002.bin"},
     ": has shards (pytorch_model-00001-of-00002.bin) but no pytorch_model.bin.index.json"},
    {{CONFIG, "model.safetensors.incomplete"}, ": has a download that did not end (model.safe"},
    {{CONFIG, "model.safetensors.aria2"}, ": has a download that did not end (model.safetens"},
    /* checkpoints of training programs */
    {{"zero_to_fp32.py", "latest", "global_step100/mp_rank_00_model_states.pt"},
     ": is a checkpoint of DeepSpeed: run the zero_to_fp32.py in it"},
    {{"__0_0.distcp", ".metadata"}, ": is a sharded checkpoint of torch.distributed (__0_0."},
    /* a run's directory, or a point's */
    {{CONFIG, "metrics.jsonl", "metrics.h5", "baseline/model/model.safetensors",
      "rope4-rank1/svd/model/model.safetensors", "rope4-rank1/stage2/model/model.safetensors",
      "rope4-rank1/stage2/checkpoints/model.h5"},
     ": is a run's directory, and no model: give one of the models in it: "
     "rope4-rank1/stage2/model, baseline/model, rope4-rank1/svd/model"},
    {{"stage2/model/model.safetensors", "svd/model/model.safetensors", "outputs.json"},
     ": give one of the models in it: stage2/model, svd/model"},
    {{CONFIG, "metrics.jsonl"}, ": give one of the models in it: none is there yet"},
    /* one level too high */
    {{"checkpoint-500/config.json={}", "checkpoint-500/model.safetensors"},
     "/checkpoint-500 does: give that"},
    {{"refs/main", "blobs/1", "snapshots/abc/config.json={}", "snapshots/abc/model.safetensors"},
     "/snapshots/abc does: give that"},
    {{"a/b/c/config.json={}", "a/b/c/model.safetensors"}, ": holds no weights"},
};

static void test_directories(void **state)
{

    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        const char *dir = make(state, directories[i].files);
        struct err e = {0};
        const bool ok = model_dir_check(dir, &e);
        if (ok != !directories[i].says)
            fail_msg("%s ...: %d %s", directories[i].files[0], ok, e.msg);
        if (ok) continue;
        check_message(e.msg, directories[i].says,
                      directories[i].files[0] ? directories[i].files[0] : "nothing");
        if (strncmp(e.msg, dir, strlen(dir)) != 0) fail_msg("does not begin with it: %s", e.msg);
    }
}

static void test_links(void **state)
{
    static const char *const files[] = {"config.json={}", NULL};
    char path[1300];
    const char *dir = make(state, files);
    struct st_model m;
    struct err e = {0};

    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_int_equal(symlink("../../blobs/0123", path), 0);
    assert_true(model_dir_check(dir, &e));
    assert_false(st_model_open(&m, dir, &e));
    check_message(e.msg, "/model.safetensors: is a link to ../../blobs/0123, which is not there",
                  "a dangling link");
}

static void test_no_directory(void **state)
{
    static const struct {
        const char *name, *says;
    } rows[] = {
        {"llava-hf/llava-1.5-7b-hf",
         ": no such directory; a model of that name on the Hugging Face hub is not downloaded from "
         "here: `hf download llava-hf/llava-1.5-7b-hf --local-dir DIR` fetches it, then give DIR"},
        {"models/llava-1.5-7b-hf",
         ": no such directory; models are not downloaded from here: `hf download NAME --local-dir "
         "models/llava-1.5-7b-hf` fetches one"},
        {"https://huggingface.co/llava-hf/llava-1.5-7b-hf", ": is an address; models are not "},
        {"~/models/llava", ": no such directory; only a shell knows what ~ stands for"},
        {"/nowhere/at/all", ": no such directory"},
        {"./nowhere", ": no such directory"},
        {"nowhere", ": no such directory"},
        {"a/b/c", ": no such directory"},
        {"tests/data/weights/text-bin/pytorch_model.bin",
         ": is a zip archive (or a PyTorch file, .bin or .pth); a model is a directory with "
         "config"},
        {"tests/data/weights/text-extras/model.safetensors",
         ": is a safetensors file; a model is a directory with config.json and weights: give that"},
        {"tests/data/weights/text-bin/pytorch_model.bin/", ": Not a directory"},
    };
    char path[1300];
    struct err e;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_false(model_dir_check(rows[i].name, &e));
        check_message(e.msg, rows[i].says, rows[i].name);
    }
    assert_null(strstr(e.msg, "hub"));
    snprintf(path, sizeof path, "%s", tmpdir_path(state, "m.gguf"));
    put_text(path, "GGUF\3");
    assert_false(model_dir_check(path, &e));
    check_message(e.msg, ": is a GGUF model, which llama.cpp reads", "a GGUF");
}

static void test_unused(void **state)
{
    static const char *const files[] = {"config.json={}",
                                        "pytorch_model-00001-of-00002.bin",
                                        "pytorch_model-00002-of-00002.bin",
                                        "optimizer.pt",
                                        "training_args.bin",
                                        "tokenizer.json",
                                        "rope_ranks.pth",
                                        "consolidated.pth",
                                        "a.gguf",
                                        NULL};
    const char *dir = make(state, files);
    char path[1300], *names;
    struct st_model m;
    struct err e = {0};
    size_t n;

    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    put_file(path, 0, "{\"a\":" T("U8", "[1]", 0, 1) "}", 1);
    assert_true(st_model_open(&m, dir, &e));
    assert_true(model_dir_unused(dir, &m, &names, &n, &e));
    assert_int_equal(n, 4);
    assert_string_equal(names, "a.gguf, consolidated.pth and 2 more");
    free(names);
    st_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {tmpdir_test(test_directories), tmpdir_test(test_links),
                                       tmpdir_test(test_no_directory), tmpdir_test(test_unused)};

    return cmocka_run_group_tests_name("model_dir", tests, NULL, NULL);
}
