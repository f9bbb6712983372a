import type { Ref } from './build.ts'
import { ConveyorError } from './errors.ts'

/**
 * Checks of external input that later reaches git, a path or a registry. Each returns the valid value, or throws a
 * ConveyorError `invalid` saying what is accepted.
 */

const OWNER = /^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/
const NAME = /^[A-Za-z0-9._-]{1,100}$/

/** `owner/name`: GitHub's own alphabet, so no value can escape a folder or be taken for an option. */
export function validRepository(value: unknown): string {
  const [owner, name, ...rest] = typeof value === 'string' ? value.split('/') : []
  const ok =
    owner !== undefined && name !== undefined && rest.length === 0 && OWNER.test(owner) && NAME.test(name)
  if (!ok || name === '.' || name === '..' || name.endsWith('.git')) {
    throw new ConveyorError('invalid', `repository ${show(value)} is not of the form owner/name`)
  }
  return `${owner}/${name}`
}

/** A full commit id, lower-cased. */
export function validSha(value: unknown): string {
  if (typeof value !== 'string' || !/^([0-9a-f]{40}|[0-9a-f]{64})$/i.test(value)) {
    throw new ConveyorError('invalid', `sha ${show(value)} is not a full commit id`, {
      hint: 'Give all 40 hexadecimal digits, as `git rev-parse HEAD` prints them',
    })
  }
  return value.toLowerCase()
}

/**
 * The part of a ref after `refs/heads/` or `refs/tags/`, by the rules of git-check-ref-format(1) for the whole ref:
 * `-x` and `@` can be pushed, though `git branch` refuses to create the former. So it must never be an argument of git
 * without `refs/heads/` in front.
 */
export function validRefName(value: unknown): string {
  const bad =
    typeof value !== 'string' ||
    value.length === 0 ||
    value.length > 255 ||
    // biome-ignore lint/suspicious/noControlCharactersInRegex: git forbids exactly these
    /[\x00-\x20\x7f~^:?*[\\]|\.\.|@\{|\/\/|^\/|\/$|\.$/.test(value) ||
    value.split('/').some((part) => part.startsWith('.') || part.endsWith('.lock'))
  if (bad) throw new ConveyorError('invalid', `${show(value)} is not a valid branch or tag name`)
  return value
}

/** `refs/heads/x` or `refs/tags/x` as a Ref, null for any other ref. */
export function parseRef(full: string): Ref | null {
  const match = /^refs\/(heads|tags)\/(.+)$/s.exec(full)
  if (!match?.[2]) return null
  return { kind: match[1] === 'heads' ? 'branch' : 'tag', name: validRefName(match[2]) }
}

/** Whether the branch belongs to GitHub's merge queue: its commit may or may not be merged in the end. */
export function isMergeQueue({ kind, name }: Ref): boolean {
  return kind === 'branch' && name.startsWith('gh-readonly-queue/')
}

/** Whether people push the ref itself: merge queues and pull requests follow other pushes, and never move `latest`. */
export function isPushed(ref: Ref): boolean {
  return ref.kind !== 'pull' && !isMergeQueue(ref)
}

/** The whole name of a ref in the repository. */
export function fullRef({ kind, name }: Ref): string {
  if (kind === 'pull') return `refs/pull/${name}/head`
  return `refs/${kind === 'branch' ? 'heads' : 'tags'}/${name}`
}

/** How people call a ref: `branch main`, `git tag v1`, `pull request #7`. */
export function refTitle({ kind, name }: Ref): string {
  if (kind === 'pull') return `pull request #${name}`
  return `${kind === 'tag' ? 'git tag' : 'branch'} ${name}`
}

/** A ref where there is little room: `main`, `v1`, `#7`; and `queue #7`, since the branches of merge queues are long. */
export function refLabel(ref: Pick<Ref, 'kind' | 'name'>): string {
  if (ref.kind === 'pull') return `#${ref.name}`
  const [, pull] = isMergeQueue(ref) ? (/\/pr-(\d+)-[0-9a-f]+$/.exec(ref.name) ?? []) : []
  return pull === undefined ? ref.name : `queue #${pull}`
}

/** All refs of a build as one label: `topic #7`, `main +2`. */
export function refsLabel(refs: readonly Pick<Ref, 'kind' | 'name'>[]): string {
  const [first, second] = refs
  if (first === undefined) return ''
  if (second?.kind === 'pull' && refs.length === 2) return `${refLabel(first)} ${refLabel(second)}`
  return refs.length > 1 ? `${refLabel(first)} +${refs.length - 1}` : refLabel(first)
}

function show(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value))
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}...` : text)
}
