import { setTimeout as sleep } from 'node:timers/promises'
import type { BasicAuth } from '../api/basic-auth.ts'
import type { BuildJson, EndEventJson, LogEventJson } from '../api/views.ts'
import { ConveyorError } from '../core/errors.ts'
import { validRefName, validRepository, validSha } from '../core/validate.ts'
import type { Proxies } from '../net/proxies.ts'
import { Connection, Dropped, readEvents } from './connection.ts'

/** What to build: a commit, or whatever is the head of a branch when the server gets to know of it. */
export type Target = { repository: string; sha: string } | { repository: string; branch: string }

export interface ClientOptions {
  /** Base URL of the server; a user name and password in it are used when `auth` is absent. */
  url: string
  auth?: BasicAuth | null | undefined
  request: Target & { cache?: boolean | undefined }
  /** On the way to the server; none by default. */
  proxies?: Proxies | undefined
  signal?: AbortSignal | undefined
}

export interface FollowOptions extends ClientOptions {
  /** The next bytes of the build's log: each exactly once, in order. Awaited before more is read. */
  onLog: (bytes: Uint8Array) => void | Promise<void>
  /** The build, whenever its state has changed. */
  onState?: (build: BuildJson) => void
  /** A line from the server, or about the connection to it, that is not part of the log. */
  onNotice?: (line: string) => void
  /** For how long a lost server is looked for before giving up. Default 5 minutes. */
  patienceMs?: number
  /** How long a connection may say nothing before it counts as lost. Default 75 s, three heartbeats. */
  silenceMs?: number
}

/** How a build ended. */
export interface BuildOutcome extends EndEventJson {
  build: BuildJson
}

/**
 * Parses `org/repo:sha`, `org/repo:branch` or `org/repo@sha`. A branch may have slashes; a full commit id is
 * never taken for a branch. @throws ConveyorError `invalid`.
 */
export function parseTarget(text: string): Target {
  const [, name, separator, rest] = /^([^:@]*)([:@])(.*)$/s.exec(text) ?? []
  if (!name || !separator || !rest) {
    throw new ConveyorError('invalid', `${JSON.stringify(text.slice(0, 200))} does not say what to build`, {
      hint: 'Write org/repo:sha, org/repo:branch or org/repo@sha',
    })
  }
  const repository = validRepository(name)
  const isSha = /^([0-9a-f]{40}|[0-9a-f]{64})$/i.test(rest)
  if (isSha || separator === '@') return { repository, sha: validSha(rest) }
  return { repository, branch: validRefName(rest) }
}

/**
 * Asks for a build and returns as soon as it is accepted.
 * @throws ConveyorError with the server's message, or `unavailable` when there is no server.
 */
export async function requestOnly(options: ClientOptions): Promise<BuildJson> {
  const { url, auth = null, signal, proxies } = options
  await using connection = new Connection(url, auth, 120_000, { signal, proxies })
  const pieces: Uint8Array[] = []
  try {
    for await (const piece of connection.send('POST', 'builds', 'application/json', options.request)) {
      pieces.push(piece)
    }
  } catch (error) {
    if (signal?.aborted) throw stopped()
    throw error instanceof Dropped ? connection.unavailable(error) : error
  }
  return parseJson<BuildJson>(Buffer.concat(pieces).toString('utf8'))
}

/**
 * Asks for a build and follows it to its end. A connection that is lost is made again, and the log goes on
 * where it was; when the server never said which build it is, it is asked again and joins the same one.
 * @throws ConveyorError with the server's message; `unavailable` when there is no server, or it stayed away
 * for longer than `patienceMs`; `cancelled` once `signal` is aborted (the build itself goes on).
 */
export async function followBuild(options: FollowOptions): Promise<BuildOutcome> {
  const { url, auth = null, signal, proxies, silenceMs = 75_000, patienceMs = 300_000 } = options
  await using connection = new Connection(url, auth, silenceMs, { signal, proxies })
  const seen: Seen = { build: null, offset: 0 }
  let reached = false
  let lostAt: number | null = null
  let attempt = 0
  const connected = () => {
    lostAt = null
    attempt = 0
  }
  for (;;) {
    try {
      const body = seen.build
        ? connection.send('GET', `builds/${seen.build.id}/events?offset=${seen.offset}`, EVENTS)
        : connection.send('POST', 'builds', EVENTS, options.request)
      const outcome = await consume(body, seen, options, connected)
      if (outcome) return outcome
      throw new Dropped('the server ended it early', true)
    } catch (error) {
      if (signal?.aborted) throw stopped()
      if (!(error instanceof Dropped)) throw error
      reached ||= error.reached
      if (lostAt === null && reached) {
        options.onNotice?.(
          `the connection to ${connection.shownUrl} was lost (${error.message}); trying again`,
        )
      }
      lostAt ??= Date.now()
      const patience = seen.build ? patienceMs : Math.min(patienceMs, STRANGER_PATIENCE_MS)
      if (!reached || Date.now() - lostAt > patience) throw connection.unavailable(error)
    }
    const pause = Math.min(5_000, 200 * 2 ** attempt++)
    await sleep(pause, undefined, signal && { signal }).catch(() => {
      throw stopped()
    })
  }
}

function stopped(): ConveyorError {
  return new ConveyorError('cancelled', 'stopped waiting for the build, which goes on without us')
}

const EVENTS = 'text/event-stream'

/** For a server that has never said a word of ours: it may be something else, which hangs up on us. */
const STRANGER_PATIENCE_MS = 30_000

/** What has been passed on so far. */
interface Seen {
  build: BuildJson | null
  offset: number
}

/** Passes on one event stream. Null when it ended before the build did. */
async function consume(
  body: AsyncIterable<Uint8Array>,
  seen: Seen,
  options: FollowOptions,
  connected: () => void,
): Promise<BuildOutcome | null> {
  for await (const { event, data } of readEvents(body)) {
    connected()
    if (event === 'build') {
      const build = parseJson<BuildJson>(data)
      const changed = build.state !== seen.build?.state
      seen.build = build
      if (changed) options.onState?.(build)
    } else if (event === 'log') {
      const { offset, bytes } = parseJson<LogEventJson>(data)
      const piece = Buffer.from(bytes, 'base64')
      if (offset > seen.offset) throw new Dropped('part of the log did not arrive', true)
      const fresh = piece.subarray(seen.offset - offset)
      if (fresh.length > 0) await options.onLog(fresh)
      seen.offset += fresh.length
    } else if (event === 'notice') {
      options.onNotice?.(parseJson<{ message: string }>(data).message)
    } else if (event === 'end' && seen.build) {
      const end = parseJson<EndEventJson>(data)
      return { ...end, build: { ...seen.build, ...end } }
    }
  }
  return null
}

function parseJson<T>(data: string): T {
  try {
    return JSON.parse(data) as T
  } catch (cause) {
    throw new ConveyorError('unavailable', 'the server sent what is not JSON', { cause })
  }
}
