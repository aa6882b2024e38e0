/* test_dryrun.c - the dry run: what it prints, what it refuses, and that its models without memory
 * match the real ones. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "data/order.h"
#include "optim/moment.h"
#include "tests/tmpdir.h"
#include "train/forecast/advice.h"
#include "train/forecast/dryrun.h"
#include "train/forecast/dryrun_parts.h"
#include "train/forecast/forecast.h"
#include "train/peft.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>

#include "tests/printed.h"
#include "tests/tiny_run.h"
#include "train/caches.h"

/* Runs dry_run and returns its output in new memory. */
static bool run_and_read(struct run *r, void *const *state, char **text, struct err *e)
{
    int was = printed_begin(state);
    bool ok = dry_run(r, e);

    *text = printed_end(state, was);
    return ok;
}

static void assert_says(const char *text, const char *what)
{
    if (strstr(text, what)) return;
    fputs(text, stderr); /* too long for cmocka's messages */
    fail_msg("the text lacks: %s", what);
}

static void test_says(void **state)
{
    const char *const more[] = {"run.steps=[\"baseline\",\"rank\",\"stage1\",\"svd\",\"stage2\"]",
                                "stage2.steps=7", "stage2.peft=v5", NULL};
    struct run r;
    struct err e;
    char *text;

    tiny_run(&r, state, more);
    if (!run_and_read(&r, state, &text, &e)) fail_msg("%s", e.msg);
    assert_says(text, "\"low_rank\": [2, 4]");
    assert_says(text, "data.train: 4 samples");
    assert_says(text, "a picture: made 32 x 32 pixels, 16 tokens");
    assert_says(text, "\ndata.cache: pixels of 4 of 4 pictures, 48.00 KiB on disk\n"
                      "data.cache: features of 4 of 4 pictures, 8.00 KiB on disk\n");
    assert_says(text, "sample 1, \"a\"");
    assert_says(text, "<image> x 16");
    assert_says(text, "\n  added     <s>\n"
                      "  text      \"USER: <image>\\nWhat is it? ASSISTANT:\"\n"
                      "  trained   \" red</s>\"\n"
                      "  added     </s>\n");
    /* 2 heads of 16: 64 values; rope 8: 16 rotated values, plus 4 or 8 of the latent */
    assert_says(text, "\nbase                                 64     100.00 %              512");
    assert_says(text, "\nrope8-rank2                          20      31.25 %              160");
    assert_says(text, "\nrope8-rank4                          24      37.50 %              192");
    assert_says(text, "\nrope8-rank2 stage 2               7     16     5e-06");
    assert_says(text, "trained    of all     TFLOP  products\n");
    assert_says(text, "\nproducts: their time alone, at the ");
    /* v5 at rank 2: 2 layers x 2 modalities x (down 4*32, up_k 16*4, up_v 32*4) */
    assert_says(text, "1,280    1.53 %");
    assert_false(is_there(tmpdir_path(state, "run")));
    assert_false(is_there(tmpdir_path(state, "cache")));
    free(text);
    run_close(&r);
}

/* Appends the JSON strings in the lines at *at with this label, and advances past them. */
static void read_part(const char **at, const char *label, char *out)
{
    const char *end;

    for (out += strlen(out); strncmp(*at, label, 12) == 0; label = "            ") {
        const char *begin = *at + 12;
        cJSON *json;

        end = strchr(begin, '\n');
        assert_true(end - *at <= 112); /* 100 columns; some characters have more bytes */
        json = cJSON_ParseWithLength(begin, (size_t)(end - begin));
        if (!cJSON_IsString(json)) fail_msg("%.*s", (int)(end - begin), begin);
        out = stpcpy(out, json->valuestring);
        cJSON_Delete(json);
        *at = end + 1;
    }
}

