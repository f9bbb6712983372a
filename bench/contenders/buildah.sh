#!/bin/sh
# Buildah, without an engine, keeping its layers on the machine.
# Usage: buildah.sh GIT_URL BRANCH SHA IMAGE FOLDER
# STORE: the folder of its layers. The chroot isolation is quicker than a container for every step.
set -eu
url=$1 branch=$2 sha=$3 image=$4 folder=$5
mark() { date "+mark $1 %s.%N"; } # how far it has come, and when

git clone --quiet --depth 1 --branch "$branch" "$url" "$folder"
test "$(git -C "$folder" rev-parse HEAD)" = "$sha"
mark clone

store() { command=$1; shift; buildah --root "$STORE/root" --runroot "$STORE/run" --storage-driver overlay "$command" --tls-verify=false "$@"; }
store build --layers --isolation chroot --network host --tag "$image:$sha" "$folder"
mark build
store push --quiet "$image:$sha"
mark push
store push --quiet "$image:$sha" "docker://$image:$branch"
store push --quiet "$image:$sha" "docker://$image:latest"
mark tags
