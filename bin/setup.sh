#!/usr/bin/env bash
# Prepares this machine for the demo; with `bin/setup.sh test`, also for the tests and the benchmarks; with
# `bin/setup.sh node`, only to build and run Conveyor. Returns quickly if everything is in place.
#
# 1. Node packages in node_modules, if package-lock.json is newer.
# 2. Debian packages, on Debian as root, and only if no Docker engine answers: on a machine with its own Docker, it
#    only lists what is missing.
# 3. For the tests, once: Docker Compose if the machine has none; a newer Docker engine and a buildkitd, which need
#    root and debootstrap. All of them go to .conveyor.
#
# It installs but starts nothing: tests and demo start a private engine themselves if none answers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
log=.conveyor/setup.log

case $* in
  node | '') for_tests=false ;;
  test) for_tests=true ;;
  *)
    echo 'usage: bin/setup.sh [node|test]' >&2
    exit 2
    ;;
esac

say() { printf 'setup: %s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command with its output in the log, and shows the end of the log if it fails.
quietly() {
  mkdir -p .conveyor
  if ! "$@" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    say "\`$*\` failed; its full output is in $log"
    exit 1
  fi
}

install_node_packages() {
  if ! have npm; then
    say 'npm is missing. Install Node.js 20 or newer with npm first: https://nodejs.org'
    exit 1
  fi
  # npm writes this file last, so an interrupted installation does not count.
  local stamp=node_modules/.package-lock.json
  if [ "$stamp" -nt package-lock.json ]; then return; fi
  # Not `npm ci`: it rejects a lock file that lacks the optional packages of other platforms, which a registry
  # that mirrors only some platforms leads to. `npm install` uses the locked versions, too.
  say 'installing Node packages'
  quietly npm install --no-save --no-audit --no-fund
  touch "$stamp"
}

# Uses the same code as the tests and the demo to look for an engine.
engine_answers() {
  local status=0
  node_modules/.bin/node test/support/engines/has-engine.ts || status=$?
  case $status in
    0) return 0 ;;
    3) return 1 ;;
    *) exit 1 ;; # it has printed why
  esac
}

# Debian packages that are always needed: git, a registry, and the contents of base images; for the tests, a database
# server, SSH keys, the init of Conveyor's image, a browser with a font, and GitHub's renderer of Markdown.
missing_tools() {
  have git && [ -x "$(git --exec-path)/git-http-backend" ] || echo git
  have docker-registry || echo docker-registry
  have busybox || echo busybox-static
  have openssl || echo openssl
  if $for_tests; then
    have_postgres || echo postgresql
    have ssh-keygen || echo openssh-client
    have git-lfs || echo git-lfs
    have tini || echo tini
    have chromium || echo chromium fonts-dejavu-core
    have cmark-gfm || echo cmark-gfm
  fi
}

# Debian keeps the server programs of each version outside the PATH.
have_postgres() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# Debian packages for private engines.
missing_engine() {
  have dockerd || echo docker.io
  have ip || echo iproute2
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  if $for_tests; then have debootstrap || echo debootstrap; fi
}

apt_install() {
  local made=()
  # Packages start their services on installation. Prevent that: without an init system they would be orphans, and
  # with one, a registry would listen on port 5000 for everyone.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    made+=("$policy")
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  # Do not create a default database cluster either.
  local clusters=/etc/postgresql-common/createcluster.d/conveyor.conf
  made+=("$clusters")
  mkdir -p "$(dirname "$clusters")"
  echo 'create_main_cluster = false' >"$clusters"
  # shellcheck disable=SC2064 # expand the names now
  trap "rm -f ${made[*]}" EXIT

  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get -qq -o DPkg::Lock::Timeout=300 update
  quietly apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
  case " $* " in
    *' docker-registry '*) if have systemctl; then quietly systemctl disable docker-registry; fi ;;
  esac
}

# The Docker engine and the BuildKit of the tests that this Debian does not package.
make_newer_engine() {
  if [ "$(id -u)" -ne 0 ] || ! have debootstrap; then
    say 'tests with the newer Docker engine and with buildkitd will fail: they need root and debootstrap'
    return
  fi
  local engine=.conveyor/trixie buildkitd=.conveyor/buildkitd
  # A copy of the recipe shows which one it was built from.
  if ! cmp -s test/support/trixie-root.sh "$engine/recipe"; then
    say 'building a newer Docker engine for the tests, once (about a minute)'
    quietly test/support/trixie-root.sh "$PWD/$engine"
  fi
  if ! cmp -s test/support/engines/buildkitd-make.sh "$buildkitd/recipe"; then
    say 'compiling a buildkitd for the tests, once (about five minutes)'
    quietly test/support/engines/buildkitd-make.sh "$PWD/$engine" "$PWD/$buildkitd"
  fi
}

install_packages() {
  local tools engine wanted
  tools=$(missing_tools | xargs)
  engine=$(missing_engine | xargs)
  if [ -z "$tools$engine" ]; then return; fi

  # On a machine with its own engine, packages for private engines are not needed.
  if engine_answers; then
    if [ -z "$tools" ]; then return; fi
    say "this machine has its own Docker, so nothing is installed automatically. Missing for tests and demo: $tools"
    say "on Debian or Ubuntu, run: apt-get install --no-install-recommends $tools"
    exit 1
  fi

  wanted=$(echo "$tools $engine" | xargs)
  if [ "$(id -u)" -ne 0 ] || ! have apt-get; then
    say "no Docker engine answers at ${DOCKER_HOST:-/var/run/docker.sock}: start one, or set DOCKER_HOST"
    say "or run this as root on Debian, where it installs: $wanted"
    exit 1
  fi
  say "installing Debian packages: $wanted"
  # shellcheck disable=SC2086 # a list of package names
  apt_install $wanted
}

install_node_packages
if [ "$*" = node ]; then exit; fi
install_packages
if $for_tests; then
  quietly bin/docker-compose.sh version # downloads it if needed
  make_newer_engine
fi