/* The string can be reconstructed byte for byte, including which parts of it are trained on. */
static void test_exact_string(void **state)
{
    static const char sample[] =
        "[{\"conversations\":[{\"from\":\"system\",\"value\":\"  a\\u3000b\"},"
        "{\"from\":\"human\",\"value\":\"\\\"C:\\\\new\\\" \\u0007\\u00a0\\u202e and  a  long  "
        "question,"
        " many words of it, so that it must be broken, and again and again, until it ends \\n\\n "
        "\"},"
        "{\"from\":\"gpt\",\"value\":\"\\u200b\\u72ac\\u72ac \\t</s> \"},"
        "{\"from\":\"human\",\"value\":\"\"},{\"from\":\"gpt\",\"value\":\"two\\n\"}]}]";
    static const char *const want[] = {
        "  a\u3000b USER: \"C:\\new\" \a\u00a0\u202e and  a  long  question, many words of it, so "
        "that it "
        "must be broken, and again and again, until it ends \n\n  ASSISTANT:",
        " \u200b\u72ac\u72ac \t</s> </s>", "USER:  ASSISTANT:", " two\n</s>"};
    char train[1200];
    const char *const more[] = {"run.steps=[\"baseline\"]", train, NULL}, *at;
    char got[1000];
    struct run r;
    struct err e;
    char *text;

    spill(tmpdir_path(state, "odd.json"), sample, strlen(sample));
    snprintf(train, sizeof train, "data.train=[{\"path\":\"%s\"}]", tmpdir_path(state, "odd.json"));
    tiny_run(&r, state, more);
    if (!run_and_read(&r, state, &text, &e)) fail_msg("%s", e.msg);
    at = strstr(text, "  text      \"");
    assert_non_null(at);
    for (int i = 0; i < 4; i++) {
        got[0] = '\0';
        read_part(&at, i % 2 ? "  trained   " : "  text      ", got);
        assert_string_equal(got, want[i]);
    }
    assert_memory_equal(at, "  added     </s>\n", 17);
    assert_says(text, "\"  a\\u3000b USER: "); /* what a terminal hides is spelled out */
    assert_says(text, "\\u0007\\u00A0\\u202E and");
    assert_says(text, "\" \\u200B\u72ac\u72ac \\u0009</s> </s>\"");
    free(text);
    run_close(&r);
}

static void refuses(void **state, const char *set, const char *message)
{
    const char *const more[] = {"run.steps=[\"baseline\",\"rank\",\"stage1\",\"svd\",\"stage2\"]",
                                "evaluate.max_new_tokens=1", set, NULL};
    struct run r;
    struct err e;
    char *text;

    tiny_run(&r, state, more);
    assert_false(run_and_read(&r, state, &text, &e));
    assert_says(e.msg, message);
    free(text);
    run_close(&r);
}

/* Value and gradient take 8 bytes and the moments 8, or 4 in bf16, or in 8 bits 2 plus two 4-byte
 * scales per 256 values; for small matrices the moments stay at 8. */
static void test_state_is_counted(void **state)
{
    static const char *const sets[MOMENT_TYPES] = {"optim.state=f32", "optim.state=bf16",
                                                   "optim.state=8bit"};
    double bytes[MOMENT_TYPES], all = 0, large = 0;

    for (int i = 0; i < MOMENT_TYPES; i++) {
        const char *const more[] = {"run.steps=[\"baseline\"]", sets[i], NULL};
        struct forecast f;
        struct run r;
        struct err e;

        tiny_run(&r, state, more);
        if (!forecast_open(&f, &r, &e) || !run_open_data(&r, &f.base.cfg, &e) ||
            !forecast_models(&f, &e))
            fail_msg("%s", e.msg);
        for (int64_t k = 0; k < f.n_steps; k++)
            if (f.steps[k].is_training) bytes[i] = f.steps[k].trained;
        all = f.models[0].trained;
        large = 0;
        for (int64_t k = 0; k < f.base.n_params; k++)
            if (tensor_count(&f.base.params[k].t) >= 4096) /* all are whole blocks */
                large += (double)tensor_count(&f.base.params[k].t);
        forecast_close(&f);
        run_close(&r);
    }
    assert_true(large > 0 && large < all);
    assert_true(bytes[MOMENT_F32] == 16 * all);
    assert_true(bytes[MOMENT_BF16] == 16 * all - 4 * large);
    assert_true(bytes[MOMENT_8BIT] == 16 * all - 6 * large + 8 * large / 256);
}

