import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * The process behind startCloudwatch: the four operations of CloudWatch Logs that logs need, over AWS JSON 1.1
 * (https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html), with the limits that the service documents:
 * https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html and API_GetLogEvents.html
 *
 * `POST /_settings` changes its behaviour, `GET /_requests` counts the operations, `GET /_stream?group=&stream=` shows
 * the events that are stored. Arguments: the port.
 */
interface Stored {
  timestamp: number
  message: string
  /** Order of arrival, across the whole server. */
  arrived: number
  visibleFrom: number
}

type Streams = Map<string, Stored[]>

export interface CloudwatchSettings {
  /** How many milliseconds after a write it becomes readable. */
  visibleAfterMs: number
  /** Every third event stays hidden for this much longer, although later ones are visible. */
  hideMs: number
  /** Responds to every second GetLogEvents that makes progress with an empty page, as the service may. */
  sparse: boolean
  /** How many of the next requests, by operation, are throttled. */
  throttle: Record<string, number>
  /** How many of the next requests, by operation, are executed but lose their response to a broken connection. */
  loseAnswers: Record<string, number>
  /** Operations that the credentials do not allow. */
  denied: string[]
  /** How far the clock of the service is ahead of this machine's. */
  clockAheadMs: number
}

const KiB = 1024
const BATCH_BYTES = 1_048_576
const EVENT_OVERHEAD = 26
/** The older and smaller of the two limits that AWS documents. */
const EVENT_BYTES = 256 * KiB
const PAGE_BYTES = 1_048_576
const PAGE_EVENTS = 10_000
const HOUR = 3_600_000

const settings: CloudwatchSettings = {
  visibleAfterMs: 0,
  hideMs: 0,
  sparse: false,
  throttle: {},
  loseAnswers: {},
  denied: [],
  clockAheadMs: 0,
}
const groups = new Map<string, Streams>()
const counts: Record<string, number> = {}
let arrivals = 0
let pagesServed = 0

class Refusal extends Error {
  readonly type: string
  readonly status: number
  constructor(type: string, message: string, status = 400) {
    super(message)
    this.type = type
    this.status = status
  }
}

type Input = Record<string, unknown>

