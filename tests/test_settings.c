/* test_settings.c - settings beside each other: which are refused, and which are said not to be
 * used. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "autograd/gemm.h"
#include "data/template.h"
#include "data/tokenizer/tokenizer.h"
#include "model/config/choices.h"
#include "optim/moment.h"
#include "tests/tmpdir.h"
#include "train/peft.h"
#include "train/score/scorer.h"
#include "train/settings.h"

#include "tests/printed.h"

/* Settings as KEY=VALUE, divided by '|', on top of the least that a config needs. */
static void load(struct config *c, const char *line)
{
    static const char all[] = "run.steps=[\"baseline\",\"rank\",\"stage1\",\"svd\",\"stage2\","
                              "\"evaluate\",\"report\"]";
    const char *sets[16] = {"run.dir=r", "data.train=[{\"path\":\"t\"}]",
                            "data.eval=[{\"path\":\"e\"}]", all};
    char text[1000], *rest = text;
    size_t n = 4;
    struct err e;

    snprintf(text, sizeof text, "%s", line);
    while (*line && n < 16 && (sets[n] = strsep(&rest, "|")))
        n++;
    if (!schema_load(&config_schema, c, NULL, sets, n, &e)) fail_msg("%s: %s", line, e.msg);
}

static void test_table(void **state)
{
    struct err e;

    (void)state;
    if (!schema_check(&config_schema, &e)) fail_msg("%s", e.msg);
}

#define FIELD(f) offsetof(struct config, f)

/* A choice is the place of its name in a row: here is each value beside its name. */
static const struct {
    const char *key;
    size_t field; /* an int */
    int n;
    struct {
        const char *name;
        int value;
    } choice[RANK_STRATEGIES];
} choices[] = {
    {"run.compute", FIELD(run.compute), 2, {{"f32", GEMM_F32}, {"bf16", GEMM_BF16}}},
    {"run.gemm",
     FIELD(run.gemm),
     3,
     {{"auto", GEMM_AUTO}, {"openblas", GEMM_OPENBLAS}, {"onednn", GEMM_ONEDNN}}},
    {"model.tokenizer_form",
     FIELD(model.tokenizer_form),
     3,
     {{"auto", TOKENIZER_AUTO},
      {"file", TOKENIZER_FILE},
      {"sentencepiece", TOKENIZER_SENTENCEPIECE}}},
    {"data.too_long",
     FIELD(data.too_long),
     2,
     {{"drop", TOO_LONG_DROP}, {"error", TOO_LONG_ERROR}}},
    {"data.alpha", FIELD(data.alpha), 2, {{"white", ALPHA_WHITE}, {"drop", ALPHA_DROP}}},
    {"rank.strategy",
     FIELD(rank.strategy),
     RANK_STRATEGIES,
     {{"high", RANK_HIGH},
      {"low", RANK_LOW},
      {"uniform", RANK_UNIFORM},
      {"2-norm", RANK_2NORM},
      {"mkl", RANK_MKL},
      {"mkl-mask", RANK_MKL_MASK},
      {"logit", RANK_LOGIT},
      {"file", RANK_FILE}}},
    {"stage1.teacher",
     FIELD(stage1.teacher),
     2,
     {{"fly", TEACHER_FLY}, {"stored", TEACHER_STORED}}},
    {"stage2.teacher",
     FIELD(stage2.teacher),
     2,
     {{"fly", TEACHER_FLY}, {"stored", TEACHER_STORED}}},
    {"rank.budget",
     FIELD(rank.budget),
     3,
     {{"even", BUDGET_EVEN}, {"heads", BUDGET_HEADS}, {"spread", BUDGET_SPREAD}}},
    {"svd.method",
     FIELD(svd.method),
     KV_METHODS,
     {{"none", KV_NONE},
      {"joint", KV_JOINT},
      {"split", KV_SPLIT},
      {"only_key", KV_ONLY_KEY},
      {"only_value", KV_ONLY_VALUE}}},
    {"svd.input",
     FIELD(svd.input),
     MDSVD_METHODS,
     {{"activation", MDSVD_ACTIVATION}, {"weight", MDSVD_WEIGHT}, {"random", MDSVD_RANDOM}}},
    {"svd.statistics",
     FIELD(svd.statistics),
     KV_STATISTICS,
     {{"tokens", KV_TOKENS}, {"received", KV_RECEIVED}, {"blocks", KV_BLOCKS}}},
    {"optim.decay_style",
     FIELD(optim.decay_style),
     3,
     {{"1-sqrt", DECAY_1_SQRT}, {"linear", DECAY_LINEAR}, {"cosine", DECAY_COSINE}}},
    {"optim.state",
     FIELD(optim.state),
     MOMENT_TYPES,
     {{"f32", MOMENT_F32}, {"bf16", MOMENT_BF16}, {"8bit", MOMENT_8BIT}}},
    {"optim.recompute",
     FIELD(optim.recompute),
     3,
     {{"auto", RECOMPUTE_AUTO}, {"none", RECOMPUTE_NONE}, {"all", RECOMPUTE_ALL}}},
    {"evaluate.score",
     FIELD(evaluate.score),
     SCORES,
     {{"answers", SCORE_ANSWERS}, {"tokens", SCORE_TOKENS}, {"options", SCORE_OPTIONS}}},
    {"stage1.loss",
     FIELD(stage1.loss),
     3,
     {{"ce", LOSS_CE}, {"distill", LOSS_DISTILL}, {"layers", LOSS_LAYERS}}},
    {"stage2.loss",
     FIELD(stage2.loss),
     3,
     {{"ce", LOSS_CE}, {"distill", LOSS_DISTILL}, {"layers", LOSS_LAYERS}}},
    {"save.dtype", FIELD(save.dtype), 2, {{"f32", SAVE_F32}, {"bf16", SAVE_BF16}}},
};

