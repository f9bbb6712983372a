#!/bin/sh
# The physical limit of a one-line change: only the work that nobody can leave out, by hand, with nothing of any
# builder. Fetches one commit into a mirror, brings a kept tree up to date, runs the build step there, packs the two
# layers that are new with zstd, uploads them, and puts three manifests. Prints what each took, in seconds.
# Usage: limit.sh GIT_URL SHA REGISTRY_URL IMAGE FOLDER     FOLDER: kept from run to run
set -eu
url=$1 sha=$2 registry=$3 image=$4 folder=$5
mirror=$folder/mirror tree=$folder/tree
[ -d "$mirror" ] || git init --quiet --bare "$mirror"
mkdir -p "$tree"
export GIT_DIR="$mirror" GIT_WORK_TREE="$tree" GIT_INDEX_FILE="$folder/index"

last=$(date +%s%N)
took() { now=$(date +%s%N); printf '%s %s\n' "$1" "$(awk "BEGIN { print ($now - $last) / 1e9 }")"; last=$now; }
digest() { printf 'sha256:%s' "$(sha256sum <"$1" | cut -d ' ' -f 1)"; }
upload() { # FILE: prints its digest
  at=$(curl --silent --show-error --fail --request POST --output /dev/null --dump-header - "$registry/v2/$image/blobs/uploads/" |
    tr -d '\r' | sed -n 's/^[Ll]ocation: *//p')
  curl --silent --show-error --fail --output /dev/null --upload-file "$1" --header 'Content-Type: application/octet-stream' \
    "$at&digest=$(digest "$1")"
}

git fetch --quiet --depth 1 "$url" "$sha"
took fetch
if [ -f "$GIT_INDEX_FILE" ]; then git read-tree -m -u HEAD "$sha"; else git read-tree --reset -u "$sha"; fi
git update-ref HEAD "$sha"
took tree
rm -rf "$tree/build"
(cd "$tree" && sh build.sh)
took step
tar -C "$tree" -cf - --exclude=./build --exclude=./docs . | zstd -3 -q -f -o "$folder/copy.tar.zst" &
tar -C "$tree" -cf - build | zstd -3 -q -f -o "$folder/build.tar.zst"
wait
took pack
printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["%s","%s"]}}' \
  "$(digest "$folder/copy.tar.zst")" "$(digest "$folder/build.tar.zst")" >"$folder/config"
upload "$folder/copy.tar.zst" &
upload "$folder/build.tar.zst" &
upload "$folder/config"
wait
took upload
layer() { printf '{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","size":%s,"digest":"%s"}' "$(wc -c <"$1")" "$(digest "$1")"; }
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%s,"digest":"%s"},"layers":[%s,%s]}' \
  "$(wc -c <"$folder/config")" "$(digest "$folder/config")" "$(layer "$folder/copy.tar.zst")" "$(layer "$folder/build.tar.zst")" >"$folder/manifest"
for tag in "$sha" main latest; do
  curl --silent --show-error --fail --output /dev/null --upload-file "$folder/manifest" \
    --header 'Content-Type: application/vnd.oci.image.manifest.v1+json' "$registry/v2/$image/manifests/$tag" &
done
wait
took manifests