/* If the trained values outweigh the activations, a smaller batch would not help. */
static void test_advice_follows_what_is_large(void **state)
{
    static const struct {
        const char *batch, *eval, *advice;
    } cases[] = {
        {"baseline.batch_size=1", "evaluate.max_new_tokens=1", "trains less"},
        {"baseline.batch_size=16", "evaluate.max_new_tokens=1", "micro_batch"},
        {"baseline.layers=32", "evaluate.max_new_tokens=2000", "evaluate.batch"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char train[4 * 1200], *at = train;
        const char *const more[] = {"run.steps=[\"baseline\"]",
                                    "run.memory_limit=0.0001",
                                    cases[i].batch,
                                    cases[i].eval,
                                    train,
                                    NULL};
        struct run r;
        struct err e;
        char *text;

        for (int k = 0; k < 4; k++) /* 16 samples */
            at += sprintf(at, "%s{\"path\":\"%s\"}", k ? "," : "data.train=[",
                          tmpdir_path(state, "train.json"));
        strcpy(at, "]");
        tiny_run(&r, state, more);
        assert_false(run_and_read(&r, state, &text, &e));
        assert_says(e.msg, "baseline needs");
        assert_says(e.msg, cases[i].advice);
        free(text);
        run_close(&r);
    }
}

/* Samples longer than a graph of a calibration, and one that is not. */
static void spill_long(void *const *state)
{
    char text[16000] = "";
    size_t n = 0;

    for (int i = 0; i < 3; i++) {
        n += (size_t)sprintf(text + n, "{\"text\":\"");
        for (int k = 0; k < (i == 1 ? 200 : 1200); k++)
            n += (size_t)sprintf(text + n, " red");
        n += (size_t)sprintf(text + n, "\"}\n");
    }
    spill(tmpdir_path(state, "long.json"), text, n);
}

/* A row of the advice, the settings of a step that it helps, and what it advises. */
static const struct advised_case {
    const char *text, *step, *settings[4], *then[4];
} advised_cases[] = {
    {"rank.strategy \"mkl\" with rank.basis \"head\" and rank.budget \"even\"",
     "rank",
     {"rank.basis=cross"},
     {"rank.basis=head"}},
    {"rank.strategy \"mkl\" with rank.basis \"head\" and rank.budget \"even\"",
     "rank",
     {"rank.strategy=logit", "rank.budget=spread"},
     {"rank.strategy=mkl", "rank.budget=even"}},
    {"rank.strategy \"high\" with rank.basis \"head\", which measures nothing",
     "rank",
     {"rank.strategy=2-norm"},
     {"rank.strategy=high"}},
    {"rank.rotation false", "rope8 rotation", {"rank.rotation=true"}, {"rank.rotation=false"}},
    {"svd.statistics \"received\"",
     "rope8 svd",
     {"svd.statistics=blocks"},
     {"svd.statistics=received"}},
    {"svd.statistics \"tokens\"",
     "rope8 svd",
     {"svd.statistics=blocks"},
     {"svd.statistics=tokens"}},
    {"svd.statistics \"tokens\"",
     "rope8 svd",
     {"svd.statistics=received", "svd.method=split"},
     {"svd.statistics=tokens", "svd.method=split"}},
    {"svd.statistics \"tokens\"",
     "splits svd",
     {"sweep.low_rank=[]", "sweep.partial_rope=[]", "sweep.cache=[0.5]", "svd.statistics=blocks"},
     {"sweep.low_rank=[]", "sweep.partial_rope=[]", "sweep.cache=[0.5]", "svd.statistics=tokens"}},
    {"svd.ranks \"even\"", "rope8 svd", {"svd.ranks=energy"}, {"svd.ranks=even"}},
    {"svd.ranks \"energy\" or \"even\"",
     "rope8-rank4 ranks",
     {"svd.ranks=sensitivity"},
     {"svd.ranks=energy"}},
    {"a smaller sweep.low_rank", "rope8 svd", {NULL}, {"sweep.low_rank=[1,2]"}},
    {"stage1.refit false", "rope8 stage 1 refit", {"stage1.refit=true"}, {"stage1.refit=false"}},
    {"svd.refit false", "rope8-rank4 refit", {"svd.refit=true"}, {"svd.refit=false"}},
    {"sweep.low_rank and sweep.partial_rope in place of sweep.cache",
     "splits loss",
     {"sweep.low_rank=[]", "sweep.partial_rope=[]", "sweep.cache=[0.5]"},
     {NULL}},
    {"a smaller data.max_length", "rope8 svd", {"data.train=LONG"}, {"data.train=LONG", "SHORTER"}},
};
enum { ADVISED = sizeof advised_cases / sizeof *advised_cases };

/* What the step takes besides the program itself, 0 if there is none; `says`, and its advice. */
static double advised_bytes(void *const *state, const char *step, const char *const *settings,
                            const char *says)
{
    const char *more[16] = {"run.steps=[\"baseline\",\"rank\",\"stage1\",\"svd\"]", "data.eval=[]"};
    char data[1200], out[ADVICE_TEXT];
    struct forecast f = {0};
    double bytes = 0;
    struct err e;
    struct run r;
    int n = 2;

    snprintf(data, sizeof data, "data.train=[{\"path\":\"%s\"}]", tmpdir_path(state, "long.json"));
    for (int i = 0; i < 4 && settings[i]; i++)
        more[n++] = strstr(settings[i], "LONG")           ? data
                    : strcmp(settings[i], "SHORTER") == 0 ? "data.max_length=300"
                                                          : settings[i];
    tiny_run(&r, state, more);
    if (!forecast_open(&f, &r, &e) || !run_open_data(&r, &f.base.cfg, &e) ||
        !forecast_models(&f, &e))
        fail_msg("%s: %s", step, e.msg);
    for (int64_t i = 0; i < f.n_steps; i++) {
        const struct forecast_step *s = &f.steps[i];
        if (strcmp(s->name, step) != 0) continue;
        bytes = s->activations + s->computed + s->trained;
        assert_true(bytes > 0 && s->trained <= 0);
        if (says) assert_says(advice_for(&f, s, out), says);
        assert_null(strstr(advice_for(&f, s, out), "peft"));
    }
    if (says && !(bytes > 0)) fail_msg("no step %s", step);
    forecast_close(&f);
    run_close(&r);
    return bytes;
}

/* In a step that trains nothing, what is advised makes it smaller, or takes it away. Every row of
 * the advice is tried; those for pictures and models above. */
static void test_advice_helps(void **state)
{
    spill_long(state);
    for (size_t k = 0; k < advice_count; k++) {
        const struct advice *row = &advice_rows[k];
        bool tried = row->kinds < 1U << FORECAST_RANK;
        for (int i = 0; i < ADVISED; i++)
            tried = tried || (strncmp(advised_cases[i].text, row->text, strlen(row->text)) == 0);
        if (!tried) fail_msg("%s: not tried", row->text);
    }
    for (int i = 0; i < ADVISED; i++) {
        const struct advised_case *c = &advised_cases[i];
        const double before = advised_bytes(state, c->step, c->settings, c->text);
        const double after = advised_bytes(state, c->step, c->then, NULL);
        if (!(after < before))
            fail_msg("%s: %s: %g bytes, %g then", c->step, c->text, before, after);
    }
}

/* With "blocks" each of the sizes that want the same pairs has factors of its own, with the others
 * one has enough. */
static void test_splits_sum_up(void **state)
{
    static const struct {
        const char *statistics;
        bool more;
    } rows[] = {{"svd.statistics=blocks", true}, {"svd.statistics=tokens", false}};

    spill_long(state);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *s[4] = {"sweep.low_rank=[]", "sweep.partial_rope=[]", "sweep.cache=[0.5]",
                            rows[i].statistics};
        const double one = advised_bytes(state, "splits svd", s, NULL);
        s[2] = "sweep.cache=[0.5,0.45]";
        const double two = advised_bytes(state, "splits svd", s, NULL);
        assert_true(rows[i].more ? two > one : two <= one && one <= two);
    }
}

