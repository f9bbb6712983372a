import {
  BASE,
  type BaseVersion,
  type Bytes,
  type Commit,
  type Entry,
  FOLDER,
  type History,
  LFS_OBJECTS,
  MODULES,
  NAME,
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
# Needs git, git-lfs and docker with BuildKit. Conveyor is given the same commits, pushed one after the other.
set -eu
export DOCKER_BUILDKIT=1
run=$(date +%s%N) # keeps every layer and cache mount of another run away
base=differential-base:$run
umask 022
folder=$(mktemp -d)
name=repository
work=$folder/differential
mkdir "$work"
export GIT_CONFIG_COUNT=4 GIT_CONFIG_KEY_3=lfs.setlockablereadonly GIT_CONFIG_VALUE_3=false
export GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always
export GIT_CONFIG_KEY_1=filter.lfs.smudge GIT_CONFIG_VALUE_1='git-lfs smudge -- %f'
export GIT_CONFIG_KEY_2=filter.lfs.required GIT_CONFIG_VALUE_2=true
export GIT_AUTHOR_NAME='Ada Example' GIT_AUTHOR_EMAIL=ada@example.com GIT_AUTHOR_DATE='1704067200 +0000'
export GIT_COMMITTER_NAME='Ada Example' GIT_COMMITTER_EMAIL=ada@example.com GIT_COMMITTER_DATE='1704067200 +0000'
for one in${['', ...MODULES.map((one) => `-${one}`)].map((one) => ` repository${one}.git`).join('')}; do
  git init -q --bare -b main "$work/$one"
  git -C "$work/$one" config uploadpack.allowAnySHA1InWant true
  ln -s "$one" "$work/\${one%.git}"
done
# object: one in Git LFS on standard input, for all repositories
object() {
  local file oid one
  file=$(mktemp); cat >"$file"; oid=$(sha256sum "$file" | cut -c1-64)
  for one in "$work"/*.git; do
    mkdir -p "$one/lfs/objects/\${oid:0:2}/\${oid:2:2}"; cp "$file" "$one/lfs/objects/\${oid:0:2}/\${oid:2:2}/$oid"
  done
}
${LFS_OBJECTS.map((one) => `${printed(one)} | object`).join('\n')}
cd "$work/repository.git"
# put PATH MODE: a blob as it is on standard input, whatever .gitattributes say
put() { git update-index --add --cacheinfo "$2,$(git hash-object -w --stdin),$1"; }
empty=$(mktemp -d)
gone() { git --git-dir=. --work-tree="$empty" update-index --force-remove -- "$1"; }
# module NAME: begins a commit of a submodule; pinned: ends it
module() { cd "$work/repository-$1.git"; GIT_INDEX_FILE=$(mktemp -u); export GIT_INDEX_FILE; }
pinned() {
  git update-ref refs/heads/main "$(printf module | git commit-tree "$(git write-tree)")"
  git rev-parse refs/heads/main
}
commit() {
  local parent
  parent=$(git rev-parse -q --verify refs/heads/main || true)
  git update-ref refs/heads/main "$(printf %s "$1" | git commit-tree \${parent:+-p "$parent"} "$(git write-tree)")"
  git clone -q --recurse-submodules "file://$work/repository.git" "$work/$1" ||
    { echo "commit $1 cannot be cloned"; return 0; }
  find "$work/$1" -name .git -prune -exec rm -rf {} +
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
    ...gone.map((path) => `gone ${quoted(path)}`),
    ...changed.flatMap(([path, entry]) => put(path, entry)),
    `commit ${number}`,
  ]
}

function put(path: Bytes, entry: Entry): string[] {
  if (entry.kind === 'submodule') {
    return [...submodule(entry), `git update-index --add --cacheinfo 160000,"$made",${quoted(path)}`]
  }
  const [mode, content] =
    entry.kind === 'link' ? ['120000', entry.target] : [entry.executable ? '100755' : '100644', entry.content]
  const words: [string, string][] = [
    [BASE, 'base'],
    [RUN, 'run'],
    [NAME, 'name'],
    [FOLDER, 'folder'],
  ]
  const used = words.filter(([word]) => content.includes(word))
  const values = used.map(([word, variable]) => `s|${word}|$${variable}|g`).join('; ')
  return [`${printed(content)}${used.length > 0 ? ` | sed "${values}"` : ''} | put ${quoted(path)} ${mode}`]
}

/** Commits a tree to the repository of a module, and leaves the commit in `$made`. */
function submodule({ module, tree }: Entry & { kind: 'submodule' }): string[] {
  return [
    `made=$(module ${module}`,
    ...[...tree].flatMap(([path, entry]) => put(path, entry)).map((line) => `  ${line}`),
    'pinned)',
  ]
}

function printed(content: Bytes): string {
  const long = /^(.{2,12}?)\1{20,}(.*)$/s.exec(content)
  return long
    ? `{ printf ${quoted(`${long[1]}%.0s`)} $(seq ${(content.length - (long[2] ?? '').length) / (long[1] ?? '').length}); printf %s ${quoted(long[2] ?? '')}; }`
    : content.includes('\0')
      ? `base64 -d <<<${Buffer.from(content, 'latin1').toString('base64')}`
      : `printf %s ${quoted(content)}`
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
