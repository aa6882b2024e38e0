/* cluster_plan.c - what a step, MD-SVD and features take in 1 to 64 processes, predicted from rates
 * that were measured:
 *
 *     build/bench/cluster_plan [KEY=VALUE ...]
 *
 *     gflops=50     GFLOP/s of a process in a step at 7B's shapes (bench/cluster)
 *     gbit=10       Gbit/s of a process's link
 *     exchange=2    GB/s that a process sends, receives and sums where no link limits it
 *     adamw=0.8     ns of AdamW a value
 *     batch=16      samples of a step
 *     factor=50     s of MD-SVD's factors of a layer: of LLaVA-1.5-7B
 *     gqa=5         and of the models with few kv heads
 *     store=2       ms that the first process takes for a MiB of another's features
 *
 * The model, for N processes:
 *
 *     step      c S + b / link + b / exchange + adamw V / N, where S are the samples of the process
 *               that has most, c is the time of one, V are the trained values,
 *               b = 4 * 2 (N - 1) / N V
 *     at best   the same, but half of b / link is hidden behind the backward pass of the last
 *               sample, two thirds of c
 *     MD-SVD    512 samples forward, by processes; the moments' sums, in double, over the link; the
 *               factors of a layer in each process
 *     features  a picture through the tower, by processes, and the first one's time for its MiB
 *
 * Efficiency is one process's time by N times that of N. Trained values and FLOP are counted on the
 * models' shapes (tests/data/hfconfig); nothing is computed. */
#include "autograd/flop.h"
#include "base/mem.h"
#include "bench/lib/measure.h"
#include "bench/lib/work.h"
#include "convert/mdsvd_plan.h"
#include "model/forward.h"
#include "model/outline.h"
#include "train/peft.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_TOKENS = 200, LABELS = 100, ROPE_DIM = 32, CALIBRATION = 512, MOST = 64 };

/* The second point of each config, and the tokens of a picture of 640 x 480 pixels, with 200 of
 * text of which 100 are trained on. Of that picture: GFLOP of the tower, which are 365 for a square
 * of CLIP-L/14-336 (bench/RESULTS.md), five of which LLaVA-NeXT has; Qwen2.5-VL's takes 5.3 times
 * as long as one (docs/speed.md). And MiB of its features. */
static const struct plan_model {
    const char *title, *config;
    int64_t image;
    double low_rank, tower, features;
} models[] = {
    {"LLaVA-1.5-7B", "tests/data/hfconfig/llava-1.5-7b.json", 576, 32, 365, 2.25},
    {"LLaVA-NeXT-8B", "tests/data/hfconfig/llama3-llava-next-8b.json", 2340, 64, 5 * 365, 5 * 2.25},
    {"Qwen2.5-VL-7B", "tests/data/hfconfig/qwen2.5-vl-7b.json", 391, 64, 5.3 * 365, 7.6}};
enum { MODELS = sizeof models / sizeof *models };

struct rates {
    double gflops, gbit, exchange, adamw, batch, factor, gqa, store;
};

/* What a model's work is. */
struct work_size {
    double trained, flop;            /* values; of a sample */
    double layers, moments, forward; /* moments: values of both modalities, of a layer */
    bool outputs;                    /* they are of outputs: few kv heads */
};

/* Positions are not looked at: zeros will do. */
struct tokens {
    int32_t ids[4096], positions[3 * 4096], label_rows[LABELS];
    int64_t begin[2];
    struct span spans[2];
};

static struct batch make_batch(struct tokens *t, int64_t image, int axes)
{
    const int64_t n = image + TEXT_TOKENS;

    CHECK(n <= 4096);
    t->begin[1] = n;
    t->spans[0] = (struct span){0, image, IMAGE};
    t->spans[1] = (struct span){image, n, TEXT};
    for (int i = 0; i < LABELS; i++)
        t->label_rows[i] = (int32_t)(n - LABELS + i - 1);
    return (struct batch){.tokens = n,
                          .ids = t->ids,
                          .axes = axes,
                          .positions = t->positions,
                          .samples = 1,
                          .begin = t->begin,
                          .n_spans = 2,
                          .spans = t->spans,
                          .labels = LABELS,
                          .label_rows = t->label_rows,
                          .label_ids = t->ids};
}

static bool count_flop(struct model *shape, struct work_size *w, int64_t image, struct err *e)
{
    struct tokens *t = mem_new(1, sizeof *t, "a batch", e);
    struct tape *tape = t ? tape_new(e) : NULL;
    const int axes = shape->cfg.text.axes == 3 ? 3 : 1;
    struct batch b;

    if (tape) {
        b = make_batch(t, image, axes);
        for (int train = 0; train < 2; train++) {
            tape_begin(tape, train);
            model_loss(shape, tape, &(struct forward){.batch = &b}, 1);
            *(train ? &w->flop : &w->forward) = flop_all(tape_flop(tape));
        }
    }
    tape_free(tape);
    free(t);
    return tape;
}

