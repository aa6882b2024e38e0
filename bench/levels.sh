#!/bin/sh
# What it costs to choose the instructions at start (base/cpu.h): the training step of bench/step.c by the program as it
# is built, and by one built with -march=native, in turn; prints both, and their ratio with its spread. Needs the
# quickstart's data set, which `make quickstart` draws.
#   bench/levels.sh [ROUNDS [--set KEY=VALUE ...]]
set -eu
rounds=${1:-7}
[ $# = 0 ] || shift
make -s all build/bench/step && make -s build-native/bench/step BUILD=build-native ARCH=-march=native
step() { # step BUILD OPTION...: tokens a second
    b=$1 && shift
    "$b/bench/step" --config configs/quickstart-published.json "$@" | awk '/^tokens\/s/ { print $2; exit }'
}
for _ in $(seq "$rounds"); do
    echo "$(step build "$@") $(step build-native "$@")"
done | awk '
    function sort(v, n,  i, j, t) {
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (v[j] < v[i]) { t = v[i]; v[i] = v[j]; v[j] = t }
    }
    { chosen[NR] = $1; native[NR] = $2; ratio[NR] = $1 / $2 }
    END {
        sort(chosen, NR); sort(native, NR); sort(ratio, NR); m = int((NR + 1) / 2)
        printf "chosen %.0f tokens/s, native %.0f, ratio %.3f (%.3f to %.3f)\n", chosen[m], native[m], ratio[m], ratio[1], ratio[NR]
    }'