static void test_refuses(void **state)
{
    refuses(state, "run.steps=[\"rank\"]", "model.path: must be given");
    refuses(state, "model.path=somewhere", "somewhere: no such directory");
    refuses(state, "sweep.low_rank=[2.25]", "sweep.low_rank: 2.25 x 2 kv heads");
    refuses(state, "sweep.low_rank=[4000]", "sweep.low_rank: compression joint: latent width 8000");
    refuses(state, "sweep.partial_rope=[18]", "sweep.partial_rope: rope_dim 18: must be");
    /* of recipes, the one whose value it is, and the key */
    refuses(state,
            "sweep.recipe=[{\"name\":\"a\"},{\"name\":\"b\",\"set\":[\"sweep.low_rank=[2.25]\"]}]",
            "sweep.recipe[1] \"b\": sweep.low_rank: 2.25 x 2 kv heads");
    refuses(
        state,
        "sweep.recipe=[{\"name\":\"a\"},{\"name\":\"b\",\"set\":[\"sweep.partial_rope=[18]\"]}]",
        "sweep.recipe[1] \"b\": sweep.partial_rope: rope_dim 18: must be");
    refuses(state,
            "sweep.recipe=[{\"name\":\"c\",\"set\":[\"rank.strategy=uniform\",\"sweep.partial_rope="
            "[6]\"]}]",
            "sweep.recipe[0] \"c\": rank.strategy: strategy uniform: the head size");
}

