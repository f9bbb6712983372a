#!/usr/bin/env bash
# Runs Docker Compose v2: the machine's own, or Debian's, which is unpacked into .conveyor/ the first time.
# Debian 12 packages only version 1, so it comes from Debian 13; it needs only the C library.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$root/.conveyor/compose/usr/libexec/docker/cli-plugins/docker-compose

if docker compose version >/dev/null 2>&1; then exec docker compose "$@"; fi
if [ -x "$program" ]; then exec "$program" "$@"; fi
if ! command -v apt-get >/dev/null; then
  echo 'Docker Compose v2 is missing. Install it: https://docs.docker.com/compose/install/' >&2
  exit 1
fi

mkdir -p "$root/.conveyor"
work=$(mktemp -d "$root/.conveyor/compose-XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/root
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] http://deb.debian.org/debian trixie main" >"$work/sources.list"
# Uses separate package lists and files, so the machine's apt is unchanged.
apt=(apt-get -qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
  -o "Dir::State::Lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
if ! (cd "$work" && "${apt[@]}" update && "${apt[@]}" download docker-compose) >"$work/log" 2>&1; then
  cat "$work/log" >&2
  echo "Docker Compose v2 could not be downloaded from Debian. Install it: https://docs.docker.com/compose/install/" >&2
  exit 1
fi
dpkg -x "$work"/docker-compose_*.deb "$work/root"
mv -T "$work/root" "$root/.conveyor/compose" 2>/dev/null || [ -x "$program" ] # another run may have been first
rm -rf "$work"
exec "$program" "$@"
