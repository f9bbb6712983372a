#!/bin/sh
# Makes a standalone buildkitd, and its client buildctl. Debian has no package of them: they are compiled from
# the sources in trixie's golang-github-docker-docker-dev, the same as in its Docker 26.1. Needs root and what
# trixie-root.sh made.
# Does nothing, at once, when this very recipe has made what is there. Usage: buildkitd-make.sh TRIXIE FOLDER
#
# The compiler and its libraries (3.5 GB) are laid over TRIXIE, in a folder that is removed again. As with
# trixie-root.sh: renamed when complete, made once by two runs at the same time, and no mount outlives it.
set -eu
trixie=$1
folder=$2
recipe=$0

complete() { cmp -s "$recipe" "$folder/recipe"; }

make_buildkitd() {
  new=$folder.new
  rm -rf --one-file-system "$new"
  mkdir -p "$new/upper/build" "$new/work" "$new/root"
  mount -t overlay -o "lowerdir=$trixie,upperdir=$new/upper,workdir=$new/work" overlay "$new/root"
  mount -t proc proc "$new/root/proc"
  mount --rbind /dev "$new/root/dev"
  cp "$recipe" "$new/root/build/make.sh"
  chroot "$new/root" sh /build/make.sh / / compile
  mv "$new/upper/build/bin/"* "$new"
  umount -l "$new/root/dev" "$new/root/proc" "$new/root"
  rm -rf --one-file-system "$new/upper" "$new/work" "$new/root"

  cp "$recipe" "$new/recipe"
  rm -rf --one-file-system "$folder"
  mv "$new" "$folder"
}

# Inside. What it imports and trixie has no package of is left out, or stood in for where it is called.
compile() {
  export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/build DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  apt-get -qq -y install --download-only --no-install-recommends golang-go golang-github-docker-docker-dev \
    golang-github-agext-levenshtein-dev golang-github-aws-aws-sdk-go-v2-dev \
    golang-github-containerd-stargz-snapshotter-dev golang-github-containerd-nydus-snapshotter-dev \
    golang-github-coreos-go-systemd-dev golang-github-gofrs-flock-dev golang-github-google-shlex-dev \
    golang-github-mitchellh-hashstructure-v2-dev golang-github-pkg-profile-dev \
    golang-github-spdx-tools-golang-dev golang-github-tonistiigi-vt100-dev
  # Unpacked, not installed: dpkg would wait for the disk at each of 400 packages.
  for package in /var/cache/apt/archives/*.deb; do dpkg-deb --extract "$package" /build/debian; done

  sources=/build/debian/usr/share/gocode/src/github.com
  echo 'module github.com/moby/buildkit' >"$sources/moby/buildkit/go.mod"
  # Caches in GitHub Actions and in Azure.
  sed -i '/remotecache\/gha"/d; /remotecache\/azblob"/d; /"gha": /d; /"azblob": /d' \
    "$sources/moby/buildkit/cmd/buildkitd/main.go"
  # Which generation of amd64 this is: the first will do.
  stand_in tonistiigi/go-archvariant <<'GO'
package archvariant

func AMD64Variant() string { return "v1" }
GO
  # A snapshotter for those who are not root.
  stand_in containerd/fuse-overlayfs-snapshotter <<'GO'
package fuseoverlayfs

import (
	"errors"

	"github.com/containerd/containerd/snapshots"
)

var errAbsent = errors.New("fuse-overlayfs is not built in")

func Supported(string) error                                { return errAbsent }
func NewSnapshotter(string) (snapshots.Snapshotter, error) { return nil, errAbsent }
GO
  # Names of images in provenance. Only source policies read such names again.
  stand_in package-url/packageurl-go <<'GO'
package packageurl

import (
	"errors"
	"net/url"
	"path"
)

const (
	TypeDocker = "docker"
	TypeOCI    = "oci"
)

type Qualifier struct{ Key, Value string }

type PackageURL struct {
	Type, Namespace, Name, Version string
	Qualifiers                     []Qualifier
}

func NewPackageURL(kind, namespace, name, version string, qualifiers []Qualifier, _ string) *PackageURL {
	return &PackageURL{kind, namespace, name, version, qualifiers}
}

func (p *PackageURL) ToString() string {
	query := url.Values{}
	for _, q := range p.Qualifiers {
		query.Set(q.Key, q.Value)
	}
	text := "pkg:" + path.Join(p.Type, p.Namespace, p.Name)
	if p.Version != "" {
		text += "@" + p.Version
	}
	return text + "?" + query.Encode()
}

func FromString(string) (PackageURL, error) {
	return PackageURL{}, errors.New("package URLs are not read by this build")
}
GO
  export GO111MODULE=off GOPATH=/build/debian/usr/share/gocode CGO_ENABLED=0 GOFLAGS= GOCACHE=/build/cache
  GOROOT=$(echo /build/debian/usr/lib/go-1.*)
  export GOROOT
  cd /build
  mkdir bin
  for name in buildkitd buildctl; do
    "$GOROOT/bin/go" build -trimpath -ldflags '-s -w' -o bin/$name github.com/moby/buildkit/cmd/$name
  done
}

stand_in() {
  mkdir -p "$sources/$1"
  cat >"$sources/$1/stand-in.go"
}

case ${3-} in
  '')
    if complete; then exit 0; fi
    mkdir -p "$(dirname "$folder")"
    exec flock --no-fork "$folder.lock" unshare --mount --propagation private sh "$recipe" "$1" "$2" locked
    ;;
  locked) complete || make_buildkitd ;;
  compile) compile ;;
esac
