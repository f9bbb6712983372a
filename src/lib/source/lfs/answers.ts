import { boundedJson } from '../../util/bounded-json.ts'

/** What LFS servers answer, which may be anything. */

/** Sent from an answer: more than any server needs. */
const MAX_HEADERS = 20
/** Those are the client's own. */
const RESERVED =
  /^(host|connection|content-length|transfer-encoding|upgrade|te|trailer|keep-alive|proxy-.*)$/i
/** Answers without an expiry are used this long; others until shortly before theirs. In milliseconds. */
const USED_MS = 10 * 60_000
const EARLY_MS = 30_000
/** However soon an answer expires: a worker's clock may be wrong. */
const SHORTEST_MS = 10_000

/** A JSON text; undefined if it is none, or would take long to parse. */
export function parsed(bytes: Uint8Array): unknown {
  try {
    return boundedJson(bytes)
  } catch {
    return undefined
  }
}

/** An object; an empty one for anything else. */
export function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

/** The headers to send with a request, by their names in lower case. */
export function headersOf(value: unknown): Record<string, string> {
  const given = Object.entries(record(value)).slice(0, MAX_HEADERS)
  return Object.fromEntries(
    given.flatMap(([name, one]) =>
      typeof one === 'string' && !RESERVED.test(name) ? [[name.toLowerCase(), one]] : [],
    ),
  )
}

/** Until when an answer can be used, in milliseconds since 1970; of the two forms of an expiry, the relative one counts. */
export function usableUntil({ expires_in: seconds, expires_at: date }: Record<string, unknown>): number {
  const now = Date.now()
  const relative = typeof seconds === 'number' && seconds > 0 ? now + seconds * 1000 : null
  const at = relative ?? (typeof date === 'string' ? Date.parse(date) : Number.NaN)
  if (Number.isNaN(at)) return now + USED_MS
  return Math.min(Math.max(at - EARLY_MS, now + SHORTEST_MS), now + USED_MS)
}
