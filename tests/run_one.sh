#!/bin/sh
# run_one.sh PROGRAM [SETTING...] - runs a test program under the settings and shows one line of it, below that what was
# skipped and what failed. `passed failed skipped` is added to the file $COUNTS, whose lock keeps the lines of programs
# that run at the same time apart. RUNNER: a program that runs it.
program=$1
shift
began=$(date +%s%N)
# A background job or nohup leaves signals ignored, and programs leave ignored ones so: back to the default.
# shellcheck disable=SC2086 # a word each
out=$(env --default-signal CMOCKA_MESSAGE_OUTPUT=tap "$@" $RUNNER "$program" 2>&1 < /dev/null)
rc=$?
tenths=$((($(date +%s%N) - began) / 100000000))
count() { printf '%s\n' "$out" | grep -c "$1"; }
s=$(count '^\(not \)*ok .*# SKIP')
p=$(($(count '^ok ') - $(count '^ok .*# SKIP')))
f=$(($(count '^not ok ') - $(count '^not ok .*# SKIP')))
[ "$rc" != 0 ] && [ "$f" = 0 ] && f=1 # it crashed, or failed outside of a test
[ "$p" = 0 ] && [ "$f" = 0 ] && [ "$s" = 0 ] && { f=1; out="$out
no test ran"; }
exec 9>> "$COUNTS" && flock 9
echo "$p $f $s" >&9
printf '%-26s %4d passed %3d failed %3d skipped %4d.%d s  %s\n' "$(basename "$program")" \
    "$p" "$f" "$s" $((tenths / 10)) $((tenths % 10)) "$*"
printf '%s\n' "$out" | grep '^# skipped: '
[ "$f" = 0 ] || printf '%s\n' "$out" | grep -v '^ok '
exit 0
