import { hash, randomInt } from 'node:crypto'
import type { Context, ContextEntry } from '../../source/source.ts'
import { Pace } from '../../util/pace.ts'

/** Bytes of an entry's id: a hash of its state and path. */
const ID_BYTES = 8
const INDEX_BYTES = 4
const VERSION = 1
/** Version, basis (SHA-256), time of BuildKit's clock, number of distinct times. */
const HEADER_BYTES = 1 + 32 + 8 + 4
/** Later times are invalid: the year 2200, plus some for clocks that are ahead. */
const LATEST = BigInt(Date.UTC(2201)) * 1_000_000n

/** What is known of an entry. */
interface Known {
  id: string
  /** Its time, unless it is new. */
  kept: bigint | null
}

/** The record of the last sync. */
interface LastSync {
  basis: Buffer
  seen: bigint
  times: bigint[]
  indexes: Map<string, number>
}

/**
 * The modification times of a context's files, in nanoseconds since 1970, as sent to BuildKit.
 *
 * A checkout gives every file a new time, and tools that compare times (make, cargo, `[ a -nt b ]`) rely on that: the
 * sources of a build are newer than the results of earlier builds. But a file with a new time is sent again. So files
 * that have not changed since this BuildKit's last sync keep their time, and all others get the time of this sync.
 */
export class FileTimes {
  /** The time of new files: before the build starts, and later than any known result of earlier builds. */
  readonly now: bigint
  readonly #entries: ReadonlyMap<ContextEntry, Known>
  readonly #basis: Buffer
  readonly #isAllNew: boolean

  private constructor(
    now: bigint,
    entries: ReadonlyMap<ContextEntry, Known>,
    basis: Buffer,
    isAllNew = false,
  ) {
    this.now = now
    this.#entries = entries
    this.#basis = basis
    this.#isAllNew = isAllNew
  }

  /**
   * @param record from SyncRecords; null: everything is new
   * @param basis identifies what the files are built with (Dockerfile, arguments, base images); if it differs from the
   * record's, everything is new; null if unknown, which counts as different
   */
  static async of(
    context: Pick<Context, 'entries' | 'dockerfileEntries'>,
    record: Uint8Array | null,
    basis: string | null,
  ): Promise<FileTimes> {
    const key = basis === null ? null : hash('sha256', basis, 'buffer')
    const last = record === null ? null : await decode(record)
    const now = timeAfter(last)
    const same = last && key?.equals(last.basis) ? last : null
    const entries = new Map<ContextEntry, Known>()
    const pace = new Pace()
    for (const some of [context.dockerfileEntries, context.entries]) {
      await pace.forEach(some, (entry) => {
        const id = idOf(entry)
        entries.set(entry, { id, kept: same?.times[same.indexes.get(id) ?? -1] ?? null })
      })
    }
    // An unknown basis differs from every other.
    return new FileTimes(now, entries, key ?? hash('sha256', `unknown at ${now}`, 'buffer'))
  }

  /** The same time, with everything new. */
  allNew(): FileTimes {
    return new FileTimes(this.now, this.#entries, this.#basis, true)
  }

  /** The time of an entry of this context. */
  of(entry: ContextEntry): bigint {
    return this.#keptTime(entry) ?? this.now
  }

  /** Whether BuildKit is assumed to have the entry already. */
  isKept(entry: ContextEntry): boolean {
    return this.#keptTime(entry) !== null
  }

  #keptTime(entry: ContextEntry): bigint | null {
    return this.#isAllNew ? null : (this.#entries.get(entry)?.kept ?? null)
  }

  /**
   * The record for SyncRecords.
   * @param seen the latest time reported by BuildKit's clock, in milliseconds since 1970; 0 for none
   */
  async encode(seen: number): Promise<Uint8Array> {
    const pace = new Pace()
    const indexes = new Map<bigint, number>()
    await pace.forEach(this.#entries.keys(), (entry) => {
      const time = this.of(entry)
      if (!indexes.has(time)) indexes.set(time, indexes.size)
    })
    const start = HEADER_BYTES + 8 * indexes.size
    const bytes = Buffer.alloc(start + this.#entries.size * (ID_BYTES + INDEX_BYTES))
    bytes.writeUInt8(VERSION)
    bytes.set(this.#basis, 1)
    bytes.writeBigInt64BE(BigInt(Math.ceil(seen)) * 1_000_000n, 33)
    bytes.writeUInt32BE(indexes.size, 41)
    for (const [time, index] of indexes) bytes.writeBigInt64BE(time, HEADER_BYTES + 8 * index)
    let at = start
    await pace.forEach(this.#entries, ([entry, { id }]) => {
      bytes.write(id, at, 'hex')
      bytes.writeUInt32BE(indexes.get(this.of(entry)) ?? 0, at + ID_BYTES)
      at += ID_BYTES + INDEX_BYTES
    })
    return bytes
  }
}

/**
 * The wall clock's time, with random nanoseconds, and not in the future, so that the results of this build are newer; but
 * later than BuildKit's last known time, should its clock be ahead. Never the same twice, even for two workers at once.
 */
function timeAfter(last: LastSync | null): bigint {
  const clock = BigInt(Date.now() - 1) * 1_000_000n + BigInt(randomInt(1_000_000))
  if (!last) return clock
  let past = last.seen
  for (const time of last.times) if (time > past) past = time
  return clock > past ? clock : past + 1n + BigInt(randomInt(1_000_000))
}

/** Identifies an entry in its current state: 8 bytes in hex. */
function idOf({ rawPath, kind, mode, contentId, linkTarget }: ContextEntry): string {
  const text = `${kind} ${mode} ${contentId} ${linkTarget.length} ${latin1(linkTarget)}${latin1(rawPath)}`
  return hash('sha256', text).slice(0, 2 * ID_BYTES)
}

/** Identifies a list of entries in their current state. */
export async function entriesKey(entries: readonly ContextEntry[]): Promise<string> {
  const ids: string[] = []
  await new Pace().forEach(entries, (entry) => ids.push(idOf(entry)))
  return hash('sha256', ids.join(' '))
}

/** One character per byte. */
function latin1(bytes: Uint8Array): string {
  if (bytes.length === 0) return ''
  const buffer = Buffer.isBuffer(bytes)
    ? bytes
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return buffer.toString('latin1')
}

/** Null if the record is of another version, or corrupt. */
async function decode(record: Uint8Array): Promise<LastSync | null> {
  const bytes = Buffer.from(record.buffer, record.byteOffset, record.byteLength)
  if (bytes.length < HEADER_BYTES || bytes[0] !== VERSION) return null
  const count = bytes.readUInt32BE(41)
  const start = HEADER_BYTES + 8 * count
  if (start > bytes.length || (bytes.length - start) % (ID_BYTES + INDEX_BYTES) !== 0) return null
  const times = Array.from({ length: count }, (_, index) => bytes.readBigInt64BE(HEADER_BYTES + 8 * index))
  const seen = bytes.readBigInt64BE(33)
  if ([...times, seen].some((time) => time > LATEST)) return null
  const indexes = new Map<string, number>()
  const pace = new Pace()
  for (let at = start; at < bytes.length; at += ID_BYTES + INDEX_BYTES) {
    indexes.set(bytes.toString('hex', at, at + ID_BYTES), bytes.readUInt32BE(at + ID_BYTES))
    if (pace.isDue) await pace.rest()
  }
  return { basis: bytes.subarray(1, 33), seen, times, indexes }
}