static int names_of(const char *key)
{
    int n = 0;

    for (size_t i = 0; i < config_schema.nrows; i++)
        if (strcmp(config_schema.rows[i].key, key) == 0)
            while (config_schema.rows[i].names[n])
                n++;
    return n;
}

static void test_choices(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        assert_int_equal(names_of(choices[i].key), choices[i].n); /* each is here */
        for (int k = 0; k < choices[i].n; k++) {
            struct config c;
            char line[100];
            int got;
            snprintf(line, sizeof line, "%s=%s", choices[i].key, choices[i].choice[k].name);
            load(&c, line);
            memcpy(&got, (char *)&c + choices[i].field, sizeof got);
            if (got != choices[i].choice[k].value) fail_msg("%s is %d", line, got);
            schema_free(&config_schema, &c);
        }
    }
}

/* Every score has its row, whose list of figures ends. */
static void test_scorers(void **state)
{
    (void)state;
    for (int i = 0; i < SCORES; i++) {
        const struct scorer *s = &scorers[i];
        int n = 0;
        while (n < SCORE_CELLS && s->cell[n].name)
            assert_non_null(s->cell[n++].value);
        if (!score_names[i] || !s->items || !s->counted || !s->batch || !s->say || n == 0 ||
            n == SCORE_CELLS)
            fail_msg("score %d: its row is not complete", i);
    }
}

