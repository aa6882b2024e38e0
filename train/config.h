/* config.h - a run's settings as structs; config.c has the table of keys. */
#ifndef TRAIN_CONFIG_H
#define TRAIN_CONFIG_H

#include "data/picture/image.h"
#include "model/family/fresh.h"
#include "optim/schedule.h"
#include "base/schema/schema.h"

enum step {
    STEP_BASELINE,
    STEP_RANK,
    STEP_STAGE1,
    STEP_SVD,
    STEP_STAGE2,
    STEP_EVALUATE,
    STEP_REPORT,
    STEPS
};
#define STEP_NAMES "baseline", "rank", "stage1", "svd", "stage2", "evaluate", "report"
extern const char *const step_names[STEPS + 1];

/* One file of samples. */
struct config_source {
    const char *name, *path, *images;
    int64_t limit;
    const char *metric;     /* of an eval source; NULL: as its samples say */
    int64_t max_new_tokens; /* the same; 0: evaluate.max_new_tokens */
};

/* One of the conversions that a sweep compares. */
struct config_recipe {
    const char *name;
    struct schema_strings set; /* "KEY=VALUE" */
};

/* Settings of one training: baseline, stage1 or stage2. */
struct config_phase {
    double epochs, lr;
    int64_t steps; /* 0: by epochs */
    int64_t batch_size, micro_batch;
    int peft;                      /* enum peft_set (train/peft.h) */
    bool projector, vision, refit; /* vision: of the baseline only; refit: of stage 1 only */
    int64_t eval_every;            /* in steps; 0: only at the end */
    int loss;                      /* LOSS_...; this and what follows: not of the baseline */
    double distill_weight, temperature;
    int teacher;       /* TEACHER_... */
    const char *cache; /* of stage 2 only: a kind (train/caches.h), NULL: none */
};

struct config {
    struct {
        const char *dir;
        int64_t seed, threads;
        int compute, gemm;   /* enum gemm_compute, enum gemm_library */
        double memory_limit; /* GiB; 0: the machine's memory */
        struct schema_enums steps;
    } run;
    struct {
        const char *path; /* NULL: the baseline step trains one */
        const char *tokenizer;
        int tokenizer_form; /* enum tokenizer_form */
    } model;
    struct {
        struct schema_objects train, eval;
        int chat; /* index into TEMPLATE_NAMES (data/template.h) */
        const char *cache;
        int64_t max_length, max_bad;
        int too_long, alpha;            /* TOO_LONG_..., enum alpha_mode */
        int64_t min_pixels, max_pixels; /* 0: as the model says */
    } data;
    int family; /* of a model trained from scratch: index into FRESH_FAMILIES */
    struct fresh_shape shape;
    struct config_phase baseline, stage1, stage2;
    struct {
        int strategy, basis; /* enum rank_strategy, enum rope_basis */
        int budget;          /* BUDGET_... */
        const char *file;
        int64_t rope_dim, samples, max_queries, uniform_start;
        bool rotation;
    } rank;
    struct {
        int method, input; /* enum kv_method, enum mdsvd_method */
        int statistics;    /* enum kv_statistics */
        int ranks;         /* RANKS_... */
        bool decoupled, refit;
        double low_rank;
        int64_t samples, steps, split_samples;
    } svd;
    struct {
        double beta1, beta2, eps, weight_decay, clip, warmup, decay, min_lr;
        int state;       /* enum moment_type */
        int decay_style; /* enum decay_style */
        int recompute;   /* RECOMPUTE_... */
    } optim;
    struct {
        int score; /* SCORE_... */
        int64_t samples, curve_samples, batch, max_new_tokens, examples;
        struct schema_strings caches; /* train/caches.h */
        int64_t window, stride;       /* tokens; 0: none; as the window */
    } evaluate;
    struct {
        int rope, latent; /* of ROW_FORM_NAMES, autograd/row_form.h */
        int prompt;       /* PROMPT_... */
        bool rotate;
    } cache;
    struct {
        int64_t processes; /* 0: as many as were started */
        int wire;          /* enum wire */
    } cluster;
    struct {
        int64_t every, keep;
    } checkpoint;
    struct {
        int dtype; /* SAVE_... */
        bool full;
    } save;
    struct {
        struct schema_doubles cache, low_rank, stage2_lr;
        struct schema_ints partial_rope;
        struct schema_objects recipe; /* of struct config_recipe */
    } sweep;
    struct {
        const char *partition, *account, *constraint, *time; /* NULL: the cluster's own */
        int64_t nodes, tasks, cpus, notice, at_once;
        double memory; /* GiB of a node; 0: as the forecast says */
        struct schema_strings modules, lines;
    } slurm;
    bool *given; /* by row of the table: schema_given */
    /* Of sweep.cache: [sweep.cache.n], NULL until train/splits.h has filled it. Not a setting. */
    struct point_split {
        int64_t rope_dim;
        double low_rank;
    } * split;
    bool splits_known; /* found, not guessed */
    /* Of the recipe that is taken, if any; NULL: the run's own files. */
    const char *ranks_file, *splits_file;
    struct recipes *recipes; /* of sweep.recipe: train/recipes.h */
};

