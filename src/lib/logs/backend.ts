import { ConveyorError } from '../core/errors.ts'
import { BufferedWriter, type BufferLimits, type OpenLog } from './buffered-writer.ts'
import type { LogStore, LogWriter, ReadLogOptions } from './log-store.ts'

/** Storage for logs, from which `logStore` makes a LogStore. Build ids and offsets are valid here. */
export interface LogBackend {
  /** How writes are buffered. */
  limits: BufferLimits
  /**
   * Opens a log for appending, creating it if need be.
   * @param closing aborted when the store closes: failures are not retried from then on
   */
  open(buildId: string, closing: AbortSignal): Promise<OpenLog>
  /** See LogStore.read. When one of `stops` is aborted, it may end or throw. */
  read(buildId: string, range: ReadRange, stops: AbortSignal[]): AsyncIterable<Uint8Array>
  checkWrites?: NonNullable<LogStore['checkWrites']>
  /** Called once, when every writer is closed. */
  close(): Promise<void>
}

/** Which part of a log to read: from byte `offset` on; with `follow`, until the log is ended. */
export type ReadRange = Required<Pick<ReadLogOptions, 'offset' | 'follow'>>

/** A LogStore on a backend: checks ids and offsets, buffers writes, and closes open writers and readers. */
export function logStore(backend: LogBackend): LogStore {
  const writers = new Set<LogWriter>()
  const closing = new AbortController()
  let closed: Promise<void> | undefined

  async function open(buildId: string): Promise<LogWriter> {
    checkBuildId(buildId)
    const sink = await backend.open(buildId, closing.signal)
    const close = async () => {
      writers.delete(writer)
      await sink.close?.()
    }
    const writer = new BufferedWriter(buildId, { ...sink, close }, backend.limits, closing.signal)
    writers.add(writer)
    return writer
  }

  async function* read(buildId: string, options: ReadLogOptions = {}): AsyncGenerator<Uint8Array> {
    const { offset = 0, follow = true, signal } = options
    checkBuildId(buildId)
    checkOffset(offset)
    const stops = signal ? [signal, closing.signal] : [closing.signal]
    if (isStopped(stops)) return
    try {
      yield* backend.read(buildId, { offset, follow }, stops)
    } catch (error) {
      if (!isStopped(stops)) throw error
    }
  }

  async function close(): Promise<void> {
    closing.abort()
    const results = await Promise.allSettled([...writers].map((writer) => writer.close()))
    await backend.close()
    const failed = results.find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  }

  const { checkWrites } = backend
  return { open, read, ...(checkWrites && { checkWrites }), close: () => (closed ??= close()) }
}

export function isStopped(stops: AbortSignal[]): boolean {
  return stops.some((signal) => signal.aborted)
}

/** Does the work; rejects as soon as one of the signals is aborted, whatever becomes of the work. */
export async function unlessStopped<T>(work: () => Promise<T>, stops: AbortSignal[]): Promise<T> {
  const stopped = Promise.withResolvers<never>()
  const stop = () => stopped.reject(new ConveyorError('cancelled', 'the reader stopped'))
  if (isStopped(stops)) stop()
  for (const signal of stops) signal.addEventListener('abort', stop)
  try {
    return await Promise.race(isStopped(stops) ? [stopped.promise] : [stopped.promise, work()])
  } finally {
    for (const signal of stops) signal.removeEventListener('abort', stop)
  }
}

/** A build id becomes part of paths and names. */
function checkBuildId(buildId: string): void {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(buildId)) return
  throw new ConveyorError('invalid', `${JSON.stringify(buildId.slice(0, 80))} is not a build id`, {
    hint: 'Build ids are lowercase UUIDs',
  })
}

function checkOffset(offset: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0) return
  throw new ConveyorError('invalid', `log offset ${offset} is not a whole number of bytes`)
}