const operations: Record<string, (input: Input) => object | undefined> = {
  CreateLogGroup(input) {
    const name = text(input, 'logGroupName', /^[.\-_/#A-Za-z0-9]{1,512}$/)
    if (groups.has(name))
      throw new Refusal('ResourceAlreadyExistsException', 'The specified log group already exists')
    groups.set(name, new Map())
    return undefined
  },

  CreateLogStream(input) {
    const streams = group(input)
    const name = text(input, 'logStreamName', /^[^:*]{1,512}$/)
    if (streams.has(name))
      throw new Refusal('ResourceAlreadyExistsException', 'The specified log stream already exists')
    streams.set(name, [])
    return undefined
  },

  DeleteLogStream(input) {
    stream(input)
    group(input).delete(String(input.logStreamName))
    return undefined
  },

  PutLogEvents(input) {
    const stored = stream(input)
    const events = input.logEvents
    if (!Array.isArray(events) || events.length < 1 || events.length > 10_000) {
      throw invalid("'logEvents' must have 1 to 10000 members")
    }
    let bytes = 0
    let before = 0
    for (const { timestamp, message } of events) {
      if (!Number.isSafeInteger(timestamp)) throw invalid(`'timestamp' ${timestamp} is not a whole number`)
      if (typeof message !== 'string' || message === '') {
        throw invalid(
          "Value '' at 'logEvents.1.member.message' failed to satisfy constraint: Member must have length greater than or equal to 1",
        )
      }
      if (!message.isWellFormed()) throw invalid('a message is not well-formed Unicode')
      const size = Buffer.byteLength(message) + EVENT_OVERHEAD
      if (size > EVENT_BYTES)
        throw invalid(`Log event too large: ${size} bytes exceeds limit of ${EVENT_BYTES}`)
      if (timestamp < before)
        throw invalid('Log events in a single PutLogEvents request must be in chronological order.')
      before = timestamp
      bytes += size
    }
    if (bytes > BATCH_BYTES) throw invalid(`Upload too large: ${bytes} bytes exceeds limit of ${BATCH_BYTES}`)
    const now = Date.now() + settings.clockAheadMs
    const tooOld = events.filter(({ timestamp }) => timestamp < now - 14 * 24 * HOUR).length
    const inTime = events.filter(({ timestamp }) => timestamp <= now + 2 * HOUR).length
    for (const { timestamp, message } of events.slice(tooOld, inTime)) store(stored, timestamp, message)
    return {
      ...((tooOld > 0 || inTime < events.length) && {
        rejectedLogEventsInfo: {
          ...(tooOld > 0 && { tooOldLogEventEndIndex: tooOld }),
          ...(inTime < events.length && { tooNewLogEventStartIndex: inTime }),
        },
      }),
    }
  },

  GetLogEvents(input) {
    const events = stream(input).filter(({ visibleFrom }) => visibleFrom <= Date.now())
    const limit = typeof input.limit === 'number' ? input.limit : PAGE_EVENTS
    if (limit < 1 || limit > PAGE_EVENTS) throw invalid("'limit' must be from 1 to 10000")
    const token = input.nextToken
    const forward = token === undefined ? input.startFromHead === true : /^f\//.test(String(token))
    const at = token === undefined ? null : parseToken(String(token))
    const page: Stored[] = []
    let bytes = 0
    pagesServed += 1
    const empty = settings.sparse && pagesServed % 2 === 0
    for (const event of forward ? events : events.toReversed()) {
      if (at && (forward ? compare(event, at) <= 0 : compare(event, at) >= 0)) continue
      bytes += Buffer.byteLength(event.message) + EVENT_OVERHEAD
      if (page.length >= limit || (page.length > 0 && bytes > PAGE_BYTES)) break
      page.push(event)
    }
    // An empty page with a new token means that there is more; the padding makes the token new.
    if (empty && page.length > 0) {
      const padded = `${token ?? token0(forward)}.`
      return { events: [], nextForwardToken: padded, nextBackwardToken: padded }
    }
    if (!forward) page.reverse()
    const [first, last] = [page[0] ?? at, page.at(-1) ?? at]
    return {
      events: page.map(({ timestamp, message }) => ({ timestamp, message, ingestionTime: Date.now() })),
      nextForwardToken: last ? makeToken('f', last) : token0(true),
      nextBackwardToken: first ? makeToken('b', first) : token0(false),
    }
  },
}

function store(stored: Stored[], timestamp: number, message: string): void {
  arrivals += 1
  const hidden = settings.hideMs > 0 && arrivals % 3 === 0 ? settings.hideMs : 0
  const event = {
    timestamp,
    message,
    arrived: arrivals,
    visibleFrom: Date.now() + settings.visibleAfterMs + hidden,
  }
  let at = stored.length
  while (at > 0 && compare(stored[at - 1] as Stored, event) > 0) at -= 1
  stored.splice(at, 0, event)
}

type Place = Pick<Stored, 'timestamp' | 'arrived'>

/** Events of a stream are ordered by time, then by arrival. */
function compare(one: Place, other: Place): number {
  return one.timestamp - other.timestamp || one.arrived - other.arrived
}

function makeToken(direction: 'f' | 'b', { timestamp, arrived }: Place): string {
  return `${direction}/${timestamp}/${arrived}/s`
}

/** Before or after all events. */
function token0(forward: boolean): string {
  return makeToken(forward ? 'f' : 'b', { timestamp: forward ? 0 : Number.MAX_SAFE_INTEGER, arrived: 0 })
}

function parseToken(token: string): Place {
  const match = /^[fb]\/(\d+)\/(\d+)\/s\.*$/.exec(token)
  if (!match) throw invalid('The specified nextToken is invalid.')
  return { timestamp: Number(match[1]), arrived: Number(match[2]) }
}

function invalid(message: string): Refusal {
  return new Refusal('InvalidParameterException', message)
}

function text(input: Input, name: string, pattern: RegExp): string {
  const value = input[name]
  if (typeof value !== 'string' || !pattern.test(value))
    throw invalid(`'${name}' does not match ${pattern.source}`)
  return value
}

function group(input: Input): Streams {
  const streams = groups.get(String(input.logGroupName))
  if (!streams) throw new Refusal('ResourceNotFoundException', 'The specified log group does not exist.')
  return streams
}

function stream(input: Input): Stored[] {
  const stored = group(input).get(String(input.logStreamName))
  if (!stored) throw new Refusal('ResourceNotFoundException', 'The specified log stream does not exist.')
  return stored
}

function oneOf(left: Record<string, number>, operation: string): boolean {
  if (!left[operation]) return false
  left[operation] -= 1
  return true
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  const body = Buffer.concat(chunks).toString()
  const url = new URL(request.url ?? '/', 'http://localhost')
  if (url.pathname === '/_settings') {
    Object.assign(settings, JSON.parse(body))
    response.end()
  } else if (url.pathname === '/_requests') {
    response.end(JSON.stringify(counts))
  } else if (url.pathname === '/_stream') {
    const events =
      groups.get(url.searchParams.get('group') ?? '')?.get(url.searchParams.get('stream') ?? '') ?? []
    response.end(JSON.stringify(events.map(({ timestamp, message }) => ({ timestamp, message }))))
  } else {
    await call(request, body, response)
  }
}

async function call(request: IncomingMessage, body: string, response: ServerResponse): Promise<void> {
  const send = (status: number, value: object | undefined) => {
    response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' })
    response.end(value === undefined ? '' : JSON.stringify(value))
  }
  try {
    const [version, operation = ''] = String(request.headers['x-amz-target']).split('.')
    const perform = version === 'Logs_20140328' ? operations[operation] : undefined
    if (request.method !== 'POST' || !perform) throw new Refusal('UnknownOperationException', operation)
    if (request.headers['content-type'] !== 'application/x-amz-json-1.1') {
      throw new Refusal('SerializationException', 'Content-Type is not application/x-amz-json-1.1')
    }
    if (!/^AWS4-HMAC-SHA256 .*\/logs\/aws4_request/.test(request.headers.authorization ?? '')) {
      throw new Refusal('MissingAuthenticationTokenException', 'Missing Authentication Token')
    }
    counts[operation] = (counts[operation] ?? 0) + 1
    if (settings.denied.includes(operation)) {
      throw new Refusal('AccessDeniedException', `User: test is not authorized to perform: logs:${operation}`)
    }
    if (oneOf(settings.throttle, operation)) throw new Refusal('ThrottlingException', 'Rate exceeded')
    const result = perform(JSON.parse(body))
    if (oneOf(settings.loseAnswers, operation)) {
      await sleep(5)
      request.socket.destroy()
      return
    }
    send(200, result)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    send(error.status, { __type: error.type, message: error.message })
  }
}

createServer((request, response) => {
  void answer(request, response).catch((error) => response.destroy(error))
}).listen(Number(process.argv[2]), '127.0.0.1', () => process.stdout.write('listening\n'))
