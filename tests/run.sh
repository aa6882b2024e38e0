#!/bin/sh
# run.sh TABLE TEST... - runs the test programs given, then those of each row of TABLE under the row's settings, JOBS at a
# time (default: as many as there are cores, 8 at most); shows what failed, and ends with `N passed, N failed, N skipped`.
cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc) # which obeys these
: "${JOBS:=$((cores < 8 ? cores : 8))}"
# Programs share the cores: their threads sleep soon when they wait (autograd/team.h), and are two on any machine.
[ -n "$OMP_WAIT_POLICY" ] || export GOMP_SPINCOUNT="${GOMP_SPINCOUNT:-2000}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
work=$(mktemp -d) && trap 'rm -rf "$work" ${made:+"$made"}' EXIT && trap 'exit 130' INT TERM HUP
# What tests write goes to memory if there is room for it (they need 4 GB at most): on a disk they mostly wait for
# files to be flushed.
if [ -z "$TMPDIR" ] && [ -w /dev/shm ] && [ "$(df -Pm /dev/shm | awk 'NR == 2 { print $4 }')" -gt 6000 ]; then
    TMPDIR=$(mktemp -d /dev/shm/mha2mla-XXXXXX) && made=$TMPDIR && chmod 755 "$TMPDIR" && export TMPDIR
fi
table=$1
shift
dir=$(dirname "$1")
list() { # the program and the settings of every run, a line each
    printf '%s\n' "$@"
    while IFS=: read -r settings names; do
        case $settings in '#'* | '') continue ;; esac
        # shellcheck disable=SC2086 # a word each
        case $settings in *MHA2MLA_CPU=*) env $settings "$dir/../mha2mla-train" --version > /dev/null 2>&1 ||
            { echo "without $settings: not of this CPU or build" >&2; continue; } ;; esac
        # shellcheck disable=SC2086
        for t in $names; do echo "$dir/test_$t" $settings; done
    done < "$table"
}
began=$(date +%s)
list "$@" > "$work/list"
programs=$(wc -l < "$work/list")
: > "$work/counts"
COUNTS=$work/counts xargs -P "$JOBS" -L 1 sh "$(dirname "$0")/run_one.sh" < "$work/list"
echo "$programs programs, $JOBS at a time: $(($(date +%s) - began)) s"
awk -v programs="$programs" '{ p += $1; f += $2; s += $3 }
    END { if (NR < programs) { printf "%d programs have no result: they were not run, or who ran them was killed\n", programs - NR; f += programs - NR }
        printf "%d passed, %d failed, %d skipped\n", p, f, s; exit f > 0 }' "$work/counts"
