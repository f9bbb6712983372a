#!/bin/sh
# BuildKit in the engine, with its cache in the image: imported only by an engine that has no image of the
# branch, because it costs time where the engine has the layers already.
# Usage: buildkit.sh GIT_URL BRANCH SHA IMAGE FOLDER
set -eu
url=$1 branch=$2 sha=$3 image=$4 folder=$5
mark() { date "+mark $1 %s.%N"; } # how far it has come, and when
export DOCKER_BUILDKIT=1

git clone --quiet --depth 1 --branch "$branch" "$url" "$folder"
test "$(git -C "$folder" rev-parse HEAD)" = "$sha"
mark clone

cache=
if ! docker image inspect "$image:$branch" >/dev/null 2>&1; then cache="--cache-from=$image:$branch"; fi

docker build $cache --build-arg BUILDKIT_INLINE_CACHE=1 --network host --progress plain --tag "$image:$sha" "$folder"
mark build
docker tag "$image:$sha" "$image:$branch"
docker tag "$image:$sha" "$image:latest"
docker push --quiet "$image:$sha"
mark push
docker push --quiet "$image:$branch"
docker push --quiet "$image:latest"
mark tags
