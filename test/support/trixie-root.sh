#!/bin/sh
# Makes a Debian trixie with its Docker Engine (26.1) in a folder: the second engine of tests and benchmark,
# next to that of the machine's own Debian. Needs root and debootstrap; installs nothing outside the folder.
# Does nothing, at once, when this very recipe has made what is there. Usage: trixie-root.sh FOLDER
#
# It is created next to the folder and renamed when complete, so the folder is always complete. Two runs at the
# same time make it once: the second waits for the first. Everything runs in a mount namespace of its own,
# so whatever ends it leaves no mounts behind.
set -eu
root=$1
recipe=$0

# A copy of this file in the folder says by which recipe it was made.
complete() { cmp -s "$recipe" "$root/recipe"; }

make_root() {
  new=$root.new
  rm -rf --one-file-system "$new" "$root.old"
  # The mirror and the proxy of this machine's own Debian packages.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
    'Label: Debian' 2>/dev/null | head -n 1)
  proxy=$(apt-config shell proxy Acquire::http::Proxy | sed "s/^proxy='\(.*\)'$/\1/")
  if [ -n "$proxy" ]; then export http_proxy="$proxy"; fi

  debootstrap --variant=minbase trixie "$new" "${mirror:-http://deb.debian.org/debian}"
  # Nothing is started inside: tests start dockerd themselves.
  printf '#!/bin/sh\nexit 101\n' >"$new/usr/sbin/policy-rc.d"
  chmod 755 "$new/usr/sbin/policy-rc.d"
  mount -t proc proc "$new/proc"
  inside() { DEBIAN_FRONTEND=noninteractive chroot "$new" "$@"; }
  inside apt-get -qq update
  inside apt-get -qq -y -o DPkg::Options::=--force-unsafe-io install --no-install-recommends \
    docker.io ca-certificates
  umount "$new/proc"
  rm -rf "$new"/var/cache/apt/*.bin "$new"/var/cache/apt/archives/*.deb "$new"/var/lib/apt/lists/* \
    "$new"/usr/share/doc/* "$new"/usr/share/locale/*

  cp "$recipe" "$new/recipe"
  if [ -e "$root" ]; then mv "$root" "$root.old"; fi
  mv "$new" "$root"
  rm -rf --one-file-system "$root.old"
}

case ${2-} in
  '')
    if complete; then exit 0; fi
    mkdir -p "$(dirname "$root")"
    exec flock --no-fork "$root.lock" unshare --mount --propagation private sh "$recipe" "$root" locked
    ;;
  locked) complete || make_root ;;
esac
