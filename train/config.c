/* config.c - the table of the settings: keys, defaults, limits, help. docs/settings.md is made from
 * it (`make docs`). */
#include "train/config.h"
#include "autograd/gemm.h"
#include "autograd/row_form.h"
#include "cluster/exchange.h"
#include "data/template.h"
#include "data/tokenizer/tokenizer.h"
#include "model/config/choices.h"
#include "optim/moment.h"
#include "train/peft.h"
#include "train/recipes.h"

#include <stdio.h>
#include <string.h>

const char *const step_names[STEPS + 1] = {STEP_NAMES, NULL};

#define C struct config

static const struct schema_row source_rows[] = {
    {"path", SCHEMA_PLACE(struct config_source, path), .min_len = 1,
     .help = "LLaVA JSON or {\"text\": ...}: an array of samples, or one sample per line"},
    {"images", SCHEMA_PLACE(struct config_source, images), .def = "null", .nullable = true,
     .help = "directory that image paths are relative to; null: the file's own"},
    {"name", SCHEMA_STRING(struct config_source, name), .def = "null", .nullable = true,
     .min_len = 1, .help = "name in scores, of an eval source; null: the file's"},
    {"limit", SCHEMA_INT(struct config_source, limit), .def = "0", .min = SCHEMA_FROM(0),
     .help = "use the first N samples only; 0: all"},
    {"metric", SCHEMA_STRING(struct config_source, metric), .def = "null", .nullable = true,
     .min_len = 1,
     .help =
         "what an eval source's answers are scored by (docs/scores.md; \"plain\": exact match); "
         "null: as its samples say, else plain"},
    {"max_new_tokens", SCHEMA_INT(struct config_source, max_new_tokens), .def = "0",
     .min = SCHEMA_FROM(0), .max = SCHEMA_TO(100000),
     .help = "tokens at which an eval source's answers are cut; 0: evaluate.max_new_tokens"},
};
static const struct schema source_schema = SCHEMA(struct config_source, source_rows);

static const struct schema_row recipe_rows[] = {
    {"name", SCHEMA_STRING(struct config_recipe, name), .min_len = 1, .max_len = 20,
     .help = "of letters, digits, dots, dashes and underscores: its points' names begin with it"},
    {"set", SCHEMA_STRINGS(struct config_recipe, set), .def = "[]",
     .help = "its settings, each as KEY=VALUE: of rank, stage1, svd, stage2 and sweep"},
};
static const struct schema recipe_schema = SCHEMA(struct config_recipe, recipe_rows);

/* The same rows for each of the three trainings. */
#define PHASE(key, field, epochs_, lr_, what)                                                      \
    {key ".epochs",           SCHEMA_DOUBLE(C, field.epochs),                                      \
     .def = epochs_,          .min = SCHEMA_ABOVE(0),                                              \
     .max = SCHEMA_TO(10000), .help = "passes over the training data, " what},                     \
        {key ".steps",                                                                             \
         SCHEMA_INT(C, field.steps),                                                               \
         .def = "0",                                                                               \
         .min = SCHEMA_FROM(0),                                                                    \
         .max = SCHEMA_TO(1000000000),                                                             \
         .help = "optimiser steps instead of epochs; 0: by epochs"},                               \
        {key ".lr",           SCHEMA_DOUBLE(C, field.lr),  .def = lr_, .min = SCHEMA_FROM(0),      \
         .max = SCHEMA_TO(1), .help = "peak learning rate"},                                       \
        {key ".batch_size",                                                                        \
         SCHEMA_INT(C, field.batch_size),                                                          \
         .def = "16",                                                                              \
         .min = SCHEMA_FROM(1),                                                                    \
         .max = SCHEMA_TO(65536),                                                                  \
         .help = "samples per optimiser step"},                                                    \
        {key ".micro_batch", SCHEMA_INT(C, field.micro_batch), .def = "0", .min = SCHEMA_FROM(0),  \
         .help = "samples in memory at a time, gradients accumulate; 0: batch_size"},              \
    {                                                                                              \
        key ".eval_every", SCHEMA_INT(C, field.eval_every),                                        \
            .def = "0", .min = SCHEMA_FROM(0),                                                     \
            .help = "steps between points of the curve; 0: start and end only"                     \
    }
