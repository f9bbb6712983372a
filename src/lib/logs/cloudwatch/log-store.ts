import type { Agent } from 'node:https'
import { CloudWatchLogsClient, type CloudWatchLogsClientConfig } from '@aws-sdk/client-cloudwatch-logs'
import { ConveyorError } from '../../core/errors.ts'
import type { LogStore, LogWriter, ReadLogOptions } from '../log-store.ts'
import { EventOrder } from './order.ts'
import { type DatedPage, SharedPages } from './pages.ts'
import { LogStreams } from './streams.ts'
import { cloudwatchLogWriter } from './writer.ts'

export interface CloudwatchLogStoreOptions {
  /** Name of the log group, which has to exist. Its retention says how long logs are kept. */
  group: string
  /** In front of the build's id in the name of its stream: at most 400 characters, no `:` or `*`. Default: nothing. */
  streamPrefix?: string
  /** What the AWS SDK does not find by itself: region, endpoint, credentials. */
  clientConfig?: CloudWatchLogsClientConfig
  /** Connections for it, e.g. through a proxy. */
  httpsAgent?: Agent
}

/** How long an event may stay out of sight when a later one of the same writer is there already. */
const GAP_MS = 10_000

/**
 * Logs in Amazon CloudWatch Logs: one stream for each build, named by its id. What its events look like is said in
 * cloudwatch-log-events.ts. Readers, here or on another machine, see what is written within about two seconds.
 *
 * Two writers of one log at once, a worker that lost its lease and the one that took over, mix by events, and the log
 * ends when the one that began last ends it. What a killed writer had not sent is lost, about a second's worth.
 *
 * The service says that events can be read some time after they were stored, and not when. A reader that finds one
 * missing between others waits for it; but one that does not follow may miss the last ones of the last seconds. It
 * takes a log from the beginning to resume at an offset, as streams have none: ten requests of 1 MiB a second.
 *
 * A request that failed or was throttled is sent again with growing waits, by the AWS SDK and then for a minute.
 * @throws ConveyorError `not_found` from `open` and `read` when there is no such group, `unauthorized` with the
 * permissions that are needed, `unavailable`
 */
export function cloudwatchLogStore(options: CloudwatchLogStoreOptions): LogStore {
  const client = new CloudWatchLogsClient({
    maxAttempts: 6,
    ...(options.httpsAgent && { requestHandler: { httpsAgent: options.httpsAgent } }),
    ...options.clientConfig,
  })
  const streams = new LogStreams(client, options.group, checkPrefix(options.streamPrefix ?? ''))
  const pages = new SharedPages((buildId, token) => streams.get(buildId, token))
  const writers = new Set<LogWriter>()
  const closing = new AbortController()
  let closed: Promise<void> | undefined

  async function open(buildId: string): Promise<LogWriter> {
    checkId(buildId)
    const writer = await cloudwatchLogWriter({
      buildId,
      last: await streams.create(buildId),
      closing: closing.signal,
      async put(events) {
        await streams.put(buildId, events)
        pages.tell(buildId)
      },
      done: () => writers.delete(writer),
    })
    writers.add(writer)
    return writer
  }

  async function* read(
    buildId: string,
    { offset = 0, follow = true }: ReadLogOptions,
    stops: AbortSignal[],
  ): AsyncGenerator<Uint8Array> {
    checkId(buildId)
    if (!Number.isSafeInteger(offset) || offset < 0) {
      throw new ConveyorError('invalid', `log offset ${offset} is not a whole number of bytes`)
    }
    const order = new EventOrder()
    let position = 0
    let token: string | null = null
    let gapSince: number | null = null
    let page = await unlessStopped(() => pages.at(buildId, token), stops)
    while (page) {
      for (const event of order.take(page.events)) {
        const bytes = event.bytes()
        const from = Math.max(0, offset - position)
        position += bytes.length
        if (from >= bytes.length) continue
        yield bytes.subarray(from)
        if (stops.some((signal) => signal.aborted)) return
      }
      const shown: DatedPage = page
      if (order.gap) {
        gapSince ??= performance.now()
        if (performance.now() - gapSince > GAP_MS) throw missing(buildId, position)
      } else {
        gapSince = null
        if (shown.more) {
          token = shown.next
          page = await unlessStopped(() => pages.at(buildId, token), stops)
          continue
        }
        if (order.ended || !follow) return
      }
      page = await unlessStopped(() => pages.later(buildId, token, shown, stops), stops)
    }
  }

  async function close(): Promise<void> {
    closing.abort()
    const results = await Promise.allSettled([...writers].map((writer) => writer.close()))
    client.destroy()
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  }

  return {
    open,
    read: (buildId, options = {}) =>
      read(buildId, options, options.signal ? [options.signal, closing.signal] : [closing.signal]),
    close: () => (closed ??= close()),
  }
}

/** Undefined as soon as one of the signals is aborted, whatever the work does then. */
async function unlessStopped<T>(work: () => Promise<T>, stops: AbortSignal[]): Promise<T | undefined> {
  if (stops.some((signal) => signal.aborted)) return undefined
  const stopped = Promise.withResolvers<undefined>()
  const stop = () => stopped.resolve(undefined)
  for (const signal of stops) signal.addEventListener('abort', stop)
  try {
    return await Promise.race([work(), stopped.promise])
  } finally {
    for (const signal of stops) signal.removeEventListener('abort', stop)
  }
}

function checkId(buildId: string): void {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(buildId)) return
  throw new ConveyorError('invalid', `${JSON.stringify(buildId.slice(0, 80))} is not a build id`, {
    hint: 'Build ids are UUIDs in lower case',
  })
}

function checkPrefix(prefix: string): string {
  if (/^[^:*]{0,400}$/.test(prefix)) return prefix
  throw new ConveyorError(
    'invalid',
    `${JSON.stringify(prefix.slice(0, 80))} cannot begin the name of a log stream`,
    {
      hint: 'It has at most 400 characters, and no : or *',
    },
  )
}

function missing(buildId: string, position: number): ConveyorError {
  return new ConveyorError(
    'unavailable',
    `log of build ${buildId} cannot be read: what follows its byte ${position} is not there, or not yet`,
    { hint: 'Read on from there later' },
  )
}
