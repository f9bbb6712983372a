#!/bin/sh
# The physical limit of a scenario: only the unavoidable work, done by hand, without any builder.
# S1  fetches one commit into a new mirror and checks it out, unpacks the base image meanwhile, runs both steps, packs the
#     three new layers with zstd, uploads them, and puts three manifests
# S2  brings a kept mirror and tree up to date, and packs and uploads what the last two layers hold
# S5  the same, with the dependencies
# S6  puts the manifests, as the image is there; S7 too, after it has fetched the commit and listed its tree
# Prints what each part took, in seconds.
# Usage: limit.sh SCENARIO GIT_URL SHA REGISTRY_URL IMAGE FOLDER     FOLDER: kept from run to run, which begin with S1
# BASE: path of the base image's only layer in the registry
set -eu
scenario=$1 url=$2 sha=$3 registry=$4 image=$5 folder=$6
mirror=$folder/mirror tree=$folder/tree vendor=$folder/vendor

case $scenario in S1) rm -rf "$mirror" "$tree" "$folder/base" "$folder/index" ;; esac
case $scenario in S1 | S5) rm -rf "$vendor" ;; esac
[ -d "$mirror" ] || git init --quiet --bare "$mirror"
mkdir -p "$tree" "$folder/base"
rm -rf "$tree/build"
export GIT_DIR="$mirror" GIT_WORK_TREE="$tree" GIT_INDEX_FILE="$folder/index"

last=$(date +%s%N)
took() { now=$(date +%s%N); printf '%s %s\n' "$1" "$(awk "BEGIN { print ($now - $last) / 1e9 }")"; last=$now; }
request() { curl --silent --show-error --fail --output /dev/null "$@"; }
digest() { printf 'sha256:%s' "$(sha256sum <"$1" | cut -d ' ' -f 1)"; }
pack() { zstd -3 -q -f -o "$folder/$1.tar.zst"; }
upload() { # FILE
  at=$(request --request POST --dump-header /dev/stderr "$registry/v2/$image/blobs/uploads/" 2>&1 |
    tr -d '\r' | sed -n 's/^[Ll]ocation: *//p')
  request --upload-file "$1" --header 'Content-Type: application/octet-stream' "$at&digest=$(digest "$1")"
}

case $scenario in
  S1) curl --silent --show-error --fail "$registry$BASE" | tar -C "$folder/base" -xzf - & ;;
esac
case $scenario in
  S6) ;;
  *)
    git fetch --quiet --depth 1 "$url" "$sha"
    took fetch
    ;;
esac
case $scenario in
  S7)
    git ls-tree -r -z "$sha" >"$folder/entries"
    took tree
    ;;
  S1 | S2 | S5)
    if [ -f "$GIT_INDEX_FILE" ]; then git read-tree -m -u HEAD "$sha"; else git read-tree --reset -u "$sha"; fi
    git update-ref HEAD "$sha"
    took tree
    wait
    case $scenario in S1) took unpack ;; esac
    if [ ! -d "$vendor" ]; then
      (cd "$tree" && perl install-deps.pl deps.lock "$vendor")
      took dependencies
    fi
    (cd "$tree" && sh build.sh)
    took step
    case $scenario in S1 | S5) tar -C "$vendor" -cf - . | pack vendor & ;; esac
    tar -C "$tree" -cf - --exclude=./build --exclude=./docs --exclude=./Dockerfile . | pack copy &
    tar -C "$tree" -cf - build | pack build
    wait
    took pack
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["%s","%s","%s"]}}' \
      "$(digest "$folder/vendor.tar.zst")" "$(digest "$folder/copy.tar.zst")" "$(digest "$folder/build.tar.zst")" >"$folder/config"
    case $scenario in S1 | S5) upload "$folder/vendor.tar.zst" & ;; esac
    upload "$folder/copy.tar.zst" &
    upload "$folder/build.tar.zst" &
    upload "$folder/config"
    wait
    took upload
    layer() { printf '{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":%s,"digest":"%s"}' "$(wc -c <"$1")" "$(digest "$1")"; }
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%s,"digest":"%s"},"layers":[%s,%s,%s]}' \
      "$(wc -c <"$folder/config")" "$(digest "$folder/config")" "$(layer "$folder/vendor.tar.zst")" \
      "$(layer "$folder/copy.tar.zst")" "$(layer "$folder/build.tar.zst")" >"$folder/manifest"
    ;;
esac
for tag in "$sha" main latest; do
  request --upload-file "$folder/manifest" --header 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
    "$registry/v2/$image/manifests/$tag" &
done
wait
took manifests
