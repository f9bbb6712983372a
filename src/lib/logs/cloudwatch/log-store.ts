import type { Agent } from 'node:https'
import { CloudWatchLogsClient, type CloudWatchLogsClientConfig } from '@aws-sdk/client-cloudwatch-logs'
import { ConveyorError } from '../../core/errors.ts'
import { isStopped, logStore, type Range, unlessStopped } from '../backend.ts'
import type { LogStore } from '../log-store.ts'
import { EventOrder } from './order.ts'
import { type DatedPage, SharedPages } from './pages.ts'
import { eventSink, LIMITS } from './sink.ts'
import { LogStreams } from './streams.ts'

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

  async function* read(
    buildId: string,
    { offset, follow }: Range,
    stops: AbortSignal[],
  ): AsyncGenerator<Uint8Array> {
    const order = new EventOrder()
    let position = 0
    let token: string | null = null
    let gapSince: number | null = null
    let page: DatedPage = await unlessStopped(() => pages.at(buildId, token), stops)
    for (;;) {
      for (const event of order.take(page.events)) {
        const bytes = event.bytes()
        const from = Math.max(0, offset - position)
        position += bytes.length
        if (from >= bytes.length) continue
        yield bytes.subarray(from)
        if (isStopped(stops)) return
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

  return logStore({
    limits: LIMITS,
    open: async (buildId, closing) =>
      eventSink({
        last: await streams.create(buildId),
        closing,
        async put(events) {
          await streams.put(buildId, events)
          pages.tell(buildId)
        },
      }),
    read,
    close: async () => client.destroy(),
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