/* One more token to answer is one more token in the cache of every sample. */
static void test_answers_need_the_cache(void **state)
{
    const char *const more[] = {NULL};
    struct model_state s = {.state = ATTN_FULL};
    struct model m = {0}, shape = {0};
    int64_t few, many;
    size_t graph;
    struct run r;
    struct err e;

    tiny_run(&r, state, more);
    assert_true(make_baseline_model(&r, &m, &e) && run_open_data(&r, &m.cfg, &e));
    assert_true(model_outline(&shape, &m, &s, 0, &e));
    r.c.evaluate.max_new_tokens = 10;
    assert_true(dry_answers(&r, &shape, &r.eval[0], &graph, &few, &e));
    r.c.evaluate.max_new_tokens = 1010;
    assert_true(dry_answers(&r, &shape, &r.eval[0], &graph, &many, &e));
    assert_int_equal(many - few, 1000 * 4 /* samples */);
    assert_true(few > 10 * 4 && graph > 0);
    /* 2 layers; of the kinds the largest counts, which is its own: the original's is not packed */
    assert_int_equal(caches_most_bytes(&r.c, &shape), 2 * 64 * 4);
    r.c.cache.latent = 3;
    assert_int_equal(caches_most_bytes(&r.c, &shape), 2 * 64 * 4);
    model_close(&shape);
    model_close(&m);
    run_close(&r);
}

static void assert_same_model(const struct model *a, const struct model *b)
{
    assert_int_equal(a->n_params, b->n_params);
    for (int64_t i = 0; i < a->n_params; i++) {
        const struct param *p = &a->params[i], *q = &b->params[i];
        assert_string_equal(p->name, q->name);
        assert_int_equal(p->kind, q->kind);
        assert_int_equal(p->t.rows, q->t.rows);
        assert_int_equal(p->t.cols, q->t.cols);
        assert_int_equal(p->t.dtype, q->t.dtype);
        assert_int_equal(p->t.needs_grad, q->t.needs_grad);
    }
}

/* The model without memory needs the same region for the same batch as the converted one. */
static void test_shapes_are_the_models(void **state)
{
    const char *const more[] = {NULL};
    struct model_state s = {
        .state = ATTN_MLA, .rope_dim = 8, .latent = 4, .method = KV_JOINT, .decoupled = true};
    unsigned kinds = peft_kinds(PEFT_KV_ROPE, true);
    struct model m = {0}, shape = {0};
    struct dry_graph graph[2] = {{.n = 1, .room = SIZE_MAX}, {.n = 3, .room = SIZE_MAX}};
    struct dry_cost needed[2], planned[2];
    int64_t recomputed;
    struct run r;
    struct err e;

    tiny_run(&r, state, more);
    assert_true(make_baseline_model(&r, &m, &e) && run_open_data(&r, &m.cfg, &e));
    if (!model_outline(&shape, &m, &s, kinds, &e)) fail_msg("%s", e.msg);
    for (int i = 0; i < 2; i++)
        assert_true(dry_activations(&r, &shape, &graph[i], &planned[i], &recomputed, &e));
    tiny_convert(&m, 8, 4);
    assert_true(model_train(&m, kinds, &e));
    assert_same_model(&shape, &m);
    for (int i = 0; i < 2; i++)
        assert_true(dry_activations(&r, &m, &graph[i], &needed[i], &recomputed, &e));
    assert_memory_equal(planned, needed, sizeof planned);
    assert_true(planned[0].bytes > 0 && planned[0].bytes < planned[1].bytes);
    assert_true(planned[0].flop > 0);
    model_close(&shape);
    model_close(&m);
    run_close(&r);
}

