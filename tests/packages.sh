#!/bin/sh
# Installs the Debian packages named that are missing; where it may not, says the one line to run.
missing=
for p in "$@"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
command -v apt-get >/dev/null || { echo "packages: error: not a Debian system: install$missing by hand" >&2; exit 1; }
if [ "$(id -u)" != 0 ]; then
    echo "packages: error: packages are missing; run: sudo apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
try() { apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
try 2>/dev/null || { apt-get update -qq && try; }