#define PEFT(key, field, set, projector_)                                                          \
    {key ".peft", SCHEMA_ENUM(C, field.peft, PEFT_NAMES), .def = set,                              \
     .help = "which tensors of the language model are trained"},                                   \
    {                                                                                              \
        key ".projector", SCHEMA_BOOL(C, field.projector), .def = projector_,                      \
                                                           .help = "train the projector too"       \
    }
#define LOSS(key, field)                                                                           \
    {key ".loss", SCHEMA_ENUM(C, field.loss, LOSS_NAMES), .def = "\"ce\"",                         \
     .help = "ce: cross entropy of the labels; distill: with the divergence from the original "    \
             "model's answers; layers: with the distance from its hidden states"},                 \
        {key ".teacher", SCHEMA_ENUM(C, field.teacher, TEACHER_NAMES), .def = "\"fly\"",           \
         .help = "the original model is asked in each step, or once about each sample, and what "  \
                 "it says is kept in data.cache for all that ask the same"},                       \
        {key ".distill_weight",                                                                    \
         SCHEMA_DOUBLE(C, field.distill_weight),                                                   \
         .def = "0.5",                                                                             \
         .min = SCHEMA_FROM(0),                                                                    \
         .max = SCHEMA_TO(1),                                                                      \
         .help = "share of the divergence or distance in the loss, the rest is cross entropy"},    \
    {                                                                                              \
        key ".temperature", SCHEMA_DOUBLE(C, field.temperature),                                   \
            .def = "1", .min = SCHEMA_FROM(0.01), .max = SCHEMA_TO(100),                           \
            .help = "by which both models' logits are divided for the divergence"                  \
    }

