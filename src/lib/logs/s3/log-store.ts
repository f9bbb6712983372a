import { randomUUID } from 'node:crypto'
import type { Agent } from 'node:https'
import type { S3ClientConfig } from '@aws-sdk/client-s3'
import { s3Client } from '../../aws/s3-client.ts'
import { ConveyorError } from '../../core/errors.ts'
import { isStopped, logStore, type Range, unlessStopped } from '../backend.ts'
import type { BufferLimits, LogSink } from '../buffered-writer.ts'
import type { LogStore } from '../log-store.ts'
import { SharedPieces } from '../shared-pieces.ts'
import { readBytes } from './bytes.ts'
import { compact } from './compaction.ts'
import { checkConditions } from './conditional-writes.ts'
import { MovedError } from './conditions.ts'
import { FollowedLog } from './followed-log.ts'
import { KeptBytes } from './kept-bytes.ts'
import { type Layout, layoutOf, leftovers } from './layout.ts'
import { LogObjects } from './objects.ts'

export interface S3LogStoreOptions {
  /** Name of the bucket, which has to exist. Its lifecycle says how long logs are kept. */
  bucket: string
  /** Folder of `logs/` in the bucket. Default: none. */
  prefix?: string
  /** What the AWS SDK does not find by itself: region, endpoint, credentials. */
  clientConfig?: S3ClientConfig
  /** Connections for it, e.g. through a proxy. */
  httpsAgent?: Agent
}

/** Segments: after the first, small ones after 250 ms, 500 ms, 1 s, and every 1.5 s while the build writes. */
const LIMITS: BufferLimits = {
  batchBytes: 1024 * 1024,
  bufferBytes: 4 * 1024 * 1024,
  lingerMs: { first: 250, longest: 1_500 },
  wholeLines: true,
  retryMs: 60_000,
}

/** What is fetched at once, for all readers that are there. */
const BLOCK = 256 * 1024
/** The largest piece that a reader gets. */
const PIECE = 64 * 1024
/** How often bytes may turn out to be elsewhere, without anything read between. */
const MOVES = 5

/**
 * Logs in a bucket of Amazon S3, or of what speaks its API with conditional writes: `logs/<id>.txt`, private unless the
 * bucket says otherwise, once they have ended, and segments until then; s3-log-layout.ts says which. Readers, here or on
 * another machine, see what is written within about two seconds.
 *
 * Two writers of one log at once, a worker that lost its lease and the one that took over, mix by segments: each
 * is appended whole, after whatever is there. What a killed writer had not stored is lost, 1.5 s at most.
 *
 * What it costs: a minute of a build that writes all the time is about 43 PUT and as many HEAD, and for each process
 * with readers of it 40 to 90 LIST and about 43 GET; its end is a LIST, a PUT and a DELETE, and for a log over 1 MiB also
 * a GET for each segment and a PUT for every 5 MiB. At 0.005 dollars for 1,000 PUT or LIST and a twelfth of that for
 * GET and HEAD, such a minute is 0.0003 dollars, and 0.0005 for each such process. A silent minute is 40 LIST if
 * somebody waits for it to end, and else free.
 * @throws ConveyorError `not_found` from `open` and `read` when there is no such bucket, `unauthorized` with the
 * permissions that are needed, `unavailable`
 */
