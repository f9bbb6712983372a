import { createHash } from 'node:crypto'
import { mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { Semaphore } from '../../util/locks/semaphore.ts'
import type { Pace } from '../../util/pace.ts'
import type { TreeFile } from './git-tree.ts'
import { storedObject, storedSize } from './loose-object.ts'

/**
 * Blobs in packs of git, of which a few change with each commit. They are written when they are read, which is never
 * if BuildKit has them already; what is in them is known without: git stores nothing compressed, so only the names of
 * the blobs and their sizes count.
 */
export interface BlobPack {
  /** `pack-ID`; the ID is a hash of the names. */
  name: string
  blobs: TreeFile[]
  packSize: number
  indexSize: number
}

/** Larger ones are files of their own: they would be written again with each change of another one. */
const LARGEST = 256 * 1024
/** Aim for the bytes of a pack. */
const PACK_BYTES = 1 << 20
/** git looks through all packs. */
const MOST_PACKS = 1024
/** Part of each ID; to be changed with the format. */
const FORMAT = 'blobs 1'
const MADE_AT_ONCE = 2
/** What is read ahead. */
const READ_BLOBS = 64
const READ_BYTES = 1 << 20

/**
 * Distributes blobs by their names, so that a commit changes only the packs with the blobs that it adds or removes.
 * @param blobs each of them once
 */
export async function packBlobs(
  blobs: Iterable<TreeFile>,
  pace: Pace,
): Promise<{ packs: BlobPack[]; large: TreeFile[] }> {
  const small: TreeFile[] = []
  const large: TreeFile[] = []
  let bytes = 0
  await pace.forEach(blobs, (blob) => {
    const isSmall = blob.size <= LARGEST
    if (isSmall) bytes += blob.size
    const list = isSmall ? small : large
    list.push(blob)
  })
  let count = 1
  while (count < MOST_PACKS && bytes / count > PACK_BYTES) count *= 2
  const groups = new Map<number, TreeFile[]>()
  await pace.forEach(small, (blob) => {
    const at = Number.parseInt(blob.oid.slice(0, 3), 16) % count
    const group = groups.get(at)
    if (group) group.push(blob)
    else groups.set(at, [blob])
  })
  const packs: BlobPack[] = []
  for (const group of groups.values()) packs.push(await packOf(group, pace))
  return { packs, large }
}

async function packOf(unsorted: readonly TreeFile[], pace: Pace): Promise<BlobPack> {
  const blobs = await pace.sorted(unsorted, (a, b) => (a.oid < b.oid ? -1 : 1))
  const hash = createHash('sha256').update(FORMAT)
  const oidBytes = (blobs[0]?.oid.length ?? 0) / 2
  let packSize = HEADER_BYTES + oidBytes
  await pace.forEach(blobs, ({ oid, size }) => {
    hash.update(oid)
    packSize += entryHead(size).length + storedSize(size)
  })
  const indexSize = INDEX_HEAD_BYTES + blobs.length * (oidBytes + 8) + 2 * oidBytes
  return { name: `pack-${hash.digest('hex').slice(0, oidBytes * 2)}`, blobs, packSize, indexSize }
}

/** Writes packs when they are needed, once each. */
export class PackWriter {
  readonly #folder: string
  readonly #read: (blob: TreeFile) => Promise<Buffer>
  readonly #pace: Pace
  readonly #written = new Map<string, Promise<string>>()
  readonly #limit = new Semaphore(MADE_AT_ONCE)

  /** @param folder created when needed */
  constructor(folder: string, read: (blob: TreeFile) => Promise<Buffer>, pace: Pace) {
    this.#folder = folder
    this.#read = read
    this.#pace = pace
  }

  /** Path of a pack and its index, without `.pack` and `.idx`. @throws what `read` throws */
  async pathOf(pack: BlobPack): Promise<string> {
    const known = this.#written.get(pack.name)
    if (known) return known
    const writing = this.#limit.run(() => this.#write(pack))
    this.#written.set(pack.name, writing)
    // The next one tries again.
    writing.catch(() => this.#written.delete(pack.name))
    return writing
  }

  async #write({ name, blobs }: BlobPack): Promise<string> {
    await mkdir(this.#folder, { recursive: true })
    const path = join(this.#folder, name)
    await using file = await open(`${path}.pack`, 'w')
    const algorithm = blobs[0]?.oid.length === 64 ? 'sha256' : 'sha1'
    const whole = createHash(algorithm)
    const sums = Buffer.alloc(blobs.length * 4)
    const offsets = Buffer.alloc(blobs.length * 4)
    let offset = 0
    const append = async (pieces: Buffer[]) => {
      const bytes = Buffer.concat(pieces)
      whole.update(bytes)
      await file.appendFile(bytes)
    }
    const head = Buffer.from('PACK\0\0\0\x02\0\0\0\0', 'latin1')
    head.writeUInt32BE(blobs.length, 8)
    await append([head])
    offset += head.length
    for (let at = 0; at < blobs.length; ) {
      const some = readAhead(blobs, at)
      const contents = await Promise.all(some.map(this.#read))
      const entries: Buffer[] = []
      for (const [i, content] of contents.entries()) {
        const entry = Buffer.concat([entryHead(content.length), ...storedObject(content)])
        sums.writeUInt32BE(crc32(entry), (at + i) * 4)
        offsets.writeUInt32BE(offset, (at + i) * 4)
        offset += entry.length
        entries.push(entry)
        if (this.#pace.isDue) await this.#pace.rest()
      }
      await append(entries)
      at += some.length
    }
    const checksum = whole.digest()
    await file.appendFile(checksum)
    const index = [
      indexHead(blobs),
      ...blobs.map(({ oid }) => Buffer.from(oid, 'hex')),
      sums,
      offsets,
      checksum,
    ]
    const bytes = Buffer.concat(index)
    await using indexFile = await open(`${path}.idx`, 'w')
    await indexFile.appendFile(Buffer.concat([bytes, createHash(algorithm).update(bytes).digest()]))
    return path
  }
}

function readAhead(blobs: readonly TreeFile[], from: number): TreeFile[] {
  let [to, bytes] = [from, 0]
  while (to < blobs.length && to - from < READ_BLOBS && (to === from || bytes < READ_BYTES)) {
    bytes += blobs[to]?.size ?? 0
    to += 1
  }
  return blobs.slice(from, to)
}

// https://git-scm.com/docs/gitformat-pack
const HEADER_BYTES = 12
const INDEX_HEAD_BYTES = 8 + 256 * 4
const BLOB_TYPE = 3

/** Type and size of an object: four bits of the size, then seven in each byte. */
function entryHead(size: number): Buffer {
  const bytes: number[] = []
  let byte = (BLOB_TYPE << 4) | (size & 15)
  for (let rest = size >>> 4; ; rest >>>= 7) {
    bytes.push(rest > 0 ? byte | 128 : byte)
    if (rest === 0) return Buffer.from(bytes)
    byte = rest & 127
  }
}

/** Magic number, version, and how many names there are up to each first byte. */
function indexHead(blobs: readonly TreeFile[]): Buffer {
  const head = Buffer.alloc(INDEX_HEAD_BYTES)
  head.write('\xfftOc\0\0\0\x02', 'latin1')
  let count = 0
  for (let first = 0; first < 256; first++) {
    while (count < blobs.length && Number.parseInt(blobs[count]?.oid.slice(0, 2) ?? '', 16) <= first) count++
    head.writeUInt32BE(count, 8 + first * 4)
  }
  return head
}
