/**
 * What a team's builder image might do, in busybox's sh: makes an image that is different for each commit, and pushes
 * it under the sha, the branch and `latest` in turn, over plain HTTP to $REGISTRY. With DRY, nothing is pushed.
 */
export const PUSHING_SCRIPT = `set -eu
echo "building $REPOSITORY@$SHA, cache $CACHE"
[ "$DRY" = true ] && exit 0

request() { # METHOD PATH TYPE FILE; prints the head of the answer
  { printf '%s %s HTTP/1.1\\r\\nHost: %s\\r\\nContent-Type: %s\\r\\nContent-Length: %s\\r\\nConnection: close\\r\\n\\r\\n' \\
      "$1" "$2" "$REGISTRY" "$3" "$(wc -c < "$4")"; cat "$4"; } | nc "\${REGISTRY%:*}" "\${REGISTRY#*:}" | tr -d '\\r' > /answer
  head -n 1 /answer | grep -q ' 20[12] ' || { cat /answer >&2; exit 1; }
}
digest() { echo "sha256:$(sha256sum < "$1" | cut -d ' ' -f 1)"; }

: > /empty
printf '{"architecture":"amd64","os":"linux","config":{"Labels":{"sha":"%s"}},"rootfs":{"type":"layers","diff_ids":[]}}' "$SHA" > /config
request POST "/v2/$REPOSITORY/blobs/uploads/" application/octet-stream /empty
location=$(sed -n 's/^Location: *//p' /answer | sed 's,^http://[^/]*,,')
request PUT "$location&digest=$(digest /config)" application/octet-stream /config
printf '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%s,"digest":"%s"},"layers":[]}' \\
  "$(wc -c < /config)" "$(digest /config)" > /manifest
for tag in "$SHA" $(echo "$BRANCH" | tr / -) latest; do
  request PUT "/v2/$REPOSITORY/manifests/$tag" application/vnd.docker.distribution.manifest.v2+json /manifest
  echo "pushed $tag"
done
`
