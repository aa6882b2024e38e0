#!/bin/sh
# arm64.sh ROOT PACKAGE... - Debian's arm64 libraries, unpacked into ROOT for a cross compiler and qemu-aarch64. Nothing
# is installed: a package database of its own, beside ROOT, is asked what belongs to the packages.
set -e
root=$1
shift
[ -f "$root/done" ] && [ "$(cat "$root/done")" = "$*" ] && exit 0
rm -rf "$root" && mkdir -p "$root/apt/lists/partial" "$root/apt/archives/partial"
root=$(cd "$root" && pwd)
: > "$root/apt/status"
cat > "$root/apt/conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Debug::NoLocking "true";
Dir::State::lists "$root/apt/lists";
Dir::State::status "$root/apt/status";
Dir::Cache "$root/apt";
CONF
export APT_CONFIG="$root/apt/conf"
echo "arm64: fetching libraries"
apt-get update -qq
apt-get install -y -qq --download-only "$@" > /dev/null
for deb in "$root"/apt/archives/*.deb; do dpkg -x "$deb" "$root"; done
rm -rf "$root/apt"
# What update-alternatives would link.
lib=$root/usr/lib/aarch64-linux-gnu
ln -s "$lib"/openblas-pthread/*.so* "$lib/"
ln -s ../openblas-pthread/pkgconfig/openblas.pc "$lib/pkgconfig/openblas.pc"
ln -s ../openblas-pthread/pkgconfig/lapack-openblas.pc "$lib/pkgconfig/lapack.pc"
ln -s hdf5-serial.pc "$lib/pkgconfig/hdf5.pc"
# Links of packages are from the root of a system.
find "$root" -type l | while read -r link; do
    to=$(readlink "$link")
    case $to in "$root"*) ;; /*) ln -sfn "$root$to" "$link" ;; esac
done
echo "$*" > "$root/done"
