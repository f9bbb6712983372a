import type { ImageNames, Registry } from '../registry/registry.ts'
import type { BuildStore, TagMove } from '../store/build-store.ts'
import type { Build } from './build.ts'

/** Which builds move `latest`: every one, or only those of the repository's default branch. */
export type LatestPolicy = 'always' | 'default-branch'

/**
 * The docker tags that a build wants besides its sha: one a ref, and `latest`. Two refs that share a tag
 * want it once, at the newer push.
 */
export function wantedTags(build: Build, latest: LatestPolicy, names: ImageNames): TagMove[] {
  const moves = build.refs.map((ref) => ({ tag: names.tag(ref), sequence: ref.sequence }))
  if (latest === 'always') moves.push({ tag: 'latest', sequence: build.pushOrder })
  else {
    const own = build.refs.find((ref) => ref.kind === 'branch' && ref.name === build.defaultBranch)
    if (own) moves.push({ tag: 'latest', sequence: own.sequence })
  }
  const newest = new Map<string, TagMove>()
  for (const move of moves) {
    const other = newest.get(move.tag)
    if (!other || other.sequence < move.sequence) newest.set(move.tag, move)
  }
  return [...newest.values()]
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
  signal?: AbortSignal,
): Promise<string[]> {
  const { store, registry } = parts
  const manifest = await registry.manifest(imageName, digest, signal)
  return store.moveTags(imageName, moves, (tag) => registry.putManifest(imageName, tag, manifest, signal))
}
