/* model_dir.c - see model_dir.h. Everything goes by names, as chosen by the programs that write
 * such directories; contents are checked where files are opened. */
#include "model/files/model_dir.h"
#include "base/filekind.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const weights[] = {"model.safetensors", "model.safetensors.index.json",
                                      "pytorch_model.bin", "pytorch_model.bin.index.json", NULL};

struct listing {
    char **name;
    size_t n, cap;
};

static void listing_free(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->name[i]);
    free(l->name);
    *l = (struct listing){0};
}

static int by_string(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* All names except `.` and `..`, sorted. */
static bool list(struct listing *l, const char *dir, struct err *e)
{
    DIR *d = opendir(dir);
    bool ok = d || err_system(e, errno, "%s", dir);
    const struct dirent *f = NULL;

    *l = (struct listing){0};
    while (ok && (errno = 0, f = readdir(d))) {
        if (strcmp(f->d_name, ".") == 0 || strcmp(f->d_name, "..") == 0) continue;
        ok = mem_grow(&l->name, &l->cap, l->n + 1, sizeof *l->name, e) &&
             (l->name[l->n] = mem_strdup(f->d_name, e));
        l->n += ok;
    }
    if (ok && errno) ok = err_system(e, errno, "%s", dir);
    if (d) closedir(d);
    if (ok && l->n) qsort(l->name, l->n, sizeof *l->name, by_string);
    if (!ok) listing_free(l);
    return ok;
}

/* The first name that matches the pattern, NULL if none. */
static const char *find(const struct listing *l, const char *pattern)
{
    for (size_t i = 0; i < l->n; i++)
        if (fnmatch(pattern, l->name[i], 0) == 0) return l->name[i];
    return NULL;
}

static bool has_weights(const struct listing *l)
{
    for (const char *const *w = weights; *w; w++)
        if (find(l, *w)) return true;
    return false;
}

/* ---- not a directory ---- */

/* "owner/name" as on the hub: letters, digits, dots and dashes around one slash. */
static bool is_hub_name(const char *s)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const size_t owner = strspn(s, allowed);

    return owner && s[0] != '.' && s[owner] == '/' && s[owner + 1] &&
           strspn(s + owner + 1, allowed) == strlen(s + owner + 1);
}

static bool refuse_absent(const char *dir, int reason, struct err *e)
{
    bool there;

    if (strstr(dir, "://"))
        return err_set(e,
                       "%s: is an address; models are not downloaded: fetch it and give the "
                       "directory",
                       dir);
    if (dir[0] == '~')
        return err_set(
            e, "%s: no such directory; only a shell knows what ~ stands for: write it out", dir);
    if (reason == ENOENT && strncmp(dir, "models/", 7) == 0)
        return err_set(e,
                       "%s: no such directory; models are not downloaded from here: `hf download "
                       "NAME --local-dir %s` fetches one of the Hugging Face hub; for a file of "
                       "configs/ its first lines give the NAME",
                       dir, dir);
    if (reason == ENOENT && is_hub_name(dir) && file_named(dir, &there, e) && !there)
        return err_set(
            e,
            "%s: no such directory; a model of that name on the Hugging Face hub is not "
            "downloaded from here: `hf download %s --local-dir DIR` fetches it, then give "
            "DIR",
            dir, dir);
    return reason == ENOENT ? err_set(e, "%s: no such directory", dir)
                            : err_system(e, reason, "%s", dir);
}

/* A file where a directory should be; `is` says what was expected. */
static bool refuse_file(const char *path, const char *is, struct err *e)
{
    struct file_map m = {0};
    const char *kind = file_map_open(&m, path, e) ? file_kind(m.data, m.size) : NULL;

    err_set(e, "%s: is %s; %s: give that", path, kind ? kind : "a file", is);
    file_map_close(&m);
    return false;
}

/* ---- a directory of something else ---- */

/* The model that an adapter belongs to, from its settings; "another model" if they do not say. */
static char *base_of_adapter(const char *dir, struct err *e)
{
    static const struct jsonc_rules rules = {.plain = true};
    struct jsonc doc = {0};
    struct err unread;
    char *path = file_join(dir, "adapter_config.json", e), *name;
    const char *base = NULL;

    if (!path) return NULL;
    if (jsonc_read_as(&doc, path, JSONC_CONFIG_BYTES, &rules, &unread))
        base = cJSON_GetStringValue(
            cJSON_GetObjectItemCaseSensitive(doc.root, "base_model_name_or_path"));
    name = mem_strdup(base && *base ? base : "another model", e);
    jsonc_close(&doc);
    free(path);
    return name;
}

