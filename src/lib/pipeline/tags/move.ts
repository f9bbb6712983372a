import type { Registry } from '../../registry/registry.ts'
import type { BuildStore, Settle, TagMove } from '../../store/build-store.ts'

/**
 * Points tags at an image that the registry already has: one manifest, PUT once per tag, concurrently. Tags that
 * point at a newer push stay there.
 *
 * The one place where the pipeline hands functions to the store: it decides which tags may move and runs the PUTs
 * while it holds the image's lock. Outside of the lock, a PUT for an older push could land after that for a newer one.
 * @param settle decides which of two pushes is newer if they do not say so themselves
 * @returns the tags that point at the image now
 * @throws ConveyorError of the registry
 */
export async function moveTags(
  { store, registry }: { store: Pick<BuildStore, 'moveTags'>; registry: Registry },
  imageName: string,
  digest: string,
  moves: TagMove[],
  settle: Settle,
  signal?: AbortSignal,
): Promise<string[]> {
  const manifest = await registry.manifest(imageName, digest, signal)
  const put = (tag: string) => registry.putManifest(imageName, tag, manifest, signal)
  return store.moveTags(imageName, moves, put, settle)
}
