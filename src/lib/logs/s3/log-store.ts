import { randomUUID } from 'node:crypto'
import type { Agent } from 'node:https'
import type { S3ClientConfig } from '@aws-sdk/client-s3'
import { s3Client } from '../../aws/s3-client.ts'
import { ConveyorError } from '../../core/errors.ts'
import { isStopped, logStore, type ReadRange, unlessStopped } from '../backend.ts'
import type { BufferLimits, OpenLog } from '../buffered-writer.ts'
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
  /** Name of an existing bucket. Its lifecycle determines how long logs are kept. */
  bucket: string
  /** Prefix of `logs/` in the bucket. Default: none. */
  prefix?: string
  /** Settings that the AWS SDK does not find itself: region, endpoint, credentials. */
  clientConfig?: S3ClientConfig
  /** Makes its connections, e.g. through a proxy. */
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

/** How many bytes are fetched at once, for all readers at that position. */
const BLOCK = 256 * 1024
/** The largest piece that a reader gets, in bytes. */
const PIECE = 64 * 1024
/** How often in a row bytes may turn out to have moved. */
const MOVES = 5

/**
 * Logs in a bucket of Amazon S3, or of a compatible store with conditional writes: segments while they are written, and
 * `logs/<id>.txt` once they have ended; see layout.ts. They are private unless the bucket's policy says otherwise. Readers
 * in any process see new bytes within about two seconds.
 *
 * Segments of two concurrent writers of one log, a worker that lost its lease and the one that took over, interleave: each
 * is appended whole. A killed writer loses at most the last 1.5 s.
 *
 * Cost: a minute of a build that writes all the time takes about 43 PUT and as many HEAD, and for each process with
 * readers 40 to 90 LIST and about 43 GET. Ending a log takes a LIST, a PUT and a DELETE, and over 1 MiB also a GET for
 * each segment and a PUT for every 5 MiB. At 0.005 dollars for 1,000 PUT or LIST and a twelfth of that for GET and HEAD,
 * such a minute costs 0.0003 dollars, and 0.0005 for each such process. A silent minute takes 40 LIST for each process
 * with readers, and otherwise nothing.
 * @throws ConveyorError `not_found` from `open` and `read` if there is no such bucket, `unauthorized` with the required
 * permissions, `unavailable`
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

  async function open(buildId: string): Promise<OpenLog> {
    const name = randomUUID()
    const { size, ended } = layoutOf(await writing.list(buildId))
    if (ended) await writing.reopen(buildId, size)
    let position = size
    const kept = new KeptBytes()

    async function append(bytes: Uint8Array): Promise<void> {
      for (;;) {
        if (await writing.create(buildId, position, bytes, name)) {
          // The name may also be free because its segment is in the text now.
          if ((await writing.textSize(buildId)) <= position) break
          await writing.remove(buildId, { segments: [{ offset: position, size: 0 }], openings: [] })
        }
        position = layoutOf(await writing.list(buildId)).size
      }
      followed.get(buildId)?.log.wrote({ offset: position, size: bytes.length })
      kept.add(position, bytes)
      position += bytes.length
    }

    return {
      append,
      async end() {
        await compact(writing, buildId, kept)
        followed.get(buildId)?.log.ended()
      },
    }
  }

  async function* read(
    buildId: string,
    { offset, follow }: ReadRange,
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
            if (++moves > MOVES) throw incomplete(buildId, position)
            layout = await unlessStopped(() => log.reload(), stops)
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

  /** The next block; blocks start at the same offsets for all readers. */
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
    // A worker may have died before it deleted them. Best effort: this process may lack the permission.
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

/** Without slashes at the start, and with one at the end. */
function folder(prefix: string): string {
  const name = prefix.replace(/^\/+|\/+$/g, '')
  return name === '' ? '' : `${name}/`
}

function incomplete(buildId: string, position: number): ConveyorError {
  return new ConveyorError(
    'unavailable',
    `log of build ${buildId} cannot be read: bytes from offset ${position} on are missing`,
    { retryable: false },
  )
}