static const struct schema_row rows[] = {
    {"run.dir", SCHEMA_PLACE(C, run.dir), .min_len = 1, .may_move = true,
     .help = "directory of the run's output"},
    {"run.steps", SCHEMA_ENUMS(C, run.steps, STEP_NAMES),
     .def = "[\"rank\", \"stage1\", \"svd\", \"stage2\", \"evaluate\", \"report\"]", .min_len = 1,
     .may_change = true, .help = "what to do, always in this order"},
    {"run.seed", SCHEMA_INT(C, run.seed), .def = "1", .min = SCHEMA_FROM(0),
     .help = "seeds data order and new weights"},
    {"run.threads", SCHEMA_INT(C, run.threads), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1024),
     .help = "0: all the cores this process may use; at most what OpenBLAS serves"},
    {"run.compute", SCHEMA_ENUM(C, run.compute, GEMM_COMPUTE_NAMES), .def = "\"f32\"",
     .help = "inputs of matrix products, and what the backward pass keeps of the forward pass"},
    {"run.gemm", SCHEMA_ENUM(C, run.gemm, GEMM_LIBRARY_NAMES), .def = "\"auto\"",
     .help = "library of fp32 products; auto: OpenBLAS where it knows the processor"},
    {"run.memory_limit", SCHEMA_DOUBLE(C, run.memory_limit), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1 << 20), .may_change = true,
     .help = "GiB a process may use, mapped weights not counted; 0: its share of what the machine "
             "has"},
    {"model.path", SCHEMA_PLACE(C, model.path), .def = "null", .nullable = true, .may_move = true,
     .help = "Hugging Face model directory; null: the baseline step makes one"},
    {"model.tokenizer", SCHEMA_PLACE(C, model.tokenizer), .def = "null", .nullable = true,
     .may_move = true, .help = "directory of tokenizer.json; null: model.path"},
    {"model.tokenizer_form", SCHEMA_ENUM(C, model.tokenizer_form, TOKENIZER_FORM_NAMES),
     .def = "\"auto\"",
     .help = "auto: as transformers' AutoTokenizer; file: tokenizer.json as it is; sentencepiece: "
             "as LLaVA was trained, a blank before each text between special tokens"},
    {"data.train", SCHEMA_OBJECTS(C, data.train, source_schema), .min_len = 1,
     .help = "training samples"},
    {"data.eval", SCHEMA_OBJECTS(C, data.eval, source_schema), .def = "[]",
     .help = "samples to answer and score; an id ending in #KIND is scored under KIND too"},
    {"data.template", SCHEMA_ENUM(C, data.chat, TEMPLATE_NAMES), .def = "\"vicuna\"",
     .help = "chat template"},
    {"data.max_length", SCHEMA_INT(C, data.max_length), .def = "4096", .min = SCHEMA_FROM(8),
     .max = SCHEMA_TO(1 << 20), .help = "tokens of a sample, images included"},
    {"data.too_long", SCHEMA_ENUM(C, data.too_long, TOO_LONG_NAMES), .def = "\"drop\"",
     .help = "what happens to a longer sample; none is ever cut"},
    {"data.max_bad", SCHEMA_INT(C, data.max_bad), .def = "100", .min = SCHEMA_FROM(0),
     .may_change = true,
     .help = "unusable samples tolerated (over-length ones not counted); more are an error"},
    {"data.alpha", SCHEMA_ENUM(C, data.alpha, ALPHA_NAMES), .def = "\"white\"",
     .help = "transparent pictures: on white, or alpha dropped as Hugging Face does"},
    {"data.min_pixels", SCHEMA_INT(C, data.min_pixels), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(178956970),
     .help = "smaller pictures are enlarged to this many pixels, if the model keeps sizes; 0: its "
             "limit"},
    {"data.max_pixels", SCHEMA_INT(C, data.max_pixels), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(178956970),
     .help =
         "larger pictures are reduced to this many pixels, if the model keeps sizes; 0: its limit"},
    {"data.cache", SCHEMA_PLACE(C, data.cache), .def = "\"cache\"", .min_len = 1,
     .may_change = true, .help = "directory of computed vision features, shared between runs"},
    {"baseline.family", SCHEMA_ENUM(C, family, FRESH_FAMILIES), .def = "\"llava\"",
     .help = "what a model trained from scratch is: its model_type"},
    {"baseline.hidden_size", SCHEMA_INT(C, shape.hidden_size), .def = "128", .min = SCHEMA_FROM(8),
     .max = SCHEMA_TO(16384), .help = "of the language model"},
    {"baseline.intermediate_size", SCHEMA_INT(C, shape.intermediate_size), .def = "384",
     .min = SCHEMA_FROM(8), .max = SCHEMA_TO(65536), .help = "of its MLP"},
    {"baseline.layers", SCHEMA_INT(C, shape.layers), .def = "4", .min = SCHEMA_FROM(1),
     .max = SCHEMA_TO(256), .help = "of the language model"},
    {"baseline.heads", SCHEMA_INT(C, shape.heads), .def = "4", .min = SCHEMA_FROM(1),
     .max = SCHEMA_TO(256), .help = "query heads"},
    {"baseline.kv_heads", SCHEMA_INT(C, shape.kv_heads), .def = "4", .min = SCHEMA_FROM(1),
     .max = SCHEMA_TO(256), .help = "key/value heads"},
    {"baseline.max_length", SCHEMA_INT(C, shape.max_length), .def = "2048", .min = SCHEMA_FROM(16),
     .max = SCHEMA_TO(1 << 20), .help = "max_position_embeddings"},
    {"baseline.rope_theta", SCHEMA_DOUBLE(C, shape.rope_theta), .def = "10000",
     .min = SCHEMA_ABOVE(1), .help = "base of RoPE's frequencies"},
    {"baseline.tie", SCHEMA_BOOL(C, shape.tie), .def = "true", .help = "lm_head is the embedding"},
    {"baseline.vision_hidden_size", SCHEMA_INT(C, shape.vision_hidden_size), .def = "128",
     .min = SCHEMA_FROM(8), .max = SCHEMA_TO(8192), .help = "of the vision tower"},
    {"baseline.vision_intermediate_size", SCHEMA_INT(C, shape.vision_intermediate_size),
     .def = "256", .min = SCHEMA_FROM(8), .max = SCHEMA_TO(32768), .help = "of its MLP"},
    {"baseline.vision_layers", SCHEMA_INT(C, shape.vision_layers), .def = "3",
     .min = SCHEMA_FROM(1), .max = SCHEMA_TO(128),
     .help = "of the tower; the LLaVA families read the last but one"},
    {"baseline.vision_heads", SCHEMA_INT(C, shape.vision_heads), .def = "4", .min = SCHEMA_FROM(1),
     .max = SCHEMA_TO(128), .help = "of the tower"},
    {"baseline.image_size", SCHEMA_INT(C, shape.image_size), .def = "32", .min = SCHEMA_FROM(4),
     .max = SCHEMA_TO(4096),
     .help = "pixels per side: of a picture; llava_next: of a tile; qwen2_5_vl: of a window that "
             "the tower's attention sees at a time"},
    {"baseline.patch_size", SCHEMA_INT(C, shape.patch_size), .def = "8", .min = SCHEMA_FROM(1),
     .max = SCHEMA_TO(512),
     .help = "pixels per side; divides image_size; qwen2_5_vl makes a token of 2 x 2 patches"},
    PHASE("baseline", baseline, "10", "1e-3", "training the model that is converted later"),
    PEFT("baseline", baseline, "\"all\"", "true"),
    {"baseline.vision", SCHEMA_BOOL(C, baseline.vision), .def = "true",
     .help = "train the vision tower too"},
    {"rank.strategy", SCHEMA_ENUM(C, rank.strategy, RANK_NAMES), .def = "\"mkl\"",
     .help = "which RoPE pairs stay rotated"},
    {"rank.basis", SCHEMA_ENUM(C, rank.basis, BASIS_NAMES), .def = "\"head\"",
     .help = "of which keys components stay rotated: each head's own; cross: all heads' together, "
             "as one key that they share"},
    {"rank.budget", SCHEMA_ENUM(C, rank.budget, BUDGET_NAMES), .def = "\"even\"",
     .help = "of strategy logit: each head keeps as many pairs; or a layer's heads, or spread: all "
             "layers' too, share them where they are worth most, as one key for all heads"},
    {"rank.rope_dim", SCHEMA_INT(C, rank.rope_dim), .def = "32", .min = SCHEMA_FROM(2),
     .max = SCHEMA_TO(65536),
     .help = "rotated dims per head, or of the shared key; sweep.partial_rope overrides it"},
    {"rank.file", SCHEMA_PLACE(C, rank.file), .def = "null", .nullable = true, .may_move = true,
     .help = "rank file, for strategy file: HDF5, or .safetensors, or PyTorch's .pth"},
    {"rank.samples", SCHEMA_INT(C, rank.samples), .def = "64", .min = SCHEMA_FROM(1),
     .help = "calibration samples"},
    {"rank.max_queries", SCHEMA_INT(C, rank.max_queries), .def = "64", .min = SCHEMA_FROM(0),
     .help = "query positions examined per sample (mkl, mkl-mask, logit, cross, rotation); 0: all"},
    {"rank.uniform_start", SCHEMA_INT(C, rank.uniform_start), .def = "0", .min = SCHEMA_FROM(0),
     .help = "first dim of strategy uniform"},
    {"rank.rotation", SCHEMA_BOOL(C, rank.rotation), .def = "false",
     .help = "give what is no longer rotated the constant rotation that serves attention best"},
    PHASE("stage1", stage1, "1", "5e-5", "with partial RoPE, no compression"),
    PEFT("stage1", stage1, "\"v4\"", "false"),
    LOSS("stage1", stage1),
    {"stage1.refit", SCHEMA_BOOL(C, stage1.refit), .def = "false",
     .help = "refit o_proj to the original's outputs before training, on svd.samples"},
    {"svd.method", SCHEMA_ENUM(C, svd.method, KV_METHOD_NAMES), .def = "\"joint\"",
     .help = "what shares a latent"},
    {"svd.decoupled", SCHEMA_BOOL(C, svd.decoupled), .def = "true",
     .help = "separate factors for images and text"},
    {"svd.input", SCHEMA_ENUM(C, svd.input, MDSVD_NAMES), .def = "\"activation\"",
     .help = "minimise the error of the outputs or of the weights; random: nothing, to see what "
             "the SVD is worth"},
    {"svd.statistics", SCHEMA_ENUM(C, svd.statistics, KV_STATISTICS_NAMES), .def = "\"tokens\"",
     .help = "what counts in that error: all tokens alike, tokens by the attention that they "
             "receive, or that and each head's keys and values by what they do to its output"},
    {"svd.steps", SCHEMA_INT(C, svd.steps), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1000),
     .help = "of L-BFGS, for statistics blocks, from factors in closed form"},
    {"svd.ranks", SCHEMA_ENUM(C, svd.ranks, LAYER_RANK_NAMES), .def = "\"even\"",
     .help = "how low_rank, the layers' mean, is divided among them: all alike, by the energy of "
             "their components, or by what losing these costs"},
    {"svd.low_rank", SCHEMA_DOUBLE(C, svd.low_rank), .def = "64", .min = SCHEMA_ABOVE(0),
     .max = SCHEMA_TO(4096),
     .help = "latent dims per kv head, may be a fraction; sweep.low_rank overrides it"},
    {"svd.refit", SCHEMA_BOOL(C, svd.refit), .def = "false",
     .help = "then refit o_proj, so that the outputs stay close to the original's"},
    {"svd.samples", SCHEMA_INT(C, svd.samples), .def = "512", .min = SCHEMA_FROM(1),
     .help = "calibration samples"},
    {"svd.split_samples", SCHEMA_INT(C, svd.split_samples), .def = "64", .min = SCHEMA_FROM(1),
     .help = "calibration samples on which splits of sweep.cache are tried, and svd.ranks is "
             "measured"},
    PHASE("stage2", stage2, "1", "5e-6", "with MLA"),
    PEFT("stage2", stage2, "\"kv+rope\"", "false"),
    LOSS("stage2", stage2),
    {"stage2.cache", SCHEMA_STRING(C, stage2.cache), .def = "null", .nullable = true, .min_len = 1,
     .help = "train on what a cache of this kind, as in \"q8+q4\", will hold: rotated keys and "
             "latents are packed and unpacked before attention reads them, with straight-through "
             "gradients; null: as they are"},
    {"optim.beta1", SCHEMA_DOUBLE(C, optim.beta1), .def = "0.9", .min = SCHEMA_FROM(0),
     .max = SCHEMA_BELOW(1), .help = "AdamW"},
    {"optim.beta2", SCHEMA_DOUBLE(C, optim.beta2), .def = "0.95", .min = SCHEMA_FROM(0),
     .max = SCHEMA_BELOW(1), .help = "AdamW"},
    {"optim.eps", SCHEMA_DOUBLE(C, optim.eps), .def = "1e-8", .min = SCHEMA_ABOVE(0),
     .help = "AdamW"},
    {"optim.weight_decay", SCHEMA_DOUBLE(C, optim.weight_decay), .def = "0", .min = SCHEMA_FROM(0),
     .help = "AdamW, decoupled"},
    {"optim.clip", SCHEMA_DOUBLE(C, optim.clip), .def = "1", .min = SCHEMA_FROM(0),
     .help = "largest global norm of the gradient; 0: no clipping"},
    {"optim.warmup", SCHEMA_DOUBLE(C, optim.warmup), .def = "0.1", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1), .help = "share of the steps in which the rate rises, linearly from 0"},
    {"optim.decay", SCHEMA_DOUBLE(C, optim.decay), .def = "0.1", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1), .help = "share of the steps, at the end, in which the rate falls"},
    {"optim.decay_style", SCHEMA_ENUM(C, optim.decay_style, DECAY_NAMES), .def = "\"1-sqrt\"",
     .help = "shape of the decay"},
    {"optim.min_lr", SCHEMA_DOUBLE(C, optim.min_lr), .def = "0", .min = SCHEMA_FROM(0),
     .help = "learning rate after the decay"},
    {"optim.state", SCHEMA_ENUM(C, optim.state, MOMENT_NAMES), .def = "\"f32\"",
     .help = "what AdamW's two moments of a matrix are kept in: 8, 4 or 2 bytes per value"},
    {"optim.recompute", SCHEMA_ENUM(C, optim.recompute, RECOMPUTE_NAMES), .def = "\"auto\"",
     .may_change = true,
     .help =
         "decoder layers recomputed in the backward pass: less memory, up to a third more time, "
         "the same result; auto: as many as run.memory_limit requires"},
    {"evaluate.score", SCHEMA_ENUM(C, evaluate.score, SCORE_NAMES), .def = "\"answers\"",
     .help = "by generated answers, exactly or by a metric; by tokens predicted right, with "
             "perplexity; or by the likeliest of a question's choices"},
    {"evaluate.samples", SCHEMA_INT(C, evaluate.samples), .def = "0", .min = SCHEMA_FROM(0),
     .help = "samples of each eval source scored for the tables; 0: all"},
    {"evaluate.curve_samples", SCHEMA_INT(C, evaluate.curve_samples), .def = "0",
     .min = SCHEMA_FROM(0),
     .help = "samples of each for a point of the curve; 0: as evaluate.samples"},
    {"evaluate.batch", SCHEMA_INT(C, evaluate.batch), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(4096), .may_change = true,
     .help = "most samples scored at a time; 0: as many as an eighth of the memory takes"},
    {"evaluate.max_new_tokens", SCHEMA_INT(C, evaluate.max_new_tokens), .def = "64",
     .min = SCHEMA_FROM(1), .max = SCHEMA_TO(65536), .help = "longest answer"},
    {"evaluate.window", SCHEMA_INT(C, evaluate.window), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1 << 24),
     .help = "tokens of a window that moves over texts that are longer, with score \"tokens\"; 0: "
             "texts of more than data.max_length are left out"},
    {"evaluate.stride", SCHEMA_INT(C, evaluate.stride), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1 << 24),
     .help = "tokens from a window to the next, each of which scores what none has scored before; "
             "0: evaluate.window"},
    {"evaluate.examples", SCHEMA_INT(C, evaluate.examples), .def = "8", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1000), .may_change = true, .help = "answers shown in the report"},
    {"evaluate.caches", SCHEMA_STRINGS(C, evaluate.caches), .def = "[]", .max_len = 64,
     .may_change = true,
     .help =
         "kinds of cache with which base, svd and stage 2 are scored as well, as in \"q8+q4\": "
         "rotated keys (of the original: keys) and latents (values); of base alone h2o:SHARE and "
         "tova:SHARE, which keep that share of the tokens"},
    {"cache.rope", SCHEMA_ENUM(C, cache.rope, ROW_FORM_NAMES), .def = "\"f32\"",
     .help = "what the rotated keys of models with latents are cached in: 32, 16, 8.5, 4.5 or 3 "
             "bits a value"},
    {"cache.latent", SCHEMA_ENUM(C, cache.latent, ROW_FORM_NAMES), .def = "\"f32\"",
     .help = "the same of their latents, and of keys and values that have none"},
    {"cache.prompt", SCHEMA_ENUM(C, cache.prompt, PROMPT_NAMES), .def = "\"packed\"",
     .help = "what tokens of a prompt attend to of each other: what is cached; or, to compare with "
             "other programs, what it was before it was packed"},
    {"cache.rotate", SCHEMA_BOOL(C, cache.rotate), .def = "false",
     .help = "mix a latent's channels before they are packed, so that all are held equally well"},
    {"cluster.processes", SCHEMA_INT(C, cluster.processes), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(65536), .may_change = true,
     .help = "processes that must have been started (mpirun, srun), or that --dry-run plans for; "
             "0: any number"},
    {"cluster.wire", SCHEMA_ENUM(C, cluster.wire, WIRE_NAMES), .def = "\"f32\"",
     .help = "what processes send each other's share of the gradients as"},
    {"checkpoint.every", SCHEMA_INT(C, checkpoint.every), .def = "100", .min = SCHEMA_FROM(1),
     .may_change = true, .help = "steps between checkpoints"},
    {"checkpoint.keep", SCHEMA_INT(C, checkpoint.keep), .def = "2", .min = SCHEMA_FROM(1),
     .max = SCHEMA_TO(1000), .may_change = true, .help = "newest checkpoints to keep"},
    {"save.dtype", SCHEMA_ENUM(C, save.dtype, SAVE_DTYPE_NAMES), .def = "\"f32\"",
     .may_change = true, .help = "of computed and trained tensors in exported models"},
    {"save.full", SCHEMA_BOOL(C, save.full), .def = "false", .may_change = true,
     .help = "write all tensors in the models of stage 1 and svd, as in those of stage 2"},
    {"sweep.cache", SCHEMA_DOUBLES(C, sweep.cache), .def = "[]", .min = SCHEMA_ABOVE(0),
     .max = SCHEMA_TO(1),
     .help = "shares of the original's cache, each split into rotated and latent values as loses "
             "least of the splits tried; in place of the two below"},
    {"sweep.low_rank", SCHEMA_DOUBLES(C, sweep.low_rank), .def = "[]", .min = SCHEMA_ABOVE(0),
     .max = SCHEMA_TO(4096), .help = "values of svd.low_rank, one curve each"},
    {"sweep.stage2_lr", SCHEMA_DOUBLES(C, sweep.stage2_lr), .def = "[]", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1),
     .help = "stage2.lr for each of sweep.cache or sweep.low_rank; []: stage2.lr for all"},
    {"sweep.partial_rope", SCHEMA_INTS(C, sweep.partial_rope), .def = "[]", .min = SCHEMA_FROM(2),
     .max = SCHEMA_TO(65536), .help = "values of rank.rope_dim: rotated dims per head"},
    {"sweep.recipe", SCHEMA_OBJECTS(C, sweep.recipe, recipe_schema), .def = "[]", .max_len = 64,
     .help = "conversions side by side, each with all points of the sweep; the report compares "
             "those of the same cache size"},
    {"slurm.partition", SCHEMA_STRING(C, slurm.partition), .def = "null", .nullable = true,
     .min_len = 1, .may_change = true,
     .help = "where the jobs run, one or several with commas between, of which the first that is "
             "free is "
             "taken; null: the cluster's default"},
    {"slurm.account", SCHEMA_STRING(C, slurm.account), .def = "null", .nullable = true,
     .min_len = 1, .may_change = true, .help = "whom the jobs are charged to; null: your default"},
    {"slurm.nodes", SCHEMA_INT(C, slurm.nodes), .def = "1", .min = SCHEMA_FROM(1),
     .max = SCHEMA_TO(4096), .may_change = true, .help = "nodes of a job"},
    {"slurm.tasks", SCHEMA_INT(C, slurm.tasks), .def = "1", .min = SCHEMA_FROM(1),
     .max = SCHEMA_TO(4096), .may_change = true,
     .help = "processes of a job, as many on each node; several are started by srun --mpi=pmix"},
    {"slurm.cpus", SCHEMA_INT(C, slurm.cpus), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1024), .may_change = true,
     .help = "cores of a process, at least run.threads; 0: run.threads"},
    {"slurm.memory", SCHEMA_DOUBLE(C, slurm.memory), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(1 << 20), .may_change = true,
     .help = "GiB of a node for a job; 0: what the forecast says, mapped weights included"},
    {"slurm.time", SCHEMA_STRING(C, slurm.time), .def = "null", .nullable = true,
     .may_change = true,
     .help = "limit of a job: MINUTES, HH:MM:SS, D-HH or D-HH:MM:SS; it is saved ahead of it and "
             "goes on as often as needed; null: the partition's"},
    {"slurm.notice", SCHEMA_INT(C, slurm.notice), .def = "120", .min = SCHEMA_FROM(10),
     .max = SCHEMA_TO(65535), .may_change = true,
     .help = "seconds by which it is ahead: for a step and its checkpoint"},
    {"slurm.constraint", SCHEMA_STRING(C, slurm.constraint), .def = "null", .nullable = true,
     .min_len = 1, .may_change = true, .help = "features of the nodes, as of sbatch --constraint"},
    {"slurm.at_once", SCHEMA_INT(C, slurm.at_once), .def = "0", .min = SCHEMA_FROM(0),
     .max = SCHEMA_TO(4096), .may_change = true,
     .help = "points of the sweep that run at a time; 0: as many as there is room for"},
    {"slurm.modules", SCHEMA_STRINGS(C, slurm.modules), .def = "[]", .may_change = true,
     .help = "environment modules to load first"},
    {"slurm.lines", SCHEMA_STRINGS(C, slurm.lines), .def = "[]", .may_change = true,
     .help = "lines for the job scripts: those that begin with #SBATCH are options, the others run "
             "before the program"},
};
const struct schema config_schema = SCHEMA_WITH_GIVEN(struct config, rows, given);

