/**
 * How a log lies in its bucket. While it is written, it is segments, each an object whose name says where its bytes
 * begin; the next begins where the one before it ends:
 *
 *     logs/ID-0000000000000000          1,200 bytes
 *     logs/ID-0000000000001200            350 bytes
 *
 * When it ends, they become the beginning of one text, and are removed:
 *
 *     logs/ID.txt                       1,550 bytes
 *
 * A log that is opened again after that goes on with segments behind the text, and `logs/ID-0000000000001550-open`
 * says so until there is one. The text only ever grows, so what is below its size is what it says, whatever segments
 * are there. By name the text comes last: a list that begins at any segment shows all that is new, and the end. Lists
 * show what is there: https://docs.aws.amazon.com/AmazonS3/latest/userguide/Welcome.html#ConsistencyModel
 */
export interface Listing {
  /** Null while the log has not ended for the first time. */
  text: StoredText | null
  segments: Segment[]
  /** Where the log was opened again. */
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

/** What there is of a log: the text, then the segments, without a gap. */
export interface Layout {
  text: StoredText | null
  segments: Segment[]
  size: number
  ended: boolean
}

/** A piece of an object. */
export interface Range {
  /** The object: the text, or the segment that begins there. */
  object: 'text' | number
  /** First byte of the log. */
  position: number
  /** First byte of the object. */
  start: number
  length: number
}

export const NOTHING: Layout = { text: null, segments: [], size: 0, ended: false }

/** @param before what was known of the segments that come before those of the listing */
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

/** Where the bytes of a log are that its layout says are there. */
export function rangesOf({ text, segments }: Layout, position: number, length: number): Range[] {
  const ranges: Range[] = []
  const end = position + length
  const add = (object: Range['object'], offset: number, size: number) => {
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

/** What has no meaning any more when the text has this size. */
export function leftovers({ segments, openings }: Listing, textSize: number): Omit<Listing, 'text'> {
  return {
    segments: segments.filter(({ offset }) => offset < textSize),
    openings: openings.filter((offset) => offset <= textSize),
  }
}
