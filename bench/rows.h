/* rows.h - what `make bench` measures: the files made for it, and the table's rows, in texts of
 * bench/lib/files.h. */
#ifndef BENCH_ROWS_H
#define BENCH_ROWS_H

#include "autograd/gemm.h"
#include "bench/lib/files.h"

#include <stdbool.h>

enum how {
    REPEAT, /* both sides are open and alternate */
    START,  /* a new process each time, until its first run is done */
    COMMAND /* a shell command, from beginning to end */
};
enum other { NOBODY, TORCH, OURS };

/* How far both sides' "check" may differ, relative to its value. fp32: sums in a different order;
 * the pictures are closer. bf16: ours keeps everything except the operands of products in fp32,
 * PyTorch also rounds what flows between layers, logits and attention, 2^-9 per value, most of
 * which averages out in a loss of random weights or in a mean: 2e-5 to 2e-4 were seen at tiny
 * sizes. The small loss of a trained model would need more (2.5e-3 were seen at 0.4). */
struct precision {
    const char *name; /* as passed to both sides */
    double tolerance;
};
static const struct precision precisions[] = {
    [GEMM_F32] = {"f32", 1e-4}, [GEMM_BF16] = {"bf16", 1e-3}};

struct row {
    const char *group, *title; /* group NULL: as in the previous row */
    const char *work;          /* a work of bench/lib/work.h with its arguments, or a command */
    enum how how;
    enum other other;
    const char *other_work; /* of our own side, if the other side is OURS too */
    int repeats;
    bool once;    /* one run is long enough, and the first is already warm */
    bool seconds; /* report the time of a run, not units per second */
    const char *unit;
    enum gemm_compute dtype; /* of both sides */
};

static const struct preparation preparations[] = {
    {"@/shapes/train.json", "$/mha2mla-data shapes --out @/shapes --train {4200|64} --test 8"},
    {"@/quick/config.json", "$/bench/prepare quick config=configs/quickstart-published.json "
                            "data=@/shapes/train.json dir=@"},
    {"@/base/config.json", "$/bench/model --config bench/{llava7b|tiny}/config.json --layers {4|2} "
                           "--tokenizer configs/quickstart/model --out @/base"},
    {"@/qwen/config.json",
     "$/bench/model --config bench/{qwentower|tinyqwen}/config.json --out @/qwen"},
    {"@/rank64/config.json",
     "$/bench/prepare mla model=@/base rope_dim={32|4} low_rank={64|8} out=@/rank64"},
    {"@/quarter/config.json",
     "$/bench/prepare mla model=@/base rope_dim={32|4} low_rank={32|4} out=@/quarter"},
#define BATCH                                                                                      \
    "$/bench/prepare batch image={576|16} text={200|20} labels={100|8} width={1024|32} "           \
    "vocab={32064|446} image_id=3 samples="
    {"@/batch", BATCH "1 out=@/batch"},
    {"@/batch4", BATCH "4 out=@/batch4"},
#undef BATCH
    {"@/svd", "$/bench/prepare svd rows={7168|56} cols={4096|32} text={4608|64} "
              "image={9216|128} out=@/svd"},
    {"@/svd-quarter", "$/bench/prepare svd rows={1792|28} cols={1024|16} text={2048|64} "
                      "image={4096|128} out=@/svd-quarter"},
    {"@/pictures/00.jpg",
     "$/bench/prepare pictures count={16|2} width=640 height=480 dir=@/pictures"},
};