bool config_has_step(const struct config *c, enum step step)
{
    for (int64_t i = 0; i < c->run.steps.n; i++)
        if (c->run.steps.v[i] == (int)step) return true;
    return false;
}

const enum step phase_steps[PHASES] = {STEP_BASELINE, STEP_STAGE1, STEP_STAGE2};

const struct config_phase *config_phase(const struct config *c, int i)
{
    return i == 0 ? &c->baseline : i == 1 ? &c->stage1 : &c->stage2;
}

bool config_trains(const struct config *c)
{
    for (int i = 0; i < PHASES; i++)
        if (config_has_step(c, phase_steps[i])) return true;
    return false;
}

bool config_calibrates(const struct config *c)
{
    return config_refits(c) || (config_has_step(c, STEP_SVD) && c->svd.method != KV_NONE &&
                                c->svd.input == MDSVD_ACTIVATION);
}

bool config_refits(const struct config *c)
{
    return (c->svd.refit && config_has_step(c, STEP_SVD)) ||
           (c->stage1.refit && config_has_step(c, STEP_STAGE1));
}

bool config_rotates(const struct config *c)
{
    return c->rank.rotation && (config_has_step(c, STEP_STAGE1) || config_has_step(c, STEP_SVD));
}

const char *config_source_name(const struct config_source *s)
{
    const char *slash = strrchr(s->path, '/');

    return s->name ? s->name : slash ? slash + 1 : s->path;
}

