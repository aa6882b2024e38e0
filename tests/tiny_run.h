/* tiny_run.h - settings and data of a run small enough for a test: a LLaVA of two layers that is
 * yet to be trained, the tokenizer of tests/data, and four samples. Include tmpdir.h first. */
#ifndef TESTS_TINY_RUN_H
#define TESTS_TINY_RUN_H

#include "convert/transform.h"
#include "train/run.h"
#include "train/models.h"
#include "train/recipes.h"
#include "train/steps.h"

static const char tiny_samples[] =
    "[{\"id\":\"a\",\"image\":\"a.png\",\"conversations\":["
    "{\"from\":\"human\",\"value\":\"<image>\\nWhat is "
    "it?\"},{\"from\":\"gpt\",\"value\":\"red\"}]},\n"
    "{\"id\":\"b\",\"conversations\":["
    "{\"from\":\"human\",\"value\":\"Say one.\"},{\"from\":\"gpt\",\"value\":\"one\"}]},\n"
    "{\"id\":\"c\",\"image\":\"c.png\",\"conversations\":["
    "{\"from\":\"human\",\"value\":\"<image>\\nAnd this one, what may it be?\"},"
    "{\"from\":\"gpt\",\"value\":\"a blue square, I believe\"}]},\n"
    "{\"id\":\"d\",\"conversations\":["
    "{\"from\":\"human\",\"value\":\"Say two.\"},{\"from\":\"gpt\",\"value\":\"two\"}]}]\n";

/* The run "DIR/run", with more settings as KEY=VALUE, NULL-terminated. Only its tape is created. */
static inline void tiny_run(struct run *r, void *const *state, const char *const *more)
{
    const char *dir = *state, *sets[32];
    char text[5][1400], *tokenizer = slurp("tests/data/tokenizer/metaspace.json", NULL);
    size_t n = 0, size;
    char *picture = slurp("tests/data/image/gray1.png", &size);
    struct err e;

    assert_true(mkdir(tmpdir_path(state, "tok"), 0777) == 0 || errno == EEXIST);
    spill(tmpdir_path(state, "tok/tokenizer.json"), tokenizer, strlen(tokenizer));
    spill(tmpdir_path(state, "train.json"), tiny_samples, strlen(tiny_samples));
    spill(tmpdir_path(state, "a.png"), picture, size);
    spill(tmpdir_path(state, "c.png"), picture, size);
    free(picture);
    free(tokenizer);
    snprintf(text[0], sizeof text[0], "run.dir=%s/run", dir);
    snprintf(text[1], sizeof text[1], "model.tokenizer=%s/tok", dir);
    snprintf(text[2], sizeof text[2], "data.train=[{\"path\":\"%s/train.json\"}]", dir);
    snprintf(text[3], sizeof text[3], "data.eval=[{\"path\":\"%s/train.json\"}]", dir);
    snprintf(text[4], sizeof text[4], "data.cache=%s/cache", dir);
    for (size_t i = 0; i < 5; i++)
        sets[n++] = text[i];
    for (const char *const *s =
             (const char *const[]){"run.threads=1", "baseline.hidden_size=32",
                                   "baseline.intermediate_size=48", "baseline.layers=2",
                                   "baseline.heads=2", "baseline.kv_heads=2",
                                   "baseline.batch_size=2", "baseline.vision_hidden_size=32",
                                   "baseline.vision_layers=2", "sweep.partial_rope=[8]",
                                   "sweep.low_rank=[2,4]", NULL};
         *s; s++)
        sets[n++] = *s;
    for (; *more; more++)
        sets[n++] = *more;
    memset(r, 0, sizeof *r);
    r->lock = -1;
    if (!schema_load(&config_schema, &r->c, NULL, sets, n, &e) || !recipes_open(&r->c, &e) ||
        !run_limits(r, &e))
        fail_msg("%s", e.msg);
}

/* Turns a model into an MLA one without calibration: the first pairs kept, all factors zero. */
static inline void tiny_convert(struct model *m, int64_t rope_dim, int64_t latent)
{
    int64_t L = m->cfg.text.num_hidden_layers, heads = L * m->cfg.text.num_key_value_heads;
    int32_t *pairs = calloc((size_t)(heads * rope_dim / 2), sizeof *pairs);
    float *zero = calloc(1 << 16, sizeof *zero);
    struct factors(*f)[MODALITIES] = calloc((size_t)L, sizeof *f);
    struct mha2mla_config c = {.partial_rope_version = "high",
                               .rope_dim_for_mla = rope_dim,
                               .svd_init_method = "joint",
                               .low_rank = latent,
                               .decoupled = true};
    struct err e;

    for (int64_t i = 0; i < heads * rope_dim / 2; i++)
        pairs[i] = (int32_t)(i % (rope_dim / 2));
    for (int64_t i = 0; i < L * MODALITIES; i++)
        f[i / MODALITIES][i % MODALITIES] = (struct factors){{zero, zero}, zero, zero, latent};
    if (!model_to_partial(m, pairs, rope_dim, &e) ||
        !model_to_mla(m,
                      &(struct to_mla){KV_JOINT, true, latent,
                                       (const struct factors(*)[MODALITIES])f, NULL, NULL, NULL},
                      &e) ||
        !hf_config_set_mha2mla(&m->cfg, &c, &e))
        fail_msg("%s", e.msg);
    free(pairs);
    free(zero);
    free(f);
}

#endif
