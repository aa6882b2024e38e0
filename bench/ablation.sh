#!/bin/sh
# The ablations of the method on the quickstart's model: which RoPE pairs stay rotated, straight after
# the change, and how the factors are made, straight after the SVD of the model that stage 1 left, at
# cache sizes where it shows. Prints two Markdown tables.
#   bench/ablation.sh [DIR]        (runs go to DIR, default runs/ablation)
set -eu
train=${BUILD:-build}/mha2mla-train
dir=${1:-runs/ablation}
ranks="4 3 2 1.5 1"
score() { # exact match in % of a scores.json
    awk -F'[:,]' '/"right"/ { r = $2 } /"of"/ { printf "%.1f", 100 * r / $2; exit }' "$1"
}
run() { # run NAME SETTING...
    name=$1; shift
    args=
    for setting in "$@"; do args="$args --set $setting"; done
    # shellcheck disable=SC2086 # settings have no blanks
    "$train" --config configs/quickstart-published.json --resume --set run.dir="$dir/$name" $args >"$dir/$name.log" 2>&1 ||
        { tail -1 "$dir/$name.log" >&2; exit 1; }
}
mkdir -p "$dir"
echo "| pairs kept (4 of 16) | exact match, not trained |"
echo "|---|--:|"
for s in high low uniform 2-norm mkl mkl-mask; do
    run "rank-$s" 'run.steps=["rank","stage1"]' "rank.strategy=\"$s\"" 'sweep.low_rank=[]' stage1.steps=1 evaluate.curve_samples=0
    printf '| %s | %s |\n' "$s" "$(grep '"event":"eval"' "$dir/rank-$s/metrics.jsonl" | grep '"phase":"stage1"' | grep '"step":0,' | sed 's/.*"score":\([0-9.e-]*\).*/\1/' | awk '{ printf "%.1f", 100 * $1 }')"
done
echo
echo "base: $(score "$dir/rank-mkl/base/scores.json") %"
echo
printf '| factors | statistics |'; for r in $ranks; do printf ' low_rank %s |' "$r"; done; echo
printf '|---|---|'; for r in $ranks; do printf -- '--:|'; done; echo
for d in true false; do
    for i in activation weight; do
        name="svd-$d-$i"
        run "$name" 'run.steps=["rank","stage1","svd","evaluate"]' "svd.decoupled=$d" "svd.input=\"$i\"" 'sweep.low_rank=[4,3,2,1.5,1]'
        [ $d = true ] && how='by modality' || how=shared
        printf '| %s | %s |' "$how" "$i"
        for r in $ranks; do printf ' %s |' "$(score "$dir/$name/rope8-rank$r/svd/scores.json")"; done
        echo
    done
done
