import type { BuildJson, EndEventJson } from '../api/build.ts'
import type { ServerLogin } from '../api/server-login.ts'
import { ConveyorError } from '../core/errors.ts'
import { validRefName, validRepository, validSha } from '../core/validate.ts'
import type { Proxies } from '../net/proxies.ts'
import { exponential, retry } from '../util/retry.ts'
import { call, parseJson } from './call.ts'
import { Connection, Dropped, readEvents } from './connection.ts'
import { asBuild, asEnd, asLogEvent } from './received.ts'

/** What to build: a commit, or the head of a branch at the time the server accepts the request. */
export type BuildTarget =
  | { repository: string; sha: string; pull?: number }
  | { repository: string; branch: string }

export interface ClientOptions {
  /** Base URL of the server; credentials in it are used if `auth` is absent. */
  url: string
  auth?: ServerLogin | null | undefined
  request: BuildTarget & { cache?: boolean | undefined }
  /** Proxies for reaching the server; none by default. */
  proxies?: Proxies | undefined
  signal?: AbortSignal | undefined
  /** The trace that the build continues, a W3C `traceparent`. */
  trace?: string | undefined
}

export interface FollowOptions extends Omit<ClientOptions, 'request'> {
  /** What to build, or a build to follow. */
  request: ClientOptions['request'] | BuildJson
  /** Receives the bytes of the build's log, each exactly once, in order. Awaited before more is read. */
  onLog: (bytes: Uint8Array) => void | Promise<void>
  /** Receives the build whenever its state has changed. */
  onState?: (build: BuildJson) => void
  /** Receives lines that are not part of the log: from the server, or about the connection to it. */
  onNotice?: (line: string) => void
  /** How long to keep reconnecting to a lost server. Default 5 minutes. */
  patienceMs?: number
  /** Silence after which a connection counts as lost. Default 75 s, three heartbeats. */
  silenceMs?: number
}

/** Result of a finished build. */
export interface BuildOutcome extends EndEventJson {
  build: BuildJson
}

/**
 * Parses `org/repo:sha`, `org/repo:branch` or `org/repo@sha`. Branch names may contain slashes; a full commit id is
 * never a branch name. @throws ConveyorError `invalid`
 */
export function parseTarget(text: string): BuildTarget {
  const [, name, separator, rest] = /^([^:@]*)([:@])(.*)$/s.exec(text) ?? []
  if (!name || !separator || !rest) {
    throw new ConveyorError('invalid', `${JSON.stringify(text.slice(0, 200))} is not a valid build target`, {
      hint: 'Use OWNER/NAME:SHA, OWNER/NAME:BRANCH, or OWNER/NAME@SHA',
    })
  }
  const repository = validRepository(name)
  const isSha = /^([0-9a-f]{40}|[0-9a-f]{64})$/i.test(rest)
  if (isSha || separator === '@') return { repository, sha: validSha(rest) }
  return { repository, branch: validRefName(rest) }
}

/**
 * Parses `org/repo:sha` or `org/repo@sha` for a pull request: at least seven digits of the commit that somebody has
 * looked at. @throws ConveyorError `invalid`
 */
export function parsePullTarget(text: string, pull: number): BuildTarget {
  const [, name, sha] = /^([^:@]*)[:@]([0-9a-f]{7,64})$/i.exec(text) ?? []
  if (name && sha) return { repository: validRepository(name), sha: sha.toLowerCase(), pull }
  throw new ConveyorError(
    'invalid',
    `${JSON.stringify(text.slice(0, 200))} does not name a commit of pull request #${pull}`,
    { hint: 'Use OWNER/NAME@SHA, with at least seven digits of the head that you have looked at' },
  )
}

/**
 * Requests a build and returns as soon as it is accepted.
 * @throws ConveyorError with the server's message, or `unavailable` if the server cannot be reached
 */
export async function requestOnly(options: ClientOptions): Promise<BuildJson> {
  const { url, auth = null, signal, proxies, trace } = options
  await using connection = new Connection(url, auth, 120_000, { signal, proxies, trace })
  try {
    return asBuild(await call(connection, 'POST', 'builds', options.request))
  } catch (error) {
    throw signal?.aborted ? stopped(null) : error
  }
}

