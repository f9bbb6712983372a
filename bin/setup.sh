#!/usr/bin/env bash
# Makes this machine ready for the demo, or with `bin/setup.sh test` also for the tests and the benchmark; with
# `bin/setup.sh node`, to build and run Conveyor and no more. Does nothing, quickly, when it is already.
#
# 1. Node packages into node_modules, when package-lock.json is newer than what is there.
# 2. Debian packages, on Debian as root, and only where no Docker Engine answers: a machine with its own
#    Docker belongs to somebody, so there it only says what is missing.
# 3. For the tests, once: Docker Compose where the machine has none; a newer Docker Engine and a buildkitd, which need
#    root and debootstrap. All of them in .conveyor.
#
# It installs, but starts nothing: tests and demo start a private engine themselves where none answers.
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

# Runs a command with its output in the log; shows the end of that when it fails.
quietly() {
  mkdir -p .conveyor
  if ! "$@" >"$log" 2>&1; then
    tail -n 60 "$log" >&2
    say "\`$*\` failed; all of its output is in $log"
    exit 1
  fi
}

install_node_packages() {
  if ! have npm; then
    say 'npm is missing. Install Node.js 20 or newer with npm first: https://nodejs.org'
    exit 1
  fi
  # npm writes this file last, so an interrupted installation counts as none.
  local stamp=node_modules/.package-lock.json
  if [ "$stamp" -nt package-lock.json ]; then return; fi
  # Not `npm ci`: it refuses a lock file without the optional packages of every other platform, and a
  # registry that mirrors only some platforms leads to such a lock file. The versions are the lock's here too.
  say 'installing Node packages'
  quietly npm install --no-save --no-audit --no-fund
  touch "$stamp"
}

# The same question, asked by the same code, as when tests and demo look for an engine.
engine_answers() {
  local status=0
  node_modules/.bin/node --input-type=module -e \
    'import { findEngine } from "./test/support/engines/engine.ts"; process.exitCode = (await findEngine()) ? 0 : 3' ||
    status=$?
  case $status in
    0) return 0 ;;
    3) return 1 ;;
    *) exit 1 ;; # it has said why
  esac
}

# Debian packages that are needed everywhere: real git, registry and base images; for the tests, a database
# server, ssh keys and the init of our image.
missing_tools() {
  have git && [ -x "$(git --exec-path)/git-http-backend" ] || echo git
  have docker-registry || echo docker-registry
  have busybox || echo busybox-static
  have openssl || echo openssl
  if $for_tests; then
    have_postgres || echo postgresql
    have ssh-keygen || echo openssh-client
    have tini || echo tini
  fi
}

# Debian keeps the servers of each version beside the PATH.
have_postgres() { have initdb || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# Debian packages of private engines.
missing_engine() {
  have dockerd || echo docker.io
  have ip || echo iproute2
  [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
  if $for_tests; then have debootstrap || echo debootstrap; fi
}

apt_install() {
  local made=()
  # Packages start their services when installed. Not here: not on a machine without an init system, where
  # they would be orphans, nor a registry for everybody on port 5000 where there is one.
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    made+=("$policy")
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  # Nor is a database made for everybody.
  local clusters=/etc/postgresql-common/createcluster.d/conveyor.conf
  made+=("$clusters")
  mkdir -p "$(dirname "$clusters")"
  echo 'create_main_cluster = false' >"$clusters"
  # shellcheck disable=SC2064 # the names of now
  trap "rm -f ${made[*]}" EXIT

  export DEBIAN_FRONTEND=noninteractive
  quietly apt-get -qq -o DPkg::Lock::Timeout=300 update
  quietly apt-get -qq -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "$@"
  case " $* " in
    *' docker-registry '*) if have systemctl; then quietly systemctl disable docker-registry; fi ;;
  esac
}

# The engine and the BuildKit of the tests that are not this Debian's.
make_newer_engine() {
  if [ "$(id -u)" -ne 0 ] || ! have debootstrap; then
    say 'tests of the newer Docker Engine and of buildkitd will fail: they need root, and debootstrap installed'
    return
  fi
  local engine=.conveyor/trixie buildkitd=.conveyor/buildkitd
  # A copy of the recipe says by which one it was made.
  if ! cmp -s test/support/trixie-root.sh "$engine/recipe"; then
    say 'making a newer Docker Engine for the tests, once (about a minute)'
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

  # What is for private engines alone is no reason to touch a machine that has its own.
  if engine_answers; then
    if [ -z "$tools" ]; then return; fi
    say "Docker answers here, so nothing is installed for you. Missing for tests and demo: $tools"
    say "On Debian or Ubuntu: apt-get install --no-install-recommends $tools"
    exit 1
  fi

  wanted=$(echo "$tools $engine" | xargs)
  if [ "$(id -u)" -ne 0 ] || ! have apt-get; then
    say "no Docker Engine answers at ${DOCKER_HOST:-/var/run/docker.sock}: start one, or set DOCKER_HOST"
    say "or let this install one: run it as root on Debian, where it would install: $wanted"
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
  quietly bin/docker-compose.sh version # fetches it
  make_newer_engine
fi