static bool refuse_adapter(const char *dir, const struct listing *l, struct err *e)
{
    char *base = base_of_adapter(dir, e);

    if (!base) return false;
    if (find(l, "non_lora_trainables.bin"))
        err_set(e,
                "%s: is an adapter of %s, by LLaVA's own code (non_lora_trainables.bin): merge it "
                "first with that code's scripts/merge_lora_weights.py, then bring the result to "
                "transformers' form",
                dir, base);
    else
        err_set(e,
                "%s: is an adapter of %s: merge it first (PEFT's merge_and_unload, then "
                "save_pretrained), and give the merged model",
                dir, base);
    free(base);
    return false;
}

/* File names that reveal what a directory without a model's weights is; %s is the name. The first
 * matching row decides. */
static const struct sign {
    const char *pattern, *says;
} signs[] = {
    {"mm_projector.bin", "has only a projector (%s, of LLaVA's own code): give a whole model in "
                         "transformers' form, as "
                         "llava-hf/llava-1.5-7b-hf is"},
    {"zero_to_fp32.py", "is a checkpoint of DeepSpeed: run the %s in it, which makes "
                        "pytorch_model.bin"},
    {"*.distcp", "is a sharded checkpoint of torch.distributed (%s): `accelerate merge-weights` "
                 "makes a model.safetensors of it"},
    {"model-*-of-*.safetensors",
     "has shards (%s) but no model.safetensors.index.json: fetch that too"},
    {"pytorch_model-*-of-*.bin",
     "has shards (%s) but no pytorch_model.bin.index.json: fetch that too"},
    {"*.incomplete", "has a download that did not end (%s): end it"},
    {"*.part", "has a download that did not end (%s): end it"},
    {"*.crdownload", "has a download that did not end (%s): end it"},
    {"*.aria2", "has a download that did not end (%s): end it"},
    {"*.gguf", "has only weights for llama.cpp (%s): take the model in transformers' form"},
    {"*.msgpack", "has only weights for Flax (%s): in Python from_pretrained(..., from_flax=True) "
                  "of transformers 4 and save_pretrained turn them into model.safetensors"},
    {"tf_model*.h5", "has only weights for TensorFlow (%s): in Python from_pretrained(..., "
                     "from_tf=True) of transformers 4 and save_pretrained turn them into "
                     "model.safetensors"},
    {"*.onnx", "has only a model for ONNX (%s): take it in transformers' form"},
    {"consolidated*", "has weights in their maker's own form (%s): take the model in transformers' "
                      "form, or transformers' convert_..._weights_to_hf.py for it"},
};

/* Files that training programs put next to a model's weights, and the rankings of
 * converted models. */
static const char *const companions[] = {"*rank*.pth", "*qk_tensor*",   "training_args.bin",
                                         "optimizer*", "scheduler*",    "rng_state*",
                                         "scaler*",    "random_states*"};
static const char *const weight_ends[] = {"*.safetensors", "*.bin", "*.pt",      "*.pth", "*.ckpt",
                                          "*.gguf",        "*.npz", "*.msgpack", "*.h5",  "*.onnx"};

static bool is_weights_name(const char *name)
{
    for (size_t i = 0; i < sizeof companions / sizeof *companions; i++)
        if (fnmatch(companions[i], name, 0) == 0) return false;
    for (size_t i = 0; i < sizeof weight_ends / sizeof *weight_ends; i++)
        if (fnmatch(weight_ends[i], name, 0) == 0) return true;
    return false;
}

/* A subdirectory, at most two levels down (snapshots/COMMIT in the hub's cache), with a config.json
 * and weights; in new memory, NULL if none. */
static char *find_below(const char *dir, const struct listing *l, int levels, struct err *e)
{
    char *found = NULL;

    for (size_t i = 0; !found && i < l->n; i++) {
        char *path = file_join(dir, l->name[i], e);
        struct listing below = {0};
        struct stat st;
        if (path && stat(path, &st) == 0 && S_ISDIR(st.st_mode) && list(&below, path, e)) {
            if (find(&below, "config.json") && has_weights(&below)) {
                found = path;
                path = NULL;
            } else if (levels > 1) {
                found = find_below(path, &below, levels - 1, e);
            }
        }
        listing_free(&below);
        free(path);
    }
    return found;
}