static bool size_up(const struct plan_model *p, struct work_size *w, struct err *e)
{
    struct model_state state = {
        .state = ATTN_MLA, .rope_dim = ROPE_DIM, .method = KV_JOINT, .decoupled = true};
    struct hf_config cfg = {0};
    struct model m = {0}, shape = {0};
    bool ok = hf_config_read(&cfg, p->config, e) && model_declare(&m, &cfg, e) &&
              mdsvd_latent(&state.latent, p->low_rank, m.cfg.text.num_key_value_heads, e) &&
              model_outline(&shape, &m, &state, peft_kinds(PEFT_V2, true), e);

    if (ok) {
        const struct text_config *c = &m.cfg.text;
        const int64_t rows = c->num_key_value_heads * (2 * c->head_dim - ROPE_DIM);
        const double n = (double)(rows < c->hidden_size ? rows : c->hidden_size);
        w->outputs = rows < c->hidden_size;
        w->layers = (double)c->num_hidden_layers;
        w->moments = 2 * n * n;
        for (int64_t i = 0; i < shape.n_params; i++)
            if (shape.params[i].t.needs_grad)
                w->trained += (double)tensor_count(&shape.params[i].t);
        ok = count_flop(&shape, w, p->image, e);
    }
    model_close(&shape);
    model_close(&m);
    return ok;
}

/* Seconds of a step; *best: with gradients hidden as far as they can be. */
static double step_seconds(const struct rates *r, const struct work_size *w, int n, double *best)
{
    const double sample = 1e-9 * w->flop / r->gflops;
    const double sent = 4 * w->trained * 2 * (n - 1) / n; /* bytes */
    const double wire = 8e-9 * sent / r->gbit, hidden = fmin(wire / 2, sample * 2 / 3);
    const double all = sample * ceil(r->batch / n) + wire + 1e-9 * sent / r->exchange +
                       1e-9 * r->adamw * w->trained / n;

    *best = all - hidden;
    return all;
}

/* Seconds of MD-SVD: calibration samples, moments in double summed by all, factors of a layer in
 * each process. */
static double svd_seconds(const struct rates *r, const struct work_size *w, int n)
{
    const double sample = 1e-9 * w->forward / r->gflops;
    const double sent = 8 * w->moments * w->layers * 2 * (n - 1) / n;

    return sample * ceil((double)CALIBRATION / n) + 8e-9 * sent / r->gbit +
           ceil(w->layers / n) * (w->outputs ? r->gqa : r->factor);
}

/* Seconds of a picture. */
static double feature_seconds(const struct rates *r, const struct plan_model *p, int n)
{
    return p->tower / r->gflops / n + 1e-3 * r->store * p->features;
}

/* A column for each model. */
static void print_steps(const struct rates *r, const struct work_size *w)
{
    printf("| processes |");
    for (int i = 0; i < MODELS; i++)
        printf(" %s: GB sent | step | efficiency, at best |", models[i].title);
    printf("\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (int n = 1; n <= MOST; n *= 2) {
        printf("| %d |", n);
        for (int i = 0; i < MODELS; i++) {
            double best;
            const double one = step_seconds(r, &w[i], 1, &best),
                         s = step_seconds(r, &w[i], n, &best);
            printf(" %.1f | %.3g s | %.0f, %.0f %% |", 8e-9 * w[i].trained * (n - 1) / n, s,
                   100 * one / n / s, 100 * one / n / best);
        }
        printf("\n");
    }
}

static void print_rest(const struct rates *r, const struct work_size *w)
{
    printf("\n| processes |");
    for (int i = 0; i < MODELS; i++)
        printf(" %s: MD-SVD | efficiency | a picture | efficiency |", models[i].title);
    printf("\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (int n = 1; n <= MOST; n *= 2) {
        printf("| %d |", n);
        for (int i = 0; i < MODELS; i++) {
            const double svd = svd_seconds(r, &w[i], n),
                         picture = feature_seconds(r, &models[i], n);
            printf(" %.2f h | %.0f %% | %.3g s | %.0f %% |", svd / 3600,
                   100 * svd_seconds(r, &w[i], 1) / n / svd, picture,
                   100 * feature_seconds(r, &models[i], 1) / n / picture);
        }
        printf("\n");
    }
}

static double number(const struct work_args *a, const char *key, const char *usual)
{
    return strtod(work_text(a, key, usual), NULL);
}

int main(int argc, char **argv)
{
    struct work_size w[MODELS] = {{0}};
    struct work_args a = {0};
    struct err e = {0};
    bool ok = true;

    for (int i = 1; i < argc && a.n < WORK_ARGS; i++)
        a.word[a.n++] = argv[i];
    const struct rates r = {number(&a, "gflops", "50"),  number(&a, "gbit", "10"),
                            number(&a, "exchange", "2"), number(&a, "adamw", "0.8"),
                            number(&a, "batch", "16"),   number(&a, "factor", "50"),
                            number(&a, "gqa", "5"),      number(&a, "store", "2")};
    for (int i = 0; ok && i < MODELS; i++) {
        ok = size_up(&models[i], &w[i], &e);
        if (ok)
            printf("%s: %.0f million values trained, %.1f TFLOP a sample of %d tokens\n\n",
                   models[i].title, 1e-6 * w[i].trained, 1e-12 * w[i].flop,
                   (int)models[i].image + TEXT_TOKENS);
    }
    if (ok) print_steps(&r, w);
    if (ok) print_rest(&r, w);
    if (!ok) fprintf(stderr, "bench: error: %s\n", e.msg);
    return !ok;
}
