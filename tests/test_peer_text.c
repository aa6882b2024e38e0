/* test_peer_text.c - against the published text-only code (MHA2MLA): with the same weights, pairs
 * and factors it gives the same answers and gradients; plain SVD of the weights and the 2-norm
 * ranking are the same; and checkpoints are exchanged in both directions.
 * tests/data/peer_text/make_golden.py ran that code and says what each value is. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "convert/mdsvd.h"
#include "convert/rank.h"
#include "convert/transform.h"
#include "model/generate.h"
#include "optim/schedule.h"
#include "tests/sketch.h"
#include "tests/tmpdir.h"
#include "train/peft.h"

#include <cjson/cJSON.h>

#define PEER "tests/data/peer_text/"

enum { SAMPLES = 2, NEW = 8, ROPE_DIM = 4, LOW_RANK = 3, CALIBRATION = 4 };
static const char *const names[] = {"llama", "qwen2"};
enum { NAMES = 2 };

struct peer {
    const char *name;
    struct st_file file;
    struct tape *t;
    struct sample s[SAMPLES];
    struct batch_buffer b;
};

static const struct st_tensor *get(const struct peer *g, const char *fmt, ...)
{
    char name[300];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    const struct st_tensor *t = st_find(&g->file, name);
    if (!t) fail_msg("%s: golden values lack %s", g->name, name);
    return t;
}

/* All of its tokens are trained on. */
static struct sample text_sample(const int32_t *ids, int64_t n)
{
    struct sample s = {.n = n, .prompt = n};

    s.ids = calloc((size_t)n, sizeof *s.ids);
    s.trained = calloc((size_t)n, 1);
    s.kind = calloc((size_t)n, 1);
    assert_true(s.ids && s.trained && s.kind);
    memcpy(s.ids, ids, (size_t)n * sizeof *ids);
    memset(s.trained, 1, (size_t)n);
    memset(s.kind, TEXT, (size_t)n);
    return s;
}

static void peer_open(struct peer *g, const char *name)
{
    char path[300];
    struct err e = {0};

    *g = (struct peer){.name = name, .t = tape_new(&e)};
    must(g->t, &e);
    snprintf(path, sizeof path, PEER "golden-%s.safetensors", name);
    must(st_open(&g->file, path, &e), &e);
    for (int n = 0; n < SAMPLES; n++) {
        const struct st_tensor *ids = get(g, "ids.%d", n);
        g->s[n] = text_sample(ids->data, ids->dim[0]);
    }
    must(batch_fill(&g->b, g->s, SAMPLES, false, &e), &e);
}

static void peer_close(struct peer *g)
{
    for (int n = 0; n < SAMPLES; n++)
        sample_free(&g->s[n]);
    batch_free(&g->b);
    tape_free(g->t);
    st_close(&g->file);
}

/* The model that both sides start from, keeping the pairs of a strategy. */
static void open_partial(const struct peer *g, struct model *m, const char *strategy)
{
    struct err e = {0};
    enum rank_strategy s;
    char dir[300];
    int32_t rank[TINY_LAYERS * TINY_HEADS * 4], kept[TINY_LAYERS * TINY_HEADS * 4];

    snprintf(dir, sizeof dir, PEER "%s", g->name);
    must(model_open(m, dir, &e), &e);
    const struct text_config *c = &m->cfg.text;
    const struct rank_dims n = {c->num_hidden_layers, c->num_attention_heads,
                                c->num_key_value_heads, c->head_dim};
    s = rank_strategy_of(strategy);
    if (s == RANK_2NORM) {
        const struct st_tensor *file = get(g, "rank");
        for (int64_t i = 0; i < n.L * n.G * n.dh / 2; i++)
            rank[i] = ((const uint8_t *)file->data)[i / (n.dh / 2) * n.dh + i % (n.dh / 2)];
    } else {
        must(rank_fixed(rank, s, &n, ROPE_DIM, 1, &e), &e);
    }
    rank_select(kept, rank, &n, ROPE_DIM);
    must(model_to_partial(m, kept, ROPE_DIM, &e), &e);
}

