#!/bin/sh
# fuzz.sh [TARGET...] - libFuzzer on each target for FUZZ_RUNS inputs, two at a time, from the committed corpus and what
# earlier calls learnt in $BUILD/corpus. Ends with a line for each target, and fails where one failed.
: "${BUILD:=build-fuzz}" "${FUZZ_RUNS:=1000000}"
export FUZZ_TARGET
one() {
    FUZZ_TARGET=$1
    mkdir -p "$BUILD/corpus/$1"
    "$BUILD/tests/fuzz/fuzz" "$BUILD/corpus/$1" "tests/fuzz/corpus/$1" -runs="$FUZZ_RUNS" -max_len="${FUZZ_LEN:-8192}" \
        -rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=20 -artifact_prefix="$BUILD/$1-" -print_final_stats=1 \
        > "$BUILD/$1.log" 2>&1
}
[ $# = 0 ] && set -- $(cd tests/fuzz/corpus && ls)
for t in "$@"; do
    [ -d "tests/fuzz/corpus/$t" ] || { echo "fuzz: error: no target $t; known are: $(ls tests/fuzz/corpus | tr '\n' ' ')"; exit 1; }
done
while [ $# -gt 0 ]; do
    one "$1" & a=$!
    [ $# -gt 1 ] && { one "$2" & b=$!; } || b=
    wait $a || echo "$1 $BUILD/$1.log" >> "$BUILD/failed.$$"
    [ -n "$b" ] && { wait $b || echo "$2 $BUILD/$2.log" >> "$BUILD/failed.$$"; }
    for t in "$1" ${2:+"$2"}; do
        printf '%-12s %s runs, coverage %s\n' "$t" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$BUILD/$t.log")" \
            "$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\).*/\1 edges, \2 features/p' "$BUILD/$t.log" | tail -1)"
    done
    shift; [ $# -gt 0 ] && shift
done
[ -f "$BUILD/failed.$$" ] || exit 0
echo "failed, see the log:"; cat "$BUILD/failed.$$"; rm -f "$BUILD/failed.$$"; exit 1
