import { readBytes } from './bytes.ts'
import { MovedError } from './conditions.ts'
import type { KeptBytes } from './kept-bytes.ts'
import { type Layout, layoutOf, leftovers } from './layout.ts'
import type { LogObjects } from './objects.ts'

/** Part size of multipart uploads, the smallest that S3 accepts; two parts are in memory at once. */
const PART = 5 * 1024 * 1024

/**
 * Ends a log: combines everything that is stored of it into its text, and deletes the segments. Safe against concurrent
 * and interrupted compactions: a text only replaces the one that it was made from, and segments are deleted only once
 * their bytes are in it. An ended log over 5 GiB cannot be continued.
 */
export async function compact(objects: LogObjects, buildId: string, kept: KeptBytes): Promise<void> {
  for (;;) {
    const listing = await objects.list(buildId)
    const layout = layoutOf(listing)
    const complete = layout.text !== null && layout.segments.length === 0
    if (complete || (await unlessMoved(() => putText(objects, buildId, layout, kept)))) {
      // Only segments from before this text: newer ones belong to others.
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
    // The first error counts. Remaining parts are invisible, and the bucket's lifecycle removes them.
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