/* Differences are relative to the tensor's largest value; `floor`: the least size they are relative
 * to, for values close to zero. */
static void same(const struct peer *g, const char *what, const char *name, const float *got,
                 const struct st_tensor *want, double tolerance, double floor)
{
    double most = 0, d = tiny_distance(want->data, got, (int64_t)st_count(want));

    for (size_t i = 0; i < st_count(want); i++)
        most = fmax(most, fabs((double)((const float *)want->data)[i]));
    if (most > 0 && most < floor) d *= most / floor;
    if (!(d < tolerance)) fail_msg("%s, %s: %s differs by %g", g->name, what, name, d);
}

/* The largest golden value with that prefix. */
static double largest(const struct peer *g, const char *prefix)
{
    double most = 0;

    for (size_t i = 0; i < g->file.count; i++) {
        const struct st_tensor *t = &g->file.tensors[i];
        for (size_t k = 0; strncmp(t->name, prefix, strlen(prefix)) == 0 && k < st_count(t); k++)
            most = fmax(most, fabs((double)((const float *)t->data)[k]));
    }
    return most;
}

/* 5e-5 relative to the tensor's largest value, or to 1e-3 of the largest gradient of all if that is
 * more: two layers of fp32 sums in different orders (7e-6 is seen), compared by sums in which much
 * cancels. The second bound is for the bias of unrotated keys: it moves all scores of a query
 * alike, so its gradient is rounding only. */
static void check_gradients(struct peer *g, struct model *m, const char *what)
{
    char prefix[64], name[300];
    int64_t found = 0;
    float sums[512];

    snprintf(prefix, sizeof prefix, "%s.grad.", what);
    double floor = 1e-3 * largest(g, prefix);
    for (int64_t i = 0, parts; i < m->n_params; i += parts) {
        const struct param *p = &m->params[i];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        const struct st_tensor *want = get(g, "%s", name);
        assert_int_equal(sketch_gradient(m, i, &parts, sums, 512), st_count(want));
        same(g, what, p->name, sums, want, 5e-5, floor);
        found++;
    }
    for (size_t i = 0; i < g->file.count; i++)
        found -= strncmp(g->file.tensors[i].name, prefix, strlen(prefix)) == 0;
    assert_int_equal(found, 0); /* each of theirs was compared */
}

static void check_logits(struct peer *g, struct model *m, const char *what)
{
    struct forward f = {.batch = &g->b.batch};
    float *logits = tiny_logits(m, g->t, &f);

    same(g, what, "the logits", logits, get(g, "%s.logits", what), 1e-5, 0);
    free(logits);
}

/* Logits, greedy answers with our latent cache, loss and every gradient. */
static void check_case(struct peer *g, struct model *m, const char *what)
{
    struct forward f = {.batch = &g->b.batch};
    struct generation out[SAMPLES];
    struct err e = {0};

    check_logits(g, m, what);
    must(model_generate(&(struct generator){.m = m, .t = g->t, .max_new = NEW}, &f, out, &e), &e);
    for (int n = 0; n < SAMPLES; n++) {
        assert_int_equal(out[n].n, NEW);
        assert_memory_equal(out[n].ids, get(g, "%s.generated.%d", what, n)->data, 4 * NEW);
    }
    generation_free(out, SAMPLES);
    must(model_train(m, ~0u, &e), &e);
    tape_begin(g->t, true);
    struct tensor *loss = model_loss(m, g->t, &f, 1 / (double)g->b.batch.labels);
    must(tape_plan(g->t, 0, &e), &e);
    tape_forward(g->t);
    tape_backward(g->t, loss);
    same(g, what, "the loss", loss->data, get(g, "%s.loss", what), 1e-5, 0);
    check_gradients(g, m, what);
}

