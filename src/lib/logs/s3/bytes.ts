import { mapConcurrently } from '../../util/collections/map-concurrently.ts'
import { MovedError } from './conditions.ts'
import { type Layout, rangesOf } from './layout.ts'
import type { LogObjects } from './objects.ts'

/** How many requests one read sends at once: a log of many small segments takes many. */
const PARALLEL = 16

/**
 * The bytes of a log from `position` up to `position + length`, from the objects of its layout.
 * @throws MovedError if they have moved to other objects
 */
export async function readBytes(
  objects: LogObjects,
  buildId: string,
  layout: Layout,
  position: number,
  length: number,
): Promise<Buffer> {
  const ranges = rangesOf(layout, position, length)
  const found = ranges.reduce((sum, range) => sum + range.length, 0)
  if (found < length) throw new MovedError(`${found} of ${length} bytes found at ${position}`)
  const [first] = ranges
  if (ranges.length === 1 && first) return objects.read(buildId, first)
  const bytes = Buffer.allocUnsafe(length)
  await mapConcurrently(ranges, PARALLEL, async (range) => {
    bytes.set(await objects.read(buildId, range), range.position - position)
  })
  return bytes
}
