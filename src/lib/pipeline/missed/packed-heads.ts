import { setImmediate } from 'node:timers/promises'
import { promisify } from 'node:util'
import { deflate, inflate } from 'node:zlib'
import type { Head, Ref } from '../../core/build.ts'

/** Heads that are worked on in one turn of the event loop. */
const IN_A_TURN = 5000

const deflated = promisify(deflate)
const inflated = promisify(inflate)

/** The commits of branches and git tags, by `keyOfRef`. */
export type SeenHeads = Map<string, string>

/** A ref as a key: equal for equal refs. */
export function keyOfRef({ kind, name }: Ref): string {
  return `${kind} ${name}`
}

/** The commits of heads by their refs. */
export async function seenHeads(heads: Head[]): Promise<SeenHeads> {
  const seen: SeenHeads = new Map()
  for (const { ref, sha } of heads) {
    seen.set(keyOfRef(ref), sha)
    if (seen.size % IN_A_TURN === 0) await setImmediate()
  }
  return seen
}

/** Heads as a store keeps them: a hundred thousand take four megabytes. */
export async function packHeads(heads: SeenHeads): Promise<Uint8Array> {
  const pieces: Buffer[] = []
  let lines: string[] = []
  for (const [key, sha] of heads) {
    lines.push(`${sha} ${key}\n`)
    if (lines.length < IN_A_TURN) continue
    pieces.push(Buffer.from(lines.join('')))
    lines = []
    await setImmediate()
  }
  pieces.push(Buffer.from(lines.join('')))
  return deflated(Buffer.concat(pieces))
}

/** What packHeads packed. @throws Error if it did not */
export async function unpackHeads(packed: Uint8Array): Promise<SeenHeads> {
  const text = (await inflated(packed)).toString('utf8')
  const heads: SeenHeads = new Map()
  let start = 0
  for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
    const space = text.indexOf(' ', start)
    heads.set(text.slice(space + 1, end), text.slice(start, space))
    start = end + 1
    if (heads.size % IN_A_TURN === 0) await setImmediate()
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
  for (const [at, head] of heads.entries()) {
    const key = keyOfRef(head.ref)
    const before = seen.get(key) ?? null
    if (before !== head.sha || also.has(key)) changed.push({ ...head, before })
    if (at % IN_A_TURN === IN_A_TURN - 1) await setImmediate()
  }
  return changed
}
