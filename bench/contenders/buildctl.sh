#!/bin/sh
# BuildKit by hand as its makers recommend it, and in the best tuning that was found: a buildkitd that keeps its
# cache, layers packed with zstd, and all tags pushed by the one export.
# Usage: buildctl.sh GIT_URL BRANCH SHA IMAGE FOLDER
# BUILDCTL: the program; BUILDKIT_HOST: where its buildkitd listens.
set -eu
url=$1 branch=$2 sha=$3 image=$4 folder=$5
mark() { date "+mark $1 %s.%N"; } # how far it has come, and when

git clone --quiet --depth 1 --branch "$branch" "$url" "$folder"
test "$(git -C "$folder" rev-parse HEAD)" = "$sha"
mark clone

"$BUILDCTL" build --progress plain --frontend dockerfile.v0 --local context="$folder" --local dockerfile="$folder" \
  --allow network.host --opt force-network-mode=host \
  --import-cache "type=registry,ref=$image:$branch" --export-cache type=inline \
  --output "type=image,\"name=$image:$sha,$image:$branch,$image:latest\",push=true,compression=zstd,oci-mediatypes=true"
mark build