static void test_refused(void **state)
{
    static const struct {
        const char *line, *says; /* NULL: fine */
    } cases[] = {
        {"run.steps=[\"rank\",\"svd\",\"rank\"]", "run.steps: \"rank\" is there twice"},
        {"model.path=", "model.path: is empty: give a path, or null"},
        {"model.tokenizer=", "model.tokenizer: is empty"},
        {"rank.file=", "rank.file: is empty"},
        {"rank.file=null", NULL},
        {"sweep.low_rank=[8,8]", "the point rope32-rank8 twice"},
        {"sweep.low_rank=[1,1.0000001]", "the point rope32-rank1 twice"},
        {"sweep.partial_rope=[8,4,8]", "the point rope8-rank64 twice"},
        {"sweep.partial_rope=[8,4]|sweep.low_rank=[1,2]", NULL},
        {"sweep.low_rank=[8,4]|sweep.stage2_lr=[1e-3]",
         "sweep.stage2_lr: has 1 rates for the 2 values of sweep.low_rank"},
        {"sweep.stage2_lr=[1e-3]", "has 1 rates for the 0 values"},
        {"sweep.low_rank=[8,4]|sweep.stage2_lr=[1e-3,2e-3]", NULL},
        {"sweep.low_rank=[8,4]|sweep.stage2_lr=[1e-3,1e-6]|optim.min_lr=2e-6",
         "optim.min_lr: 2e-06 is more than stage2.lr, 1e-06, from which"},
        {"stage1.micro_batch=17", "stage1.micro_batch: 17 is more than stage1.batch_size, 16"},
        {"stage1.micro_batch=16", NULL},
        {"stage1.micro_batch=17|run.steps=[\"rank\"]", NULL},
        {"baseline.micro_batch=9|baseline.batch_size=8", "baseline.micro_batch: 9 is more than"},
        {"optim.min_lr=1e-5", "optim.min_lr: 1e-05 is more than stage2.lr, 5e-06, from which"},
        {"optim.min_lr=5e-6", NULL},
        {"optim.warmup=0.6|optim.decay=0.5", "0.6 and 0.5 of the steps are more than all"},
        {"optim.warmup=0.7|optim.decay=0.3", NULL},
        {"svd.statistics=blocks|svd.input=weight",
         "svd.statistics: \"blocks\" needs svd.input \"activation\", and that is"},
        {"svd.statistics=received|svd.input=random", "and that is \"random\""},
        {"svd.ranks=energy|svd.input=random", "svd.ranks: with svd.input \"random\" no component"},
        {"svd.statistics=received|svd.input=weight|svd.method=none", NULL},
        {"svd.statistics=received|svd.input=weight|run.steps=[\"stage2\"]", NULL},
        {"svd.statistics=tokens|svd.input=weight", NULL},
        {"rank.basis=cross|rank.file=x.h5", "rank.basis: \"cross\" measures components"},
        {"rank.basis=cross|rank.strategy=file", "rank.basis: \"cross\" measures components"},
        {"rank.basis=cross|rank.strategy=uniform", NULL},
        {"rank.basis=cross|rank.file=x.h5|run.steps=[\"evaluate\"]", NULL},
        {"rank.strategy=file|rank.file=x.h5", NULL},
        {"svd.steps=3|svd.statistics=blocks", NULL},
        {"svd.steps=3|svd.method=none", NULL},
        {"svd.steps=3|run.steps=[\"rank\"]", NULL},
        {"svd.ranks=energy|svd.statistics=blocks", NULL},
        {"rank.budget=spread", "rank.budget: only rank.strategy \"logit\""},
        {"rank.budget=heads|rank.basis=cross|rank.strategy=logit", "rank.budget: only"},
        {"rank.budget=spread|rank.strategy=logit", NULL},
        {"svd.ranks=sensitivity|svd.statistics=received", NULL},
        {"svd.ranks=energy|svd.statistics=blocks|svd.method=none", NULL},
        {"sweep.cache=[0.5]|rank.strategy=uniform", "sweep.cache: rank.strategy \"uniform\""},
        {"sweep.cache=[0.5]|rank.strategy=uniform|rank.basis=cross", NULL},
        {"sweep.cache=[0.5]|svd.low_rank=8|rank.rope_dim=4", NULL},
        {"data.eval=[{\"path\":\"a/x.json\"},{\"path\":\"b/x.json\"}]",
         "data.eval[1]: is called \"x.json\" in the scores, as data.eval[0] is: give it"},
        {"data.eval=[{\"path\":\"a/x.json\"},{\"path\":\"b/y.json\",\"name\":\"x.json\"}]",
         "give it another \"name\""},
        {"data.eval=[{\"path\":\"a/x.json\"},{\"path\":\"b/x.json\",\"name\":\"y\"}]", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c;
        struct err e = {0};
        load(&c, cases[i].line);
        bool ok = settings_check(&c, &e);
        if (ok != !cases[i].says || (!ok && !strstr(e.msg, cases[i].says)))
            fail_msg("%s: %s", cases[i].line, ok ? "is fine" : e.msg);
        schema_free(&config_schema, &c);
    }
}

/* No number makes nonsense of what is computed from it. */
static void test_bounds(void **state)
{
    static const char *const cases[][2] = {
        {"stage1.steps=9223372036854775807", "stage1.steps: must be 0..1000000000"},
        {"run.memory_limit=1e30", "run.memory_limit: must be 0..1048576"},
        {"data.eval=[{\"path\":\"e\",\"name\":\"\"}]", "data.eval[0].name: needs at least 1"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *sets[] = {"run.dir=r", "data.train=[{\"path\":\"t\"}]", cases[i][0]};
        struct config c;
        struct err e = {0};
        assert_false(schema_load(&config_schema, &c, NULL, sets, 3, &e));
        if (!strstr(e.msg, cases[i][1])) fail_msg("%s", e.msg);
    }
}

/* What is said of the settings on a line; lines in the order of the table. */
static void test_unused(void **state)
{
    static const struct {
        const char *line, *says;
        bool text; /* the model takes no pictures */
    } cases[] = {
        {"", "", false},
        {"", "", true},
        {"svd.low_rank=64|sweep.low_rank=[8]",
         "not used: svd.low_rank, for sweep.low_rank has the values\n", false},
        {"stage2.lr=1e-4|sweep.low_rank=[8]|sweep.stage2_lr=[1e-3]",
         "not used: stage2.lr, for sweep.stage2_lr has the values\n", false},
        {"rank.rope_dim=8|sweep.partial_rope=[8]",
         "not used: rank.rope_dim, for sweep.partial_rope has the values\n", false},
        {"rank.strategy=high|rank.file=f|rank.uniform_start=1|rank.samples=3|rank.max_queries=2",
         "not used: rank.file, rank.uniform_start, for rank.strategy makes no use of it\n"
         "not used: rank.samples, rank.max_queries, for rank.strategy measures nothing\n",
         false},
        {"rank.strategy=file|rank.file=f", "", false},
        {"rank.strategy=uniform|rank.uniform_start=1", "", false},
        {"rank.strategy=2-norm|rank.max_queries=2",
         "not used: rank.max_queries, for rank.strategy makes no use of it\n", false},
        {"run.steps=[\"rank\",\"stage1\",\"svd\"]|baseline.layers=3|baseline.lr=0.1",
         "not used: baseline.*, for run.steps lacks their step\n", false},
        {"run.steps=[\"evaluate\"]|rank.rope_dim=8|stage2.lr=1|svd.samples=1|optim.clip=1|"
         "checkpoint.keep=1|save.full=true",
         "not used: rank.*, svd.*, stage2.*, for run.steps lacks their step\n"
         "not used: optim.*, checkpoint.*, for nothing is trained\n"
         "not used: save.*, for no model is saved\n",
         false},
        {"run.steps=[\"rank\",\"stage1\"]|stage1.refit=true|svd.samples=2|svd.steps=3|"
         "svd.split_samples=2",
         "not used: svd.steps, svd.split_samples, for run.steps lacks their step\n", false},
        {"run.steps=[\"rank\",\"stage1\"]|svd.samples=2",
         "not used: svd.*, for run.steps lacks their step\n", false},
        {"run.steps=[\"rank\"]|sweep.cache=[0.4]|svd.split_samples=2|svd.refit=true|"
         "svd.statistics=received|svd.samples=2|svd.ranks=energy",
         "not used: svd.ranks, svd.samples, for run.steps lacks their step\n", false},
        {"run.steps=[\"stage2\"]|save.full=true",
         "not used: save.full, for stage1 and svd are not among run.steps\n", false},
        {"model.path=m|baseline.layers=3|baseline.vision_heads=2|baseline.lr=0.1",
         "not used: baseline.layers, baseline.vision_*, for the model of model.path has its "
         "shape\n",
         false},
        {"stage1.epochs=2|stage1.steps=3|stage2.epochs=2",
         "not used: stage1.epochs, for the training's steps are given\n", false},
        {"stage1.temperature=2|stage2.distill_weight=1|stage2.loss=ce",
         "not used: stage1.temperature, stage2.distill_weight, for the training's loss is "
         "\"ce\"\n",
         false},
        {"stage1.loss=distill|stage1.temperature=2|stage1.distill_weight=1", "", false},
        {"svd.method=none|svd.low_rank=8|svd.samples=3|svd.decoupled=true",
         "not used: svd.low_rank, svd.samples, for svd.method \"none\" compresses nothing\n",
         false},
        {"svd.input=weight|svd.samples=3",
         "not used: svd.samples, for svd.input is not \"activation\"\n", false},
        {"svd.method=none|svd.statistics=blocks|svd.steps=3",
         "not used: svd.statistics, svd.steps, for svd.method \"none\" compresses nothing\n",
         false},
        {"svd.statistics=received|svd.steps=3",
         "not used: svd.steps, for svd.statistics is not \"blocks\"\n", false},
        {"svd.split_samples=8",
         "not used: svd.split_samples, for there is no sweep.cache, and svd.ranks is not "
         "sensitivity\n",
         false},
        {"svd.split_samples=8|svd.ranks=sensitivity", "", false},
        {"svd.method=none|svd.ranks=energy",
         "not used: svd.ranks, for svd.method \"none\" compresses nothing\n", false},
        {"svd.statistics=blocks|svd.steps=3", "", false},
        {"optim.decay=0|optim.min_lr=1e-6|optim.decay_style=linear",
         "not used: optim.decay_style, optim.min_lr, for optim.decay is 0\n", false},
        {"data.eval=[]|evaluate.batch=3|stage2.eval_every=2",
         "not used: stage2.eval_every, evaluate.*, for there is no data.eval\n", false},
        {"evaluate.score=tokens|evaluate.max_new_tokens=3|evaluate.examples=2",
         "not used: evaluate.max_new_tokens, evaluate.examples, for evaluate.score is "
         "\"tokens\"\n",
         false},
        {"rank.rotation=true|rank.rope_dim=32",
         "not used: rank.rotation, for every pair stays rotated: nothing loses RoPE\n", false},
        {"rank.rotation=true|sweep.partial_rope=[32]",
         "not used: rank.rotation, for every pair stays rotated: nothing loses RoPE\n", false},
        {"rank.rotation=true|sweep.partial_rope=[32,30]", "", false},
        {"rank.rotation=true|rank.basis=cross|rank.rope_dim=32", "", false},
        {"rank.rotation=true|rank.basis=cross|rank.rope_dim=128",
         "not used: rank.rotation, for every pair stays rotated: nothing loses RoPE\n", false},
        {"evaluate.score=options|evaluate.max_new_tokens=3|evaluate.examples=2",
         "not used: evaluate.max_new_tokens, for evaluate.score is \"options\"\n", false},
        {"evaluate.samples=5|evaluate.curve_samples=6",
         "not used: evaluate.curve_samples, for evaluate.samples are fewer\n", false},
        {"data.alpha=drop|data.cache=c|svd.decoupled=true|stage1.projector=true", "", false},
        {"data.max_pixels=1000|data.min_pixels=10",
         "not used: data.min_pixels, data.max_pixels, for the model takes no pictures\n", true},
        {"data.alpha=drop|data.cache=c|svd.decoupled=true|stage1.projector=true",
         "not used: data.alpha, data.cache, stage1.projector, svd.decoupled, for the model takes "
         "no pictures\n",
         true},
        {"data.train=[{\"path\":\"a\"},{\"path\":\"b\",\"name\":\"n\"}]",
         "not used: data.train[1].name, for names are of what is scored\n", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c;
        load(&c, cases[i].line);
        int was = printed_begin(state);
        settings_say_unused(&c, &(struct settings_model){!cases[i].text, 32, 4});
        char *text = printed_end(state, was);
        if (strcmp(text, cases[i].says) != 0) fail_msg("%s: said\n%s", cases[i].line, text);
        free(text);
        schema_free(&config_schema, &c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),   cmocka_unit_test(test_choices),
        cmocka_unit_test(test_scorers), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bounds),  tmpdir_test(test_unused)};

    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
