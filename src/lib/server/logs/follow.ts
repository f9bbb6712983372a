import { setTimeout as sleep } from 'node:timers/promises'
import { type Build, isEnded } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { LogStore } from '../../logs/log-store.ts'
import type { BuildStore } from '../../store/build-store.ts'
import { TimedIterator } from '../../util/timed-iterator.ts'
import { describeError } from '../problems.ts'

/** One thing that happened to a build, as its followers see it. `end` is the last. */
export type Happening =
  | { kind: 'build'; build: Build; image: string | null }
  | { kind: 'log'; offset: number; bytes: Uint8Array }
  /** A line from the server itself, which is not part of the log. */
  | { kind: 'notice'; text: string }
  /** Nothing happened for a while: whoever passes this on writes something, so that no proxy hangs up. */
  | { kind: 'quiet' }
  | { kind: 'end'; build: Build; image: string | null }

export interface FollowParts {
  store: BuildStore
  logs: LogStore
  /** The server's own log. */
  log: (line: string) => void
  /** How long nothing may be written before a `quiet`. */
  heartbeatMs: number
}

export interface FollowOptions {
  /** First byte of the log wanted. */
  offset: number
  signal: AbortSignal
}

/** How often the state is looked up while a build runs. Its end is seen sooner: the log ends with it. */
const POLL_MS = 500

/** How long the log of an ended build may stay silent without an end of its own: its writer has died. */
const GRACE_MS = 3_000

const LOST: IteratorResult<Uint8Array> = { done: true, value: undefined }

/**
 * Follows a build until it has ended and its log was passed on to the last byte. Reads no faster than it
 * is consumed. Ends without an `end` when `signal` is aborted.
 */
export async function* follow(
  parts: FollowParts,
  build: Build,
  { offset: start, signal }: FollowOptions,
): AsyncGenerator<Happening> {
  let current = build
  let offset = start
  let unreadable = false
  let polledAt = Date.now()
  let loggedAt = Date.now()
  let wroteAt = Date.now()
  const waitMs = Math.min(POLL_MS, parts.heartbeatMs)

  /** The build when it changed since the last look. */
  const change = async (): Promise<Happening | null> => {
    polledAt = Date.now()
    const found = await parts.store.get(build.id)
    if (found === null) throw new ConveyorError('not_found', `build ${build.id} is gone from the store`)
    const changed = found.state !== current.state || found.attempt !== current.attempt
    current = found
    return changed ? { kind: 'build', build: found, image: await imageOf(parts.store, found) } : null
  }
  const quiet = (): Happening | null => {
    if (Date.now() - wroteAt < parts.heartbeatMs) return null
    wroteAt = Date.now()
    return { kind: 'quiet' }
  }

  yield { kind: 'build', build, image: await imageOf(parts.store, build) }

  const giveUp = new AbortController()
  const abort = () => giveUp.abort()
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()
  const pieces = new TimedIterator(parts.logs.read(build.id, { offset, signal: giveUp.signal }))
  try {
    while (!signal.aborted) {
      const piece = await pieces.next(waitMs).catch((error: unknown) => {
        unreadable = true
        parts.log(`the log of build ${build.id} cannot be read: ${describeError(error)}`)
        return LOST
      })
      if (signal.aborted || piece?.done) break
      if (piece) {
        yield { kind: 'log', offset, bytes: piece.value }
        offset += piece.value.length
        loggedAt = wroteAt = Date.now()
      }
      const event = Date.now() - polledAt >= POLL_MS ? await change() : null
      if (event) {
        yield event
        loggedAt = Date.now() // the last lines of a log are written after the end is stored
      }
      if (piece) continue
      const beat = quiet()
      if (beat) yield beat
      if (isEnded(current.state) && Date.now() - loggedAt >= GRACE_MS) break
    }
  } finally {
    giveUp.abort()
    signal.removeEventListener('abort', abort)
    await pieces.close()
  }

  // The build goes on without its log, and so does whoever waits for its end.
  if (unreadable) yield { kind: 'notice', text: 'The log of this build cannot be read at the moment' }

  // The state is stored before the log is ended, so this rarely waits.
  while (!signal.aborted) {
    const event = await change()
    if (event) yield event
    if (isEnded(current.state)) break
    const beat = quiet()
    if (beat) yield beat
    await sleep(waitMs, undefined, { signal }).catch(() => 'aborted, which the loop looks at itself')
  }
  if (signal.aborted) return

  if (!unreadable) {
    for await (const bytes of parts.logs.read(build.id, { offset, follow: false, signal })) {
      yield { kind: 'log', offset, bytes }
      offset += bytes.length
    }
    if (offset === 0) yield { kind: 'notice', text: 'No log of this build is stored' }
  }
  if (!signal.aborted) yield { kind: 'end', build: current, image: await imageOf(parts.store, current) }
}

/** What a build published, or null. */
export async function imageOf(store: BuildStore, build: Build): Promise<string | null> {
  if (build.state !== 'succeeded') return null
  return (await store.artifactOf(build.id))?.image ?? null
}
