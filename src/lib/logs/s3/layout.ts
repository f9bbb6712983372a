/**
 * The objects of a log in its bucket. While it is written, it consists of segments, objects named by the offset of their
 * first byte; each starts where the one before it ends:
 *
 *     logs/ID-0000000000000000          1,200 bytes
 *     logs/ID-0000000000001200            350 bytes
 *
 * When it ends, they are combined into one text, and deleted:
 *
 *     logs/ID.txt                       1,550 bytes
 *
 * A log that is reopened after that continues with segments behind the text, and `logs/ID-0000000000001550-open` marks it
 * as open until there is one. The text only grows, and takes precedence over segments at offsets within it. By name the
 * text comes last: a list from any segment on shows everything new, and the end. Lists are strongly consistent:
 * https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel
 */
export interface Listing {
  /** Null until the log has ended for the first time. */
  text: StoredText | null
  segments: Segment[]
  /** Offsets at which the log was reopened. */
  openings: number[]
}

export interface StoredText {
  size: number
  etag: string
}

export interface Segment {
  offset: number
  size: number
}

/** The contents of a log: the text, then the segments, without a gap. */
export interface Layout {
  text: StoredText | null
  segments: Segment[]
  size: number
  ended: boolean
}

/** A byte range of an object. */
export interface ByteRange {
  /** The text, or the offset of a segment. */
  object: 'text' | number
  /** Its first byte, as an offset in the log. */
  position: number
  /** Its first byte, as an offset in the object. */
  start: number
  length: number
}

export const NOTHING: Layout = { text: null, segments: [], size: 0, ended: false }

/** @param before the known layout before the segments of the listing */
export function layoutOf({ text, segments, openings }: Listing, before = NOTHING): Layout {
  const inText = text?.size ?? 0
  const chain = before.segments.filter(({ offset }) => offset >= inText)
  const last = chain.at(-1)
  let size = last ? last.offset + last.size : inText
  for (const segment of segments) {
    if (segment.offset !== size || segment.size === 0) continue
    chain.push(segment)
    size += segment.size
  }
  const ended = text?.size === size && !openings.includes(size)
  return { text, segments: chain, size, ended }
}

/** The byte ranges of objects that contain a range of the log. */
export function rangesOf({ text, segments }: Layout, position: number, length: number): ByteRange[] {
  const ranges: ByteRange[] = []
  const end = position + length
  const add = (object: ByteRange['object'], offset: number, size: number) => {
    const from = Math.max(position, offset)
    const to = Math.min(end, offset + size)
    if (from < to) ranges.push({ object, position: from, start: from - offset, length: to - from })
  }
  if (text) add('text', 0, text.size)
  let low = 0
  for (let high = segments.length; low < high; ) {
    const middle = (low + high) >>> 1
    const { offset = 0, size = 0 } = segments[middle] ?? {}
    if (offset + size <= position) low = middle + 1
    else high = middle
  }
  for (let i = low; i < segments.length; i++) {
    const { offset, size } = segments[i] as Segment
    if (offset >= end) break
    add(offset, offset, size)
  }
  return ranges
}

/** The objects that are obsolete once the text has this size. */
export function leftovers({ segments, openings }: Listing, textSize: number): Omit<Listing, 'text'> {
  return {
    segments: segments.filter(({ offset }) => offset < textSize),
    openings: openings.filter((offset) => offset <= textSize),
  }
}