static void test_partial(void **state)
{
    static const char *const strategies[] = {"high", "low", "uniform", "2-norm"};

    (void)state;
    for (int i = 0; i < NAMES * 4; i++) {
        struct peer g;
        struct model m;

        peer_open(&g, names[i / 4]);
        open_partial(&g, &m, strategies[i % 4]);
        check_case(&g, &m, strategies[i % 4]);
        model_close(&m);
        peer_close(&g);
    }
}

/* ---- factors ---- */

static const float *factor(const struct peer *g, const char *method, int64_t l, const char *name)
{
    return get(g, "%s.model.layers.%d.self_attn.kv_proj.%s.weight", method, (int)l, name)->data;
}

/* Sets their factors in our model. */
static void put_factors(const struct peer *g, struct model *m, enum kv_method method)
{
    const struct kv_method_info *how = &kv_methods[method];
    const char *name = kv_method_names[method];
    struct factors f[TINY_LAYERS][MODALITIES] = {0};
    struct err e = {0};

    for (int64_t l = 0; l < TINY_LAYERS; l++) {
        struct factors *one = &f[l][TEXT];
        one->ld = LOW_RANK * m->cfg.text.num_key_value_heads;
        if (how->key) one->up_k = factor(g, name, l, "up_k");
        if (how->value) one->up_v = factor(g, name, l, "up_v");
        if (how->joint)
            one->down[0] = factor(g, name, l, "down_kv");
        else if (how->key)
            one->down[0] = factor(g, name, l, "down_k");
        if (how->value && !how->joint) one->down[1] = factor(g, name, l, "down_v");
    }
    must(model_to_mla(m,
                      &(struct to_mla){method, false, LOW_RANK * m->cfg.text.num_key_value_heads,
                                       (const struct factors(*)[MODALITIES])f, NULL, NULL, NULL},
                      &e),
         &e);
}

static void test_mla(void **state)
{
    static const enum kv_method methods[] = {KV_JOINT, KV_SPLIT, KV_ONLY_KEY, KV_ONLY_VALUE};

    (void)state;
    for (int i = 0; i < NAMES * 4; i++) {
        struct peer g;
        struct model m;

        peer_open(&g, names[i / 4]);
        open_partial(&g, &m, "2-norm");
        put_factors(&g, &m, methods[i % 4]);
        assert_int_equal(m.state, ATTN_MLA);
        check_case(&g, &m, kv_method_names[methods[i % 4]]);
        model_close(&m);
        peer_close(&g);
    }
}

/* Rows up[n,r] down[r,d], in new memory. */
static float *product(const float *up, const float *down, int64_t n, int64_t r)
{
    float *w = calloc((size_t)(n * TINY_D), sizeof *w);

    assert_non_null(w);
    for (int64_t i = 0; i < n * TINY_D; i++) {
        double sum = 0;
        for (int64_t k = 0; k < r; k++)
            sum += (double)up[i / TINY_D * r + k] * (double)down[k * TINY_D + i % TINY_D];
        w[i] = (float)sum;
    }
    return w;
}

/* Compares our factors of rows [W_kc; W_v] of a layer (of one of the two, as key and value say;
 * svd.input "weight") by their product up down. 1e-4: theirs is an SVD in fp32, whose rounding is
 * divided by the gap between the last singular value kept and the first one dropped. */
