#!/bin/sh
# Runs the test programs given, shows what failed, and ends with `N passed, N failed, N skipped`.
passed=0 failed=0 skipped=0
for t in "$@"; do
    out=$(CMOCKA_MESSAGE_OUTPUT=tap "$t" 2>&1)
    rc=$?
    p=$(printf '%s\n' "$out" | grep -c '^ok ' || true)
    s=$(printf '%s\n' "$out" | grep -c '^\(not \)*ok .*# SKIP' || true)
    f=$(printf '%s\n' "$out" | grep '^not ok ' | grep -vc '# SKIP' || true)
    p=$((p - $(printf '%s\n' "$out" | grep -c '^ok .*# SKIP' || true)))
    [ "$rc" != 0 ] && [ "$f" = 0 ] && f=1 # it crashed, or failed outside of a test
    [ "$p" = 0 ] && [ "$f" = 0 ] && [ "$s" = 0 ] && { f=1; out="$out
no test ran"; }
    printf '%-28s %4d passed %3d failed %3d skipped\n' "$(basename "$t")" "$p" "$f" "$s"
    [ "$f" = 0 ] || printf '%s\n' "$out" | grep -v '^ok '
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