/* Adds the directories called "model" that hold one, at most so many levels down, by their paths
 * from `dir` on; `at`: the path so far. */
static bool find_models(const char *dir, const char *at, int levels, struct listing *to,
                        struct err *e)
{
    struct listing l;
    char *here = file_join(dir, at, e);
    bool ok = here && list(&l, here, e);

    free(here);
    if (!ok) return false;
    for (size_t i = 0; ok && i < l.n; i++) {
        char *rel = file_join(at, l.name[i], e), *path = rel ? file_join(dir, rel, e) : NULL;
        struct stat st;
        const bool is_dir = path && stat(path, &st) == 0 && S_ISDIR(st.st_mode);
        const bool is_model = is_dir && strcmp(l.name[i], "model") == 0;
        struct err unread;
        struct listing below = {0};
        ok = path;
        if (is_model && list(&below, path, &unread) && has_weights(&below) &&
            mem_grow(&to->name, &to->cap, to->n + 1, sizeof *to->name, e)) {
            to->name[to->n++] = rel;
            rel = NULL;
        } else if (is_dir && !is_model && levels > 1) {
            find_models(dir, rel, levels - 1, to, &unread); /* what cannot be read is none */
        }
        listing_free(&below);
        free(path);
        free(rel);
    }
    listing_free(&l);
    return ok;
}

/* A run of ours, or one of its points: which of its models there are, the trained ones first. */
static bool refuse_run(const char *dir, const struct listing *models, struct err *e)
{
    enum { NAMED = 4 };
    char names[700] = "", more[40] = "";
    size_t used = 0, n = 0;

    for (int trained = 1; trained >= 0; trained--) {
        for (size_t i = 0; i < models->n; i++) {
            if ((fnmatch("*stage2/model", models->name[i], 0) == 0) != trained) continue;
            if (n++ < NAMED && used < sizeof names)
                used += (size_t)snprintf(names + used, sizeof names - used, "%s%s",
                                         n > 1 ? ", " : "", models->name[i]);
        }
    }
    if (n > NAMED) snprintf(more, sizeof more, " and %zu more", n - NAMED);
    return err_set(e, "%s: is a run's directory, and no model: give one of the models in it: %s%s",
                   dir, n ? names : "none is there yet", more);
}

static bool refuse_other(const char *dir, const struct listing *l, struct err *e)
{
    struct listing models = {0};
    const char *name;
    char *below;

    if (find(l, "metrics.jsonl") || find(l, "stage[12]") || find(l, "outputs.json")) {
        if (find_models(dir, "", 3, &models, e)) refuse_run(dir, &models, e);
        listing_free(&models);
        return false;
    }

    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if ((name = find(l, signs[i].pattern))) {
            char says[512];
            snprintf(says, sizeof says, signs[i].says, name);
            return err_set(e, "%s: %s", dir, says);
        }
    below = find_below(dir, l, 2, e);
    if (below) {
        err_set(e, "%s: holds no model, but %s does: give that", dir, below);
        free(below);
        return false;
    }
    for (size_t i = 0; i < l->n; i++)
        if (is_weights_name(l->name[i]))
            return err_set(
                e,
                "%s: has weights only under the name %s; read are %s, %s, or shards with "
                "the index of either",
                dir, l->name[i], weights[0], weights[2]);
    if (l->n == 0) return err_set(e, "%s: is empty", dir);
    return err_set(e, "%s: holds no weights: no %s, no %s, no index of either", dir, weights[0],
                   weights[2]);
}

bool model_dir_check(const char *dir, struct err *e)
{
    struct listing l;
    struct stat st;
    bool config, ok;

    if (stat(dir, &st) != 0) return refuse_absent(dir, errno, e);
    if (!S_ISDIR(st.st_mode))
        return refuse_file(dir, "a model is a directory with config.json and weights", e);
    if (!list(&l, dir, e)) return false;
    config = find(&l, "config.json");
    ok = config && has_weights(&l);
    if (!ok && (find(&l, "adapter_config.json") || find(&l, "adapter_model.*") ||
                find(&l, "non_lora_trainables.bin")))
        refuse_adapter(dir, &l, e);
    else if (!ok && has_weights(&l))
        err_set(e, "%s: has weights, but no config.json: fetch the one that belongs to them", dir);
    else if (!ok)
        refuse_other(dir, &l, e);
    listing_free(&l);
    return ok;
}

