#!/bin/sh
# What the benchmark needs besides what bin/setup.sh installed: Debian's buildah, to compare with, debootstrap,
# for the base image, and zstd, for the physical limit. Does nothing when they are there.
set -eu

missing=
for tool in buildah debootstrap dockerd curl zstd; do
  command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
if [ -z "$missing" ]; then exit 0; fi

# shellcheck disable=SC2086 # a list of names
packages=$(printf '%s\n' $missing | sed 's/^dockerd$/docker.io/' | xargs)
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "bench: missing:$missing. Run this as root on Debian, where it installs: $packages" >&2
  exit 1
fi
echo "bench: installing $packages" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get -qq -o DPkg::Lock::Timeout=300 update >&2
# shellcheck disable=SC2086 # a list of names
apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends $packages >/dev/null
