import type { Build, BuildRef } from '../../core/build.ts'
import type { LatestPolicy } from '../../core/settings.ts'
import { isMergeQueue } from '../../core/validate.ts'
import type { ImageNames, Registry } from '../../registry/registry.ts'
import type { BuildStore, Settle, TagMove } from '../../store/build-store.ts'

/**
 * The docker tags that a build wants besides its sha: one a ref that people push, and `latest` by the order of
 * those pushes, the newest first.
 */
export function wantedTags(
  build: Pick<Build, 'refs' | 'defaultBranch' | 'pushOrder'>,
  latest: LatestPolicy,
  names: ImageNames,
): TagMove[] {
  const { refs, pushOrder, defaultBranch } = build
  const pushed = refs.filter((ref) => !isMergeQueue(ref))
  const moves = pushed.map((ref) => ownMove(ref, names))
  const isNewest = ({ sequence }: BuildRef) => Number(sequence === pushOrder)
  const leading =
    latest === 'always'
      ? pushed.toSorted((a, b) => isNewest(b) - isNewest(a) || b.sequence - a.sequence)
      : pushed.filter(({ kind, name }) => kind === 'branch' && name === defaultBranch)
  for (const ref of leading) {
    const shared = { ref: { kind: ref.kind, name: ref.name }, as: names.tag(ref) }
    moves.push({ tag: 'latest', sequence: ref.sequence, shared })
  }
  if (latest === 'always' && refs.length === 0 && pushOrder > 0) {
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

/**
 * Points the wanted tags at an image that is in the registry already: one manifest, PUT once a tag, side
 * by side. Tags that point at a newer push stay there.
 * @returns the tags that now point at the image
 * @throws ConveyorError of the registry
 */
export async function publishTags(
  parts: { store: BuildStore; registry: Registry },
  imageName: string,
  digest: string,
  moves: TagMove[],
  settle: Settle,
  signal?: AbortSignal,
): Promise<string[]> {
  const { store, registry } = parts
  const manifest = await registry.manifest(imageName, digest, signal)
  const put = (tag: string) => registry.putManifest(imageName, tag, manifest, signal)
  return store.moveTags(imageName, moves, put, settle)
}

/** What became of the tags that a build wanted, one line each that says why a tag did not move as it is called. */
export function tagNotes(wanted: TagMove[], moved: string[]): string[] {
  const notes = wanted.flatMap(({ tag, owner }) => {
    if (!owner || moved.includes(tag)) return []
    const instead = owner.others.find((other) => moved.includes(other))
    if (instead === undefined) return [stays(tag)]
    const { kind, name } = owner.ref
    const called = kind === 'tag' ? 'git tag' : 'branch'
    return [`tag ${tag} is another ref's, which had it first: the ${called} ${name} gets ${instead}`]
  })
  if (wanted.some(({ tag }) => tag === 'latest') && !moved.includes('latest')) notes.push(stays('latest'))
  return notes
}

function stays(tag: string): string {
  return `tag ${tag} stays where it is: it points at a newer push`
}
