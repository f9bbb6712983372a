import { setTimeout as sleep } from 'node:timers/promises'
import { type Build, isEnded } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import type { LogStore } from '../../logs/log-store.ts'
import type { BuildStore } from '../../store/build-store.ts'
import { TimedIterator } from '../../util/timed-iterator.ts'
import { describeError } from '../problems.ts'

/** An event in the life of a build, as its followers see it. `end` is the last. */
export type BuildEvent =
  | { kind: 'build'; build: Build; image: string | null }
  | { kind: 'log'; offset: number; bytes: Uint8Array }
  /** A line from the server, not part of the log. `isEmpty`: there is none. */
  | { kind: 'notice'; text: string; isEmpty?: true }
  /** Nothing happened for a while: something has to be written, or a proxy may close the connection. */
  | { kind: 'heartbeat' }
  | { kind: 'end'; build: Build; image: string | null }

export interface FollowParts {
  store: BuildStore
  /** Builds for those who poll. */
  polls: Polls
  logs: LogStore
  /** The server's own log. */
  log: (line: string) => void
  /** Time without output after which a `heartbeat` is due. */
  heartbeatMs: number
  /** How long the log of a finished build may go without output or an end: then its writer has died. */
  logGraceMs: number
}

export interface EventStreamOptions {
  /** Offset of the first log byte to send. */
  offset: number
  signal: AbortSignal
}

/** How often the state is polled while a build runs. Its end is noticed sooner: the log ends with it. */
const POLL_MS = 500

/** How long it is looked whether a log has ended, in milliseconds. */
const END_MS = 100

/** Looks builds up for all who follow them, so that the store is asked as often for a thousand as for a few. */
export class Polls {
  readonly #store: Pick<BuildStore, 'get'>
  readonly #latest = new Map<string, { at: number; found: Promise<Build | null> }>()

  constructor(store: Pick<BuildStore, 'get'>) {
    this.#store = store
  }

  /** As BuildStore.get; what it returns is up to POLL_MS / 2 old, so never older than a caller's last poll. */
  get(id: string): Promise<Build | null> {
    const now = performance.now()
    const known = this.#latest.get(id)
    if (known && now - known.at < POLL_MS / 2) return known.found
    const latest = { at: now, found: this.#store.get(id) }
    this.#latest.set(id, latest)
    const forget = () => {
      if (this.#latest.get(id) === latest) this.#latest.delete(id)
    }
    setTimeout(forget, POLL_MS).unref()
    return latest.found
  }
}

const LOST: IteratorResult<Uint8Array> = { done: true, value: undefined }

/**
 * Follows a build until it is finished and its whole log has been yielded. Reads no faster than the consumer.
 * Returns without an `end` when `signal` is aborted.
 */
export async function* follow(
  parts: FollowParts,
  build: Build,
  { offset: start, signal }: EventStreamOptions,
): AsyncGenerator<BuildEvent> {
  let current = build
  let offset = start
  let unreadable = false
  let polledAt = Date.now()
  let loggedAt = Date.now()
  let wroteAt = Date.now()
  const waitMs = Math.min(POLL_MS, parts.heartbeatMs)

  /** The build, if it changed since the last poll. */
  const change = async (from: Pick<BuildStore, 'get'> = parts.store): Promise<BuildEvent | null> => {
    polledAt = Date.now()
    const found = await from.get(build.id)
    if (found === null) throw new ConveyorError('not_found', `build ${build.id} no longer exists`)
    const changed =
      found.state !== current.state ||
      found.attempt !== current.attempt ||
      found.cancel?.at !== current.cancel?.at
    current = found
    return changed ? { kind: 'build', build: found, image: await imageOf(parts.store, found) } : null
  }
  const heartbeat = (): BuildEvent | null => {
    if (Date.now() - wroteAt < parts.heartbeatMs) return null
    wroteAt = Date.now()
    return { kind: 'heartbeat' }
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
        parts.log(`cannot read the log of build ${build.id}: ${describeError(error)}`)
        return LOST
      })
      if (signal.aborted || piece?.done) break
      if (piece) {
        yield { kind: 'log', offset, bytes: piece.value }
        offset += piece.value.length
        loggedAt = wroteAt = Date.now()
      }
      const event = Date.now() - polledAt >= POLL_MS ? await change(parts.polls) : null
      if (event) {
        yield event
        loggedAt = Date.now() // the last lines of a log are written after the end is stored
      }
      if (piece) continue
      const beat = heartbeat()
      if (beat) yield beat
      if (isEnded(current.state) && Date.now() - loggedAt >= parts.logGraceMs) break
    }
  } finally {
    giveUp.abort()
    signal.removeEventListener('abort', abort)
    await pieces.close()
  }

  // The build continues without its log, and its followers still get its result.
  if (unreadable) yield { kind: 'notice', text: 'The log of this build is currently unavailable' }

  // The state is stored before the log is ended, so this rarely waits.
  while (!signal.aborted) {
    const event = await change()
    if (event) yield event
    if (isEnded(current.state)) break
    const beat = heartbeat()
    if (beat) yield beat
    await sleep(waitMs, undefined, { signal }).catch(() => 'aborted, which the loop checks itself')
  }
  if (signal.aborted) return

  if (!unreadable) {
    for await (const bytes of parts.logs.read(build.id, { offset, follow: false, signal })) {
      yield { kind: 'log', offset, bytes }
      offset += bytes.length
    }
    if (offset === 0) yield { kind: 'notice', text: 'This build has no stored log', isEmpty: true }
  }
  if (!signal.aborted) yield { kind: 'end', build: current, image: await imageOf(parts.store, current) }
}

/**
 * Whether a log has all its lines: its build has ended, and so has what writes it. The state is stored before the last
 * lines are.
 * @param size how much of it is known, in bytes
 * @throws ConveyorError if it cannot be read
 */
export async function isLogComplete(
  { logs, logGraceMs }: Pick<FollowParts, 'logs' | 'logGraceMs'>,
  build: Build,
  size: number,
): Promise<boolean> {
  if (!isEnded(build.state)) return false
  const age = Date.now() - Date.parse(build.completedAt ?? '')
  if (!(age >= 0 && age < logGraceMs)) return true
  const signal = AbortSignal.timeout(END_MS)
  for await (const _ of logs.read(build.id, { offset: size, signal })) return false
  return !signal.aborted
}

/** The image that a build published, or null. */
export async function imageOf(store: BuildStore, build: Build): Promise<string | null> {
  if (build.state !== 'succeeded') return null
  return (await store.artifactOf(build.id))?.image ?? null
}