static void check_product(const struct peer *g, const struct model *m, int64_t l, bool key,
                          bool value, const char *method, const char *down)
{
    const struct kv_set *s = &m->layers[l].attn.set[TEXT];
    int64_t nk = key ? s->up_k->t.rows : 0, nv = value ? s->up_v->t.rows : 0;
    int64_t r = LOW_RANK * m->cfg.text.num_key_value_heads;
    float *w = calloc((size_t)((nk + nv) * TINY_D), sizeof *w);
    float *up = calloc((size_t)((nk + nv) * r), sizeof *up);
    struct mdsvd_in in = {.w = w, .n = nk + nv, .d = TINY_D, .r = r, .method = MDSVD_WEIGHT};
    struct mdsvd_out out;
    struct err e = {0};

    assert_true(w && up);
    if (key) tensor_to_real(&s->up_k->t, 0, nk * TINY_D, w);
    if (value) tensor_to_real(&s->up_v->t, 0, nv * TINY_D, w + nk * TINY_D);
    must(mdsvd_factor(&out, &in, 1, 1, &e), &e);
    if (key) memcpy(up, factor(g, method, l, "up_k"), (size_t)(nk * r) * sizeof *up);
    if (value) memcpy(up + nk * r, factor(g, method, l, "up_v"), (size_t)(nv * r) * sizeof *up);
    float *ours = product(out.up, out.down, nk + nv, r);
    float *theirs = product(up, factor(g, method, l, down), nk + nv, r);
    double d = tiny_distance(theirs, ours, (nk + nv) * TINY_D);
    double cut = tiny_distance(theirs, w, (nk + nv) * TINY_D);
    if (!(d < 1e-4 && cut > 1e-2))
        fail_msg("%s, %s, layer %d: %g (cut off: %g)", g->name, method, (int)l, d, cut);
    for (int i = 0; i < 4; i++)
        free((float *[]){w, up, ours, theirs}[i]);
    mdsvd_free(&out);
}

static void test_weight_svd(void **state)
{
    (void)state;
    for (int i = 0; i < NAMES; i++) {
        struct peer g;
        struct model m;

        peer_open(&g, names[i]);
        open_partial(&g, &m, "2-norm");
        for (int64_t l = 0; l < TINY_LAYERS; l++) {
            check_product(&g, &m, l, true, true, "joint", "down_kv");
            check_product(&g, &m, l, true, false, "split", "down_k");
            check_product(&g, &m, l, false, true, "split", "down_v");
            check_product(&g, &m, l, true, false, "only_key", "down_k");
            check_product(&g, &m, l, false, true, "only_value", "down_v");
        }
        model_close(&m);
        peer_close(&g);
    }
}

/* ---- the 2-norm ranking ---- */

static void add_sample(struct rank_acc *acc, struct model *m, struct tape *t, struct sample *s)
{
    struct tensor *q[TINY_LAYERS], *k[TINY_LAYERS];
    struct taps taps = {.q = q, .k = k};
    struct batch_buffer b = {0};
    float unused[64] = {0}; /* 2-norm reads no rotated values */
    struct err e = {0};

    must(batch_fill(&b, s, 1, false, &e), &e);
    struct forward f = {.batch = &b.batch, .taps = &taps};
    tape_begin(t, false);
    model_logits(m, t, &f, NULL, 0);
    must(tape_plan(t, 0, &e), &e);
    tape_forward(t);
    for (int64_t l = 0; l < TINY_LAYERS; l++)
        must(rank_acc_add(acc, l,
                          &(struct rank_sample){tensor_real(q[l]), tensor_real(k[l]), unused,
                                                unused, s->kind, s->n, 1},
                          &e),
             &e);
    batch_free(&b);
}