static const struct row rows[] = {
    {"Training, stage 2", "the quickstart's model (rope8-rank8), 16 samples",
     "step model=@/quick batch=@/quick.batch", REPEAT, TORCH, NULL, 7, .unit = "tokens/s"},
    {NULL, "LLaVA-1.5-7B's shapes, 4 layers, 576 + 200 tokens, low_rank 64",
     "step model=@/rank64 batch=@/batch", REPEAT, TORCH, NULL, 5, .once = true, .unit = "tokens/s"},
    {NULL, "the same shapes in bf16", "step model=@/rank64 batch=@/batch", REPEAT, TORCH, NULL, 5,
     .once = true, .unit = "tokens/s", .dtype = GEMM_BF16},
    {NULL, "four samples of it in bf16", "step model=@/rank64 batch=@/batch4", REPEAT, TORCH, NULL,
     3, .once = true, .unit = "tokens/s", .dtype = GEMM_BF16},
    {NULL, "from the process' start to the end of its first step",
     "step model=@/quick batch=@/quick.batch", START, TORCH, NULL, 5, .seconds = true, .unit = "s"},
    {NULL, "mha2mla-train: a whole run of one step, data and pictures from nothing",
     "rm -rf @/start && $/mha2mla-train --config configs/quickstart-published.json --set "
     "run.dir=@/start/run "
     "--set data.cache=@/start/cache --set 'data.train=[{\"path\":\"@/shapes/train.json\"}]' --set "
     "'data.eval=[]' --set 'run.steps=[\"stage1\"]' --set rank.strategy=high --set stage1.steps=1 "
     ">/dev/null",
     COMMAND, NOBODY, NULL, 5, .seconds = true, .unit = "s"},
    {"Conversion, one layer, both modalities", "MD-SVD at LLaVA-1.5-7B's shapes, 7168 x 4096",
     "mdsvd file=@/svd rank={2048|16}", REPEAT, TORCH, NULL, 1, .once = true, .seconds = true,
     .unit = "s"},
    {NULL, "the same at a quarter of the sides, 1792 x 1024",
     "mdsvd file=@/svd-quarter rank={512|8}", REPEAT, TORCH, NULL, 5, .once = true, .seconds = true,
     .unit = "s"},
#define TOWER "tower width={640|64} height={480|48} model=@/"
    {"Pictures", "CLIP-L/14-336 tower", TOWER "base", REPEAT, TORCH, NULL, 5, .once = true,
     .unit = "images/s"},
    {NULL, "CLIP-L/14-336 tower in bf16", TOWER "base", REPEAT, TORCH, NULL, 5, .unit = "images/s",
     .dtype = GEMM_BF16},
    {NULL, "Qwen2.5-VL tower and merger, 640 x 480", TOWER "qwen projector=1", REPEAT, TORCH, NULL,
     5, .once = true, .unit = "images/s"},
    {NULL, "Qwen2.5-VL tower and merger, 640 x 480, in bf16", TOWER "qwen projector=1", REPEAT,
     TORCH, NULL, 5, .once = true, .unit = "images/s", .dtype = GEMM_BF16},
#undef TOWER
    {NULL, "JPEG 640 x 480: decode, resize, normalise",
     "images model=@/base dir=@/pictures kind=.jpg", REPEAT, TORCH, NULL, 7, .unit = "images/s"},
    {NULL, "PNG 640 x 480: decode, resize, normalise",
     "images model=@/base dir=@/pictures kind=.png", REPEAT, TORCH, NULL, 7, .unit = "images/s"},
#define DECODE(sequences, cache, of)                                                               \
    "decode model=@/quarter context={8192|64} sequences=" sequences " cache=" cache, REPEAT, OURS, \
        "decode model=@/base context={8192|64} sequences=" sequences " cache=" of
    {"Decoding: MLA at 25 % of the cache, beside our own MHA (in the other column)",
     "7B's shapes, 4 layers, context of 8192, 1 sequence", DECODE("1", "f32", "f32"), 7,
     .unit = "tokens/s"},
    {NULL, "the same, 4 sequences", DECODE("4", "f32", "f32"), 5, .unit = "tokens/s"},
    {NULL, "caches of bf16, 1 sequence", DECODE("1", "bf16", "bf16"), 5, .unit = "tokens/s"},
    {NULL, "caches of bf16, 4 sequences", DECODE("4", "bf16", "bf16"), 5, .unit = "tokens/s"},
    {NULL, "caches of bf16, 16 sequences", DECODE("16", "bf16", "bf16"), 3, .once = true,
     .unit = "tokens/s"},
    {NULL, "a cache of q8+q4 beside one of bf16, 1 sequence", DECODE("1", "q8+q4", "bf16"), 5,
     .unit = "tokens/s"},
    {NULL, "a cache of q8+q4 beside one of bf16, 4 sequences", DECODE("4", "q8+q4", "bf16"), 5,
     .unit = "tokens/s"},
    {NULL, "a cache of q8+q4 beside one of bf16, 16 sequences", DECODE("16", "q8+q4", "bf16"), 3,
     .once = true, .unit = "tokens/s"},
#define BF16_ROW(title, sequences, cache, of, n)                                                   \
    {                                                                                              \
        NULL, title " in bf16", DECODE(sequences, cache, of), n, .unit = "tokens/s",               \
                                                                 .dtype = GEMM_BF16                \
    }
    BF16_ROW("caches of f32, 1 sequence", "1", "f32", "f32", 5),
    BF16_ROW("caches of f32, 4 sequences", "4", "f32", "f32", 5),
    BF16_ROW("caches of bf16, 1 sequence", "1", "bf16", "bf16", 5),
    BF16_ROW("caches of bf16, 4 sequences", "4", "bf16", "bf16", 5),
    BF16_ROW("caches of bf16, 16 sequences", "16", "bf16", "bf16", 3),
    BF16_ROW("a cache of q8+q4 beside one of bf16, 1 sequence", "1", "q8+q4", "bf16", 5),
    BF16_ROW("a cache of q8+q4 beside one of bf16, 4 sequences", "4", "q8+q4", "bf16", 5),
    BF16_ROW("a cache of q8+q4 beside one of bf16, 16 sequences", "16", "q8+q4", "bf16", 3),
#undef BF16_ROW
#undef DECODE
#define TRAIN "train config=configs/quickstart-published.json data=@/shapes/train.json dir=@ limit="
    {"Growth: training steps by samples in the data set", "16 samples", TRAIN "16", REPEAT, NOBODY,
     NULL, 7, .unit = "tokens/s"},
    {NULL, "256 samples", TRAIN "{256|32}", REPEAT, NOBODY, NULL, 7, .unit = "tokens/s"},
    {NULL, "4096 samples", TRAIN "{4096|64}", REPEAT, NOBODY, NULL, 7, .unit = "tokens/s"},
#undef TRAIN
#define ATTENTION "attention heads={8|2} width={128|16} length="
    {"Growth: causal attention of 8 heads of 128, forward and backward", "256 tokens",
     ATTENTION "{256|32}", REPEAT, TORCH, NULL, 5, .unit = "tokens/s"},
    {NULL, "1024 tokens", ATTENTION "{1024|48}", REPEAT, TORCH, NULL, 5, .unit = "tokens/s"},
    {NULL, "4096 tokens", ATTENTION "{4096|64}", REPEAT, TORCH, NULL, 5, .unit = "tokens/s"},
    {NULL, "8192 tokens", ATTENTION "{8192|300}", REPEAT, TORCH, NULL, 5, .once = true,
     .unit = "tokens/s"},
#undef ATTENTION
};
enum {
    PREPARATIONS = sizeof preparations / sizeof *preparations,
    ROWS = sizeof rows / sizeof *rows
};

#endif