export function s3LogStore({ bucket, prefix = '', clientConfig, httpsAgent }: S3LogStoreOptions): LogStore {
  const agent = { keepAlive: true, maxSockets: 200 }
  const client = s3Client({
    requestHandler: {
      connectionTimeout: 5_000,
      requestTimeout: 30_000,
      throwOnRequestTimeout: true,
      socketTimeout: 30_000,
      httpAgent: agent,
      httpsAgent: httpsAgent ?? agent,
    },
    ...clientConfig,
  })
  const place = { client, bucket, prefix: folder(prefix) }
  const reading = new LogObjects({ ...place, what: 'read' })
  const writing = new LogObjects({ ...place, what: 'written' })
  const followed = new Map<string, { log: FollowedLog; readers: number }>()
  const pieces = new SharedPieces()

  async function open(buildId: string): Promise<LogSink> {
    const name = randomUUID()
    const { size, ended } = layoutOf(await writing.list(buildId))
    if (ended) await writing.reopen(buildId, size)
    let position = size
    const kept = new KeptBytes()

    async function append(bytes: Uint8Array): Promise<void> {
      for (;;) {
        if (await writing.create(buildId, position, bytes, name)) {
          // A place may also be free because the segment that was there is in the text by now.
          if ((await writing.textSize(buildId)) <= position) break
          await writing.remove(buildId, { segments: [{ offset: position, size: 0 }], openings: [] })
        }
        position = layoutOf(await writing.list(buildId)).size
      }
      followed.get(buildId)?.log.tell({ offset: position, size: bytes.length })
      kept.add(position, bytes)
      position += bytes.length
    }

    return {
      append,
      async end() {
        await compact(writing, buildId, kept)
        followed.get(buildId)?.log.tellEnd()
      },
    }
  }

  async function* read(
    buildId: string,
    { offset, follow }: Range,
    stops: AbortSignal[],
  ): AsyncGenerator<Uint8Array> {
    const log = join(buildId)
    try {
      let position = offset
      let moves = 0
      for (let layout = await unlessStopped(() => log.look(), stops); ; ) {
        while (position < layout.size && !isStopped(stops)) {
          const block = await unlessStopped(() => unlessMoved(readBlock(buildId, layout, position)), stops)
          if (!block) {
            if (++moves > MOVES) throw damaged(buildId, position)
            layout = await unlessStopped(() => log.lookAnew(), stops)
            continue
          }
          moves = 0
          for (let start = 0; start < block.length && !isStopped(stops); start += PIECE) {
            const piece = block.subarray(start, start + PIECE)
            position += piece.length
            yield piece
          }
        }
        if (layout.ended || !follow || isStopped(stops)) return
        layout = await log.change(layout, stops)
      }
    } finally {
      leave(buildId)
    }
  }

  /** What follows; blocks begin at the same places for all readers. */
  function readBlock(buildId: string, layout: Layout, position: number): Promise<Uint8Array> {
    const length = Math.min(BLOCK - (position % BLOCK), layout.size - position)
    return pieces.read(buildId, position, length, () => readBytes(reading, buildId, layout, position, length))
  }

  function join(buildId: string): FollowedLog {
    const known = followed.get(buildId) ?? { log: new FollowedLog((from) => list(buildId, from)), readers: 0 }
    known.readers += 1
    followed.set(buildId, known)
    return known.log
  }

  function leave(buildId: string): void {
    const known = followed.get(buildId)
    if (known && --known.readers === 0) followed.delete(buildId)
  }

  async function list(buildId: string, from: number) {
    const listing = await reading.list(buildId, from)
    const { size, ended } = layoutOf(listing)
    // A worker may have died before it removed them. Whoever may only read, or cannot just now, leaves it to others.
    if (ended) writing.remove(buildId, leftovers(listing, size)).catch(() => {})
    return listing
  }

  return logStore({
    limits: LIMITS,
    open,
    read,
    checkWrites: (options) => checkConditions(place, options),
    close: async () => client.destroy(),
  })
}

async function unlessMoved<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (error instanceof MovedError) return undefined
    throw error
  }
}

/** Slashes at its ends are nobody's intention. */
function folder(prefix: string): string {
  const name = prefix.replace(/^\/+|\/+$/g, '')
  return name === '' ? '' : `${name}/`
}

function damaged(buildId: string, position: number): ConveyorError {
  return new ConveyorError(
    'unavailable',
    `log of build ${buildId} cannot be read: its bytes from ${position} on are missing`,
    { retryable: false },
  )
}