static void test_two_norm(void **state)
{
    (void)state;
    for (int i = 0; i < NAMES; i++) {
        struct peer g;
        struct model m;
        struct err e = {0};
        char dir[300];
        int32_t rank[TINY_LAYERS * TINY_HEADS * 4];
        double scores[TINY_LAYERS * TINY_HEADS * 4];
        float rounded[TINY_LAYERS * TINY_HEADS * 4];

        peer_open(&g, names[i]);
        snprintf(dir, sizeof dir, PEER "%s", g.name);
        must(model_open(&m, dir, &e), &e);
        const struct st_tensor *ids = get(&g, "calibration"), *file = get(&g, "rank");
        const struct rank_dims n = {TINY_LAYERS, TINY_HEADS, m.cfg.text.num_key_value_heads, 8};
        struct rank_acc *acc = rank_acc_new(RANK_2NORM, &n, 0, &e);
        must(acc, &e);
        assert_int_equal(ids->dim[0], CALIBRATION);
        for (int64_t s = 0; s < CALIBRATION; s++) {
            int64_t T = ids->dim[1];
            struct sample one = text_sample((const int32_t *)ids->data + s * T, T);
            add_sample(acc, &m, g.t, &one);
            sample_free(&one);
        }
        must(rank_acc_finish(acc, rank, scores, &e), &e);
        int64_t pairs = n.L * n.G * n.dh / 2;
        assert_int_equal(st_count(file), 2 * pairs);
        for (int64_t p = 0; p < pairs; p++) {
            rounded[p] = (float)scores[p];
            for (int half = 0; half < 2; half++) /* of a head: both have the same rank */
                assert_int_equal(rank[p],
                                 ((const uint8_t *)file->data)[p / 4 * 8 + half * 4 + p % 4]);
        }
        same(&g, "2-norm", "the scores", rounded, get(&g, "scores"), 1e-5, 0);
        rank_acc_free(acc);
        model_close(&m);
        peer_close(&g);
    }
}

/* ---- checkpoints ---- */

/* Their checkpoint of strategy "high" opens unchanged: bf16, tied, and with a copy of the
 * embeddings as lm_head, as their program writes it. */
static void test_their_checkpoint(void **state)
{
    struct peer g;
    struct model m;
    struct err e = {0};

    (void)state;
    peer_open(&g, "llama");
    must(model_open(&m, PEER "checkpoint-llama-high", &e), &e);
    assert_true(m.state == ATTN_MLA && m.method == KV_JOINT && !m.decoupled);
    assert_false(m.cfg.mha2mla.decoupled);
    check_logits(&g, &m, "checkpoint-high");
    model_close(&m);
    peer_close(&g);
}

/* So does one with measured pairs, if it has the rank file that their 2_norm.py wrote; not
 * without. */
static void test_their_measured_checkpoint(void **state)
{
    struct peer g;
    struct model m;
    struct err e = {0};
    char command[2400];

    peer_open(&g, "qwen2");
    must(model_open(&m, PEER "checkpoint-qwen2-2-norm", &e), &e);
    check_logits(&g, &m, "checkpoint-2-norm");
    model_close(&m);
    snprintf(command, sizeof command, "cp " PEER "checkpoint-qwen2-2-norm/* %s && rm %s/rank.pth",
             (const char *)*state, (const char *)*state);
    assert_int_equal(system(command), 0);
    assert_false(model_open(&m, *state, &e));
    assert_non_null(strstr(e.msg, "rank.pth"));
    peer_close(&g);
}

/* Both directories have the same tensor names and shapes. */
static void same_tensors(const char *ours, const char *theirs)
{
    struct st_model a, b;
    struct err e = {0};

    must(st_model_open(&a, ours, &e) && st_model_open(&b, theirs, &e), &e);
    for (size_t i = 0; i < a.count || i < b.count; i++) {
        const char *one = i < a.count ? a.tensors[i]->name : "nothing more";
        const char *other = i < b.count ? b.tensors[i]->name : "nothing more";
        assert_string_equal(one, other); /* both are sorted by name */
        assert_int_equal(a.tensors[i]->ndim, b.tensors[i]->ndim);
        assert_memory_equal(a.tensors[i]->dim, b.tensors[i]->dim, sizeof a.tensors[i]->dim);
    }
    st_model_close(&a);
    st_model_close(&b);
}

static bool is_ignored(const char *key) /* not read when a checkpoint is opened */
{
    return strcmp(key, "model_name_or_path") == 0;
}

/* Our export has the tensors of their own checkpoint, which is loaded strictly (hence the lm_head
 * despite tied embeddings), and every setting that they look up. */