/* The teacher's graph is the outline's, and the plan has all that comes with it. */
static void test_teacher(void **state)
{
    const char *const more[] = {"run.steps=[\"baseline\",\"rank\",\"svd\",\"stage2\"]",
                                "stage2.loss=distill", "stage2.temperature=2", NULL};
    struct model m = {0}, shape = {0};
    struct model_state s = {.state = ATTN_FULL, .rope_dim = 16};
    struct forecast f = {0};
    struct dry_cost cost[2];
    struct run r;
    struct err e;
    char *text;

    tiny_run(&r, state, more);
    struct dry_graph graph = {.n = 3, .room = SIZE_MAX, .teacher = &r.c.stage2};
    assert_true(make_baseline_model(&r, &m, &e) && run_open_data(&r, &m.cfg, &e));
    if (!model_outline(&shape, &m, &s, 0, &e)) fail_msg("%s", e.msg);
    for (int loss = LOSS_LAYERS; loss >= LOSS_DISTILL; loss--) {
        r.c.stage2.loss = loss;
        assert_true(dry_teacher(&r, &shape, &graph, &cost[0], &e) &&
                    dry_teacher(&r, &m, &graph, &cost[1], &e));
        assert_memory_equal(&cost[0], &cost[1], sizeof cost[0]);
        assert_true(cost[0].bytes > 0 && cost[0].flop > 0);
    }
    run_close_data(&r);
    if (!run_and_read(&r, state, &text, &e)) fail_msg("%s", e.msg);
    assert_says(text, "\nstage2: with weight 0.5 the divergence from the original model at "
                      "temperature 2: each step takes a forward pass of it too\n");
    if (!forecast_open(&f, &r, &e) || !forecast_models(&f, &e)) fail_msg("%s", e.msg);
    const struct forecast_step with = f.steps[f.n_steps - 1];
    forecast_close(&f);
    r.c.stage2.loss = LOSS_CE;
    assert_true(forecast_open(&f, &r, &e) && forecast_models(&f, &e));
    /* 2 layers' q, k, v and o of 32 x 32 in fp32; 64 tokens of 4 bytes twice and the rest, of at
     * most 4 samples' labels */
    assert_true(with.mapped - f.steps[f.n_steps - 1].mapped == 2 * 4 * 32 * 32 * 4);
    const double said = with.computed - f.steps[f.n_steps - 1].computed;
    assert_true(said > 0 && fmod(said, 516 * 16) == 0);
    forecast_close(&f);
    free(text);
    model_close(&shape);
    model_close(&m);
    run_close(&r);
}

static size_t planned_for(struct run *r, struct model *shape, int64_t n)
{
    struct dry_graph graph = {.n = n, .room = SIZE_MAX};
    int64_t recomputed;
    struct dry_cost cost;
    struct err e;

    if (!dry_activations(r, shape, &graph, &cost, &recomputed, &e)) fail_msg("%s", e.msg);
    return cost.bytes;
}

