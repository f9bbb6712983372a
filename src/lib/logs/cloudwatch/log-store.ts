import type { Agent } from 'node:https'
import { CloudWatchLogsClient, type CloudWatchLogsClientConfig } from '@aws-sdk/client-cloudwatch-logs'
import { ConveyorError } from '../../core/errors.ts'
import { isStopped, logStore, type ReadRange, unlessStopped } from '../backend.ts'
import type { LogStore } from '../log-store.ts'
import { EventOrder } from './order.ts'
import { type DatedPage, SharedPages } from './pages.ts'
import { eventSink, LIMITS } from './sink.ts'
import { LogStreams } from './streams.ts'

export interface CloudwatchLogStoreOptions {
  /** Name of an existing log group. Its retention determines how long logs are kept. */
  group: string
  /** Prefix of stream names, before the build id: at most 400 characters, without `:` and `*`. Default: none. */
  streamPrefix?: string
  /** Settings that the AWS SDK does not find itself: region, endpoint, credentials. */
  clientConfig?: CloudWatchLogsClientConfig
  /** Makes its connections, e.g. through a proxy. */
  httpsAgent?: Agent
}

/** How long an event may be invisible after a later one of the same writer is visible. */
const GAP_MS = 10_000

/**
 * Logs in Amazon CloudWatch Logs: one stream for each build, named by its id, with events as described in events.ts.
 * Readers in any process see new bytes within about two seconds.
 *
 * Events of two concurrent writers of one log, a worker that lost its lease and the one that took over, interleave, and
 * the log ends when the writer that opened it last ends it. A killed writer loses about the last second.
 *
 * The service makes events visible some time after they are stored, without a guarantee. A reader waits for an event
 * that is missing between others, but without following it may miss the newest ones. To resume at an offset, a reader
 * fetches the log from the start, as streams have no offsets: ten requests of 1 MiB a second.
 *
 * Requests that fail or are throttled are retried with backoff, by the AWS SDK and then for a minute.
 * @throws ConveyorError `not_found` from `open` and `read` if there is no such group, `unauthorized` with the required
 * permissions, `unavailable`
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
    { offset, follow }: ReadRange,
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
          pages.wrote(buildId)
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
    `${JSON.stringify(prefix.slice(0, 80))} is not a valid prefix for log stream names`,
    {
      hint: 'Use at most 400 characters, without : and *',
    },
  )
}

function missing(buildId: string, position: number): ConveyorError {
  return new ConveyorError(
    'unavailable',
    `log of build ${buildId} cannot be read: the data after byte ${position} is missing, or not available yet`,
    { hint: 'Continue from that offset later' },
  )
}
