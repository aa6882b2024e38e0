#!/bin/sh
# run.sh TABLE TEST... - runs the test programs given, then those of each row of TABLE under the row's settings;
# shows what failed, and ends with `N passed, N failed, N skipped`. RUNNER: a program that runs them.
passed=0 failed=0 skipped=0
# What tests write goes to memory if there is room for it (they need 4 GB at most): on a disk they mostly wait for
# files to be flushed.
if [ -z "$TMPDIR" ] && [ -w /dev/shm ] && [ "$(df -Pm /dev/shm | awk 'NR == 2 { print $4 }')" -gt 6000 ]; then
    TMPDIR=$(mktemp -d /dev/shm/mha2mla-XXXXXX) && chmod 755 "$TMPDIR" && export TMPDIR && trap 'rm -rf "$TMPDIR"' EXIT INT TERM HUP
fi
run() { # program, settings
    # shellcheck disable=SC2086 # a word each
    # A background job or nohup leaves signals ignored, and programs leave ignored ones so: back to the default.
    out=$(env --default-signal CMOCKA_MESSAGE_OUTPUT=tap $2 $RUNNER "$1" 2>&1 < /dev/null)
    rc=$?
    p=$(printf '%s\n' "$out" | grep -c '^ok ' || true)
    s=$(printf '%s\n' "$out" | grep -c '^\(not \)*ok .*# SKIP' || true)
    f=$(printf '%s\n' "$out" | grep '^not ok ' | grep -vc '# SKIP' || true)
    p=$((p - $(printf '%s\n' "$out" | grep -c '^ok .*# SKIP' || true)))
    [ "$rc" != 0 ] && [ "$f" = 0 ] && f=1 # it crashed, or failed outside of a test
    [ "$p" = 0 ] && [ "$f" = 0 ] && [ "$s" = 0 ] && { f=1; out="$out
no test ran"; }
    printf '%-28s %4d passed %3d failed %3d skipped\n' "$(basename "$1")" "$p" "$f" "$s"
    printf '%s\n' "$out" | grep '^# skipped: '
    [ "$f" = 0 ] || printf '%s\n' "$out" | grep -v '^ok '
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}
table=$1
shift
for t in "$@"; do run "$t"; done
dir=$(dirname "$1")
while IFS=: read -r settings names; do
    case $settings in '#'* | '') continue ;; esac
    # shellcheck disable=SC2086
    case $settings in *MHA2MLA_CPU=*) env $settings "$dir/../mha2mla-train" --version > /dev/null 2>&1 ||
        { echo "without $settings: not of this CPU or build"; continue; } ;; esac
    echo "with $settings"
    for t in $names; do run "$dir/test_$t" "$settings"; done
done < "$table"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
