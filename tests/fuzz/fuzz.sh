#!/bin/sh
# fuzz.sh [TARGET...] - libFuzzer on each target for FUZZ_RUNS inputs, two at a time, from the committed corpus and what
# earlier calls learnt in $BUILD/corpus. Prints a line for each target as it ends, and fails where one failed.
: "${BUILD:=build-fuzz}" "${FUZZ_RUNS:=1000000}"
export BUILD FUZZ_RUNS
if [ "$1" = --one ]; then
    log=$BUILD/$2.log
    mkdir -p "$BUILD/corpus/$2"
    FUZZ_TARGET=$2 "$BUILD/tests/fuzz/fuzz" "$BUILD/corpus/$2" "tests/fuzz/corpus/$2" -runs="$FUZZ_RUNS" \
        -max_len="${FUZZ_LEN:-8192}" -rss_limit_mb=1024 -malloc_limit_mb=512 -timeout=20 -artifact_prefix="$BUILD/$2-" \
        -print_final_stats=1 > "$log" 2>&1
    rc=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    printf '%-12s %s runs, %s, no new edge or feature in the last %s%s\n' "$2" "$runs" \
        "$(sed -n 's/.* cov: \([0-9]*\) ft: \([0-9]*\).*/\1 edges, \2 features/p' "$log" | tail -1)" \
        "$(awk -v n="${runs:-0}" '$2 == "NEW" { sub("#", "", $1); last = $1 } END { print n - last }' "$log")" \
        "$([ $rc = 0 ] || echo "; FAILED, see $log")"
    exit $rc
fi
[ $# = 0 ] && set -- $(cd tests/fuzz/corpus && ls)
for t in "$@"; do
    [ -d "tests/fuzz/corpus/$t" ] || { echo "fuzz: error: no target $t; known are: $(ls tests/fuzz/corpus | tr '\n' ' ')"; exit 1; }
done
printf '%s\n' "$@" | xargs -P 2 -n 1 sh "$0" --one
