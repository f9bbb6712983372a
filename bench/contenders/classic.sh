#!/bin/sh
# The classic way, as most CI scripts have it: clone, pull the branch's image for its layers, build, tag, push.
# Usage: classic.sh GIT_URL BRANCH SHA IMAGE FOLDER
set -eu
url=$1 branch=$2 sha=$3 image=$4 folder=$5
mark() { date "+mark $1 %s.%N"; } # how far it has come, and when
export DOCKER_BUILDKIT=0

git clone --quiet --depth 50 --branch "$branch" "$url" "$folder"
git -C "$folder" checkout --quiet --detach "$sha"
mark clone

cache=
if docker pull --quiet "$image:$branch"; then cache="--cache-from=$image:$branch"; fi
mark pull

docker build $cache --network host --tag "$image:$sha" "$folder"
mark build
docker tag "$image:$sha" "$image:$branch"
docker tag "$image:$sha" "$image:latest"
docker push --quiet "$image:$sha"
mark push
docker push --quiet "$image:$branch"
docker push --quiet "$image:latest"
mark tags
