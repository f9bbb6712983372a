import { BASE, type Bytes, type Entry, type History, RUN, same, type Tree } from './model.ts'

/**
 * A shell script that makes the commits of a history in a new repository, and builds each from a fresh checkout
 * with docker: what Conveyor's images are compared with.
 */
export function script({ commits }: History): string {
  const steps = commits.flatMap((tree, index) =>
    commitSteps(tree, commits[index - 1] ?? new Map(), index + 1),
  )
  return `#!/bin/bash
# Needs git and docker with BuildKit. Conveyor is given the same commits, pushed one after the other.
set -eu
export DOCKER_BUILDKIT=1
base=debian:stable-slim run=$(date +%s%N) # the second keeps every layer and cache mount of another run away
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
${steps.join('\n')}
`
}

function commitSteps(tree: Tree, before: Tree, number: number): string[] {
  const gone = [...before.keys()].filter((path) => !tree.has(path))
  const changed = [...tree].filter(([path, entry]) => !same(entry, before.get(path)))
  return [
    `\n# commit ${number}`,
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

/** A word of bash. */
function quoted(text: Bytes): string {
  if (/^[\w./-]+$/.test(text)) return text
  if (/^[\n\x20-\x7e]*$/.test(text)) return `'${text.replaceAll("'", `'\\''`)}'`
  const escaped = text.replace(
    /[^\x20-\x7e]|[\\']/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
  return `$'${escaped}'`
}
