import type { Build, BuildRef } from '../../core/build.ts'
import type { LatestPolicy } from '../../core/settings.ts'
import { isMergeQueue, isPushed, refTitle } from '../../core/validate.ts'
import type { ImageNames } from '../../registry/registry.ts'
import type { TagMove } from '../../store/build-store.ts'

/**
 * The docker tags that a build wants besides its sha: one per ref that people push and per pull request, and `latest`
 * once per such push, the newest first.
 */
export function wantedTags(
  build: Pick<Build, 'refs' | 'defaultBranch' | 'pushOrder'>,
  latest: LatestPolicy,
  names: ImageNames,
): TagMove[] {
  const { refs, pushOrder, defaultBranch } = build
  const moves = refs.filter((ref) => !isMergeQueue(ref)).map((ref) => ownMove(ref, names))
  const pushed = refs.filter(isPushed)
  const isNewest = ({ sequence }: BuildRef) => Number(sequence === pushOrder)
  const leading =
    latest === 'always'
      ? pushed.toSorted((a, b) => isNewest(b) - isNewest(a) || b.sequence - a.sequence)
      : pushed.filter(({ kind, name }) => kind === 'branch' && name === defaultBranch)
  for (const ref of leading) {
    const shared = { ref: { kind: ref.kind, name: ref.name }, as: names.tag(ref) }
    moves.push({ tag: 'latest', sequence: ref.sequence, shared })
  }
  // Somebody asked for the commit alone; pull requests and merge queues, which it may be built for as well, move no `latest`.
  if (latest === 'always' && pushed.length === 0 && pushOrder > 0) {
    moves.push({ tag: 'latest', sequence: pushOrder, shared: true })
  }
  return moves
}

function ownMove(ref: BuildRef, names: ImageNames): TagMove {
  const { kind, name, sequence } = ref
  const tag = names.tag(ref)
  const others = [names.tag(ref, 1), names.tag(ref, 2)].filter((other) => other !== tag)
  return { tag, sequence, owner: { ref: { kind, name }, others: [...new Set(others)] } }
}

/** A line for each wanted tag that did not move, or moved under another name, saying why. */
export function tagNotes(wanted: TagMove[], moved: string[]): string[] {
  const notes = wanted.flatMap(({ tag, owner }) => {
    if (!owner || moved.includes(tag)) return []
    const instead = owner.others.find((other) => moved.includes(other))
    if (instead === undefined) return [stays(tag)]
    return [`tag ${tag} already belongs to another ref; the ${refTitle(owner.ref)} gets ${instead}`]
  })
  if (wanted.some(({ tag }) => tag === 'latest') && !moved.includes('latest')) notes.push(stays('latest'))
  return notes
}

function stays(tag: string): string {
  return `tag ${tag} is not moved: it already points at a newer push`
}