/* What a training's graph needs for the n samples from place `at` of its order on. */
static size_t needed_at(struct run *r, struct model *m, struct order *order, int64_t at, int64_t n)
{
    struct sample *s = calloc((size_t)n, sizeof *s);
    struct batch_buffer b = {0};
    struct forward f = {.batch = &b.batch};
    struct tensor leaf;
    struct err e;

    assert_non_null(s);
    for (int64_t i = 0; i < n; i++)
        assert_true(dataset_sample(&r->train, order_at(order, at + i), &s[i], &e));
    assert_true(batch_fill(&b, s, n, false, &e));
    tape_begin(r->tape, true);
    leaf = tensor_leaf(DT_F32, b.batch.image_tokens, hf_feature_width(&m->cfg), NULL);
    if (b.batch.images) f.features = &leaf;
    model_loss(m, r->tape, &f, 1);
    size_t bytes = tape_bytes(r->tape);
    tape_begin(r->tape, false);
    batch_free(&b);
    for (int64_t i = 0; i < n; i++)
        sample_free(&s[i]);
    free(s);
    return bytes;
}

/* A batch of more samples than there are has some of them again, at worst the longest. */
static void test_batch_larger_than_the_set(void **state)
{
    const char *const more[] = {NULL};
    struct model_state s = {.state = ATTN_FULL};
    struct model m = {0}, shape = {0};
    struct order order;
    struct run r;
    struct err e;

    tiny_run(&r, state, more);
    assert_true(make_baseline_model(&r, &m, &e) && run_open_data(&r, &m.cfg, &e));
    assert_true(model_outline(&shape, &m, &s, ~0u, &e));
    assert_true(order_init(&order, 3, r.train.n, &e));
    assert_int_equal(r.train.n, 4);
    for (int64_t n = 5; n <= 13; n += 2) {
        size_t plan = planned_for(&r, &shape, n), most = 0;
        for (int64_t at = 0; at < 200; at++) {
            size_t needed = needed_at(&r, &shape, &order, at, n);
            if (needed > most) most = needed;
        }
        if (plan < most || plan > most + most / 2)
            fail_msg("%lld samples: planned %zu bytes, needed %zu", (long long)n, plan, most);
    }
    /* far more than the plan itself could hold */
    double one = (double)planned_for(&r, &shape, 1 << 13);
    double eight = (double)planned_for(&r, &shape, 1 << 16);
    assert_true(eight > 7.9 * one && eight < 8.1 * one);
    order_free(&order);
    model_close(&shape);
    model_close(&m);
    run_close(&r);
}

/* The forecast's step of that name, of the processes planned for. */
static struct forecast_step step_for(struct run *r, int64_t processes, const char *name)
{
    struct forecast_step found = {.bytes = 0};
    struct forecast f;
    struct err e;

    r->processes = processes;
    if (!forecast_open(&f, r, &e) || !run_open_data(r, &f.base.cfg, &e) || !forecast_models(&f, &e))
        fail_msg("%s", e.msg);
    for (int64_t i = 0; i < f.n_steps; i++)
        if (strcmp(f.steps[i].name, name) == 0) found = f.steps[i];
    assert_true(found.bytes > 0);
    run_close_data(r);
    forecast_close(&f);
    return found;
}

/* Of 16 samples each of 4 processes has 4, and a quarter of the moments; what comes from the others
 * is three quarters of the values, a quarter at most at a time. Answering is not cut. */
static void test_several_processes(void **state)
{
    const char *const more[] = {"run.steps=[\"baseline\"]", "baseline.batch_size=16", NULL};
    struct forecast_step one, four, micro;
    struct run r;

    tiny_run(&r, state, more);
    one = step_for(&r, 1, "baseline");
    four = step_for(&r, 4, "baseline");
    assert_true(fabs(one.trained / 16 - floor(one.trained / 16)) < 1e-9); /* 2 values, 2 moments */
    const double values = one.trained / 16;
    assert_true(four.trained == values * (8 + 8. / 4 + 4 * 3. / 4));
    assert_true(four.activations < 0.3 * one.activations &&
                four.activations > 0.2 * one.activations);
    assert_true(four.answers == one.answers);
    r.c.baseline.micro_batch = 2;
    micro = step_for(&r, 4, "baseline");
    assert_true(micro.activations < 0.9 * four.activations);
    r.c.baseline.micro_batch = 8; /* more than a process has */
    assert_true(step_for(&r, 4, "baseline").activations == four.activations);
    run_close(&r);
}

/* Exactly as many layers are recomputed as the memory requires: the plan with one
 * fewer does not fit. */