extern const struct schema config_schema;

/* Choices of the settings alone. */
enum { TOO_LONG_DROP, TOO_LONG_ERROR };
#define TOO_LONG_NAMES "drop", "error"
enum { RECOMPUTE_AUTO, RECOMPUTE_NONE, RECOMPUTE_ALL };
#define RECOMPUTE_NAMES "auto", "none", "all"
/* Who shares a number of kept pairs: nobody, a layer's heads, or these and the layers too. */
enum { BUDGET_EVEN, BUDGET_HEADS, BUDGET_SPREAD };
#define BUDGET_NAMES "even", "heads", "spread"
enum { RANKS_EVEN, RANKS_ENERGY, RANKS_SENSITIVITY };
#define LAYER_RANK_NAMES "even", "energy", "sensitivity"
enum { LOSS_CE, LOSS_DISTILL, LOSS_LAYERS };
#define LOSS_NAMES "ce", "distill", "layers"
enum { PROMPT_PACKED, PROMPT_EXACT };
#define PROMPT_NAMES "packed", "exact"
enum { TEACHER_FLY, TEACHER_STORED };
#define TEACHER_NAMES "fly", "stored"
enum { SAVE_F32, SAVE_BF16 };
#define SAVE_DTYPE_NAMES "f32", "bf16"
enum {
    SCORE_ANSWERS,
    SCORE_TOKENS,
    SCORE_OPTIONS,
    SCORES
}; /* rows of scorers, train/score/scorer.h */
#define SCORE_NAMES "answers", "tokens", "options"

bool config_has_step(const struct config *c, enum step step);

/* The trainings, in the run's order. */
enum { PHASES = 3 };
extern const enum step phase_steps[PHASES];
const struct config_phase *config_phase(const struct config *c, int i);

bool config_trains(const struct config *c); /* some step does */
bool config_refits(const struct config *c); /* the same */
/* Whether svd.samples are drawn, by the factors or a refit. */
bool config_calibrates(const struct config *c);
bool config_rotates(const struct config *c); /* a constant rotation is measured */
/* Samples that each of so many processes has in memory at a time, as the batch is
 * shared out evenly. */
int64_t config_at_a_time(const struct config_phase *p, int64_t processes);

/* Some training keeps what its teacher says, in data.cache. */
bool config_stores_teacher(const struct config *c);
/* What is rotated is one key for all heads, whose width rank.rope_dim is (model_rope_keys). */
bool config_shares_key(const struct config *c);

/* What a source is called in scores and messages: its name, or its file's. */
const char *config_source_name(const struct config_source *s);

/* One point of the sweep. Without a sweep there is a single one, with rank.rope_dim
 * and svd.low_rank. With sweep.cache, a point's values are 0 until its split is known. */
struct point {
    int64_t recipe; /* index into sweep.recipe */
    int64_t rope_dim;
    double low_rank;
    double lr;           /* of stage 2 */
    char name[64];       /* "rope8-rank4", "cache0.25"; of a recipe: "ours-rope8-rank4" */
    char stage1[64];     /* "rope8": shared by points with the same rope_dim; of a recipe: with the
                            name of the first recipe that has the same rank and stage1 */
    char dir[STEPS][80]; /* where stage1, svd and stage2 save their models: "rope8/stage1" ... */
};
int64_t config_points(const struct config *c);
struct point config_point(const struct config *c, int64_t i);

/* Which setting has given a point its rank.rope_dim or svd.low_rank, by that key: for messages. */
const char *point_size_key(const struct config *c, const char *own);
/* No point before i shares its stage 1. */
bool config_first_of_stage1(const struct config *c, int64_t i);

#endif
