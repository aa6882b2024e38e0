#!/bin/sh
# What the parts of the conversion win on a model with pictures of different sizes, trained here before:
# pairs kept by mkl instead of high, factors by modality instead of shared ones. Everything else is equal;
# each is run with several seeds, which draw other calibration samples and another order of the data.
# Prints a Markdown table: scores, and differences with their standard error over the seeds.
#   bench/ablation_sizes.sh CONFIG MODEL TEST.json DIR [SEED ...]
# CONFIG is configs/scenes-qwen.json or configs/scenes-next.json, MODEL its RUN/baseline/model.
set -eu
train=${BUILD:-build}/mha2mla-train
config=$1 model=$2 test=$3 dir=$4
shift 4
seeds=${*:-1 2 3}
run() { # run NAME SETTING...
    name=$1; shift
    args=
    for setting in "$@"; do args="$args --set $setting"; done
    # shellcheck disable=SC2086 # settings have no blanks
    ${SLICE:-} "$train" --config "$config" --resume $point --set run.dir="$dir/$name" --set model.path="$model" \
        --set run.threads=1 --set "data.eval=[{\"path\":\"$test\"}]" --set stage2.steps=300 \
        --set stage2.eval_every=0 --set evaluate.curve_samples=50 $args >>"$dir/$name.log" 2>&1 ||
        { tail -1 "$dir/$name.log" >&2; exit 1; }
}
convert() { # all sizes scored after the SVD, the smallest after stage 2 too
    run "$@" 'sweep.low_rank=[8,6,4]' 'run.steps=["rank","stage1","svd","evaluate"]'
    point="--point 2"
    run "$@" 'sweep.low_rank=[8,6,4]' 'run.steps=["rank","stage1","svd","stage2","evaluate"]'
    point=
}
point=
mkdir -p "$dir"
for s in $seeds; do
    for how in mkl high; do
        run "untrained-$how-$s" run.seed="$s" "rank.strategy=\"$how\"" 'run.steps=["rank","stage1","evaluate"]' \
            stage1.steps=1 stage1.lr=0
    done
    convert "mkl-$s" run.seed="$s"
    convert "shared-$s" run.seed="$s" svd.decoupled=false
    convert "high-$s" run.seed="$s" 'rank.strategy="high"'
done
score() { # score RUN/PART: exact match in %
    awk -F'[:,]' '/"right"/ { r = $2 } /"of"/ { printf "%.4f", 100 * r / $2; exit }' "$dir/$1/scores.json"
}
row() { # row TEXT RUN RUN PART: over the seeds
    for s in $seeds; do echo "$(score "$2-$s/$4") $(score "$3-$s/$4")"; done |
        awk -v text="$1" '{ a += $1; b += $2; d = $1 - $2; sum += d; all += d * d; n++ }
            END { m = sum / n; e = n > 1 ? sqrt((all - n * m * m) / (n - 1) / n) : 0
                  printf "| %s | %.1f | %.1f | %+.1f ± %.1f |\n", text, a / n, b / n, m, e }'
}
first=${seeds%% *}
echo "base: $(score "mkl-$first/base") %"
echo
echo "| | mkl | high | difference |"
echo "|---|--:|--:|--:|"
row "pairs kept, not trained" untrained-mkl untrained-high rope8/stage1
row "stage 1" mkl high rope8/stage1
for r in 8 6 4; do row "low_rank $r, after SVD" mkl high "rope8-rank$r/svd"; done
row "low_rank 4, stage 2" mkl high rope8-rank4/stage2
echo
echo "| | by modality | shared | difference |"
echo "|---|--:|--:|--:|"
for r in 8 6 4; do row "low_rank $r, after SVD" mkl shared "rope8-rank$r/svd"; done
row "low_rank 4, stage 2" mkl shared rope8-rank4/stage2