static int64_t own_points(const struct config *c)
{
    int64_t r = c->sweep.partial_rope.n, k = c->sweep.low_rank.n;

    if (c->sweep.cache.n) return c->sweep.cache.n;
    return (r ? r : 1) * (k ? k : 1);
}

int64_t config_points(const struct config *c)
{
    int64_t n = 0;

    for (int64_t k = 0; k < recipes_count(c); k++)
        n += own_points(recipes_config(c, k));
    return n;
}

int64_t config_at_a_time(const struct config_phase *p, int64_t processes)
{
    const int64_t share = (p->batch_size + processes - 1) / processes;

    return p->micro_batch && p->micro_batch < share ? p->micro_batch : share;
}

bool config_stores_teacher(const struct config *c)
{
    for (int i = 0; i < PHASES; i++) {
        const struct config_phase *p = config_phase(c, i);
        if (config_has_step(c, phase_steps[i]) && p->loss == LOSS_DISTILL &&
            p->teacher == TEACHER_STORED)
            return true;
    }
    return false;
}

bool config_shares_key(const struct config *c)
{
    return c->rank.basis == BASIS_CROSS || c->rank.budget != BUDGET_EVEN;
}

/* Rotated dims, latent and name of point i, which has the run's own so far. */
static void place_point(const struct config *c, int64_t i, struct point *p)
{
    const int64_t ranks = c->sweep.low_rank.n;

    if (c->sweep.cache.n) {
        p->rope_dim = c->split ? c->split[i].rope_dim : 0;
        p->low_rank = c->split ? c->split[i].low_rank : 0;
        snprintf(p->name, sizeof p->name, "cache%g", c->sweep.cache.v[i]);
        return;
    }
    if (c->sweep.partial_rope.n) p->rope_dim = c->sweep.partial_rope.v[ranks ? i / ranks : i];
    if (ranks) p->low_rank = c->sweep.low_rank.v[i % ranks];
    snprintf(p->name, sizeof p->name, "rope%d-rank%g", (int)p->rope_dim, p->low_rank);
}