static void test_recomputes_what_is_needed(void **state)
{
    const char *const more[] = {"baseline.layers=5", NULL};
    struct model_state s = {.state = ATTN_FULL};
    struct model m = {0}, shape = {0};
    struct dry_graph graph = {.n = 4};
    struct dry_cost cost[5], got;
    int64_t layers;
    struct run r;
    struct err e;

    tiny_run(&r, state, more);
    assert_true(make_baseline_model(&r, &m, &e) && run_open_data(&r, &m.cfg, &e));
    assert_true(model_outline(&shape, &m, &s, ~0u, &e));
    graph.room = SIZE_MAX;
    assert_true(dry_activations(&r, &shape, &graph, &cost[0], &layers, &e));
    assert_int_equal(layers, 0);
    for (int64_t n = 1; n <= 4; n++) { /* one byte less than needed with fewer layers */
        graph.room = cost[n - 1].bytes - 1;
        assert_true(dry_activations(&r, &shape, &graph, &cost[n], &layers, &e));
        assert_int_equal(layers, n);
        assert_true(cost[n].bytes <= graph.room);
        assert_true(cost[n].flop > cost[n - 1].flop);
    }
    assert_true(cost[4].bytes < cost[0].bytes / 2);
    graph.room = 1;
    assert_true(dry_activations(&r, &shape, &graph, &got, &layers, &e));
    assert_int_equal(layers, 5);
    r.c.optim.recompute = RECOMPUTE_ALL;
    graph.room = SIZE_MAX;
    assert_true(dry_activations(&r, &shape, &graph, &cost[1], &layers, &e));
    assert_int_equal(layers, 5);
    assert_memory_equal(&cost[1], &got, sizeof got);
    /* of all layers: the forward pass twice */
    assert_true(got.flop > 1.2 * cost[0].flop && got.flop < 1.5 * cost[0].flop);
    r.c.optim.recompute = RECOMPUTE_NONE;
    graph.room = 1;
    assert_true(dry_activations(&r, &shape, &graph, &got, &layers, &e));
    assert_int_equal(layers, 0);
    assert_memory_equal(&got, &cost[0], sizeof got);
    model_close(&shape);
    model_close(&m);
    run_close(&r);
}

/* 64 heads of 16: with room for all 1,024 inputs, sums of 2 * 64 * 16 * 1024^2 bytes and more,
 * which 2 GiB do not hold. */
static void test_blocks_are_narrowed(void **state)
{
    static const struct {
        const char *low_rank, *said;
    } rows[] = {{"sweep.low_rank=[4,2]", "has room for 958 of a layer's 1024 inputs\n"},
                {"sweep.low_rank=[15,2]",
                 "has room for 960 of a layer's 1024 inputs, as many as the "
                 "latent: it chooses what \"received\" does in less time\n"},
                {"sweep.low_rank=[16,2]", NULL}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *const more[] = {"run.steps=[\"baseline\",\"svd\"]",
                                    "svd.statistics=blocks",
                                    "baseline.hidden_size=1024",
                                    "baseline.heads=64",
                                    "baseline.kv_heads=64",
                                    "rank.strategy=high",
                                    "run.memory_limit=64",
                                    rows[i].low_rank,
                                    NULL};
        struct run r;
        struct err e;
        char *text;

        tiny_run(&r, state, more);
        if (!run_and_read(&r, state, &text, &e)) fail_msg("%s", e.msg);
        if (rows[i].said)
            assert_says(text, rows[i].said);
        else
            assert_null(strstr(text, "has room for"));
        free(text);
        run_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmpdir_test(test_says),
        tmpdir_test(test_exact_string),
        tmpdir_test(test_state_is_counted),
        tmpdir_test(test_refuses),
        tmpdir_test(test_blocks_are_narrowed),
        tmpdir_test(test_advice_follows_what_is_large),
        tmpdir_test(test_advice_helps),
        tmpdir_test(test_splits_sum_up),
        tmpdir_test(test_answers_need_the_cache),
        tmpdir_test(test_shapes_are_the_models),
        tmpdir_test(test_teacher),
        tmpdir_test(test_recomputes_what_is_needed),
        tmpdir_test(test_batch_larger_than_the_set),
        tmpdir_test(test_several_processes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