static void test_our_checkpoint(void **state)
{
    static const struct mha2mla_config section = {.partial_rope_version = "high",
                                                  .rope_dim_for_mla = ROPE_DIM,
                                                  .svd_init_method = "joint",
                                                  .low_rank = LOW_RANK};
    static const char *const theirs[] = {PEER "checkpoint-llama-high",
                                         PEER "checkpoint-qwen2-2-norm"};
    char path[300];

    for (int i = 0; i < NAMES; i++) {
        struct peer g;
        struct model m, again;
        struct err e = {0};
        const cJSON *item;
        size_t len;

        peer_open(&g, names[i]);
        open_partial(&g, &m, i ? "2-norm" : "high");
        put_factors(&g, &m, KV_JOINT);
        must(hf_config_set_mha2mla(&m.cfg, &section, &e), &e);
        must(model_save(&m, tmpdir_path(state, names[i]), DT_F32, false, &e), &e);
        same_tensors(tmpdir_path(state, names[i]), theirs[i]);
        must(model_open(&again, tmpdir_path(state, names[i]), &e), &e);
        const cJSON *ours = cJSON_GetObjectItemCaseSensitive(again.cfg.json, "mha2mla");
        snprintf(path, sizeof path, "%s/config.json", theirs[i]);
        char *text = slurp(path, &len);
        cJSON *config = cJSON_Parse(text);
        cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(config, "mha2mla"))
        {
            if (!is_ignored(item->string) && !cJSON_GetObjectItemCaseSensitive(ours, item->string))
                fail_msg("mha2mla.%s is missing", item->string);
        }
        if (i) check_logits(&g, &again, "joint");
        cJSON_Delete(config);
        free(text);
        model_close(&again);
        model_close(&m);
        peer_close(&g);
    }
}

/* ---- training ---- */

static void test_schedule(void **state)
{
    struct peer g;

    (void)state;
    peer_open(&g, "llama");
    const struct st_tensor *lr = get(&g, "lr");
    const int32_t *set = get(&g, "lr_settings")->data; /* steps: of warm-up, of the decay */
    double n = (double)lr->dim[0];
    const struct schedule s = {.peak = 1e-3,
                               .warmup = set[0] / n,
                               .decay = set[1] / n,
                               .style = DECAY_1_SQRT,
                               .steps = lr->dim[0]};
    for (int64_t i = 0; i < s.steps; i++)
        assert_true(fabs(schedule_lr(&s, i) - (double)((const float *)lr->data)[i]) < 1e-9);
    peer_close(&g);
}

/* Their is_freeze_non_attn trains what v2 does. */
static void test_frozen(void **state)
{
    (void)state;
    for (int i = 0; i < NAMES; i++) {
        struct peer g;
        struct model m;

        peer_open(&g, names[i]);
        const char *frozen = st_metadata(&g.file, "frozen");
        assert_non_null(frozen);
        open_partial(&g, &m, "2-norm");
        put_factors(&g, &m, KV_ONLY_VALUE);
        for (int64_t k = 0; k < m.n_params; k++) {
            bool trained = peft_kinds(0, false) >> m.params[k].kind & 1;
            if (trained == (strstr(frozen, m.params[k].name) != NULL))
                fail_msg("%s is %s", m.params[k].name, trained ? "trained" : "frozen");
        }
        model_close(&m);
        peer_close(&g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partial),          cmocka_unit_test(test_mla),
        cmocka_unit_test(test_weight_svd),       cmocka_unit_test(test_two_norm),
        cmocka_unit_test(test_their_checkpoint), tmpdir_test(test_their_measured_checkpoint),
        tmpdir_test(test_our_checkpoint),        cmocka_unit_test(test_schedule),
        cmocka_unit_test(test_frozen),
    };

    return cmocka_run_group_tests_name("peer, text", tests, NULL, NULL);
}