/* ---- a tokenizer's directory ---- */

bool model_dir_check_tokenizer(const char *dir, struct err *e)
{
    static const char *const others[] = {"tokenizer.model", "spiece.model", "vocab.json",
                                         "vocab.txt", "*.tiktoken"};
    struct listing l;
    struct stat st;
    const char *name = NULL;
    bool ok;

    if (stat(dir, &st) != 0) return refuse_absent(dir, errno, e);
    if (!S_ISDIR(st.st_mode))
        return refuse_file(dir, "a tokenizer is a directory with tokenizer.json", e);
    if (!list(&l, dir, e)) return false;
    ok = find(&l, "tokenizer.json");
    for (size_t i = 0; !ok && !name && i < sizeof others / sizeof *others; i++)
        name = find(&l, others[i]);
    if (!ok && name)
        err_set(e,
                "%s: has %s, but no tokenizer.json: in Python transformers' "
                "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) makes one",
                dir, name);
    else if (!ok)
        err_set(e, "%s: has no tokenizer.json: fetch it, or set model.tokenizer", dir);
    listing_free(&l);
    return ok;
}

/* ---- extra files next to a model ---- */

static bool is_open(const struct st_model *m, const char *dir, const char *name)
{
    const size_t n = strlen(dir);

    for (size_t i = 0; i < m->file_count; i++) {
        const char *path = m->files[i].path;
        if (strncmp(path, dir, n) == 0 && path[n] == '/' && strcmp(path + n + 1, name) == 0)
            return true;
    }
    return false;
}

bool model_dir_unused(const char *dir, const struct st_model *m, char **names, size_t *count,
                      struct err *e)
{
    enum { NAMED = 3 };
    struct listing l;
    const char *first[NAMED] = {"", "", ""};
    bool ok = true;

    *names = NULL;
    *count = 0;
    if (!list(&l, dir, e)) return false;
    for (size_t i = 0; i < l.n; i++)
        if (is_weights_name(l.name[i]) && !is_open(m, dir, l.name[i])) {
            if (*count < NAMED) first[*count] = l.name[i];
            ++*count;
        }
    if (*count > NAMED)
        *names = mem_printf(e, "%s, %s and %zu more", first[0], first[1], *count - 2);
    else if (*count)
        *names = mem_printf(e, "%s%s%s%s%s", first[0], *first[1] ? ", " : "", first[1],
                            *first[2] ? ", " : "", first[2]);
    ok = !*count || *names;
    listing_free(&l);
    return ok;
}

/* The number of shards, from the name of one ("model-00002-of-00003.safetensors"); 0 if it is none.
 */
static size_t shards_of(const char *name)
{
    const char *of = fnmatch("*-[0-9]*-of-[0-9]*.*", name, 0) == 0 ? strstr(name, "-of-") : NULL;

    return of ? (size_t)strtoull(of + strlen("-of-"), NULL, 10) : 0;
}

bool model_dir_blame_index(const char *dir, const struct st_model *m, struct err *e)
{
    const char *opened = m->file_count ? strrchr(m->files[0].path, '/') : NULL;
    const size_t shards = opened ? shards_of(opened + 1) : 0;
    const char *end = shards ? strrchr(opened, '.') : NULL, *left = NULL;
    struct err unread;
    struct listing l;

    if (!shards || e->machine || !list(&l, dir, &unread)) return false;
    for (size_t i = 0; !left && i < l.n; i++)
        if (shards_of(l.name[i]) == shards && strcmp(strrchr(l.name[i], '.'), end) == 0 &&
            !is_open(m, dir, l.name[i]))
            left = l.name[i];
    if (left)
        err_set(e, "%s; %s is there, but the index names no tensor of it: fetch the index again",
                e->msg, left);
    else if (m->file_count < shards)
        err_set(e,
                "%s; by their names there are %zu shards, but the index names %zu: fetch the index "
                "again, and what is missing",
                e->msg, shards, m->file_count);
    listing_free(&l);
    return false;
}