/**
 * Requests a build, or takes an earlier one, and follows it until it is finished. Reconnects when the connection is lost, and resumes the log
 * where it stopped; if the build's id is not known yet, the request is repeated and joins the same build.
 * @throws ConveyorError with the server's message; `unavailable` if the server cannot be reached, or is lost for
 * longer than `patienceMs`; `cancelled` once `signal` is aborted (the build itself continues)
 */
export async function followBuild(options: FollowOptions): Promise<BuildOutcome> {
  const { url, auth = null, signal, proxies, trace, silenceMs = 75_000, patienceMs = 300_000 } = options
  await using connection = new Connection(url, auth, silenceMs, { signal, proxies, trace })
  const seen: Seen = { build: 'id' in options.request ? options.request : null, offset: 0 }
  let reached = false
  let lostAt: number | null = null
  /** Since the last time that the server answered. */
  let failures = 0
  const connected = () => {
    lostAt = null
    failures = 0
  }
  const follow = async (): Promise<BuildOutcome> => {
    const body = seen.build
      ? connection.send('GET', `builds/${seen.build.id}/events?offset=${seen.offset}`, EVENTS)
      : connection.send('POST', 'builds', EVENTS, options.request)
    const outcome = await consume(body, seen, options, connected)
    if (outcome) return outcome
    throw new Dropped('the server closed it before the build finished', true)
  }
  const isRetryable = (error: unknown): boolean => {
    if (signal?.aborted || !(error instanceof Dropped)) return false
    reached ||= error.reached
    if (lostAt === null && reached) {
      options.onNotice?.(`lost the connection to ${connection.shownUrl} (${error.message}); reconnecting`)
    }
    lostAt ??= Date.now()
    const patience = seen.build ? patienceMs : Math.min(patienceMs, FIRST_EVENT_PATIENCE_MS)
    return reached && Date.now() - lostAt <= patience
  }
  try {
    return await retry(follow, { delays: () => backoff(++failures), isRetryable, signal })
  } catch (error) {
    if (signal?.aborted) throw stopped(seen.build)
    throw error instanceof Dropped ? connection.unavailable(error) : error
  }
}

const backoff = exponential(200, 5_000)

function stopped(build: BuildJson | null): ConveyorError {
  return new ConveyorError(
    'cancelled',
    'stopped following the build; it continues on the server',
    build
      ? {
          hint: `Follow it with \`conveyor logs -f ${build.id}\`, or cancel it with \`conveyor cancel ${build.id}\``,
        }
      : {},
  )
}

const EVENTS = 'text/event-stream'

/** Until the server has sent an event: it may not be a Conveyor server at all. */
const FIRST_EVENT_PATIENCE_MS = 30_000

/** Progress of following a build. */
interface Seen {
  build: BuildJson | null
  offset: number
}

/** Handles one event stream. Null if it ended before the build did. */
async function consume(
  body: AsyncIterable<Uint8Array>,
  seen: Seen,
  options: FollowOptions,
  connected: () => void,
): Promise<BuildOutcome | null> {
  for await (const { event, data } of readEvents(body)) {
    connected()
    if (event === 'build') {
      const build = asBuild(parseJson(data))
      const changed = build.state !== seen.build?.state
      seen.build = build
      if (changed) options.onState?.(build)
    } else if (event === 'log') {
      const { offset, bytes } = asLogEvent(parseJson(data))
      const piece = Buffer.from(bytes, 'base64')
      if (offset > seen.offset) throw new Dropped('part of the log is missing', true)
      const fresh = piece.subarray(seen.offset - offset)
      if (fresh.length > 0) await options.onLog(fresh)
      seen.offset += fresh.length
    } else if (event === 'notice') {
      options.onNotice?.(String(parseJson<{ message?: unknown } | null>(data)?.message))
    } else if (event === 'end' && seen.build) {
      const end = asEnd(parseJson(data))
      return { ...end, build: { ...seen.build, ...end } }
    }
  }
  return null
}