/* The point's names, with the recipe's before them. */
static void name_point(const struct config *c, struct point *p)
{
    char name[40];

    snprintf(p->stage1, sizeof p->stage1, "rope%d", (int)p->rope_dim);
    if (c->recipes) {
        snprintf(name, sizeof name, "%.39s", p->name);
        snprintf(p->name, sizeof p->name, "%s-%s", recipes_name(c, p->recipe), name);
        snprintf(p->stage1, sizeof p->stage1, "%s-rope%d", recipes_of_stage1(c, p->recipe),
                 (int)p->rope_dim);
    }
    for (int s = STEP_STAGE1; s <= STEP_STAGE2; s++)
        snprintf(p->dir[s], sizeof p->dir[s], "%s/%s", s == STEP_STAGE1 ? p->stage1 : p->name,
                 step_names[s]);
}

/* Point i of a recipe. */
static struct point own_point(const struct config *c, int64_t i)
{
    const int64_t sizes = c->sweep.cache.n ? c->sweep.cache.n : c->sweep.low_rank.n;
    struct point p = {
        .rope_dim = c->rank.rope_dim, .low_rank = c->svd.low_rank, .lr = c->stage2.lr};

    place_point(c, i, &p);
    if (sizes && c->sweep.stage2_lr.n) p.lr = c->sweep.stage2_lr.v[i % sizes];
    return p;
}

struct point config_point(const struct config *c, int64_t i)
{
    int64_t recipe = 0;
    struct point p;

    for (; i >= own_points(recipes_config(c, recipe)); recipe++)
        i -= own_points(recipes_config(c, recipe));
    p = own_point(recipes_config(c, recipe), i);
    p.recipe = recipe;
    name_point(c, &p);
    return p;
}

const char *point_size_key(const struct config *c, const char *own)
{
    const bool rank = strcmp(own, "svd.low_rank") == 0;

    if (c->sweep.cache.n) return "sweep.cache";
    if (rank) return c->sweep.low_rank.n ? "sweep.low_rank" : own;
    return c->sweep.partial_rope.n ? "sweep.partial_rope" : own;
}

bool config_first_of_stage1(const struct config *c, int64_t i)
{
    const struct point p = config_point(c, i);

    while (i-- > 0)
        if (strcmp(config_point(c, i).stage1, p.stage1) == 0) return false;
    return true;
}
