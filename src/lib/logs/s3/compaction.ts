import { readBytes } from './bytes.ts'
import { MovedError } from './conditions.ts'
import type { KeptBytes } from './kept-bytes.ts'
import { type Layout, layoutOf, leftovers } from './layout.ts'
import type { LogObjects } from './objects.ts'

/** The size of the parts of a large text, the smallest that S3 takes; two of them are in memory. */
const PART = 5 * 1024 * 1024

/**
 * Makes the text of everything that is stored of a log, and removes the segments: the log has ended. Whoever does
 * this at the same time, or has done it and died half-way, is no hindrance: a text replaces only the one that it
 * was made from, and segments go only after their bytes are in it. A log over 5 GiB that has ended cannot go on.
 */
export async function compact(objects: LogObjects, buildId: string, kept: KeptBytes): Promise<void> {
  for (;;) {
    const listing = await objects.list(buildId)
    const layout = layoutOf(listing)
    const complete = layout.text !== null && layout.segments.length === 0
    if (complete || (await unlessMoved(() => putText(objects, buildId, layout, kept)))) {
      // Only what was there before the text: what others have made since is for them.
      return objects.remove(buildId, leftovers(listing, layout.size))
    }
  }
}

async function putText(
  objects: LogObjects,
  buildId: string,
  layout: Layout,
  kept: KeptBytes,
): Promise<boolean> {
  const { text, size } = layout
  const all = kept.all(size)
  if (all) return objects.putText(buildId, all, text)
  const bytesFrom = (position: number) =>
    readBytes(objects, buildId, layout, position, Math.min(PART, size - position))
  if (size <= PART) return objects.putText(buildId, await bytesFrom(0), text)

  const upload = await objects.startText(buildId)
  let stored = false
  try {
    let position = 0
    if (text && text.size >= PART) {
      await upload.copy(text)
      position = text.size
    }
    for (let bytes: Uint8Array | null = await bytesFrom(position); bytes; ) {
      position += bytes.length
      const next: Promise<Uint8Array> | null = position < size ? bytesFrom(position) : null
      ;[bytes] = await Promise.all([next, upload.part(bytes)])
    }
    stored = await upload.complete(text)
    return stored
  } finally {
    // What it failed of is what counts. Parts that stay cannot be seen; the bucket's lifecycle removes them.
    if (!stored) await upload.abort().catch(() => {})
  }
}

async function unlessMoved(work: () => Promise<boolean>): Promise<boolean> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof MovedError) return false
    throw error
  }
}
