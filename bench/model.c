/* model.c - writes a model with random weights to a Hugging Face directory, for measurements:
 *     build/bench/model --config bench/llava7b/config.json --out DIR [--layers N]
 *         [--vision-layers N] [--tokenizer DIR] [--dtype BF16|F32] [--seed N] [--shard-mb N]
 * config.json gives the shape; --layers and --vision-layers change its depth. The files next to it
 * (preprocessor_config.json) and the tokenizer's files are copied. Values are drawn and written a
 * piece at a time: LLaVA-1.5-7B's 14 GB need a few MB of memory. The same command gives the same
 * bytes on every machine. */
#include "base/file.h"
#include "base/json/jsonc.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/model.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 16, PIECES = 64 }; /* values of one random stream; streams drawn at a time */

struct options {
    const char *config, *out, *tokenizer;
    enum st_dtype dtype;
    int64_t layers, vision_layers, seed, shard_mb;
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);

    return n >= k && strcmp(s + n - k, end) == 0;
}

/* As model_random: norms 1, biases 0, everything else with the config's deviation. */
static bool is_constant(const struct param *p, float *value)
{
    *value = ends_with(p->name, "weight");
    return p->ndim == 1 && (ends_with(p->name, "weight") || ends_with(p->name, "bias"));
}

/* The sum of four uniform 16-bit numbers: bell-shaped, mean 0, the given deviation, ending at 3.5
 * times it. Takes a tenth of the time of true normal values. */
static void draw(float *dst, int64_t n, double deviation, uint64_t seed, uint64_t stream)
{
    const float unit = (float)(deviation * sqrt(3) / 65536); /* 4 / 12 * 65536^2 is the variance */
    struct rng r;

    rng_seed(&r, seed, stream);
    for (int64_t i = 0; i < n; i++) {
        uint64_t u = rng_u64(&r);
        int64_t sum = (int64_t)((u & 0xffff) + (u >> 16 & 0xffff) + (u >> 32 & 0xffff) + (u >> 48));
        dst[i] = unit * (float)(sum - 2 * 65535);
    }
}

/* Into the file's tensor `to`; `index` is the parameter's, and tells its random streams. */
static bool write_param(struct st_writer *w, size_t to, size_t index, const struct param *p,
                        double deviation, uint64_t seed, float *buf, struct err *e)
{
    int64_t count = tensor_count(&p->t);
    float value;
    bool constant = is_constant(p, &value), ok = true;

    for (int64_t at = 0; ok && at < count; at += PIECES * PIECE) {
        int64_t n = count - at < PIECES * PIECE ? count - at : PIECES * PIECE;
#pragma omp parallel for
        for (int64_t i = 0; i < n; i += PIECE) {
            int64_t part = n - i < PIECE ? n - i : PIECE;
            if (!constant)
                draw(buf + i, part, deviation, seed,
                     (uint64_t)index << 32 | (uint64_t)((at + i) / PIECE));
            for (int64_t k = 0; constant && k < part; k++)
                buf[i + k] = value;
        }
        ok = st_write_f32(w, to, buf, (size_t)n, e);
    }
    return ok;
}

/* The file's tensors: of one parameter each, or of several that are its consecutive rows. */
static size_t list_tensors(const struct model *m, enum st_dtype dtype, struct st_spec *specs)
{
    size_t n = 0;

    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        if (i > 0 && strcmp(p->name, p[-1].name) == 0) continue;
        specs[n] = (struct st_spec){.name = p->name, .dtype = dtype, .ndim = p->ndim};
        memcpy(specs[n++].dim, p->dim, sizeof p->dim);
    }
    return n;
}

