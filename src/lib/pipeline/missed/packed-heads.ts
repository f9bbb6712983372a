import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { createDeflate, createInflate } from 'node:zlib'
import type { Head, Ref } from '../../core/build.ts'
import { batches } from '../../util/collections/batches.ts'
import { Pace } from '../../util/pace.ts'

/** Heads that are packed at once. */
const IN_A_PIECE = 1000

/** The commits of branches and git tags, by `keyOfRef`. */
export type SeenHeads = Map<string, string>

/** A ref as a key: equal for equal refs. */
export function keyOfRef({ kind, name }: Ref): string {
  return `${kind} ${name}`
}

/** The commits of heads by their refs. */
export async function seenHeads(heads: Head[]): Promise<SeenHeads> {
  const seen: SeenHeads = new Map()
  await new Pace().forEach(heads, ({ ref, sha }) => seen.set(keyOfRef(ref), sha))
  return seen
}

/** Heads as a store keeps them: a hundred thousand take four megabytes. */
export function packHeads(heads: SeenHeads): Promise<Uint8Array> {
  return pipeline(piecesOf(heads), createDeflate(), buffer)
}

function* piecesOf(heads: SeenHeads): Generator<string> {
  for (const some of batches([...heads], IN_A_PIECE)) {
    yield some.map(([key, sha]) => `${sha} ${key}\n`).join('')
  }
}

/** What packHeads packed. @throws Error if it did not */
export async function unpackHeads(packed: Uint8Array): Promise<SeenHeads> {
  const heads: SeenHeads = new Map()
  const pace = new Pace()
  const chunks = createInflate().setEncoding('utf8')
  chunks.end(packed)
  let text = ''
  for await (const chunk of chunks as AsyncIterable<string>) {
    text += chunk
    let start = 0
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
      const space = text.indexOf(' ', start)
      heads.set(text.slice(space + 1, end), text.slice(start, space))
      start = end + 1
    }
    text = text.slice(start)
    if (pace.isDue) await pace.rest()
  }
  return heads
}

/** Heads that differ from those that were seen, or whose ref is one of `others`; with the commit that was seen. */
export async function changedHeads(
  heads: Head[],
  seen: SeenHeads,
  others: Ref[],
): Promise<(Head & { before: string | null })[]> {
  const also = new Set(others.map(keyOfRef))
  const changed: (Head & { before: string | null })[] = []
  await new Pace().forEach(heads, (head) => {
    const key = keyOfRef(head.ref)
    const before = seen.get(key) ?? null
    if (before !== head.sha || also.has(key)) changed.push({ ...head, before })
  })
  return changed
}
