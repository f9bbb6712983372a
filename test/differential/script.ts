import {
  BASE,
  type BaseVersion,
  type Bytes,
  type Commit,
  type Entry,
  type History,
  RUN,
  same,
} from './generate/model.ts'

/**
 * A shell script that creates the commits of a history in a new repository, and builds each with docker from a fresh
 * checkout. Conveyor's images are compared with the results.
 */
export function script({ commits }: History): string {
  const steps = commits.flatMap((commit, index) => commitSteps(commit, commits[index - 1], index + 1))
  return `#!/bin/bash
# Needs git and docker with BuildKit. Conveyor is given the same commits, pushed one after the other.
set -eu
export DOCKER_BUILDKIT=1
run=$(date +%s%N) # keeps every layer and cache mount of another run away
base=differential-base:$run
umask 022
work=$(mktemp -d)
git init -q "$work/repository"
cd "$work/repository"
git config user.name test
git config user.email test@example.com
git config core.autocrlf false
# put PATH MODE: a blob as it is on standard input, whatever .gitattributes say
put() { git update-index --add --cacheinfo "$2,$(git hash-object -w --stdin),$1"; }
commit() {
  git commit -q --allow-empty -m "$1"
  git clone -q . "$work/$1"
  rm -rf "$work/$1/.git"
  docker build --tag "case:$1" "$work/$1" || echo "commit $1 does not build"
}
# base VERSION: what the base image is from now on
base() { printf 'FROM debian:stable-slim\\nRUN echo base %s >/etc/base\\n' "$1" | docker build -q --tag "$base" -; }
${steps.join('\n')}
`
}

function commitSteps({ tree, base, pruned }: Commit, last: Commit | undefined, number: number): string[] {
  const before = last?.tree ?? new Map<Bytes, Entry>()
  const moved: BaseVersion | null = base === last?.base ? null : base
  const gone = [...before.keys()].filter((path) => !tree.has(path))
  const changed = [...tree].filter(([path, entry]) => !same(entry, before.get(path)))
  return [
    `\n# commit ${number}`,
    ...(moved ? [`base ${moved}`] : []),
    ...(pruned ? ['docker builder prune --all --force'] : []),
    ...gone.map((path) => `git update-index --force-remove ${quoted(path)}`),
    ...changed.map(([path, entry]) => put(path, entry)),
    `commit ${number}`,
  ]
}

function put(path: Bytes, entry: Entry): string {
  const [mode, content] =
    entry.kind === 'link' ? ['120000', entry.target] : [entry.executable ? '100755' : '100644', entry.content]
  const long = /^(.{2,12}?)\1{20,}(.*)$/s.exec(content)
  const printed = long
    ? `{ printf ${quoted(`${long[1]}%.0s`)} $(seq ${(content.length - (long[2] ?? '').length) / (long[1] ?? '').length}); printf %s ${quoted(long[2] ?? '')}; }`
    : content.includes('\0')
      ? `base64 -d <<<${Buffer.from(content, 'latin1').toString('base64')}`
      : `printf %s ${quoted(content)}`
  const filled =
    content.includes(BASE) || content.includes(RUN) ? ` | sed "s|${BASE}|$base|; s|${RUN}|$run|g"` : ''
  return `${printed}${filled} | put ${quoted(path)} ${mode}`
}

/** A quoted word of bash. */
function quoted(text: Bytes): string {
  if (/^[\w./-]+$/.test(text)) return text
  if (/^[\n\x20-\x7e]*$/.test(text)) return `'${text.replaceAll("'", `'\\''`)}'`
  const escaped = text.replace(
    /[^\x20-\x7e]|[\\']/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
  return `$'${escaped}'`
}
