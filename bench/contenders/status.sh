#!/bin/sh
# Runs a contender's script, and then sets the commit status, as a CI job does at its end.
# Usage: status.sh STATUS_URL SCRIPT ARGUMENT...   GITHUB_TOKEN: for the status
set -eu
status_url=$1
shift
sh "$@" 2>&1 # BuildKit reports its progress on stderr
printf 'header = "Authorization: token %s"\n' "$GITHUB_TOKEN" |
  curl --silent --show-error --fail --output /dev/null --config - --header 'Content-Type: application/json' \
    --data '{"state":"success","context":"container/docker"}' "$status_url"