static bool write_tensors(const struct model *m, const struct options *o, struct err *e)
{
    size_t all = (size_t)m->n_params, n, at = 0;
    struct st_spec *specs = mem_new(all, sizeof *specs, "tensor list", e);
    float *buf = mem_new((size_t)PIECES * PIECE, sizeof *buf, "a piece of a tensor", e);
    struct st_writer w = {0};
    bool ok = specs && buf;

    n = ok ? list_tensors(m, o->dtype, specs) : 0;
    ok = ok && st_write_model_begin(&w, o->out, specs, n, NULL, (uint64_t)o->shard_mb * 1000000, e);
    for (size_t i = 0; ok && i < all; i++) {
        const struct param *p = &m->params[i];
        if (strcmp(p->name, specs[at].name) != 0) at++;
        ok = write_param(&w, at, i, p, m->cfg.text.initializer_range, (uint64_t)o->seed, buf, e);
    }
    if (ok)
        ok = st_write_end(&w, e);
    else
        st_write_abort(&w);
    free(specs);
    free(buf);
    return ok;
}

static void set_number(cJSON *root, const char *part, const char *key, int64_t value)
{
    cJSON *item =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(root, part), key);

    if (value && item) cJSON_SetNumberValue(item, (double)value);
}

static bool read_config(struct hf_config *c, const struct options *o, struct err *e)
{
    struct jsonc file;
    char *text;
    bool ok;

    if (!jsonc_read(&file, o->config, (size_t)1 << 20, e)) return false;
    set_number(file.root, "text_config", "num_hidden_layers", o->layers);
    set_number(file.root, "vision_config", "num_hidden_layers", o->vision_layers);
    set_number(file.root, "vision_config", "depth", o->vision_layers); /* Qwen2.5-VL's name */
    text = jsonc_print(file.root, true, e);
    jsonc_close(&file);
    if (!text) return err_context(e, "%s", o->config);
    ok = hf_config_parse(c, text, strlen(text), o->config, e) &&
         hf_config_set_dtype(c, o->dtype == ST_F32 ? "float32" : "bfloat16", e);
    free(text);
    return ok;
}

/* Declares the model's parameters, without memory for their values. */
static bool declare(struct model *m, const struct options *o, struct err *e)
{
    struct hf_config cfg;

    return read_config(&cfg, o, e) && model_declare(m, &cfg, e);
}

/* config.json last: a directory that has one is complete. */
static bool write_model(const struct options *o, struct err *e)
{
    struct model m = {0};
    char *dir = file_dir(o->config, e), *config = file_join(o->out, "config.json", e);
    bool ok = dir && config && declare(&m, o, e) && file_mkdirs(o->out, e) &&
              (!o->tokenizer || model_copy_files(o->tokenizer, o->out, e)) &&
              model_copy_files(dir, o->out, e) && write_tensors(&m, o, e) &&
              hf_config_write(&m.cfg, config, e);

    model_close(&m);
    free(dir);
    free(config);
    return ok;
}

static bool read_options(struct options *o, int argc, char **argv, struct err *e)
{
    const struct {
        const char *name, **text;
        int64_t *number;
    } known[] = {{"--config", &o->config, NULL},       {"--out", &o->out, NULL},
                 {"--tokenizer", &o->tokenizer, NULL}, {"--layers", NULL, &o->layers},
                 {"--seed", NULL, &o->seed},           {"--vision-layers", NULL, &o->vision_layers},
                 {"--shard-mb", NULL, &o->shard_mb}};
    enum { KNOWN = sizeof known / sizeof *known };

    for (int i = 1; i < argc; i += 2) {
        int k = 0;
        if (i + 1 == argc) return err_set(e, "%s: needs a value", argv[i]);
        if (strcmp(argv[i], "--dtype") == 0) {
            o->dtype = strcmp(argv[i + 1], "F32") == 0 ? ST_F32 : ST_BF16;
            continue;
        }
        while (k < KNOWN && strcmp(known[k].name, argv[i]) != 0)
            k++;
        if (k == KNOWN) return err_set(e, "unknown option %s (see bench/model.c)", argv[i]);
        if (known[k].text)
            *known[k].text = argv[i + 1];
        else
            *known[k].number = atoll(argv[i + 1]);
    }
    return o->config && o->out ? true : err_set(e, "--config FILE and --out DIR are needed");
}

int main(int argc, char **argv)
{
    struct options o = {.dtype = ST_BF16, .seed = 1};
    struct err e = {0};

    if (read_options(&o, argc, argv, &e) && write_model(&o, &e)) return 0;
    fprintf(stderr, "model: error: %s\n", e.msg);
    return 1;
}
